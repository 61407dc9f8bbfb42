"""How daemon and worker child talk: one JSON object per packet of a SOCK_SEQPACKET pair.

Packets keep their borders, so a child that is killed in the middle of a message leaves nothing
torn behind, and a full buffer refuses a whole packet instead of half a line.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from typing import Any

from nstd.engine.progress import Losses, StepReport
from nstd.jobs.spec import JobSpec
from nstd.workers import executor
from nstd.workers.executor import Event, Task

MAX_PACKET_BYTES = 128 * 1024
"""Below the kernel's default socket buffer (208 KiB), so that one packet always fits."""

EXIT_DONE = 0
EXIT_START = 10
"""The engine could not be loaded; ``WorkerFailed`` said why."""
EXIT_DEVICE = 11
"""The device failed under a job: a fresh process has the best chance with it."""
EXIT_MEMORY = 12
"""A job ran out of memory: a fresh process is not fragmented."""

RESUMED = "resumed"
"""A ``Sign``: the job goes on from a checkpoint, so its first report is not yet a step."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Sign(Event):
    """A job begins a phase; never leaves the executor, which sets its patience by it."""

    phase: str
    job_id: str = ""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends, neither inherited by processes that are not meant to."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(message: Message) -> bytes:
    """Return one packet; ASCII, so that file names with odd bytes survive as escapes."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def decode(packet: bytes) -> Message:
    """Read one packet; ValueError when it is no JSON object."""
    message = json.loads(packet)
    if not isinstance(message, dict):
        raise ValueError("a packet holds one JSON object")  # noqa: TRY004 - one error for all
    return message


def run_command(task: Task) -> Message:
    """Return the command that hands a task to the child."""
    return {
        "op": "run",
        "job_id": task.job_id,
        "job_dir": task.job_dir,
        "spec": task.spec.to_json(),
        "resume": task.resume,
    }


def unpack_task(message: Message) -> Task:
    """Return the task that a ``run`` command carries."""
    spec = JobSpec.from_json(message["spec"])
    return Task(message["job_id"], message["job_dir"], spec, bool(message["resume"]))


def pack_event(event: Event) -> bytes:
    """Return the packet that carries an event."""
    return encode({"event": type(event).__name__, **asdict(event)})


def unpack_event(message: Message) -> Event:
    """Return the event that a packet carries; ValueError when it is none of ours."""
    values = dict(message)
    name = values.pop("event", None)
    kind = Sign if name == "Sign" else getattr(executor, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, Event)):
        raise ValueError(f"no event is called {name!r}")  # noqa: TRY004 - one error for all
    if kind is executor.JobProgress:
        values["report"] = _report(values["report"])
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


def _report(values: Message) -> StepReport:
    losses = values.pop("losses")
    return StepReport(losses=None if losses is None else Losses(**losses), **values)
