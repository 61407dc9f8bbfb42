"""One pass through the folders of the inbox: what is there, what is new, what is left alone.

Folders are read through descriptors and never through links, so that nothing outside the inbox is
looked at, and one bad folder never hides the others.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from nstd.jobs import names
from nstd.jobs.inputs import InboxFile
from nstd.service import settling, synctools
from nstd.service.settling import Tracked

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_ENTRIES = 200_000
"""Entries of all folders that one scan reads: a flood beyond it waits for the next scans."""
MAX_FOLDERS = 5_000
FAIR_SHARE = 1_000
"""Entries that every folder gets read, however full the ones before it are."""
LOOKS_PER_SCAN = 1_000
"""Files opened in one scan, oldest first: 60,000 files that settle at once take turns."""
MAX_REFUSED = 1_000
MAX_NO_IMAGES = 10

Taken = Callable[[InboxFile], bool]
Place = tuple[str, str]
"""(folder, name) of a file below the inbox."""

IGNORED_CLASSES = ("temp", "hidden", "system", "extension", "unsafe", "depth")


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
    left: list[str] = field(default_factory=list)
    """Paths of such files that the last scan saw, and that are gone."""
    refused: list[InboxFile] = field(default_factory=list)
    """Links, pipes, devices: never read, left where they are, with the reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Entries that are left alone, by class."""
    no_images: list[str] = field(default_factory=list)
    """Paths of some of them: files of no image type, which somebody may look for in vain."""
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


@dataclass
class Memory:
    """What one pass remembers for the next."""

    tracked: dict[Place, Tracked] = field(default_factory=dict)
    passed_over: set[Place] = field(default_factory=set)


@dataclass(frozen=True)
class WalkRules:
    """What a pass has to know."""

    settle_s: float
    limits: Limits
    taken: Taken


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


class Walk:
    """One pass through all folders, breadth first, within the limits."""

    def __init__(self, root: int, result: Scan, before: Memory, rules: WalkRules) -> None:
        self._root, self._result, self._rules = root, result, rules
        self._old, self._old_passed = before.tracked, before.passed_over
        self._new: dict[Place, Tracked] = {}
        self._passed: set[Place] = set()
        self._left = rules.limits.max_entries
        self._queue: list[str] = [""]
        self._unread: list[str] = []

    def run(self) -> Memory:
        """Read every folder, and return what is to be remembered of it."""
        for folder in self._queue:  # grows while it is walked
            try:
                self._folder(folder)
            except Exception as error:  # noqa: BLE001 - one bad folder never hides the others
                self._unread.append(folder)
                reason = getattr(error, "strerror", None) or type(error).__name__
                where = names.shown(folder) or "The inbox"
                self._result.problems.append(f"{where} cannot be read: {reason}.")
        self._keep_unread()
        self._note_left()
        return Memory(self._new, self._passed)

    def _keep_unread(self) -> None:
        """Remember what lay in folders that cannot be read just now, without offering it."""
        for folder in self._unread:
            for place, tracked in self._old.items():
                if place[0] == folder and place not in self._new and not tracked.file.taken:
                    tracked.quiet_since = tracked.next_look = self._result.at
                    tracked.next_look += self._rules.settle_s
                    tracked.file = settling.unsettle(tracked.file, "its folder cannot be read")
                    self._new[place] = tracked

    def _note_left(self) -> None:
        for place, tracked in self._old.items():
            if tracked.file.taken and place not in self._new and place[0] not in self._unread:
                self._result.left.append(tracked.file.path)

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
        is_dir = entry.is_dir(follow_symlinks=False)
        if not is_dir and (folder, entry.name) in self._old:  # its name was judged when it came
            self._file(folder, entry)
            return
        if not folder and entry.name.startswith(".") and self._result.sync_tool is None:
            self._result.sync_tool = synctools.tool_of((entry.name,))
        kind = names.classify(entry.name, is_dir=is_dir)
        if kind != "ok":
            self._ignore(kind, folder, entry.name)
        elif is_dir:
            self._descend(folder, entry.name)
        else:
            self._file(folder, entry)

    def _descend(self, folder: str, name: str) -> None:
        depth = folder.count("/") + 1 if folder else 0
        if depth >= self._rules.limits.max_depth or len(self._queue) >= MAX_FOLDERS:
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
            # Not tracked from scan to scan: its own clock says since when it is as it is.
            since = min(self._result.at, found.st_ctime)
            file = settling.track(folder, name, found, since, 0).file
            self._result.refused.append(replace(file, settled=True, why=why))

    def _track(self, folder: str, name: str, found: os.stat_result) -> None:
        place, now = (folder, name), self._result.at
        tracked = self._old.get(place)
        if tracked is None or not settling.same(tracked.file, found):
            self._result.fresh += tracked is None
            tracked = settling.track(folder, name, found, now, self._rules.settle_s)
            if self._rules.taken(tracked.file):
                tracked.file = replace(tracked.file, settled=True, taken=True)
        elif now < tracked.quiet_since + self._rules.settle_s:
            settling.describe_wait(tracked, now)
        self._new[place] = tracked

    def _ignore(self, kind: str, folder: str, name: str) -> None:
        if kind == "temp" and name.startswith(".nstd-"):
            return  # our own, gone in a moment
        self._result.ignored[kind] += 1
        if kind == "extension" and len(self._result.no_images) < MAX_NO_IMAGES:
            self._result.no_images.append(f"{folder}/{name}" if folder else name)
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
