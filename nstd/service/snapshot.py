"""One look at the daemon; the page, ``/api/jobs``, ``status.html``, ``nstd status`` are its views.

They agree because they read the same facts.

Times are seconds since the epoch. Names are as users wrote them; views escape them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from nstd.errors import StorageError

DaemonState = Literal["starting", "ready", "paused", "stopping", "down"]
PENDING_STATES = ("settling", "waiting", "queued", "running", "deferred")
FORMAT = 1
"""Version of the JSON form; a reader refuses another one."""


@dataclass(frozen=True)
class RunningJob:
    """A job that a worker paints right now."""

    id: str
    name: str
    """What the user dropped, with its sub-path below the inbox: ``starry-night/beach.jpg``."""
    style: str
    worker: str
    stage: str
    """decode, optimize, encode or deliver."""
    started: float
    attempt: int = 1
    step: int = 0
    steps: int = 0
    level: int = 0
    """Counted from 0, as in ``StepReport``."""
    levels: int = 0
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    eta_s: float | None = None
    losses: Mapping[str, float] | None = None
    history: tuple[tuple[int, float], ...] = ()
    """(step, total loss), thinned to what a sparkline shows."""
    preview: str | None = None
    """The newest preview, as a path below the outbox."""

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True)
class QueuedJob:
    """An admitted job that waits for a worker, or for its next attempt."""

    id: str
    name: str
    style: str
    since: float
    priority: int = 0
    attempts: int = 0
    retry_at: float | None = None
    reason: str = ""
    """Why it waits again, in words; empty for a job that was never tried."""
    eta_s: float | None = None
    """Until it is done, as far as can be told."""


@dataclass(frozen=True)
class WaitingFile:
    """A file in the inbox that is no job yet."""

    name: str
    reason: str
    since: float
    deadline: float | None = None
    """When it is given up and failed with what to do."""
    settling: bool = False
    """Still being written, as far as can be told."""


@dataclass(frozen=True)
class EndedJob:
    """A job that is done, failed or cancelled."""

    id: str
    name: str
    style: str
    outcome: Literal["done", "failed", "cancelled"]
    ended: float
    seconds: float | None = None
    """From the last write of its input to its visible result."""
    picture: str | None = None
    """As a path below the outbox."""
    report: str | None = None
    error: str = ""
    remedy: str = ""
    reason: str = ""
    folder: str | None = None
    """Of a failed job, as a path below ``failed``."""
    losses: Mapping[str, float] | None = None


@dataclass(frozen=True)
class WorkerView:
    """A painting process."""

    name: str
    state: str
    """A phase of ``nstd.workers.executor``: starting, idle, busy, waiting, stopped."""
    device: str = ""
    job: str | None = None
    """The job that it has; the first of them where it has several."""
    jobs: tuple[str, ...] = ()
    jobs_done: int = 0
    problem: str = ""


@dataclass(frozen=True)
class FolderView:
    """One of the six folders."""

    name: str
    path: str
    free_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All that can be said at one instant."""

    taken: float
    state: DaemonState
    version: str = ""
    pid: int | None = None
    started: float | None = None
    notes: tuple[str, ...] = ()
    """Sentences that everybody should see: why the queue is paused, what is degraded."""
    weights: str = ""
    device: str = ""
    capacity: int = 0
    pending: Mapping[str, int] = field(default_factory=dict)
    """Count of each of the pending states, also of what the lists below leave out."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """done, failed, cancelled: as far back as the ledger goes."""
    running: tuple[RunningJob, ...] = ()
    queued: tuple[QueuedJob, ...] = ()
    deferred: tuple[QueuedJob, ...] = ()
    waiting: tuple[WaitingFile, ...] = ()
    recent: tuple[EndedJob, ...] = ()
    """Newest first: done and cancelled."""
    failed: tuple[EndedJob, ...] = ()
    """Newest first."""
    workers: tuple[WorkerView, ...] = ()
    folders: tuple[FolderView, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Files in the inbox that are left where they are, by class."""
    no_images: tuple[str, ...] = ()
    """Paths below the inbox of some that are of no image type."""
    styles: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the JSON form of ``/api/jobs`` and ``nstd status --json``."""
        plain: dict[str, Any] = {"format": FORMAT, **_plain(self)}
        for job, view in zip(plain["running"], self.running, strict=True):
            job["percent"] = round(100 * view.share, 1)
        return plain

    def to_json(self) -> str:
        """Return the JSON form, in ASCII so that any name passes."""
        return json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Snapshot:
        """Read ``to_json``'s output; StorageError when it is damaged or of another version."""
        try:
            data = json.loads(text)
            if data.get("format") != FORMAT:
                raise StorageError(
                    "The daemon speaks another version of the status format.",
                    "Use the nstd command of the version that runs.",
                )
            return _build(cls, data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError("The daemon's status cannot be read.", "Ask again.") from error


T = TypeVar("T")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # a loss that diverged: JSON has no word for it
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: type[T], data: Mapping[str, Any]) -> T:
    hints = _hints(typing.cast("Any", cls))
    return cls(**{name: _read(hints[name], value) for name, value in data.items() if name in hints})


def _read(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return (
            None
            if value is None
            else _read(next(a for a in args if a is not types.NoneType), value)
        )
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(_read(args[0], item) for item in value)
        return tuple(_read(arg, item) for arg, item in zip(args, value, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value)
    return value
