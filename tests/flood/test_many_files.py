"""Sixty thousand files at once, moved in as one tree: none is overlooked, and the others go on.

The kernel's queue of events holds 16,384; one rename brings all of them. NSTD_FILES sets the
number. The engine is the stand-in, since nothing of the flood can be painted: each file is half a
pair, and waits.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.kit import picture, until
from tests.service.process import Process

COUNT = int(os.environ.get("NSTD_FILES", "60000"))
PER_FOLDER = 1_000
DAEMON_BYTES = 256 * 2**20
STALL_S = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "root", inbox={"pair_timeout_s": 86_400.0, "scan_interval_s": 5.0})
    yield made
    made.end()


def make_tree(top: Path) -> None:
    for number in range(COUNT):
        folder = top / f"trip {number // PER_FOLDER}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}.content.jpg").write_bytes(b"\xff\xd8 half a pair \xff\xd9")


def waiting(daemon: Process) -> int:
    pending = daemon.status().get("pending", {})
    return int(pending.get("waiting", 0))


def test_a_flood_of_files_is_seen_whole_and_stops_nothing(
    daemon: Process, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    make_tree(tmp_path / "tree")
    daemon.start()
    daemon.ready()
    began = time.monotonic()
    (tmp_path / "tree").rename(daemon.root / "inbox" / "tree")
    picture(daemon.root / "inbox" / "starry" / "beside.jpg")
    until(lambda: daemon.exists("outbox/starry/beside.jpg"), STALL_S)
    beside = time.monotonic() - began
    seen, end = 0, time.monotonic() + STALL_S
    while seen < COUNT:
        assert time.monotonic() < end, f"stuck after {seen} of {COUNT}"
        assert daemon.get("/healthz") == "ok\n"
        if (now := waiting(daemon)) > seen:
            seen, end = now, time.monotonic() + STALL_S
        time.sleep(1.0)
    seconds = time.monotonic() - began
    assert seen == COUNT
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    peak = int(found.group(1)) * 1024
    assert peak < DAEMON_BYTES
    picture(daemon.root / "inbox" / "tree" / "trip 0" / "0.style.jpg")  # half a pair no longer
    picture(daemon.root / "inbox" / "tree" / "trip 0" / "0.content.jpg")
    until(lambda: daemon.exists("outbox/tree/trip 0/0.jpg"), STALL_S)
    assert daemon.stop()[0] == 0
    tell(
        f"{COUNT} files at once: a photograph beside them painted after {beside:.0f} s, all of "
        f"them judged after {seconds:.0f} s, the daemon at most {peak / 2**20:.0f} MiB."
    )
