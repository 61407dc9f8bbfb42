"""``nstd stylize``: one picture now, in this process, with a progress bar."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from nstd import cli_styles
from nstd.cli_guard import INTERRUPTED
from nstd.cli_quiet import only_our_stderr
from nstd.engine import device, weights
from nstd.engine.progress import Listener, StepReport
from nstd.errors import CancelledError, InputError, UsageError
from nstd.jobs import publish
from nstd.jobs.settings import resolve
from nstd.jobs.sidecar import FORMATS
from nstd.jobs.spec import OutputSpec
from nstd.jobs.text import shown
from nstd.service.config import Config
from nstd.service.page.words import counted
from nstd.service.painters import worker_settings
from nstd.service.systemd import duration
from nstd.workers.decode_child import decode_limited
from nstd.workers.settings import PaintSettings
from nstd.workers.task import Painting, PaintRequest, Source, Watch, build_engine, paint

STAGES = {
    "decode": "reading the pictures",
    "prepare": "warming up",
    "optimize": "painting",
    "encode": "writing the picture",
}


class InterruptedByUserError(CancelledError):
    """Ctrl-C: shells tell it from other ends by its exit code."""

    exit_code = INTERRUPTED


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    content: Path
    styles: tuple[Path, ...]
    """Files, or names of the style library."""
    output: Path
    settings: Mapping[str, Any]
    mask: Path | None = None
    blend: tuple[float, ...] = ()
    """Shares of the styles; empty: equal."""
    quality: int = 95
    force: bool = False
    report: bool = False


def stylize(wish: Wish, config: Config, console: Console) -> str:
    """Paint and write the picture; return one line that says what came out.

    Raises UsageError before any work where the wish cannot be met, InputError for its files.
    """
    request = _request(wish, config)
    name = device.resolve(config.model.device)[0]
    os.environ.update(device.environment(name))
    settings = dataclasses.replace(worker_settings(config), cache_dir=None)
    bar = _Bar(console)
    with only_our_stderr(), bar, _interruptible(bar):
        _look_at(request, settings.paint)
        weights.find(config.model.weights, progress=bar.download)
        bar.stage("loading the network")
        painter = build_engine(settings, name)
        try:
            painting = paint(
                request,
                painter,
                listener=Listener(report=bar.report, cancelled=lambda: bar.interrupted),
                settings=settings.paint,
                watch=Watch(begin=lambda phase: bar.stage(STAGES.get(phase, phase))),
            )
        except CancelledError as error:
            raise InterruptedByUserError("Cancelled; nothing was written.") from error
        _write(wish, painting)
    return _summary(wish.output, painting)


def _request(wish: Wish, config: Config) -> PaintRequest:
    form = _format_of(wish.output)
    _check_output(wish)
    if not 1 <= wish.quality <= 100:
        raise UsageError(f"--quality cannot be {wish.quality}.", "Allowed: 1 to 100.")
    for path in (wish.content, *([wish.mask] if wish.mask else [])):
        _check_input(path)
    styles = cli_styles.find(wish.styles, _blend(wish), config.folders.styles)
    return PaintRequest(
        content=Source(str(wish.content), "content"),
        styles=styles.sources,
        mask=Source(str(wish.mask), "mask") if wish.mask else None,
        params=resolve(wish.settings, styles.settings, config.defaults.given()),
        output=OutputSpec(format=form, quality=wish.quality),
    )


def _blend(wish: Wish) -> tuple[float, ...]:
    shares = wish.blend or (1.0,) * len(wish.styles)
    if len(shares) != len(wish.styles):
        raise UsageError(
            f"--blend gives {counted(len(shares), 'share')} for "
            f"{counted(len(wish.styles), 'style')}.",
            "Give one share for each style, separated by commas: --blend 2,1.",
        )
    return shares


def _format_of(output: Path) -> str:
    extension = output.suffix.lstrip(".").casefold()
    if extension not in FORMATS:
        raise UsageError(
            f"'{shown(str(output))}' does not say what kind of picture to write.",
            f"Let it end in .{', .'.join(FORMATS)}.",
        )
    return FORMATS[extension]


def _check_output(wish: Wish) -> None:
    targets = [wish.output, *([_report_path(wish)] if wish.report else [])]
    for target in targets:
        if target.is_dir():
            raise UsageError(f"'{shown(str(target))}' is a folder.", "Name a file in it.")
        if os.path.lexists(target) and not wish.force:
            raise UsageError(
                f"'{shown(str(target))}' is there already.", "Overwrite it with --force."
            )
    if not wish.output.absolute().parent.is_dir():
        raise UsageError(
            f"There is no folder '{shown(str(wish.output.parent))}' to write into.",
            "Make it first.",
        )
    for source in (wish.content, *wish.styles):
        if wish.output.exists() and source.exists() and wish.output.samefile(source):
            raise UsageError(
                f"'{shown(str(wish.output))}' is one of the pictures to paint from.",
                "Write to another file.",
            )


def _check_input(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"'{shown(str(path))}' is a folder.", "Name a picture in it.")
    if not path.exists():
        raise InputError(f"There is no file '{shown(str(path))}'.", "Check its name.")


def _report_path(wish: Wish) -> Path:
    return wish.output.with_suffix(".json")


def _look_at(request: PaintRequest, settings: PaintSettings) -> None:
    """Decode every input small, so that a bad one is told before TensorFlow's seconds."""
    for source in request.sources():
        decode_limited(
            source.path,
            settings.limits,
            max_side=64,
            timeout_s=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_bytes,
        )


