"""Which file system each folder lay on, remembered: an empty mountpoint is no empty folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable

from nstd.errors import StorageError
from nstd.jobs import publish
from nstd.service import places

MOUNTS_FILE = "mounts.json"


class Mounts:
    """Remembers, in the state folder, where the file systems of the users' folders are mounted.

    Without it, a daemon that starts before a network share is mounted would paint into the
    folder underneath, and show everybody an empty inbox.
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            path = os.path.join(state, MOUNTS_FILE)
            with open(path, encoding="utf-8") as file:
                known = json.load(file)
            self._known = {str(folder): str(mount) for folder, mount in known.items()}

    def of(self, folder: str) -> str:
        """Return where the file system of ``folder`` was mounted; empty where nobody knows."""
        return self._known.get(folder, "")

    def learn(self, folders: Iterable[str]) -> None:
        """Note where the folders' file systems are mounted, where that is not known yet."""
        before = dict(self._known)
        for folder in folders:
            with contextlib.suppress(OSError):
                if folder not in self._known:
                    self._known[folder] = places.mount_root(folder)
        if self._known != before:
            data = json.dumps(self._known, indent=2).encode()
            with contextlib.suppress(StorageError):  # a full disk: next time
                publish.write_atomic(self._state, MOUNTS_FILE, data, replace=True)

    def missing(self, folder: str) -> str:
        """Say what is not mounted, and what to do; empty when all is as it was."""
        mount = self.of(folder)
        if not mount or places.is_mounted(mount):
            return ""
        return (
            f"Nothing is mounted on {mount}, where {folder} was. Mount it; if the folder has moved "
            f"for good, remove {os.path.join(self._state, MOUNTS_FILE)} and start nstd again."
        )
