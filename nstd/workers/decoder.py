"""Files to pixels in limited children, with the styles of earlier jobs at hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from nstd.workers import decode_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from nstd.engine.progress import Image
    from nstd.photo.decode import Photo
    from nstd.workers.painting import Source
    from nstd.workers.settings import PaintSettings

CACHE_BYTES = 128 * 2**20
"""Room for ten styles at 1024 px: a library's styles come again with every photograph."""

LOOK_S = 1.0
"""While others decode: files are decoded one at a time, each may take its full share of memory."""


def _no_sign() -> None:
    """Tell nobody."""


class Decoder:
    """Decodes by one set of limits, for any thread; keeps the styles that were used last."""

    def __init__(self, settings: PaintSettings, cache_bytes: int = CACHE_BYTES) -> None:
        self._settings, self._room = settings, cache_bytes
        self._styles: OrderedDict[tuple[str, int], Image] = OrderedDict()
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def photo(self, source: Source, max_side: int, alive: Callable[[], None] = _no_sign) -> Photo:
        """Return the decoded file, no smaller than ``max_side`` unless it is so by itself.

        ``alive`` is called each second while others are before it.
        """
        while not self._turn.acquire(timeout=LOOK_S):
            alive()
        try:
            return decode_child.decode_limited(
                source.path,
                self._settings.limits,
                max_side=max_side,
                timeout_s=self._settings.decode_timeout_s,
                memory_bytes=self._settings.decode_memory_bytes,
                name=source.shown(),
            )
        finally:
            self._turn.release()

    def style(self, source: Source, max_side: int, alive: Callable[[], None] = _no_sign) -> Image:
        """Return the pixels of a style: from the last jobs where its bytes were the same."""
        key = (source.sha256, max_side)
        with self._lock:
            if source.sha256 and key in self._styles:
                self._styles.move_to_end(key)
                return self._styles[key]
        pixels = self.photo(source, max_side, alive).pixels
        pixels.flags.writeable = False  # handed out more than once
        if source.sha256:
            with self._lock:
                self._styles[key] = pixels
                self._trim()
        return pixels

    def _trim(self) -> None:
        while sum(pixels.nbytes for pixels in self._styles.values()) > self._room:
            self._styles.popitem(last=False)
