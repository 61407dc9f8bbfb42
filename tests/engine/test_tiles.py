from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nstd.engine.tiles import stages

VGG_TO_5_1 = (
    *("block1_conv1", "block1_conv2", "block1_pool", "block2_conv1", "block2_conv2", "block2_pool"),
    *("block3_conv1", "block3_conv2", "block3_conv3", "block3_conv4", "block3_pool"),
    *("block4_conv1", "block4_conv2", "block4_conv3", "block4_conv4", "block4_pool"),
    "block5_conv1",
)


def test_stages_cover_every_layer_once_and_in_order() -> None:
    found = stages(VGG_TO_5_1)
    assert tuple(name for stage in found for name in stage.names) == VGG_TO_5_1
    assert [stage.stride for stage in found] == [1, 4, 8, 16]


def test_a_network_that_ends_at_a_cut_has_no_empty_stage() -> None:
    assert [stage.stride for stage in stages(VGG_TO_5_1[:6])] == [1]


@pytest.mark.parametrize(("stage", "reach"), [(0, 6), (1, 4), (2, 4), (3, 1)])
def test_a_halo_is_at_least_what_the_convolutions_reach(stage: int, reach: int) -> None:
    found = stages(VGG_TO_5_1)[stage]
    assert found.halo >= reach
    assert found.halo % found.grid == 0


@settings(deadline=None)
@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    pixels=st.integers(16, 300),
    index=st.integers(0, 3),
)
def test_every_position_is_owned_exactly_once(
    height: int, width: int, pixels: int, index: int
) -> None:
    stage = stages(VGG_TO_5_1)[index]
    reads: set[tuple[int, int]] = set()
    owned = np.zeros((1, height, width), int)
    pooled = np.zeros((1, height // stage.grid, width // stage.grid), int)
    for tile in stage.tiles(height, width, pixels):
        owned[tile.owns(1)] += 1
        pooled[tile.owns(stage.grid)] += 1
        for span, length in ((tile.rows, height), (tile.columns, width)):
            assert span.read_start % stage.grid == 0
            assert span.stop - span.start <= max(stage.tile_side(pixels), stage.grid) + stage.grid
            # the halo reaches as far as the convolutions, or to the border of the picture
            assert span.read_start <= max(0, span.start - stage.halo)
            assert min(length, span.stop + stage.halo) <= span.read_stop <= length
        reads.add((tile.rows.read_stop - tile.rows.read_start,
                   tile.columns.read_stop - tile.columns.read_start))  # fmt: skip
    assert (owned == 1).all()
    assert (pooled == 1).all()
    assert len(reads) == 1  # one set of kernels
