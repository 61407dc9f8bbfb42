"""Pictures painted side by side are those painted alone, whatever befalls their neighbours."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine import stylizer as stylizer_module
from nstd.engine import turns as turns_module
from nstd.engine.objective import Objective, Targets, Terms
from nstd.engine.params import StyleParams, preset
from nstd.engine.progress import Checkpoint, Listener, Result, StepReport, StyleImage
from nstd.engine.stylizer import Stylizer
from nstd.engine.weights import Weights
from nstd.errors import CancelledError, DivergedError
from tests.engine.conftest import picture, wait_until

pytestmark = pytest.mark.usefixtures("_cpu")

PARAMS = dataclasses.replace(
    preset("tiny"),
    iterations=12,
    history=3,
    content_layers=(("block2_conv1", 1.0),),
    style_layers=(("block1_conv1", 1.0), ("block2_conv1", 1.0)),
)
ADAM = dataclasses.replace(PARAMS, optimizer="adam", beta1=0.9, average=0.9, keep="average")
WILD = dataclasses.replace(PARAMS, tv_weight=12345.0)
"""What the fixture's objective cannot stand."""


@pytest.fixture(scope="module")
def shared(builtin: Weights, _cpu: None) -> Stylizer:
    """Return a stylizer whose losses are no numbers for pictures of ``WILD``."""

    class Faulty(Objective):
        def __call__(self, images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
            terms, gradient = super().__call__(images, targets)
            wild = tf.where(targets.weights["tv"] == WILD.tv_weight, float("nan"), 1.0)
            return terms._replace(total=terms.total * wild), gradient * wild[:, None, None, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stylizer_module, "Objective", Faulty)
        made = Stylizer(builtin, clock=lambda: 0.0)  # every call is one step
        for params in (PARAMS, ADAM):  # graphs are traced here
            made.stylize(picture(40, 48, 0), [STYLE], params, listener=Listener())
    return made


STYLE = StyleImage(picture(44, 40, 2), sha256="style")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for company for as long as a busy machine may need."""
    monkeypatch.setattr(turns_module, "_SHORTEST_PATIENCE_S", 10.0)
    monkeypatch.setattr(turns_module, "_LONGEST_PATIENCE_S", 10.0)


Job = tuple[StyleParams, Listener]


def side_by_side(stylizer: Stylizer, jobs: Sequence[Job]) -> list[Future[Result]]:
    """Paint photographs 1, 2, ... at the same time; return how each ended."""
    turns = stylizer._turns
    pool = ThreadPoolExecutor(len(jobs))
    with turns.seat() as seat, seat.alone():  # nobody begins before all are here
        ends = [
            pool.submit(alone, stylizer, i, params, listener)
            for i, (params, listener) in enumerate(jobs)
        ]
        wait_until(lambda: turns._to_prepare == len(jobs), "all jobs")
    pool.shutdown()
    return ends


def alone(
    stylizer: Stylizer, number: int, params: StyleParams, listener: Listener | None = None
) -> Result:
    return stylizer.stylize(
        picture(40, 48, number + 1), [STYLE], params, listener=listener or Listener()
    )


def close(one: Result, other: Result) -> None:
    """Hold two pictures to being the same but for rounding."""
    difference = np.abs(one.pixels.astype(float) - other.pixels)
    assert difference.max() <= 1.0
    assert difference.mean() < 0.02
    assert one.steps == other.steps
    for name, value in one.losses.to_dict().items():
        assert value == pytest.approx(other.losses.to_dict()[name], rel=1e-3)


@pytest.mark.parametrize("params", [PARAMS, ADAM], ids=["lbfgs", "adam"])
def test_pictures_of_a_batch_are_those_of_single_runs(
    shared: Stylizer, params: StyleParams
) -> None:
    other = dataclasses.replace(params, style_weight=5.0, seed=3)
    jobs = [(params, Listener()), (other, Listener()), (params, Listener())]
    results = [end.result() for end in side_by_side(shared, jobs)]
    assert [result.plan["batch"] for result in results] == [3, 3, 3]
    for i, (asked, _) in enumerate(jobs):
        single = alone(shared, i, asked)
        assert single.plan["batch"] == 1
        close(results[i], single)
    assert np.abs(results[0].pixels.astype(float) - results[2].pixels).mean() > 10.0


def test_a_picture_that_diverges_spoils_no_other(shared: Stylizer) -> None:
    ends = side_by_side(shared, [(PARAMS, Listener()), (WILD, Listener()), (PARAMS, Listener())])
    with pytest.raises(DivergedError):
        ends[1].result()
    for i in (0, 2):
        close(ends[i].result(), alone(shared, i, PARAMS))
        assert list(ends[i].result().notes) == []


def test_a_picture_that_is_cancelled_leaves_the_others_alone(shared: Stylizer) -> None:
    reports: list[StepReport] = []
    saved: list[Checkpoint] = []
    stopped = Listener(
        report=reports.append, checkpoint=saved.append, report_s=0.0,
        cancelled=lambda: bool(reports) and reports[-1].step >= 3,
    )  # fmt: skip
    ends = side_by_side(shared, [(PARAMS, Listener()), (PARAMS, stopped), (PARAMS, Listener())])
    with pytest.raises(CancelledError):
        ends[1].result()
    for i in (0, 2):
        close(ends[i].result(), alone(shared, i, PARAMS))
    # and goes on from where it was, as if nothing had been
    resumed = shared.stylize(
        picture(40, 48, 2), [STYLE], PARAMS, listener=Listener(), resume=saved[-1]
    )
    close(resumed, alone(shared, 1, PARAMS))
    assert resumed.plan["batch"] == 3


def test_a_picture_that_fails_on_the_host_leaves_the_others_alone(shared: Stylizer) -> None:
    def fail(report: StepReport) -> None:
        if report.step >= 2:
            raise ZeroDivisionError

    ends = side_by_side(
        shared, [(PARAMS, Listener(report=fail, report_s=0.0)), (PARAMS, Listener())]
    )
    with pytest.raises(ZeroDivisionError):
        ends[0].result()
    close(ends[1].result(), alone(shared, 1, PARAMS))


def test_a_picture_that_comes_later_catches_up(shared: Stylizer) -> None:
    """The first is at its last level when the second begins; they end it together."""
    late, begin = threading.Event(), threading.Event()

    def report(told: StepReport) -> None:
        if told.level == 1 and not late.is_set():
            late.set()
            begin.wait(60)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(alone, shared, 0, PARAMS, Listener(report=report, report_s=0.0))
        late.wait(60)
        second = pool.submit(alone, shared, 1, PARAMS)
        wait_until(lambda: len(shared._turns._seats) == 2, "a second seat")
        wait_until(lambda: any(seat.waiting for seat in shared._turns._seats), "its call")
        begin.set()
        results = [first.result(), second.result()]
    assert [result.plan["batch"] for result in results] == [2, 2]
    for i, result in enumerate(results):
        close(result, alone(shared, i, PARAMS))


def test_unlike_pictures_are_painted_to_the_same_bytes(shared: Stylizer) -> None:
    """What shares no batch is computed as ever, company or not."""
    small = dataclasses.replace(PARAMS, pyramid_min=48)
    ends = side_by_side(shared, [(PARAMS, Listener()), (small, Listener()), (ADAM, Listener())])
    for i, params in enumerate((PARAMS, small, ADAM)):
        single = alone(shared, i, params)
        np.testing.assert_array_equal(ends[i].result().pixels, single.pixels)
        assert list(ends[i].result().history) == list(single.history)


def test_each_picture_counts_its_own_looks_into_the_cache(builtin: Weights) -> None:
    stylizer = Stylizer(builtin)
    counts: list[tuple[int, int]] = []

    def paint(seed: int) -> None:
        style = StyleImage(picture(44, 40, 2), sha256="the same for both")
        stylizer.stylize(picture(40, 48, seed), [style], PARAMS, listener=Listener())
        counts.append((stylizer.cache_hits, stylizer.cache_misses))

    threads = [threading.Thread(target=paint, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    levels = 2
    assert len(counts) == 2
    assert sum(hits for hits, _ in counts) == sum(misses for _, misses in counts) == levels
    assert all(hits + misses == levels for hits, misses in counts)
