"""Settled files become jobs: style folders, pairs, sidecars."""

from __future__ import annotations

from nstd.jobs.inputs import (
    Candidate,
    Grouping,
    InboxFile,
    JobInput,
    LibraryStyle,
    Role,
    Rules,
    Waiting,
)

__all__ = [
    "Candidate",
    "Grouping",
    "InboxFile",
    "JobInput",
    "LibraryStyle",
    "Role",
    "Rules",
    "Waiting",
]
