"""Real programs write into the inbox: each photograph settles once, whole, and not before."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from nstd.service import lease
from nstd.service.inbox import Inbox
from nstd.service.settling import Patience
from tests.service.kit import until
from tests.service.process import Process

DEADLINE_S = 60.0
SETTLE_S = 0.4
PYTHON = f"{shlex.quote(sys.executable)} -c"
# Pauses below are shorter than SETTLE_S where nothing but the quiet period can tell.
EXPLORER = "f.truncate(len(d)); f.flush(); [(time.sleep(.1), f.seek(i), f.write(d[i:i+n]), f.flush()) for i in range(0, len(d), n)]"  # noqa: E501
SLOW = "[(time.sleep(.02), f.write(d[i:i+n]), f.flush()) for i in range(0, len(d), n)]"
BURSTS = "[(time.sleep(.2), f.write(d[i:i+n]), f.flush()) for i in range(0, len(d), n)]"


def program(body: str, parts: int) -> str:
    code = (
        f"import sys, time; d = open(sys.argv[1], 'rb').read(); n = len(d) // {parts} + 1; "
        f"f = open(sys.argv[2], 'wb'); {body}; f.close()"
    )
    return f"{PYTHON} {shlex.quote(code)} {{source}} {{target}}"


REOPENING = (
    "import sys, time; d = open(sys.argv[1], 'rb').read(); n = len(d) // 8 + 1\n"
    "for i in range(0, len(d), n):\n"
    "    with open(sys.argv[2], 'ab') as f: f.write(d[i:i+n])\n"
    "    time.sleep(.15)"
)
PRODUCERS = {
    "cp": "cp {source} {target}",
    "cp -p": "cp -p {source} {target}",
    "mv on the same file system": "cp {source} {source}.2 && mv {source}.2 {target}",
    "install": "install -m 644 {source} {target}",
    "dd in small blocks": "dd if={source} of={target} bs=512 oflag=sync status=none",
    "rsync": "rsync {source} {target}",
    "rsync --inplace": "rsync --inplace --bwlimit=2000 {source} {target}",
    "write to a temporary name, then rename": "cp {source} {target}.part && sleep 0.5 && "
    "mv {target}.part {target}",
    "final size first, then bytes": program(EXPLORER, 12),
    "a little at a time": program(SLOW, 60),
    "appended in bursts": program(BURSTS, 6),
    "opened anew for each piece": f"{PYTHON} {shlex.quote(REOPENING)} {{source}} {{target}}",
    "written again while it settles": "cp {source} {target} && sleep 0.2 && cp {source} {target}",
    "a byte at a time": program("[(f.write(d[i:i+1]), f.flush()) for i in range(len(d))]", 1),
    "mv from another file system": "cp {source} {elsewhere} && mv {elsewhere} {target}",
    "PUT under a hidden name, then rename": "cp {source} {hidden} && sleep 0.5 && "
    "mv {hidden} {target}",
    "replaced while it settles": "echo half > {target} && sleep 0.2 && cp {source} {source}.new && "
    "mv {source}.new {target}",
}
"""Name → what a shell runs to put ``source`` into the inbox as ``target``."""


def line(command: str, source: Path, target: Path, elsewhere: Path) -> str:
    return command.format(
        source=shlex.quote(str(source)),
        target=shlex.quote(str(target)),
        hidden=shlex.quote(str(target.with_name(f".{target.name}.upload"))),
        elsewhere=shlex.quote(str(elsewhere / f"{target.name}.elsewhere")),
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jpg"
    Image.effect_noise((640, 480), 60).convert("RGB").save(path, quality=95)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on another file system where there is one."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="nstd-producers-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_photograph_settles_once_and_whole(
    name: str, source: Path, elsewhere: Path, tmp_path: Path
) -> None:
    command = PRODUCERS[name]
    if not _is_there(command):
        pytest.skip(f"needs {command.split()[0]}")
    lease.prepare()
    folder = tmp_path / "inbox"
    folder.mkdir()
    inbox = Inbox(str(folder), patience=Patience(SETTLE_S, 30.0))
    target = folder / "photo.jpg"
    producer = subprocess.Popen(["/bin/sh", "-c", line(command, source, target, elsewhere)])
    end = time.monotonic() + DEADLINE_S
    settled = False
    while not settled:
        assert time.monotonic() < end, "it never settled"
        scan = inbox.scan(time.monotonic())
        assert [file.name for file in scan.files] in ([], ["photo.jpg"])
        settled = any(file.settled for file in scan.files)
        if settled:  # at this very instant the bytes have to be all there
            assert target.read_bytes() == source.read_bytes()
        time.sleep(0.01)
    assert producer.wait(DEADLINE_S) == 0
    assert target.read_bytes() == source.read_bytes()
    assert len(inbox.scan(time.monotonic()).files) == 1


def test_all_of_them_at_once_give_each_photograph_one_picture(
    elsewhere: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """A real daemon with the stand-in engine, and every producer beside every other."""
    daemon = Process(tmp_path / "root", inbox={"settle_s": 2.0, "scan_interval_s": 0.5})
    inbox, digests, producers = daemon.root / "inbox" / "starry", {}, []
    daemon.start()
    try:
        daemon.ready()
        commands = {name: each for name, each in PRODUCERS.items() if _is_there(each)}
        for number, command in enumerate(commands.values()):
            source = tmp_path / f"source {number}.jpg"
            Image.effect_noise((320, 240), 60).convert("RGB").save(source, comment=str(number))
            digests[f"photo {number}"] = hashlib.sha256(source.read_bytes()).hexdigest()
            words = line(command, source, inbox / f"photo {number}.jpg", elsewhere)
            producers.append(subprocess.Popen(["/bin/sh", "-c", words]))
        gone = f"cp {shlex.quote(str(source))} {shlex.quote(str(inbox / 'gone.jpg'))}; sleep 0.1; "
        gone += f"rm {shlex.quote(str(inbox / 'gone.jpg'))}"
        producers.append(subprocess.Popen(["/bin/sh", "-c", gone]))
        assert [each.wait(DEADLINE_S) for each in producers] == [0] * len(producers)
        until(lambda: set(_painted(daemon.root)) >= set(digests))
        until(lambda: not any(path.is_file() for path in inbox.rglob("*")))
        until(lambda: not any((daemon.root / "state" / "spool").iterdir()))
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()
    assert _painted(daemon.root) == digests
    assert not any((daemon.root / "failed").iterdir())
    tell(f"{len(digests)} producers at once: each photograph painted once, and whole.")


def _is_there(command: str) -> bool:
    return shutil.which(command.split(maxsplit=1)[0].strip("'")) is not None


def _painted(root: Path) -> dict[str, str]:
    """Return by name which bytes each picture was painted from."""
    reports = (root / "outbox" / "starry").glob("*.json")
    return {path.stem: json.loads(path.read_text())["inputs"][0]["sha256"] for path in reports}
