from __future__ import annotations

import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nstd.engine.progress import Losses, StepReport
from nstd.errors import all_reasons
from nstd.service.metrics import Metrics

CONTRACT = {
    "nstd_jobs": {("outcome", v) for v in ("done", "failed", "cancelled")},
    "nstd_job_failures": {("reason", v) for v in all_reasons()},
    "nstd_job_retries": set(),
    "nstd_jobs_pending": {
        ("state", v) for v in ("settling", "waiting", "queued", "running", "deferred")
    },
    "nstd_queue_capacity_jobs": set(),
    "nstd_oldest_job_timestamp_seconds": {("state", "queued")},
    "nstd_job_duration_seconds": {
        ("stage", v) for v in ("queue", "decode", "optimize", "encode", "deliver")
    },
    "nstd_end_to_end_seconds": set(),
    "nstd_optimizer_steps": set(),
    "nstd_pixel_steps": set(),
    "nstd_final_loss": {("kind", v) for v in ("total", "content", "style", "tv")},
    "nstd_workers": {("state", "idle"), ("state", "busy")},
    "nstd_worker_restarts": {("reason", "crash"), ("reason", "oom")},
    "nstd_style_cache": {("result", "hit"), ("result", "miss")},
    "nstd_compile_seconds": set(),
    "nstd_gpu_up": set(),
    "nstd_gpu_memory_used_bytes": set(),
    "nstd_directory_free_bytes": {("directory", "outbox")},
    "nstd_ignored_files": {("class", "temp")},
    "nstd_last_scan_timestamp_seconds": set(),
    "nstd_build_info": set(),
}


