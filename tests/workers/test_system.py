"""What Linux tells of processes and memory."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from nstd.workers import system


def test_memory_of_a_process_is_told_in_bytes() -> None:
    assert 2**20 < system.rss_bytes(os.getpid()) < 2**36


def test_a_process_that_has_ended_has_no_memory() -> None:
    assert system.rss_bytes(2**22 + 1) == 0


def test_freed_memory_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [libc.malloc(2**16) for _ in range(2000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 2**16)
    for piece in pieces[:-1]:  # the last one keeps the top of the heap where it is
        libc.free(piece)
    before = system.rss_bytes(os.getpid())
    system.give_back_memory()
    after = system.rss_bytes(os.getpid())
    libc.free(pieces[-1])
    assert before - after > 100 * 2**20


def test_kills_for_memory_are_counted_from_the_kernels_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    monkeypatch.setattr(system, "_cgroup", lambda: str(tmp_path))
    before = system.oom_kills()
    events.write_text("low 0\noom 4\noom_kill 5\noom_group_kill 1\n")
    assert system.oom_kills() - before == 3


def test_a_machine_without_these_files_counts_none() -> None:
    assert system._counter("/nonexistent/memory.events") == 0
