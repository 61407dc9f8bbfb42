"""How things stand, for a command beside the daemon: asked of it, or read from what it left."""

from __future__ import annotations

import dataclasses
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nstd import __version__
from nstd.errors import NstdError, StorageError, UsageError
from nstd.jobs.job import ENDED, TRANSITIONS, Job
from nstd.jobs.ledger import Ledger, RequestKind
from nstd.service import jobs_view, lock
from nstd.service.config import Config
from nstd.service.http import LISTEN_FILE, split
from nstd.service.inbox import Inbox, Limits, Scan
from nstd.service.snapshot import FolderView, Snapshot, WaitingFile

LEDGER_FILE = "ledger.sqlite3"
ANSWER_S = 15.0
"""So long a command waits for the daemon's answer."""
SHOWN_WAITING = 200


def gather(config: Config, now: float | None = None) -> Snapshot:
    """Return the daemon's own snapshot where it runs and answers, else one from its files."""
    ledger = find_ledger(config)
    pid = lock.holder(str(config.folders.state))
    if pid is not None:
        snapshot = _asked(config.folders.state)
        if snapshot is not None:
            return snapshot
    return _from_files(config, ledger, pid, time.time() if now is None else now)


def find_ledger(config: Config) -> Path | None:
    """Return the ledger's path, None where there is none yet; StorageError where none may look."""
    path = config.folders.state / LEDGER_FILE
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(
            f"The state folder {config.folders.state} cannot be looked into: {error.strerror}.",
            "Ask as nstd's user or as a member of its group (sudo -u nstd nstd ...).",
        ) from error
    return path


def _asked(state: Path) -> Snapshot | None:
    try:
        host, port = split((state / LISTEN_FILE).read_text(encoding="ascii").strip())
        return Snapshot.from_json(_get(_reachable(host), port))
    except (OSError, ValueError, NstdError):
        return None


def _reachable(host: str) -> str:
    """Return where a port that is bound to every address is found on this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def _get(host: str, port: int) -> bytes:
    name = f"[{host}]" if ":" in host else host
    # No proxy: the daemon is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{name}:{port}/api/jobs", timeout=5) as answer:
        data: bytes = answer.read(64 * 2**20)
    return data


def _from_files(config: Config, path: Path | None, pid: int | None, now: float) -> Snapshot:
    snapshot = Snapshot(
        taken=now,
        state="down" if pid is None else "ready",
        version=__version__,
        pid=pid,
        weights=config.model.weights,
        capacity=config.queue.capacity_jobs,
        folders=folders(config),
    )
    if pid is not None:
        note = f"The daemon (pid {pid}) does not answer over HTTP: progress is not shown."
        snapshot = dataclasses.replace(snapshot, notes=(note,))
    if path is None:
        return _with_inbox(snapshot, _scan(config, None, now), now)
    with Ledger(str(path)) as ledger:
        snapshot = dataclasses.replace(snapshot, **jobs_view.fields(ledger))
        return _with_inbox(snapshot, _scan(config, ledger, now), now)


def _scan(config: Config, ledger: Ledger | None, now: float) -> Scan:
    inbox = Inbox(str(config.folders.inbox), limits=Limits(max_depth=config.inbox.max_depth))
    if ledger is not None:
        inbox.taken = ledger.already_taken
    return inbox.scan(now)


def _with_inbox(snapshot: Snapshot, scan: Scan, now: float) -> Snapshot:
    down = snapshot.pid is None
    why = "nstd is not running; it looks at the file when it starts." if down else "In the inbox."
    waiting = tuple(
        WaitingFile(file.path, why, min(now, file.mtime_ns / 1e9))
        for file in scan.files[:SHOWN_WAITING]
    )
    pending = {"settling": 0, "queued": 0, "running": 0, "deferred": 0, **snapshot.pending}
    return dataclasses.replace(
        snapshot,
        waiting=waiting,
        pending={**pending, "waiting": len(scan.files)},
        ignored=dict(scan.ignored),
    )


def folders(config: Config) -> tuple[FolderView, ...]:
    """Return the six folders with their free space, and what is wrong with them at first sight."""
    return tuple(_folder(name, path) for name, path in config.folders.by_name().items())


def _folder(name: str, path: Path) -> FolderView:
    try:
        found = os.statvfs(path)
    except OSError as error:
        return FolderView(name, str(path), problem=f"{os.strerror(error.errno or 0)}.")
    return FolderView(name, str(path), found.f_bavail * found.f_frsize)


# --- what commands ask of the daemon -----------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What came of a wish about one job."""

    line: str
    refused: bool = False


def ask(
    config: Config,
    kind: RequestKind,
    which: str | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait_s: float = ANSWER_S,
) -> list[Reply]:
    """Ask for a retry or a cancellation; return one reply for each job.

    ``which`` is a job's id or its beginning or end; None means every failed job that was not
    retried yet. Raises UsageError where there is no such job or it is in no state for it.
    """
    path = find_ledger(config)
    if path is None:
        raise UsageError(
            f"There are no jobs in {config.folders.state}.", "Name the right --root or --config."
        )
    with Ledger(str(path)) as ledger:
        jobs = _retriable(ledger) if which is None else [_fitting(ledger.find(which), kind)]
        numbers = [(job, ledger.request(kind, job.id)) for job in jobs]
        if lock.holder(str(config.folders.state)) is None:
            noted = "noted; nstd is not running and does it when it starts."
            return [Reply(f"{job.id}: {noted}") for job in jobs]
        return _answers(ledger, kind, numbers, clock, wait_s)


def _retriable(ledger: Ledger) -> list[Job]:
    again = {job.retry_of for job in ledger.jobs(*TRANSITIONS)}
    return [job for job in ledger.jobs("failed") if job.id not in again]


def _fitting(job: Job, kind: RequestKind) -> Job:
    if kind == "retry" and job.state not in ("failed", "cancelled", "deferred"):
        raise UsageError(
            f"Job {job.id} is {job.state}, not failed.",
            "Only failed, cancelled or deferred jobs are retried.",
        )
    if kind == "cancel" and job.state in ENDED:
        raise UsageError(
            f"Job {job.id} is {job.state} already.", "Only unfinished jobs can be cancelled."
        )
    return job


def _answers(
    ledger: Ledger,
    kind: RequestKind,
    numbers: list[tuple[Job, int]],
    clock: Callable[[], float],
    wait_s: float,
) -> list[Reply]:
    deadline = clock() + wait_s
    replies = []
    for job, number in numbers:
        while (answer := ledger.answered(number)) is None and clock() < deadline:
            time.sleep(0.05)
        if answer is None:
            replies.append(Reply(f"{job.id}: noted; the daemon has not answered yet."))
        else:
            good = answer or _done(ledger, kind, job)
            replies.append(Reply(f"{job.id}: {good}", refused=bool(answer)))
    return replies


def _done(ledger: Ledger, kind: RequestKind, job: Job) -> str:
    if kind == "cancel":
        return "is being cancelled."
    new = ledger.retried_as(job.id)
    return f"is queued again, as {new}." if new else "is queued again."
