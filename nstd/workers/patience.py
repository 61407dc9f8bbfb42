"""How long a worker may be silent, and how long to wait before it is started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nstd.engine.progress import StepReport

STEPS_OF_PATIENCE = 5


@dataclass(frozen=True)
class Supervision:
    """The rules by which workers are looked after; seconds and bytes."""

    start_timeout_s: float = 300.0
    """From the start of the process until its weights are loaded."""
    stall_s: float = 300.0
    """Silence during a job; five predicted steps, if they are longer."""
    compile_s: float = 900.0
    """Silence before the first step of a pyramid level, while its graph is compiled."""
    cancel_grace_s: float = 30.0
    """A cancelled job that has not ended by then is ended with its worker."""
    max_jobs: int = 500
    """A process is replaced after so many: traced graphs per shape are never freed
    (tensorflow#124972)."""
    max_memory_bytes: int | None = None
    """Resident memory above which a worker is ended; None: only the kernel's limit."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    """Before a worker that died is started again; doubles until a job succeeds."""


class Patience:
    """Judges the silence of one worker process; times are the caller's monotonic clock."""

    def __init__(self, rules: Supervision, now: float) -> None:
        self.rules = rules
        """May be replaced; what is allowed already stays so until the next sign of life."""
        self._last: StepReport | None = None
        self._allowance = rules.start_timeout_s
        self._seconds_per_pixel_step = 0.0
        self.last_sign = now

    def begin(self, phase: str, now: float) -> None:
        """Note that a phase begins: ``prepare`` compiles, every other one must talk sooner."""
        self.last_sign = now
        self._last = None
        self._seconds_per_pixel_step = 0.0
        self._allowance = self._longest if phase == "prepare" else self.rules.stall_s

    def wait(self, now: float) -> None:
        """Note that nothing is to be done: an idle worker may be silent for ever."""
        self.last_sign = now
        self._allowance = float("inf")

    def report(self, report: StepReport, now: float) -> None:
        """Note a sign of life, and learn from it how long a step takes."""
        self.last_sign = now
        before = self._last
        if before is not None and report.pixel_steps > before.pixel_steps:
            spent = report.seconds - before.seconds
            self._seconds_per_pixel_step = spent / (report.pixel_steps - before.pixel_steps)
        stepped = before is None or report.step > before.step or report.losses is not None
        new_level = before is not None and report.level != before.level
        compiling = new_level or (before is None and report.losses is None)
        if compiling:
            self._allowance = self._longest
        elif stepped:
            predicted = self._seconds_per_pixel_step * report.height * report.width
            self._allowance = max(self.rules.stall_s, STEPS_OF_PATIENCE * predicted)
        self._last = report

    def silence(self, now: float) -> float:
        """Return how long the worker has been silent."""
        return now - self.last_sign

    def is_over(self, now: float) -> bool:
        """Tell whether the worker has been silent for longer than it may."""
        return self.silence(now) > self._allowance

    @property
    def _longest(self) -> float:
        return max(self.rules.stall_s, self.rules.compile_s)


class Pauses:
    """The growing pauses between restarts of one worker."""

    def __init__(self, rules: Supervision) -> None:
        self.rules = rules
        self._next = rules.first_pause_s

    def next(self) -> float:
        """Return the pause before this restart, and double the one after it."""
        pause = self._next
        self._next = min(2 * pause, self.rules.longest_pause_s)
        return pause

    def reset(self) -> None:
        """Begin with the shortest again: the worker has painted a picture."""
        self._next = self.rules.first_pause_s
