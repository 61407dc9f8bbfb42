"""``nstd bench``: how fast this machine paints, in numbers that compare."""

from __future__ import annotations

import dataclasses
import json
import os

from rich import box
from rich.console import Console
from rich.table import Table

from nstd import bench as benching
from nstd.cli_quiet import only_our_stderr
from nstd.engine import device, weights
from nstd.service.config import Config
from nstd.service.painters import worker_settings
from nstd.workers.standin import ENGINE_VARIABLE
from nstd.workers.task import build_engine

SIDES = benching.SIDES


def bench(config: Config, console: Console, *, as_json: bool = False) -> None:
    """Measure the machine's peak and a few steps, and say what the presets will take."""
    name = device.resolve(config.model.device)[0]
    os.environ.update(device.environment(name))
    settings = dataclasses.replace(worker_settings(config), cache_dir=None)
    with only_our_stderr():
        painter = build_engine(settings, name, may_download=True)
        facts = painter.facts()
        network = None if os.environ.get(ENGINE_VARIABLE) else weights.find(settings.weights)
        found = benching.measure(painter, network, sides=SIDES)
    if as_json:
        print(json.dumps({"facts": facts, **benching.to_json(found)}, indent=2))  # noqa: T201 - the answer
        return
    peak = found.peak_flops_per_s
    console.print(
        f"Device {facts.get('device')}, weights {facts.get('weights', {}).get('name')}"
        + (f" in {facts['precision']}" if "precision" in facts else "")
        + (f", float32 matrix peak {peak / 1e9:.0f} GFLOP/s." if peak else ".")
    )
    console.print(_speeds(found))
    console.print(_forecasts(found))


def _speeds(found: benching.Bench) -> Table:
    table = _table("Step at", "Steps/s", "GFLOP/s", "Of the peak")
    for speed in found.speeds:
        share = found.share_of_peak(speed)
        table.add_row(
            f"{speed.side} x {speed.side}",
            f"{speed.steps_per_s:.3g}",
            f"{speed.flops_per_s / 1e9:.0f}" if speed.flops_per_s else "",
            f"{share:.0%}" if share is not None else "",
        )
    return table


def _forecasts(found: benching.Bench) -> Table:
    table = _table("Preset", "Picture", "Steps", "About")
    for each in found.forecasts:
        minutes = f"{each.minutes:.1f} min" if each.minutes >= 1 else f"{each.minutes * 60:.0f} s"
        table.add_row(each.preset, f"{each.width} x {each.height}", str(each.steps), minutes)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column(first)
    for head in others:
        table.add_column(head, justify="right")
    return table
