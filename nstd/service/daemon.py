"""The daemon: start, tick, stop; the only place that wires the layers together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial

from nstd.errors import DeviceError, NoSpaceError, NstdError, StorageError
from nstd.jobs import publish
from nstd.service import logs, reloading, startup
from nstd.service.clock import SteadyClock
from nstd.service.config import Config
from nstd.service.dispatch import Dispatch
from nstd.service.ending import Endings
from nstd.service.gathering import Gathering
from nstd.service.house import House
from nstd.service.http import HttpDoor, Sources
from nstd.service.logs import logger
from nstd.service.painters import worker_settings
from nstd.service.requests import Requests
from nstd.service.retention import Retention
from nstd.service.systemd import Notifier
from nstd.service.upkeep import Upkeep
from nstd.service.views import Facts
from nstd.service.wake import Flags, Wake
from nstd.service.watcher import Watcher
from nstd.workers.executor import Executor
from nstd.workers.local import LocalExecutor

LONGEST_WAIT_S = 0.5
"""Commands leave their wishes in the ledger, which wakes nobody."""
ALIVE_S = 120.0
"""Without a tick for so long the loop hangs."""
EXTEND_S = 30.0
MAX_START_DEATHS = 3
DRAIN_PAUSED_S = 60.0


class Daemon:
    """One daemon on one state folder, from ``start`` to ``stop``."""

    def __init__(
        self,
        config: Config,
        *,
        executor: Executor,
        drain: bool = False,
        reload: Callable[[], Config] | None = None,
        clock: SteadyClock | None = None,
    ) -> None:
        self.clock = clock or SteadyClock()
        self.house: House = startup.make_house(config, executor, self.clock.now)
        self.wake = Wake()
        self.flags = Flags()
        self.facts = Facts(started=self.clock.now())
        self.notifier = Notifier()
        self.drain = drain
        self._reload = reload
        self.watcher = Watcher(str(config.folders.inbox), self.wake, polling=config.inbox.polling)
        self.endings = Endings(self.house)
        self.dispatch = Dispatch(self.house, self.endings)
        self.gathering = Gathering(
            self.house, self.endings, startup.make_inbox(self.house), self.watcher
        )
        self.requests = Requests(self.house, self.gathering, self.dispatch, self.endings)
        self.upkeep = Upkeep(
            self.house, self.gathering, self.dispatch, self.facts, notifier=self.notifier
        )
        self.retention = Retention(self.house)
        self.door = HttpDoor(config.http.listen, self._sources(config), state=config.folders.state)
        self._last_tick = time.monotonic()
        self._busy = False
        self._idle_since = self.clock.now()
        self._next_sign = float("-inf")

    # --- start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Put right what a crash left, open the doors, start workers and watcher."""
        config = self.house.config
        startup.recover(self.house)
        if config.http.enabled:
            self.door.start()
        self.house.metrics.config_loaded(self.clock.now(), ok=True)
        self.house.executor.start()
        self.watcher.start(self.clock.now())

    # --- tick --------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do everything that is to be done at this instant, and wait for nothing."""
        self._follow_clock()
        parts: tuple[tuple[str, Callable[[], object]], ...] = (
            ("listen", self.door.announce),
            ("requests", partial(self.requests.look, now)),
            ("events", partial(self.dispatch.heed, now)),
            ("inbox", partial(self._gather, now)),
            ("dispatch", partial(self.dispatch.hand_out, now)),
            ("reclaim", partial(self.dispatch.reclaim, now)),
            ("endings", partial(self.endings.work, now)),
            ("upkeep", partial(self.upkeep.look, now)),
            ("retention", partial(self.retention.look, now)),
            ("ready", partial(self._become_ready, now)),
        )
        for name, part in parts:
            self._do(name, part)
        self._last_tick = time.monotonic()

    def _do(self, name: str, part: Callable[[], object]) -> None:
        """Run one part; whatever goes wrong in it, the others and the next tick go on."""
        try:
            part()
        except StorageError as error:
            self.house.pauses.note(f"part {name}", error)
        except OSError as error:
            self.house.pauses.note(f"part {name}", publish.storage_error(name, error))
        except Exception:  # noqa: BLE001 - a bug in one part must not end the house
            logger().exception("A part of the loop failed.", part=name)
        else:
            self.house.pauses.clear(f"part {name}")

    def _gather(self, now: float) -> None:
        if self.flags.stop:
            return
        if self.gathering.look(now):
            folders = self.house.config.folders
            shared = (folders.inbox, folders.outbox, folders.originals, folders.failed)
            self.house.mounts.learn(map(str, shared))
        self._busy = self.gathering.admit(now)

    def _follow_clock(self) -> None:
        step = self.clock.take_step()
        if not step:
            return
        logger().warning("The machine's clock was set.", seconds=round(step, 1))
        self.gathering.inbox.shift(step)
        self.dispatch.follow_clock(self.clock.now())

    def _become_ready(self, now: float) -> None:
        if self.facts.state == "starting":
            if not self.why_not_ready():
                self.facts.state = "ready"
                self.upkeep.show(now)
                self.notifier.ready()
                logger().info("Ready.", pid=os.getpid())
            elif now >= self._next_sign:
                self._next_sign = now + EXTEND_S / 3
                self.notifier.extend_timeout(EXTEND_S)
        elif self.notifier.watchdog_s and now >= self._next_sign:
            self._next_sign = now + self.notifier.watchdog_s / 4
            self.notifier.alive()

    def why_not_ready(self) -> str:
        """Return why the daemon is not ready, empty when it is; called from any thread."""
        if not self.gathering.scanned:
            return "The inbox has not been looked at yet."
        if not self.gathering.scan.present:
            return " ".join(self.gathering.scan.problems)
        if not self.dispatch.facts:
            problems = [str(problem) for problem in list(self.dispatch.problems.values())]
            return problems[0] if problems else "No worker is ready yet."
        return ""

    def why_not_alive(self) -> str:
        """Return why the loop seems dead, empty when it is not; called from any thread."""
        silent = time.monotonic() - self._last_tick
        return f"The loop has been silent for {silent:.0f} s." if silent > ALIVE_S else ""

    def _sources(self, config: Config) -> Sources:
        return Sources(
            registry=self.house.metrics.registry,
            snapshot=lambda: self.upkeep.snapshot,
            alive=self.why_not_alive,
            ready=self.why_not_ready,
            outbox=config.folders.outbox,
        )

    # --- loop --------------------------------------------------------------------------------

    def run(self) -> int:
        """Tick until told to stop, or until the inbox is drained; return the exit code."""
        while not self.flags.stop:
            if self.flags.reload:
                self.flags.reload = False
                self.reload()
            now = self.clock.now()
            self.tick(now)
            self._refuse_hopeless_start()
            if self.drain and self._is_drained(now):
                return self._drained()
            self.wake.wait(self._patience(), [self.house.executor.fileno()])
        return 0

    def _patience(self) -> float:
        if self._busy:
            return 0.0
        due = min(self.gathering.due, self.endings.due)
        if self.watcher.hinted:
            due = min(due, self.gathering.earliest)
        return min(LONGEST_WAIT_S, max(0.0, due - self.clock.now()))

    def _refuse_hopeless_start(self) -> None:
        """End with the reason where no worker could be started at all."""
        if self.dispatch.ever_ready:
            return
        workers = {worker.worker for worker in self.house.executor.workers()}
        if workers and workers <= set(self.dispatch.problems):
            raise next(iter(self.dispatch.problems.values()))
        if self.dispatch.start_deaths >= MAX_START_DEATHS * max(1, len(workers)):
            raise DeviceError(
                f"The worker died {self.dispatch.start_deaths} times while it started.",
                "The log above has its last words; `nstd check` tries the device.",
            )

    def _is_drained(self, now: float) -> bool:
        pauses = self.house.pauses
        if pauses and now - self._idle_since > DRAIN_PAUSED_S:
            raise NoSpaceError(" ".join(pauses.words))
        idle = not self.house.ledger.unfinished() and not self.gathering.candidates
        if not idle or self.gathering.scan.fresh or not self.gathering.scanned:
            self._idle_since = self._idle_since if pauses else now
            return False
        config = self.house.config.inbox
        patience = config.settle_s + config.incomplete_timeout_s + 1.0
        settling = self.gathering.scan.due is not None
        return not settling or now - self._idle_since > patience

    def _drained(self) -> int:
        for each in self.gathering.waiting():
            logger().warning("Still waits.", name=each.file.path, reason=each.reason)
        return 1 if self.endings.failures else 0

    # --- change ------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration again, and take it over only if it is right."""
        if self._reload is None:
            return
        self.notifier.reloading()
        now = self.clock.now()
        try:
            self._take_over(self._reload(), now)
        except NstdError as error:
            logger().error("The new configuration is not taken over.", error=str(error))
            self.house.metrics.config_loaded(now, ok=False)
        else:
            self.house.metrics.config_loaded(now, ok=True)
        self.notifier.ready()

    def _take_over(self, fresh: Config, now: float) -> None:
        """Change what can be changed; what may be refused comes before the first change."""
        config, postponed = reloading.postpone(self.house.config, fresh)
        devices = reloading.new_devices(self.house.config, config)
        if config.http != self.house.config.http:
            self.door.move(config.http.listen if config.http.enabled else None)
        self.house.config = config
        self.watcher.follow(config.inbox.polling, now)
        startup.tune_inbox(self.gathering.inbox, config)
        self.gathering.regroup()
        self.house.spool.keep_originals = config.outbox.keep_originals
        if isinstance(self.house.executor, LocalExecutor):
            self.dispatch.problems.clear()  # workers that still have one say it again
            self.house.executor.reconfigure(
                worker_settings(config), startup.supervision(config), devices,
                grace_s=config.worker.stop_grace_s,
            )  # fmt: skip
        logs.configure(config.log.format, config.log.level, count=self.house.metrics.logged)
        logger().info("Configuration taken over.")
        if postponed:
            logger().warning("These settings change with a restart only.", settings=postponed)

    # --- stop --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop in the reverse order of the start; workers hand their jobs back in time."""
        grace = 0.0 if self.flags.hurry else self.house.config.worker.stop_grace_s
        self.facts.state = "stopping"
        self.notifier.stopping("Stopping.")
        self.notifier.extend_timeout(grace + EXTEND_S)
        self.watcher.stop()
        with contextlib.suppress(Exception):
            self.upkeep.show(self.clock.now())
        self._do("stop", partial(self.house.executor.stop, grace))
        self._do("events", partial(self.dispatch.heed, self.clock.now()))
        self.facts.state = "down"
        self._do("page", partial(self._last_page, self.clock.now()))
        self.door.stop()
        self.house.ledger.close()

    def _last_page(self, now: float) -> None:
        self.upkeep.show(now)
        self.upkeep.write_page(now)
