"""What grouping takes and gives: the inbox's files, and the jobs that can be made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nstd.errors import NstdError
from nstd.jobs.spec import JobSpec

Role = Literal["content", "style", "mask", "sidecar"]


@dataclass(frozen=True, slots=True)
class InboxFile:
    """One regular file of the inbox with a name that may be consumed."""

    folder: str
    """Path below the inbox with ``/``; empty for the root."""
    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    inode: int
    first_seen: float
    """Seconds since the epoch."""
    settled: bool
    why: str = ""
    """Why it has not settled, or what a settled file seems to lack; for people."""
    taken: bool = False
    """It was a job's input before and lies there still (``copy`` intake): of itself it makes no
    job any more, but a new file may name it or pair with it."""

    @property
    def path(self) -> str:
        """Path below the inbox."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True)
class JobInput:
    """One file of the inbox with the part that it plays in a job."""

    file: InboxFile
    role: Role
    stays: bool = False
    """Another job needs the file too: this one takes a copy, and it stays in the inbox."""


@dataclass(frozen=True)
class LibraryStyle:
    """One entry of the style library."""

    name: str
    images: tuple[str, ...]
    """Absolute paths, in the order of their names."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """From ``style.yaml``: defaults of every job in this style."""
    problem: str | None = None
    """Why the style cannot be used, as a clause without a full stop; None when it can."""


@dataclass(frozen=True)
class Rules:
    """What the configuration says about grouping."""

    pair_timeout_s: float = 900.0
    default_style: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of every job, below those of the style and the sidecar."""
    max_file_bytes: int | None = None
    """A larger image is left where it is."""


@dataclass(frozen=True)
class Candidate:
    """Files that make a job; with an error it is admitted all the same, and then set aside."""

    spec: JobSpec | None
    """None where the error is about what the job should be."""
    inputs: tuple[JobInput, ...]
    """Content first where there is one; never empty."""
    since: float
    """When the oldest of the files was first seen."""
    error: NstdError | None = None

    @property
    def files(self) -> tuple[InboxFile, ...]:
        """The inbox files of the job, content first."""
        return tuple(each.file for each in self.inputs)

    @property
    def priority(self) -> int:
        """Higher first."""
        return self.spec.priority if self.spec else 0

    @property
    def folder(self) -> str:
        """Sub-path of the files below the inbox."""
        return self.inputs[0].file.folder

    @property
    def title(self) -> str:
        """Name of the main file, as a path below the inbox."""
        return self.inputs[0].file.path


@dataclass(frozen=True)
class Waiting:
    """A file that is no part of a job yet, and why."""

    file: InboxFile
    reason: str
    """A clause for people: ``no style yet: put it into inbox/<style>/ ...``."""
    deadline: float | None = None
    """When it fails for want of what it waits for; None while it settles."""


@dataclass(frozen=True)
class Grouping:
    """Every file that was not taken before is in exactly one of the three."""

    candidates: tuple[Candidate, ...]
    """In order of admission: by priority, then oldest first."""
    waiting: tuple[Waiting, ...]
    ignored: Counter[str]
    """Settled files that are nobody's input, by class (``sidecar``: none of ours)."""
    ignored_files: tuple[InboxFile, ...] = ()
