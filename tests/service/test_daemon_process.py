"""A real daemon as a child process: real workers with the stand-in engine, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.kit import DEADLINE_S, picture, until
from tests.service.process import COMMAND, Process

MiB = 2**20
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "root")
    yield made
    made.end()


def test_the_three_ways_of_asking_each_give_a_picture(daemon: Process) -> None:
    inbox = daemon.root / "inbox"
    daemon.start()
    daemon.ready()
    picture(inbox / "starry" / "folder.jpg")
    picture(inbox / "pair.content.jpg")
    picture(inbox / "pair.style.png")
    picture(inbox / "side.png")
    (inbox / "side.yaml").write_text("content: side.png\nstyle: starry\niterations: 3\n")
    wanted = ("outbox/starry/folder.jpg", "outbox/pair.jpg", "outbox/side.png")
    until(lambda: daemon.exists(*wanted))
    until(lambda: len(daemon.status().get("recent", [])) == 3)
    code, _said = daemon.stop()
    assert code == 0
    assert list(inbox.rglob("*.*")) == []
    assert not list((daemon.root / "state" / "spool").iterdir())
    report = json.loads((daemon.root / "outbox" / "side.json").read_text())
    assert report["engine"] == "standin"
    assert report["picture"]["name"] == "side.png"
    assert daemon.exists("originals/side.yaml", "originals/starry/folder.jpg")
    assert not daemon.exists("state/listen")


def test_the_daemon_stays_small_and_never_loads_tensorflow(daemon: Process) -> None:
    daemon.start()
    daemon.ready()
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    until(lambda: daemon.exists("outbox/starry/a.jpg"))
    assert daemon.process is not None
    proc = Path("/proc") / str(daemon.process.pid)
    assert "tensorflow" not in (proc / "maps").read_text()
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    assert int(status["VmHWM"].split()[0]) * 1024 < 100 * MiB


def test_drain_paints_what_is_there_and_ends(daemon: Process) -> None:
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    picture(daemon.root / "inbox" / "lone.jpg")
    daemon.start("--drain")
    code, said = daemon.wait()
    assert code == 0
    assert daemon.exists("outbox/starry/a.jpg", "inbox/lone.jpg")
    assert "lone.jpg" in said


def test_drain_says_by_its_code_that_a_job_failed(daemon: Process) -> None:
    (daemon.root / "inbox" / "starry" / "bad.jpg").write_text("no picture at all")
    picture(daemon.root / "inbox" / "starry" / "good.jpg")
    daemon.start("--drain")
    code, _said = daemon.wait()
    assert code == 1
    assert daemon.exists("outbox/starry/good.jpg")
    (failed,) = (daemon.root / "failed").iterdir()
    assert (failed / "bad.jpg").exists()


def test_a_second_daemon_is_refused_and_names_the_first(daemon: Process) -> None:
    daemon.start()
    daemon.ready()
    assert daemon.process is not None
    second = subprocess.run(
        [*COMMAND, "run", "--config", str(daemon.root.parent / "nstd.yaml")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NSTD_ENGINE": "standin"},
        timeout=DEADLINE_S,
    )
    assert second.returncode == 75
    assert f"pid {daemon.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_in_use_is_named(daemon: Process) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon.start("--listen", f"127.0.0.1:{port}")
        code, said = daemon.wait()
    assert code == 78
    assert str(port) in said
    assert "Traceback" not in said


def test_missing_weights_end_the_start_with_their_remedy(daemon: Process) -> None:
    daemon.start(faults="start=weights")
    code, said = daemon.wait()
    assert code == 69
    assert "The stand-in has no weights." in said.splitlines()[-1]


def test_a_gpu_that_is_not_there_is_worth_another_try(daemon: Process) -> None:
    daemon.start(faults="start=gpu")
    assert daemon.wait()[0] == 75


def test_a_stop_hands_the_job_back_and_it_goes_on_from_its_checkpoint(daemon: Process) -> None:
    side = daemon.root / "inbox" / "starry" / "a.yaml"
    side.write_text("content: a.jpg\niterations: 100\n")
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    daemon.start(faults="step_s=0.2")
    until(lambda: any(job["step"] > 3 for job in daemon.status().get("running", [])))
    code, _said = daemon.stop()
    assert code == 0
    with daemon.ledger() as ledger:
        (job,) = ledger.jobs("queued")
        assert (job.attempts, job.daemon_deaths) == (0, 0)
    daemon.start(faults="step_s=0")
    until(lambda: daemon.exists("outbox/starry/a.jpg"))
    report = json.loads((daemon.root / "outbox" / "starry" / "a.json").read_text())
    assert any("checkpoint" in note for note in report["notes"])


def test_a_killed_daemon_takes_its_workers_along_and_goes_on_when_it_is_back(
    daemon: Process,
) -> None:
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    side = daemon.root / "inbox" / "starry" / "a.yaml"
    side.write_text("content: a.jpg\niterations: 100\n")
    daemon.start(faults="step_s=0.2")
    until(lambda: any(job["step"] > 3 for job in daemon.status().get("running", [])))
    assert daemon.process is not None
    children = _children(daemon.process.pid)
    assert children
    daemon.stop(signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    daemon.start()
    until(lambda: daemon.exists("outbox/starry/a.jpg"))
    until(lambda: len(daemon.status().get("recent", [])) == 1)
    with daemon.ledger() as ledger:
        (job,) = ledger.jobs("done")
        assert job.daemon_deaths == 1
    assert sorted(path.name for path in (daemon.root / "outbox" / "starry").iterdir()) == [
        "a.jpg",
        "a.json",
    ]


def test_a_worker_killed_with_several_jobs_loses_none_and_doubles_none(tmp_path: Path) -> None:
    daemon = Process(tmp_path / "root", worker={"batch": 3}, defaults={"iterations": 100})
    names = ("a", "b", "c", "d", "e")
    for name in names:
        picture(daemon.root / "inbox" / "starry" / f"{name}.jpg")
    try:
        daemon.start(faults="step_s=0.1")
        until(lambda: sum(job["step"] > 3 for job in daemon.status().get("running", [])) == 3)
        assert daemon.process is not None
        (worker,) = daemon.status()["workers"]
        assert len(worker["jobs"]) == 3
        for pid in _children(daemon.process.pid):
            os.kill(pid, signal.SIGKILL)
        until(lambda: daemon.status()["workers"][0]["jobs"] != worker["jobs"])
        daemon.stop()  # with jobs that are tried again, alone
        daemon.start()
        until(lambda: daemon.exists(*(f"outbox/starry/{name}.jpg" for name in names)))
        until(lambda: len(daemon.status().get("recent", [])) == len(names))
    finally:
        daemon.end()
    with daemon.ledger() as ledger:
        assert [job.worker_deaths for job in ledger.jobs("done")] == [0] * len(names)
    found = sorted(path.name for path in (daemon.root / "outbox" / "starry").iterdir())
    assert found == sorted(f"{name}.{kind}" for name in names for kind in ("jpg", "json"))


def test_a_worker_that_crashes_twice_on_a_job_does_not_stop_the_next(daemon: Process) -> None:
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    side = daemon.root / "inbox" / "starry" / "a.yaml"
    side.write_text("content: a.jpg\niterations: 30\n")
    daemon.start(faults="at=20 do=crash")
    until(lambda: bool(daemon.status().get("failed")))
    (failed,) = daemon.status()["failed"]
    assert failed["reason"] == "stuck"
    assert "2 times" in failed["error"]
    picture(daemon.root / "inbox" / "starry" / "next.jpg")
    until(lambda: daemon.exists("outbox/starry/next.jpg"))
    assert daemon.stop()[0] == 0


def test_a_new_configuration_is_taken_over_on_sighup(daemon: Process) -> None:
    daemon.start()
    daemon.ready()
    path = daemon.root.parent / "nstd.yaml"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "queue": {"capacity_jobs": 7}}))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.status().get("capacity") == 7)
    path.write_text("queue: {capacity_jobs: none}")
    daemon.process.send_signal(signal.SIGHUP)
    metric = "nstd_config_last_reload_successful 0.0"
    until(lambda: metric in (daemon.get("/metrics") or ""))
    assert daemon.status()["capacity"] == 7


def test_commands_reach_the_running_daemon(daemon: Process) -> None:
    picture(daemon.root / "inbox" / "starry" / "a.jpg")
    side = daemon.root / "inbox" / "starry" / "a.yaml"
    side.write_text("content: a.jpg\niterations: 1000\n")
    daemon.start(faults="step_s=0.1")
    until(lambda: any(job["step"] > 0 for job in daemon.status().get("running", [])))
    job = daemon.status()["running"][0]["id"]
    config = str(daemon.root.parent / "nstd.yaml")
    done = subprocess.run(
        [*COMMAND, "cancel", job, "--config", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    until(lambda: not daemon.status()["running"])
    with daemon.ledger() as ledger:
        assert [job.state for job in ledger.recent(10)] == ["cancelled"]


def test_systemd_is_told_what_goes_on(daemon: Process, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        daemon.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        said = ""
        while "WATCHDOG=1" not in said:
            said += manager.recv(4096).decode() + "\n"
        assert "READY=1" in said
        assert "STATUS=" in said
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        while "RELOADING=1" not in said:
            said += manager.recv(4096).decode() + "\n"
        daemon.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in said:
            said += manager.recv(4096).decode() + "\n"
    assert daemon.wait()[0] == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
