"""The one durable way to put a file or a folder where others can see it.

Write a dot-temporary in the destination folder, fsync it, rename it into place (by default
refusing to replace), fsync the folder. A reader sees nothing or the whole file; after a crash
there is nothing, the whole file, or a temporary that ``sweep`` removes at the next start.

Every file-system call of the protocol goes through ``call``, which tells ``hook`` its name first:
the crash tests kill the process, or raise an OSError, at each of these calls in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import re
import secrets
import signal
import stat
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from nstd.errors import NoSpaceError, StorageError
from nstd.jobs.text import shown

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 1 << 20
Content = bytes | Callable[[io.RawIOBase], object]
"""Of a file: its bytes, or what writes them."""
TEMPORARY = re.compile(r"\.nstd-[0-9a-f]{16}\.tmp")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_RENAMEAT2 = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}
_RENAME_NOREPLACE = 1


def _no_hook(_name: str) -> None:
    """Do nothing: what runs outside the crash tests."""


hook: Callable[[str], None] = _no_hook
"""Called with the name of each file-system call just before it; tests replace it."""


def call(name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Tell the hook, then make the file-system call."""
    hook(name)
    return function(*args, **kwargs)


def arm_from_environment() -> None:
    """Install the crash that ``NSTD_CRASH_AT`` asks for: ``N`` kills, ``N:ENOSPC`` raises.

    Processes that crash tests start call this at their start; without the variable it does
    nothing.
    """
    wish = os.environ.get("NSTD_CRASH_AT", "")
    if wish:
        number, _, error = wish.partition(":")
        arm(int(number), getattr(errno, error) if error else None)


def arm(number: int, error: int | None = None) -> None:
    """Die by SIGKILL before the ``number``-th call from now, or fail it once with ``error``."""
    global hook  # noqa: PLW0603 - the hook is a module's seam on purpose: no call can miss it
    left = number

    def crash(name: str) -> None:
        nonlocal left
        left -= 1
        if left != 0:
            return
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(error or 0, os.strerror(error or 0), name)

    hook = crash


def storage_error(path: str, error: OSError) -> StorageError:
    """Say in one sentence what the file system refused, as the error that the caller raises."""
    what = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NO_SPACE:
        return NoSpaceError(
            f"There is no room left to write '{shown(path)}' ({what}).",
            "Free some space there; nstd goes on by itself when there is room.",
        )
    return StorageError(
        f"The file system refused '{shown(path)}' ({what}).",
        "Check that the folder is there and that nstd may read and write it.",
    )


@contextlib.contextmanager
def guard(path: str) -> Iterator[None]:
    """Turn an OSError inside into a StorageError that names ``path``; FileExistsError passes."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


@contextlib.contextmanager
def directory(folder: str | int) -> Iterator[int]:
    """Yield a descriptor of ``folder``; one that is handed in stays open."""
    if isinstance(folder, int):
        yield folder
        return
    descriptor = call("open", os.open, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def temporary_name() -> str:
    """Return a new name that scans skip and ``sweep`` knows."""
    return f".nstd-{secrets.token_hex(8)}.tmp"


def sync_folder(folder: str | int) -> None:
    """Make the names in ``folder`` durable: a rename alone is atomic, not durable."""
    with directory(folder) as descriptor:
        call("fsync", os.fsync, descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte, however often the kernel takes only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[call("write", os.write, descriptor, rest) :]


class _Sink(io.RawIOBase):
    """A file to write only: small pieces are gathered, large ones go through as they are.

    Not io.BufferedWriter, which writes once more when it is closed after an error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor, self._gathered = descriptor, bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Take all of ``data``."""
        piece = memoryview(data).cast("B")
        if len(self._gathered) + len(piece) > CHUNK:
            self.finish()
        if len(piece) > CHUNK:
            write_all(self._descriptor, piece)
        else:
            self._gathered += piece
        return len(piece)

    def finish(self) -> None:
        """Write what is still gathered."""
        write_all(self._descriptor, self._gathered)
        self._gathered = bytearray()


def create(folder: int, name: str, mode: int = 0o666) -> int:
    """Open a new file for writing; a file or link that is there already is refused."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return call("open", os.open, name, flags, mode, dir_fd=folder)


def write_new(folder: int, name: str, data: Content, mode: int = 0o666) -> None:
    """Write a new file and fsync it, without the folder: for folders that are not visible yet."""
    descriptor = create(folder, name, mode)
    try:
        if isinstance(data, bytes):
            write_all(descriptor, data)
        else:
            sink = _Sink(descriptor)
            data(sink)
            sink.finish()
        call("fsync", os.fsync, descriptor)
    finally:
        os.close(descriptor)


