"""From the inbox into private hands: every file opened once, checked, and never trusted by name.

The inbox belongs to strangers who may swap a file for a link, a pipe or another file at any
instant. Folders are entered one by one without following links; a file is opened without blocking
and must still be, as an open descriptor, what settled: regular, with one name, with the same
device, inode, size, mtime and ctime, before and after it is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from nstd.errors import TransientError
from nstd.jobs.inputs import InboxFile
from nstd.jobs.publish import CHUNK, call, copy_new, guard, storage_error, sync_folder
from nstd.jobs.taken import Taken, numbers
from nstd.jobs.text import shown

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE}


class ChangedError(TransientError):
    """A file is not what settled any more: it stays where it is, and settles anew."""


@contextlib.contextmanager
def beneath(root: str, folder: str, *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of ``folder`` below ``root``, entered through no link; OSError if not."""
    here = call("open", os.open, root, FOLDER_FLAGS)
    try:
        for part in filter(None, folder.split("/")):
            if make:
                _make(here, part)
            inner = call("open", os.open, part, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def _make(parent: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        call("mkdir", os.mkdir, name, 0o777, dir_fd=parent)
        sync_folder(parent)


@contextlib.contextmanager
def opened(folder: int, file: InboxFile) -> Iterator[int]:
    """Yield a descriptor of a file that is what settled, and check again at the end."""
    try:
        descriptor = call("open", os.open, file.name, FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        raise _unopened(file, error) from error
    try:
        _check(descriptor, file)
        yield descriptor
        _check(descriptor, file)
    finally:
        os.close(descriptor)


def _check(descriptor: int, file: InboxFile) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not is_same(file, found):
        raise _changed(file)


def _changed(file: InboxFile) -> ChangedError:
    return ChangedError(
        f"'{shown(file.path)}' has changed while it was being taken in.",
        "It is taken in once it has been quiet for a while.",
    )


def _unopened(file: InboxFile, error: OSError) -> TransientError:
    """Say that it is this file that resists, not the spool."""
    return _changed(file) if error.errno in _GONE else storage_error(file.path, error)


def is_same(file: InboxFile, found: os.stat_result) -> bool:
    """Whether the file is in the very state that was seen before."""
    return numbers(file) == _numbers(found)


def _numbers(found: os.stat_result) -> tuple[int, ...]:
    """Return what ``taken.numbers`` are of a file that was just looked at."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def hash_input(root: str, folder: str, file: InboxFile) -> str:
    """Return the sha256 of a file; ChangedError, StorageError."""
    with (
        guard(file.path),
        _folder_of(root, folder, file) as here,
        opened(here, file) as descriptor,
    ):
        return _hash(descriptor)


def read_input(root: str, folder: str, file: InboxFile, limit: int) -> bytes:
    """Return at most ``limit`` bytes of a file; ChangedError, StorageError."""
    with (
        guard(file.path),
        _folder_of(root, folder, file) as here,
        opened(here, file) as descriptor,
    ):
        data = b""
        while len(data) < limit and (chunk := os.read(descriptor, limit - len(data))):
            data += chunk
        return data


def copy_input(root: str, folder: str, file: InboxFile, target: int) -> str:
    """Copy a file into the folder ``target`` under its own name, durably; returns its sha256."""
    with _folder_of(root, folder, file) as here, opened(here, file) as descriptor:
        return copy_new(descriptor, target, file.name)


@contextlib.contextmanager
def _folder_of(root: str, folder: str, file: InboxFile) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        try:
            here = stack.enter_context(beneath(root, folder))
        except OSError as error:
            raise _unopened(file, error) from error
        yield here


def copy_style_image(path: str, target: int, name: str) -> str:
    """Copy an image of the style library, whatever it is by now, as long as it is a file."""
    try:
        descriptor = call("open", os.open, path, FILE_FLAGS)
    except OSError as error:
        if error.errno in _GONE:
            raise _style_changed(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _style_changed(path)
        return copy_new(descriptor, target, name)
    finally:
        os.close(descriptor)


def _style_changed(path: str) -> ChangedError:
    return ChangedError(
        f"The style image '{shown(os.path.basename(path))}' has changed while it was being read.",
        "The job is taken in once the style library is read anew.",
    )


# --- out of the inbox ------------------------------------------------------------------------


def is_still_there(inbox: str, taken: Taken) -> bool:
    """Whether the inbox still holds the very file that was taken (``Taken.may_be``)."""
    folder, _, name = taken.path.rpartition("/")
    try:
        with beneath(inbox, folder) as here:
            return _is_taken(here, name, taken)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise


def remove_taken(inbox: str, taken: Taken) -> None:
    """Remove from the inbox what the spool holds; a newer file of that name stays.

    The name's disappearance is durable when this returns. Raises StorageError.
    """
    folder, _, name = taken.path.rpartition("/")
    with guard(taken.path):
        try:
            with beneath(inbox, folder) as here:
                if _is_taken(here, name, taken):
                    call("unlink", os.unlink, name, dir_fd=here)
                with contextlib.suppress(OSError):  # some remote file systems refuse it
                    sync_folder(here)
        except OSError as error:
            if error.errno not in _GONE:
                raise


def _is_taken(folder: int, name: str, taken: Taken) -> bool:
    try:
        descriptor = call("open", os.open, name, FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return False
        now = _numbers(found)
        if now == taken.numbers:
            return True
        return taken.may_be(now) and _hash(descriptor) == taken.sha256
    finally:
        os.close(descriptor)


def _hash(descriptor: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
