"""How long one step takes, and what share of the machine's matrix peak that is.

A step is one loss and gradient of the standard objective on a square picture. The same step runs
as nstd runs it (in the precision that suits the machine, and in float32), as a TensorFlow graph
with direct convolutions, compiled by XLA, eagerly, and in PyTorch where that is installed; one
after the other, round by round, with a float32 matrix product in between.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import kit
import numpy as np
import tensorflow as tf

from nstd.engine import weights
from nstd.engine.cost import PEAK_SIDE, matrix_peak, step_flops
from nstd.engine.device import CPU, native_precision
from nstd.engine.loop import DeviceLoop
from nstd.engine.objective import Objective, Targets, weights_of
from nstd.engine.optimizers import LBFGS, start
from nstd.engine.params import Precision, StyleParams, preset
from nstd.engine.vgg import LAYERS, FeatureExtractor, Kernels, load_kernels

VARIANTS = ("float32", "graph", "xla", "eager", "torch", "torch-nhwc")
BASE = "nstd"
TORCH_LAYOUTS = {"torch": "contiguous", "torch-nhwc": "channels_last"}
STEPS_A_CALL = 5


@dataclasses.dataclass
class Case:
    """One size: the pictures and the objectives: nstd's, its float32 one, and the direct one."""

    kernels: Kernels
    params: StyleParams
    side: int
    content: kit.Image
    style: kit.Image

    def __post_init__(self) -> None:
        self.layers = _layers(self.params)
        on_cpu = not tf.config.list_physical_devices("GPU")
        self.precision = native_precision(CPU if on_cpu else "gpu:0")
        self.ours = self._objective(winograd=on_cpu, precision=self.precision)
        self.float32 = self._objective(winograd=on_cpu)
        self.direct = self._objective(winograd=False)
        self.image = _tensor(kit.square(self.content, self.side))
        self.start = tf.clip_by_value(
            self.image + tf.random.stateless_normal(self.image.shape, (3, 4), stddev=0.02), 0, 1
        )
        self.paint = _tensor(kit.square(self.style, self.side))

    @property
    def flops(self) -> int:
        """Operations of a step."""
        return step_flops(self.kernels, self.layers[-1], self.side, self.side)

    def targets(self, objective: Objective) -> Targets:
        """Return what the picture aims at."""
        moments = objective.style_moments(self.paint)
        return Targets(
            content=objective.content_features(self.image),
            style={layer: (value,) for layer, value in moments.items()},
            shares={},
            weights=weights_of(self.params),
        )

    def _objective(self, *, winograd: bool, precision: Precision = "float32") -> Objective:
        extractor = FeatureExtractor(
            self.kernels,
            self.layers,
            pooling=self.params.pooling,
            edge=self.params.edge,
            winograd=winograd,
            precision=precision,
        )
        return Objective(extractor, self.params)


def _layers(params: StyleParams) -> list[str]:
    names = {name for name, _ in (*params.content_layers, *params.layer_weights())}
    return sorted(names, key=LAYERS.index)


def _tensor(pixels: kit.Image) -> tf.Tensor:
    return tf.constant(pixels[None], tf.float32) / 255.0


def _waiting(call: Callable[[], tuple[Any, tf.Tensor]], clock: str) -> Callable[[], float]:
    """Return ``call`` as a timed step that ends when the gradient is there."""

    def run() -> None:
        _terms, gradient = call()
        gradient[0, 0, 0, 0].numpy()

    return kit.timed(run, kit.CLOCKS[clock])


def steps(case: Case, wanted: tuple[str, ...], clock: str) -> dict[str, Callable[[], float]]:
    """Return the steps in TensorFlow by name; each returns the seconds it took."""
    ours, direct = case.targets(case.ours), case.targets(case.direct)
    mine = tf.function(lambda image: case.ours(image, ours), autograph=False)
    found = {
        BASE: _waiting(lambda: mine(case.start), clock),
        "nstd, whole step": _whole_step(case, ours, clock),
    }
    if "float32" in wanted:
        exact = case.targets(case.float32)
        single = tf.function(lambda image: case.float32(image, exact), autograph=False)
        found["nstd, float32"] = _waiting(lambda: single(case.start), clock)
    if "graph" in wanted:
        graph = tf.function(lambda image: case.direct(image, direct), autograph=False)
        found["graph"] = _waiting(lambda: graph(case.start), clock)
    if "xla" in wanted:
        xla = tf.function(
            lambda image: case.direct(image, direct), autograph=False, jit_compile=True
        )
        found["xla"] = _waiting(lambda: xla(case.start), clock)
    if "eager" in wanted:
        found["eager"] = _waiting(lambda: case.direct(case.start, direct), clock)
    return found


def _whole_step(case: Case, targets: Targets, clock: str) -> Callable[[], float]:
    """Return L-BFGS's step in the loop on the device, as jobs run it; per step of several."""
    optimizer = LBFGS(case.params.history, 0.02, 0.03, case.params.average)
    loop = DeviceLoop(case.ours, optimizer)
    state = (start(case.start), optimizer.init(case.start))

    def run() -> None:
        _common, _memory, terms = loop(*state, targets, STEPS_A_CALL)
        terms.numpy()

    whole = kit.timed(run, kit.CLOCKS[clock])
    return lambda: whole() / STEPS_A_CALL


