"""Where the inputs of finished jobs go: under their own names, or the next free ones.

The names are written down before the first file moves. After a crash a file that lies under its
name with its bytes is there; any other one is put there now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from nstd.errors import StorageError
from nstd.jobs.intake import beneath
from nstd.jobs.job import Job, StoredInput
from nstd.jobs.publish import (
    directory,
    exists,
    guard,
    make_folder,
    sweep,
    sync_folder,
    write_atomic,
)
from nstd.jobs.putting import free_name, is_there, put
from nstd.jobs.spec import INPUT_FOLDER
from nstd.jobs.text import folded

PLAN_FILE = "originals.json"
MAX_TURNS = 100
"""Somebody who takes each name in the very moment in which we chose it wins in the end."""


def planned(job_dirs: Iterable[str]) -> set[str]:
    """Return the ``folded`` names that other jobs are about to use."""
    return {folded(name) for job_dir in job_dirs for name in _plan(job_dir).values()}


def _plan(job_dir: str) -> dict[str, str]:
    try:
        with open(os.path.join(job_dir, PLAN_FILE), "rb") as file:
            plan: dict[str, str] = json.load(file)
            return plan
    except (FileNotFoundError, ValueError):  # none yet, or damaged: chosen anew
        return {}


def put_away(job: Job, job_dir: str, root: str, reserved: set[str]) -> None:
    """Put the inputs that left the inbox into ``originals``; done twice, it is done once.

    Raises StorageError, NoSpaceError; calling again goes on.
    """
    mine = [each for each in job.inputs if not each.stays]
    if not mine:
        return
    inputs = os.path.join(job_dir, INPUT_FOLDER)
    with guard(root):
        make_folder(root)  # somebody may have removed it while it was empty
    with guard(root), beneath(root, job.folder, make=True) as target, directory(inputs) as source:
        if _plan(job_dir):
            sweep(f"/proc/self/fd/{target}")
        for _turn in range(MAX_TURNS):
            left = _choose(mine, job_dir, target, reserved)
            try:
                for name, new in left.items():
                    put(source, name, target, new)
                sync_folder(target)
            except FileExistsError:
                continue
            return
    raise StorageError("No free name could be had in originals.", "See what else writes there.")


def _choose(
    inputs: list[StoredInput], job_dir: str, target: int, reserved: set[str]
) -> dict[str, str]:
    """Return what is still to be put where, after making the choice durable."""
    plan = _plan(job_dir)
    left: dict[str, str] = {}
    for each in inputs:
        new = plan.get(each.name)
        if new is not None and is_there(target, new, each.sha256):
            continue
        if new is None or exists(target, new):
            new = free_name(target, each.name, reserved | {folded(name) for name in plan.values()})
        left[each.name] = plan[each.name] = new
    if left:
        data = json.dumps(plan).encode()
        write_atomic(job_dir, PLAN_FILE, data, replace=True)
    return left
