"""Adam and L-BFGS over images, running on the device: one call takes many steps.

State lives in tensors (B, H, W, 3); dot products are per image, so that pictures in a batch never
mix. A step reads the loss and gradient at the image, remembers the best image by its own loss,
and moves. No value travels to the host between steps.

L-BFGS: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.4, without a line search,
as the field runs it; the safeguards (length of a step, curvature, divergence) are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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
    average: tf.Tensor  # (B, H, W, 3), moving average of the iterates, not yet bias-corrected
    step: tf.Tensor  # () int32, within the level
    scale: tf.Tensor  # () step length factor; the guard halves it
    healthy: tf.Tensor  # () bool


def start(image: tf.Tensor, scale: float = 1.0) -> Common:
    """Return the state of a level that begins at ``image``."""
    batch = tf.shape(image)[0]
    return Common(
        image=image,
        best=image,
        best_loss=tf.fill((batch,), float("inf")),
        first_loss=tf.fill((batch,), float("inf")),
        average=tf.zeros_like(image),
        step=tf.constant(0),
        scale=tf.constant(scale, tf.float32),
        healthy=tf.constant(value=True),
    )


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the per-image dot product: (B, H, W, 3) twice -> (B,)."""
    return tf.reduce_sum(a * b, (1, 2, 3))


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _observe(common: Common, terms: Terms) -> Common:
    """Take note of the loss at the current image: best image, divergence."""
    first = tf.where(tf.math.is_inf(common.first_loss), terms.total, common.first_loss)
    finite = tf.reduce_all(tf.math.is_finite(terms.total))
    sane = tf.reduce_all(terms.total <= _EXPLODED * first + 1e-6)
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
        return {"m": zeros, "v": zeros, "t": tf.constant(0.0)}

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
        common = _observe(common, terms)
        t = memory["t"] + 1.0
        m = self._beta1 * memory["m"] + (1.0 - self._beta1) * gradient
        v = self._beta2 * memory["v"] + (1.0 - self._beta2) * tf.square(gradient)
        rate = self._rate * tf.sqrt(1.0 - self._beta2**t) / (1.0 - self._beta1**t)
        image = common.image - common.scale * rate * m / (tf.sqrt(v) + self._epsilon)
        return _moved(common, tf.clip_by_value(image, 0.0, 1.0), self._decay), _pack(m, v, t), terms


def _pack(m: tf.Tensor, v: tf.Tensor, t: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"m": m, "v": v, "t": t}


def _moved(common: Common, image: tf.Tensor, decay: float) -> Common:
    """Put the new image in place and average it in; an unhealthy state stays where it is."""
    image = tf.where(common.healthy, image, common.image)
    average = decay * common.average + (1.0 - decay) * image if decay else common.average
    return common._replace(image=image, average=average, step=common.step + 1)


