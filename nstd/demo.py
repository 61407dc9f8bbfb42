"""The demonstration: a sample photograph and a painting, and a real daemon that makes one of both.

Nothing is mocked and nothing is downloaded: the pictures are made by code, the daemon is the one
that ``nstd run`` starts, as a child process, and it is asked the way anybody would ask it: a style
in the library, a photograph in the style's folder.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from nstd.demo_art.painting import painting
from nstd.demo_art.scene import photograph
from nstd.errors import DeviceError, MissingError, NstdError
from nstd.jobs.publish import write_atomic
from nstd.photo.encode import encode
from nstd.photo.metadata import Metadata
from nstd.service.snapshot import EndedJob, RunningJob, Snapshot

STYLE, PHOTO, LOG = "windy-valley", "bay-at-dusk.jpg", "daemon.log"
POLL_S = 0.25
STOP_S = 40.0
"""More than the daemon's own ``worker.stop_grace_s``."""


@dataclass(frozen=True)
class Outcome:
    """What the demonstration left behind."""

    job: EndedJob
    metrics: Path


class DaemonEndedError(NstdError):
    """The daemon stopped before the picture was done; its own words are the message."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said or f"The daemon ended with code {code} and said nothing.")
        self.code = code


class Daemon:
    """``nstd run`` as a child process, from ``with`` to its end."""

    def __init__(self, root: Path, weights: str, device: str) -> None:
        self.root = root
        self.born = time.time()
        self._command = [
            *(sys.executable, "-c", "import sys, nstd.cli; sys.exit(nstd.cli.main())", "run"),
            *("--root", str(root), "--listen", "127.0.0.1:0"),
            *("--weights", weights, "--device", device),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self.root / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """End the daemon as systemd would, and return its exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def check(self) -> None:
        """Raise DaemonEndedError when the process is gone."""
        code = self._process.poll() if self._process else 0
        if code is not None:
            raise DaemonEndedError(code, _last_words(self.root / LOG))

    def get(self, path: str) -> bytes | None:
        """Return what the daemon answers to ``path``, or None while it does not."""
        try:
            address = (self.root / "state" / "listen").read_text().strip()
            with urlopen(f"http://{address}{path}", timeout=10) as answer:
                body: bytes = answer.read()
                return body
        except (OSError, ValueError):
            return None

    def snapshot(self) -> Snapshot | None:
        """Return what the daemon says of itself, or None while it says nothing."""
        answer = self.get("/api/jobs")
        return Snapshot.from_json(answer) if answer else None