@contextmanager
def torch_step(
    case: Case, layout: str, threads: int, path: str | None, *, clock: str
) -> Iterator[Any]:
    """Start PyTorch's step in its own process; yield None where PyTorch is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "case.npz")
        np.savez(file, **_exported(case))
        environment = {**os.environ, "PYTHONPATH": path or os.environ.get("PYTHONPATH", "")}
        script = str(Path(__file__).with_name("torch_step.py"))
        child = subprocess.Popen(
            [sys.executable, script, file, str(threads), layout, clock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            first = child.stdout.readline() if child.stdout else ""
            yield _Torch(child, json.loads(first)["torch"]) if first else None
        finally:
            if child.stdin:
                child.stdin.close()
            child.wait(60)


class _Torch:
    """The child that steps in PyTorch."""

    def __init__(self, child: subprocess.Popen[str], version: str) -> None:
        self._child, self.version, self.loss = child, version, 0.0

    def __call__(self) -> float:
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("PyTorch's process has no pipes.")
        self._child.stdin.write("step\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        self.loss = answer["loss"]
        return float(answer["seconds"])


def _exported(case: Case) -> dict[str, Any]:
    """Return everything that the step in PyTorch needs, as arrays."""
    params = case.params
    if (params.edge, params.pooling, params.statistic) != ("replicate", "max", "moments"):
        sys.exit("benchmarks/torch_step.py knows replicate padding, max pooling and moments only.")
    scalars = {name: value.numpy().item() for name, value in weights_of(params).items()}
    arrays: dict[str, Any] = {
        "image": case.start.numpy(),
        "content": case.image.numpy(),
        "style": case.paint.numpy(),
        "layers": np.array(LAYERS[: LAYERS.index(case.layers[-1]) + 1]),
        "content_layer": np.array(params.content_layers[0][0]),
        "style_layers": np.array([name for name, _ in params.layer_weights()]),
        "weight_names": np.array(list(scalars)),
    }
    arrays |= {f"weight/{name}": value for name, value in scalars.items()}
    for name, (kernel, bias) in case.kernels.items():
        arrays |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    return arrays


def measure(
    case: Case,
    wanted: tuple[str, ...],
    rounds: int,
    torch: tuple[int, str | None],
    *,
    clock: str = "wall",
    peak_side: int = PEAK_SIDE,
) -> dict[str, Any]:
    """Return the figures of one size; ``torch``: threads and path of PyTorch."""
    tick = kit.CLOCKS[clock]
    with ExitStack() as stack:
        things = steps(case, wanted, clock)
        children = {}
        for name in [name for name in TORCH_LAYOUTS if name in wanted]:
            child = stack.enter_context(torch_step(case, TORCH_LAYOUTS[name], *torch, clock=clock))
            if child is not None:
                children[name] = things[name] = child
        product = 2.0 * peak_side**3
        things["matrix"] = lambda: product / matrix_peak(side=peak_side, tries=1, clock=tick)
        seconds = kit.side_by_side(things, rounds)
        losses = {BASE: float(case.ours.terms(case.start, case.targets(case.ours)).total[0])}
        losses |= {name: child.loss for name, child in children.items()}
        versions = {child.version for child in children.values()}
    # the best product of the run, not its median: a peak is what the machine can do
    peak = product / min(seconds.pop("matrix").values)
    return {
        "side": case.side,
        "precision": case.precision,
        "flops": case.flops,
        "peak_flops": peak,
        "torch": ", ".join(sorted(versions)) or None,
        "losses": losses,
        "steps": {
            name: {
                "seconds": figure,
                "share_of_peak": case.flops / figure.median / peak,
                "against_nstd": figure.median / seconds[BASE].median,
            }
            for name, figure in seconds.items()
        },
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures of one size."""
    title = (
        f"{found['side']} x {found['side']} px: {found['flops'] / 1e9:.0f} GFLOP a step, "
        f"float32 matrix peak {found['peak_flops'] / 1e9:.0f} GFLOP/s, nstd in {found['precision']}"
    )
    rows = [
        (name, str(step["seconds"]), 1 / step["seconds"].median, step["share_of_peak"],
         step["against_nstd"])
        for name, step in found["steps"].items()
    ]  # fmt: skip
    kit.show(title, ("step", "seconds (min to max)", "steps/s", "share of peak", "x nstd"), rows)


def main() -> None:
    """Run the benchmark."""
    parser = kit.options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--torch-path", help="folder to import torch from, where it lies apart")
    parser.add_argument(
        "--clock", default="wall", choices=kit.CLOCKS,
        help="processor: processor time over cores, for a machine that others use, too",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    kernels = load_kernels(weights.find(asked.weights).path)
    contents, styles = kit.pictures(asked.images)
    content, style = next(iter(contents.values())), next(iter(styles.values()))
    facts: dict[str, Any] = {
        "machine": kit.machine(),
        "weights": asked.weights,
        "clock": asked.clock,
    }
    facts["sizes"] = []
    for side in asked.sizes:
        case = Case(kernels, preset("standard"), side, content, style)
        torch = (asked.threads, asked.torch_path)
        facts["sizes"].append(
            measure(case, tuple(asked.variants), asked.rounds, torch, clock=asked.clock)
        )
        show(facts["sizes"][-1])
        kit.finish(asked.out, "steps_per_second", facts)


if __name__ == "__main__":
    main()
