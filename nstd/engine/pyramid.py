"""Coarse-to-fine levels: their sizes and how the steps are shared out (no TensorFlow)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nstd.engine.params import StyleParams


@dataclass(frozen=True)
class PyramidLevel:
    """One resolution of the optimization."""

    index: int
    height: int
    width: int
    steps: int

    @property
    def pixels(self) -> int:
        """Positions of the image at this level."""
        return self.height * self.width

    @property
    def long_side(self) -> int:
        """The larger of height and width."""
        return max(self.height, self.width)


def fit(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the longer is ``long_side``; at least 16."""
    scale = long_side / max(height, width)
    return max(16, round(height * scale)), max(16, round(width * scale))


def level_sizes(height: int, width: int, smallest: int) -> list[tuple[int, int]]:
    """Return (height, width) from coarse to fine by sqrt(2), the longest side from ``smallest``.

    No side is shorter than 16 pixels, which leave one position after four poolings: a narrower
    picture is stretched while it is painted.
    """
    height, width = max(16, height), max(16, width)
    longest = max(height, width)
    count = 1 + max(0, math.floor(2 * math.log2(longest / smallest) + 1e-9))
    coarse = [fit(height, width, round(longest / 2 ** (i / 2))) for i in range(count - 1, 0, -1)]
    return [*coarse, (height, width)]


def share_steps(iterations: int, levels: int, growth: float) -> list[int]:
    """Share ``iterations`` over the levels, each coarser one getting ``growth`` times the finer.

    The finest level gets at least one step, whatever the others take.
    """
    raw = [growth ** (levels - 1 - i) for i in range(levels)]
    ends = [0.0]
    for part in raw:
        ends.append(ends[-1] + part)
    marks = [round((iterations - 1) * end / ends[-1]) for end in ends]
    steps = [after - before for before, after in itertools.pairwise(marks)]
    steps[-1] += 1
    return steps


def pyramid(height: int, width: int, params: StyleParams) -> list[PyramidLevel]:
    """Return the levels for a picture of (height, width) pixels, coarse to fine."""
    sizes = level_sizes(height, width, params.pyramid_min)
    steps = share_steps(params.iterations, len(sizes), params.coarse_growth)
    used = [(size, n) for size, n in zip(sizes, steps, strict=True) if n > 0]
    return [PyramidLevel(i, *size, n) for i, (size, n) in enumerate(used)]