def _write(wish: Wish, painting: Painting) -> None:
    folder = str(wish.output.absolute().parent)
    try:
        if wish.report:
            text = json.dumps(painting.report, indent=2, ensure_ascii=False)
            data = text.encode("utf-8", "backslashreplace")
            publish.write_atomic(folder, _report_path(wish).name, data, replace=wish.force)
        publish.write_atomic(folder, wish.output.name, painting.data, replace=wish.force)
    except FileExistsError as error:
        raise UsageError(
            f"'{shown(str(wish.output))}' has appeared meanwhile.", "Overwrite it with --force."
        ) from error


def _summary(output: Path, painting: Painting) -> str:
    result = painting.result
    seconds = sum(painting.report["seconds"].values())
    return (
        f"{shown(str(output))}: {painting.width} x {painting.height} px, {result.steps} steps, "
        f"loss {result.losses.total:.4g}, {duration(seconds)}"
    )


class _Bar:
    """What the terminal shows; without a terminal, nothing but the last line."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self.interrupted = False

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("looking at the files", total=None, facts="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, words: str) -> None:
        """Name the stage that begins."""
        if self._task is not None:
            self._progress.update(self._task, description=words)
        if self.interrupted:
            raise InterruptedByUserError("Cancelled; nothing was written.")

    def download(self, done: int, total: int | None) -> None:
        """Show how much of the weights has come."""
        if self._task is None:
            return
        facts = f"{done / 2**20:.0f} MiB" + (f" of {total / 2**20:.0f}" if total else "")
        self._progress.update(
            self._task, description="fetching the weights", completed=done, total=total, facts=facts
        )

    def report(self, report: StepReport) -> None:
        """Show one look at the optimization."""
        if self._task is None:
            return
        self._progress.update(
            self._task,
            description=f"painting {report.level + 1}/{report.levels}",
            completed=report.step,
            total=report.steps,
            facts=_facts(report),
        )


def _facts(report: StepReport) -> str:
    painting = max(report.seconds - report.compile_s, 1e-9)
    parts = [f"{report.step}/{report.steps}"]
    if report.losses is not None:
        parts.append(f"loss {report.losses.total:.4g}")
    if report.step:
        parts.append(f"{report.step / painting:.1f} steps/s")
    if report.eta_s is not None:
        parts.append(f"{duration(report.eta_s)} left")
    return "  ".join(parts)


@contextlib.contextmanager
def _interruptible(bar: _Bar) -> Iterator[None]:
    """Let Ctrl-C end the work between two steps; a second one ends it at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        bar.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def shares(text: str | None) -> tuple[float, ...]:
    """Read ``--blend``: positive numbers, separated by commas."""
    if not text:
        return ()
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (0.0,)
    if not all(0 < value <= 1e6 for value in values):
        raise UsageError(f"--blend cannot be {shown(text)}.", "Give numbers above 0, like 2,1.")
    return values
