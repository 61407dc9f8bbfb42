"""The stylizer paints: any shape, several styles, regions; it keeps what the next can use."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from nstd.engine import budget
from nstd.engine import stylizer as stylizer_module
from nstd.engine.budget import Footprint, MemoryPlan
from nstd.engine.loop import DeviceLoop
from nstd.engine.params import Pooling, StyleParams, preset
from nstd.engine.progress import Checkpoint, Listener, Result, StepReport, StyleImage
from nstd.engine.run import Run
from nstd.engine.stylizer import Stylizer
from nstd.engine.tiling import alive
from nstd.engine.weights import Weights
from nstd.errors import MemoryExhaustedError, WeightsError
from tests.checkpoints import packed, unpacked
from tests.engine.conftest import Pixels, picture

pytestmark = pytest.mark.usefixtures("_cpu")

TINY = dataclasses.replace(preset("tiny"), history=3)
SHALLOW = dataclasses.replace(  # traced in a quarter of the time
    TINY,
    content_layers=(("block2_conv1", 1.0),),
    style_layers=(("block1_conv1", 1.0), ("block2_conv1", 1.0)),
)


@pytest.fixture
def paint(stylizer: Stylizer) -> Callable[..., Result]:
    def run(
        content: Pixels, *styles: StyleImage, params: StyleParams = TINY, **more: Any
    ) -> Result:
        return stylizer.stylize(content, styles, params, listener=Listener(**more))

    return run


def tinted(seed: int, colour: tuple[int, int, int]) -> Pixels:
    """Return a painting of 40 by 40 pixels around one colour."""
    pixels = picture(40, 40, seed).astype(float) - 127.0
    return np.clip(0.4 * pixels + colour, 0, 255).astype(np.uint8)


RED, BLUE = tinted(1, (190, 60, 60)), tinted(2, (60, 60, 190))


def warmth(pixels: NDArray[Any]) -> float:
    """Return how much more red than blue there is, in grey levels."""
    means = pixels.reshape(-1, 3).mean(0, dtype=float)
    return float(means[0] - means[2])


# --- whole pictures ------------------------------------------------------------------------------


def test_painting_lowers_the_loss_at_every_level(
    paint: Callable[..., Result], content: Pixels, style: Pixels
) -> None:
    params = dataclasses.replace(TINY, iterations=20)
    result = paint(content, StyleImage(style), params=params)
    assert result.pixels.shape == content.shape
    assert result.pixels.dtype == np.uint8
    assert not np.array_equal(result.pixels, content)
    begin = 0
    for level in result.plan["levels"]:
        losses = [each.total for _, each in result.history[begin : begin + level["steps"]]]
        assert losses[-1] < losses[0]
        begin += level["steps"]
    assert result.steps == 20
    assert list(result.notes) == []


def test_the_whole_network_goes_on_from_a_checkpoint_bit_for_bit(
    paint: Callable[..., Result], stylizer: Stylizer, content: Pixels, style: Pixels
) -> None:
    seen: list[bytes] = []
    whole = paint(
        content, StyleImage(style), checkpoint=lambda checkpoint: seen.append(packed(checkpoint))
    )
    again = stylizer.stylize(
        content,
        [StyleImage(style)],
        TINY,
        listener=Listener(),
        resume=unpacked(seen[0]),
    )
    np.testing.assert_array_equal(again.pixels, whole.pixels)
    assert list(again.history) == list(whole.history)


@pytest.mark.parametrize(
    "size", [(16, 16), (17, 31), (16, 300), (5, 200), (200, 3), (1, 64), (8, 8)]
)
def test_pictures_of_any_shape_are_painted(
    paint: Callable[..., Result], style: Pixels, size: tuple[int, int]
) -> None:
    result = paint(picture(*size, 3), StyleImage(style))
    assert result.pixels.shape == (*size, 3)
    assert np.isfinite(result.losses.total)


@pytest.mark.parametrize("size", [(16, 16), (4, 300), (300, 4)])
def test_styles_of_any_shape_are_taken(
    paint: Callable[..., Result], content: Pixels, size: tuple[int, int]
) -> None:
    result = paint(content, StyleImage(picture(*size, 4)))
    assert np.isfinite(result.losses.total)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 120, 40)])
def test_a_plain_colour_is_a_style(
    paint: Callable[..., Result], content: Pixels, colour: tuple[int, int, int]
) -> None:
    plain = np.full((40, 40, 3), colour, np.uint8)
    result = paint(content, StyleImage(plain))
    assert result.losses.total < 1e7  # and not the 1e14 of a division by rounding errors
    assert list(result.notes) == []


def test_a_plain_photograph_is_painted(paint: Callable[..., Result], style: Pixels) -> None:
    result = paint(np.full((40, 48, 3), 128, np.uint8), StyleImage(style))
    assert np.isfinite(result.losses.total)
    assert result.pixels.std() > 1.0


# --- control -------------------------------------------------------------------------------------


def test_several_styles_blend_by_weight(paint: Callable[..., Result]) -> None:
    grey = np.full((40, 48, 3), 120, np.uint8)
    params = dataclasses.replace(SHALLOW, iterations=20)

    def blend(red: float, blue: float) -> float:
        styles = StyleImage(RED, red), StyleImage(BLUE, blue)
        return warmth(paint(grey, *styles, params=params).pixels)

    assert blend(1.0, 1e-6) > blend(1.0, 1.0) + 5.0
    assert blend(1.0, 1.0) > blend(1e-6, 1.0) + 5.0


def test_each_region_takes_the_style_of_its_mask(paint: Callable[..., Result]) -> None:
    grey = np.full((40, 48, 3), 120, np.uint8)
    left = np.zeros((20, 24), np.float32)  # masks may have any size
    left[:, :12] = 1.0
    params = dataclasses.replace(SHALLOW, iterations=20)
    styles = StyleImage(RED, mask=left), StyleImage(BLUE, mask=1.0 - left)
    pixels = paint(grey, *styles, params=params).pixels
    assert warmth(pixels[:, :20]) > 10.0
    assert warmth(pixels[:, 28:]) < -10.0


def test_masked_and_unmasked_pictures_take_turns(
    paint: Callable[..., Result], content: Pixels, style: Pixels
) -> None:
    everywhere = StyleImage(style, mask=np.ones((8, 8), np.float32))
    plain = paint(content, StyleImage(style), params=SHALLOW)
    masked = paint(content, everywhere, params=SHALLOW)
    again = paint(content, StyleImage(style), params=SHALLOW)
    np.testing.assert_array_equal(plain.pixels, again.pixels)
    difference = masked.pixels.astype(float) - plain.pixels
    assert np.abs(difference).mean() < 2.0  # a mask that is one everywhere asks for the same


def test_nothing_is_painted_where_the_mask_is_zero(
    paint: Callable[..., Result], content: Pixels, style: Pixels
) -> None:
    nowhere = StyleImage(style, mask=np.zeros((8, 8), np.float32))
    params = dataclasses.replace(SHALLOW, tv_weight=0.0, pyramid_min=48)
    result = paint(content, nowhere, params=params)
    assert result.losses.style == 0.0
    np.testing.assert_array_equal(result.pixels, content)


def test_the_plan_tells_every_parameter_that_was_not_as_asked(
    builtin: Weights, content: Pixels, style: Pixels
) -> None:
    asked = dataclasses.replace(preset("tiny"), iterations=1, pyramid_min=48)
    painter = Stylizer(builtin)
    result = painter.stylize(content, [StyleImage(style)], asked, listener=Listener())
    used = dataclasses.replace(asked, **result.plan["adapted"])
    assert used.precision == painter.facts()["precision"]
    assert (used.content_layers, used.tv_weight) != (asked.content_layers, asked.tv_weight)
    again = painter.stylize(content, [StyleImage(style)], used, listener=Listener())
    np.testing.assert_array_equal(again.pixels, result.pixels)
    assert again.plan["adapted"] == {}


def test_the_ends_of_the_style_strength_give_other_pictures(
    paint: Callable[..., Result], content: Pixels, style: Pixels
) -> None:
    lines, swirls = (
        paint(content, StyleImage(style), params=dataclasses.replace(TINY, style_strength=end))
        for end in (0.0, 1.0)
    )
    assert np.abs(lines.pixels.astype(float) - swirls.pixels).mean() > 1.0


def test_weights_are_obeyed(paint: Callable[..., Result], content: Pixels, style: Pixels) -> None:
    def difference(**changes: float) -> float:
        plain = {**SHALLOW.to_dict(), "recolour": False, "iterations": 12}
        params = StyleParams(**{**plain, **changes})
        pixels = paint(content, StyleImage(style), params=params).pixels
        return float(np.abs(pixels.astype(float) - content).mean())

    assert difference(content_weight=1e4) < 0.5 * difference()


# --- what is kept --------------------------------------------------------------------------------


def test_one_graph_serves_every_size_style_and_weight(
    paint: Callable[..., Result], stylizer: Stylizer, content: Pixels, style: Pixels
) -> None:
    paint(content, StyleImage(style))
    before = traces(stylizer)
    paint(picture(33, 70, 5), StyleImage(RED))
    paint(content, StyleImage(BLUE), params=dataclasses.replace(TINY, style_weight=3.0, seed=7))
    assert traces(stylizer) == before


def traces(stylizer: Stylizer) -> int:
    loops = [backend.loop for backend in stylizer._backends.values()]
    return sum(
        traced.experimental_get_tracing_count()
        for loop in loops
        if isinstance(loop, DeviceLoop)
        for traced in loop._traced.values()
    )


def test_tracing_counts_as_compilation_once(
    builtin: Weights, content: Pixels, style: Pixels
) -> None:
    fresh = Stylizer(builtin)
    reports: list[StepReport] = []
    for expected in (True, False):
        listener = Listener(report=reports.append)
        seconds = fresh.stylize(content, [StyleImage(style)], SHALLOW, listener=listener).seconds
        assert (seconds["compile"] > 0.1) == expected
        assert reports[-1].compile_s == seconds["compile"]


def test_runs_in_threads_of_their_own_share_their_loops(
    builtin: Weights, style: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Stylizer(builtin)
    made: list[DeviceLoop] = []

    class Slow(DeviceLoop):
        def __init__(self, *arguments: Any) -> None:
            time.sleep(0.2)
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(stylizer_module, "DeviceLoop", Slow)
    params = dataclasses.replace(SHALLOW, pyramid_min=128, iterations=2)
    with ThreadPoolExecutor(3) as threads:
        for seed in range(3):
            threads.submit(
                fresh.stylize,
                picture(40, 48, seed),
                [StyleImage(style)],
                params,
                listener=Listener(),
            )
    assert len(made) == 1


def test_what_was_painted_before_changes_no_byte(
    builtin: Weights, style: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A style measured tile by tile rounds otherwise than one measured in one piece."""

    def painted(budget: float) -> Pixels:
        fresh = Stylizer(builtin, cache_dir=str(tmp_path / f"cache {folder}"))
        monkeypatch.setattr(fresh, "_budget", budget)
        styles = [StyleImage(style, sha256="style")]
        size = dataclasses.replace(SHALLOW, precision="bfloat16", pyramid_min=128)
        return fresh.stylize(picture(150, 160, 8), styles, size, listener=Listener()).pixels

    folder = "one"
    alone = painted(1e12)
    folder = "other"
    painted(1.0)
    np.testing.assert_array_equal(painted(1e12), alone)


