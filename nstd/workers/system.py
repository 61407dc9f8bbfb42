"""What Linux tells of processes and memory, and what it is asked to do for a worker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
"""Of -1000 to 1000: when memory runs out the kernel takes the worker, not the daemon."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process when its parent dies, however that happens.

    The signal is tied to the parent's *thread* that forked (prctl(2)), so a supervisor starts
    its children from the main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:  # it died between fork and prctl: nobody would tell us
        os._exit(0)


def offer_to_oom_killer() -> None:
    """Raise this process's own chance to be picked; lowering it again would need privileges."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(OOM_SCORE))
    except OSError:  # a container may mount /proc read-only; the default score is good enough
        pass


def give_back_memory() -> None:
    """Return what malloc keeps of freed memory to the system.

    TensorFlow's kernels are built anew for every size of picture, in many small pieces that come
    and go: without this a worker that sees a new size with each job grows by some of the holes.
    """
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def oom_kills() -> int:
    """Return how many processes the kernel has ended for memory: in our cgroup and altogether.

    Only the difference of two calls means something; files that cannot be read count 0.
    """
    return _counter("/proc/vmstat") + _counter(f"{_cgroup()}/memory.events")


def _counter(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("oom_kill ")]
    except OSError:
        return 0
    return sum(int(value) for _, value in lines)


def _cgroup() -> str:
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
    except OSError:
        paths = []
    return "/sys/fs/cgroup" + (paths[0] if paths else "")
