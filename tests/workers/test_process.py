"""A worker child hears only the daemon, holds nothing of it, and dies with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.workers import wire
from nstd.workers.executor import WorkerReady
from nstd.workers.process import ChildProcess, environment, is_noise
from nstd.workers.settings import WorkerSettings
from tests.workers.conftest import alive, wait_until


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    """Return a child with the stand-in that is ready for tasks."""
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    process = ChildProcess("w0", "cpu", WorkerSettings())
    try:
        until_ready(process)
        yield process
    finally:
        process.kill()
        with contextlib.suppress(OSError):
            process.close()


def until_ready(process: ChildProcess) -> None:
    said: list[wire.Message] = []

    def ready() -> bool:
        said.extend(process.receive())
        return bool(said)

    wait_until(ready, "the child to be ready")
    assert isinstance(wire.unpack_event(said[0]), WorkerReady)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_meant_for_the_daemon_do_not_end_it(child: ChildProcess, number: int) -> None:
    status = Path(f"/proc/{child.pid}/status").read_text()
    ignored = int(status.split("SigIgn:")[1].split()[0], 16)
    assert ignored & 1 << (number - 1)
    os.kill(child.pid, number)
    assert child.exit_status() is None


def test_a_stop_ends_it_in_good_order(child: ChildProcess) -> None:
    child.send({"op": "stop"})
    wait_until(lambda: child.exit_status() is not None, "the child's end")
    assert child.exit_status() == wire.EXIT_DONE


def test_the_end_of_its_pipe_ends_it(child: ChildProcess) -> None:
    child._end.close()
    wait_until(lambda: child.exit_status() is not None, "the child's end")
    assert child.exit_status() == wire.EXIT_DONE


def test_its_exit_status_can_be_read_again_until_it_is_closed(child: ChildProcess) -> None:
    child.kill()
    wait_until(lambda: child.exit_status() is not None, "the child's end")
    assert child.exit_status() == child.exit_status() == -signal.SIGKILL


def test_the_lock_of_the_daemon_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    path = tmp_path / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = ChildProcess("w0", "cpu", WorkerSettings())
    try:
        until_ready(child)
        held = [os.readlink(entry) for entry in Path(f"/proc/{child.pid}/fd").iterdir()]
        assert str(path) not in held
        os.close(lock)
        with open(path, "rb") as again:  # free at once, though the child lives
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert alive(child.pid)
    finally:
        child.kill()
        child.close()


DAEMON = """
import os, signal, sys, time
from nstd.workers.process import ChildProcess
from nstd.workers.settings import WorkerSettings
child = ChildProcess("w0", "cpu", WorkerSettings())
if "keep" in sys.argv:  # somebody else keeps the pipe open: only the kernel can tell
    os.set_inheritable(child._end.fileno(), True)
    os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
while not child.receive():
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("pipe", ["close", "keep"])
def test_a_daemon_that_is_killed_takes_it_along(monkeypatch: pytest.MonkeyPatch, pipe: str) -> None:
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, pipe], stdout=subprocess.PIPE, start_new_session=True
    ) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert alive(pid)
        daemon.kill()
        wait_until(lambda: not alive(pid), "the child's end")
        os.killpg(daemon.pid, signal.SIGKILL)  # the sleeper


def test_the_kernel_prefers_it_when_memory_runs_out(child: ChildProcess) -> None:
    score = int(Path(f"/proc/{child.pid}/oom_score_adj").read_text())
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert score > own


def test_it_loads_no_tensorflow_for_the_stand_in(child: ChildProcess) -> None:
    assert "tensorflow" not in Path(f"/proc/{child.pid}/maps").read_text()


def test_the_working_folder_is_no_place_to_import_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    child = ChildProcess("w0", "cpu", WorkerSettings())
    try:
        until_ready(child)
    finally:
        child.kill()
        child.close()


def test_its_log_comes_by_whole_lines_and_long_ones_are_cut() -> None:
    code = "import sys; sys.stderr.write('one\\ntwo\\n' + 'x' * 9000); sys.stderr.flush()"
    child = ChildProcess.__new__(ChildProcess)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.wait()
        os.set_blocking(process.stderr.fileno(), False)
        child._device, child._log, child._log_rest = "cpu", process.stderr, b""
        assert child.log_lines() == ["one", "two", "x" * 2000]


def test_a_cpu_worker_sees_no_gpu() -> None:
    assert environment("cpu", {"CUDA_VISIBLE_DEVICES": "0,1"})["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_gpu_worker_sees_only_its_own() -> None:
    assert environment("gpu:1", {"CUDA_VISIBLE_DEVICES": "3,5"})["CUDA_VISIBLE_DEVICES"] == "5"


def test_the_planned_crash_of_a_daemon_is_not_that_of_its_workers() -> None:
    assert "NSTD_CRASH_AT" not in environment("cpu", {"NSTD_CRASH_AT": "3"})
    env = environment("cpu", {"NSTD_CRASH_AT": "3", "NSTD_WORKER_CRASH_AT": "5"})
    assert env["NSTD_CRASH_AT"] == "5"


@pytest.mark.parametrize(
    ("line", "noise"),
    [
        ("I0000 00:00:1795377716.985903   20523 port.cc:153] oneDNN custom operations", True),
        ("WARNING: All log messages before absl::InitializeLog() is called", True),
        ("E0000 00:00:1795377725.757154   20523 cuda_platform.cc:52] failed call to cuInit", True),
        ("E0000 00:00:1795377725.757154   20523 cuda_dnn.cc:52] could not load", False),
        ("Traceback (most recent call last):", False),
    ],
)
def test_chatter_is_told_from_what_matters(line: str, noise: bool) -> None:
    assert is_noise(line, "cpu") == noise


def test_a_gpu_worker_may_complain_of_cuda() -> None:
    assert not is_noise("E0000 cuda_platform.cc:52] failed call to cuInit", "gpu:0")
