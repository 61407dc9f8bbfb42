"""The stylizer: the only loop over steps, from pixels to the finished picture."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from nstd.engine.loop import DeviceLoop
from nstd.engine.objective import Objective
from nstd.engine.optimizers import LBFGS, Adam
from nstd.engine.progress import Checkpoint, Image, Listener, Result, StyleImage
from nstd.engine.pyramid import pyramid
from nstd.engine.run import Run
from nstd.engine.targets import StyleCache, TargetMaker
from nstd.engine.vgg import FeatureExtractor, load_kernels
from nstd.errors import MemoryExhaustedError

if TYPE_CHECKING:
    from nstd.engine.params import StyleParams
    from nstd.engine.weights import Weights

ENGINE_VERSION = 1
"""Raised when the same job would give other pixels: part of a checkpoint's identity."""

_FIRST_STEP = 0.02
"""Root mean square of L-BFGS's first move, which has no curvature to go by."""
_LONGEST_STEP = 0.03
"""Root mean square that no L-BFGS move exceeds."""
_KEPT_LOOPS = 8
"""Traced loops kept; each preset uses one or two."""


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
        self._device = "/CPU:0" if device == "cpu" else device
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._kernels = load_kernels(weights.path)
        self.cache_hits, self.cache_misses = 0, 0
        self._styles = StyleCache(cache_dir, self._count)
        self._loops: OrderedDict[Any, tuple[Objective, DeviceLoop]] = OrderedDict()

    def _count(self, hit: bool) -> None:
        if hit:
            self.cache_hits += 1
        else:
            self.cache_misses += 1

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the machine: device, weights, versions."""
        return {
            "device": self._device.strip("/"),
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

        Raises CancelledError between steps, DivergedError when every roll back failed, and
        MemoryExhaustedError when the device has no memory for it.
        """
        try:
            with tf.device(self._device):
                run = self._run(content, styles, params, listener, job_hash)
                return run.paint(resume)
        except tf.errors.ResourceExhaustedError as error:
            height, width = content.shape[:2]
            raise MemoryExhaustedError(
                f"The device has no memory left for a picture of {width} x {height} pixels.",
                "Ask for a smaller size, or lower model.memory_bytes: it is then painted in tiles.",
            ) from error

    def _run(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        listener: Listener,
        job_hash: str,
    ) -> Run:
        objective, optimizer, loop = self._loop(params)
        targets = TargetMaker(
            objective.extractor, params, styles, self._styles, self._weights.sha256
        )
        height, width = content.shape[:2]
        levels = pyramid(height, width, params)
        return Run(
            content=content,
            styles=styles,
            params=params,
            levels=levels,
            targets=targets,
            optimizer=optimizer,
            loop=loop,
            listener=listener,
            clock=self._clock,
            job_hash=job_hash,
        )

    def _loop(self, params: StyleParams) -> tuple[Objective, Adam | LBFGS, DeviceLoop]:
        optimizer = _optimizer(params)
        key = _traced_by(params)
        if key in self._loops:
            self._loops.move_to_end(key)
            objective, loop = self._loops[key]
        else:
            layers = [name for name, _ in (*params.content_layers, *params.layer_weights())]
            extractor = FeatureExtractor(
                self._kernels,
                layers,
                pooling=params.pooling,
                edge=params.edge,
                winograd="CPU" in self._device,
            )
            objective = Objective(extractor, params)
            loop = DeviceLoop(objective, optimizer)
            self._loops[key] = (objective, loop)
            while len(self._loops) > _KEPT_LOOPS:
                self._loops.popitem(last=False)
        return objective, optimizer, loop


def _traced_by(params: StyleParams) -> tuple[Any, ...]:
    """Return what is fixed in a traced loop: everything else is an argument of it."""
    return (
        tuple(name for name, _ in params.content_layers),
        tuple(name for name, _ in params.layer_weights()),
        params.statistic, params.normalization, params.pooling, params.edge, params.optimizer,
        params.learning_rate, params.beta1, params.beta2, params.epsilon, params.history,
        params.average,
    )  # fmt: skip


def _optimizer(params: StyleParams) -> Adam | LBFGS:
    if params.optimizer == "adam":
        return Adam(
            params.learning_rate, params.beta1, params.beta2, params.epsilon, params.average
        )
    return LBFGS(params.history, _FIRST_STEP, _LONGEST_STEP, params.average)
