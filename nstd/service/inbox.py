"""What lies in the inbox, and what of it has settled: the truth, where events are only hints.

Folders are read through descriptors and never through links, so that nothing outside the inbox is
looked at, and one bad folder never hides the others. Each scan costs one ``scandir`` per folder
and one ``stat`` per file; a file is opened only once it was quiet for long enough.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import structlog

from nstd.jobs import names
from nstd.jobs.inputs import InboxFile
from nstd.service import places, settling, synctools
from nstd.service.settling import Patience, Tracked

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_ENTRIES = 200_000
"""Entries of all folders that one scan reads: a flood beyond it waits for the next scans."""
MAX_FOLDERS = 5_000
FAIR_SHARE = 1_000
"""Entries that every folder gets read, however full the ones before it are."""
LOOKS_PER_SCAN = 1_000
"""Files opened in one scan, oldest first: 60,000 files that settle at once take turns."""
LOOK_RETRY_S = 30.0
MAX_REFUSED = 1_000

log = structlog.get_logger(__name__)

Taken = Callable[[InboxFile], bool]
Place = tuple[str, str]
"""(folder, name) of a file below the inbox."""

IGNORED_CLASSES = ("temp", "hidden", "system", "extension", "unsafe", "depth")


def _never(_file: InboxFile) -> bool:
    return False


@dataclass(frozen=True)
class Limits:
    """How far a scan goes."""

    max_depth: int = 4
    max_entries: int = MAX_ENTRIES
    looks: int = LOOKS_PER_SCAN


@dataclass
class Scan:
    """What one look at the whole inbox found."""

    at: float
    files: list[InboxFile] = field(default_factory=list)
    """Photographs and sidecars, settled or not, in the order in which they came."""
    taken: list[InboxFile] = field(default_factory=list)
    """Files that became jobs before and were left in place (copy intake)."""
    refused: list[InboxFile] = field(default_factory=list)
    """Links, pipes, devices: never read, left where they are, with the reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Entries that are left alone, by class."""
    newly_ignored: Counter[str] = field(default_factory=Counter)
    """The same, only of entries that no earlier scan has seen."""
    folders: list[str] = field(default_factory=list)
    """Folders that were read, as paths below the inbox; the inbox itself is ``""``."""
    problems: list[str] = field(default_factory=list)
    """Sentences about what could not be looked at."""
    present: bool = True
    """Whether the inbox was there at all; if not, everything else is empty."""
    replaced: bool = False
    """Whether the path leads to another folder than at the last scan."""
    fresh: int = 0
    """Files that no earlier scan has seen."""
    due: float | None = None
    """When the next file may settle; None: nothing is pending."""
    sync_tool: str | None = None
    """Whose marker lies in the inbox itself."""


class Inbox:
    """The inbox folder, looked at again and again; remembers what it saw, and for how long."""

    def __init__(
        self,
        path: str,
        *,
        patience: Patience | None = None,
        limits: Limits | None = None,
        taken: Taken = _never,
        mount: str = "",
    ) -> None:
        self.path = path
        self.mount = mount
        """Where the file system that holds the inbox is mounted, once that is known."""
        self.patience = patience or Patience()
        self.limits = limits or Limits()
        self.taken = taken
        """Tells which files were taken before and left in place (copy intake)."""
        self._tracked: dict[Place, Tracked] = {}
        self._passed_over: set[Place] = set()
        self._identity: places.Identity | None = None
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
            result.problems.append(f"The inbox {self.path} cannot be read: {error.strerror}.")
            return result
        try:
            self._note_identity(os.fstat(root), result)
            _Walk(self, root, result).run()
            self._line_up(now)
            self._look_at_quiet_ones(root, result)
        finally:
            os.close(root)
        return result

    def forget(self, files: Iterable[InboxFile]) -> None:
        """Stop waiting for files that were just admitted; in copy intake ``taken`` knows them."""
        for file in files:
            self._tracked.pop((file.folder, file.name), None)

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set: how long a file has been quiet does not change by it."""
        for tracked in self._tracked.values():
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
        if not again.file.settled and (tracked := self._tracked.get((file.folder, file.name))):
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
        result.replaced = self._identity is not None and self._identity != identity
        self._identity = identity

    def _look_at_quiet_ones(self, root: int, result: Scan) -> None:
        """Open the files that are due, oldest first, sidecars before photographs."""
        now, waiting = result.at, [t for t in self._tracked.values() if not t.file.settled]
        due = [tracked for tracked in waiting if tracked.next_look <= now]
        due.sort(key=_turn)
        for tracked in due[: self.limits.looks]:
            self._look(root, tracked, now, self.patience)
        result.due = min((t.next_look for t in waiting if not t.file.settled), default=None)
        for tracked in self._in_order():
            (result.taken if tracked.taken else result.files).append(tracked.file)

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

    def _in_order(self) -> list[Tracked]:
        return sorted(self._tracked.values(), key=lambda t: t.file.first_seen)

    def _line_up(self, now: float) -> None:
        """Tell files of one scan apart: they came in the order of their ctime, most likely."""
        new = [tracked for tracked in self._tracked.values() if tracked.file.first_seen == now]
        new.sort(key=lambda tracked: tracked.file.ctime_ns)
        for place, tracked in enumerate(new, 1 - len(new)):
            tracked.file = replace(tracked.file, first_seen=now + place * 1e-6)


def _turn(tracked: Tracked) -> tuple[bool, float]:
    file = tracked.file
    return (not names.is_sidecar_name(file.name), file.first_seen)


