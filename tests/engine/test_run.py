"""A run survives what can happen to it: a loss that runs away, a stop, a resume, any clock."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import stylizer as stylizer_module
from nstd.engine.objective import Objective, Targets, Terms
from nstd.engine.params import StyleParams, preset
from nstd.engine.progress import Checkpoint, Listener, Result, StepReport, StyleImage
from nstd.engine.stylizer import Stylizer
from nstd.engine.weights import Weights
from nstd.errors import CancelledError, DivergedError
from tests.checkpoints import packed, unpacked
from tests.engine.conftest import Pixels

pytestmark = pytest.mark.usefixtures("_cpu")

NAN = float("nan")
TWO_LEVELS = dataclasses.replace(
    preset("tiny"),
    iterations=9,
    history=3,
    # a shallow network is traced in a quarter of the time
    content_layers=(("block2_conv1", 1.0),),
    style_layers=(("block1_conv1", 1.0), ("block2_conv1", 1.0)),
)
ONE_LEVEL = dataclasses.replace(TWO_LEVELS, iterations=6, pyramid_min=48)
AVERAGED = dataclasses.replace(ONE_LEVEL, average=0.9)
ADAM = dataclasses.replace(
    TWO_LEVELS, optimizer="adam", beta1=0.9, average=0.9, keep="average", init="noise"
)


class Clock:
    """A clock that advances by ``tick`` each time somebody looks at it."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def timed(builtin: Weights, clock: Clock, _cpu: None) -> Stylizer:
    """Return a stylizer whose time is ours."""
    return Stylizer(builtin, clock=clock)


@pytest.fixture(autouse=True)
def _stopped(clock: Clock) -> None:
    clock.tick = 0.0  # every chunk is one step


@pytest.fixture
def paint(timed: Stylizer, content: Pixels, style: Pixels) -> Callable[..., Result]:
    def run(params: StyleParams, stylizer: Stylizer = timed, **more: Any) -> Result:
        resume = more.pop("resume", None)
        return stylizer.stylize(
            content,
            [StyleImage(style, sha256="style")],
            params,
            listener=Listener(**more),
            resume=resume,
        )

    return run


def same(one: Result, other: Result) -> None:
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert list(one.history) == list(other.history)
    assert (one.losses, one.steps, one.notes) == (other.losses, other.steps, other.notes)


# --- the guard -----------------------------------------------------------------------------------


class Faults:
    """Factors that losses and gradients are multiplied by, one an evaluation; then 1."""

    def __init__(self) -> None:
        self.script: Iterator[float] = iter(())

    def __call__(self) -> float:
        return next(self.script, 1.0)


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults()


@pytest.fixture(scope="module")
def faulty(
    faults: Faults, lively_weights: Weights, content: Pixels, style: Pixels, _cpu: None
) -> Stylizer:
    """Return a stylizer whose losses suffer from ``faults``."""

    class Faulty(Objective):
        def __call__(self, images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
            terms, gradient = super().__call__(images, targets)
            factor = tf.py_function(faults, [], tf.float32)
            factor.set_shape(())
            return terms._replace(total=terms.total * factor), gradient * factor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stylizer_module, "Objective", Faulty)
        made = Stylizer(lively_weights, clock=Clock())
        # the graph is traced here, and kept
        made.stylize(content, [StyleImage(style)], AVERAGED, listener=Listener())
    return made


@pytest.mark.parametrize("fault", [NAN, 1e4])
def test_a_loss_that_runs_away_rolls_back_halves_the_step_and_says_so(
    faulty: Stylizer, faults: Faults, paint: Callable[..., Result], fault: float
) -> None:
    faults.script = iter([1.0, 1.0, 1.0, fault])
    seen: list[Checkpoint] = []
    result = paint(AVERAGED, faulty, checkpoint=seen.append, checkpoint_s=0.0)
    assert list(result.notes) == ["Step 3: the loss ran away; rolled back and halved the step."]
    assert result.steps == AVERAGED.iterations
    assert [step for step, _ in result.history] == list(range(6))
    assert all(np.isfinite(each.total) for _, each in result.history)
    before, after = seen[2], seen[3]
    best = before.arrays["common.best"]
    np.testing.assert_array_equal(after.arrays["common.image"], best)
    assert after.arrays["common.scale"].item() == 0.5
    assert not any(after.arrays[name].any() for name in after.arrays if name.startswith("memory."))
    # the average goes on as if the best image had been there all along
    corrected = after.arrays["common.average"] / (1.0 - 0.9**3)
    np.testing.assert_allclose(corrected, best, atol=1e-5)


def test_the_halved_step_stays_halved_at_the_next_level(
    faulty: Stylizer, faults: Faults, paint: Callable[..., Result]
) -> None:
    faults.script = iter([1.0, NAN])
    seen: list[Checkpoint] = []
    params = dataclasses.replace(TWO_LEVELS, average=0.9)
    paint(params, faulty, checkpoint=seen.append, checkpoint_s=0.0)
    assert seen[-1].facts["level"] == 1
    assert seen[-1].arrays["common.scale"].item() == 0.5


