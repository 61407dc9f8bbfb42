"""A small house around the spool: it drops files, paints with a stamp, and counts what came out.

The crash tests run it, kill it at some file-system call, open it again, run it to its end, and
compare with what must have come out. ``python -m tests.jobs.house ROOT`` runs it as a process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from nstd.errors import CancelledError
from nstd.jobs import publish
from nstd.jobs.free_names import free_stem
from nstd.jobs.grouping import SidecarReader, group
from nstd.jobs.inputs import InboxFile, LibraryStyle, Rules
from nstd.jobs.job import Intake, Job, Output
from nstd.jobs.ledger import Ledger
from nstd.jobs.library import scan_library
from nstd.jobs.recovery import recover
from nstd.jobs.retry import retry
from nstd.jobs.spool import Folders, Spool

NOW = 1e9
"""Long after every photograph came, and just after every sidecar did."""
DROPS = {
    "starry/beach.jpg": b"photograph of a beach",
    "starry/cancelme.jpg": b"photograph to cancel, then to retry",
    "sea.content.jpg": b"photograph of the sea",
    "sea.style.png": b"a wave",
    "shared.jpg": b"photograph of everybody",
    "a.yaml": b"content: shared.jpg\nstyle: starry\nsize: 64",
    "b.yaml": b"content: shared.jpg\nstyle: starry\nsize: 96",
    "bad.yaml": b"content: bad.jpg\nsiez: 5",
    "bad.jpg": b"photograph of a bad sidecar",
    "lone.jpg": b"photograph without a style",
}
PICTURES = ["a", "b", "beach", "cancelme", "sea"]
ORIGINALS = {name: data for name, data in DROPS.items() if name[:3] not in {"bad", "lon"}}
FAILED = {name: DROPS[name] for name in ("bad.jpg", "bad.yaml", "lone.jpg")}


class House:
    """One daemon's worth of folders, opened once per life."""

    def __init__(self, root: Path, state: Path | None = None, mode: Intake = "move") -> None:
        self.root, self.mode = root, mode
        self.state = state or root / "state"
        self.inbox, self.outbox = root / "inbox", root / "outbox"
        self.originals, self.failed = root / "originals", root / "failed"
        self.folders = Folders(
            str(self.state / "spool"), str(self.inbox), str(self.originals), str(self.failed)
        )
        self.notes: list[str] = []

    def furnish(self, drops: dict[str, bytes] = DROPS) -> None:
        """Make the folders, the library and the drops: before the first life."""
        for folder in (self.inbox, self.outbox, self.state, self.root / "styles"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.root / "styles" / "starry.jpg").write_bytes(b"stars")
        for name, data in drops.items():
            path = self.inbox / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    def open(self) -> None:
        """Begin a life."""
        self.ledger = Ledger(str(self.state / "ledger.sqlite3"))
        self.spool = Spool(self.folders, self.ledger)
        self.reader = SidecarReader(self.spool.read)
        self.notes = recover(self.spool)
        publish.sweep(str(self.outbox))
        self.ledger.daemon_died()

    def close(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()

    def run(self) -> None:
        """Go on until nothing is left to do."""
        for _turn in range(100):
            if not (self.admit() | self.work()):
                return
        raise AssertionError("the house never comes to rest")

    # --- in ----------------------------------------------------------------------------------

    def files(self) -> list[InboxFile]:
        found = []
        for path in sorted(self.inbox.rglob("*")):
            if path.is_file():
                seen = path.stat()
                folder = str(path.parent.relative_to(self.inbox))
                file = InboxFile(
                    "" if folder == "." else folder, path.name, seen.st_size, seen.st_mtime_ns,
                    seen.st_ctime_ns, seen.st_dev, seen.st_ino,
                    NOW if path.suffix == ".yaml" else 0.0, settled=True,
                )  # fmt: skip
                found.append(replace(file, taken=self.ledger.already_taken(file)))
        return found

    def library(self) -> dict[str, LibraryStyle]:
        return scan_library(str(self.root / "styles"))

    def admit(self) -> bool:
        library = self.library()
        grouping = group(
            self.files(), read_sidecar=self.reader, library=library, rules=Rules(), now=NOW
        )
        for candidate in grouping.candidates:
            self.spool.admit(candidate, self.mode, library)
        return bool(grouping.candidates)

    # --- out ---------------------------------------------------------------------------------

    def work(self) -> bool:
        self.spool.catch_up()
        for job in self.ledger.jobs("queued", "running", "delivering"):
            if job.state != "queued":
                self.deliver(job)
            elif job.spec and job.spec.content == "cancelme.jpg" and job.retry_of is None:
                self.spool.set_aside(job.id, CancelledError("It was cancelled on request."))
            else:
                self.deliver(self.ledger.start(job.id))
        return self.retry_cancelled() | bool(self.ledger.unfinished())

    def deliver(self, job: Job) -> None:
        assert job.spec is not None
        picture = b"painting of " + self.bytes_of(job) + job.spec.result_stem.encode()
        digest = hashlib.sha256(picture).hexdigest()
        outputs = job.outputs
        with publish.guard("outbox"):
            if not outputs:
                stem = free_stem(str(self.outbox), job.spec.result_stem, (".jpg",))
                outputs = (Output(f"{stem}.jpg", digest, "picture"),)
                self.ledger.begin_delivery(job.id, outputs)
            if publish.sha256_of(str(self.outbox), outputs[0].name) != digest:
                publish.write_atomic(str(self.outbox), outputs[0].name, picture, replace=False)
        self.ledger.delivered(job.id)
        self.spool.finish(job.id)

    def bytes_of(self, job: Job) -> bytes:
        assert job.spec is not None
        folder = Path(self.spool.job_dir(job.id))
        files = [job.spec.content_file, *(f for each in job.spec.styles for f in each.files)]
        return b"+".join((folder / file).read_bytes() for file in files)

    def retry_cancelled(self) -> bool:
        everything = [*self.ledger.recent(100), *self.ledger.unfinished()]
        retried = {job.retry_of for job in everything}
        mine = [job for job in self.ledger.recent(100, "cancelled") if job.id not in retried]
        for job in mine:
            retry(self.spool, job.id, self.library(), Rules())
        return bool(mine)

    # --- what came out -----------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Return what is lost, doubled, torn or left over; empty when all is well."""
        found = []
        expected_inbox = {} if self.mode == "move" else DROPS
        expected_originals = ORIGINALS if self.mode == "move" else {}
        pairs = [
            ("inbox", _tree(self.inbox), expected_inbox),
            ("originals", _tree(self.originals), expected_originals),
            ("failed", _failed(self.failed), FAILED),
            ("spool", _tree(self.state / "spool"), {}),
        ]
        found += [f"{name}: {has} != {ought}" for name, has, ought in pairs if has != ought]
        pictures = _tree(self.outbox)
        if sorted(pictures) != [f"{name}.jpg" for name in PICTURES]:
            found.append(f"outbox: {sorted(pictures)}")
        if any(not data.startswith(b"painting of ") for data in pictures.values()):
            found.append("a torn picture")
        found += [f"left over: {path}" for path in self.root.rglob(".nstd-*")]
        found += [f"left over: {path}" for path in self.state.rglob(".nstd-*")]
        found += [f"unfinished: {job}" for job in self.ledger.unfinished()]
        counts = {state: n for state, n in self.ledger.counts().items() if n}
        if counts != {"done": 5, "failed": 2, "cancelled": 1}:
            found.append(f"counts: {counts}")
        return found


def _tree(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.rglob("*")) if folder.exists() else []
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def _failed(folder: Path) -> dict[str, bytes]:
    inputs = {}
    for name, data in _tree(folder).items():
        base = os.path.basename(name)
        if base not in {"error.txt", "error.json"}:
            assert base not in inputs, "an input is in two failed jobs"
            inputs[base] = data
    return inputs


def main() -> None:
    publish.arm_from_environment()
    root = Path(sys.argv[1])
    house = House(root, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    house.open()
    house.run()


if __name__ == "__main__":
    main()
