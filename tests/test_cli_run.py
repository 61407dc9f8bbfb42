"""``nstd run`` as systemd and Prometheus see it: a real process, its signals, its doors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from nstd.service.snapshot import Snapshot
from nstd.workers import standin

DEADLINE_S = 90.0


class Service:
    """A daemon started the way the unit starts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "nstd.yaml"
        self.write("")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(root / "notify"))
        self.heard: list[str] = []
        self._understood = 0
        threading.Thread(target=self._listen, daemon=True).start()
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, more: str) -> None:
        self.config.write_text(
            f"folders: {{root: {self.root / 'house'}}}\n"
            "model: {weights: builtin, device: cpu}\n"
            "http: {listen: '127.0.0.1:0'}\n"
            "inbox: {settle_s: 0.1, scan_interval_s: 0.2}\n"
            f"defaults: {{preset: tiny}}\n{more}"
        )

    def start(self) -> None:
        env = {
            **os.environ,
            standin.ENGINE_VARIABLE: "standin",
            "NOTIFY_SOCKET": str(self.root / "notify"),
            "WATCHDOG_USEC": "4000000",
        }
        command = [sys.executable, "-m", "nstd", "run", "--config", str(self.config)]
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def _listen(self) -> None:
        """Read as systemd does: at once, whatever else goes on."""
        with contextlib.suppress(OSError):
            while lines := self.socket.recv(8192).decode():
                self.heard += lines.split("\n")

    def hear(self, wanted: str) -> None:
        """Wait until systemd is told a line that begins with ``wanted``, after the last one."""
        self.wait_for(lambda: self._next(wanted) is not None)
        self._understood = (self._next(wanted) or 0) + 1

    def _next(self, wanted: str) -> int | None:
        news = enumerate(self.heard)
        return next(
            (i for i, line in news if i >= self._understood and line.startswith(wanted)), None
        )

    def get(self, path: str) -> bytes:
        address = (self.root / "house" / "state" / "listen").read_text().strip()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def log(self) -> str:
        return (self.root / "log").read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.heard, self.log())
            time.sleep(0.05)

    def end(self) -> int:
        assert self.process
        self.signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    styles = tmp_path / "house" / "styles"
    styles.mkdir(parents=True)
    Image.new("RGB", (32, 32), "navy").save(styles / "night.png")
    yield service
    service.socket.shutdown(socket.SHUT_RDWR)
    service.socket.close()
    if service.process and service.process.poll() is None:
        service.process.kill()
        service.process.wait()


def test_the_service_lives_its_life_under_systemd_and_prometheus(
    service: Service, promtool: str
) -> None:
    service.start()
    service.hear("READY=1")
    assert service.get("/readyz") == b"ok\n"
    assert service.get("/healthz") == b"ok\n"
    service.hear("WATCHDOG=1")

    inbox = service.root / "house" / "inbox"
    Image.new("RGB", (40, 30), "teal").save(inbox / "night" / "sea.png")
    picture = service.root / "house" / "outbox" / "night" / "sea.png"
    service.wait_for(picture.exists)
    service.wait_for(lambda: Snapshot.from_json(service.get("/api/jobs")).totals["done"] == 1)
    service.hear("STATUS=Ready: 0 queued, 0 running, 1 done")

    scrape = service.get("/metrics")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=scrape, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert b'nstd_jobs_total{outcome="done"} 1.0' in scrape
    assert b"sea" not in scrape

    assert service.process
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "tensorflow" not in maps

    service.write("log: {level: debug}\n")
    service.signal(signal.SIGHUP)
    service.hear("RELOADING=1")
    service.hear("READY=1")
    service.write("log: {level: loud}\n")
    service.signal(signal.SIGHUP)
    service.hear("READY=1")
    service.wait_for(lambda: "log.level is 'loud'" in service.log())
    assert b"nstd_config_last_reload_successful 0.0" in service.get("/metrics")

    assert service.end() == 0
    service.hear("STOPPING=1")
    for line in service.log().splitlines():
        assert json.loads(line)["event"]


def test_commands_beside_the_service_agree_with_it(service: Service) -> None:
    service.start()
    service.hear("READY=1")
    inbox = service.root / "house" / "inbox"
    (inbox / "night" / "bad.jpg").write_bytes(b"no picture")
    service.wait_for(lambda: bool(Snapshot.from_json(service.get("/api/jobs")).failed))
    options = ["--config", str(service.config)]

    def nstd(*args: str) -> str:
        command = [sys.executable, "-m", "nstd", *args, *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    told = Snapshot.from_json(nstd("status", "--json"))
    assert service.process
    assert (told.state, told.pid) == ("ready", service.process.pid)
    (failed,) = told.failed
    assert failed.name == "night/bad.jpg"
    assert failed.id in nstd("status")
    told_of = nstd("retry", failed.id)
    assert "is queued again, as" in told_of
    service.wait_for(lambda: len(Snapshot.from_json(service.get("/api/jobs")).failed) == 2)
    newest = Snapshot.from_json(service.get("/api/jobs")).failed[0]
    assert newest.id in told_of
    assert service.end() == 0
    after = Snapshot.from_json(nstd("status", "--json"))
    assert (after.state, after.totals["failed"]) == ("down", 2)


def test_a_second_daemon_and_a_taken_port_are_told_apart(service: Service) -> None:
    service.start()
    service.hear("READY=1")
    listen = (service.root / "house" / "state" / "listen").read_text().strip()
    env = {**os.environ, standin.ENGINE_VARIABLE: "standin"}
    command = [sys.executable, "-m", "nstd", "run", "--weights", "builtin", "--device", "cpu"]

    def refused(*more: str) -> tuple[int, str]:
        done = subprocess.run(
            [*command, *more], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr.splitlines()[-1]

    code, words = refused("--config", str(service.config))
    assert service.process
    assert code == 75
    assert f"pid {service.process.pid}" in words
    code, words = refused("--root", str(service.root / "other"), "--listen", listen)
    assert code == 78
    assert f"{listen.rpartition(':')[2]} is in use" in words
    assert service.end() == 0
