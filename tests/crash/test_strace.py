"""Killed by strace at system calls that no hook of ours sees: SQLite's own writes and syncs.

NSTD_TRACED sets how many of each call are tried; the engine is the stand-in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.kill import House

COUNT = int(os.environ.get("NSTD_TRACED", "6"))
CALLS = ("pwrite64", "fdatasync", "fsync", "renameat2", "unlink,unlinkat", "ftruncate", "write")
DEADLINE_S = 90.0
COMMAND = [sys.executable, "-c", "import sys, nstd.cli; sys.exit(nstd.cli.main())", "run"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


@pytest.fixture
def house() -> Iterator[House]:
    """Return a house with its state on a real file system."""
    with tempfile.TemporaryDirectory(prefix="nstd-traced-") as folder:
        root = Path(folder) / "root"
        yield House(root, root / "state", {}, copies=False, batch=1)


def run(house: House, strace: str, calls: str, number: int) -> bool:
    """Let a traced daemon drain the inbox; return whether it, or its worker, was killed."""
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={number}"]
    command = [*COMMAND, "--config", str(house.settings), "--drain"]
    with house.log.open("ab") as log:
        traced = subprocess.Popen(
            [strace, "-f", "-qq", "-o", "/dev/null", *inject, *command],
            env={**os.environ, "NSTD_ENGINE": "standin", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + DEADLINE_S
    while traced.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    if traced.poll() is None:  # a worker that dies at each start: the daemon waits
        os.killpg(traced.pid, signal.SIGKILL)
        traced.wait()
        return False
    return traced.returncode not in (0, 1)


@pytest.mark.parametrize("calls", CALLS)
def test_killed_at_a_system_call_nothing_is_lost_torn_or_doubled(
    calls: str, house: House, strace: str, tell: Callable[[str], None]
) -> None:
    kills = 0
    for number in range(1, 9 * COUNT, 9):
        house.more(2)
        kills += run(house, strace, calls, number)
        _until_alone(house)
        house.model.check_wreck()
        assert house.model.words == [], f"killed at {calls} number {number}"
    house.more(7)
    done = subprocess.run(
        [*COMMAND, "--config", str(house.settings), "--drain"],
        env={**os.environ, "NSTD_ENGINE": "standin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    house.model.check_end()
    assert house.model.words == []
    assert kills
    tell(f"Killed by strace at {kills} calls of {calls}: nothing lost, torn, doubled or left over.")


def _until_alone(house: House) -> None:
    """Wait until no process of the dead daemon is left."""
    end = time.monotonic() + DEADLINE_S
    while _others(house):
        assert time.monotonic() < end, "a process has outlived its daemon"
        time.sleep(0.05)


def _others(house: House) -> list[str]:
    """Return the processes that have the house's lock or ledger open, or work in its spool."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(str(house.model.state)) and link.parts[2] != str(os.getpid()):
            found.append(target)
    return found
