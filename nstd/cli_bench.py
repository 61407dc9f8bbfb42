"""``nstd bench``: how fast this machine paints, in numbers that compare."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from nstd.cli_quiet import only_our_stderr
from nstd.demo_art.painting import painting
from nstd.demo_art.scene import photograph
from nstd.engine import device
from nstd.engine.params import StyleParams, preset
from nstd.engine.progress import Image, Listener, StyleImage
from nstd.photo.resize import fit, resize
from nstd.service.config import Config
from nstd.service.painters import worker_settings
from nstd.workers.task import Painter, build_engine

RUNS: tuple[tuple[str, StyleParams], ...] = (
    ("draft, 256 px", preset("draft")),
    ("standard, 512 px", preset("standard")),
)


@dataclass(frozen=True)
class Figure:
    """One run: what was painted and how long it took."""

    run: str
    width: int
    height: int
    steps: int
    seconds: float
    """All of it, compilation too: what a first job waits."""
    again_s: float
    """The same again: what every further job waits."""
    steps_per_s: float
    megapixel_steps_per_s: float


def bench(config: Config, console: Console, *, as_json: bool = False) -> None:
    """Paint the sample scene by each preset, twice, and print the figures."""
    name = device.resolve(config.model.device)[0]
    os.environ.update(device.environment(name))
    settings = dataclasses.replace(worker_settings(config), cache_dir=None)
    with only_our_stderr():
        painter = build_engine(settings, name, may_download=True)
        facts = painter.facts()
        scene, style = photograph(), painting()
        figures = [_measure(painter, run, params, scene, style) for run, params in RUNS]
    if as_json:
        rows = [dataclasses.asdict(figure) for figure in figures]
        print(json.dumps({"facts": facts, "figures": rows}, indent=2))  # noqa: T201 - the answer
        return
    weights = facts.get("weights", {})
    console.print(f"Device {facts.get('device')}, weights {weights.get('name')}.")
    console.print(_table(figures))


def _measure(painter: Painter, run: str, params: StyleParams, scene: Image, style: Image) -> Figure:
    content = resize(scene, *fit(scene.shape[0], scene.shape[1], params.size))
    styles = [StyleImage(style)]
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        result = painter.stylize(content, styles, params, listener=Listener())
        seconds.append(time.monotonic() - began)
    height, width = content.shape[:2]
    optimize = result.seconds.get("optimize", seconds[-1]) or seconds[-1]
    pixels = sum(
        level["steps"] * level["height"] * level["width"] for level in result.plan.get("levels", [])
    )
    return Figure(
        run,
        width,
        height,
        result.steps,
        round(seconds[0], 2),
        round(seconds[1], 2),
        round(result.steps / optimize, 2),
        round(pixels / optimize / 1e6, 3),
    )


def _table(figures: list[Figure]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for head in ("Run", "Picture", "Steps", "First", "Again", "Steps/s", "Megapixel steps/s"):
        table.add_column(head, justify="left" if head == "Run" else "right")
    for figure in figures:
        table.add_row(
            figure.run,
            f"{figure.width} x {figure.height}",
            str(figure.steps),
            f"{figure.seconds:.1f} s",
            f"{figure.again_s:.1f} s",
            f"{figure.steps_per_s:g}",
            f"{figure.megapixel_steps_per_s:g}",
        )
    return table
