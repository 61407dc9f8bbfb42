"""How long nstd takes to the quality that 1000 steps of the tutorials' Adam reach.

Quality is J (see judge.py), within 5 %, with a total variation no higher. The baseline's J is
computed once; its time is 1000 times the median of its step, measured in the same run, compiled
and eager. neural-style's L-BFGS at one size runs to the same quality, too.

nstd's run is its pyramid with L-BFGS on J, the range penalty added and total variation left out.
One schedule serves every pair and size; it was chosen beforehand (see SCHEDULE). The picture is
judged between steps of the last level; judging is not counted. ``cold`` counts loading the
weights, tracing the graphs and preparing the targets; ``warm`` is what a second picture takes,
with everything but the graphs and the weights computed anew.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kit
from judge import J, Judge, PlainAdam, PlainLBFGS, Quality, without_dead_channels

from nstd.engine import weights
from nstd.engine.params import StyleParams
from nstd.engine.progress import Listener, Result, StepReport, StyleImage
from nstd.engine.stylizer import Stylizer
from nstd.engine.targets import to_pixels
from nstd.engine.vgg import Kernels, load_kernels
from nstd.engine.weights import Weights
from nstd.errors import CancelledError

STEPS = 1000
TOLERANCE = 0.05
SCHEDULE = StyleParams(
    **{
        **{field.name: getattr(J, field.name) for field in dataclasses.fields(J)},
        "iterations": 400,
        "range_weight": 30.0,
        "pyramid_min": 128,
        "coarse_growth": 0.3,
    }
)
"""The pyramid that nstd runs on J: 128 pixels and up, few steps on coarse levels, 400 at most.

Chosen on one pair (golden gate in starry night, 256 pixels) and fixed since.
"""


@dataclasses.dataclass
class Case:
    """One pair at one size, with the networks: as it is, and slim for computing J only."""

    name: str
    content: kit.Image
    style: kit.Image
    kernels: Kernels
    slim: Kernels
    tick: Callable[[], float] = time.perf_counter

    @functools.cached_property
    def judge(self) -> Judge:
        """J, computed fast."""
        return Judge(self.slim, self.content, self.style)

    @functools.cached_property
    def plain(self) -> Judge:
        """J, computed as the baselines compute it: this one is timed."""
        return Judge(self.kernels, self.content, self.style)


class Watch:
    """Judges a run between its steps, with the clock stopped meanwhile."""

    def __init__(self, case: Case, wanted: Quality) -> None:
        self._case, self._wanted = case, wanted
        self._judging, self._began = 0.0, case.tick()
        self._loss = float("inf")
        self.reached: float | None = None
        self.found: Quality | None = None
        self.pixel_steps = 0

    def clock(self) -> float:
        """Return the seconds since the beginning, judging left out."""
        return self._case.tick() - self._began - self._judging

    def listener(self) -> Listener:
        """Return what the engine tells."""
        return Listener(
            report=self._report,
            preview=self._judge,
            cancelled=lambda: self.reached is not None,
            preview_s=0.0,
            report_s=0.0,
        )

    def _report(self, report: StepReport) -> None:
        if report.losses is not None:
            self._loss, self.pixel_steps = report.losses.total, report.pixel_steps

    def _judge(self, pixels: kit.Image) -> None:
        """Judge the picture where it is of full size, and where its loss says that it may do."""
        near = self._loss <= self._wanted.j * (1.0 + 2.0 * TOLERANCE)
        if self.reached is not None or pixels.shape != self._case.content.shape or not near:
            return
        now = self.clock()
        self.found = self._case.judge.quality(pixels)
        if self._wanted.reached_by(self.found, TOLERANCE):
            self.reached = now
        self._judging += self.clock() - now


def baseline(case: Case) -> Quality:
    """Return what the tutorials' Adam reaches; computed with the slim network, not timed."""
    adam = PlainAdam(case.judge, compiled=True)
    for _ in range(STEPS):
        adam.step()
    return case.judge.quality(to_pixels(adam.image))