@pytest.mark.parametrize("good", [0, 2])
def test_a_loss_that_stays_without_bounds_ends_the_job(
    faulty: Stylizer, faults: Faults, paint: Callable[..., Result], good: int
) -> None:
    faults.script = itertools.chain([1.0] * good, itertools.repeat(NAN))
    with pytest.raises(DivergedError, match=r"stayed without bounds after 6 roll backs") as caught:
        paint(AVERAGED, faulty)
    assert "Lower style_weight or learning_rate" in caught.value.remedy
    assert not caught.value.retry


# --- stopping and going on -----------------------------------------------------------------------


def test_a_run_stops_between_two_steps_and_leaves_a_checkpoint(
    paint: Callable[..., Result],
) -> None:
    seen: list[Checkpoint] = []
    looks = itertools.count(1)
    with pytest.raises(CancelledError):
        paint(TWO_LEVELS, checkpoint=seen.append, cancelled=lambda: next(looks) == 3)
    (last,) = seen
    assert sum(last.facts["steps_run"]) == 3
    same(paint(TWO_LEVELS, resume=last), paint(TWO_LEVELS))


@pytest.mark.parametrize("params", [TWO_LEVELS, ADAM], ids=["lbfgs", "adam"])
def test_a_run_resumed_at_any_checkpoint_ends_with_the_same_bytes(
    paint: Callable[..., Result], builtin: Weights, params: StyleParams
) -> None:
    seen: list[bytes] = []
    whole = paint(
        params, checkpoint=lambda checkpoint: seen.append(packed(checkpoint)), checkpoint_s=0.0
    )
    assert len(seen) == params.iterations
    fresh = Stylizer(builtin, clock=Clock())
    last_of_first = whole.plan["levels"][0]["steps"] - 1
    for data in (*seen[1::3], seen[last_of_first], seen[-1]):
        same(paint(params, fresh, resume=unpacked(data)), whole)


def test_a_checkpoint_with_one_value_for_all_images_goes_on(paint: Callable[..., Result]) -> None:
    seen: list[Checkpoint] = []
    whole = paint(ADAM, checkpoint=seen.append, checkpoint_s=0.0)
    scalars = ("common.step", "common.scale", "common.healthy", "memory.t")
    arrays = {
        name: value[0] if name in scalars else value for name, value in seen[2].arrays.items()
    }
    earlier = dataclasses.replace(seen[2], arrays=arrays)
    same(paint(ADAM, resume=unpacked(packed(earlier))), whole)


def test_a_checkpoint_stays_as_it_is_while_the_run_goes_on(paint: Callable[..., Result]) -> None:
    seen: list[tuple[Checkpoint, bytes]] = []
    paint(TWO_LEVELS, checkpoint=lambda checkpoint: seen.append((checkpoint, packed(checkpoint))))
    for checkpoint, data in seen:
        assert checkpoint.facts == {
            **unpacked(data).facts,
            "history": checkpoint.facts["history"],  # tuples, which JSON turns into lists
        }


def test_checkpoints_come_at_level_ends_and_by_the_clock(
    paint: Callable[..., Result], clock: Clock
) -> None:
    seen: list[Checkpoint] = []
    paint(TWO_LEVELS, checkpoint=seen.append, checkpoint_s=1e9)
    assert [each.facts["level"] for each in seen] == [0, 1]
    seen.clear()
    clock.tick = 1.0
    paint(TWO_LEVELS, checkpoint=seen.append, checkpoint_s=5.0)
    assert 2 < len(seen) <= TWO_LEVELS.iterations


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [TWO_LEVELS, ADAM], ids=["lbfgs", "adam"])
def test_no_clock_changes_the_picture(
    paint: Callable[..., Result], clock: Clock, params: StyleParams
) -> None:
    single = paint(params)
    for tick in (1e-6, 0.02, 100.0):
        clock.tick = tick
        same(paint(params), single)


def test_many_steps_run_at_once_where_they_are_fast(
    paint: Callable[..., Result], clock: Clock
) -> None:
    def chunks(tick: float) -> int:
        clock.tick = tick
        looks = itertools.count()
        paint(TWO_LEVELS, cancelled=lambda: next(looks) < 0)
        return next(looks)

    assert chunks(100.0) == TWO_LEVELS.iterations
    assert chunks(1e-6) <= 4


def test_two_runs_give_the_same_bytes(paint: Callable[..., Result]) -> None:
    same(paint(TWO_LEVELS), paint(TWO_LEVELS))


def test_noise_comes_from_the_seed(paint: Callable[..., Result]) -> None:
    one, two, three = (paint(dataclasses.replace(ADAM, seed=seed)) for seed in (1, 1, 2))
    same(one, two)
    assert not np.array_equal(one.pixels, three.pixels)


