"""File-system events as a hint to look now; the scan stays the truth.

Events get lost (queue overflow, a renamed root, a dead observer, another host's writes), and
threads look alive meanwhile. So nothing is learned from an event but "look", and a canary file
that nstd makes and unlinks in each folder proves from time to time that events still arrive.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from nstd.service import places, walk

Mode = Literal["events", "scan"]
Polling = Literal["auto", "always", "never"]

CANARY = ".nstd-canary-"
CANARY_INTERVAL_S = 60.0
CANARY_PATIENCE_S = 10.0
"""An event that takes longer is as good as lost."""
CANARY_FOLDERS = 64
RESTART_PAUSE_S = 5.0
RESTART_PAUSE_MAX_S = 300.0
JOIN_S = 5.0
EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileClosedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
"""Not each write: while a file grows, the scan sees it anyway."""

log = structlog.get_logger(__name__)


def new_observer() -> BaseObserver:
    """Return watchdog's observer for this system."""
    return Observer(timeout=1.0)


@dataclass
class Health:
    """What is known of the watcher, for metrics and status."""

    mode: Mode = "scan"
    reason: str = "not started yet"
    """Why the inbox is only scanned; empty while events flow."""
    restarts: int = 0
    proved: float | None = None
    """When a canary last came back."""


@dataclass
class _Round:
    """One turn of canaries."""

    started: float
    missing: dict[str, str] = field(default_factory=dict)
    """Name of the canary → the folder it was put into."""


class _Handler(FileSystemEventHandler):
    """Turns any event into a call; an exception here would end watchdog's thread for good."""

    def __init__(self, on_event: Callable[[str], None]) -> None:
        self._on_event = on_event

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            path = event.dest_path or event.src_path
            self._on_event(os.path.basename(os.fsdecode(path)))
        except Exception:
            with contextlib.suppress(Exception):
                log.exception("watcher.handler_failed")


