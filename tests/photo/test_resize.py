from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstd.photo.resize import fit, resize
from tests.photo.make import near, noise, scene


@given(
    height=st.integers(1, 30_000), width=st.integers(1, 30_000), long_side=st.integers(1, 10_000)
)
def test_a_fitted_size_has_the_long_side_asked_for_and_the_same_shape(
    height: int, width: int, long_side: int
) -> None:
    fitted = fit(height, width, long_side)
    assert max(fitted) == long_side
    assert min(fitted) >= 1
    exact = min(height, width) * long_side / max(height, width)
    assert abs(min(fitted) - max(1.0, exact)) <= 0.5
    assert (fitted[0] >= fitted[1]) or height <= width


@pytest.mark.parametrize("shape", [(48, 64), (24, 32), (100, 131), (1, 1), (7, 300)])
def test_the_result_has_the_size_asked_for(shape: tuple[int, int]) -> None:
    assert resize(scene(), *shape).shape == (*shape, 3)
    assert resize(scene()[..., 0], *shape).shape == shape


def test_the_same_size_is_the_same_picture() -> None:
    assert np.array_equal(resize(scene(), 48, 64), scene())


@pytest.mark.parametrize(("height", "width"), [(20, 30), (300, 400)])
def test_a_flat_colour_stays_flat(height: int, width: int) -> None:
    flat = np.full((90, 120, 3), (7, 130, 251), np.uint8)
    assert (resize(flat, height, width) == (7, 130, 251)).all()


def test_shrinking_averages_instead_of_picking() -> None:
    """Every second pixel of a fine chequerboard is white; nearest pixels would be all one."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)
    small = resize(board.astype(np.uint8), 32, 32)
    assert small.min() > 100
    assert small.max() < 155


def test_noise_keeps_its_mean_when_it_shrinks() -> None:
    pixels = noise(500, 700)
    small = resize(pixels, 50, 70)
    assert near(small.mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), within=1.0)


def test_the_result_may_be_written() -> None:
    small = resize(scene(), 10, 12)
    small[0, 0] = 1
    assert small.dtype == np.uint8
