"""How much memory a picture of each size takes, and how long its steps are.

Every case runs in a process of its own: a size and a memory budget, from which the engine plans
tiles and the optimizer's history. Reported are the largest resident size of the process
(TensorFlow and weights included) and the seconds of a step at full size. Cases of the same size
with another budget show what tiling costs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import kit
import numpy as np

from nstd.engine.device import CPU
from nstd.engine.params import MAX_SIZE, preset
from nstd.engine.progress import Listener, StepReport, StyleImage
from nstd.workers.process import environment

CASES = ("512:16", "1024:16", "1024:2", "2048:2.5", "4096:4")


def child(asked: argparse.Namespace) -> None:
    """Paint one case and print what it took, as one line of JSON."""
    from nstd.engine import weights
    from nstd.engine.stylizer import Stylizer

    with np.load(asked.pictures) as held:
        content, style = held["content"], held["style"]
    reports: list[StepReport] = []
    stylizer = Stylizer(weights.find(asked.weights), memory_bytes=int(float(asked.budget) * 2**30))
    params = replace(
        preset("standard"), size=asked.size, iterations=asked.steps, pyramid_min=MAX_SIZE
    )
    result = stylizer.stylize(
        kit.sized(content, asked.size),
        [StyleImage(style)],
        params,
        listener=Listener(report=reports.append, report_s=0.0),
    )
    height, width = result.pixels.shape[:2]
    facts = {
        "width": width,
        "height": height,
        "tile": result.plan["levels"][-1]["tile"],
        "history": result.plan["adapted"].get("history", params.history),
        "step_seconds": step_seconds(reports),
        "prepare_seconds": result.seconds["prepare"],
        "peak_bytes": kit.peak_bytes(),
        "notes": list(result.notes),
    }
    print(json.dumps(facts), flush=True)


def step_seconds(reports: list[StepReport]) -> list[float]:
    """Return the seconds of each step, the first left out: it also traces the graph."""
    ends = [(report.step, report.seconds) for report in reports if report.losses is not None]
    seconds = []
    for (step, began), (later, ended) in itertools.pairwise(ends):
        if later > step > 0:
            seconds += [(ended - began) / (later - step)] * (later - step)
    return seconds


def measure(case: str, asked: argparse.Namespace, pictures: str) -> dict[str, Any]:
    """Run one case, ``SIZE:BUDGET`` or ``SIZE:BUDGET:STEPS``, in its own process."""
    size, budget, *steps = case.split(":")
    command = [
        sys.executable, __file__, "--child", "--weights", asked.weights, "--pictures", pictures,
        "--size", size, "--budget", budget, "--steps", steps[0] if steps else str(asked.steps),
    ]  # fmt: skip
    env = environment(CPU, os.environ)  # as a worker has it
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env)
    facts: dict[str, Any] = {"size": int(size), "budget_gib": float(budget)}
    if done.returncode:
        return {**facts, "failed": f"exit code {done.returncode}"}
    facts |= json.loads(done.stdout.splitlines()[-1])
    facts["step_seconds"] = kit.Figure(tuple(facts["step_seconds"]))
    return facts


def tiling_costs(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Return {size and tile: time of a tiled step over the untiled one of the same size}."""
    whole = {case["size"]: case["step_seconds"].median for case in cases if case.get("tile") == 0}
    return {
        f"{case['size']} px, tiles of {case['tile']}": case["step_seconds"].median
        / whole[case["size"]]
        for case in cases
        if case.get("tile") and case["size"] in whole
    }


def show(cases: list[dict[str, Any]]) -> None:
    """Print the table."""
    rows = [
        (f"{case['size']}", f"{case['budget_gib']:g}", case["failed"], "", "", "")
        if "failed" in case
        else (
            f"{case['width']} x {case['height']}", f"{case['budget_gib']:g}",
            case["tile"] or "none", f"{case['peak_bytes'] / 2**30:.2f}",
            str(case["step_seconds"]), case["prepare_seconds"],
        )
        for case in cases
    ]  # fmt: skip
    heads = ("picture", "budget, GiB", "tiles", "peak, GiB", "s a step", "prepare, s")
    kit.show("Memory by size", heads, rows)
    for name, ratio in tiling_costs(cases).items():
        print(f"{name}: {ratio:.2f} times the untiled step.")


def main() -> None:
    """Run the benchmark, or be one case of it."""
    parser = kit.options(__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="SIZE:GIB[:STEPS]")
    parser.add_argument("--steps", type=int, default=4, help="steps of a case, the first untimed")
    for name, kind in (("--size", int), ("--budget", str), ("--pictures", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked)
        return
    contents, styles = kit.pictures(asked.images)
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = str(Path(folder, "pictures.npz"))
        content, style = next(iter(contents.values())), next(iter(styles.values()))
        np.savez(pictures, content=content, style=style)
        facts = {"machine": kit.machine(), "weights": asked.weights, "cases": cases}
        for case in asked.cases:
            cases.append(measure(case, asked, pictures))
            show(cases)
            kit.finish(asked.out, "memory_by_size", {**facts, "tiling": tiling_costs(cases)})


if __name__ == "__main__":
    main()
