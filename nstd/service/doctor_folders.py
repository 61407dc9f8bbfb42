"""Tries in each folder what nstd will do there, and says what the outcome means for its user.

Everything is tried on temporaries that scans skip, which are removed again; an inbox that belongs
to a sync tool is left untouched, since the tool would carry the temporaries to every device.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
import stat
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from nstd.errors import NoSpaceError
from nstd.jobs import publish
from nstd.service import lease, places, synctools
from nstd.service.config import Config
from nstd.service.findings import Finding, bad, good, note
from nstd.service.page.words import size

CLOCK_SKEW_S = 5.0


def check(config: Config) -> Iterator[Finding]:
    """Yield what there is to say about the six folders."""
    for name, path in config.folders.by_name().items():
        yield from _folder(name, path, config)
    yield from _moves(config)


def _folder(name: str, path: Path, config: Config) -> Iterator[Finding]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        yield from _missing(name, path, config)
        return
    except OSError as error:
        yield bad(name, f"{path} cannot be reached: {error.strerror}.", "Check the mount.")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield bad(name, f"{path} is not a folder.", f"Point folders.{name} at one.")
        return
    kind = places.fstype(str(path))
    yield from _file_system(name, path, kind, config)
    yield from _room(name, path, config)
    if name == "inbox" and (tool := synctools.owner_of(str(path))):
        yield note(
            name,
            f"{tool} owns {path}, which is therefore only read (intake {config.inbox.intake}).",
            "Photographs stay where they are; style folders are not made.",
        )
        if not os.access(path, os.R_OK | os.X_OK):
            yield bad(name, f"{path} cannot be read.", _let_in(path))
        return
    if name == "styles":
        yield from _read_only(name, path)
        return
    yield from _tries(name, path)


def _missing(name: str, path: Path, config: Config) -> Iterator[Finding]:
    above = next((folder for folder in path.parents if os.path.exists(folder)), Path("/"))
    if os.access(above, os.W_OK | os.X_OK):
        yield good(name, f"{path} is not there yet; nstd makes it at the start.")
        yield from _room(name, above, config)
        return
    yield bad(
        name,
        f"{path} is not there, and {above} does not let nstd make it.",
        f"Make it: sudo install -d -m 2775 -o {_user()} {path}",
    )


def _user() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def _let_in(path: Path) -> str:
    return f"Give the user {_user()} access: sudo chown {_user()} {path}, or by its group."


def _not_written(name: str, path: Path, code: int) -> Finding:
    sentence = f"{path} cannot be written: {os.strerror(code)}."
    if code in (errno.ENOSPC, errno.EDQUOT):
        return bad(name, sentence, "Free some space there.", NoSpaceError.exit_code)
    if code == errno.EROFS:
        return bad(name, sentence, "Mount it for writing, or name another place.")
    return bad(name, sentence, _let_in(path))


def _file_system(name: str, path: Path, kind: str, config: Config) -> Iterator[Finding]:
    if name == "state" and places.is_remote(kind):
        yield bad(
            name,
            f"{path} lies on a remote file system ({kind}), where locks cannot be relied on.",
            "Put folders.state on a local disk.",
        )
    if name == "inbox" and places.needs_polling(kind):
        watched = config.inbox.polling != "never"
        yield note(
            name,
            f"{path} lies on {kind}: what others write there makes no events here.",
            f"New files are found by looking every {config.inbox.scan_interval_s:g} s."
            if watched
            else "Set inbox.polling to auto, or nothing may be found for a long time.",
        )


def _room(name: str, path: Path, config: Config) -> Iterator[Finding]:
    found = os.statvfs(path)
    free, floor = found.f_bavail * found.f_frsize, config.outbox.free_space_floor_bytes
    if name in ("outbox", "state", "originals", "failed") and free < floor:
        yield bad(
            name,
            f"{path} has {size(free)} free, less than the floor of {size(floor)}.",
            "Free some space, or lower outbox.free_space_floor_bytes; the queue rests until then.",
            75,
        )
    if found.f_files and not found.f_favail:
        yield bad(name, f"{path} has no free inodes.", "Remove small files there.", 75)


def _read_only(name: str, path: Path) -> Iterator[Finding]:
    if os.access(path, os.R_OK | os.X_OK):
        yield good(name, f"{path} can be read.")
    else:
        yield bad(name, f"{path} cannot be read.", _let_in(path))


def _tries(name: str, path: Path) -> Iterator[Finding]:
    temporary = publish.temporary_name()
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        yield bad(name, f"{path} cannot be read: {error.strerror}.", _let_in(path))
        return
    try:
        problem = _write(folder, temporary)
        if problem is not None:
            yield _not_written(name, path, problem)
            return
        yield good(name, f"{path} can be written.")
        yield from _habits(name, path, folder, temporary)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        os.close(folder)


def _write(folder: int, name: str) -> int | None:
    """Try to write a file; return the number of what refused it."""
    try:
        publish.write_new(folder, name, b"nstd")
        os.fsync(folder)
    except OSError as error:
        return error.errno or errno.EIO
    return None


def _habits(name: str, path: Path, folder: int, temporary: str) -> Iterator[Finding]:
    if not _can_rename(folder, temporary):
        yield bad(
            name,
            f"{path} cannot rename a file without replacing another.",
            "Choose a file system that can: results would not be safe from being overwritten.",
        )
    if name in ("originals", "failed") and not _can_link(folder, temporary):
        yield note(
            name,
            f"{path} cannot give a file a second name.",
            "Photographs are copied there, which takes room for a moment, instead of linked.",
        )
    skew = os.stat(temporary, dir_fd=folder).st_mtime - time.time()
    if abs(skew) > CLOCK_SKEW_S:
        yield note(
            name,
            f"The clock of {path} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}.",
            "Set both clocks by NTP; until then ages in the status are off by as much.",
        )
    if _folds(folder, temporary):
        yield note(
            name,
            f"{path} does not tell upper from lower case.",
            "a.jpg and A.jpg are one file there; results get numbers instead of replacing.",
        )
    if name == "inbox":
        yield from _lease(path, folder, temporary)
    if name == "outbox" and not _normalizes(folder):
        yield good(name, f"{path} keeps every name as it is.")


def _can_rename(folder: int, temporary: str) -> bool:
    other = publish.temporary_name()
    try:
        publish.rename_noreplace(folder, temporary, folder, other)
        publish.rename_noreplace(folder, other, folder, temporary)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(other, dir_fd=folder)
        return False
    return True


def _can_link(folder: int, temporary: str) -> bool:
    other = publish.temporary_name()
    try:
        os.link(temporary, other, src_dir_fd=folder, dst_dir_fd=folder)
        os.unlink(other, dir_fd=folder)
    except OSError:
        return False
    return True


def _folds(folder: int, temporary: str) -> bool:
    return _is_there(folder, temporary.swapcase())


def _normalizes(folder: int) -> bool:
    """Tell whether the file system takes an accent in one piece and in two for the same."""
    name = f"{publish.temporary_name().removesuffix('.tmp')}é.tmp"
    if _write(folder, name) is not None:
        return False
    try:
        return _is_there(folder, unicodedata.normalize("NFD", name))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _is_there(folder: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _lease(path: Path, folder: int, temporary: str) -> Iterator[Finding]:
    """Try whether the kernel would tell of local writers, also for files of other users."""
    before = signal.getsignal(signal.SIGIO)
    lease.prepare()
    descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        answer = lease.writers(descriptor)
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)
    if answer == "unknown":
        yield note(
            "inbox",
            f"{path} grants no read leases: nobody can tell whether a file is still open.",
            "Files count as written after inbox.settle_s of quiet; raise it for slow writers.",
        )
    elif os.geteuid() != 0 and not _has_cap_lease():
        yield note(
            "inbox",
            "Whether files of other users are still open cannot be told without CAP_LEASE.",
            "Under systemd the unit grants it; elsewhere quiet and completeness decide.",
        )


def _has_cap_lease() -> bool:
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> 28 & 1)  # CAP_LEASE: capabilities(7)
    return False


def _moves(config: Config) -> Iterator[Finding]:
    """Say where a move between two folders is a copy: bigger jobs take a moment longer then."""
    devices: dict[str, int] = {}
    for name, path in config.folders.by_name().items():
        with contextlib.suppress(OSError):
            devices[name] = os.stat(path).st_dev
    state = devices.get("state")
    others = [
        n for n in ("inbox", "outbox") if state is not None and devices.get(n, state) != state
    ]
    if others:
        yield good("state", f"lies on another disk than {' and '.join(others)}: moves are copies.")
