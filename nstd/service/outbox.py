"""Delivery: one free stem for picture and report, the report first, the picture last.

What is visible is complete, nothing is overwritten, and a delivery that was cut off goes on under
the names that the ledger holds: a file that is there already is ours if its bytes are.
The outbox is a shared folder, so every step below it goes through descriptors and never a link.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nstd.errors import StorageError
from nstd.jobs import publish
from nstd.jobs.names import shown

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STATUS_PAGE = "status.html"
PREVIEW_NOTE = "preview.name"
"""In a job's folder: the name of its preview in the outbox, so that a restart can remove it."""
MAX_REPORT_BYTES = 64 * 2**20
MAX_TURNS = 1000
"""Somebody who takes each name in the very moment in which we chose it wins in the end."""


@dataclass(frozen=True)
class Names:
    """Where a result goes: what the ledger holds before anything becomes visible."""

    folder: str
    """Below the outbox; empty for the outbox itself."""
    picture: str
    report: str

    @property
    def picture_path(self) -> str:
        """Path of the picture below the outbox."""
        return f"{self.folder}/{self.picture}" if self.folder else self.picture

    @property
    def report_path(self) -> str:
        """Path of the report below the outbox."""
        return f"{self.folder}/{self.report}" if self.folder else self.report

    def to_json(self) -> dict[str, str]:
        """Return plain values for the ledger."""
        return {"folder": self.folder, "picture": self.picture, "report": self.report}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Names:
        """Build from ``to_json``'s output."""
        return cls(str(values["folder"]), str(values["picture"]), str(values["report"]))


@dataclass(frozen=True)
class Parcel:
    """A finished job's files in the spool, and the names it would like."""

    picture: str
    """Absolute path; its extension is the result's."""
    report: str
    folder: str
    stem: str

    @property
    def extension(self) -> str:
        """Of the picture, with the dot."""
        return os.path.splitext(self.picture)[1]