def copy_new(source: int, folder: int, name: str, mode: int = 0o666) -> str:
    """Copy an open file into a new one, fsync it, and return the sha256 of what was copied.

    An fsync that fails is never tried again on the same descriptor (the kernel may have dropped
    the pages): the caller starts over with a new file.
    """
    digest = hashlib.sha256()
    descriptor = create(folder, name, mode)
    try:
        while chunk := call("read", os.read, source, CHUNK):
            digest.update(chunk)
            write_all(descriptor, chunk)
        call("fsync", os.fsync, descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


@contextlib.contextmanager
def _temporary(folder: int) -> Iterator[str]:
    """Yield a temporary's name, and remove the file when the protocol fails on the way."""
    name = temporary_name()
    try:
        yield name
    except BaseException:
        with contextlib.suppress(OSError):
            call("unlink", os.unlink, name, dir_fd=folder)
        raise


def write_atomic(
    folder: str | int, name: str, data: Content, *, replace: bool, mode: int = 0o666
) -> None:
    """Publish ``data`` as ``name``, durably; FileExistsError when it is there and must stay.

    Raises StorageError (NoSpaceError when full), after which nothing is left behind.
    """
    with guard(name), directory(folder) as target, _temporary(target) as temporary:
        write_new(target, temporary, data, mode)
        if replace:
            call("rename", os.rename, temporary, name, src_dir_fd=target, dst_dir_fd=target)
        else:
            rename_noreplace(target, temporary, target, name)
        sync_folder(target)


def publish_noreplace(source: str, folder: str | int, name: str, mode: int = 0o666) -> str:
    """Publish a copy of the file ``source`` as ``name``, durably; returns its sha256.

    The source stays: whoever owns it removes it once the ledger knows of the copy. Raises
    FileExistsError, StorageError, NoSpaceError; then nothing is left behind.
    """
    with guard(name), directory(folder) as target, _temporary(target) as temporary:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = call("open", os.open, source, flags)
        try:
            digest = copy_new(descriptor, target, temporary, mode)
        finally:
            os.close(descriptor)
        rename_noreplace(target, temporary, target, name)
        sync_folder(target)
    return digest


def _renameat2(source: int, old: str, target: int, new: str) -> None:
    """Rename in one call that refuses to replace; OSError(ENOSYS) where libc lacks it."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new)
    if function(source, os.fsencode(old), target, os.fsencode(new), _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def rename_noreplace(source: int, old: str, target: int, new: str) -> None:
    """Rename a file or folder between two folders of one file system; never replaces.

    renameat2 where the file system has it; else link and unlink; else (FAT, some network mounts)
    look first and rename, which is safe as long as nstd alone writes there.
    """
    try:
        call("rename", _renameat2, source, old, target, new)
    except OSError as error:
        if error.errno not in _NO_RENAMEAT2:
            raise
    else:
        return
    try:
        call("link", os.link, old, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno not in _NO_LINKS:  # EPERM: a folder, or a file system without links
            raise
    else:
        call("unlink", os.unlink, old, dir_fd=source)
        return
    if exists(target, new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    call("rename", os.rename, old, new, src_dir_fd=source, dst_dir_fd=target)


def exists(folder: int, name: str) -> bool:
    """Whether the folder has an entry of that name, whatever it is."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def sha256_of(folder: str | int, name: str) -> str | None:
    """Return the sha256 of a regular file, or None when there is none: links are not followed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with directory(folder) as parent:
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
                return None
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: str) -> None:
    """Create a folder and its parents, each durable in the one above it."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path.rstrip("/")) or "."
    make_folder(parent)
    with contextlib.suppress(FileExistsError):
        call("mkdir", os.mkdir, path, 0o777)
    sync_folder(parent)


def remove_tree(folder: int, name: str) -> None:
    """Remove a file or a whole folder below ``folder``; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            call("unlink", os.unlink, name, dir_fd=folder)
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            for child in os.listdir(descriptor):
                remove_tree(descriptor, child)
        finally:
            os.close(descriptor)
        call("rmdir", os.rmdir, name, dir_fd=folder)


def sweep(folder: str) -> int:
    """Remove the temporaries that a crash left in ``folder``; returns how many there were."""
    if not os.path.isdir(folder):
        return 0
    with guard(folder), directory(folder) as descriptor:
        leftovers = [name for name in os.listdir(descriptor) if TEMPORARY.fullmatch(name)]
        for name in leftovers:
            remove_tree(descriptor, name)
    return len(leftovers)
