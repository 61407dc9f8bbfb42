"""What has to be looked after while the jobs go their way: room, views, signs of life."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter

from nstd.errors import StorageError
from nstd.service import views
from nstd.service.dispatch import Dispatch
from nstd.service.gathering import Gathering
from nstd.service.house import House
from nstd.service.logs import logger
from nstd.service.nvml import Nvml
from nstd.service.page import render
from nstd.service.snapshot import Snapshot
from nstd.service.systemd import Notifier, status_line
from nstd.service.views import Facts

SPACE_S = 5.0
VIEW_S = 1.0
PAGE_S = 60.0
"""A page on which nothing has changed is renewed so often, so that readers know we live."""
WRITTEN = ("outbox", "originals", "failed", "state")
"""Folders that nstd fills."""


class Upkeep:
    """Measures, shows and notifies, each as often as it is worth."""

    def __init__(
        self,
        house: House,
        gathering: Gathering,
        dispatch: Dispatch,
        facts: Facts,
        *,
        notifier: Notifier,
    ) -> None:
        self._house, self._gathering, self._dispatch = house, gathering, dispatch
        self._facts, self._notifier = facts, notifier
        self.snapshot = Snapshot(taken=facts.started, state="starting", started=facts.started)
        """The newest; read by other threads, replaced as a whole."""
        self._next_space = self._next_view = self._next_page = float("-inf")
        self._view = views.View(house, gathering, dispatch, facts)
        self._page_shows: Snapshot | None = None
        self._nvml = Nvml()
        self._page_at = float("-inf")
        self._begun: set[str] = set()
        """Running jobs that have taken steps: a first one is shown at once."""

    def look(self, now: float) -> None:
        """Do what is due."""
        if now >= self._next_space:
            self._next_space = now + SPACE_S
            self._measure()
        begun = {job for job, running in self._dispatch.running.items() if running.history}
        if now >= self._next_view or begun != self._begun:
            self._next_view, self._begun = now + VIEW_S, begun
            self.show(now)
        if now >= self._next_page:
            self._next_page = now + self._house.config.outbox.status_interval_s
            self.write_page(now)

    # --- room --------------------------------------------------------------------------------

    def _measure(self) -> None:
        free: dict[str, int | None] = {}
        floor = self._house.config.outbox.free_space_floor_bytes
        for name, path in self._house.config.folders.by_name().items():
            free[name] = _free_bytes(str(path))
            self._house.metrics.directory_free(name, free[name] or 0)
            if name in WRITTEN:
                self._judge(name, str(path), free[name], floor)
        self._facts.free = free

    def _judge(self, name: str, path: str, free: int | None, floor: int) -> None:
        pauses = self._house.pauses
        if missing := self._house.mounts.missing(path):
            pauses.set(f"mount {name}", "unmounted", missing)
            return
        pauses.clear(f"mount {name}")
        if free is not None and free < floor:
            words = (
                f"The disk of the {name} folder has only {free // 2**20} MiB left "
                f"(outbox.free_space_floor_bytes: {floor // 2**20} MiB). Free some space; "
                "nstd goes on by itself."
            )
            pauses.set(f"room {name}", "no_space", words)
        else:
            pauses.clear(f"room {name}")

    # --- views -------------------------------------------------------------------------------

    def show(self, now: float) -> None:
        """Renew the snapshot and everything that shows it."""
        if self._facts.state in ("ready", "paused"):
            self._facts.state = "paused" if self._house.pauses else "ready"
        self._facts.notes = self._notes()
        self.snapshot = self._view.snapshot(now)
        self._count()
        self._notifier.status(status_line(self.snapshot))

    def _notes(self) -> tuple[str, ...]:
        notes = [str(problem) for problem in self._dispatch.problems.values()]
        notes += self._gathering.scan.problems if self._gathering.scan.present else []
        return tuple(dict.fromkeys(notes))

    def _count(self) -> None:
        metrics, watcher = self._house.metrics, self._gathering.watcher
        waiting = self._gathering.waiting()
        oldest = {**self._view.rows.oldest(), **views.oldest(waiting)}
        metrics.pending(self.snapshot.pending, oldest)
        metrics.capacity(self._house.config.queue.capacity_jobs)
        metrics.workers(Counter(worker.phase for worker in self._house.executor.workers()))
        metrics.paused(self._house.pauses.label)
        metrics.watching(watcher.health.mode)
        metrics.watch_restarts(watcher.health.restarts)
        if watcher.health.proved is not None:
            metrics.canary(watcher.health.proved)
        gpus = [w for w in self._house.executor.workers() if w.device.startswith("gpu")]
        usable = sum(worker.worker in self._dispatch.facts for worker in gpus)
        held = self._nvml.used_bytes(worker.device for worker in gpus) if gpus else 0
        metrics.gpus(expected=len(gpus), usable=usable, memory_used_bytes=held)

    def write_page(self, now: float) -> None:
        """Renew ``status.html`` where something has changed, and from time to time."""
        if not self._house.config.outbox.status_page or self._mounts_away():
            return
        shown = dataclasses.replace(self.snapshot, taken=0.0)
        if shown == self._page_shows and now - self._page_at < PAGE_S:
            return
        try:
            self._house.outbox.write_status(render.static(self.snapshot))
        except StorageError as error:
            self._house.pauses.set(
                "page", "io", f"The status page cannot be written: {error}", blocks=False
            )
        except Exception:  # noqa: BLE001 - a view is worth no job
            logger().exception("The status page could not be made.")
        else:
            self._house.pauses.clear("page")
            self._page_shows, self._page_at = shown, now

    def _mounts_away(self) -> bool:
        return bool(self._house.mounts.missing(str(self._house.config.folders.outbox)))


def _free_bytes(path: str) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
