"""A job as the ledger knows it: its state, its files, and what may happen to it next."""

from __future__ import annotations

import dataclasses
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nstd.errors import NstdError, by_reason
from nstd.jobs.inputs import Role
from nstd.jobs.spec import JobSpec

State = Literal[
    "queued", "running", "deferred", "delivering", "delivered", "failing",
    "done", "failed", "cancelled",
]  # fmt: skip
Outcome = Literal["done", "failed", "cancelled"]
Intake = Literal["move", "copy"]

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"running", "failing"}),
    "running": frozenset({"queued", "deferred", "delivering", "failing"}),
    "deferred": frozenset({"running", "queued", "failing"}),
    "delivering": frozenset({"delivering", "delivered", "queued", "deferred", "failing"}),
    # The picture is visible: only the inputs are left to be put away.
    "delivered": frozenset({"done"}),
    # The error is recorded: only the folder below ``failed`` is left to be made.
    "failing": frozenset({"failed", "cancelled"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
UNFINISHED: tuple[State, ...] = tuple(state for state in TRANSITIONS if state not in ENDED)

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


class IllegalTransitionError(RuntimeError):
    """A bug: the job is not in a state from which this can happen."""


@dataclass(frozen=True)
class StoredInput:
    """One input of a job: the file in ``spool/<id>/input``, and the inbox file that it was."""

    name: str
    role: Role
    sha256: str
    size: int
    stays: bool
    """The inbox keeps the file: for another job, or because the intake is ``copy``."""
    dev: int
    inode: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Output:
    """One file that a delivery publishes, recorded before it does."""

    name: str
    """Path below the outbox."""
    sha256: str
    role: Literal["picture", "report"]


@dataclass(frozen=True)
class Job:
    """One row of the ledger."""

    id: str
    state: State
    spec: JobSpec | None
    """None for a job that fails because nobody can tell what it should be."""
    folder: str
    """Sub-path of the inputs below the inbox."""
    inputs: tuple[StoredInput, ...]
    intake: Intake
    since: float
    """When its oldest file was first seen."""
    admitted: float
    priority: int = 0
    started: float | None = None
    """When the latest attempt began."""
    ended: float | None = None
    attempts: int = 0
    worker_deaths: int = 0
    daemon_deaths: int = 0
    retry_at: float | None = None
    outcome: Outcome | None = None
    """How it is going to end, once that is certain."""
    reason: str = ""
    message: str = ""
    remedy: str = ""
    outputs: tuple[Output, ...] = ()
    failed_folder: str | None = None
    """Name of its folder below ``failed``."""
    retry_of: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping: seconds by stage, final losses, size."""

    @property
    def title(self) -> str:
        """Name of the main file as a path below the inbox; not escaped."""
        name = self.spec.content if self.spec else self.inputs[0].name
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def style(self) -> str:
        """Names of the styles, safe to print; empty where nobody can tell."""
        return self.spec.style_title if self.spec else ""

    @property
    def error(self) -> NstdError | None:
        """The latest error, of the class that its reason names."""
        return by_reason(self.reason)(self.message, self.remedy) if self.reason else None


def new_id(now: float) -> str:
    """Return an id that sorts by time: ``20250131-235959-k3v7q2``, in UTC.

    Two of its last six digits are the milliseconds, four are random.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    high, low = divmod(int(now * 1000) % 1000, 32)
    random = "".join(secrets.choice(_DIGITS) for _ in range(4))
    return f"{stamp}-{_DIGITS[high]}{_DIGITS[low]}{random}"


# --- codec -----------------------------------------------------------------------------------

COLUMNS = tuple(each.name for each in dataclasses.fields(Job))
_AS_JSON = ("spec", "inputs", "outputs", "facts", "folder")
"""Kept as JSON, which also carries names that are not UTF-8; SQLite's text cannot."""


def to_column(name: str, value: Any) -> Any:
    """Return a field of ``Job`` as SQLite keeps it."""
    if name not in _AS_JSON or value is None:
        return value
    if isinstance(value, JobSpec):
        value = value.to_json()
    elif isinstance(value, tuple):
        value = [dataclasses.asdict(each) for each in value]
    return json.dumps(value)


def from_row(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    """Build a job from its row."""
    values = {name: row[name] for name in COLUMNS}
    for name in _AS_JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    values["spec"] = None if values["spec"] is None else JobSpec.from_json(values["spec"])
    values["inputs"] = tuple(StoredInput(**each) for each in values["inputs"])
    values["outputs"] = tuple(Output(**each) for each in values["outputs"])
    return Job(**values)


def to_bytes(job: Job) -> bytes:
    """Return the row as a file: with it, a job's folder tells all even without the ledger."""
    return json.dumps({name: to_column(name, getattr(job, name)) for name in COLUMNS}).encode()


def from_bytes(data: bytes) -> Job:
    """Read ``to_bytes``' output; ValueError when it is damaged or of another version."""
    try:
        return from_row(json.loads(data))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a job") from error
