"""Read leases: the kernel's word on whether a local program has a file open for writing."""

from __future__ import annotations

import errno
import fcntl
import signal
import threading
from types import FrameType
from typing import Literal

Writers = Literal["none", "some", "unknown"]
"""``unknown``: a remote file system, or a file of another user without CAP_LEASE."""


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Take note of nothing: whoever opens the file waits only until the lease is released."""


def prepare() -> bool:
    """Install the SIGIO handler that leases need; False outside the main thread.

    SIGIO's default action ends the process, and the kernel sends it when somebody opens the file
    in the instant in which the lease is held. Call it before the first ``writers``.
    """
    if signal.getsignal(signal.SIGIO) is _ignore:
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGIO, _ignore)
    return True


def writers(fd: int) -> Writers:
    """Tell whether any local process holds the file behind ``fd`` (opened read-only) for writing.

    A read lease is granted only where there is none (fcntl(2), "Leases"); it is given back at
    once, so that a writer who comes in between is held up for microseconds.
    """
    if signal.getsignal(signal.SIGIO) is not _ignore:
        return "unknown"
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return "some" if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK) else "unknown"
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return "none"
