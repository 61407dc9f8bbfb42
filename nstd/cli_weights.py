"""``nstd weights``: list, fetch, verify."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from nstd.engine import weights
from nstd.jobs.text import shown
from nstd.service.page.words import size


def show(wanted: str, console: Console) -> None:
    """Print which weights are here, where they are looked for, and which are ``wanted``."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for head in ("Name", "Here", "What", "Where"):
        table.add_column(head, overflow="fold")
    for row in weights.listing():
        table.add_row(row.name, size(row.size) if row.present else "no", row.what, row.path)
    console.print(table)
    console.print(f"The configuration asks for {shown(wanted)}.", soft_wrap=True, markup=False)


def fetch(wanted: str, console: Console) -> None:
    """Download the ImageNet weights unless they are here; show how far it is."""
    progress = Progress(
        TextColumn("fetching"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=None)
        path = weights.fetch(
            progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    console.print(f"The ImageNet weights are at {path}.", soft_wrap=True)
    if wanted != weights.IMAGENET:
        console.print(f"The configuration asks for {shown(wanted)}.", soft_wrap=True, markup=False)


def verify(which: str) -> None:
    """Print what the weights are; WeightsError when they are not what they claim."""
    found = weights.verify(which)
    print(f"{found.name}: {found.path}")  # noqa: T201 - the command's answer
    print(f"sha256 {found.sha256}")  # noqa: T201
    print("Every number is finite, every layer has its shape.")  # noqa: T201
