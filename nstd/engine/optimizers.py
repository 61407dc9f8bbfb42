"""Adam and L-BFGS over images, running on the device: one call takes many steps.

State lives in tensors (B, H, W, 3) and (B,); dot products, step lengths and the guard are per
image, so that pictures in a batch never mix. A step reads the loss and gradient at the image,
remembers the best image by its own loss, and moves. No value travels to the host between steps.

L-BFGS: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.4, without a line search,
as the field runs it; the safeguards (length of a step, curvature, divergence) are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from nstd.engine.objective import Terms

LossAndGradient = Callable[[tf.Tensor], tuple[Terms, tf.Tensor]]

_EXPLODED = 20.0
"""A loss this many times the level's first one counts as divergence."""


class Common(NamedTuple):
    """What every optimizer carries from step to step."""

    image: tf.Tensor  # (B, H, W, 3)
    best: tf.Tensor  # (B, H, W, 3), the image with the lowest loss so far
    best_loss: tf.Tensor  # (B,)
    first_loss: tf.Tensor  # (B,), of the level; infinite before its first step
    average: tf.Tensor  # (B, H, W, 3), of the iterates, not bias-corrected; (B, 0, 0, 3): none
    step: tf.Tensor  # (B,) int32, within the level
    scale: tf.Tensor  # (B,) step length factor; the guard halves it
    healthy: tf.Tensor  # (B,) bool


