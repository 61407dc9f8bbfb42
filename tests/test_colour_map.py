"""Mapped colours spread as the others do, whatever the first ones were."""

from __future__ import annotations

import numpy as np
import pytest

from nstd.colour_map import Spread, colour_map


def spread(colours: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Spread:
    return Spread(colours.mean(0), np.cov(colours.T, bias=True))


@pytest.mark.parametrize("seed", range(3))
def test_mean_and_covariance_become_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixes = np.eye(3) + rng.uniform(-0.3, 0.3, (2, 3, 3))  # far from grey: no floor to speak of
    one, other = (rng.normal(0.5, 0.4, (500, 3)) @ mix for mix in mixes)
    matrix, offset = colour_map(spread(one), spread(other))
    got = spread(one @ matrix.T + offset)
    np.testing.assert_allclose(got.mean, spread(other).mean, atol=1e-9)
    np.testing.assert_allclose(got.covariance, spread(other).covariance, atol=2e-3)


def test_a_single_colour_becomes_the_others_mean() -> None:
    plain = Spread(np.full(3, 0.3), np.zeros((3, 3)))
    other = Spread(np.array([0.1, 0.5, 0.9]), np.eye(3) * 0.04)
    matrix, offset = colour_map(plain, other)
    np.testing.assert_allclose(matrix @ plain.mean + offset, other.mean)
    assert np.isfinite(matrix).all()