class LBFGS:
    """Limited-memory BFGS with unit steps, bounded in length, and no line search."""

    name = "lbfgs"

    def __init__(self, history: int, first_step: float, longest: float, decay: float) -> None:
        self.history = history
        self._first, self._longest, self._decay = first_step, longest, decay

    def init(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the memory of a fresh run: no pairs yet."""
        pairs = tf.zeros((self.history, *image.shape), tf.float32)
        rho = tf.zeros((self.history, image.shape[0]))
        return {
            "s": pairs,  # (history, B, H, W, 3): steps
            "y": pairs,  # (history, B, H, W, 3): changes of the gradient
            "rho": rho,  # (history, B): 1 / (s·y); 0 marks an empty slot
            "gamma": tf.zeros((image.shape[0],)),  # s·y / y·y of the newest pair; 0: none yet
            "previous": tf.zeros_like(image),  # gradient of the step before
            "moved": tf.zeros_like(image),  # the step before; zero: none
            "count": tf.constant(0),  # pairs stored so far
        }

    def carry(
        self, memory: dict[str, tf.Tensor], resize: Callable[[tf.Tensor], tf.Tensor], ratio: float
    ) -> dict[str, tf.Tensor]:
        """Return the memory at the next level, which has ``ratio`` times the pixels.

        Steps are resized as images; gradients of mean losses shrink by ``ratio`` per pixel, which
        leaves s·y as it was, up to interpolation, and lengthens gamma by ``ratio``.
        """
        s = tf.map_fn(resize, memory["s"])
        y = tf.map_fn(resize, memory["y"]) / ratio
        curvature = tf.reduce_sum(s * y, (2, 3, 4))
        usable = tf.logical_and(memory["rho"] > 0.0, curvature > 0.0)
        rho = tf.where(usable, tf.math.divide_no_nan(1.0, curvature), 0.0)
        previous = tf.zeros_like(s[0])
        return {
            "s": s,
            "y": y,
            "rho": rho,
            "gamma": memory["gamma"] * ratio,
            "previous": previous,
            "moved": previous,
            "count": memory["count"],
        }

    def step(
        self, common: Common, memory: dict[str, tf.Tensor], objective: LossAndGradient
    ) -> tuple[Common, dict[str, tf.Tensor], Terms]:
        """Take one step."""
        terms, gradient = objective(common.image)
        common = _observe(common, terms)
        memory = self._remember(memory, gradient)
        direction = self._direction(memory, gradient)
        # a direction that does not descend (bad pairs) falls back on the gradient
        descends = dot(direction, gradient) < 0.0
        plain = -gradient * _per_image(self._first / (_rms(gradient) + 1e-20))
        fresh = tf.logical_or(tf.equal(memory["gamma"], 0.0), tf.logical_not(descends))
        move = tf.where(_per_image(fresh), plain, direction)
        length = _rms(move)
        move *= _per_image(common.scale * tf.minimum(1.0, self._longest / (length + 1e-20)))
        common = _moved(common, common.image + move, self._decay)
        return common, {**memory, "previous": gradient, "moved": move}, terms

    def _remember(self, memory: dict[str, tf.Tensor], gradient: tf.Tensor) -> dict[str, tf.Tensor]:
        """Store the pair of the last step where its curvature is positive."""
        s, y = memory["moved"], gradient - memory["previous"]
        sy, yy = dot(s, y), dot(y, y)
        took = tf.reduce_any(tf.not_equal(s, 0.0))
        good = sy > 1e-10 * tf.sqrt(dot(s, s) * yy) + 1e-30
        slot = memory["count"] % self.history
        rho = tf.where(good, tf.math.divide_no_nan(1.0, sy), 0.0)
        keep = tf.logical_and(took, tf.reduce_any(good))

        def store() -> dict[str, Any]:
            index = tf.reshape(slot, (1, 1))
            gamma = tf.where(good, tf.math.divide_no_nan(sy, yy), memory["gamma"])
            return {
                **memory,
                "s": tf.tensor_scatter_nd_update(memory["s"], index, s[None]),
                "y": tf.tensor_scatter_nd_update(memory["y"], index, y[None]),
                "rho": tf.tensor_scatter_nd_update(memory["rho"], index, rho[None]),
                "gamma": gamma,
                "count": memory["count"] + 1,
            }

        stored: dict[str, tf.Tensor] = tf.cond(keep, store, lambda: dict(memory))
        return stored

    def _direction(self, memory: dict[str, tf.Tensor], gradient: tf.Tensor) -> tf.Tensor:
        """Return -H g by the two-loop recursion; empty slots have rho 0 and change nothing."""
        q, alphas = gradient, []
        slots = [(memory["count"] - 1 - i) % self.history for i in range(self.history)]
        for slot in slots:
            alpha = memory["rho"][slot] * dot(memory["s"][slot], q)
            q -= _per_image(alpha) * memory["y"][slot]
            alphas.append(alpha)
        q *= _per_image(memory["gamma"])
        for slot, alpha in zip(reversed(slots), reversed(alphas), strict=True):
            beta = memory["rho"][slot] * dot(memory["y"][slot], q)
            q += _per_image(alpha - beta) * memory["s"][slot]
        return -q


def _rms(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(x), (1, 2, 3)))
