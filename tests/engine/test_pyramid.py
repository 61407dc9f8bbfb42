"""Levels: sizes by the square root of two, steps that sum up, the last level always painted."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.engine import pyramid
from nstd.engine.params import PRESETS, StyleParams

SIDES = st.integers(1, 8192)


def params(iterations: int, smallest: int = 64, growth: float = 1.25) -> StyleParams:
    return StyleParams(iterations=iterations, pyramid_min=smallest, coarse_growth=growth)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 20_000), st.sampled_from([32, 64, 200]), st.floats(0.25, 4.0))
def test_steps_sum_to_the_iterations_and_the_last_level_has_one(
    height: int, width: int, iterations: int, smallest: int, growth: float
) -> None:
    levels = pyramid.pyramid(height, width, params(iterations, smallest, growth))
    assert sum(level.steps for level in levels) == iterations
    assert all(level.steps >= 1 for level in levels)
    assert (levels[-1].height, levels[-1].width) == (max(16, height), max(16, width))


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(1, 40))
def test_levels_are_counted_from_zero_without_gaps(height: int, width: int, steps: int) -> None:
    levels = pyramid.pyramid(height, width, params(steps))
    assert [level.index for level in levels] == list(range(len(levels)))


@settings(deadline=None)
@given(st.integers(64, 8192), st.integers(64, 8192))
def test_long_sides_grow_by_the_square_root_of_two(height: int, width: int) -> None:
    sizes = pyramid.level_sizes(height, width, 64)
    assert 64 <= max(sizes[0]) <= 91  # 64 times the root of two
    for coarse, fine in pairwise(sizes):
        assert max(fine) / max(coarse) == pytest.approx(math.sqrt(2.0), abs=0.02)


@settings(deadline=None)
@given(st.integers(64, 2048), st.integers(64, 2048))
def test_levels_keep_the_shape_of_the_picture(height: int, width: int) -> None:
    for h, w in pyramid.level_sizes(height, width, 64):
        if min(h, w) > 16:
            assert abs(h * width - w * height) <= max(height, width)  # half a pixel a side


@settings(deadline=None)
@given(SIDES, SIDES)
def test_no_level_is_too_narrow_for_the_network(height: int, width: int) -> None:
    sizes = pyramid.level_sizes(height, width, 64)
    assert all(min(size) >= 16 for size in sizes)


def test_a_picture_no_larger_than_the_smallest_level_has_one() -> None:
    assert pyramid.level_sizes(64, 50, 64) == [(64, 50)]
    assert pyramid.level_sizes(30, 20, 64) == [(30, 20)]


def test_coarser_levels_take_more_steps() -> None:
    steps = [level.steps for level in pyramid.pyramid(512, 384, params(200))]
    assert len(steps) == 7
    assert all(coarse >= fine for coarse, fine in pairwise(steps))


def test_one_iteration_goes_to_the_finest_level() -> None:
    (only,) = pyramid.pyramid(512, 384, params(1))
    assert (only.index, only.height, only.width, only.steps) == (0, 512, 384, 1)


def test_the_tutorials_have_a_single_level() -> None:
    for name, preset in PRESETS.items():
        if name.startswith("tutorial"):
            (level,) = pyramid.pyramid(512, 341, preset)
            assert level.steps == preset.iterations == 1000


def test_pixels_and_long_side_are_those_of_the_size() -> None:
    level = pyramid.PyramidLevel(0, 30, 40, 1)
    assert (level.pixels, level.long_side) == (1200, 40)
    assert dataclasses.replace(level, height=50).long_side == 50
