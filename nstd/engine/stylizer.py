"""The stylizer: the only loop over steps, from pixels to the finished picture."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import tensorflow as tf

from nstd.engine import bleed
from nstd.engine.budget import Footprint, MemoryPlan, default_budget, plan
from nstd.engine.device import CPU, memory_budget, native_precision
from nstd.engine.loop import DeviceLoop, TiledLoop
from nstd.engine.objective import Objective
from nstd.engine.optimizers import LBFGS, Adam
from nstd.engine.params import StyleParams, adapted, suited
from nstd.engine.progress import Checkpoint, Image, Listener, Result, StyleImage
from nstd.engine.pyramid import PyramidLevel, pyramid
from nstd.engine.run import Backend, Run
from nstd.engine.targets import StyleCache, TargetMaker
from nstd.engine.tiling import TiledObjective
from nstd.engine.turns import Seat, Turns
from nstd.engine.vgg import LAYERS, FeatureExtractor, load_kernels
from nstd.engine.weights import card
from nstd.errors import MemoryExhaustedError

if TYPE_CHECKING:
    from nstd.engine.loop import StepLoop
    from nstd.engine.params import Precision
    from nstd.engine.weights import Weights

ENGINE_VERSION = 4
"""Raised when the same job would give other pixels: part of a checkpoint's identity."""

_FIRST_STEP = 0.02
"""Root mean square of L-BFGS's first move, which has no curvature to go by."""
_LONGEST_STEP = 0.03
"""Root mean square that no L-BFGS move exceeds."""
_KEPT = 16
"""Objectives and traced loops kept; each preset uses one or two, a picture in tiles some more."""
_PAIRS_OF_ADAM = 1
"""Its two moments take as much memory as a pair of L-BFGS's."""
_SMALLER_TRIES = 4
"""Attempts with ever smaller tiles when memory runs out in spite of the plan."""


T = TypeVar("T")


class _Counts(threading.local):
    """What was found in the cache of styles, and what was not, by each thread: by each picture."""

    def __init__(self) -> None:
        self.hits, self.misses = 0, 0

    def count(self, hit: bool) -> None:
        """Count one look."""
        if hit:
            self.hits += 1
        else:
            self.misses += 1


