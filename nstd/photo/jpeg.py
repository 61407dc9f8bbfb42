"""The segments of a JPEG: ITU-T T.81, annex B."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SOS: Final = 0xDA
"""Start of scan."""
EOI: Final = 0xD9
"""End of image."""
DHT: Final = 0xC4
"""Define Huffman tables."""
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}
"""Start of frame, by kind of coding."""
SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
"""Frames whose scans are plain Huffman codes, one block after the other."""
TEXTS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
"""Applications' segments and comments."""

_NEXT: Final = re.compile(rb"\xff+([\x01-\xfe])")
_AFTER_SCAN: Final = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""A marker inside entropy-coded data: neither a stuffed zero nor a restart."""
_BARE: Final = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
"""Markers without a length."""


class Segment(NamedTuple):
    """One marker with what belongs to it, a scan with its entropy-coded data."""

    marker: int
    start: int
    """First byte of the contents, behind the length."""
    end: int
    """First byte behind; beyond the file where that is cut."""


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments from the first marker to the end marker, or to where sense ends."""
    at = 2
    while found := _NEXT.match(data, at):
        marker, at = found[1][0], found.end()
        if marker in _BARE:
            continue
        if marker == EOI:
            yield Segment(marker, at, at)
            return
        # A cut or senseless length counts as two, its own size: one always gets on.
        start = at + 2
        at += max(2, int.from_bytes(data[at:start], "big"))
        if marker == SOS:
            behind = _AFTER_SCAN.search(data, at)
            at = behind.start() if behind else max(at, len(data))
        yield Segment(marker, start, at)


def zeros_mean_flat(tables: bytes) -> bool:
    """Whether all-zero bits say "nothing more in this block" in an AC table of a DHT segment.

    Then a flat area is rightly a long run of zeros. In the standard tables, all-zero bits are a
    block full of smallest coefficients, which nobody ever photographed.
    """
    at = 0
    while at + 17 < len(tables):
        is_ac, count = tables[at] >> 4, sum(tables[at + 1 : at + 17])
        if is_ac and tables[at + 17] == 0:
            return True
        at += 17 + count
    return False
