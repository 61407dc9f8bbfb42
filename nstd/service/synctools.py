"""Whether a two-way sync tool owns the inbox: a move there would delete the file everywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from fnmatch import fnmatchcase

MARKERS = {
    ".stfolder": "Syncthing",
    ".stignore": "Syncthing",
    ".stversions": "Syncthing",
    ".sync_*.db": "Nextcloud",
    "._sync_*.db": "Nextcloud",
    ".owncloudsync.log*": "ownCloud",
    ".nextcloudsync.log*": "Nextcloud",
}
"""What the tools leave in the root of each folder they keep in step."""


def tool_of(names: Iterable[str]) -> str | None:
    """Return the sync tool whose marker is among the names of one folder."""
    for name in names:
        if name.startswith("."):
            for pattern, tool in MARKERS.items():
                if fnmatchcase(name, pattern):
                    return tool
    return None


def owner_of(folder: str) -> str | None:
    """Return the sync tool that owns ``folder`` or one above it; None where there is none.

    Every folder up to the root is looked at: the marker lies in the root of the share, and the
    inbox may be anywhere below it. Folders that may not be read are passed over.
    """
    here = os.path.realpath(folder)
    while True:
        with contextlib.suppress(OSError):
            tool = tool_of(os.listdir(here))
            if tool is not None:
                return tool
        if here == os.path.dirname(here):
            return None
        here = os.path.dirname(here)
