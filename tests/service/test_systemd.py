from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.service.snapshot import RunningJob, Snapshot
from nstd.service.systemd import MAX_STATUS, Notifier, duration, status_line


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def notifier(systemd: socket.socket, **env: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": systemd.getsockname(), **env})


def received(systemd: socket.socket) -> list[str]:
    return systemd.recv(4096).decode().split("\n")


def test_without_systemd_nothing_happens() -> None:
    quiet = Notifier({})
    quiet.ready("up")
    quiet.alive()
    quiet.stopping()
    assert quiet.watchdog_s is None


def test_ready_carries_the_status(systemd: socket.socket) -> None:
    notifier(systemd).ready("Ready: 0 queued")
    assert received(systemd) == ["READY=1", "STATUS=Ready: 0 queued"]


def test_the_same_status_is_sent_once(systemd: socket.socket) -> None:
    speaker = notifier(systemd)
    speaker.status("a")
    speaker.status("a")
    speaker.status("b")
    assert received(systemd) == ["STATUS=a"]
    assert received(systemd) == ["STATUS=b"]


def test_a_status_is_one_bounded_line_whatever_a_file_is_called(systemd: socket.socket) -> None:
    notifier(systemd).status("a\nREADY=1\x1b[31m\u202e" + "x" * 5000)
    (line,) = received(systemd)
    assert line.startswith("STATUS=a\\nREADY=1\\x1b[31m\\u202e")
    assert len(line) == MAX_STATUS + len("STATUS=")


def test_the_watchdog_is_fed_only_where_systemd_watches(systemd: socket.socket) -> None:
    assert notifier(systemd).watchdog_s is None
    notifier(systemd).alive()
    watched = notifier(systemd, WATCHDOG_USEC="120000000", WATCHDOG_PID=str(os.getpid()))
    assert watched.watchdog_s == 120.0
    watched.alive()
    assert received(systemd) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "env",
    [
        {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "0"},
    ],
)
def test_the_watchdog_of_another_process_is_not_ours(env: dict[str, str]) -> None:
    assert Notifier(dict(env)).watchdog_s is None


def test_a_reload_carries_the_monotonic_time(systemd: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    notifier(systemd).reloading()
    first, second = received(systemd)
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_stopping_extending_and_failing_are_said(systemd: socket.socket) -> None:
    speaker = notifier(systemd)
    speaker.stopping("Stopping: writing checkpoints")
    assert received(systemd) == ["STOPPING=1", "STATUS=Stopping: writing checkpoints"]
    speaker.extend_timeout(30)
    assert received(systemd) == ["EXTEND_TIMEOUT_USEC=30000000"]
    speaker.failed("No weights.", 2)
    assert received(systemd) == ["ERRNO=2", "STATUS=No weights."]


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"nstd-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert sock.recv(100) == b"READY=1"


def test_a_supervisor_that_went_away_stops_nothing(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("up")


def test_a_receiver_that_does_not_read_holds_nothing_up(systemd: socket.socket) -> None:
    speaker = notifier(systemd)
    for number in range(15):  # more than a queue of datagrams holds (net.unix.max_dgram_qlen)
        speaker.status(f"line {number}")
    assert received(systemd) == ["STATUS=line 0"]


def test_the_status_line_says_percent_and_eta() -> None:
    job = RunningJob("a", "portrait.jpg", "s", "w0", "optimize", 0.0, step=34, steps=100, eta_s=41)
    snap = Snapshot(
        0.0,
        "ready",
        running=(job,),
        pending={"queued": 12, "running": 1, "waiting": 2},
        totals={"done": 9, "failed": 2},
    )
    assert status_line(snap) == (
        "Ready: 12 queued, 1 running (portrait.jpg 34 %, eta 0:41), 2 waiting, 9 done, 2 failed"
    )


def test_the_status_line_begins_with_what_is_wrong() -> None:
    snap = Snapshot(0.0, "paused", notes=("The outbox is full.",))
    assert status_line(snap) == "Paused: The outbox is full. 0 queued, 0 running"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (41.4, "0:41"), (725, "12:05"), (11220, "3:07:00")]
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