class Stylizer:
    """Paints pictures with one network on one device; keeps what the next picture can use."""

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "cpu",
        memory_bytes: int | None = None,
        cache_dir: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights = weights
        self._use = card(weights).get("use", {})
        self._device = "/CPU:0" if device == CPU else device
        self._on_cpu = "CPU" in self._device
        self._precision = native_precision(CPU if self._on_cpu else self._device)
        self._budget = float(memory_bytes or self._default_budget())
        self._clock = clock
        self._kernels = load_kernels(weights.path)
        self._counts = _Counts()
        self._styles = StyleCache(cache_dir, self._counts.count)
        self._lock = threading.RLock()
        """Held while something kept is looked up or made: pictures come from several threads."""
        self._objectives: OrderedDict[Any, Objective] = OrderedDict()
        self._tiled: OrderedDict[Any, TiledObjective] = OrderedDict()
        self._backends: OrderedDict[Any, Backend] = OrderedDict()
        self._turns = Turns()

    def _default_budget(self) -> float:
        return default_budget() if self._on_cpu else memory_budget(self._device)

    @property
    def cache_hits(self) -> int:
        """How often this thread's pictures have found a style's statistics."""
        return self._counts.hits

    @property
    def cache_misses(self) -> int:
        """How often this thread's pictures have had to measure a style."""
        return self._counts.misses

    def pixels_together(self) -> int:
        """Return how many pixels all pictures of a batch may have in the memory there is."""
        params = suited(StyleParams(), self._use)
        return self._footprint(params).pixels_together(params.history, self._budget)

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the machine: device, weights, versions."""
        return {
            "device": self._device.strip("/"),
            "precision": self._precision,
            "weights": {"name": self._weights.name, "sha256": self._weights.sha256},
            "engine": ENGINE_VERSION,
            "tensorflow": tf.__version__,
        }

    def stylize(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        *,
        listener: Listener,
        resume: Checkpoint | None = None,
        job_hash: str = "",
    ) -> Result:
        """Paint ``content`` (H, W, 3) uint8, already at the result's size, in ``styles``.

        May be called from several threads: their pictures share the device.

        Raises CancelledError between steps, DivergedError when every roll back failed, and
        MemoryExhaustedError when the device has no memory for it.
        """
        asked = params
        params = replace(suited(params, self._use), precision=self._resolved(params))
        height, width = content.shape[:2]
        edge = bleed.width_of(height, width, params)
        wide = bleed.extend(content, edge)
        painted = max(wide.shape[:2])
        styles = [bleed.extend_mask(style, height, width, edge) for style in styles]
        listener = bleed.trimming(listener, edge, painted=painted)
        notes: list[str] = []
        first = int(resume.facts.get("smaller", 0)) if resume else 0
        for smaller in range(first, first + _SMALLER_TRIES):
            try:
                with tf.device(self._device), self._turns.seat() as seat:
                    run = self._run(
                        wide, styles, params, listener, seat, job_hash=job_hash, smaller=smaller
                    )
                    run.notes.extend(notes)
                    result = run.paint(resume if smaller == first else None)
                    changes = adapted(asked, run.params)
                    result = replace(result, plan={**result.plan, "adapted": changes})
                    return bleed.trimmed(result, edge, painted=painted)
            except tf.errors.ResourceExhaustedError:
                notes.append("Memory ran out; began anew in smaller pieces.")
        raise MemoryExhaustedError(
            f"The device has no memory left for a picture of {width} x {height} pixels.",
            "Ask for a smaller size, or lower model.memory_bytes: it is then painted in tiles.",
        )

    def _run(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        listener: Listener,
        seat: Seat,
        *,
        job_hash: str,
        smaller: int,
    ) -> Run:
        height, width = content.shape[:2]
        levels = pyramid(height, width, params)
        footprint = self._footprint(params)
        pairs = params.history if params.optimizer == "lbfgs" else _PAIRS_OF_ADAM
        room = footprint.pixels_together(pairs, self._budget)
        sizes = tuple((level.height, level.width) for level in levels)
        seat.kin = (*_traced_by(params), sizes, smaller)

        def planned(pixels: int) -> MemoryPlan:
            return plan(footprint, pixels, pairs, self._budget, smaller=smaller)

        def backend(level: PyramidLevel) -> Backend:
            found = self._backend(params, planned(level.pixels))
            return replace(found, most=max(1, room // level.pixels))

        kept = planned(height * width).history
        return Run(
            content=content,
            styles=styles,
            params=replace(params, history=kept) if params.optimizer == "lbfgs" else params,
            levels=levels,
            targets=TargetMaker(
                params,
                styles,
                self._styles,
                self._network,
                lambda pixels: self._reader(params, planned(pixels).tile),
            ),
            backends=backend,
            seat=seat,
            listener=listener,
            clock=self._clock,
            job_hash=job_hash,
            smaller=smaller,
        )

    @property
    def _network(self) -> str:
        """What decides how features are rounded, besides a picture's parameters."""
        kind = CPU if self._on_cpu else "gpu"
        return f"{self._weights.sha256} {kind} {ENGINE_VERSION} {tf.__version__}"

    def _resolved(self, params: StyleParams) -> Precision:
        return self._precision if params.precision == "auto" else params.precision

    def _footprint(self, params: StyleParams) -> Footprint:
        deepest = max(LAYERS.index(layer) for layer in _layers(params))
        widths = {
            name: self._kernels[name][0].shape[2:]
            for name in LAYERS[: deepest + 1]
            if name in self._kernels
        }
        content = tuple(layer for layer, _ in params.content_layers)
        return Footprint.of(widths, content, self._resolved(params))

    def _backend(self, params: StyleParams, memory: MemoryPlan) -> Backend:
        def made() -> Backend:
            reader = self._reader(params, memory.tile)
            optimizer = _optimizer(params, memory.history)
            loop: StepLoop
            if isinstance(reader, TiledObjective):
                loop = TiledLoop(reader, optimizer)
            else:
                loop = DeviceLoop(reader, optimizer)
            return Backend(reader, optimizer, loop)

        with self._lock:
            return _kept(self._backends, (*_traced_by(params), memory), made)

    def _reader(self, params: StyleParams, tile: int) -> Objective | TiledObjective:
        """Return what measures an image in tiles of that side; 0: in one piece."""
        seen = _seen_by(params)
        with self._lock:
            whole = _kept(self._objectives, seen, lambda: self._objective(params))
            if not tile:
                return whole
            return _kept(self._tiled, (*seen, tile), lambda: TiledObjective(whole, tile))

    def _objective(self, params: StyleParams) -> Objective:
        extractor = FeatureExtractor(
            self._kernels,
            _layers(params),
            pooling=params.pooling,
            edge=params.edge,
            winograd=self._on_cpu,
            precision=self._resolved(params),
        )
        return Objective(extractor, params)


def _kept(shelf: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """Return what the shelf has for ``key``, made now if need be; the oldest falls off."""
    if key not in shelf:
        shelf[key] = make()
        while len(shelf) > _KEPT:
            shelf.popitem(last=False)
    shelf.move_to_end(key)
    return shelf[key]


def _layers(params: StyleParams) -> list[str]:
    return [name for name, _ in (*params.content_layers, *params.layer_weights())]


def _seen_by(params: StyleParams) -> tuple[Any, ...]:
    """Return what is fixed in an objective: everything else is an argument of it."""
    return (
        tuple(name for name, _ in params.content_layers),
        tuple(name for name, _ in params.layer_weights()),
        params.statistic, params.normalization, params.pooling, params.edge, params.precision,
    )  # fmt: skip


def _traced_by(params: StyleParams) -> tuple[Any, ...]:
    """Return what is fixed in a traced loop, besides its memory plan."""
    return (
        *_seen_by(params),
        params.optimizer, params.learning_rate, params.beta1, params.beta2, params.epsilon,
        params.history, params.average,
    )  # fmt: skip


def _optimizer(params: StyleParams, history: int) -> Adam | LBFGS:
    if params.optimizer == "adam":
        return Adam(
            params.learning_rate, params.beta1, params.beta2, params.epsilon, params.average
        )
    return LBFGS(history, _FIRST_STEP, _LONGEST_STEP, params.average)