def run(
    root: Path | None = None,
    *,
    device: str | None = None,
    weights: str = "builtin",
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Paint the sample end to end through a real daemon; return an exit code.

    Without ``root`` a new folder is made and kept, so that the result can be looked at. Without
    ``device`` the GPU is used where there is one that works; where it does not, the reason is
    printed before the CPU takes its place.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    folder = _folder(root)
    console.print(f"[bold]nstd demo[/bold]: a photograph becomes a painting, in {_path(folder)}")
    started = clock()
    _make_style(folder, console)
    photo: Callable[[], None] = partial(_drop_photo, folder, console)
    for choice in [device] if device else ["auto", "cpu"]:
        try:
            outcome = _paint(Daemon(folder, weights, choice), photo, console, pause)
        except DaemonEndedError as error:
            if error.code != DeviceError.exit_code or choice != "auto":
                console.print(f"[red]{escape(str(error))}[/red]\nIts log: {_path(folder / LOG)}")
                return error.code if error.code > 0 else 1
            console.print(f"[yellow]{escape(str(error))}[/yellow]")
            console.print("The demonstration goes on with the CPU.")
            photo = _nothing  # the first daemon was given it
        else:
            return _tell(folder, outcome, clock() - started, weights, console)
    return 1


def _folder(root: Path | None) -> Path:
    """Return the folder to work in, made where it is missing."""
    if root is None:
        return Path(tempfile.mkdtemp(prefix="nstd-demo-"))
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(
            f"The folder {root} cannot be made: {error.strerror}.", "Name another: --root DIR."
        ) from error
    return root.absolute()


def _make_style(root: Path, console: Console) -> None:
    folder = root / "styles"
    folder.mkdir(exist_ok=True)
    data = encode(painting(), format="jpg")
    write_atomic(str(folder), f"{STYLE}.jpg", data, replace=True)
    console.print(f"  style       {_path(folder / STYLE)}.jpg")


def _drop_photo(root: Path, console: Console) -> None:
    """Put the photograph where a user would: into the folder of the style."""
    folder = root / "inbox" / STYLE
    folder.mkdir(parents=True, exist_ok=True)
    facts = Metadata(taken="2024:09:21 19:42:05", author="nstd demo")
    write_atomic(
        str(folder), PHOTO, encode(photograph(), format="jpg", metadata=facts), replace=True
    )
    console.print(f"  photograph  {_path(folder / PHOTO)}")


def _nothing() -> None:
    """Drop nothing."""


def _paint(
    daemon: Daemon, drop: Callable[[], None], console: Console, pause: Callable[[float], None]
) -> Outcome:
    """Run the daemon until it has dealt with the photograph."""
    with daemon:
        drop()
        with Bar(console) as bar:
            while not (job := _ours(snapshot := daemon.snapshot(), daemon.born)):
                bar.show(snapshot)
                daemon.check()
                pause(POLL_S)
        metrics = daemon.root / "metrics.txt"
        metrics.write_bytes(daemon.get("/metrics") or b"")
        if code := daemon.stop():
            raise DaemonEndedError(
                code, f"The picture is done, but the daemon ended with code {code}."
            )
    return Outcome(job, metrics)


def _ours(snapshot: Snapshot | None, born: float) -> EndedJob | None:
    """Return our job once it has ended; one of an earlier demonstration is older than us."""
    if snapshot is None:
        return None
    ended = [job for job in (*snapshot.recent, *snapshot.failed) if job.ended >= born]
    return next((job for job in ended if job.name == f"{STYLE}/{PHOTO}"), None)


class Bar:
    """Progress on a terminal as a bar, elsewhere as a line whenever something changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: set[str] = set()
        self._progress = Progress(
            TextColumn("  {task.description:<31}"),
            BarColumn(bar_width=20),  # all of it fits into 80 columns
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("the daemon starts", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, snapshot: Snapshot | None) -> None:
        """Show what the daemon does now."""
        job = snapshot.running[0] if snapshot and snapshot.running else None
        words = _doing(snapshot, job)
        if not self._console.is_terminal:
            if words not in self._said:
                self._console.print(f"  {words}")
            self._said.add(words)
        elif job and job.steps:
            self._progress.update(
                self._task, description=words, total=job.steps, completed=job.step, note=_note(job)
            )
        else:
            self._progress.update(self._task, description=words)


def _doing(snapshot: Snapshot | None, job: RunningJob | None) -> str:
    if snapshot is None:
        return "the daemon starts"
    if job is None:
        return "the photograph settles" if snapshot.waiting else "the network is loaded"
    if job.stage == "optimize" and not job.levels:
        return "preparing the style"
    if job.stage == "optimize":
        return f"painting at {job.width}x{job.height}, level {job.level + 1}/{job.levels}"
    words = {"decode": "reading the pictures", "encode": "writing the picture"}
    return words.get(job.stage, "delivering the picture")


def _note(job: RunningJob) -> str:
    if job.stage != "optimize":
        return ""
    loss = f"loss {job.losses['total']:.3g}" if job.losses else ""
    return f"{loss}  {job.eta_s:.0f} s to go" if job.eta_s is not None else loss


def _tell(root: Path, outcome: Outcome, seconds: float, weights: str, console: Console) -> int:
    """Print where everything is; return the exit code."""
    job = outcome.job
    if job.outcome != "done" or job.picture is None or job.report is None:
        console.print(f"[red]The job {job.outcome}: {escape(f'{job.error} {job.remedy}')}[/red]")
        if job.folder:
            console.print(f"  its files    {_path(root / 'failed' / job.folder)}")
        return 1
    console.print(f"\n[bold green]Done[/bold green] in {seconds:.0f} s.")
    for what, path in (
        ("picture", root / "outbox" / job.picture),
        ("report", root / "outbox" / job.report),
        ("photograph", root / "originals" / STYLE / PHOTO),
        ("metrics", outcome.metrics),
        ("log", root / LOG),
    ):
        if path.exists():
            console.print(f"  {what:<11} {_path(path)}")
    again = f"{_program()} run --root {shlex.quote(str(root))} --weights {shlex.quote(weights)}"
    console.print("\nGo on with it: start the daemon on the same folders,")
    console.print(f"  {escape(again)}")
    console.print(f"and put photographs into {_path(root / 'inbox' / STYLE)}")
    return 0


def _program() -> str:
    """Return how a shell finds this very program: `make demo` leaves it in a .venv."""
    beside, found = Path(sys.executable).with_name("nstd"), shutil.which("nstd")
    if found and not (beside.exists() and not beside.samefile(found)):
        return "nstd"
    own = str(beside) if beside.exists() else sys.executable
    return shlex.quote(own) + ("" if beside.exists() else " -m nstd")


def _path(path: Path) -> str:
    """Return a path as a shell takes it and rich leaves it alone."""
    return escape(shlex.quote(str(path)))


def _last_words(log: Path) -> str:
    """Return the last line that the daemon wrote."""
    try:
        lines = log.read_text(errors="backslashreplace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
