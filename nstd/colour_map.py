"""The linear map that gives one picture's colours the mean and covariance of another's.

Gatys, Bethge and Hertzmann, "Preserving Color in Neural Artistic Style Transfer" (2016), section
3.1, with its recommended symmetric root. ``photo`` moves a style's colours onto the photograph's,
``engine`` starts from the photograph in the style's. Colours are values in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_LEAST_VARIANCE = 1e-4
"""Added to each variance, so that a grey picture, or a single colour, can be inverted."""


class Spread(NamedTuple):
    """How a picture's colours are spread."""

    mean: Matrix  # (3,)
    covariance: Matrix  # (3, 3)


def colour_map(source: Spread, aim: Spread) -> tuple[Matrix, Matrix]:
    """Return (matrix (3, 3), offset (3,)): colours @ matrix.T + offset spread as ``aim`` does."""
    floor = _LEAST_VARIANCE * np.eye(3)
    matrix = _root(aim.covariance + floor) @ np.linalg.inv(_root(source.covariance + floor))
    return matrix, aim.mean - matrix @ source.mean


def _root(covariance: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(covariance)
    root: Matrix = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