def start(image: tf.Tensor, scale: float = 1.0, step: int = 0, *, averaged: bool = True) -> Common:
    """Return the state of a level that begins at ``image``; ``averaged``: it averages iterates."""
    batch = tf.shape(image)[0]
    return Common(
        image=image,
        best=image,
        best_loss=tf.fill((batch,), float("inf")),
        first_loss=tf.fill((batch,), float("inf")),
        average=tf.zeros_like(image if averaged else image[:, :0, :0]),
        step=tf.fill((batch,), step),
        scale=tf.fill((batch,), scale),
        healthy=tf.fill((batch,), value=True),
    )


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the per-image dot product: (B, H, W, 3) twice -> (B,)."""
    return tf.reduce_sum(a * b, (1, 2, 3))


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def observe(common: Common, terms: Terms) -> Common:
    """Take note of the loss at the current image: best image, divergence."""
    first = tf.where(tf.math.is_inf(common.first_loss), terms.total, common.first_loss)
    finite = tf.math.is_finite(terms.total)
    sane = terms.total <= _EXPLODED * first + 1e-6
    better = terms.total < common.best_loss
    return common._replace(
        best=tf.where(_per_image(better), common.image, common.best),
        best_loss=tf.where(better, terms.total, common.best_loss),
        first_loss=first,
        healthy=tf.logical_and(finite, sane),
    )


class Adam:
    """Kingma and Ba (2014), in TensorFlow's form: epsilon is added to the uncorrected root.

    The image is clipped to [0, 1] after each step, as the tutorials do.
    """

    name = "adam"

    def __init__(
        self, learning_rate: float, beta1: float, beta2: float, epsilon: float, decay: float
    ) -> None:
        self._rate, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon
        self._decay = decay

    def init(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the memory of a fresh run: first and second moment, number of steps."""
        zeros = tf.zeros_like(image)
        return {"m": zeros, "v": zeros, "t": tf.zeros((tf.shape(image)[0],))}

    @staticmethod
    def adopt(memory: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return a checkpoint's memory as this optimizer's."""
        return memory

    def carry(
        self, memory: dict[str, tf.Tensor], resize: Callable[[tf.Tensor], tf.Tensor], ratio: float
    ) -> dict[str, tf.Tensor]:
        """Return the memory at the next level, which has ``ratio`` times the pixels.

        Losses are means, so each pixel's gradient shrinks by ``ratio``, its square by ratio².
        """
        v = tf.nn.relu(resize(memory["v"])) / ratio**2
        return {"m": resize(memory["m"]) / ratio, "v": v, "t": memory["t"]}

    def step(
        self, common: Common, memory: dict[str, tf.Tensor], objective: LossAndGradient
    ) -> tuple[Common, dict[str, tf.Tensor], Terms]:
        """Take one step."""
        terms, gradient = objective(common.image)
        return *self.move(observe(common, terms), self.remember(memory, gradient), gradient), terms

    def remember(self, memory: dict[str, tf.Tensor], gradient: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the memory with the gradient in it."""
        m = self._beta1 * memory["m"] + (1.0 - self._beta1) * gradient
        v = self._beta2 * memory["v"] + (1.0 - self._beta2) * tf.square(gradient)
        return {"m": m, "v": v, "t": memory["t"] + 1.0}

    def move(
        self, common: Common, memory: dict[str, tf.Tensor], _gradient: tf.Tensor
    ) -> tuple[Common, dict[str, tf.Tensor]]:
        """Return the state after the move that the memory asks for."""
        t = memory["t"]
        rate = self._rate * tf.sqrt(1.0 - self._beta2**t) / (1.0 - self._beta1**t)
        length = _per_image(common.scale * rate)
        image = common.image - length * memory["m"] / (tf.sqrt(memory["v"]) + self._epsilon)
        return _moved(common, tf.clip_by_value(image, 0.0, 1.0), self._decay), memory


def _moved(common: Common, image: tf.Tensor, decay: float) -> Common:
    """Put the new image in place and average it in; an unhealthy state stays where it is."""
    image = tf.where(_per_image(common.healthy), image, common.image)
    average = decay * common.average + (1.0 - decay) * image if decay else common.average
    return common._replace(image=image, average=average, step=common.step + 1)


class LBFGS:
    """Limited-memory BFGS with unit steps, bounded in length, and no line search."""

    name = "lbfgs"

    def __init__(self, history: int, first_step: float, longest: float, decay: float) -> None:
        self.history = history
        self._slots = range(history)
        self._first, self._longest, self._decay = first_step, longest, decay

    def init(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the memory of a fresh run: no pairs yet.

        Pairs are separate tensors, newest first, so that remembering one moves no data.
        """
        zeros, none = tf.zeros_like(image), tf.zeros((tf.shape(image)[0],))
        memory = {
            "gamma": none,  # (B,), s·y / y·y of the newest pair; 0: none yet
            "previous": zeros,  # (B, H, W, 3), gradient of the step before
            "moved": zeros,  # (B, H, W, 3), the step before; zero: none
        }
        for i in range(self.history):
            # a step, the change of the gradient along it, and 1 / (s·y); 0 marks an empty pair
            memory |= {f"s{i}": zeros, f"y{i}": zeros, f"rho{i}": none}
        return memory

    def adopt(self, memory: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return a checkpoint's memory as this optimizer's: its newest pairs, as many as it keeps.

        With another budget of memory than before the stop, it may keep more or fewer.
        """
        return {
            name: memory.get(name, none) for name, none in self.init(memory["previous"]).items()
        }

    def carry(
        self, memory: dict[str, tf.Tensor], resize: Callable[[tf.Tensor], tf.Tensor], ratio: float
    ) -> dict[str, tf.Tensor]:
        """Return the memory at the next level, which has ``ratio`` times the pixels.

        Steps are resized as images; gradients of mean losses shrink by ``ratio`` per pixel, which
        leaves s·y as it was, up to interpolation, and lengthens gamma by ``ratio``.
        """
        kept = self.init(resize(memory["previous"]))
        kept["gamma"] = memory["gamma"] * ratio
        for i in range(self.history):
            if f"s{i}" not in memory:
                break  # the coarser level had less history
            s, y = resize(memory[f"s{i}"]), resize(memory[f"y{i}"]) / ratio
            curvature = dot(s, y)
            usable = tf.logical_and(memory[f"rho{i}"] > 0.0, curvature > 0.0)
            rho = tf.where(usable, tf.math.divide_no_nan(1.0, curvature), 0.0)
            kept |= {f"s{i}": s, f"y{i}": y, f"rho{i}": rho}
        return kept

    def step(
        self, common: Common, memory: dict[str, tf.Tensor], objective: LossAndGradient
    ) -> tuple[Common, dict[str, tf.Tensor], Terms]:
        """Take one step."""
        terms, gradient = objective(common.image)
        return *self.move(observe(common, terms), self.remember(memory, gradient), gradient), terms

    def move(
        self, common: Common, memory: dict[str, tf.Tensor], gradient: tf.Tensor
    ) -> tuple[Common, dict[str, tf.Tensor]]:
        """Return the state after the move that the memory asks for."""
        direction = self._direction(memory, gradient)
        # a direction that does not descend (bad pairs) falls back on the gradient
        descends = dot(direction, gradient) < 0.0
        plain = -gradient * _per_image(self._first / (_rms(gradient) + 1e-20))
        fresh = tf.logical_or(tf.equal(memory["gamma"], 0.0), tf.logical_not(descends))
        move = tf.where(_per_image(fresh), plain, direction)
        length = _rms(move)
        move *= _per_image(common.scale * tf.minimum(1.0, self._longest / (length + 1e-20)))
        common = _moved(common, common.image + move, self._decay)
        return common, {**memory, "previous": gradient, "moved": move}

    def remember(self, memory: dict[str, tf.Tensor], gradient: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the memory with the pair of the last step in front of the others.

        Without curvature it is kept as an empty one. What ``move`` puts in anew is left out: at
        4096 pixels each image that nobody needs any more is 160 MB.
        """
        s, y = memory["moved"], gradient - memory["previous"]
        sy, yy = dot(s, y), dot(y, y)
        good = sy > 1e-10 * tf.sqrt(dot(s, s) * yy) + 1e-30
        pairs = [(s, y, tf.where(good, tf.math.divide_no_nan(1.0, sy), 0.0))]
        pairs += [(memory[f"s{i}"], memory[f"y{i}"], memory[f"rho{i}"]) for i in self._slots[:-1]]
        stored = {"gamma": tf.where(good, tf.math.divide_no_nan(sy, yy), memory["gamma"])}
        for i, (step, change, rho) in enumerate(pairs):
            stored |= {f"s{i}": step, f"y{i}": change, f"rho{i}": rho}
        return stored

    def _direction(self, memory: dict[str, tf.Tensor], gradient: tf.Tensor) -> tf.Tensor:
        """Return -H g by the two-loop recursion; empty pairs have rho 0 and change nothing."""
        q, alphas = gradient, []
        for i in self._slots:
            alpha = memory[f"rho{i}"] * dot(memory[f"s{i}"], q)
            q -= _per_image(alpha) * memory[f"y{i}"]
            alphas.append(alpha)
        q *= _per_image(memory["gamma"])
        for i in reversed(self._slots):
            beta = memory[f"rho{i}"] * dot(memory[f"y{i}"], q)
            q += _per_image(alphas[i] - beta) * memory[f"s{i}"]
        return -q


def _rms(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(x), (1, 2, 3)))