# --- what it tells -------------------------------------------------------------------------------


def test_reports_tell_how_far_it_is(paint: Callable[..., Result], clock: Clock) -> None:
    clock.tick = 1.0
    seen: list[StepReport] = []
    result = paint(TWO_LEVELS, report=seen.append)
    assert [each.step for each in seen] == sorted(each.step for each in seen)
    last = seen[-1]
    assert last.step == last.steps == result.steps == TWO_LEVELS.iterations
    assert (last.level, last.levels, last.height, last.width) == (1, 2, 40, 48)
    assert last.losses == result.losses
    assert last.eta_s == 0.0
    assert last.pixel_steps == sum(
        each["steps"] * each["height"] * each["width"] for each in result.plan["levels"]
    )
    later = [each.eta_s for each in seen if each.eta_s is not None and each.level == 1]
    assert later == sorted(later, reverse=True)


def test_the_first_steps_are_told_at_once(paint: Callable[..., Result]) -> None:
    seen: list[StepReport] = []
    paint(TWO_LEVELS, report=seen.append, report_s=1e9)
    assert seen[0].step == 1
    assert seen[0].losses is not None


def test_previews_are_the_picture_as_it_stands(paint: Callable[..., Result]) -> None:
    seen: list[Pixels] = []
    paint(TWO_LEVELS, preview=seen.append, preview_s=0.0)
    assert {pixels.shape for pixels in seen} == {(28, 34, 3), (40, 48, 3)}
    assert {pixels.dtype for pixels in seen} == {np.dtype(np.uint8)}


def test_the_history_has_every_step_and_ends_with_the_losses(paint: Callable[..., Result]) -> None:
    result = paint(TWO_LEVELS)
    assert [step for step, _ in result.history] == list(range(TWO_LEVELS.iterations))
    assert result.history[-1][1] == result.losses
    for _, each in result.history:
        parts = each.content + each.style + each.tv
        assert each.total >= parts * (1 - 1e-5)  # the rest is what lies out of range


def test_a_long_history_is_thinned(
    paint: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nstd.engine.run._HISTORY", 4)
    assert len(paint(TWO_LEVELS).history) <= 4


# --- choices -------------------------------------------------------------------------------------


def test_a_level_ends_on_its_plateau(paint: Callable[..., Result], clock: Clock) -> None:
    params = dataclasses.replace(ONE_LEVEL, iterations=60, plateau=0.9)
    single = paint(params)
    assert single.steps < 60
    assert single.steps % 10 == 0
    clock.tick = 1e-6
    same(paint(params), single)


def test_fewer_steps_than_levels_paint_the_finest(paint: Callable[..., Result]) -> None:
    result = paint(dataclasses.replace(TWO_LEVELS, iterations=1))
    assert result.plan["levels"] == [{"height": 40, "width": 48, "steps": 1, "tile": 0}]


def test_the_best_image_is_kept_where_asked_for(paint: Callable[..., Result]) -> None:
    seen: list[Checkpoint] = []
    best = dataclasses.replace(TWO_LEVELS, keep="best")
    result = paint(best, checkpoint=seen.append)
    wanted = np.round(np.clip(seen[-1].arrays["common.best"][0], 0.0, 1.0) * 255.0)
    np.testing.assert_array_equal(result.pixels, wanted.astype(np.uint8))
    finest = seen[-1].facts["level_losses"]
    assert result.losses.total == min(finest) == float(seen[-1].arrays["common.best_loss"][0])


def test_the_average_is_kept_where_asked_for(paint: Callable[..., Result]) -> None:
    seen: list[Checkpoint] = []
    result = paint(ADAM, checkpoint=seen.append)
    arrays = seen[-1].arrays
    average = arrays["common.average"][0] / (1.0 - 0.9 ** arrays["common.step"].item())
    difference = np.abs(result.pixels - np.clip(average, 0.0, 1.0) * 255.0)
    assert difference.max() <= 0.51


@pytest.mark.parametrize(
    ("init", "recolour"), [("content", False), ("content", True), ("style", False)]
)
def test_a_run_starts_from_what_is_asked_for(
    paint: Callable[..., Result], content: Pixels, style: Pixels, init: str, *, recolour: bool
) -> None:
    seen: list[Checkpoint] = []
    params = StyleParams(
        **{**ONE_LEVEL.to_dict(), "init": init, "recolour": recolour, "iterations": 1}
    )
    paint(params, checkpoint=seen.append)
    begin = seen[0].arrays["common.best"][0] * 255.0
    if init == "content" and not recolour:
        np.testing.assert_allclose(begin, content, atol=1e-3)
    else:
        np.testing.assert_allclose(begin.mean((0, 1)), style.mean((0, 1)), atol=4.0)
