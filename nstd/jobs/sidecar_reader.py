"""Sidecars read once: grouping looks at the same files again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nstd.errors import SidecarError
from nstd.jobs.inputs import InboxFile
from nstd.jobs.sidecar import Sidecar, parse_sidecar
from nstd.jobs.taken import identity


class SidecarReader:
    """Reads and parses a sidecar the first time it is asked for in its present state."""

    def __init__(self, read: Callable[[InboxFile], bytes]) -> None:
        self._read = read
        self._known: dict[str, tuple[str, Sidecar | SidecarError | None]] = {}

    def __call__(self, file: InboxFile) -> Sidecar | None:
        """Return the sidecar, or None when it is nobody's.

        Raises SidecarError for a bad one, ChangedError or StorageError for one to try again.
        """
        state = identity(file)
        known = self._known.get(file.path)
        if known is None or known[0] != state:
            known = (state, self._parse(file))
            self._known[file.path] = known
        if isinstance(known[1], SidecarError):
            raise known[1]
        return known[1]

    def _parse(self, file: InboxFile) -> Sidecar | SidecarError | None:
        try:
            return parse_sidecar(self._read(file), file.name)
        except SidecarError as error:
            return error

    def keep_only(self, files: Iterable[InboxFile]) -> None:
        """Forget files that are not among these."""
        paths = {file.path for file in files}
        self._known = {path: known for path, known in self._known.items() if path in paths}
