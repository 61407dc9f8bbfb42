"""One file of the spool into a folder of the users': a second name where that is possible.

A link costs no room, which matters where the disk is full; a copy is made on another file system.
The spool's name goes when the whole job folder goes, so that nothing is ever nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from nstd.jobs.free_names import free_stem
from nstd.jobs.publish import (
    call,
    copy_new,
    rename_noreplace,
    sha256_of,
    temporary_name,
)
from nstd.jobs.text import folded

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def put(source: int, name: str, target: int, new: str) -> None:
    """Give the file a name in the folder ``target``; FileExistsError when that name is taken.

    The caller makes the folder durable.
    """
    try:
        call("link", os.link, name, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    else:
        _give_to_group_of(target, new)
        return
    temporary = temporary_name()
    descriptor = call("open", os.open, name, _OPEN, dir_fd=source)
    try:
        copy_new(descriptor, target, temporary)
        rename_noreplace(target, temporary, target, new)
    except BaseException:
        with contextlib.suppress(OSError):
            call("unlink", os.unlink, temporary, dir_fd=target)
        raise
    finally:
        os.close(descriptor)


def _give_to_group_of(folder: int, name: str) -> None:
    """Do what a setgid folder does to new files; a link brings its old group along."""
    above = os.fstat(folder)
    if above.st_mode & stat.S_ISGID:
        with contextlib.suppress(OSError):  # not a member of that group: as it was
            os.chown(name, -1, above.st_gid, dir_fd=folder, follow_symlinks=False)


def is_there(folder: int, name: str, sha256: str) -> bool:
    """Whether the folder holds exactly these bytes under that name."""
    return sha256_of(folder, name) == sha256


def free_name(folder: int, name: str, taken: set[str]) -> str:
    """Return ``name`` or the first free ``stem-2.ext``; ``taken`` holds ``folded`` names."""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    free = free_stem(folder, stem, (dot + extension,), taken) + dot + extension
    taken.add(folded(free))
    return free
