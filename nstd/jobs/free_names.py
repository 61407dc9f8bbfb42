"""Names that are still free in a folder, on every client that sees it."""

from __future__ import annotations

import os
from collections.abc import Container

from nstd.jobs.names import MAX_NAME_BYTES
from nstd.jobs.publish import directory
from nstd.jobs.text import folded


def free_stem(
    folder: str | int, stem: str, extensions: tuple[str, ...], taken: Container[str] = ()
) -> str:
    """Return ``stem``, or ``stem-2``, ``stem-3``, ...: the first that is free with every extension.

    Names count as equal where a Windows or macOS client would see one file, and ``taken`` holds
    further ``folded`` names to avoid. A stem that is too long for the file system is cut.
    """
    with directory(folder) as descriptor:
        present = {folded(name) for name in os.listdir(descriptor)}
    longest = max((len(os.fsencode(extension)) for extension in extensions), default=0)
    number = 1
    while True:
        tail = "" if number == 1 else f"-{number}"
        free = cut(stem, MAX_NAME_BYTES - longest - len(tail)) + tail
        names = [folded(free + extension) for extension in extensions]
        if not any(name in present or name in taken for name in names):
            return free
        number += 1


def cut(name: str, size: int) -> str:
    """Return the longest beginning of ``name`` that takes at most ``size`` bytes."""
    data = os.fsencode(name)
    if len(data) <= size:
        return name
    return data[: max(size, 1)].decode("utf-8", "ignore")
