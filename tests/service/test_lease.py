"""The kernel knows who writes; asking it never kills us, and never holds a writer up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nstd.service import lease


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lease.prepare()
    made = tmp_path / "a.jpg"
    made.write_bytes(b"x")
    return made


def ask(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return lease.writers(descriptor)
    finally:
        os.close(descriptor)


def test_a_quiet_file_has_no_writers(path: Path) -> None:
    assert ask(path) in ("none", "unknown")


def test_a_writer_is_known(path: Path) -> None:
    if ask(path) == "unknown":
        pytest.skip("this file system grants no leases")
    with path.open("ab"):
        assert ask(path) == "some"
    assert ask(path) == "none"


def test_a_reader_is_no_writer(path: Path) -> None:
    before = ask(path)
    with path.open("rb"):
        assert ask(path) == before


def test_without_the_handler_nothing_is_asked(path: Path) -> None:
    script = (
        "import os, sys; from nstd.service import lease\n"
        "print(lease.writers(os.open(sys.argv[1], os.O_RDONLY)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "unknown"


def test_a_thread_cannot_install_the_handler() -> None:
    old = signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(lease.prepare()))
        thread.start()
        thread.join()
        assert answers == [False]
    finally:
        signal.signal(signal.SIGIO, old)


def test_many_probes_against_a_busy_writer_harm_neither(path: Path) -> None:
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfor i in range(3000):\n with open(sys.argv[1], 'ab') as f: f.write(b'y')",
            str(path),
        ]
    )
    while writer.poll() is None:
        ask(path)
    assert writer.returncode == 0
    assert path.stat().st_size == 3001
