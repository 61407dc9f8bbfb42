"""What lies in the inbox, and what of it has settled: the truth, where events are only hints.

Each scan costs one ``scandir`` per folder and one ``stat`` per file; a file is opened only once it
was quiet for long enough.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import structlog

from nstd.errors import NstdError
from nstd.jobs import names
from nstd.jobs.inputs import InboxFile
from nstd.service import places, settling
from nstd.service.settling import Patience, Tracked
from nstd.service.walk import (
    FOLDER_FLAGS,
    Limits,
    Memory,
    Scan,
    Taken,
    Walk,
    WalkRules,
    open_beneath,
)

__all__ = ["Inbox", "Limits", "Scan"]

LOOK_RETRY_S = 30.0
SCANS_FOR_A_FLOOD = 10
"""In so many scans every file that is due is looked into, however many there are."""

log = structlog.get_logger(__name__)


def _never(_file: InboxFile) -> bool:
    return False


class Inbox:
    """The inbox folder, looked at again and again; remembers what it saw, and for how long."""

    def __init__(
        self,
        path: str,
        *,
        patience: Patience | None = None,
        limits: Limits | None = None,
        taken: Taken = _never,
        recognises: Taken = _never,
        mount: str = "",
    ) -> None:
        self.path = path
        self.mount = mount
        """Where the file system that holds the inbox is mounted, once that is known."""
        self.patience = patience or Patience()
        self.limits = limits or Limits()
        self.taken = taken
        """Tells which files were taken before and left in place (copy intake)."""
        self.recognises = recognises
        """Tells it of a file that has settled with other times than it was taken with."""
        self._memory = Memory()
        self._identity: places.Identity | None = None
        self._seen = False
        self._last = float("-inf")

    def scan(self, now: float) -> Scan:
        """Look at everything once; never raises for what lies in the inbox, or for its absence."""
        if now < self._last:
            self.shift(now - self._last)
        self._last = now
        result = Scan(now)
        try:
            root = self._open()
        except OSError as error:
            result.present = False
            self._identity = None
            result.problems.append(f"The inbox {self.path} cannot be read: {error.strerror}.")
            return result
        try:
            self._note_identity(os.fstat(root), result)
            rules = WalkRules(self.patience.settle_s, self.limits, self.taken)
            self._memory = Walk(root, result, self._memory, rules).run()
            self._line_up(now)
            self._look_at_quiet_ones(root, result)
        finally:
            os.close(root)
        return result

    def forget(self, files: Iterable[InboxFile]) -> None:
        """Stop waiting for files that were just admitted; in copy intake ``taken`` knows them."""
        for file in files:
            self._memory.tracked.pop((file.folder, file.name), None)

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set: how long a file has been quiet does not change by it."""
        for tracked in self._memory.tracked.values():
            tracked.shift(seconds)

    def still_ready(self, file: InboxFile) -> bool:
        """Look once more, just before admission: unchanged, and nobody has begun to write."""
        again = Tracked(settling.unsettle(file, ""), quiet_since=self._last, next_look=self._last)
        try:
            root = os.open(self.path, FOLDER_FLAGS)
        except OSError:
            return False
        try:
            self._look(root, again, self._last, Patience(0, 0))
        finally:
            os.close(root)
        if not again.file.settled and (
            tracked := self._memory.tracked.get((file.folder, file.name))
        ):
            tracked.file, tracked.next_look = again.file, again.next_look
        return again.file.settled

    def _open(self) -> int:
        """Open the inbox; an empty mountpoint is not an empty inbox."""
        if not self.mount_is_there():
            raise OSError(errno.ENODEV, f"nothing is mounted on {self.mount}")
        root = os.open(self.path, FOLDER_FLAGS)
        if not self.mount:
            self.mount = places.mount_root(self.path)
        return root

    def mount_is_there(self) -> bool:
        """Whether the file system of the inbox is mounted, as far as is known."""
        return not self.mount or places.is_mounted(self.mount)

    def _note_identity(self, found: os.stat_result, result: Scan) -> None:
        identity = places.Identity(found.st_dev, found.st_ino)
        result.replaced = self._seen and self._identity != identity
        self._seen = True
        self._identity = identity

    def _look_at_quiet_ones(self, root: int, result: Scan) -> None:
        """Open the files that are due, oldest first, sidecars before photographs."""
        now, waiting = result.at, [t for t in self._memory.tracked.values() if not t.file.settled]
        due = _in_turn([tracked for tracked in waiting if tracked.next_look <= now])
        share = -(-len(self._memory.tracked) // SCANS_FOR_A_FLOOD)
        for tracked in due[: max(self.limits.looks, share)]:
            self._look(root, tracked, now, self.patience)
            if tracked.file.settled:
                self._recognise(tracked, now)
        result.due = min((t.next_look for t in waiting if not t.file.settled), default=None)
        for tracked in self._in_order():
            (result.taken if tracked.file.taken else result.files).append(tracked.file)

    @staticmethod
    def _look(root: int, tracked: Tracked, now: float, patience: Patience) -> None:
        file = tracked.file
        try:
            settling.judge(
                tracked, lambda: open_beneath(root, file.folder, file.name), now, patience
            )
        except Exception:  # one bad file never stops the others
            log.exception("inbox.look_failed", file=names.shown(file.path))
            tracked.next_look = now + LOOK_RETRY_S
            tracked.file = settling.unsettle(file, "could not be looked at; see the log")

    def _recognise(self, tracked: Tracked, now: float) -> None:
        """Mark what was taken before; what changes meanwhile, or resists, is looked at again."""
        try:
            if self.recognises(tracked.file):
                tracked.file = replace(tracked.file, taken=True)
        except NstdError as error:
            tracked.next_look = now + LOOK_RETRY_S
            tracked.file = settling.unsettle(tracked.file, error.message)

    def _in_order(self) -> list[Tracked]:
        return sorted(self._memory.tracked.values(), key=lambda t: t.file.first_seen)

    def _line_up(self, now: float) -> None:
        """Tell files of one scan apart: they came in the order of their ctime, most likely."""
        new = [
            tracked for tracked in self._memory.tracked.values() if tracked.file.first_seen == now
        ]
        new.sort(key=lambda tracked: tracked.file.ctime_ns)
        for place, tracked in enumerate(new, 1 - len(new)):
            tracked.file = replace(tracked.file, first_seen=now + place * 1e-6)


def _in_turn(due: list[Tracked]) -> list[Tracked]:
    """Order files: sidecars before all, then by turns of their folders, each's oldest first."""
    before: Counter[str] = Counter()
    turns: dict[int, tuple[bool, int]] = {}
    due = sorted(due, key=lambda tracked: tracked.file.first_seen)
    for tracked in due:
        file = tracked.file
        turns[id(tracked)] = (not names.is_sidecar_name(file.name), before[file.folder])
        before[file.folder] += 1
    return sorted(due, key=lambda tracked: turns[id(tracked)])
