"""Killed, or refused by the disk, at each file-system call in turn, a task loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def strike(root: Path, *arguments: str) -> dict[str, Any]:
    """Run the driver: a process of one thread, which may fork."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.workers.crash_task", *arguments],
        cwd=root,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_killed_at_every_call_it_leaves_nothing_torn_and_goes_on_to_the_same_picture(
    root: Path, tmp_path: Path
) -> None:
    result = strike(root, str(tmp_path))
    assert result["bad"] == []
    assert result["killed"] > 30


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_error_at_every_call_is_passing_and_leaves_nothing_behind(
    root: Path, tmp_path: Path, error: str
) -> None:
    result = strike(root, str(tmp_path), error)
    assert result["bad"] == []
    assert result["failed"] == 0
    assert result["retry"] > 8
