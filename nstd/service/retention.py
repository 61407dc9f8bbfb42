"""Housekeeping: what is too old or too much goes, in small slices between the loop's other work.

Everything is off by default. Pictures are never removed; a report only if it is one of ours; the
failed folder loses only folders that bear a job's id.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nstd.errors import StorageError
from nstd.jobs import publish
from nstd.service.house import House
from nstd.service.logs import logger

EVERY_S = 3600.0
SLICE_S = 0.05
DAY_S = 86_400.0
OUR_KEYS = {"report", "job", "inputs", "parameters"}
MAX_REPORT_BYTES = 16 * 2**20
JOB_FOLDER = re.compile(r".+-\d{8}-\d{6}-[0-9a-z]{6}")

Task = Iterator[None]
"""Work that can be left and taken up again at each of its yields."""


@dataclass(frozen=True)
class Entry:
    """A file, or a failed job's folder, that may go."""

    path: str
    """Below the folder that is tidied."""
    at: float
    size: int


class Retention:
    """Tidies once an hour, a slice per tick."""

    def __init__(self, house: House, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._house, self._clock = house, clock
        self._next = float("-inf")
        self._task: Task | None = None

    def look(self, now: float) -> None:
        """Go on for a slice, or begin where it is time."""
        if self._task is None:
            if now < self._next:
                return
            self._next = now + EVERY_S
            self._task = self._all(now)
        until = self._clock() + SLICE_S
        for _ in self._task:
            if self._clock() > until:
                return
        self._task = None

    def _all(self, now: float) -> Task:
        rules, folders = self._house.config.retention, self._house.config.folders
        if rules.reports_days is not None and self._is_there("outbox"):
            before = now - rules.reports_days * DAY_S
            yield from _tidy_reports(str(folders.outbox), before)
        if self._is_there("originals"):
            limits = rules.originals_days, rules.originals_max_bytes
            yield from _tidy(str(folders.originals), _files, limits, now)
        if self._is_there("failed"):
            limits = rules.failed_days, rules.failed_max_bytes
            yield from _tidy(str(folders.failed), _job_folders, limits, now)
        yield from self._tidy_ledger(now)

    def _is_there(self, name: str) -> bool:
        """Whether the folder's file system is mounted: nothing is judged by an empty one."""
        with contextlib.suppress(StorageError):
            self._house.require(name)
            return True
        return False

    def _tidy_ledger(self, now: float) -> Task:
        rules, ledger = self._house.config.retention, self._house.ledger
        if rules.ledger_days is not None or rules.ledger_max_jobs is not None:
            days = rules.ledger_days
            before = None if days is None else now - days * DAY_S
            _say("ledger", ledger.prune(before=before, keep=rules.ledger_max_jobs))
        yield
        inbox = str(self._house.config.folders.inbox)
        if os.path.isdir(inbox) and self._is_there("inbox"):
            ledger.forget_taken(lambda path: not os.path.lexists(os.path.join(inbox, path)))
        yield


def _tidy_reports(outbox: str, before: float) -> Task:
    removed = 0
    for root, name, found in _walk(outbox):
        yield
        old = name.endswith(".json") and found.st_mtime < before
        if old and _is_our_report(root, name):
            removed += _unlink(root, name)
    _say("outbox", removed)


def _is_our_report(folder: int, name: str) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError, ValueError, RecursionError):
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                report = json.loads(file.read(MAX_REPORT_BYTES))
            return isinstance(report, dict) and report.keys() >= OUR_KEYS
        finally:
            os.close(descriptor)
    return False


def _tidy(
    folder: str,
    entries: Callable[[str], Iterator[Entry | None]],
    limits: tuple[float | None, int | None],
    now: float,
) -> Task:
    """Remove what is older than so many days, and the oldest beyond so many bytes."""
    days, max_bytes = limits
    if days is None and max_bytes is None:
        return
    found: list[Entry] = []
    for entry in entries(folder):
        yield
        if entry is not None:
            found.append(entry)
    total = sum(entry.size for entry in found)
    removed = 0
    for entry in sorted(found, key=lambda entry: entry.at):
        yield
        too_old = days is not None and entry.at < now - days * DAY_S
        too_much = max_bytes is not None and total > max_bytes
        if not (too_old or too_much):
            break
        with contextlib.suppress(OSError), publish.directory(folder) as root:
            _remove(root, entry.path)
            removed += 1
        total -= entry.size
    _say(folder, removed)


def _remove(root: int, path: str) -> None:
    """Remove an entry through no link, and the folders that it leaves empty."""
    above, _, name = path.rpartition("/")
    with contextlib.ExitStack() as stack:
        here = root
        for part in filter(None, above.split("/")):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            here = os.open(part, flags, dir_fd=here)
            stack.callback(os.close, here)
        publish.remove_tree(here, name)
    with contextlib.suppress(OSError):  # not empty: somebody else's files stay
        while above:
            os.rmdir(above, dir_fd=root)
            above = above.rpartition("/")[0]


def _files(folder: str) -> Iterator[Entry | None]:
    for _root, path, found in _walk(folder, with_path=True):
        yield Entry(path, found.st_mtime, found.st_size)


def _job_folders(folder: str) -> Iterator[Entry | None]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if not JOB_FOLDER.fullmatch(name):
            continue
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                size = sum(status.st_size for _, _, status in _walk(path))
                yield Entry(name, found.st_mtime, size)
        yield None


def _walk(folder: str, *, with_path: bool = False) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield (descriptor of its folder, name or path below ``folder``, status) of regular files."""
    for top, _folders, names, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    path = os.path.relpath(os.path.join(top, name), folder)
                    yield descriptor, path if with_path else name, found


def _unlink(folder: int, name: str) -> int:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
        return 1
    return 0


def _say(where: str, removed: int) -> None:
    if removed:
        logger().info("Tidied up.", where=where, removed=removed)