def step_times(case: Case, compiled: int, eager: int) -> dict[str, kit.Figure]:
    """Return the seconds of the baseline's step, compiled and eager, turn and turn about."""
    loops = {
        "compiled": (PlainAdam(case.plain, compiled=True), compiled),
        "eager": (PlainAdam(case.plain, compiled=False), eager),
    }
    for loop, _ in loops.values():
        loop.step()  # traced, warm
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for i in range(max(compiled, eager)):
        for name, (loop, count) in loops.items():
            if i < count:
                seconds[name].append(kit.timed(loop.step, case.tick)())
    return {name: kit.Figure(tuple(values)) for name, values in seconds.items()}


def plain_lbfgs(case: Case, wanted: Quality, timed: int) -> dict[str, Any]:
    """Return how many steps neural-style's L-BFGS takes to the quality, and a step's seconds."""
    quick = PlainLBFGS(case.judge)
    steps, found = None, None
    for taken in range(1, STEPS + 1):
        quick.step()
        if taken % 5 == 0:
            found = case.judge.quality(to_pixels(quick.image))
            if wanted.reached_by(found, TOLERANCE):
                steps = taken
                break
    slow = PlainLBFGS(case.plain)
    slow_step = kit.timed(slow.step, case.tick)
    seconds = kit.Figure(tuple(slow_step() for _ in range(timed + 1))[1:]) if timed else None
    return {"steps": steps, "step_seconds": seconds, "last": found and dataclasses.asdict(found)}


def paint(case: Case, stylizer: Stylizer, wanted: Quality, began: float) -> dict[str, Any]:
    """Run nstd to the quality; ``began``: seconds spent before that count."""
    _ = case.judge.quality(case.content)  # traced before the clock runs
    watch = Watch(case, wanted)
    try:
        result: Result | None = stylizer.stylize(
            case.content, [StyleImage(case.style)], SCHEDULE, listener=watch.listener()
        )
    except CancelledError:
        result = None
    del result
    pixels = case.content.shape[0] * case.content.shape[1]
    return {
        "seconds": None if watch.reached is None else began + watch.reached,
        "full_size_steps": watch.pixel_steps / pixels,
        "quality": watch.found and dataclasses.asdict(watch.found),
    }


def ours(case: Case, found: Weights, wanted: Quality, runs: int) -> dict[str, Any]:
    """Return nstd's runs: one that starts cold, then ``runs`` warm ones."""
    began = case.tick()
    stylizer = Stylizer(found, memory_bytes=64 << 30)  # in one piece, as the baselines
    cold = paint(case, stylizer, wanted, case.tick() - began)
    warm = [paint(case, stylizer, wanted, 0.0) for _ in range(runs)]
    reached = [run["seconds"] for run in warm if run["seconds"] is not None]
    return {
        "cold": cold,
        "warm": warm,
        "seconds": kit.Figure(tuple(reached)) if len(reached) == len(warm) > 0 else None,
    }


def measure(case: Case, found: Weights, asked: Any, wanted: Quality) -> dict[str, Any]:
    """Return all figures of one pair at one size."""
    steps = step_times(case, asked.steps, asked.eager_steps)
    figures = {
        "pair": case.name,
        "size": max(case.content.shape[:2]),
        "quality": dataclasses.asdict(wanted),
        "step_seconds": steps,
        "lbfgs": plain_lbfgs(case, wanted, asked.lbfgs_steps) if asked.lbfgs_steps else None,
        "nstd": ours(case, found, wanted, asked.runs),
    }
    warm, cold = figures["nstd"]["seconds"], figures["nstd"]["cold"]["seconds"]
    figures["ratios"] = {
        f"{name}, {start}": STEPS * step.median / seconds
        for name, step in steps.items()
        for start, seconds in (("warm", warm and warm.median), ("cold", cold))
        if seconds
    }
    return figures


