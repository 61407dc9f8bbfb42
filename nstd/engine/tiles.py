"""Stages of the network and the tiles of each: the geometry of exact tiling (no TensorFlow)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_CUTS = ("block2_pool", "block3_pool", "block4_pool")
"""Blocks 1 and 2 share a stage: the map between them would be as large as all others together."""

_SHARE = {1: 1.0, 4: 0.375, 8: 0.25, 16: 0.25}
"""Side of a stage's tiles relative to the first stage's, for about the same memory (derived from
the bytes that VGG19's activations and its convolutions' products take per position)."""


@dataclass(frozen=True)
class Stage:
    """Consecutive layers that run together on one tile."""

    names: tuple[str, ...]
    stride: int
    """Picture pixels per position of the stage's input."""

    @property
    def grid(self) -> int:
        """Positions that the stage's pooling joins: tiles begin and end on multiples of it."""
        return self.stride_of(self.names[-1])

    def stride_of(self, layer: str) -> int:
        """Return the positions of the stage's input per position of ``layer``."""
        upto = self.names[: self.names.index(layer) + 1]
        return 1 << sum(name.endswith("pool") for name in upto)

    @property
    def halo(self) -> int:
        """Positions that the convolutions reach beyond a tile, rounded up to the grid."""
        reach, step = 0, 1
        for name in self.names:
            if name.endswith("pool"):
                step *= 2
            else:
                reach += step
        return -(-reach // self.grid) * self.grid

    def tile_side(self, pixels: int) -> int:
        """Return the side of this stage's tiles when the first stage's is ``pixels``."""
        side = int(pixels * _SHARE[self.stride])
        return max(self.grid, side // self.grid * self.grid)

    def tiles(self, height: int, width: int, pixels: int) -> Iterator[Tile]:
        """Cut the stage's input of (height, width) positions into tiles, row by row."""
        side = self.tile_side(pixels)
        for rows in _spans(height, side, self.halo, self.grid):
            for columns in _spans(width, side, self.halo, self.grid):
                yield Tile(rows, columns)


def stages(names: Sequence[str]) -> list[Stage]:
    """Cut consecutive layers, from the first one on, into stages."""
    found: list[Stage] = []
    current: list[str] = []
    stride = 1
    for name in names:
        current.append(name)
        if name in _CUTS and name != names[-1]:
            found.append(Stage(tuple(current), stride))
            stride *= found[-1].grid
            current = []
    return [*found, Stage(tuple(current), stride)]


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in positions of its stage's input: what it owns and what it reads."""

    start: int
    stop: int
    read_start: int
    read_stop: int


def _spans(length: int, side: int, halo: int, grid: int) -> list[Span]:
    """Cut an axis into tiles of about the same length, ``side`` positions at most, on the grid.

    All read equally much, at the borders further in: for each size of what it reads the library
    builds and keeps kernels, some MB a convolution.
    """
    cells = max(1, length // grid)  # positions beyond the last whole cell join it
    each = -(-cells // -(-cells * grid // side))
    edges = [*(cell * grid for cell in range(0, cells, each)), length]
    read = min(length, each * grid + 2 * halo + length % grid)
    starts = [max(0, min(start - halo, length - read)) for start in edges[:-1]]
    return [Span(a, b, s, s + read) for (a, b), s in zip(pairwise(edges), starts, strict=True)]


@dataclass(frozen=True)
class Tile:
    """Rows and columns of one tile."""

    rows: Span
    columns: Span

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Owned rows and columns, counted within what the tile reads."""
        r, c = self.rows, self.columns
        return (
            r.start - r.read_start, r.stop - r.read_start,
            c.start - c.read_start, c.stop - c.read_start,
        )  # fmt: skip

    @property
    def reads(self) -> tuple[slice, slice, slice]:
        """Index of what the tile reads of a stage's input (1, H, W, C)."""
        r, c = self.rows, self.columns
        return slice(None), slice(r.read_start, r.read_stop), slice(c.read_start, c.read_stop)

    def owns(self, stride: int) -> tuple[slice, slice, slice]:
        """Index of what the tile owns of a whole map, ``stride`` below the stage's input."""
        r, c = self.rows, self.columns
        return (
            slice(None),
            slice(r.start // stride, r.stop // stride),
            slice(c.start // stride, c.stop // stride),
        )
