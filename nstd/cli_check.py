"""``nstd check``: the findings as lines, the worst of them as exit code."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from nstd.jobs.text import shown
from nstd.service.config import Config
from nstd.service.doctor import examine
from nstd.service.findings import Finding
from nstd.service.page.words import counted

MARKS = {"good": ("ok  ", "green"), "note": ("note", "yellow"), "bad": ("BAD ", "bold red")}


def check(config: Config, path: Path | None, console: Console, *, quick: bool = False) -> int:
    """Print every finding as it is made; return 0 when nstd can work, else the reason's code."""
    bad: list[Finding] = []
    notes = 0
    for finding in examine(config, path, quick=quick):
        console.print(_line(finding), soft_wrap=True)
        notes += finding.grade == "note"
        if finding.grade == "bad":
            bad.append(finding)
    if bad:
        console.print(f"{counted(len(bad), 'thing')} must be mended before nstd can work.")
        return bad[0].exit_code
    console.print("nstd can work here." + (f" {counted(notes, 'note')}." if notes else ""))
    return 0


def _line(finding: Finding) -> Text:
    mark, style = MARKS[finding.grade]
    line = Text.assemble((mark, style), f" {finding.area}: {shown(finding.text)}")
    if finding.advice:
        line.append(f"\n     → {shown(finding.advice)}", style="dim" if style != "bold red" else "")
    return line