def report(step: int, **changes: float) -> StepReport:
    return StepReport(
        step=step,
        steps=100,
        level=1,
        levels=1,
        height=10,
        width=20,
        losses=Losses(4.0, 1.0, 2.0, 1.0),
        seconds=changes.get("seconds", step * 0.5),
        eta_s=None,
        pixel_steps=step * 200,
        compile_s=changes.get("compile_s", 0.0),
    )


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metric_of_the_contract_is_there_from_the_start(name: str) -> None:
    text = generate_latest(Metrics().registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert name in families
    labels = {item for sample in families[name].samples for item in sample.labels.items()}
    assert labels >= CONTRACT[name]


def test_everything_starts_at_zero_but_the_build_info() -> None:
    text = generate_latest(Metrics().registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.name != "nstd_build_info" and not sample.name.endswith("_created"):
                assert sample.value == 0, sample


def test_promtool_finds_nothing_to_complain_about(promtool: str) -> None:
    metrics = Metrics()
    metrics.job_started("a", "w0")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_registry_can_be_handed_in() -> None:
    registry = CollectorRegistry()
    assert Metrics(registry).registry is registry


def test_outcomes_and_reasons_are_counted() -> None:
    metrics = Metrics()
    metrics.job_done("a", now=5.0, end_to_end_s=61.0, losses=Losses(40.0, 1.0, 38.0, 1.0))
    metrics.job_failed("b", "decode")
    metrics.job_failed("c", "beach.jpg")
    metrics.job_cancelled("d")
    metrics.job_retried("e", "oom")
    assert value(metrics, "nstd_jobs_total", outcome="done") == 1
    assert value(metrics, "nstd_jobs_total", outcome="failed") == 2
    assert value(metrics, "nstd_jobs_total", outcome="cancelled") == 1
    assert value(metrics, "nstd_job_failures_total", reason="decode") == 1
    assert value(metrics, "nstd_job_failures_total", reason="other") == 1
    assert value(metrics, "nstd_job_retries_total", reason="oom") == 1
    assert value(metrics, "nstd_end_to_end_seconds_sum") == 61.0
    assert value(metrics, "nstd_final_loss_sum", kind="style") == 38.0
    assert value(metrics, "nstd_last_success_timestamp_seconds") == 5.0


def test_no_text_of_a_user_becomes_a_label() -> None:
    metrics = Metrics()
    evil = 'beach"\n.jpg'
    metrics.job_failed("a", evil)
    metrics.ignored(evil)
    metrics.worker_restarted(evil)
    metrics.stage(evil, 1.0)
    metrics.directory_free(evil, 1)
    metrics.paused(evil)
    metrics.logged(evil)
    metrics.watching(evil)
    assert b"beach" not in generate_latest(metrics.registry)


def test_pending_and_oldest_are_set_and_cleared() -> None:
    metrics = Metrics()
    metrics.pending({"queued": 3, "running": 1}, {"queued": 17.0})
    assert value(metrics, "nstd_jobs_pending", state="queued") == 3
    assert value(metrics, "nstd_oldest_job_timestamp_seconds", state="queued") == 17.0
    metrics.pending({}, {})
    assert value(metrics, "nstd_jobs_pending", state="queued") == 0
    assert value(metrics, "nstd_oldest_job_timestamp_seconds", state="queued") == 0


def test_steps_are_counted_once_however_often_they_are_reported() -> None:
    metrics = Metrics()
    metrics.job_started("a", "w0")
    for step in (1, 4, 4, 10):
        metrics.progress("a", "w0", report(step))
    assert value(metrics, "nstd_optimizer_steps_total") == 10
    assert value(metrics, "nstd_pixel_steps_total") == 2000
    assert value(metrics, "nstd_loss", worker="w0", kind="total") == 4.0


def test_a_resumed_job_counts_only_what_is_new() -> None:
    metrics = Metrics()
    metrics.job_started("a", "w0", resumed=True)
    metrics.progress("a", "w0", report(60))
    metrics.progress("a", "w0", report(64))
    assert value(metrics, "nstd_optimizer_steps_total") == 4


def test_compiling_is_no_step_time() -> None:
    metrics = Metrics()
    metrics.job_started("a", "w0")
    metrics.progress("a", "w0", report(2, seconds=11.0, compile_s=10.0))
    assert value(metrics, "nstd_compile_seconds_total") == 10.0
    assert value(metrics, "nstd_optimizer_step_seconds_sum") == 0.5


def test_the_loss_keeps_its_last_value() -> None:
    metrics = Metrics()
    metrics.job_started("a", "w0")
    metrics.progress("a", "w0", report(2))
    metrics.job_done("a", 1.0, 1.0)
    assert value(metrics, "nstd_loss", worker="w0", kind="style") == 2.0


@pytest.mark.parametrize(
    ("expected", "usable", "up"), [(0, 0, 0), (1, 1, 1), (2, 1, 0), (1, 0, 0), (2, 2, 1)]
)
def test_the_gpu_is_up_when_all_that_are_asked_for_are(expected: int, usable: int, up: int) -> None:
    metrics = Metrics()
    metrics.gpus(expected=expected, usable=usable, memory_used_bytes=7)
    assert value(metrics, "nstd_gpu_up") == up
    assert value(metrics, "nstd_gpus_expected") == expected


def test_one_cause_of_a_pause_is_shown_at_a_time() -> None:
    metrics = Metrics()
    metrics.paused("no_space")
    metrics.paused("io")
    assert value(metrics, "nstd_paused", reason="no_space") == 0
    assert value(metrics, "nstd_paused", reason="io") == 1
    metrics.paused(None)
    assert value(metrics, "nstd_paused", reason="io") == 0


def test_a_refused_reload_keeps_the_time_of_the_last_good_one() -> None:
    metrics = Metrics()
    metrics.config_loaded(5.0, ok=True)
    metrics.config_loaded(9.0, ok=False)
    assert value(metrics, "nstd_config_last_reload_successful") == 0
    assert value(metrics, "nstd_config_last_reload_success_timestamp_seconds") == 5.0


def test_the_rest_of_the_facts_arrive() -> None:
    metrics = Metrics()
    metrics.scanned(8.0, 0.2, 14)
    metrics.style_cache(hits=2, misses=1)
    metrics.workers({"idle": 1, "busy": 2})
    metrics.worker_restarted("oom")
    metrics.ignored("temp", 3)
    metrics.watching("scan")
    metrics.watch_missed(2)
    metrics.watch_restarts(1)
    metrics.watch_restarts(1)
    metrics.canary(3.0)
    metrics.capacity(64)
    metrics.directory_free("outbox", 9)
    metrics.stage("decode", 0.3)
    metrics.logged("warning")
    assert value(metrics, "nstd_last_scan_timestamp_seconds") == 8.0
    assert value(metrics, "nstd_scan_files") == 14
    assert value(metrics, "nstd_style_cache_total", result="hit") == 2
    assert value(metrics, "nstd_workers", state="busy") == 2
    assert value(metrics, "nstd_worker_restarts_total", reason="oom") == 1
    assert value(metrics, "nstd_ignored_files_total", **{"class": "temp"}) == 3
    assert value(metrics, "nstd_watch_mode", mode="scan") == 1
    assert value(metrics, "nstd_watch_missed_files_total") == 2
    assert value(metrics, "nstd_watch_restarts_total") == 1
    assert value(metrics, "nstd_last_canary_timestamp_seconds") == 3.0
    assert value(metrics, "nstd_queue_capacity_jobs") == 64
    assert value(metrics, "nstd_directory_free_bytes", directory="outbox") == 9
    assert value(metrics, "nstd_job_duration_seconds_count", stage="decode") == 1
    assert value(metrics, "nstd_log_messages_total", level="warning") == 1
