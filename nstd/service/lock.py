"""One daemon per state folder: an open-file lock that no child inherits and no crash leaves."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import Self

from nstd.errors import AlreadyRunningError, StorageError
from nstd.jobs import publish

LOCK_FILE = "lock"
_FLOCK = "hhqqi4x"
"""``struct flock`` of 64-bit Linux: type, whence, start, length, pid."""


class StateLock:
    """Held from start to end of a daemon; names the holder to whoever comes second.

    An open-file-description lock: the kernel lets go of it when the process dies, closing another
    descriptor of the file does not lose it (as with POSIX locks), and it can be asked about
    without being taken.
    """

    def __init__(self, state: str) -> None:
        self._path = os.path.join(state, LOCK_FILE)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; AlreadyRunningError names the pid of the daemon that has it."""
        with publish.guard(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o644)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole(fcntl.F_WRLCK))
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise publish.storage_error(self._path, error) from error
            raise _held(self._path) from error
        self._descriptor = descriptor
        try:
            with publish.guard(self._path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except StorageError:
            self.release()
            raise

    def release(self) -> None:
        """Let go; the file stays, since removing it would let two in at once."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(state: str) -> int | None:
    """Return the pid of the daemon that holds the folder, None when there is none.

    Only asks: a status command never stands in the way of a daemon that starts.
    """
    path = os.path.join(state, LOCK_FILE)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _whole(fcntl.F_WRLCK))
        if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK:
            return None
        return _pid(os.pread(descriptor, 32, 0))
    finally:
        os.close(descriptor)


def _whole(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def _pid(text: bytes) -> int:
    digits = text.strip()
    return int(digits) if digits.isdigit() else 0


def _held(path: str) -> AlreadyRunningError:
    pid = 0
    with contextlib.suppress(OSError), open(path, "rb") as file:
        pid = _pid(file.read(32))
    who = f"the daemon with pid {pid}" if pid else "another daemon"
    return AlreadyRunningError(
        f"The state folder {os.path.dirname(path)!a} is held by {who}.",
        "Stop that one first, or give this one another --root.",
    )