class Outbox:
    """The folder of results."""

    def __init__(self, path: str, *, previews: str = "previews") -> None:
        self.path, self._previews = path, previews

    # --- results -----------------------------------------------------------------------------

    def deliver(
        self, parcel: Parcel, intended: Names | None, record: Callable[[Names], None]
    ) -> Names:
        """Publish report and picture durably; returns the names they have now.

        ``record`` makes the names durable before anything is visible under them; ``intended`` is
        what it was given before a crash. Raises StorageError, NoSpaceError; calling again goes on.
        """
        names = intended
        for _turn in range(MAX_TURNS):
            if names is None:
                names = self._choose(parcel)
                record(names)
            try:
                self._publish(parcel, names)
            except FileExistsError:
                self._withdraw(parcel, names)
                names = None
            else:
                return names
        raise StorageError(
            f"No free name could be had for {shown(parcel.stem)!r} in the outbox.",
            "See what else writes there.",
        )

    def _choose(self, parcel: Parcel) -> Names:
        extension = parcel.extension
        with publish.guard(parcel.folder or self.path), self._folder(parcel.folder) as folder:
            stem = publish.free_stem(folder, parcel.stem, (extension, ".json"))
        return Names(parcel.folder, stem + extension, f"{stem}.json")

    def _publish(self, parcel: Parcel, names: Names) -> None:
        report = _report(parcel.report, names)
        with publish.guard(names.picture_path), self._folder(names.folder) as folder:
            self._one(
                folder,
                names.report,
                lambda: publish.write_atomic(folder, names.report, report, replace=False),
                lambda: hashlib.sha256(report).hexdigest(),
            )
            self._one(
                folder,
                names.picture,
                lambda: publish.publish_noreplace(parcel.picture, folder, names.picture),
                lambda: _digest(parcel.picture),
            )

    @staticmethod
    def _one(
        folder: int, name: str, write: Callable[[], object], digest: Callable[[], str]
    ) -> None:
        """Publish one file, unless it is there with our very bytes."""
        try:
            write()
        except FileExistsError:
            if publish.sha256_of(folder, name) != digest():
                raise
            publish.sync_folder(folder)  # it became visible just before a crash

    def _withdraw(self, parcel: Parcel, names: Names) -> None:
        """Take our report back where the picture's name turned out to be taken."""
        ours = hashlib.sha256(_report(parcel.report, names)).hexdigest()
        with publish.guard(names.report_path), self._folder(names.folder) as folder:
            if publish.sha256_of(folder, names.report) == ours:
                publish.call("unlink", os.unlink, names.report, dir_fd=folder)
                publish.sync_folder(folder)

    @contextlib.contextmanager
    def _folder(self, folder: str, *, make: bool = True) -> Iterator[int]:
        """Yield a descriptor of a folder below the outbox, by default made where it is missing."""
        here = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in filter(None, folder.split("/")):
                inner = _enter(here, part, make=make)
                os.close(here)
                here = inner
            yield here
        finally:
            os.close(here)

    # --- previews ----------------------------------------------------------------------------

    def show_preview(self, job_dir: str, stem: str, path: str) -> str:
        """Publish the newest preview of a job; returns its path below the outbox."""
        with open(path, "rb") as file:
            data = file.read()
        name = _noted(job_dir)
        with publish.guard(self._previews), self._folder(self._previews) as folder:
            if name is None:
                name = publish.free_stem(folder, stem, (".jpg",)) + ".jpg"
                # No fsync: a note that a power cut takes costs a stale preview, not a picture.
                with open(os.path.join(job_dir, PREVIEW_NOTE), "w", encoding="utf-8") as note:
                    note.write(name)
                try:
                    publish.write_atomic(folder, name, data, replace=False)
                except FileExistsError:  # taken in this moment: another name next time
                    os.unlink(os.path.join(job_dir, PREVIEW_NOTE))
            else:
                publish.write_atomic(folder, name, data, replace=True)
        return f"{self._previews}/{name}"

    def remove_preview(self, job_dir: str) -> None:
        """Remove a job's preview, if it has one."""
        name = _noted(job_dir)
        if name is None:
            return
        with publish.guard(self._previews), contextlib.ExitStack() as stack:
            folder = stack.enter_context(self._folder(self._previews))
            with contextlib.suppress(FileNotFoundError):
                publish.call("unlink", os.unlink, name, dir_fd=folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(job_dir, PREVIEW_NOTE))

    # --- the folder itself -------------------------------------------------------------------

    def write_status(self, html: str) -> None:
        """Replace the status page, atomically."""
        data = html.encode("utf-8", "backslashreplace")
        publish.write_atomic(self.path, STATUS_PAGE, data, replace=True)

    def sweep(self, folders: set[str]) -> int:
        """Remove what a crash left half-written in these folders below the outbox."""
        removed = 0
        for folder in sorted({"", self._previews, *folders}):
            with contextlib.suppress(FileNotFoundError), self._folder(folder, make=False) as here:
                removed += publish.sweep(f"/proc/self/fd/{here}")
        return removed


def _enter(parent: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, FOLDER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):
            publish.call("mkdir", os.mkdir, name, 0o777, dir_fd=parent)
        publish.sync_folder(parent)
        return os.open(name, FOLDER_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise StorageError(
                f"{shown(name)} in the outbox is a link or a file, where a folder is needed.",
                "Rename it, or put a real folder in its place.",
            ) from error
        raise


def _noted(job_dir: str) -> str | None:
    with (
        contextlib.suppress(OSError),
        open(os.path.join(job_dir, PREVIEW_NOTE), encoding="utf-8") as note,
    ):
        name = note.read()
        return name if name and "/" not in name else None
    return None


def _report(path: str, names: Names) -> bytes:
    """Return the worker's report with the picture's name in it; the same bytes each time."""
    with publish.guard(path), open(path, "rb") as file:
        data = file.read(MAX_REPORT_BYTES)
    report = {"picture": shown(names.picture), **json.loads(data)}
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _digest(path: str) -> str:
    with publish.guard(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
