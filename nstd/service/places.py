"""Folders as the kernel sees them: file systems, mounts, which folder a path leads to."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "gpfs"}
)
"""File systems whose other clients we never hear of, and whose locks cannot be relied on."""
SHARED_WITH_HOST = frozenset({"9p", "virtiofs", "vboxsf", "vmhgfs"})
"""Folders of a virtual machine's host: locks hold, but the host's writes make no events."""
LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.lxcfs"})
"""FUSE on local disks; every other FUSE may be anything and counts as remote."""

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    point: str
    fstype: str


@dataclass(frozen=True)
class Identity:
    """Which folder a path leads to at this moment."""

    dev: int
    inode: int


def mounts(table: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return the mounts that this process sees, later ones on top of earlier ones."""
    with contextlib.suppress(OSError), open(table, encoding="utf-8", errors="surrogateescape") as f:
        return [mount for line in f if (mount := _parse(line)) is not None]
    return []


def _parse(line: str) -> Mount | None:
    left, dash, right = line.partition(" - ")
    fields = left.split(" ")
    if not dash or len(fields) < 5 or not right.strip():
        return None
    point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
    return Mount(point, right.split(" ")[0])


def fstype(path: str, table: Iterable[Mount] | None = None) -> str:
    """Return the type of the file system that holds ``path``; empty where it is not known."""
    real = os.path.realpath(path)
    best = Mount("", "")
    for mount in mounts() if table is None else table:
        if len(mount.point) >= len(best.point) and _is_inside(real, mount.point):
            best = mount
    return best.fstype


def is_remote(kind: str) -> bool:
    """Tell whether a file system of this type is unfit for locks and SQLite."""
    return kind in REMOTE or (kind.startswith("fuse") and kind not in LOCAL_FUSE)


def needs_polling(kind: str) -> bool:
    """Tell whether others can write there without an event reaching this kernel."""
    return is_remote(kind) or kind in SHARED_WITH_HOST


def identity(path: str) -> Identity | None:
    """Return device and inode of a folder; None where there is none."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return Identity(found.st_dev, found.st_ino)
    return None


def mount_root(path: str) -> str:
    """Return the highest folder above ``path`` on the same device: where it is mounted."""
    here = os.path.realpath(path)
    dev = os.stat(here).st_dev
    while here != "/" and os.stat(os.path.dirname(here)).st_dev == dev:
        here = os.path.dirname(here)
    return here


def is_mounted(root: str) -> bool:
    """Tell whether ``root``, once a ``mount_root``, still has another device than its parent."""
    with contextlib.suppress(OSError):
        return root == "/" or os.stat(root).st_dev != os.stat(os.path.dirname(root)).st_dev
    return False


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
