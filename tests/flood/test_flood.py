"""A thousand photographs at once, a queue of sixteen: each is painted exactly once.

Separate, because it takes minutes (``make flood-test``). NSTD_FLOOD sets the number of photographs;
the engine is the real one, with the preset ``tiny`` and the built-in features.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from nstd.service.snapshot import Snapshot

COUNT = int(os.environ.get("NSTD_FLOOD", "1000"))
CAPACITY = 16
STYLE = "checks"
STALL_S = 120.0
"""Without one more picture for so long the test gives up; a slow machine is no failure."""

CONFIG = """
inbox: {intake: move}
queue: {capacity_jobs: %d}
model: {weights: builtin, device: cpu}
defaults: {preset: tiny}
outbox: {preview: false}
http: {listen: "127.0.0.1:0"}
"""

pytestmark = pytest.mark.slow


def make_photos(folder: Path) -> dict[str, str]:
    """Write COUNT different photographs; return their digests by stem."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    digests = {}
    for number in range(COUNT):
        height, width = (48, 64) if number % 3 else (64, 48)
        coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path = folder / f"photo {number:04}.jpg"
        image.save(path, quality=90)
        digests[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(set(digests.values())) == COUNT
    return digests


@contextmanager
def daemon(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = root / "nstd.yaml"
    config.write_text(CONFIG % CAPACITY)
    command = [sys.executable, "-c", "import nstd.cli; nstd.cli.main()", "run"]
    with (root / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--root", str(root), "--config", str(config)], stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


def look(root: Path) -> Snapshot | None:
    try:
        address = (root / "state" / "listen").read_text().strip()
        with urlopen(f"http://{address}/api/jobs", timeout=30) as answer:
            return Snapshot.from_json(answer.read())
    except OSError:
        return None


def watch(root: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until every photograph has ended; return the longest queue that was seen."""
    ended, longest, deadline = 0, 0, time.monotonic() + 2 * STALL_S
    while ended < COUNT:
        assert process.poll() is None, (root / "daemon.log").read_text()[-2000:]
        assert time.monotonic() < deadline, f"stuck after {ended} of {COUNT}"
        snapshot = look(root)
        if snapshot:
            longest = max(longest, sum(snapshot.pending.get(s, 0) for s in ("queued", "running")))
            if (now := sum(snapshot.totals.values())) > ended:
                ended, deadline = now, time.monotonic() + STALL_S
        time.sleep(0.5)  # between two looks, not instead of one
    return longest


@pytest.mark.timeout(0)
def test_each_of_many_photographs_is_painted_exactly_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    photos = tmp_path / "photos"
    digests = make_photos(photos)
    (root / "styles").mkdir(parents=True)
    stripes = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(np.dstack([stripes * 220, stripes * 90, 200 - stripes * 180])).save(
        root / "styles" / f"{STYLE}.png"
    )
    inbox = root / "inbox" / STYLE
    inbox.mkdir(parents=True)
    with daemon(root) as process:
        started = time.monotonic()
        for path in photos.iterdir():
            shutil.copy(path, inbox)
        longest = watch(root, process)
        seconds = time.monotonic() - started
    assert process.returncode == 0
    with capsys.disabled():
        print(  # noqa: T201  # the figures of the run are what the target is for
            f"\nflood: {COUNT} photographs at once, {seconds:.0f} s "
            f"({60 * COUNT / seconds:.0f} a minute), longest queue {longest} of {CAPACITY}"
        )
    assert longest <= CAPACITY
    outbox = root / "outbox" / STYLE
    pictures = {path.stem for path in outbox.glob("*.jpg")}
    assert pictures == set(digests)
    painted: collections.Counter[str] = collections.Counter()
    for path in outbox.glob("*.json"):
        content = json.loads(path.read_text())["inputs"][0]
        assert digests[path.stem] == content["sha256"]
        painted[content["sha256"]] += 1
    assert len(painted) == COUNT
    assert set(painted.values()) == {1}
    assert list(inbox.iterdir()) == []
    assert {path.stem for path in (root / "originals" / STYLE).iterdir()} == set(digests)
    assert not any((root / "failed").iterdir())
    assert not any((root / "state" / "spool").iterdir())
    assert [path for path in root.rglob("*.tmp") if path.is_file()] == []
