"""When a file counts as written: quiet for long enough, no writer, and its end is there.

Quiet is judged by size, mtime *and* ctime: ``cp -p``, rsync and Syncthing set an old mtime, and
Explorer sets the final size first. A missing end only lengthens the wait.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from nstd.jobs.inputs import InboxFile
from nstd.photo.completeness import completeness
from nstd.photo.names import is_image_name
from nstd.service import lease

PROBE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
WRITER_RETRY_S = 1.0
"""A file that is open for writing is looked at again after so long."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a file."""

    settle_s: float = 2.0
    incomplete_timeout_s: float = 30.0


@dataclass(slots=True)
class Tracked:
    """One file of the inbox, from its first sight until it leaves."""

    file: InboxFile
    quiet_since: float
    """When it was last seen to change, on the caller's clock."""
    next_look: float
    """Not before then can the verdict be another."""

    @property
    def due(self) -> float | None:
        """When to look again; None once it has settled."""
        return None if self.file.settled else self.next_look

    def shift(self, seconds: float) -> None:
        """Move all instants, after the caller's clock was set."""
        self.quiet_since += seconds
        self.next_look += seconds
        self.file = replace(self.file, first_seen=self.file.first_seen + seconds)


def track(folder: str, name: str, found: os.stat_result, now: float, settle_s: float) -> Tracked:
    """Begin to wait for a file in the state in which it was just found."""
    file = InboxFile(
        folder=folder,
        name=name,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        dev=found.st_dev,
        inode=found.st_ino,
        first_seen=now,
        settled=False,
        why="has just come, and may still be written",
    )
    return Tracked(file, quiet_since=now, next_look=now + settle_s)


def same(file: InboxFile, found: os.stat_result) -> bool:
    """Tell whether the file is still what it was: the same inode in the same state."""
    return (
        file.ctime_ns == found.st_ctime_ns
        and file.size == found.st_size
        and file.mtime_ns == found.st_mtime_ns
        and file.inode == found.st_ino
        and file.dev == found.st_dev
    )


def unsettle(file: InboxFile, why: str) -> InboxFile:
    """Return the file as one that may not be taken, with the reason."""
    return replace(file, settled=False, why=why)


def describe_wait(tracked: Tracked, now: float) -> None:
    """Say how long ago a file that is not quiet yet has changed."""
    ago = max(0, round(now - tracked.quiet_since))
    tracked.file = replace(tracked.file, why=f"still being written: changed {ago} s ago")


def judge(tracked: Tracked, open_file: Callable[[], int], now: float, patience: Patience) -> None:
    """Look at a file that was quiet for ``settle_s``, and set its verdict or its next look.

    It is opened once, never blocking and never through a link, and closed before this returns.
    """
    try:
        descriptor = open_file()
    except OSError as error:
        tracked.next_look = now + max(patience.settle_s, WRITER_RETRY_S)
        tracked.file = replace(tracked.file, why=_unreadable(error))
        return
    try:
        _judge_open(tracked, descriptor, now, patience)
    finally:
        os.close(descriptor)


def _judge_open(tracked: Tracked, descriptor: int, now: float, patience: Patience) -> None:
    found = os.fstat(descriptor)
    if not same(tracked.file, found):
        tracked.quiet_since, tracked.next_look = now, now + patience.settle_s
        tracked.file = replace(tracked.file, why="still being written: it has just changed")
        return
    if lease.writers(descriptor) == "some":
        tracked.next_look = now + WRITER_RETRY_S
        tracked.file = replace(tracked.file, why="open for writing by another program")
        return
    missing = _missing(descriptor, tracked.file)
    deadline = tracked.quiet_since + patience.settle_s + patience.incomplete_timeout_s
    if not missing or now >= deadline:
        tracked.file = replace(tracked.file, settled=True, why=missing)
        return
    tracked.next_look = min(deadline, now + max(patience.settle_s, WRITER_RETRY_S))
    left = max(1, round(deadline - now))
    tracked.file = replace(tracked.file, why=f"{missing}; waiting {left} s more for the rest")


def _missing(descriptor: int, file: InboxFile) -> str:
    """Say what a file lacks to be whole; empty when it is, or when nobody can tell."""
    if not is_image_name(file.name):
        return "" if file.size else "it is empty so far"
    verdict = completeness(descriptor, file.size, file.name)
    return "" if verdict.complete else verdict.why


def _unreadable(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "nstd may not read this file; give it read permission"
    return f"cannot be opened ({os.strerror(error.errno or errno.EIO)}); trying again"