def open_beneath(root: int, folder: str, name: str) -> int:
    """Open a file below ``root`` for reading, through no link at any step; raises OSError."""
    descriptor = open_folder(root, folder)
    try:
        return os.open(name, settling.PROBE_FLAGS, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def open_folder(root: int, folder: str) -> int:
    """Open a folder below ``root``, through no link at any step; raises OSError."""
    descriptor = os.open(".", FOLDER_FLAGS, dir_fd=root)
    for part in filter(None, folder.split("/")):
        try:
            inner = os.open(part, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


class _Walk:
    """One pass through all folders, breadth first, within the limits."""

    def __init__(self, inbox: Inbox, root: int, result: Scan) -> None:
        self._inbox, self._root, self._result = inbox, root, result
        self._old = inbox._tracked  # noqa: SLF001 - the walk is a part of the inbox
        self._old_passed = inbox._passed_over  # noqa: SLF001
        self._new: dict[Place, Tracked] = {}
        self._passed: set[Place] = set()
        self._left = inbox.limits.max_entries
        self._queue: list[str] = [""]
        self._unread: list[str] = []

    def run(self) -> None:
        for folder in self._queue:  # grows while it is walked
            try:
                self._folder(folder)
            except Exception as error:  # noqa: BLE001 - one bad folder never hides the others
                self._unread.append(folder)
                reason = getattr(error, "strerror", None) or type(error).__name__
                where = names.shown(folder) or "The inbox"
                self._result.problems.append(f"{where} cannot be read: {reason}.")
        self._keep_unread()
        self._inbox._tracked = self._new  # noqa: SLF001
        self._inbox._passed_over = self._passed  # noqa: SLF001

    def _keep_unread(self) -> None:
        """Remember what lay in folders that cannot be read just now, without offering it."""
        for folder in self._unread:
            for place, tracked in self._old.items():
                if place[0] == folder and place not in self._new and not tracked.taken:
                    tracked.quiet_since = tracked.next_look = self._result.at
                    tracked.next_look += self._inbox.patience.settle_s
                    tracked.file = settling.unsettle(tracked.file, "its folder cannot be read")
                    self._new[place] = tracked

    def _folder(self, folder: str) -> None:
        descriptor = open_folder(self._root, folder)
        try:
            self._result.folders.append(folder)
            with os.scandir(descriptor) as entries:
                self._entries(folder, entries)
        finally:
            os.close(descriptor)

    def _entries(self, folder: str, entries: Iterable[os.DirEntry[str]]) -> None:
        share = max(self._left, FAIR_SHARE)
        for number, entry in enumerate(entries):
            if number >= share:
                where = names.shown(folder) or "The inbox"
                self._result.problems.append(f"{where} holds too many files to look at at once.")
                break
            self._left -= 1
            self._entry(folder, entry)

    def _entry(self, folder: str, entry: os.DirEntry[str]) -> None:
        if (folder, entry.name) in self._old:  # its name was judged when it came
            self._file(folder, entry)
            return
        if not folder and entry.name.startswith(".") and self._result.sync_tool is None:
            self._result.sync_tool = synctools.tool_of((entry.name,))
        is_dir = entry.is_dir(follow_symlinks=False)
        kind = names.classify(entry.name, is_dir=is_dir)
        if kind != "ok":
            self._ignore(kind, folder, entry.name)
        elif is_dir:
            self._descend(folder, entry.name)
        else:
            self._file(folder, entry)

    def _descend(self, folder: str, name: str) -> None:
        depth = folder.count("/") + 1 if folder else 0
        if depth >= self._inbox.limits.max_depth or len(self._queue) >= MAX_FOLDERS:
            self._ignore("depth", folder, name)
        else:
            self._queue.append(f"{folder}/{name}" if folder else name)

    def _file(self, folder: str, entry: os.DirEntry[str]) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return  # gone between the two calls
        why = _unsafe(found)
        if why:
            self._refuse(folder, entry.name, found, why)
        else:
            self._track(folder, entry.name, found)

    def _refuse(self, folder: str, name: str, found: os.stat_result, why: str) -> None:
        self._ignore("unsafe", folder, name)
        if len(self._result.refused) < MAX_REFUSED:
            now = self._result.at
            file = settling.track(folder, name, found, now, 0).file
            self._result.refused.append(replace(file, settled=True, why=why))

    def _track(self, folder: str, name: str, found: os.stat_result) -> None:
        place, now = (folder, name), self._result.at
        tracked = self._old.get(place)
        if tracked is None or not settling.same(tracked.file, found):
            self._result.fresh += tracked is None
            tracked = settling.track(folder, name, found, now, self._inbox.patience.settle_s)
            if self._inbox.taken(tracked.file):
                tracked.taken, tracked.file = True, replace(tracked.file, settled=True)
        elif now < tracked.quiet_since + self._inbox.patience.settle_s:
            settling.describe_wait(tracked, now)
        self._new[place] = tracked

    def _ignore(self, kind: str, folder: str, name: str) -> None:
        if kind == "temp" and name.startswith(".nstd-"):
            return  # our own, gone in a moment
        self._result.ignored[kind] += 1
        place = (folder, name)
        self._passed.add(place)
        if place not in self._old_passed:
            self._result.newly_ignored[kind] += 1


def _unsafe(found: os.stat_result) -> str:
    """Say why an entry is refused whatever it contains; empty for an ordinary file."""
    if stat.S_ISLNK(found.st_mode):
        return "a link is never followed; put the file itself here"
    if stat.S_ISFIFO(found.st_mode):
        return "a pipe is not a photograph; remove it"
    if not stat.S_ISREG(found.st_mode):
        return "a device or socket is not a photograph; remove it"
    if found.st_nlink > 1:
        return "the same file has a second name elsewhere (a hard link); put a copy here"
    return ""
