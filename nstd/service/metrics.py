"""One method per fact that the daemon counts; the metrics' names stand in ``metric_set``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from nstd.engine.progress import Losses, StepReport
from nstd.errors import NstdError, all_reasons
from nstd.service import labels
from nstd.service.metric_set import MetricSet
from nstd.service.settings import FOLDER_NAMES
from nstd.service.snapshot import PENDING_STATES
from nstd.workers.executor import RESTART_REASONS, WORKER_PHASES


@dataclass
class _Seen:
    """What was already counted of a running job."""

    step: int = 0
    pixel_steps: int = 0
    compile_s: float = 0.0
    seconds: float = 0.0
    resumed: bool = False


class Metrics(MetricSet):
    """The daemon's metrics on a registry of their own, which ``/metrics`` renders."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._seen: dict[str, _Seen] = {}
        self._restarts_seen = 0

    # --- facts about jobs --------------------------------------------------------------------

    def job_done(
        self, job_id: str, now: float, end_to_end_s: float, losses: Losses | None = None
    ) -> None:
        """Count a delivered picture, the seconds its user waited, and its final losses."""
        self._forget(job_id)
        self._ended.labels("done").inc()
        self._end_to_end.observe(max(0.0, end_to_end_s))
        self._last_success.set(now)
        if losses is not None:
            for kind, value in losses.to_dict().items():
                self._final_loss.labels(_one_of(kind, labels.LOSS_KINDS)).observe(value)

    def job_failed(self, job_id: str, reason: str) -> None:
        """Count a failed job under the ``reason`` of its error."""
        self._forget(job_id)
        self._ended.labels("failed").inc()
        self._failures.labels(_reason(reason)).inc()

    def job_cancelled(self, job_id: str) -> None:
        """Count a job that was cancelled on request."""
        self._forget(job_id)
        self._ended.labels("cancelled").inc()

    def job_retried(self, job_id: str, reason: str) -> None:
        """Count an attempt that is put off for later."""
        self._forget(job_id)
        self._retries.labels(_reason(reason)).inc()

    def stage(self, stage: str, seconds: float) -> None:
        """Record how long one stage of a job took; stages outside the list are not recorded."""
        if stage in labels.STAGES:
            self._stage.labels(stage).observe(max(0.0, seconds))

    def pending(self, counts: Mapping[str, int], oldest: Mapping[str, float | None]) -> None:
        """Set how many files and jobs are in each state, and since when the oldest one."""
        for state in PENDING_STATES:
            self._pending.labels(state).set(counts.get(state, 0))
            self._oldest.labels(state).set(oldest.get(state) or 0)

    def capacity(self, jobs: int) -> None:
        """Set the size of the queue."""
        self._capacity.set(jobs)

    # --- facts about painting ----------------------------------------------------------------

    def job_started(self, job_id: str, worker: str, *, resumed: bool = False) -> None:
        """Begin to count a job's steps; of a resumed one only those that are still to come."""
        self._seen[job_id] = _Seen(resumed=resumed)
        for kind in labels.LOSS_KINDS:
            self._loss.labels(worker, kind)

    def progress(self, job_id: str, worker: str, report: StepReport) -> None:
        """Count what a running job has done since its last report."""
        seen = self._seen.setdefault(job_id, _Seen())
        if seen.resumed:
            seen.resumed = False
        else:
            self._count(seen, report)
        seen.step, seen.pixel_steps = report.step, report.pixel_steps
        seen.compile_s, seen.seconds = report.compile_s, report.seconds
        if report.losses is not None:
            for kind, value in report.losses.to_dict().items():
                self._loss.labels(worker, _one_of(kind, labels.LOSS_KINDS)).set(value)

    def _count(self, seen: _Seen, report: StepReport) -> None:
        steps = max(0, report.step - seen.step)
        compiled = max(0.0, report.compile_s - seen.compile_s)
        self._steps.inc(steps)
        self._pixel_steps.inc(max(0, report.pixel_steps - seen.pixel_steps))
        self._compile.inc(compiled)
        if steps:
            spent = max(0.0, report.seconds - seen.seconds - compiled)
            self._step_seconds.observe(spent / steps)

    def _forget(self, job_id: str) -> None:
        self._seen.pop(job_id, None)

    def style_cache(self, *, hits: int = 0, misses: int = 0) -> None:
        """Count style targets that were at hand, and those that had to be computed."""
        self._style_cache.labels("hit").inc(hits)
        self._style_cache.labels("miss").inc(misses)

    # --- facts about workers and the machine -------------------------------------------------

    def workers(self, states: Mapping[str, int]) -> None:
        """Set how many workers are in each state."""
        for state in WORKER_PHASES:
            self._worker_states.labels(state).set(states.get(state, 0))

    def worker_restarted(self, reason: str) -> None:
        """Count a worker that was replaced."""
        self._restarts.labels(_one_of(reason, RESTART_REASONS)).inc()

    def gpus(self, *, expected: int, usable: int, memory_used_bytes: int = 0) -> None:
        """Set how many GPUs are asked for and usable, and the memory the workers hold on them."""
        self._gpus_expected.set(expected)
        self._gpu_up.set(int(usable > 0 and usable >= expected))
        self._gpu_memory.set(memory_used_bytes)

    def directory_free(self, directory: str, free_bytes: int) -> None:
        """Set the room left in one of the six folders."""
        if directory in FOLDER_NAMES:
            self._free.labels(directory).set(free_bytes)

    def ignored(self, file_class: str, count: int = 1) -> None:
        """Count files that are newly left where they are."""
        self._ignored.labels(_one_of(file_class, labels.IGNORED_CLASSES)).inc(count)

    def scanned(self, now: float, seconds: float, files: int) -> None:
        """Record a finished look through the inbox."""
        self._last_scan.set(now)
        self._scan_seconds.observe(max(0.0, seconds))
        self._scan_files.set(files)

    def watching(self, mode: str) -> None:
        """Set how the inbox is watched: by ``events`` or by ``scan`` alone."""
        for known in labels.WATCH_MODES:
            self._watch_mode.labels(known).set(int(mode == known))

    def watch_missed(self, files: int = 1) -> None:
        """Count files that no event announced."""
        self._missed.inc(files)

    def watch_restarts(self, total: int) -> None:
        """Bring the count of watches that were set up anew up to ``total``."""
        self._watch_restarts.inc(max(0, total - self._restarts_seen))
        self._restarts_seen = max(total, self._restarts_seen)

    def canary(self, now: float) -> None:
        """Record that an event of our own came back."""
        self._canary.set(now)

    def paused(self, reason: str | None) -> None:
        """Set why the queue rests; None while it moves."""
        known = None if reason is None else _one_of(reason, labels.PAUSE_REASONS)
        for value in labels.PAUSE_REASONS:
            self._paused.labels(value).set(int(value == known))

    def config_loaded(self, now: float, *, ok: bool) -> None:
        """Record whether the last (re)load of the configuration was taken over."""
        self._reload_ok.set(int(ok))
        if ok:
            self._reload_time.set(now)

    def logged(self, level: str) -> None:
        """Count a log record."""
        self._log_messages.labels(_one_of(level, labels.LOG_LEVELS, "info")).inc()


def _one_of(value: str, known: tuple[str, ...], otherwise: str = "other") -> str:
    return value if value in known else otherwise


def _reason(reason: str) -> str:
    return reason if reason in all_reasons() else NstdError.reason
