"""The metrics themselves: names, help, labels, buckets; every label value starts at zero.

Labels come from fixed lists: no file name and no text of a user ever becomes a label.
"""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nstd import __version__
from nstd.errors import all_reasons, by_reason
from nstd.service import labels
from nstd.service.settings import FOLDER_NAMES
from nstd.service.snapshot import PENDING_STATES
from nstd.workers.executor import RESTART_REASONS, WORKER_PHASES

Values = tuple[str, ...]
Buckets = tuple[float, ...]
M = TypeVar("M", Counter, Gauge, Histogram)


def _zeroed(metric: M, values: Values) -> M:
    """Start every value of the label at zero, so that rates and alerts have something to read."""
    for value in values:
        metric.labels(value)
    return metric


class MetricSet:
    """Defines every metric on a registry; ``Metrics`` says when they change."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._jobs()
        self._painting()
        self._workers()
        self._surroundings()

    def _counter(self, name: str, text: str, label: str = "", values: Values = ()) -> Counter:
        return _zeroed(
            Counter(name, text, [label] if label else [], registry=self.registry), values
        )

    def _gauge(self, name: str, text: str, label: str = "", values: Values = ()) -> Gauge:
        return _zeroed(Gauge(name, text, [label] if label else [], registry=self.registry), values)

    def _histogram(
        self, name: str, text: str, buckets: Buckets, label: str = "", values: Values = ()
    ) -> Histogram:
        labels_ = [label] if label else []
        return _zeroed(
            Histogram(name, text, labels_, buckets=buckets, registry=self.registry), values
        )

    def _jobs(self) -> None:
        transient = tuple(reason for reason in all_reasons() if by_reason(reason).retry)
        self._ended = self._counter(
            "nstd_jobs_total", "Jobs that ended.", "outcome", labels.OUTCOMES
        )
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
        self._stage = self._histogram(
            "nstd_job_duration_seconds",
            "Seconds per stage of a job.",
            labels.SECONDS,
            "stage",
            labels.STAGES,
        )
        self._end_to_end = self._histogram(
            "nstd_end_to_end_seconds",
            "Seconds from an input's last write to its visible picture.",
            labels.SECONDS,
        )
        self._last_success = self._gauge(
            "nstd_last_success_timestamp_seconds", "When a picture was last delivered; 0: never."
        )

    def _painting(self) -> None:
        self._steps = self._counter("nstd_optimizer_steps_total", "Optimizer steps.")
        self._step_seconds = self._histogram(
            "nstd_optimizer_step_seconds",
            "Seconds per optimizer step, averaged over each report.",
            labels.STEP_SECONDS,
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
        self._final_loss = self._histogram(
            "nstd_final_loss",
            "Weighted loss terms of finished pictures.",
            labels.LOSSES,
            "kind",
            labels.LOSS_KINDS,
        )
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
            "nstd_gpu_memory_used_bytes", "Memory in use on the GPUs that nstd paints on."
        )

    def _surroundings(self) -> None:
        self._free = self._gauge(
            "nstd_directory_free_bytes", "Room left for nstd.", "directory", FOLDER_NAMES
        )
        self._ignored = self._counter(
            "nstd_ignored_files_total", "Files left in the inbox.", "class", labels.IGNORED_CLASSES
        )
        self._last_scan = self._gauge(
            "nstd_last_scan_timestamp_seconds", "When the inbox was last looked through; 0: never."
        )
        self._scan_seconds = self._histogram(
            "nstd_scan_duration_seconds",
            "Seconds to look through the inbox.",
            (0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120),
        )
        self._scan_files = self._gauge("nstd_scan_files", "Files that the last scan saw.")
        self._watch_mode = self._gauge(
            "nstd_watch_mode", "1 for how the inbox is watched.", "mode", labels.WATCH_MODES
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
            "nstd_paused", "1 while the queue rests for this cause.", "reason", labels.PAUSE_REASONS
        )
        self._reload_ok = self._gauge(
            "nstd_config_last_reload_successful", "1 when the last configuration read was right."
        )
        self._reload_time = self._gauge(
            "nstd_config_last_reload_success_timestamp_seconds", "When one was last taken over."
        )
        self._log_messages = self._counter(
            "nstd_log_messages_total", "Log records written.", "level", labels.LOG_LEVELS
        )
        build = Gauge(
            "nstd_build_info",
            "1; the labels say what runs.",
            ["version", "tf_version", "python_version"],
            registry=self.registry,
        )
        build.labels(__version__, _version_of("tensorflow"), platform.python_version()).set(1)


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
