"""How a picture fits into the memory it may take: tiles and history (no TensorFlow).

The same job on the same budget gives the same plan.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nstd.engine.params import Precision

_BASE_BYTES = 700 * 2**20
"""TensorFlow and the interpreter, before any weights (measured: 0.66 GiB resident)."""
_TEMPORARIES = 2.2
"""Peak bytes of a step over the bytes of its activations: gradients, padded copies, the products
of the convolutions (measured at 512 to 1024 pixels with full-width VGG19: 2.6 KB a pixel in
float32, 1.25 KB in bfloat16)."""
_VALUE_BYTES = {"float32": 4, "bfloat16": 2}
_WEIGHT_COPIES = {"float32": 9.0, "bfloat16": 2.0}
"""Bytes held per byte of float32 weights: themselves, and transformed twice for Winograd
(2 x 36 / 9), or in half the bytes and in the order that the library likes."""
_IMAGES = 14
"""Image-sized float32 tensors alive in a step, besides L-BFGS's pairs."""
_TILED_IMAGES = 8.5
"""As many in tiles, where most of a step goes strip by strip (measured at 4096 pixels)."""
_UNEVEN = 0.95
"""Of the budget, planned with: TensorFlow's allocator keeps gaps between what it gives out."""
_PAIR_SHARE = 0.2
"""Share of the budget that L-BFGS's pairs may take."""
_TILES = (1536, 1024, 768, 640, 512, 448, 384, 320, 256, 192, 128)
_GOOD_TILE = 320
"""Below this side halos cost more time than a longer history saves."""
_SMALLEST_HISTORY = 1
_RETRY_SIDE = 0.75
"""Side of the tiles over what memory ran out with, at most."""
_COPIES = 2
"""Times that the state of each picture in a batch lies in memory beside the batch: what goes in,
and what comes out."""
_LONG_LIVED = 6
"""Image-sized tensors of that state, besides L-BFGS's pairs."""

_IMAGE = 12  # bytes of one (H, W, 3) float32 pixel


@dataclass(frozen=True)
class MemoryPlan:
    """How one pyramid level is computed."""

    tile: int
    """Side of the tiles in pixels; 0: in one piece."""
    history: int
    """Pairs that L-BFGS keeps."""


@dataclass(frozen=True)
class Footprint:
    """What a network needs: bytes a pixel of activations, and bytes of weights and their copies."""

    activation_bytes: float
    between_bytes: float
    """A pixel's share of the maps between stages and of the content targets."""
    weight_bytes: float

    @classmethod
    def of(
        cls,
        layers: Mapping[str, tuple[int, int]],
        content_layers: tuple[str, ...],
        precision: Precision = "float32",
    ) -> Footprint:
        """Build from {convolution: (channels in, channels out)} of the layers that run."""
        activations = between = weights = 0.0
        value = _VALUE_BYTES[precision]
        for name, (inputs, outputs) in layers.items():
            positions = 4.0 ** (1 - int(name[5]))  # of one pixel, at this block
            activations += value * outputs * positions
            weights += _WEIGHT_COPIES[precision] * 4 * 9 * inputs * outputs
            if name in ("block2_conv2", "block3_conv4", "block4_conv4"):
                # the map, and most of its gradient
                between += 1.7 * value * outputs * positions / 4
            if name in content_layers:
                between += value * outputs * positions
        return cls(activations, between, weights)

    def bytes_for(self, pixels: int, tile: int, history: int) -> float:
        """Return the predicted peak of a step on ``pixels``, in bytes."""
        fixed = _BASE_BYTES + self.weight_bytes
        images = _IMAGE * (2 * history + (_TILED_IMAGES if tile else _IMAGES)) * pixels
        if not tile:
            return fixed + images + _TEMPORARIES * self.activation_bytes * pixels
        reads = min(pixels, (tile + 16) ** 2)
        at_once = _TEMPORARIES * self.activation_bytes * reads
        return fixed + images + at_once + self.between_bytes * pixels

    def pixels_together(self, history: int, budget: float) -> int:
        """Return how many pixels all pictures of a batch may have within ``budget`` bytes."""
        fixed = _BASE_BYTES + self.weight_bytes
        state = _COPIES * (2 * history + _LONG_LIVED)
        each = _IMAGE * (2 * history + _IMAGES + state) + _TEMPORARIES * self.activation_bytes
        return max(0, int((budget - fixed) / each))


def plan(
    footprint: Footprint, pixels: int, history: int, budget: float, *, smaller: int = 0
) -> MemoryPlan:
    """Choose tiles and history for an image of ``pixels`` within ``budget`` bytes.

    ``smaller``: how often memory ran out before in spite of the plan; each asks for markedly
    smaller tiles, smaller than the picture, and half the history. The smallest tile is taken even
    where the prediction exceeds the budget.
    """
    fits = int(_PAIR_SHARE * budget / (2 * _IMAGE * pixels))
    most = max(min(history, fits), min(history, _SMALLEST_HISTORY))
    least = min(most, _SMALLEST_HISTORY)
    shorter = range(most, least - 1, -1)
    options = [
        *((0, pairs) for pairs in shorter if 2 * pairs >= most),
        *((tile, pairs) for pairs in shorter for tile in _TILES if tile >= _GOOD_TILE),
        *((tile, least) for tile in _TILES),
    ]
    room = _UNEVEN * budget
    fitting = (each for each in options if footprint.bytes_for(pixels, *each) <= room)
    tile, pairs = next(fitting, (_TILES[-1], least))
    for _ in range(smaller):
        side = _RETRY_SIDE * min(tile or math.inf, math.sqrt(pixels))
        tile = next((each for each in _TILES if each <= side), _TILES[-1])
        pairs = max(least, pairs // 2)
    return MemoryPlan(tile, pairs)


def default_budget() -> float:
    """Return half of the machine's memory in bytes."""
    return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