def test_a_large_style_is_measured_in_tiles_where_the_picture_needs_none(
    stylizer: Stylizer, content: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    plan = budget.plan

    def noted(footprint: Footprint, pixels: int, *rest: Any, **more: Any) -> MemoryPlan:
        asked.append(pixels)
        return plan(footprint, pixels, *rest, **more)

    monkeypatch.setattr(stylizer_module, "plan", noted)
    params = dataclasses.replace(SHALLOW, style_scale=4.0, pyramid_min=128)
    stylizer.stylize(
        content, [StyleImage(picture(48, 48, 5), sha256="x")], params, listener=Listener()
    )
    assert 192 * 192 in asked


def test_the_second_picture_in_a_style_finds_it(
    paint: Callable[..., Result], stylizer: Stylizer, content: Pixels
) -> None:
    known = StyleImage(picture(40, 40, 77), sha256="77")
    hits, misses = stylizer.cache_hits, stylizer.cache_misses
    first = paint(content, known)
    levels = len(first.plan["levels"])
    assert (stylizer.cache_hits - hits, stylizer.cache_misses - misses) == (0, levels)
    second = paint(content, known)
    assert (stylizer.cache_hits - hits, stylizer.cache_misses - misses) == (levels, levels)
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_facts_are_plain_and_name_no_folder(stylizer: Stylizer, builtin: Weights) -> None:
    facts = stylizer.facts()
    text = json.dumps(facts)
    assert builtin.path not in text
    assert facts["weights"]["sha256"] == builtin.sha256
    assert facts["tensorflow"] == tf.__version__
    assert "CPU" in facts["device"]


# --- what is refused -----------------------------------------------------------------------------


def test_memory_that_runs_out_leads_to_smaller_tiles_and_then_to_words(
    paint: Callable[..., Result], content: Pixels, style: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles: list[int] = []

    def exhausted(run: Run, _resume: Checkpoint | None) -> Result:
        tiles.append(run.backends(run.levels[-1]).reader.tile)
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(Run, "paint", exhausted)
    with pytest.raises(MemoryExhaustedError, match=r"no memory left for .* 48 x 40 pixels") as why:
        paint(content, StyleImage(style))
    assert why.value.retry
    assert "smaller size" in why.value.remedy
    assert tiles[0] == 0
    assert all(0 < later <= earlier for earlier, later in pairwise(tiles[1:]))


def test_a_run_that_had_to_take_smaller_pieces_goes_on_in_them(
    stylizer: Stylizer, content: Pixels, style: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    tiles: list[int] = []
    paint = Run.paint

    def short_of_memory(run: Run, resume: Checkpoint | None) -> Result:
        tiles.append(run.backends(run.levels[-1]).reader.tile)
        if not tiles[-1]:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return paint(run, resume)

    def painted(resume: Checkpoint | None = None) -> Result:
        listener = Listener(checkpoint=lambda checkpoint: seen.append(packed(checkpoint)))
        styles = [StyleImage(style)]
        return stylizer.stylize(content, styles, SHALLOW, listener=listener, resume=resume)

    monkeypatch.setattr(Run, "paint", short_of_memory)
    whole = painted()
    assert whole.notes == ["Memory ran out; began anew in smaller pieces."]
    assert tiles[0] == 0 < tiles[1]
    tiles.clear()
    again = painted(unpacked(seen[0]))
    assert len(tiles) == 1
    np.testing.assert_array_equal(again.pixels, whole.pixels)


@pytest.mark.parametrize(
    "memory", [MemoryPlan(tile, pairs) for tile in (0, 128) for pairs in (1, 5)], ids=str
)
def test_a_run_goes_on_with_the_history_that_fits_now(
    stylizer: Stylizer,
    content: Pixels,
    style: Pixels,
    monkeypatch: pytest.MonkeyPatch,
    memory: MemoryPlan,
) -> None:
    seen: list[bytes] = []
    styles = [StyleImage(style)]
    listener = Listener(checkpoint=lambda each: seen.append(packed(each)), checkpoint_s=0.0)
    whole = stylizer.stylize(content, styles, SHALLOW, listener=listener)
    monkeypatch.setattr(stylizer_module, "plan", lambda *_, **__: memory)
    for data in (seen[1], seen[-2]):
        again = stylizer.stylize(
            content, styles, SHALLOW, listener=Listener(), resume=unpacked(data)
        )
        assert again.steps == whole.steps
        assert np.isfinite(again.losses.total)


def test_a_finished_picture_is_kept_by_nothing(
    stylizer: Stylizer, style: Pixels, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"

    def save(checkpoint: Checkpoint) -> None:
        if not path.exists():
            with path.open("wb") as file:
                checkpoint.write(file)

    pixels = picture(40, 48, 12)
    paint = stylizer.stylize
    paint(pixels, [StyleImage(style)], SHALLOW, listener=Listener(checkpoint=save))
    open_then: list[bool] = []

    def look() -> bool:
        files = [os.readlink(each.path) for each in os.scandir("/proc/self/fd")]
        open_then.append(any(file.startswith(str(path)) for file in files))
        return False

    resume = Checkpoint.read(str(path))
    paint(pixels, [StyleImage(style)], SHALLOW, listener=Listener(cancelled=look), resume=resume)
    assert open_then
    assert not any(open_then)
    assert not hasattr(alive.get(), "__self__")  # no run's any more


def test_damaged_weights_are_refused_at_the_start(builtin: Weights, tmp_path: Any) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(WeightsError, match=r"cut\.npz"):
        Stylizer(dataclasses.replace(builtin, path=str(path)))


def test_the_number_of_kept_graphs_is_bounded(
    builtin: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stylizer_module, "_KEPT", 2)
    stylizer = Stylizer(builtin)
    for history in (2, 3, 4):
        stylizer._backend(SHALLOW, MemoryPlan(0, history))
    assert (len(stylizer._backends), len(stylizer._objectives)) == (2, 1)
    poolings: tuple[Pooling, ...] = ("max", "avg")
    for pooling in poolings:
        stylizer._backend(dataclasses.replace(SHALLOW, pooling=pooling), MemoryPlan(0, 2))
    assert len(stylizer._objectives) == 2


def test_where_memory_is_short_only_the_large_levels_remember_less(
    builtin: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(_footprint: object, pixels: int, history: int, *_: object, **__: object) -> Any:
        return MemoryPlan(0, history if pixels < 48 * 40 else 1)

    monkeypatch.setattr(stylizer_module, "plan", planned)
    seen: list[Checkpoint] = []
    content, style = picture(56, 64, 1), StyleImage(picture(40, 40, 2))
    params = dataclasses.replace(SHALLOW, size=64, pyramid_min=32, iterations=12, history=4)
    painted = Stylizer(builtin).stylize(
        content, [style], params, listener=Listener(checkpoint=seen.append, checkpoint_s=0.0)
    )
    pairs = {
        int(each.facts["level"]): sum(name.startswith("memory.rho") for name in each.arrays)
        for each in seen
    }
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)
    assert (pairs[0], pairs[max(pairs)]) == (4, 1)
    assert painted.plan["adapted"]["history"] == 1
