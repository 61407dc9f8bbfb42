"""From the inbox into the queue: look, group what has settled, admit while there is room."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nstd.errors import NoSpaceError, StorageError
from nstd.jobs.grouping import (
    Candidate,
    Grouping,
    InboxFile,
    LibraryStyle,
    Rules,
    SidecarReader,
    Waiting,
    group,
)
from nstd.jobs.intake import ChangedError
from nstd.jobs.job import Intake, Job
from nstd.service import synctools
from nstd.service.ending import FIRST_PAUSE_S, LONGEST_PAUSE_S, Endings
from nstd.service.house import House
from nstd.service.inbox import Inbox, Scan
from nstd.service.logs import job_context, logger
from nstd.service.menu import Menu
from nstd.service.watcher import Watcher, sweep_canaries

MIN_GAP_S = 0.2
GAP_PER_SCAN = 9.0
"""Between two scans, so many times the last one's work: looking takes a tenth of a processor."""
OWNER_S = 60.0
"""How often the folders above the inbox are asked whether a sync tool owns it."""
ADMIT_S = 1.0
"""So long does one tick copy files into the spool before it looks at the workers again."""
RESTING_S = 30.0
ADMISSION = "admission"
EMPTY = Grouping((), (), Counter())


@dataclass(frozen=True)
class Resting:
    """A job that could not be taken in, for a reason of its own."""

    candidate: Candidate
    until: float
    reason: str


