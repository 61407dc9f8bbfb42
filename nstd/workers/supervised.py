"""One worker through its lives: start it, listen to it, judge it, end it, start it again.

Nothing here waits: ``tick(now)`` reads what has come, decides, and returns events.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from nstd.errors import DeviceError, MemoryExhaustedError
from nstd.workers import system, wire
from nstd.workers.executor import (
    Event,
    GoneReason,
    JobFailed,
    JobFinished,
    JobHandedBack,
    JobProgress,
    WorkerFailed,
    WorkerPhase,
    WorkerReady,
    WorkerState,
)
from nstd.workers.held import Hands, Held
from nstd.workers.patience import Patience, Pauses, Supervision
from nstd.workers.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from nstd.workers.executor import Task

MEMORY_LOOK_S = 1.0
GROWN = 0.8
"""Of ``max_memory_bytes``: a worker that has grown so far is replaced between two jobs."""
EXIT_REASONS: dict[int, GoneReason] = {
    wire.EXIT_START: "start",
    wire.EXIT_DEVICE: "device",
    wire.EXIT_MEMORY: "memory",
}

EXHAUSTED = (DeviceError.reason, MemoryExhaustedError.reason)
"""After a job that ended so, the child gives itself up for a fresh one."""


class SupervisedWorker:
    """A worker for one device, whichever process it happens to be at the moment."""

    def __init__(
        self,
        name: str,
        device: str,
        *,
        rules: Supervision,
        spawn: Callable[[str, str], ChildProcess],
        log: Callable[[str, str], None],
        now: float,
    ) -> None:
        self.name, self.device = name, device
        self._rules, self._spawn, self._log = rules, spawn, log
        self._pauses = Pauses(rules)
        self._patience, self._last_sign = Patience(rules, now), now
        self._child: ChildProcess | None = None
        self._phase: WorkerPhase = "waiting"
        self._since, self._restart_at = now, now
        self._hands = Hands()
        self._facts: Mapping[str, Any] = {}
        self._jobs, self._restarts, self._rss = 0, 0, 0
        self._memory_looked_at = float("-inf")
        self._kills_before = 0
        self._verdict: GoneReason | None = None
        self._retired = False
        self._end_by: float | None = None
        self._stop_by: float | None = None

    # --- what the executor asks ------------------------------------------------------------

    def state(self) -> WorkerState:
        """Return the worker as it is now."""
        return WorkerState(
            self.name, self.device, self._phase, self._child.pid if self._child else None,
            self._hands.ids, self._since, self._last_sign,
            self._jobs, self._rss, self._restarts, self._facts,
        )  # fmt: skip

    @property
    def free(self) -> bool:
        """Whether it waits for a task, whatever it is."""
        return self._phase == "idle" and self._end_by is None and self._stop_by is None

    def takes(self, task: Task, *, out_of_turn: bool = False) -> bool:
        """Tell whether it takes this task right now: idle, or with jobs that it may join."""
        if self._phase != "busy":
            return self.free
        ending = self._end_by is not None or self._stop_by is not None or self._has_had_its_day()
        return not ending and self._hands.joins(task, out_of_turn=out_of_turn)

    @property
    def stopped(self) -> bool:
        """Whether it has ended for good."""
        return self._phase == "stopped"

    def holds(self, job_id: str) -> bool:
        """Tell whether this worker has the job."""
        return job_id in self._hands.jobs

    def submit(self, task: Task, now: float) -> None:
        """Hand the task to the child."""
        if self._phase != "busy":
            self._enter("busy", now)
        patience = Patience(self._rules, now)
        patience.begin("decode", now)
        self._hands.take(Held(task, patience))
        self._send(wire.run_command(task))

    def cancel(self, job_id: str, now: float) -> None:
        """Ask for the job's end; by the end of the grace the child is ended."""
        held = self._hands.jobs.get(job_id)
        if held is not None and held.cancel_by is None:
            held.cancel_by = now + self._rules.cancel_grace_s
            self._send({"op": "cancel", "job_id": job_id})

    def retire(self) -> None:
        """Replace the process as soon as it holds no job: its settings are out of date."""
        self._retired = True

    def follow(self, rules: Supervision) -> None:
        """Look after the process by these rules from now on."""
        self._rules = self._patience.rules = self._pauses.rules = rules
        for held in self._hands:
            held.patience.rules = rules

    def stop(self, now: float, grace_s: float) -> None:
        """Ask for the end: hand the job back within the grace, or be ended."""
        self._stop_by = now + grace_s
        if self._child is None:
            self._enter("stopped", now)
        else:
            self._send({"op": "stop"})

    def tick(self, now: float) -> list[Event]:
        """Read, judge, and start or end the process where that is due."""
        if self._child is None:
            if self._phase == "waiting" and now >= self._restart_at:
                self._start(now)
            return []
        events = self._listen(self._child, now)
        if self._child.at_end and self._child.exit_status() is not None:
            return [*events, *self._bury(self._child, now)]
        self._child.flush()
        return [*events, *self._judge(self._child, now)]

    # --- life ------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self._kills_before = system.oom_kills()
        self._verdict, self._end_by, self._retired = None, None, False
        self._jobs, self._rss = 0, 0
        self._patience, self._last_sign = Patience(self._rules, now), now
        try:
            self._child = self._spawn(self.name, self.device)
        except OSError as error:  # no memory or processes left: as bad as a crash, and as passing
            self._log(self.name, f"could not be started: {error.strerror}")
            self._restart_at = now + self._pauses.next()
            return
        self._hands = Hands(places=self._child.places)
        self._enter("starting", now)

    def _listen(self, child: ChildProcess, now: float) -> list[Event]:
        for line in child.log_lines():
            self._log(self.name, line)
        events: list[Event] = []
        try:
            for message in child.receive():
                event = wire.unpack_event(message)
                self._heed(event, now)
                if not isinstance(event, wire.Sign):
                    events.append(event)
        except ValueError as error:
            self._log(self.name, f"does not keep to the protocol: {error}")
            self._kill(child, "crash")
        return events

    def _heed(self, event: Event, now: float) -> None:
        """Learn from an event what the worker is doing."""
        self._last_sign = now
        held = self._hands.jobs.get(getattr(event, "job_id", ""))
        match event:
            case WorkerReady(facts=facts, pixels=pixels):
                self._facts, self._hands.pixels = facts, pixels
                self._enter("idle", now)
                self._patience.wait(now)
            case WorkerFailed():
                self._verdict = "start"
            case JobFinished() | JobFailed() | JobHandedBack():
                self._job_ended(event, now)
            case _ if held is not None:
                _heed_job(held, event, now)

    def _job_ended(self, event: JobFinished | JobFailed | JobHandedBack, now: float) -> None:
        self._hands.let_go(event.job_id)
        self._jobs += 1
        if not self._hands:
            self._enter("idle", now)
        if isinstance(event, JobFinished):
            self._pauses.reset()
        elif isinstance(event, JobFailed) and event.reason in EXHAUSTED:
            self._end_by = now + self._rules.cancel_grace_s  # it ends by itself: no new task

    def _judge(self, child: ChildProcess, now: float) -> list[Event]:
        """End a child that has overstayed one of its limits; recycle one that has had its day."""
        self._look_at_memory(child, now)
        limit = self._rules.max_memory_bytes
        if _passed(self._stop_by, now):
            self._kill(child, "stop")
        elif _passed(self._end_by, now):
            self._kill(child, "recycle")
        elif limit is not None and self._rss > limit:
            self._log(self.name, f"has {self._rss} bytes of memory, {limit} are allowed")
            self._kill(child, "memory")
        elif any(_passed(held.cancel_by, now) for held in self._hands):
            self._kill(child, "stuck")
        elif (silence := self._silence(now)) is not None:
            self._log(self.name, f"has given no sign of life for {silence:.0f} s")
            self._kill(child, "stuck")
        elif self.free and self._has_had_its_day():
            self._end_by = now + self._rules.cancel_grace_s
            self._send({"op": "stop"})
        return []

    def _silence(self, now: float) -> float | None:
        """Return how long the process, or one of its jobs, has been silent where that is over."""
        judges = [self._patience, *(held.patience for held in self._hands)]
        return next((each.silence(now) for each in judges if each.is_over(now)), None)

    def _look_at_memory(self, child: ChildProcess, now: float) -> None:
        if now - self._memory_looked_at >= MEMORY_LOOK_S:
            self._memory_looked_at = now
            self._rss = child.rss_bytes()

    def _has_had_its_day(self) -> bool:
        limit = self._rules.max_memory_bytes
        grown = limit is not None and self._rss > GROWN * limit
        return self._retired or self._jobs >= self._rules.max_jobs or (grown and self._jobs > 0)

    # --- death -----------------------------------------------------------------------------

    def _kill(self, child: ChildProcess, verdict: GoneReason) -> None:
        self._verdict = self._verdict or verdict
        child.kill()

    def _bury(self, child: ChildProcess, now: float) -> list[Event]:
        """Say how the child ended and what becomes of its jobs, and plan the next one."""
        for line in child.last_words():
            self._log(self.name, line)
        status = child.exit_status() or 0
        child.close()
        self._child, self._facts = None, {}
        reason = self._reason(status)
        self._plan(reason, now)
        return self._hands.drop(self.name, reason, detail=_in_words(status))

    def _reason(self, status: int) -> GoneReason:
        if self._stop_by is not None:
            return "stop"
        if self._verdict is not None:
            return self._verdict
        if status in EXIT_REASONS:
            return EXIT_REASONS[status]
        if self._end_by is not None:
            return "recycle"
        if status == -signal.SIGKILL and system.oom_kills() > self._kills_before:
            return "oom"
        return "crash"

    def _plan(self, reason: GoneReason, now: float) -> None:
        if reason == "stop":
            self._enter("stopped", now)
            return
        self._restarts += 1
        self._restart_at = now if reason == "recycle" else now + self._pauses.next()
        self._enter("waiting", now)

    def _enter(self, phase: WorkerPhase, now: float) -> None:
        self._phase, self._since = phase, now

    def _send(self, message: wire.Message) -> None:
        if self._child is not None:
            self._child.send(message)


def _heed_job(held: Held, event: Event, now: float) -> None:
    """Learn from an event how far a job is."""
    match event:
        case wire.Sign(wire.RESUMED):
            held.start = None
        case wire.Sign(phase):
            held.patience.begin(phase, now)
        case JobProgress(report=report):
            held.patience.report(report, now)
            held.note_step(report.step)
        case _:
            held.patience.last_sign = now


def _passed(deadline: float | None, now: float) -> bool:
    return deadline is not None and now >= deadline


def _in_words(status: int) -> str:
    """Return an exit status as the log shows it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
