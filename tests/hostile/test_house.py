"""Everything hostile at once in the inbox of a real daemon: each ends in words, and it lives on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nstd.jobs.text import shown
from tests.hostile.images.corpus import CASES
from tests.photo.make import saved, scene
from tests.service.kit import picture, until
from tests.service.process import Process

MiB = 2**20
DAEMON_BYTES = 160 * MiB
WORKER_BYTES = 512 * MiB
DECODE_BYTES = 512 * MiB
NAMES = (
    b"new\nline.jpg", b"esc\x1b[31mape.jpg", "\u202egpj.exe.jpg".encode(), b"\xff\xfe.jpg",
    b"-rf.jpg", b"--help.jpg", b"a" * 251 + b".jpg", b"%s%n.jpg",
    b"<img src=x onerror=alert(1)>.jpg", b"$(reboot).jpg", b"' OR 1=1 --.jpg", b"a:b|c?.jpg",
    "🏖.jpg".encode(), b"\x7f.jpg",
)  # fmt: skip
MERGES = b"a: &a {x: 1}\n" + b"".join(b"m%d: &m%d {<<: [*a, *a]}\n" % (i, i) for i in range(12))
SIDECARS = {
    "nan": b"style: starry\nstyle_weight: .nan\n",
    "infinity": b"style: starry\ncontent_weight: .inf\n",
    "iterations": b"style: starry\niterations: 1000000000\n",
    "iterations-e": b"style: starry\niterations: 1e9\n",
    "size": b"style: starry\nsize: 1000000\n",
    "up": b"content: ../../secret/secret.jpg\nstyle: starry\n",
    "root": b"content: /etc/passwd\nstyle: starry\n",
    "style-up": b"style: ../../../secret/secret.jpg\n",
    "style-root": b"style: /etc/passwd\n",
    "output-up": b"style: starry\noutput: {name: ../../../secret/new}\n",
    "output-root": b"style: starry\noutput: {name: /tmp/nstd-was-here}\n",
    "laughs": b"style: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "merges": b"style: starry\n" + MERGES,
    "deep": b"style: " + b"[" * 6000,
    "tag": b"style: !!python/object/apply:os.system [reboot]\n",
    "digits": b"style: starry\nseed: " + b"9" * 5000,
    "binary": b"style: \x00\x01\x02\xff\xfe",
    "long": b"style: starry\n" + b"# x\n" * 9000,
}
"""Each with a photograph of its stem beside it; none may become a job that is painted."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def write_everything(root: Path, secret: Path) -> None:
    """Write all that is hostile; a photograph ends where its name says."""
    starry, inbox = root / "inbox" / "starry", root / "inbox"
    for case in CASES:
        (starry / f"case-{case.name}").write_bytes(case.make())
    good = saved(scene(), "JPEG")
    for name in NAMES:
        with open(os.path.join(os.fsencode(starry), name), "wb") as file:
            file.write(good)
    for stem, text in SIDECARS.items():
        (inbox / f"{stem}.jpg").write_bytes(good)
        (inbox / f"{stem}.yaml").write_bytes(text)
    (starry / "link.jpg").symlink_to(secret)
    (starry / "folder-link").symlink_to(secret.parent)
    os.link(secret, starry / "hardlink.jpg")
    os.mkfifo(starry / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(starry):
        sock.bind("socket.jpg")
    with contextlib.suppress(PermissionError):
        os.mknod(starry / "zero.jpg", stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a picture that lies outside all folders of the daemon."""
    path = tmp_path / "secret" / "secret.jpg"
    path.parent.mkdir()
    path.write_bytes(saved(scene(), "JPEG", comment=b"secret"))
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Process]:
    limits = {"decode_timeout_s": 10.0, "decode_memory_bytes": DECODE_BYTES}
    made = Process(
        tmp_path / "root",
        inbox={"settle_s": 0.3, "incomplete_timeout_s": 1.0, "scan_interval_s": 0.5},
        outbox={"free_space_floor_bytes": 0},
        worker={"retry_s": 0.1, **limits},
    )
    yield made
    made.end()


def peak(pid: int) -> int:
    """Return the most memory that a process was ever resident with."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1)) * 1024


def digests(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def at_rest(daemon: Process) -> bool:
    pending = daemon.status().get("pending", {})
    return bool(pending) and not any(
        pending.get(state) for state in ("settling", "queued", "running", "deferred")
    )


def test_everything_hostile_at_once(
    daemon: Process, secret: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    root = daemon.root
    write_everything(root, secret)
    outside = {path: path.lstat().st_mtime_ns for path in secret.parent.rglob("*")}
    with (tmp_path / "log").open("w") as log:
        daemon.start(log=log)
    daemon.ready()
    fails = sum(case.ends is not None for case in CASES)
    until(lambda: sum(daemon.status().get("totals", {}).values()) >= len(CASES), 900)
    until(lambda: at_rest(daemon), 300)
    picture(root / "inbox" / "starry" / "after.jpg")
    until(lambda: daemon.exists("outbox/starry/after.jpg"))
    assert daemon.process is not None
    (worker,) = map(
        int,
        Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split(),
    )
    assert peak(daemon.process.pid) < DAEMON_BYTES
    assert peak(worker) < WORKER_BYTES
    status, metrics = daemon.status(), daemon.get("/metrics") or ""
    page = (daemon.get("/") or "").encode()
    assert daemon.get("/healthz") == "ok\n"
    assert daemon.stop()[0] == 0

    reports = (json.loads(path.read_text()) for path in (root / "outbox").rglob("*.json"))
    painted = {report["inputs"][0]["name"] for report in reports}
    well = {f"case-{case.name}" for case in CASES if case.ends is None}
    assert {name for name in painted if name.startswith("case-")} == well
    words = "\n".join(path.read_text() for path in (root / "failed").rglob("error.txt"))
    for stem in SIDECARS:
        assert not list((root / "outbox").glob(f"{stem}*")), stem
        assert f"{stem}." in words, stem
    assert status["totals"]["failed"] >= fails + len(SIDECARS)
    refused = " ".join(each["reason"] for each in status["waiting"])
    for kind in ("link", "pipe", "socket"):
        assert kind in refused

    secret_digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    for folder in ("outbox", "originals", "failed", "state"):
        assert secret_digest not in digests(root / folder), folder
    assert {path: path.lstat().st_mtime_ns for path in secret.parent.rglob("*")} == outside
    assert not Path("/tmp/nstd-was-here.jpg").exists()

    said = (tmp_path / "log").read_bytes()
    for text in (said, page, metrics.encode(), words.encode()):
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", text)
        assert "\u202e".encode() not in text
    assert b"<img src=x" not in page
    for name in ("case-", "onerror", "reboot", *SIDECARS):
        labels = re.findall(r'="([^"]*)"', metrics)
        assert not any(shown(name) in label for label in labels if len(name) > 4)
    tell(
        f"{len(CASES)} pictures, {len(NAMES)} names, {len(SIDECARS)} sidecars and 6 kinds of "
        f"files, all hostile, in one inbox: {status['totals']['done']} painted, "
        f"{status['totals']['failed']} failed in words, the rest left where they are."
    )