def cases(asked: Any, kernels: Kernels) -> list[Case]:
    """Return the pairs: the first few at the first size, the very first at the others."""
    contents, styles = kit.pictures(asked.images)
    slim, tick = without_dead_channels(kernels), kit.CLOCKS[asked.clock]
    pairs = sorted(
        itertools.product(contents, styles),
        key=lambda pair: (list(contents).index(pair[0]) + list(styles).index(pair[1])) % 3,
    )
    if asked.pairs_named:
        pairs = [(name.split("+")[0], name.split("+")[1]) for name in asked.pairs_named]
    small, *large = asked.sizes
    wanted = [(pair, small) for pair in pairs[: asked.pairs]] + [(pairs[0], s) for s in large]
    return [
        Case(f"{c}+{s}", kit.sized(contents[c], size), styles[s], kernels, slim, tick)
        for (c, s), size in wanted
    ]


def show(figures: list[dict[str, Any]]) -> None:
    """Print the table."""
    rows = []
    for each in figures:
        mine, lbfgs = each["nstd"], each["lbfgs"] or {}
        rows.append((
            each["pair"], each["size"], each["quality"]["j"], each["quality"]["tv"],
            STEPS * each["step_seconds"]["compiled"].median,
            STEPS * each["step_seconds"]["eager"].median,
            str(lbfgs.get("steps")),
            str(mine["seconds"]), str(mine["cold"]["seconds"] and f"{mine['cold']['seconds']:.3g}"),
            mine["cold"]["full_size_steps"],
            " / ".join(f"{each['ratios'].get(name, float('nan')):.1f}" for name in RATIOS),
        ))  # fmt: skip
    heads = (
        "pair", "px", "J", "TV", "Adam, s", "eager, s", "L-BFGS steps", "nstd warm, s", "cold, s",
        "full-size steps", "x faster: warm / cold / than eager",
    )  # fmt: skip
    kit.show("Time to the quality of 1000 steps of Adam", heads, rows)


RATIOS = ("compiled, warm", "compiled, cold", "eager, warm")


def _known(path: Path | None) -> dict[tuple[str, int], Quality]:
    """Return the baselines' qualities that an earlier run has written."""
    if path is None or not path.exists():
        return {}
    earlier = json.loads(path.read_text(encoding="utf-8"))
    return {(each["pair"], each["size"]): Quality(**each["quality"]) for each in earlier}


def main() -> None:
    """Run the benchmark."""
    parser = kit.options(__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="how many at the first size")
    parser.add_argument("--pairs-named", nargs="+", metavar="CONTENT+STYLE")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--runs", type=int, default=3, help="warm runs of nstd")
    parser.add_argument("--steps", type=int, default=20, help="steps of the baseline to time")
    parser.add_argument("--eager-steps", type=int, default=5)
    parser.add_argument("--lbfgs-steps", type=int, default=5, help="to time; 0: leave it out")
    parser.add_argument(
        "--clock", default="wall", choices=kit.CLOCKS,
        help="processor: processor time over cores, for a machine that others use, too",
    )  # fmt: skip
    parser.add_argument("--baselines", type=Path, help="JSON to keep the baselines' J in")
    parser.add_argument("--baselines-only", action="store_true")
    asked = parser.parse_args()
    found = weights.find(asked.weights)
    known, figures = _known(asked.baselines), []
    for case in cases(asked, load_kernels(found.path)):
        key = (case.name, max(case.content.shape[:2]))
        known[key] = known.get(key) or baseline(case)
        if asked.baselines:
            listed = [
                {"pair": pair, "size": size, "quality": dataclasses.asdict(quality)}
                for (pair, size), quality in known.items()
            ]
            asked.baselines.write_text(json.dumps(listed, indent=2), encoding="utf-8")
        if asked.baselines_only:
            print(*key, known[key], flush=True)
            continue
        figures.append(measure(case, found, asked, known[key]))
        show(figures)
        facts: dict[str, Any] = {
            "machine": kit.machine(),
            "weights": asked.weights,
            "clock": asked.clock,
        }
        facts["pairs"] = figures
        kit.finish(asked.out, "time_to_quality", facts)


if __name__ == "__main__":
    main()
