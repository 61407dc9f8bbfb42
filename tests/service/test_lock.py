"""One daemon per state folder: the second one is told who the first is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nstd.errors import AlreadyRunningError, NoSpaceError, StorageError
from nstd.service.lock import StateLock, holder


def test_the_second_one_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with (
        StateLock(str(tmp_path)),
        pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}") as caught,
    ):
        StateLock(str(tmp_path)).acquire()
    assert caught.value.exit_code == 75


def test_the_holder_is_known_without_taking_the_lock(tmp_path: Path) -> None:
    assert holder(str(tmp_path)) is None
    with StateLock(str(tmp_path)):
        assert holder(str(tmp_path)) == os.getpid()
    assert holder(str(tmp_path)) is None


def test_a_killed_daemon_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "import sys, time; from nstd.service.lock import StateLock\n"
        "StateLock(sys.argv[1]).acquire(); print('held', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert holder(str(tmp_path)) == child.pid
    child.kill()
    child.wait()
    child.stdout.close()
    assert holder(str(tmp_path)) is None
    StateLock(str(tmp_path)).acquire()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = StateLock(str(tmp_path))
    lock.acquire()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    lock.release()
    try:
        assert holder(str(tmp_path)) is None
    finally:
        child.kill()
        child.wait()


def test_a_state_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lock"):
        StateLock(str(tmp_path / "none")).acquire()
    assert holder(str(tmp_path / "none")) is None


def test_a_full_disk_is_an_error_in_words_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(NoSpaceError, match="no room left"):
            StateLock(str(tmp_path)).acquire()
    assert holder(str(tmp_path)) is None
