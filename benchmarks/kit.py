"""What the benchmarks share: options, pictures, timing side by side, tables, JSON."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from nstd.photo.decode import decode
from nstd.photo.limits import Limits
from nstd.photo.resize import fit, resize

Image = NDArray[np.uint8]  # (H, W, 3) sRGB

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Figure:
    """Repeated measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def to_dict(self) -> dict[str, float | int]:
        """Return what the JSON says of it."""
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "n": len(self.values),
        }

    def __str__(self) -> str:
        """Write the median, with the range where there is one."""
        if len(self.values) == 1:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({min(self.values):.3g} to {max(self.values):.3g})"


def options(description: str | None, *, weights: str = "builtin") -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--weights", default=weights, help="imagenet, builtin, or the path of a weights file"
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="folder with content-*.jpg and style-*.jpg (otherwise: the demonstration's pictures)",
    )
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    return parser


def pictures(folder: Path | None) -> tuple[dict[str, Image], dict[str, Image]]:
    """Return the photographs and the paintings by name."""
    if folder is None:
        from nstd.demo_art.painting import painting
        from nstd.demo_art.scene import photograph

        return {"bay": photograph()}, {"valley": painting()}
    found: list[dict[str, Image]] = []
    for kind in ("content", "style"):
        paths = sorted(folder.glob(f"{kind}-*.jpg"))
        if not paths:
            sys.exit(f"{folder} holds no {kind}-*.jpg.")
        found.append({path.stem.removeprefix(f"{kind}-"): read(path) for path in paths})
    return found[0], found[1]


def read(path: Path) -> Image:
    """Return a picture as the daemon would see it."""
    return decode(path.read_bytes(), limits=Limits()).pixels


def sized(picture: Image, long_side: int) -> Image:
    """Return ``picture`` with its longer side at ``long_side``."""
    return resize(picture, *fit(picture.shape[0], picture.shape[1], long_side))


def square(picture: Image, side: int) -> Image:
    """Return ``picture`` forced to (side, side): operations are then easy to compare."""
    return resize(picture, side, side)


def side_by_side(
    things: Mapping[str, Callable[[], float]], rounds: int, *, warm: int = 1
) -> dict[str, Figure]:
    """Call every thing in turn, ``rounds`` times over, and return the seconds each one reports.

    A B C A B C rather than A A A B B B: a machine that slows down meanwhile is fair to all. The
    first ``warm`` calls of each are thrown away.
    """
    for thing in things.values():
        for _ in range(warm):
            thing()
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            seconds[name].append(thing())
    return {name: Figure(tuple(values)) for name, values in seconds.items()}


def processor_clock() -> float:
    """Return the processor time of this process over its cores.

    What the wall clock would say were the machine ours alone and the work spread evenly: a way to
    compare steps on a machine that others use, too. Work that runs on one core looks too fast.
    """
    return time.process_time() / len(os.sched_getaffinity(0))


CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": processor_clock,
}


def timed(
    call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """Return a function that runs ``call`` and returns the seconds it took by ``clock``."""

    def run() -> float:
        began = clock()
        call()
        return clock() - began

    return run


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    import tensorflow as tf

    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "cpu": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def peak_bytes(pid: int | str = "self") -> int:
    """Return the largest resident size a process has had (VmHWM), in bytes."""
    return int(_line(f"/proc/{pid}/status", "VmHWM").split()[0]) * 1024


def resident_bytes(pid: int | str = "self") -> int:
    """Return the resident size of a process now, in bytes."""
    return int(_line(f"/proc/{pid}/status", "VmRSS").split()[0]) * 1024


def _line(path: str, key: str) -> str:
    for line in Path(path).read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, its first column to the left."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)


def finish(out: Path | None, name: str, facts: Mapping[str, Any]) -> None:
    """Write the figures as JSON, where that was asked for."""
    if out is not None:
        text = json.dumps({"benchmark": name, **facts}, indent=2, default=_plain)
        out.write_text(text + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, Figure):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
