"""Every metric of the daemon, with one method per fact; every label value starts at zero.

Labels come from fixed lists: no file name and no text of a user ever becomes a label.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nstd import __version__
from nstd.engine.progress import Losses, StepReport
from nstd.errors import NstdError, all_reasons, by_reason
from nstd.service.settings import FOLDER_NAMES
from nstd.service.snapshot import PENDING_STATES
from nstd.workers.executor import RESTART_REASONS, WORKER_PHASES

OUTCOMES = ("done", "failed", "cancelled")
STAGES = ("queue", "decode", "optimize", "encode", "deliver")
LOSS_KINDS = ("total", "content", "style", "tv")
IGNORED_CLASSES = ("temp", "hidden", "system", "extension", "sidecar", "unsafe", "depth", "other")
WATCH_MODES = ("events", "scan")
PAUSE_REASONS = ("no_space", "io", "unmounted", "other")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LOSSES = (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6, 1e9)


@dataclass
class _Seen:
    """What was already counted of a running job."""

    step: int = 0
    pixel_steps: int = 0
    compile_s: float = 0.0
    seconds: float = 0.0
    resumed: bool = False


class Metrics:
    """The daemon's metrics on a registry of their own, which ``/metrics`` renders."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._seen: dict[str, _Seen] = {}
        self._jobs()
        self._painting()
        self._workers()
        self._surroundings()

    # --- definitions -------------------------------------------------------------------------

    def _counter(
        self, name: str, text: str, label: str = "", values: tuple[str, ...] = ()
    ) -> Counter:
        counter = Counter(name, text, [label] if label else [], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, label: str = "", values: tuple[str, ...] = ()) -> Gauge:
        gauge = Gauge(name, text, [label] if label else [], registry=self.registry)
        for value in values:
            gauge.labels(value)
        return gauge

    def _jobs(self) -> None:
        transient = tuple(reason for reason in all_reasons() if by_reason(reason).retry)
        self._ended = self._counter("nstd_jobs_total", "Jobs that ended.", "outcome", OUTCOMES)
        self._failures = self._counter(
            "nstd_job_failures_total", "Failed jobs by cause.", "reason", all_reasons()
        )
        self._retries = self._counter(
            "nstd_job_retries_total", "Attempts put off for later.", "reason", transient
        )
        self._pending = self._gauge(
            "nstd_jobs_pending",
            "Files (settling, waiting) and jobs (queued, running, deferred) that are not done yet.",
            "state",
            PENDING_STATES,
        )
        self._capacity = self._gauge(
            "nstd_queue_capacity_jobs", "Jobs that are admitted at most at the same time."
        )
        self._oldest = self._gauge(
            "nstd_oldest_job_timestamp_seconds",
            "When the oldest of each state was first seen; 0 when there is none.",
            "state",
            PENDING_STATES,
        )
        self._stage = Histogram(
            "nstd_job_duration_seconds",
            "Seconds per stage of a job.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        for stage in STAGES:
            self._stage.labels(stage)
        self._end_to_end = Histogram(
            "nstd_end_to_end_seconds",
            "Seconds from an input's last write to its visible picture.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._last_success = self._gauge(
            "nstd_last_success_timestamp_seconds", "When a picture was last delivered; 0: never."
        )

    def _painting(self) -> None:
        self._steps = self._counter("nstd_optimizer_steps_total", "Optimizer steps.")
        self._step_seconds = Histogram(
            "nstd_optimizer_step_seconds",
            "Seconds per optimizer step, averaged over each report.",
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self._pixel_steps = self._counter(
            "nstd_pixel_steps_total", "Optimizer steps times pixels of the picture."
        )
        self._loss = Gauge(
            "nstd_loss",
            "Weighted loss terms of the worker's running job; keeps its last value.",
            ["worker", "kind"],
            registry=self.registry,
        )
        self._final_loss = Histogram(
            "nstd_final_loss",
            "Weighted loss terms of finished pictures.",
            ["kind"],
            buckets=LOSSES,
            registry=self.registry,
        )
        for kind in LOSS_KINDS:
            self._final_loss.labels(kind)
        self._style_cache = self._counter(
            "nstd_style_cache_total", "Style targets asked of the cache.", "result", ("hit", "miss")
        )
        self._compile = self._counter(
            "nstd_compile_seconds_total", "Seconds spent compiling the objective."
        )

    def _workers(self) -> None:
        self._worker_states = self._gauge(
            "nstd_workers", "Painting processes by state.", "state", WORKER_PHASES
        )
        self._restarts = self._counter(
            "nstd_worker_restarts_total",
            "Painting processes replaced.",
            "reason",
            (*RESTART_REASONS, "other"),
        )
        self._gpu_up = self._gauge(
            "nstd_gpu_up", "1 when every GPU that is asked for is usable; 0 without one."
        )
        self._gpus_expected = self._gauge(
            "nstd_gpus_expected", "GPUs that the configuration asks for on this machine."
        )
        self._gpu_memory = self._gauge(
            "nstd_gpu_memory_used_bytes", "GPU memory that the workers hold, as TensorFlow sees it."
        )

    def _surroundings(self) -> None:
        self._free = self._gauge(
            "nstd_directory_free_bytes", "Room left for nstd.", "directory", FOLDER_NAMES
        )
        self._ignored = self._counter(
            "nstd_ignored_files_total", "Files left in the inbox.", "class", IGNORED_CLASSES
        )
        self._last_scan = self._gauge(
            "nstd_last_scan_timestamp_seconds", "When the inbox was last looked through; 0: never."
        )
        self._scan_seconds = Histogram(
            "nstd_scan_duration_seconds",
            "Seconds to look through the inbox.",
            buckets=(0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self._scan_files = self._gauge("nstd_scan_files", "Files that the last scan saw.")
        self._watch_mode = self._gauge(
            "nstd_watch_mode", "1 for how the inbox is watched.", "mode", WATCH_MODES
        )
        self._missed = self._counter(
            "nstd_watch_missed_files_total", "Files that a scan found and no event announced."
        )
        self._watch_restarts = self._counter(
            "nstd_watch_restarts_total", "Times that the watch on the inbox was set up anew."
        )
        self._canary = self._gauge(
            "nstd_last_canary_timestamp_seconds", "When an event last proved that events flow."
        )
        self._paused = self._gauge(
            "nstd_paused", "1 while the queue rests for this cause.", "reason", PAUSE_REASONS
        )
        self._reload_ok = self._gauge(
            "nstd_config_last_reload_successful", "1 when the last configuration read was right."
        )
        self._reload_time = self._gauge(
            "nstd_config_last_reload_success_timestamp_seconds", "When one was last taken over."
        )
        self._log_messages = self._counter(
            "nstd_log_messages_total", "Log records written.", "level", LOG_LEVELS
        )
        build = Gauge(
            "nstd_build_info",
            "1; the labels say what runs.",
            ["version", "tf_version", "python_version"],
            registry=self.registry,
        )
        build.labels(__version__, _version_of("tensorflow"), platform.python_version()).set(1)

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
                self._final_loss.labels(_one_of(kind, LOSS_KINDS)).observe(value)

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
        if stage in STAGES:
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
        for kind in LOSS_KINDS:
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
                self._loss.labels(worker, _one_of(kind, LOSS_KINDS)).set(value)

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
        self._ignored.labels(_one_of(file_class, IGNORED_CLASSES)).inc(count)

    def scanned(self, now: float, seconds: float, files: int) -> None:
        """Record a finished look through the inbox."""
        self._last_scan.set(now)
        self._scan_seconds.observe(max(0.0, seconds))
        self._scan_files.set(files)

    def watching(self, mode: str) -> None:
        """Set how the inbox is watched: by ``events`` or by ``scan`` alone."""
        for known in WATCH_MODES:
            self._watch_mode.labels(known).set(int(mode == known))

    def watch_missed(self, files: int = 1) -> None:
        """Count files that no event announced."""
        self._missed.inc(files)

    def watch_restarted(self) -> None:
        """Count a watch that had to be set up anew."""
        self._watch_restarts.inc()

    def canary(self, now: float) -> None:
        """Record that an event of our own came back."""
        self._canary.set(now)

    def paused(self, reason: str | None) -> None:
        """Set why the queue rests; None while it moves."""
        known = None if reason is None else _one_of(reason, PAUSE_REASONS)
        for value in PAUSE_REASONS:
            self._paused.labels(value).set(int(value == known))

    def config_loaded(self, now: float, *, ok: bool) -> None:
        """Record whether the last (re)load of the configuration was taken over."""
        self._reload_ok.set(int(ok))
        if ok:
            self._reload_time.set(now)

    def logged(self, level: str) -> None:
        """Count a log record."""
        self._log_messages.labels(_one_of(level, LOG_LEVELS, "info")).inc()


def _one_of(value: str, known: tuple[str, ...], otherwise: str = "other") -> str:
    return value if value in known else otherwise


def _reason(reason: str) -> str:
    return reason if reason in all_reasons() else NstdError.reason


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
