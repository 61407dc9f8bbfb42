"""Pictures that decode without a word though their second half never arrived.

Where zeros are valid data only the picture itself can tell: an uncompressed TIFF, whose missing
part is black, and a lossy WebP, whose decoder goes on predicting from what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

_PAGE: Final = 4096
_UNCOMPRESSED: Final = 1
_FEW_ZEROS: Final = 64
"""What a whole WebP seldom ends in; beyond it the picture is looked at."""
_BLOCK: Final = 16
"""Side of VP8's macroblocks."""


def tiff_is_hollow(tags: Mapping[int, object], data: bytes) -> bool:
    """Whether the pixels of an uncompressed TIFF break off in the middle of a row.

    Black at the bottom is zeros too, so the row in which they begin decides: a photograph that
    breaks off shows something in nearly all of the row's length before it, up to the very pixel.
    """
    if tags.get(259, 1) != _UNCOMPRESSED:  # decoders notice zeros in the others
        return False
    offsets, counts, height = tags.get(273), tags.get(279), tags.get(257)
    if not (isinstance(offsets, tuple) and isinstance(counts, tuple) and isinstance(height, int)):
        return False
    row, pixel = sum(counts) // max(1, height), _pixel_bytes(tags)
    last = max(range(len(offsets)), key=offsets.__getitem__)
    end, start = offsets[last] + counts[last], offsets[0]
    if offsets != tuple(sorted(offsets)) or end > len(data) or row < 1:
        return False
    cut = start + len(data[start:end].rstrip(b"\0"))
    in_row = (cut - start) % row
    if end - cut < max(_PAGE, row) or not pixel < in_row < row - pixel:
        return False
    before = data[max(start, cut - row) : cut]
    return before.count(0) < len(before) // 8


def _pixel_bytes(tags: Mapping[int, object]) -> int:
    bits = tags.get(258, (8,))
    return max(1, sum(bits) // 8) if isinstance(bits, tuple) else 1


def webp_is_hollow(image: Image.Image, data: bytes) -> bool:
    """Whether a WebP that ends in zeros shows smears at its bottom instead of a flat area.

    Fast encoders write a flat bottom as zeros, rightly. In what is predicted from a photograph's
    last row, nearly every block has a colour of its own.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if any(data[max(0, end - _FEW_ZEROS) : end]):
        return False
    width, height = image.size
    strip = image.crop((0, max(0, height - _BLOCK), width, height)).convert("RGB")
    pixels = np.asarray(strip, dtype=np.uint8)  # (h, W, 3)
    colours = len(np.unique(pixels.reshape(-1, 3), axis=0))
    spread = float(pixels.std(axis=1).mean())
    return spread > 2.0 and colours >= max(8, width // (2 * _BLOCK))
