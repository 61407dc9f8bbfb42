"""The style library, and the folders of the inbox that are its menu."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from nstd.errors import StorageError
from nstd.jobs.inputs import LibraryStyle
from nstd.jobs.library import scan_library
from nstd.jobs.text import shown
from nstd.service.house import House
from nstd.service.logs import logger
from nstd.service.walk import FOLDER_FLAGS, Scan

LIBRARY_S = 5.0
"""How often the library is read again, at most."""


class Menu:
    """Knows the library, and makes ``inbox/<style>/`` for each of its styles."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.library: Mapping[str, LibraryStyle] = {}
        self._next = float("-inf")
        self._made: frozenset[str] = frozenset()

    def refresh(self, now: float) -> bool:
        """Read the library again where that is due; True when it has changed."""
        if now < self._next:
            return False
        self._next = now + LIBRARY_S
        try:
            library = scan_library(str(self._house.config.folders.styles))
        except StorageError as error:  # those that were read before still serve
            self._house.pauses.set("styles", "io", str(error), blocks=False)
            return False
        self._house.pauses.clear("styles")
        changed = library != self.library
        self.library = library
        return changed

    def read_again(self) -> None:
        """Read the library at the next look: something in it has changed."""
        self._next = float("-inf")

    def lay_out(self, inbox: str, scan: Scan) -> None:
        """Make the folders: at the start, when the library changes, and in a new inbox."""
        styles = frozenset(self.library)
        if styles == self._made and not (scan.replaced or self._is_gone(scan)):
            return
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            root = os.open(inbox, FOLDER_FLAGS)
            stack.callback(os.close, root)
            for style in sorted(styles):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(style, 0o777, dir_fd=root)
                    logger().debug("A folder of the menu.", style=shown(style))
            self._made = styles

    def _is_gone(self, scan: Scan) -> bool:
        """Whether all of it has vanished: a new inbox, even if it has the old one's inode."""
        return bool(self._made) and self._made.isdisjoint(scan.folders)
