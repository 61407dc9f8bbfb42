"""Settled files become jobs: sidecars first, then pairs, then photographs with a style.

A pure function of the files, the library, the rules and the time. Each folder stands for itself.
Every settled file is in exactly one of candidate, waiting, ignored; a file that several sidecars
name is in the first candidate, stays in the inbox for the others, and goes with the last. Files
that were taken before and left there (``copy`` intake) serve new ones, and are in none otherwise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from nstd.jobs.folder_group import FolderGroup
from nstd.jobs.folder_view import FolderView
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
from nstd.jobs.sidecar import Sidecar
from nstd.jobs.sidecar_reader import SidecarReader

__all__ = [
    "Candidate",
    "Grouping",
    "InboxFile",
    "JobInput",
    "LibraryStyle",
    "Role",
    "Rules",
    "SidecarReader",
    "Waiting",
    "group",
]


def group(
    files: Sequence[InboxFile],
    *,
    read_sidecar: Callable[[InboxFile], Sidecar | None],
    library: Mapping[str, LibraryStyle],
    rules: Rules,
    now: float,
) -> Grouping:
    """Sort the inbox's files into jobs, files that wait, and files that are nobody's.

    ``read_sidecar`` is a ``SidecarReader``; it may raise SidecarError, or any other NstdError for
    a file that cannot be read just now.
    """
    folders: dict[str, list[InboxFile]] = defaultdict(list)
    for file in files:
        folders[file.folder].append(file)
    candidates: list[Candidate] = []
    waiting: list[Waiting] = []
    ignored: list[InboxFile] = []
    for folder in sorted(folders):
        view = FolderView(folder, folders[folder], library, rules)
        inside = FolderGroup(view, read_sidecar, now)
        inside.run()
        candidates += inside.candidates
        waiting += inside.waiting
        ignored += inside.ignored
    return Grouping(
        candidates=tuple(sorted(candidates, key=_turn)),
        waiting=tuple(sorted(waiting, key=lambda each: each.file.path)),
        ignored=Counter({"sidecar": len(ignored)}) if ignored else Counter(),
        ignored_files=tuple(sorted(ignored, key=lambda file: file.path)),
    )


def _turn(candidate: Candidate) -> tuple[int, float, str]:
    return (-candidate.priority, candidate.since, candidate.title)
