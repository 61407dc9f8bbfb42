"""Errors are judged by kind: the input's fault fails at once, what passes is tried again."""

from __future__ import annotations

import dataclasses

import pytest

from nstd.errors import (
    AttemptsError,
    DecodeError,
    DeviceError,
    MemoryExhaustedError,
    NoSpaceError,
    NstdError,
    PoisonError,
    StorageError,
    WorkerLostError,
)
from nstd.jobs.job import Job
from nstd.service.retries import (
    Later,
    Never,
    RetryRules,
    after_daemon_death,
    after_error,
    after_worker_death,
    pause,
)
from nstd.workers.executor import GoneReason, WorkerGone

RULES = RetryRules()
JOB = Job("j", "running", None, "", (), "move", since=0.0, admitted=0.0, attempts=1)


def gone(reason: GoneReason, *, stepped: bool = True) -> WorkerGone:
    return WorkerGone("w0", reason, "j", stepped)


def test_an_error_of_the_input_fails_at_once() -> None:
    error = DecodeError("beach.jpg is damaged.")
    assert after_error(JOB, error, RULES, 0.0) == Never(error)


@pytest.mark.parametrize("kind", [DeviceError, MemoryExhaustedError, StorageError, WorkerLostError])
def test_a_passing_error_is_tried_again(kind: type[NstdError]) -> None:
    error = kind("It failed.")
    assert after_error(JOB, error, RULES, 100.0) == Later(115.0, error)


def test_pauses_double_up_to_a_limit() -> None:
    pauses = [pause(attempts, RULES) for attempts in (1, 2, 3, 4, 7, 10_000)]
    assert pauses == [15.0, 30.0, 60.0, 120.0, 900.0, 900.0]


def test_the_last_attempt_fails_and_tells_the_cause() -> None:
    job = dataclasses.replace(JOB, attempts=5)
    verdict = after_error(job, DeviceError("The GPU died.", "Look."), RULES, 0.0)
    assert isinstance(verdict, Never)
    assert isinstance(verdict.error, AttemptsError)
    assert "5 times" in verdict.error.message
    assert "The GPU died." in verdict.error.message


def test_a_full_disk_never_uses_up_the_attempts() -> None:
    job = dataclasses.replace(JOB, attempts=500)
    assert isinstance(after_error(job, NoSpaceError("Full."), RULES, 0.0), Later)


@pytest.mark.parametrize("reason", ["crash", "oom", "stuck", "memory"])
def test_a_job_that_ends_its_worker_twice_is_set_aside(reason: GoneReason) -> None:
    assert isinstance(after_worker_death(JOB, 1, gone(reason), RULES, 0.0), Later)
    verdict = after_worker_death(JOB, 2, gone(reason), RULES, 0.0)
    assert isinstance(verdict, Never)
    assert isinstance(verdict.error, PoisonError)
    assert "2 times" in verdict.error.message


def test_a_worker_that_died_before_the_first_step_only_costs_an_attempt() -> None:
    verdict = after_worker_death(JOB, 0, gone("crash", stepped=False), RULES, 0.0)
    assert isinstance(verdict, Later)
    assert isinstance(verdict.error, WorkerLostError)


def test_deaths_of_the_daemon_count_apart_and_have_a_limit() -> None:
    assert after_daemon_death(dataclasses.replace(JOB, daemon_deaths=4), RULES) is None
    error = after_daemon_death(dataclasses.replace(JOB, daemon_deaths=5), RULES)
    assert isinstance(error, PoisonError)
