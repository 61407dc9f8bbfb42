"""What becomes of a job that did not end well: tried again later, or failed, by the error's kind.

Pure rules: an error is the input's fault (fail at once) or passing (back off, a bounded number of
times); a job that ends its worker again and again is taken out of the service's way.
"""

from __future__ import annotations

from dataclasses import dataclass

from nstd.errors import AttemptsError, NoSpaceError, NstdError, PoisonError, WorkerLostError
from nstd.jobs.job import Job
from nstd.workers.executor import WorkerGone

IN_WORDS = {
    "crash": "its worker crashed",
    "oom": "the kernel ended its worker for lack of memory",
    "stuck": "its worker gave no sign of life",
    "memory": "its worker took more memory than it may",
    "device": "the device failed",
    "recycle": "its worker was replaced",
    "start": "its worker could not start",
    "stop": "its worker was stopped",
}


@dataclass(frozen=True)
class RetryRules:
    """The part of the configuration that these rules need."""

    max_attempts: int = 5
    retry_s: float = 15.0
    retry_max_s: float = 900.0
    max_worker_deaths: int = 2
    max_daemon_deaths: int = 5


@dataclass(frozen=True)
class Later:
    """Try again at ``until``."""

    until: float
    error: NstdError


@dataclass(frozen=True)
class Never:
    """Fail with this error."""

    error: NstdError


Verdict = Later | Never


def after_error(job: Job, error: NstdError, rules: RetryRules, now: float) -> Verdict:
    """Judge a job whose attempt ended with ``error``."""
    if not error.retry:
        return Never(error)
    # A full disk is nobody's fault and ends by itself: it uses up no attempts.
    if job.attempts >= rules.max_attempts and not isinstance(error, NoSpaceError):
        return Never(_tired(job, error))
    return Later(now + pause(job.attempts, rules), error)


def after_worker_death(
    job: Job, deaths: int, gone: WorkerGone, rules: RetryRules, now: float
) -> Verdict:
    """Judge a job whose worker ended under it; ``deaths`` counts those after its first step."""
    why = IN_WORDS.get(gone.reason, "its worker ended")
    if deaths >= rules.max_worker_deaths:
        return Never(
            PoisonError(
                f"The job ended its worker {deaths} times (the last time {why}).",
                "It was set aside so that it does not stop the others. Ask for a smaller size, "
                "or look into the log and run `nstd retry`.",
            )
        )
    return after_error(job, WorkerLostError(f"Painting broke off: {why}."), rules, now)


def after_daemon_death(job: Job, rules: RetryRules) -> NstdError | None:
    """Judge a job that was running when the daemon died; None: it goes on."""
    if job.daemon_deaths < rules.max_daemon_deaths:
        return None
    return PoisonError(
        f"nstd itself died {job.daemon_deaths} times while it painted this.",
        "It was set aside. See the log for the reason, then run `nstd retry`.",
    )


def pause(attempts: int, rules: RetryRules) -> float:
    """Return how long to wait after so many attempts: doubling, up to a limit."""
    return float(min(rules.retry_s * 2.0 ** min(max(attempts - 1, 0), 60), rules.retry_max_s))


def _tired(job: Job, error: NstdError) -> AttemptsError:
    times = "once" if job.attempts == 1 else f"{job.attempts} times"
    remedy = f"{error.remedy} Then run `nstd retry`." if error.remedy else "Run `nstd retry` later."
    return AttemptsError(f"It was tried {times}; the last time: {error.message}", remedy)
