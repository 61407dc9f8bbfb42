"""How fast a machine paints: its matrix peak, steps a second, and minutes for each preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nstd.engine.params import MAX_SIZE, StyleParams, preset
from nstd.engine.progress import Image, Listener, StyleImage
from nstd.engine.pyramid import pyramid
from nstd.engine.weights import Weights
from nstd.photo.resize import fit, resize
from nstd.workers.task import Painter

SIDES = (256, 512)
PRESETS = ("draft", "standard", "fine")
STEPS = 5
SHAPE = (2, 3)
"""Height to width of the photograph that minutes are predicted for."""


@dataclass(frozen=True)
class Speed:
    """Steps on a square picture."""

    side: int
    steps_per_s: float
    flops_per_s: float | None
    """Of the network's direct convolutions; unknown without a network."""

    @property
    def seconds_a_pixel(self) -> float:
        """What a step costs, by pixels."""
        return 1.0 / (self.steps_per_s * self.side**2)


@dataclass(frozen=True)
class Forecast:
    """What a preset will take on a photograph of three to two."""

    preset: str
    width: int
    height: int
    steps: int
    minutes: float


@dataclass(frozen=True)
class Bench:
    """All that ``nstd bench`` says."""

    peak_flops_per_s: float | None
    speeds: tuple[Speed, ...]
    forecasts: tuple[Forecast, ...]

    def share_of_peak(self, speed: Speed) -> float | None:
        """Return what share of the machine's matrix peak the steps reach."""
        if not self.peak_flops_per_s or speed.flops_per_s is None:
            return None
        return speed.flops_per_s / self.peak_flops_per_s


def measure(
    painter: Painter, weights: Weights | None, *, sides: Sequence[int] = SIDES, steps: int = STEPS
) -> Bench:
    """Step on squares of ``sides`` and predict the presets; ``weights`` None: a stand-in paints.

    Graphs are traced beforehand and not counted. Raises what the painter raises.
    """
    speeds = tuple(speed(painter, weights, side, steps) for side in sides)
    return Bench(_peak() if weights else None, speeds, tuple(forecast(p, speeds) for p in PRESETS))


def speed(painter: Painter, weights: Weights | None, side: int, steps: int) -> Speed:
    """Return how fast ``painter`` steps on (side, side) pixels, with the standard objective."""
    params = replace(preset("standard"), size=side, iterations=1, pyramid_min=MAX_SIZE)
    photograph, painting = _noise(side, 1), _noise(side, 2)
    painter.stylize(photograph, [StyleImage(painting)], params, listener=Listener())
    result = painter.stylize(
        photograph, [StyleImage(painting)], replace(params, iterations=steps), listener=Listener()
    )
    rate = result.steps / max(result.seconds.get("optimize", 0.0), 1e-9)
    return Speed(side, rate, _flops(weights, params, side) * rate if weights else None)


def _noise(side: int, seed: int) -> Image:
    """Return soft colour noise: what a step costs does not depend on the picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return resize(coarse, side, side)


def forecast(name: str, speeds: Sequence[Speed]) -> Forecast:
    """Return what a preset will take; each level at the speed of the nearest size measured."""
    params = preset(name)
    height, width = fit(*SHAPE, params.size)
    levels = pyramid(height, width, params)
    seconds = 0.0
    for level in levels:
        nearest = min(speeds, key=lambda each: abs(each.side**2 - level.pixels))
        seconds += level.steps * level.pixels * nearest.seconds_a_pixel
    return Forecast(name, width, height, sum(level.steps for level in levels), seconds / 60.0)


def _peak() -> float:
    from nstd.engine.cost import matrix_peak  # noqa: PLC0415 - loads TensorFlow

    return matrix_peak()


def _flops(weights: Weights, params: StyleParams, side: int) -> int:
    from nstd.engine.cost import step_flops  # noqa: PLC0415 - loads TensorFlow
    from nstd.engine.vgg import LAYERS, load_kernels  # noqa: PLC0415

    layers = [name for name, _ in (*params.content_layers, *params.layer_weights())]
    return step_flops(load_kernels(weights.path), max(layers, key=LAYERS.index), side, side)


def to_json(bench: Bench) -> Mapping[str, object]:
    """Return plain values for scripts."""
    return {
        "peak_gflops": bench.peak_flops_per_s and bench.peak_flops_per_s / 1e9,
        "steps": [
            {
                "side": each.side,
                "steps_per_s": each.steps_per_s,
                "gflops": each.flops_per_s and each.flops_per_s / 1e9,
                "share_of_peak": bench.share_of_peak(each),
            }
            for each in bench.speeds
        ],
        "presets": [vars(each) for each in bench.forecasts],
    }
