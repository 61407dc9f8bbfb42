"""Many optimizer steps in one call on the device, traced once for every size, style and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from nstd.engine.objective import Objective, Targets, Terms
from nstd.engine.optimizers import LBFGS, Adam, Common, observe
from nstd.engine.tiling import TiledObjective

Memory = dict[str, tf.Tensor]
State = tuple[Common, Memory, Targets]
"""What a loop takes of one run, or of several side by side."""
Outcome = tuple[Common, Memory, tf.Tensor]
"""The state after the steps, and the terms of each step taken: (steps, 4, B)."""


class StepLoop(Protocol):
    """Takes up to ``count`` steps; stops early when the state turns unhealthy."""

    def prepare(self, state: State) -> None:
        """Trace what the steps need, where nothing like it was traced before."""
        ...

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B).

        ``memory`` is the loop's from here on, which may empty it.
        """
        ...


class DeviceLoop:
    """The untiled loop: one graph for any batch, height and width; between steps, no host."""

    def __init__(self, objective: Objective, optimizer: Adam | LBFGS) -> None:
        # A function of its own: in a graph with a cycle TensorFlow finds the quick gradient of
        # pooling (oneDNN's) by chance only, and a step may take a fifth longer.
        self._objective = tf.function(
            objective, autograph=False, experimental_attributes={"_noinline": True}
        )
        self._optimizer = optimizer
        self._traced: dict[tuple[int, bool], Any] = {}

    def prepare(self, state: State) -> None:
        """Trace the graph for this kind of targets, for any batch and size."""
        self._graph(state).get_concrete_function()

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B)."""
        return self.together([(common, memory, targets)], count)[0]

    def together(self, states: Sequence[State], count: int) -> list[Outcome]:
        """Take up to ``count`` steps of several runs of one image each, in one batch.

        Their images have the same size and their targets the same regions; every run's outcome is
        what it would be alone, but for rounding. Ends early when one of them turns unhealthy.
        """
        arguments = _side_by_side(states)
        state, history = self._graph(arguments)(*arguments, tf.constant(count))
        parts = [_apart(state, len(states)), tf.split(history, len(states), 2)]
        return [(*state, terms) for state, terms in zip(*parts, strict=True)]

    def _graph(self, state: State) -> Any:
        regions = state[2].regions  # a mask makes another graph
        if regions not in self._traced:
            self._traced[regions] = tf.function(
                self._steps,
                input_signature=[*tf.nest.map_structure(_any_size, state), _COUNT],
                autograph=False,
            )
        return self._traced[regions]

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
        self._objective = objective
        self._remember = _Traced(optimizer.remember)
        self._move = _Traced(
            lambda common, memory, gradient, terms: optimizer.move(
                observe(common, terms), memory, gradient
            )
        )

    def prepare(self, state: State) -> None:
        """Trace nothing yet: the graphs of the stages are small, and tell that they live."""

    def __call__(
        self, common: Common, memory: Memory, targets: Targets, count: int
    ) -> tuple[Common, Memory, tf.Tensor]:
        """Return the state and the terms of each step taken: (steps, 4, B).

        ``memory`` is emptied as soon as a step has read it: a call's arguments stay in memory to
        its end, and these are the better part of what a large picture takes.
        """
        rows = []
        for _ in range(count):
            terms, gradient = self._objective(common.image, targets)
            remembered = self._remember(memory, gradient)
            memory.clear()
            common, memory = self._move(common, remembered, gradient, terms)
            del remembered, gradient
            rows.append(_row(terms))
            if not bool(tf.reduce_all(common.healthy)):
                break
        return common, memory, tf.stack(rows)


class _Traced:
    """A function as a graph that serves every size, traced with its first arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._graph: Any = None

    def __call__(self, *arguments: Any) -> Any:
        if self._graph is None:
            signature = tf.nest.map_structure(_any_size, arguments)
            self._graph = tf.function(self._function, input_signature=signature, autograph=False)
        return self._graph(*arguments)


_COUNT = tf.TensorSpec((), tf.int32)


def _row(terms: Terms) -> tf.Tensor:
    return tf.stack([terms.total, terms.content, terms.style, terms.tv])


def _side_by_side(states: Sequence[State]) -> State:
    """Return one state of the runs' images along the first axis, which all tensors have."""
    if len(states) == 1:
        return states[0]
    found: State = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *states)
    return found


def _apart(state: Any, count: int) -> list[Any]:
    """Return the states of ``count`` runs that ``_side_by_side`` has made one of."""
    if count == 1:
        return [state]
    leaves = [tf.split(leaf, count) for leaf in tf.nest.flatten(state)]
    return [tf.nest.pack_sequence_as(state, mine) for mine in zip(*leaves, strict=True)]


def _any_size(tensor: tf.Tensor) -> tf.TensorSpec:
    """Return the spec of a tensor with its batch, height and width left open.

    Images, features, pairs and masks are (B, H, W, C); the moments, (B, C) and (B, C, C), keep
    their channels.
    """
    shape = [None, *tensor.shape.as_list()[1:]]
    if len(shape) == 4:
        shape[1:3] = [None, None]
    return tf.TensorSpec(shape, tensor.dtype)