class Gathering:
    """Knows what lies in the inbox and takes from it, oldest and most urgent first."""

    def __init__(self, house: House, endings: Endings, inbox: Inbox, watcher: Watcher) -> None:
        self._house, self._endings = house, endings
        self.inbox, self.watcher = inbox, watcher
        self.scan = Scan(0.0, present=False)
        self.scanned = False
        """Whether a first look at the inbox has been taken."""
        self.grouping = EMPTY
        self._menu = Menu(house)
        self.sync_tool: str | None = None
        self._next_scan = self._next_owner = float("-inf")
        self._sidecars = SidecarReader(house.spool.read)
        self._queue: list[Candidate] = []
        self._grouped: list[InboxFile] = []
        self._regroup_at = float("-inf")
        self._counted: set[tuple[str, int]] = set()
        self._resting: dict[str, Resting] = {}
        """Title of a job that could not be taken in → when to try again."""
        self._refused_before: set[str] = set()
        self._refused_told: set[str] = set()
        self._waiting: list[Waiting] = []
        self._waiting_state: tuple[object, ...] = ()
        self._not_before = float("-inf")
        self._pause = FIRST_PAUSE_S

    @property
    def rules(self) -> Rules:
        """What the configuration says about grouping."""
        config = self._house.config
        return Rules(
            pair_timeout_s=config.inbox.pair_timeout_s,
            default_style=config.inbox.default_style,
            defaults=config.defaults.given(),
            max_file_bytes=config.inbox.max_file_bytes,
        )

    @property
    def library(self) -> Mapping[str, LibraryStyle]:
        """The styles, as last read."""
        return self._menu.library

    def fresh_library(self, now: float) -> Mapping[str, LibraryStyle]:
        """Return the styles as they are now: who mends one and tries again is not made to wait."""
        self._menu.read_again()
        if self._menu.refresh(now):
            self._regroup_at = now
        return self._menu.library

    # --- look --------------------------------------------------------------------------------

    @property
    def mode(self) -> Intake:
        """How files are taken in: as configured, or as the folder's owner demands."""
        intake = self._house.config.inbox.intake
        if intake != "auto":
            return intake
        return "copy" if self.sync_tool else "move"

    @property
    def due(self) -> float:
        """When the next look is due, if nothing happens before."""
        settling = self.scan.due if self.scan.due is not None else float("inf")
        return max(self._next_scan, min(settling, self._regular))

    @property
    def earliest(self) -> float:
        """Before then no look is taken, whatever happens."""
        return self._next_scan

    def regroup(self) -> None:
        """Group anew at the next look, which is soon: the rules have changed."""
        self._look_again(self._house.now())

    @property
    def _regular(self) -> float:
        return self.scan.at + self._house.config.inbox.scan_interval_s

    def look(self, now: float) -> bool:
        """Look through the inbox if it is time, and group what lies there; False if it is not."""
        hinted = self.watcher.hinted
        if now < self._next_scan or not (hinted or not self.scanned or now >= self.due):
            return False
        self.watcher.take_hint()
        began, busy = self._house.now(), time.thread_time()
        if self._menu.refresh(now):
            self._regroup_at = now
        self._find_owner(now)
        self.scan = self.inbox.scan(now)
        if self.scan.left:
            self._house.ledger.left_the_inbox(self.scan.left)
        self.sync_tool = self.scan.sync_tool or self.sync_tool
        self._note_scan(now, began, hinted=hinted)
        self.watcher.canary = self.mode == "move"
        self.watcher.check(now, folders=self.scan.folders, replaced=self.scan.replaced)
        if self.mode == "move" and self.scan.present:
            self._menu.lay_out(self.inbox.path, self.scan)
        self._group(now)
        spent = self._house.now() - began  # waiting for a slow disk counts once, our work more
        gap = max(MIN_GAP_S, spent, GAP_PER_SCAN * (time.thread_time() - busy))
        self._next_scan = now + gap
        return True

    def _note_scan(self, now: float, began: float, *, hinted: bool) -> None:
        metrics, scan = self._house.metrics, self.scan
        metrics.scanned(now, self._house.now() - began, len(scan.files))
        for kind, count in scan.newly_ignored.items():
            metrics.ignored(kind, count)
        if self.scanned and scan.fresh and not hinted and self.watcher.health.mode == "events":
            metrics.watch_missed(scan.fresh)
        self._tell_refused()
        if not self.scanned and self.mode == "move":
            sweep_canaries(self.inbox.path, scan.folders)
        self.scanned = True
        if scan.present:
            self._house.pauses.clear("unmounted")
        else:
            self._house.pauses.set("unmounted", "unmounted", scan.problems[0], blocks=False)
            self._restore_inbox()

    def _tell_refused(self) -> None:
        """Log what is left in the inbox, at second sight: a link may be a producer's last step."""
        refused = {file.path: file.why for file in self.scan.refused}
        for path in self._refused_before & (refused.keys() - self._refused_told):
            logger().warning("A file is left where it is.", name=path, reason=refused[path])
            self._refused_told.add(path)
        self._refused_before = set(refused)
        self._refused_told &= refused.keys()

    def _restore_inbox(self) -> None:
        """Make the inbox anew where somebody deleted it; not where its file system is away."""
        if not self.inbox.mount_is_there():
            return
        with contextlib.suppress(OSError):
            os.mkdir(self.inbox.path, 0o777)
            logger().warning("The inbox was gone; it is made anew.", path=self.inbox.path)

    def _find_owner(self, now: float) -> None:
        if now >= self._next_owner:
            self._next_owner = now + OWNER_S
            before, self.sync_tool = self.sync_tool, synctools.owner_of(self.inbox.path)
            if self.sync_tool and self.sync_tool != before:
                tool = self.sync_tool
                logger().info("A sync tool owns the inbox.", tool=tool, intake=self.mode)

    # --- group -------------------------------------------------------------------------------

    def _group(self, now: float) -> None:
        files = self._files()
        if now < self._regroup_at and _same_objects(files, self._grouped):
            return
        self._sidecars.keep_only(files)
        grouping = group(
            files, read_sidecar=self._sidecars, library=self.library, rules=self.rules, now=now
        )
        self._grouped, self.grouping = files, grouping
        self._queue = list(reversed(self.grouping.candidates))
        known = {candidate.title for candidate in self._queue}
        self._resting = {title: each for title, each in self._resting.items() if title in known}
        deadlines = [w.deadline for w in self.grouping.waiting if w.deadline is not None]
        self._regroup_at = min(deadlines, default=float("inf"))
        self._count_ignored()

    def _files(self) -> list[InboxFile]:
        """Return what to group: in copy intake also taken files that a new one may name."""
        if not self.scan.taken:
            return self.scan.files
        busy = {file.folder for file in self.scan.files}
        taken = (replace(file, taken=True) for file in self.scan.taken if file.folder in busy)
        return [*self.scan.files, *taken]

    def _count_ignored(self) -> None:
        now_there = {(file.path, file.ctime_ns) for file in self.grouping.ignored_files}
        for _ in now_there - self._counted:
            self._house.metrics.ignored("sidecar")
        self._counted = now_there

    # --- admit -------------------------------------------------------------------------------

    @property
    def candidates(self) -> int:
        """How many jobs lie in the inbox for want of room in the queue."""
        return len(self._queue)

    def admit(self, now: float) -> bool:
        """Take jobs in, most urgent first, while there is room; True when there is more to do."""
        if now < self._not_before or self._house.pauses.but_for(ADMISSION):
            return False
        room = self._house.config.queue.capacity_jobs - sum(self._house.ledger.pending().values())
        until = self._house.now() + ADMIT_S
        while self._queue and room > 0 and now >= self._not_before:
            if self._house.now() > until:
                return True
            room -= self._take(self._queue.pop(), now)
        return False

    def _take(self, candidate: Candidate, now: float) -> bool:
        """Admit one job; False when it cannot be had just now."""
        resting = self._resting.get(candidate.title)
        if resting is not None and now < resting.until:
            self._regroup_at = min(self._regroup_at, resting.until)
            return False
        try:
            if not all(self.inbox.still_ready(file) for file in candidate.files):
                self._look_again(now)
                return False
            job = self._house.spool.admit(candidate, self.mode, self.library)
        except ChangedError as error:
            logger().info("A file has changed; it settles anew.", error=str(error))
            self._look_again(now)
            return False
        except StorageError as error:
            self._refused(candidate, error, now)
            return False
        self._admitted(candidate, job)
        return True

    def _admitted(self, candidate: Candidate, job: Job) -> None:
        self._pause = FIRST_PAUSE_S
        self._house.pauses.clear(ADMISSION)
        self._resting.pop(candidate.title, None)
        self.inbox.forget(each.file for each in candidate.inputs if not each.stays)
        with job_context(job.id):
            logger().info("Job admitted.", name=job.title, style=job.style)
            if candidate.error is not None:
                self._endings.fail(job, candidate.error)

    def _refused(self, candidate: Candidate, error: StorageError, now: float) -> None:
        """Wait for room on a full disk; let one file that cannot be read wait alone."""
        if isinstance(error, NoSpaceError):
            self._queue.append(candidate)
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            self._house.pauses.note(ADMISSION, error)
            return
        self._resting[candidate.title] = Resting(candidate, now + RESTING_S, str(error))
        self._regroup_at = min(self._regroup_at, now + RESTING_S)
        logger().warning("A job could not be taken in.", name=candidate.title, error=str(error))

    def _look_again(self, now: float) -> None:
        self._grouped, self._regroup_at = [], now
        self._menu.read_again()
        self.watcher.hint()

    # --- for the status ----------------------------------------------------------------------

    def waiting(self) -> list[Waiting]:
        """Return every file that is no job yet, with the reason: also those refused or queued."""
        paused = bool(self._house.pauses)
        state = (self.scan.at, id(self.grouping), len(self._queue), len(self._resting), paused)
        if state != self._waiting_state:
            self._waiting_state, self._waiting = state, self._list_waiting(paused=paused)
        return self._waiting

    def _list_waiting(self, *, paused: bool) -> list[Waiting]:
        refused = [Waiting(file, file.why) for file in self.scan.refused]
        resting = [
            Waiting(each.candidate.inputs[0].file, each.reason) for each in self._resting.values()
        ]
        why = "the queue rests" if paused else "the queue is full: its turn comes"
        full = [Waiting(each.inputs[0].file, why) for each in reversed(self._queue)]
        return [*refused, *self.grouping.waiting, *resting, *full]


def _same_objects(left: list[InboxFile], right: list[InboxFile]) -> bool:
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(a is b or (a.taken and a == b) for a, b in pairs)
