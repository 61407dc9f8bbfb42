"""Syncthing delivers into the inbox: each photograph is painted once and whole, and none goes."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import program
from tests.service.kit import until
from tests.service.process import Process

CONFIG = """<configuration version="36">
  <folder id="photos" path="{folder}" type="sendreceive" rescanIntervalS="30"
          fsWatcherEnabled="true" fsWatcherDelayS="1">
    <device id="{me}"/><device id="{peer}"/>
  </folder>
  <device id="{me}" name="me"><address>dynamic</address></device>
  <device id="{peer}" name="peer"><address>tcp://127.0.0.1:{peer_port}</address></device>
  <gui enabled="true"><address>127.0.0.1:{gui}</address><apikey>key</apikey></gui>
  <options>
    <listenAddress>tcp://127.0.0.1:{port}</listenAddress>
    <globalAnnounceEnabled>false</globalAnnounceEnabled>
    <localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled>
    <natEnabled>false</natEnabled>
    <startBrowser>false</startBrowser>
    <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
    <crashReportingEnabled>false</crashReportingEnabled>
    <urAccepted>-1</urAccepted>
    <reconnectionIntervalS>1</reconnectionIntervalS>
  </options>
</configuration>
"""

LATE_US = 1_500_000
"""Five times as long as the daemon of the test lets a file settle."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Device:
    """One Syncthing with one shared folder, reachable on loopback alone."""

    program: str
    home: Path
    folder: Path
    port: int = field(default_factory=free_port)
    gui: int = field(default_factory=free_port)
    id: str = ""
    process: subprocess.Popen[bytes] | None = None
    through: Sequence[str] = ()
    """The command that runs Syncthing, where something is done to its system calls."""

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [self.program, "generate", "--home", str(self.home), "--no-default-folder"],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"Device ID: ([A-Z0-9-]{63})", made.stdout + made.stderr)
        assert found, made.stdout + made.stderr
        self.id = found.group(1)

    def start(self, peer: Device) -> None:
        text = CONFIG.format(
            folder=self.folder, me=self.id, peer=peer.id, peer_port=peer.port, port=self.port,
            gui=self.gui,
        )  # fmt: skip
        (self.home / "config.xml").write_text(text)
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self.through,
                    self.program,
                    "serve",
                    "--home",
                    str(self.home),
                    "--no-browser",
                    "--no-restart",
                ],
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End Syncthing, and what it runs through: strace would leave it behind."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "STNOUPGRADE": "1", "STNORESTART": "1"}

    def files(self) -> dict[str, str]:
        """Return the digest of every file in the folder that is not Syncthing's own."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.is_file() and not any(part.startswith(".") for part in Path(name).parts):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


@pytest.fixture(params=["as it is", "times come late"])
def devices(
    syncthing: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Device, Device]]:
    """Return a phone and the inbox of a daemon, kept in step.

    Syncthing gives a file its times once it has its name: on a busy machine, maybe after it has
    settled and was taken.
    """
    phone = Device(syncthing, tmp_path / "phone-home", tmp_path / "phone")
    inbox = Device(syncthing, tmp_path / "inbox-home", tmp_path / "root" / "inbox")
    if request.param == "times come late":
        inbox.through = [
            program("strace"), "-f", "-qq", "-o", "/dev/null",
            "-e", "trace=utimensat", "-e", f"inject=utimensat:delay_enter={LATE_US}",
        ]  # fmt: skip
    with ExitStack() as stack:
        for device in (phone, inbox):
            device.make()
        for device, peer in ((phone, inbox), (inbox, phone)):
            device.start(peer)
            stack.callback(device.stop)
        yield phone, inbox


def photo(path: Path, seed: int, side: int) -> None:
    """Write a photograph; a large one takes Syncthing many blocks."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side * 3 // 4, side, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92)


def painted(outbox: Path) -> dict[str, str]:
    """Return, by name, the digest of the photograph that each picture was painted from."""
    found = {}
    for path in outbox.rglob("*.json"):
        report = json.loads(path.read_text())
        content = next(each for each in report["inputs"] if each["role"] == "content")
        found[str(path.relative_to(outbox).with_suffix(""))] = content["sha256"]
    return found


def test_what_syncthing_delivers_is_painted_once_and_whole_and_stays(
    devices: tuple[Device, Device], tmp_path: Path
) -> None:
    phone, inbox = devices
    root = tmp_path / "root"
    until((inbox.folder / ".stfolder").exists)
    daemon = Process(root)
    daemon.start()
    try:
        for number in range(6):
            photo(phone.folder / "starry" / f"small {number}.jpg", number, 160)
        for number in range(3):
            photo(phone.folder / "starry" / f"large {number}.jpg", 50 + number, 1600)
        daemon.ready()
        until(lambda: daemon.exists("outbox/starry/small 0.jpg"))
        daemon.stop(signal.SIGKILL)
        photo(phone.folder / "pair.content.jpg", 100, 1000)
        photo(phone.folder / "pair.style.jpg", 101, 300)
        photo(phone.folder / "side.jpg", 102, 1000)
        (phone.folder / "side.yaml").write_text("content: side.jpg\nstyle: starry\n")
        until(lambda: "side.yaml" in inbox.files())
        daemon.start()
        wanted = {f"starry/small {n}" for n in range(6)} | {f"starry/large {n}" for n in range(3)}
        until(lambda: set(painted(root / "outbox")) >= {*wanted, "pair", "side"})
        photo(phone.folder / "starry" / "small 5.jpg", 200, 170)  # another one of the same name
        until(lambda: "starry/small 5-2" in painted(root / "outbox"))
        first = phone.files()
        until(lambda: inbox.files() == first)
        code, _ = daemon.stop()
        assert code == 0
    finally:
        daemon.end()
    made = painted(root / "outbox")
    assert set(made) == {*wanted, "pair", "side", "starry/small 5-2"}
    assert made["starry/small 5-2"] == first["starry/small 5.jpg"]
    for name in wanted - {"starry/small 5"}:
        assert made[name] == first[f"{name}.jpg"], name
    assert made["pair"] == first["pair.content.jpg"]
    assert set(collections.Counter(made.values()).values()) == {1}
    assert phone.files() == inbox.files() == first  # copied from: nothing moved, nothing added
    assert not any((root / "failed").iterdir())
    assert not any((root / "state" / "spool").iterdir())
