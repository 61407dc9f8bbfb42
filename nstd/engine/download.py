"""One file over HTTP: whole and checked when it gets its name, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any

from nstd.errors import NoSpaceError, WeightsError

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and, where the server tells, the bytes in all."""

TIMEOUT_S = 30.0
"""Of silence; a slow line is no error."""


def download(url: str, path: str, md5: str, remedy: str, progress: Progress | None = None) -> None:
    """Put what ``url`` serves at ``path`` by one rename, once its MD5 is right.

    Raises WeightsError with ``remedy`` when the network or the content is at fault, NoSpaceError
    when the disk is full. A partial file never gets the name, and is removed.
    """
    folder = os.path.dirname(path)
    with _writing(path, remedy):
        handle, temporary = tempfile.mkstemp(prefix=".nstd-", suffix=".tmp", dir=folder)
    try:
        with _writing(path, remedy), os.fdopen(handle, "wb") as file:
            got = _copy(url, file, remedy, progress)
            _compare(url, got, md5, remedy)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide it from other users
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def lock_folder(folder: str, remedy: str) -> Iterator[None]:
    """Create ``folder`` and hold it, so that two processes do not fetch one file at once."""
    with _writing(folder, remedy):
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(
            OSError
        ):  # a home on NFS may know no locks: fetching twice is fine
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy(url: str, file: IO[bytes], remedy: str, progress: Progress | None) -> str:
    """Copy the answer into ``file`` and return its MD5."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        with _open(url) as answer:
            total = _length(answer)
            while chunk := answer.read(1 << 16):
                _write(file, chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    except _LocalError as error:
        raise error.reason from error
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"The weights could not be downloaded from {url}: {_why(error)}.", remedy
        ) from error
    if total is not None and done != total:
        raise WeightsError(
            f"The connection to {url} was cut after {done} of {total} bytes.",
            f"Try again. {remedy}",
        )
    return digest.hexdigest()


def _compare(url: str, got: str, wanted: str, remedy: str) -> None:
    if got != wanted:
        raise WeightsError(
            f"What {url} served is not the file that Keras published: "
            f"its MD5 is {got} instead of {wanted}.",
            f"Something between here and there may have replaced it. {remedy}",
        )


def _open(url: str) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"not an HTTP address: {url}")
    request = urllib.request.Request(url, headers={"User-Agent": "nstd"})  # noqa: S310 - checked
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - checked above


def _length(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    code = getattr(error, "code", None)
    return f"HTTP {code}, {text}" if code else text


class _LocalError(Exception):
    """A failed write, told apart from the network's own OSErrors."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _LocalError(error) from error


@contextlib.contextmanager
def _writing(path: str, remedy: str) -> Iterator[None]:
    """Turn the file system's refusals into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"There is no room for the weights at {path}.") from error
        raise WeightsError(
            f"The weights cannot be written to {path}: {error.strerror}.",
            f"Make the folder writable or set KERAS_HOME to one that is. {remedy}",
        ) from error
