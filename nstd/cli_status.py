"""``nstd status``: the snapshot as tables; ``--json`` prints the same snapshot as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nstd.jobs.text import shown
from nstd.service.page.words import counted, left_alone, size, span
from nstd.service.snapshot import (
    PENDING_STATES,
    EndedJob,
    QueuedJob,
    RunningJob,
    Snapshot,
    WaitingFile,
)
from nstd.service.systemd import duration

ROWS = 20
COLOURS = {"ready": "green", "down": "red"}


def show(snapshot: Snapshot, console: Console) -> None:
    """Print the whole snapshot for people."""
    for part in _parts(snapshot):
        console.print(part)


def _parts(snap: Snapshot) -> Iterable[RenderableType]:
    yield _head(snap)
    now = snap.taken
    if snap.running:
        yield _table(
            "Running", ("Job", "Picture", "Style", "", "Left"), map(_running, snap.running)
        )
    if snap.queued:
        rows = (_queued(job, now) for job in snap.queued[:ROWS])
        yield _table(_title("Queued", snap), ("Job", "Picture", "Style", "Since"), rows)
    if snap.deferred:
        rows = (_deferred(job, now) for job in snap.deferred[:ROWS])
        yield _table(_title("Deferred", snap), ("Job", "Picture", "Why", "Next try"), rows)
    if snap.waiting:
        rows = (_waiting(file, now) for file in snap.waiting[:ROWS])
        yield _table(_title("Waiting", snap), ("File", "Why", "Since", "Given up"), rows)
    if snap.recent:
        rows = (_done(job, now) for job in snap.recent[:ROWS])
        yield _table("Lately finished", ("Job", "Picture", "Result", "Took", "When"), rows)
    if snap.failed:
        rows = (_failed(job, now) for job in snap.failed[:ROWS])
        yield _table("Failed", ("Job", "Picture", "Why, and what to do", "When"), rows)
    yield from _foot(snap)


def _text(value: object) -> Text:
    """Return a user's text: escaped, and never read as markup."""
    return Text(shown(str(value)))


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[RenderableType]]
) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", expand=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return Group(Text(title, style="bold"), table)


def _title(name: str, snap: Snapshot) -> str:
    key = name.lower()
    count = snap.pending.get(key, 0) + (snap.pending.get("settling", 0) if key == "waiting" else 0)
    return f"{name} ({count})"


def _head(snap: Snapshot) -> RenderableType:
    state = {"down": "not running", "ready": "running"}.get(snap.state, snap.state)
    line = Text.assemble("nstd is ", (state, f"bold {COLOURS.get(snap.state, 'yellow')}"))
    if snap.pid:
        line.append(f" (pid {snap.pid})")
    if snap.started is not None:
        line.append(f" for {span(snap.taken - snap.started)}")
    counts = ", ".join(f"{snap.pending.get(name, 0)} {name}" for name in PENDING_STATES)
    ended = ", ".join(
        f"{snap.totals.get(name, 0)} {name}" for name in ("done", "failed", "cancelled")
    )
    notes = [Text(shown(note), style="yellow") for note in snap.notes]
    return Group(line, Text(f"{counts}; {ended}"), *notes, Text())


def _running(job: RunningJob) -> tuple[RenderableType, ...]:
    bar = Table.grid(padding=(0, 1))
    percent = round(100 * job.share)
    bar.add_row(ProgressBar(total=100, completed=percent, width=16), f"{percent} %")
    detail = f"step {job.step}/{job.steps}" if job.step else job.stage
    if job.losses and job.losses.get("total") is not None:
        detail += f", loss {job.losses['total']:.4g}"
    left = duration(job.eta_s) if job.eta_s is not None else ""
    return job.id, _text(job.name), _text(job.style), Group(bar, Text(detail, style="dim")), left


def _queued(job: QueuedJob, now: float) -> tuple[RenderableType, ...]:
    name = _text(job.name)
    if job.priority:
        name.append(f" (priority {job.priority})", style="dim")
    return job.id, name, _text(job.style), span(now - job.since)


def _deferred(job: QueuedJob, now: float) -> tuple[RenderableType, ...]:
    why = _text(job.reason).append(f" ({counted(job.attempts, 'attempt')})", style="dim")
    when = "soon" if job.retry_at is None else f"in {span(job.retry_at - now)}"
    return job.id, _text(job.name), why, when


def _waiting(file: WaitingFile, now: float) -> tuple[RenderableType, ...]:
    given_up = f"in {span(file.deadline - now)}" if file.deadline is not None else ""
    return _text(file.name), _text(file.reason), span(now - file.since), given_up


def _done(job: EndedJob, now: float) -> tuple[RenderableType, ...]:
    result = _text(job.picture or job.outcome)
    took = duration(job.seconds) if job.seconds is not None else ""
    return job.id, _text(job.name), result, took, f"{span(now - job.ended)} ago"


def _failed(job: EndedJob, now: float) -> tuple[RenderableType, ...]:
    why = _text(f"{job.error} {job.remedy}".strip())
    return job.id, _text(job.name), why, f"{span(now - job.ended)} ago"


def _foot(snap: Snapshot) -> Iterable[RenderableType]:
    for folder in snap.folders:
        if folder.problem:
            yield Text(f"{folder.name} ({shown(folder.path)}): {folder.problem}", style="red")
    free = ", ".join(
        f"{folder.name} {size(folder.free_bytes)}"
        for folder in snap.folders
        if folder.free_bytes is not None
    )
    if free:
        yield Text(f"Free: {free}", style="dim")
    if ignored := left_alone(snap.ignored, snap.no_images):
        yield Text(f"Left alone in the inbox: {ignored}", style="dim")
