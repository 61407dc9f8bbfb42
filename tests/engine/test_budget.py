from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nstd.engine.budget import Footprint, plan

FULL = {
    f"block{block}_conv{i}": (64 * 2 ** min(block - 1, 3), 64 * 2 ** min(block - 1, 3))
    for block, count in enumerate((2, 2, 4, 4, 1), start=1)
    for i in range(1, count + 1)
}
VGG = Footprint.of(FULL, ("block4_conv2",))
GIB = 2.0**30


def test_what_fits_is_painted_in_one_piece() -> None:
    assert plan(VGG, 512 * 384, 10, 12 * GIB).tile == 0


def test_what_does_not_fit_is_painted_in_tiles_that_do() -> None:
    chosen = plan(VGG, 2048 * 1536, 10, 2.5 * GIB)
    assert chosen.tile > 0
    assert VGG.bytes_for(2048 * 1536, chosen.tile, chosen.history) <= 2.5 * GIB


def test_a_long_history_gives_way_to_the_picture() -> None:
    assert plan(VGG, 4096 * 3072, 10, 4 * GIB).history < 10
    assert plan(VGG, 512 * 384, 10, 4 * GIB).history == 10


@given(pixels=st.integers(1000, 70_000_000), gib=st.floats(0.5, 64.0))
def test_running_out_of_memory_asks_for_ever_smaller_tiles(pixels: int, gib: float) -> None:
    plans = [plan(VGG, pixels, 10, gib * GIB, smaller=again) for again in range(4)]
    sizes = [each.tile or pixels**0.5 for each in plans]
    for before, after in pairwise(sizes):
        assert after <= 0.75 * before or after == 128
    pairs = [each.history for each in plans]
    assert all(after == max(1, before // 2) for before, after in pairwise(pairs))


@given(pixels=st.integers(1000, 70_000_000), gib=st.floats(0.5, 64.0))
def test_the_same_job_on_the_same_budget_gives_the_same_plan(pixels: int, gib: float) -> None:
    assert plan(VGG, pixels, 10, gib * GIB) == plan(VGG, pixels, 10, gib * GIB)


@given(pixels=st.integers(1000, 1_000_000), gib=st.floats(0.5, 64.0))
def test_a_batch_that_fits_leaves_room_for_what_goes_in_and_comes_out(
    pixels: int, gib: float
) -> None:
    room = VGG.pixels_together(10, gib * GIB)
    count = room // pixels
    if count:
        copies = 2 * 26 * 12 * count * pixels  # two of each picture's state, its pairs included
        assert VGG.bytes_for(count * pixels, 0, 10) + copies <= gib * GIB * 1.001
    assert room <= VGG.pixels_together(10, 2 * gib * GIB)
