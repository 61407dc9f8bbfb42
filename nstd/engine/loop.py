"""Many optimizer steps in one call on the device, traced once for every size and style."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from nstd.engine.objective import Objective, Targets, Terms
from nstd.engine.optimizers import LBFGS, Adam, Common
from nstd.engine.tiling import TiledObjective

Memory = dict[str, tf.Tensor]


class StepLoop(Protocol):
    """Takes up to ``count`` steps; stops early when the state turns unhealthy."""

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B)."""
        ...


class DeviceLoop:
    """The untiled loop: one graph, any height and width, no host round trip between steps."""

    def __init__(self, objective: Objective, optimizer: Adam | LBFGS) -> None:
        self._objective, self._optimizer = objective, optimizer
        self._traced: dict[tuple[int, bool], Any] = {}

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B)."""
        arguments = (common, memory, targets)
        regions = targets.regions  # a mask makes another graph
        if regions not in self._traced:
            self._traced[regions] = tf.function(
                self._steps,
                input_signature=[*tf.nest.map_structure(_any_size, arguments), _COUNT],
                autograph=False,
            )
        state, history = self._traced[regions](*arguments, tf.constant(count))
        return state[0], state[1], history

    def _steps(
        self, common: Common, memory: Memory, targets: Targets, count: tf.Tensor
    ) -> tuple[tuple[Common, Memory], tf.Tensor]:
        history = tf.TensorArray(tf.float32, count, element_shape=(4, common.image.shape[0]))

        def more(i: tf.Tensor, state: Common, _memory: Memory, _history: Any) -> tf.Tensor:
            return tf.logical_and(i < count, tf.reduce_all(state.healthy))

        def body(i: tf.Tensor, state: Common, mem: Memory, seen: Any) -> tuple[Any, ...]:
            state, mem, terms = self._optimizer.step(
                state, mem, lambda image: self._objective(image, targets)
            )
            return i + 1, state, mem, seen.write(i, _row(terms))

        i, common, memory, history = tf.while_loop(
            more, body, (tf.constant(0), common, memory, history), parallel_iterations=1
        )
        return (common, memory), history.stack()[:i]


class TiledLoop:
    """The loop for images that do not fit in one piece; the host goes from tile to tile."""

    def __init__(self, objective: TiledObjective, optimizer: Adam | LBFGS) -> None:
        self._objective, self._optimizer = objective, optimizer
        self._traced: Any = None

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B)."""
        rows = []
        for _ in range(count):
            terms, gradient = self._objective(common.image, targets)
            arguments = (common, memory, terms, gradient)
            if self._traced is None:
                signature = tf.nest.map_structure(_any_size, arguments)
                self._traced = tf.function(self._step, input_signature=signature, autograph=False)
            common, memory = self._traced(*arguments)
            rows.append(_row(terms))
            if not bool(tf.reduce_all(common.healthy)):
                break
        return common, memory, tf.stack(rows)

    def _step(
        self, common: Common, memory: Memory, terms: Terms, gradient: tf.Tensor
    ) -> tuple[Common, Memory]:
        common, memory, _ = self._optimizer.step(common, memory, lambda _image: (terms, gradient))
        return common, memory


_COUNT = tf.TensorSpec((), tf.int32)


def _row(terms: Terms) -> tf.Tensor:
    return tf.stack([terms.total, terms.content, terms.style, terms.tv])


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    """Return the spec of a tensor with its height and width left open.

    Images and features are (B, H, W, C), pairs (history, B, H, W, C), masks (B, H, W); the
    moments, (B, C) and (B, C, C), keep theirs. Masks are (B, h, w, 1) here for that reason.
    """
    shape = tensor.shape.as_list()
    if len(shape) >= 4:
        shape[-3:-1] = [None, None]
    return tf.TensorSpec(shape, tensor.dtype)
