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
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from nstd.errors import StorageError
from nstd.jobs import publish
from nstd.jobs.free_names import free_stem
from nstd.jobs.job import Output
from nstd.jobs.names import shown

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STATUS_PAGE = "status.html"
MAX_REPORT_BYTES = 64 * 2**20
Outputs = tuple[Output, ...]
"""Report and picture, in the order in which they become visible; empty: nothing chosen yet."""

MAX_TURNS = 1000
"""Somebody who takes each name in the very moment in which we chose it wins in the end."""


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
    """The folder of results.

    ``notes`` is a folder of nstd's own state. For each job that is shown it holds where its preview
    lies, so that one that could not be removed is tried again, after a restart, too.
    """

    def __init__(self, path: str, *, notes: str, previews: str = "previews") -> None:
        self.path, self._notes, self._previews = path, notes, previews

    # --- results -----------------------------------------------------------------------------

    def deliver(
        self, parcel: Parcel, intended: Outputs, record: Callable[[Outputs], None]
    ) -> Outputs:
        """Publish report and picture durably; returns them under the names they have now.

        ``record`` makes names and digests durable before anything is visible; ``intended`` is
        what it was given before a crash. Raises StorageError, NoSpaceError; calling again goes on.
        """
        outputs = intended
        for _turn in range(MAX_TURNS):
            if outputs and self.is_visible(outputs):
                return outputs
            if not outputs or not _is_of(outputs, parcel):
                self._withdraw(outputs)
                outputs = self._choose(parcel)
                record(outputs)
            try:
                self._publish(parcel, outputs)
            except FileExistsError:
                self._withdraw(outputs)
                outputs = ()
            else:
                return outputs
        raise StorageError(
            f"No free name could be had for {shown(parcel.stem)!r} in the outbox.",
            "See what else writes there.",
        )

    def is_visible(self, outputs: Outputs) -> bool:
        """Whether all of this has been published, and make it last if it has."""
        for output in outputs:
            folder, _, name = output.name.rpartition("/")
            try:
                with self._folder(folder, make=False) as here:
                    if publish.sha256_of(here, name) != output.sha256:
                        return False
                    publish.sync_folder(here)  # it may have become visible just before a crash
            except FileNotFoundError:
                return False
            except OSError as error:
                raise publish.storage_error(output.name, error) from error
        return True

    def _choose(self, parcel: Parcel) -> Outputs:
        extension = parcel.extension
        with publish.guard(parcel.folder or self.path), self._folder(parcel.folder) as folder:
            stem = free_stem(folder, parcel.stem, (extension, ".json"))
        report = _report(parcel.report, stem + extension)
        above = f"{parcel.folder}/" if parcel.folder else ""
        return (
            Output(f"{above}{stem}.json", hashlib.sha256(report).hexdigest(), "report"),
            Output(f"{above}{stem}{extension}", _digest(parcel.picture), "picture"),
        )

    def _publish(self, parcel: Parcel, outputs: Outputs) -> None:
        name = {output.role: output.name.rpartition("/")[2] for output in outputs}
        report = _report(parcel.report, name["picture"])
        with publish.guard(outputs[0].name), self._folder(parcel.folder) as folder:
            digest = publish.sha256_of(folder, name["report"])
            if digest != outputs[0].sha256:
                publish.write_atomic(folder, name["report"], report, replace=False)
            publish.publish_noreplace(parcel.picture, folder, name["picture"])

    def _withdraw(self, outputs: Outputs) -> None:
        """Take our report back where the picture cannot lie beside it."""
        for output in outputs:
            folder, _, name = output.name.rpartition("/")
            if output.role != "report":
                continue
            with publish.guard(output.name), self._folder(folder) as here:
                if publish.sha256_of(here, name) == output.sha256:
                    publish.call("unlink", os.unlink, name, dir_fd=here)
                    publish.sync_folder(here)

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

    def show_preview(self, job_id: str, stem: str, path: str) -> str:
        """Publish the newest preview of a job; returns its path below the outbox."""
        with open(path, "rb") as file:
            data = file.read()
        shown_at = self._noted(job_id)
        folder, _, name = (shown_at or f"{self._previews}/").rpartition("/")
        with publish.guard(folder), self._folder(folder) as here:
            if shown_at is None:
                name = free_stem(here, stem, (".jpg",)) + ".jpg"
                # No fsync: a note that a power cut takes costs a stale preview, not a picture.
                os.makedirs(self._notes, exist_ok=True)
                with open(self._note(job_id), "w", encoding="utf-8") as note:
                    note.write(f"{folder}/{name}")
                try:
                    publish.write_atomic(here, name, data, replace=False)
                except FileExistsError:  # taken in this moment: another name next time
                    os.unlink(self._note(job_id))
            else:
                publish.write_atomic(here, name, data, replace=True)
        return f"{folder}/{name}"

    def remove_preview(self, job_id: str) -> None:
        """Remove a job's preview, if it has one; StorageError: it is still known."""
        shown_at = self._noted(job_id)
        if shown_at is not None:
            folder, _, name = shown_at.rpartition("/")
            with (
                publish.guard(folder),
                contextlib.suppress(FileNotFoundError),
                self._folder(folder, make=False) as here,
            ):
                publish.call("unlink", os.unlink, name, dir_fd=here)
        with publish.guard(self._notes), contextlib.suppress(FileNotFoundError):
            os.unlink(self._note(job_id))

    def remove_previews(self, but_for: Container[str]) -> None:
        """Remove the previews of all jobs but these; StorageError when one resists."""
        job_ids: list[str] = []
        with publish.guard(self._notes), contextlib.suppress(FileNotFoundError):
            job_ids = os.listdir(self._notes)
        for job_id in sorted(job_ids):
            if job_id not in but_for:
                self.remove_preview(job_id)

    def _note(self, job_id: str) -> str:
        return os.path.join(self._notes, job_id)

    def _noted(self, job_id: str) -> str | None:
        """Return where a job's preview lies below the outbox; None when it has none."""
        with (
            contextlib.suppress(OSError, UnicodeDecodeError),
            open(self._note(job_id), encoding="utf-8") as note,
        ):
            shown_at = note.read()
            return shown_at if shown_at.count("/") == 1 else None
        return None

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


def _is_of(outputs: Outputs, parcel: Parcel) -> bool:
    """Whether what was recorded are these very files (a job may have been painted again)."""
    name = {output.role: output.name.rpartition("/")[2] for output in outputs}
    report = hashlib.sha256(_report(parcel.report, name["picture"])).hexdigest()
    return [output.sha256 for output in outputs] == [report, _digest(parcel.picture)]


def _report(path: str, picture: str) -> bytes:
    """Return the worker's report with the picture's name in it; the same bytes each time."""
    with publish.guard(path), open(path, "rb") as file:
        data = file.read(MAX_REPORT_BYTES)
    report = json.loads(data)
    known = report.get("picture")
    named = {"name": shown(picture), **(known if isinstance(known, dict) else {})}
    text = json.dumps({**report, "picture": named}, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _digest(path: str) -> str:
    with publish.guard(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
