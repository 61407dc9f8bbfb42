"""Real programs write into the inbox: each photograph settles once, whole, and not before."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from nstd.service import lease
from nstd.service.inbox import Inbox
from nstd.service.settling import Patience

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
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jpg"
    Image.effect_noise((640, 480), 60).convert("RGB").save(path, quality=95)
    return path


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_photograph_settles_once_and_whole(name: str, source: Path, tmp_path: Path) -> None:
    command = PRODUCERS[name]
    if not shutil.which(command.split()[0].strip("'")):
        pytest.skip(f"needs {command.split()[0]}")
    lease.prepare()
    folder = tmp_path / "inbox"
    folder.mkdir()
    inbox = Inbox(str(folder), patience=Patience(SETTLE_S, 30.0))
    target = folder / "photo.jpg"
    line = command.format(source=shlex.quote(str(source)), target=shlex.quote(str(target)))
    producer = subprocess.Popen(["/bin/sh", "-c", line])
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