class Watcher:
    """Watches the inbox and says "look now"; never raises, and says when it cannot see."""

    def __init__(
        self,
        path: str,
        wake: Callable[[], None],
        *,
        polling: Polling = "auto",
        canary: bool = True,
        make_observer: Callable[[], BaseObserver] = new_observer,
    ) -> None:
        self.path, self.canary = path, canary
        self.health = Health()
        self._wake, self._polling, self._make = wake, polling, make_observer
        self._observer: BaseObserver | None = None
        self._hint = threading.Event()
        self._round: _Round | None = None
        self._next_round = float("-inf")
        self._next_start = float("-inf")
        self._pause = RESTART_PAUSE_S
        self._folders: dict[str, float] = {}
        self._turn = 0

    def start(self, now: float) -> None:
        """Begin to watch, or say in ``health`` why the inbox is only scanned."""
        kind = places.fstype(self.path)
        if self._polling == "always":
            self.health.reason = "inbox.polling is always"
        elif self._polling == "auto" and places.needs_polling(kind):
            self.health.reason = f"the inbox is on {kind}, where others write without an event"
            log.info("watcher.scanning_only", reason=self.health.reason)
        else:
            self._open(now)

    def follow(self, polling: Polling, now: float) -> None:
        """Watch or only scan, as a new configuration says."""
        if polling == self._polling:
            return
        self._polling = polling
        self.stop()
        self.health.mode, self._next_start = "scan", float("-inf")
        self.start(now)
        self._hint.set()

    def stop(self) -> None:
        """End watchdog's threads, within a bounded time."""
        observer, self._observer = self._observer, None
        if observer is None:
            return
        with contextlib.suppress(Exception):
            observer.stop()
            if observer.is_alive():
                observer.join(JOIN_S)

    @property
    def hinted(self) -> bool:
        """Whether anything has happened since the last look."""
        return self._hint.is_set()

    def hint(self) -> None:
        """Ask for another look, as an event would."""
        self._hint.set()

    def take_hint(self) -> bool:
        """Return whether anything has happened since the last call."""
        hinted = self._hint.is_set()
        self._hint.clear()
        return hinted

    def check(self, now: float, *, folders: Sequence[str], replaced: bool) -> None:
        """Look after the watch: set it up anew where it is dead, and send canaries out."""
        try:
            self._check(now, folders, replaced=replaced)
        except Exception:
            log.exception("watcher.check_failed")
            self._blind("the watcher failed; see the log")

    def _check(self, now: float, folders: Sequence[str], *, replaced: bool) -> None:
        self._folders = {folder: self._folders.get(folder, now) for folder in folders}
        if self._observer is None:
            if self._next_start <= now and self.health.mode == "scan" and self._is_wanted():
                self._restart(now)
        elif replaced:
            self._restart(now)
        elif not self._is_alive(self._observer):
            self._lost(now, "the watch on the inbox has ended")
        else:
            self._canaries(now)

    def _is_wanted(self) -> bool:
        return self._next_start > float("-inf")

    def _restart(self, now: float) -> None:
        self.stop()
        self.health.restarts += 1
        self._open(now)
        self._hint.set()

    def _open(self, now: float) -> None:
        try:
            observer = self._make()
            self._observer = observer
            # The watch does not follow a link, and the inbox's own path may be one.
            root = os.path.realpath(self.path)
            handler = _Handler(self._on_event)
            observer.schedule(handler, root, recursive=True, event_filter=EVENTS)
            observer.start()
        except Exception as error:  # noqa: BLE001 - no watches left, no folder, anything: scan
            self._lost(now, f"the inbox cannot be watched ({getattr(error, 'strerror', error)})")
            return
        self.health.mode, self.health.reason = "events", ""
        self._round, self._next_round = None, now
        log.debug("watcher.started")

    def _lost(self, now: float, reason: str) -> None:
        self.stop()
        self._next_start = now + self._pause
        self._pause = min(2 * self._pause, RESTART_PAUSE_MAX_S)
        self._blind(reason)
        self._hint.set()

    def _blind(self, reason: str) -> None:
        if self.health.reason != reason:
            log.warning("watcher.scanning_only", reason=reason)
        self.health.mode, self.health.reason = "scan", reason

    @staticmethod
    def _is_alive(observer: BaseObserver) -> bool:
        # An emitter ends alone when its root is deleted, and the observer looks alive after it.
        return observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)

    def _on_event(self, name: str) -> None:
        if name.startswith(CANARY):
            current = self._round
            if current is not None:
                current.missing.pop(name, None)
            return
        if not self._hint.is_set():
            self._hint.set()
            self._wake()

    def _canaries(self, now: float) -> None:
        if self._round is not None:
            if not self._round.missing:
                self._proved(now)
            elif now - self._round.started > CANARY_PATIENCE_S:
                where = next(iter(list(self._round.missing.values())), "") or "the inbox"
                self._lost(now, f"no event came back from {where!a}")
            return
        if self.canary and now >= self._next_round:
            self._next_round = now + CANARY_INTERVAL_S
            self._round = self._send_canaries(now)

    def _proved(self, now: float) -> None:
        self._round, self._pause = None, RESTART_PAUSE_S
        self.health.proved = now

    def _send_canaries(self, now: float) -> _Round:
        """Make and unlink one file per folder; folders beyond the limit have their turn later."""
        sent = _Round(now)
        self._round = sent  # before the first event can come
        folders = self._next_folders(now)
        root = os.open(self.path, walk.FOLDER_FLAGS)
        try:
            for folder in folders:
                self._send_canary(root, folder, sent)
        finally:
            os.close(root)
        return sent

    def _next_folders(self, now: float) -> list[str]:
        # watchdog needs a moment to watch a new folder: only those known for a while can prove
        # anything.
        known = [
            f for f, since in self._folders.items() if not f or now - since > CANARY_PATIENCE_S
        ]
        count = min(CANARY_FOLDERS, len(known))
        self._turn = (self._turn + count) % max(1, len(known))
        return (known[self._turn :] + known[: self._turn])[:count]

    @staticmethod
    def _send_canary(root: int, folder: str, sent: _Round) -> None:
        name = f"{CANARY}{secrets.token_hex(6)}.tmp"
        with contextlib.suppress(OSError):  # a read-only or vanished folder proves nothing
            descriptor = walk.open_folder(root, folder)
            try:
                sent.missing[name] = folder
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o600, dir_fd=descriptor))
                os.unlink(name, dir_fd=descriptor)
            except OSError:
                sent.missing.pop(name, None)
            finally:
                os.close(descriptor)


def sweep_canaries(path: str, folders: Sequence[str]) -> int:
    """Remove the canaries that a crash left in these folders below ``path``; returns how many."""
    removed = 0
    for folder in folders:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            root = os.open(path, walk.FOLDER_FLAGS)
            stack.callback(os.close, root)
            here = walk.open_folder(root, folder)
            stack.callback(os.close, here)
            for name in os.listdir(here):
                if name.startswith(CANARY):
                    os.unlink(name, dir_fd=here)
                    removed += 1
    return removed
