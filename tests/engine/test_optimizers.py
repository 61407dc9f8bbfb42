"""Adam and L-BFGS take the steps of their papers; pictures in a batch never mix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine.objective import Terms
from nstd.engine.optimizers import LBFGS, Adam, Common, LossAndGradient, start
from tests.engine.reference import Array

pytestmark = pytest.mark.usefixtures("_cpu")

SHAPE = (1, 3, 4, 3)
FAR = 1e6
"""A longest step that never binds."""


class Quadratic:
    """f(x) = sum a (x - c)² / 2 over each image, in numpy and in TensorFlow."""

    def __init__(self, shape: tuple[int, ...], seed: int, spread: float = 30.0) -> None:
        rng = np.random.default_rng(seed)
        self.curvature = np.exp(rng.uniform(0.0, np.log(spread), shape))
        self.centre = rng.uniform(0.2, 0.8, shape)
        self.begin = rng.uniform(0.0, 1.0, shape)

    def gradient(self, x: Array) -> Array:
        return np.asarray(self.curvature * (x - self.centre))

    def value(self, x: Array) -> Array:
        values: Array = (self.curvature * (x - self.centre) ** 2).sum((1, 2, 3)) / 2.0
        return values

    def __call__(self, image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        centre, curvature = (tf.constant(a, tf.float32) for a in (self.centre, self.curvature))
        gradient = curvature * (image - centre)
        return terms(tf.reduce_sum(gradient * (image - centre), (1, 2, 3)) / 2.0), gradient


def terms(total: tf.Tensor) -> Terms:
    return Terms(total, total, total, total)


def run(
    optimizer: Adam | LBFGS, objective: LossAndGradient, begin: Array, steps: int
) -> tuple[Common, dict[str, tf.Tensor], list[Array]]:
    """Return the final state and the image after each step."""
    image = tf.constant(begin, tf.float32)
    common, memory, path = start(image), optimizer.init(image), []
    for _ in range(steps):
        common, memory, _ = optimizer.step(common, memory, objective)
        path.append(common.image.numpy())
    return common, memory, path


# --- Adam ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_adam_is_tensorflows_epsilon_hat_form(epsilon: float) -> None:
    problem = Quadratic(SHAPE, 1)
    *_, path = run(Adam(0.02, 0.99, 0.999, epsilon, 0.0), problem, problem.begin, 30)
    x, m, v = problem.begin, np.zeros(SHAPE), np.zeros(SHAPE)
    for t, got in enumerate(path, 1):
        gradient = problem.gradient(x)
        m = 0.99 * m + 0.01 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 0.02 * np.sqrt(1.0 - 0.999**t) / (1.0 - 0.99**t)
        x = np.clip(x - rate * m / (np.sqrt(v) + epsilon), 0.0, 1.0)
        np.testing.assert_allclose(got, x, atol=2e-4)


def test_adam_keeps_the_image_in_range() -> None:
    def uphill(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        return terms(tf.zeros((1,))), -tf.ones_like(image)

    common, *_ = run(Adam(0.3, 0.9, 0.999, 1e-8, 0.0), uphill, np.full(SHAPE, 0.5), 5)
    np.testing.assert_array_equal(common.image, np.ones(SHAPE))


# --- L-BFGS --------------------------------------------------------------------------------------


def two_loops(pairs: list[tuple[Array, Array]], gradient: Array) -> Array:
    """Return H g: Nocedal and Wright, algorithm 7.4; pairs from old to new."""
    q, alphas = gradient.copy(), []
    for s, y in reversed(pairs):
        alphas.append((s * q).sum() / (s * y).sum())
        q -= alphas[-1] * y
    s, y = pairs[-1]
    r: Array = q * (s * y).sum() / (y * y).sum()
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r += s * (alpha - (y * r).sum() / (s * y).sum())
    return r


def numpy_lbfgs(problem: Quadratic, steps: int, history: int, first: float) -> list[Array]:
    pairs: list[tuple[Array, Array]] = []
    x, path, before = problem.begin, [], None
    for _ in range(steps):
        gradient = problem.gradient(x)
        if before is None:
            move = -gradient * first / np.sqrt((gradient**2).mean())
        else:
            pairs = [*pairs, (x - before[0], gradient - before[1])][-history:]
            move = -two_loops(pairs, gradient)
        before = x, gradient
        x = x + move
        path.append(x)
    return path


@pytest.mark.parametrize("history", [3, 10])
def test_lbfgs_takes_the_steps_of_the_two_loop_recursion(history: int) -> None:
    problem = Quadratic(SHAPE, 2)
    *_, path = run(LBFGS(history, 0.02, FAR, 0.0), problem, problem.begin, 14)
    for got, wanted in zip(path, numpy_lbfgs(problem, 14, history, 0.02), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_lbfgs_converges_on_a_convex_quadratic() -> None:
    problem = Quadratic(SHAPE, 3, spread=100.0)
    common, *_ = run(LBFGS(10, 0.02, 0.1, 0.0), problem, problem.begin, 60)
    np.testing.assert_allclose(common.image, problem.centre, atol=1e-3)
    assert problem.value(common.image.numpy())[0] < 1e-4 * problem.value(problem.begin)[0]


def test_no_lbfgs_move_is_longer_than_allowed() -> None:
    problem = Quadratic(SHAPE, 4)
    *_, path = run(LBFGS(10, 5.0, 0.01, 0.0), problem, problem.begin, 8)
    images = [problem.begin, *path]
    for before, after in pairwise(images):
        assert np.sqrt(np.square(after - before).mean()) <= 0.01 * 1.001


def test_the_scale_shortens_every_move() -> None:
    problem = Quadratic(SHAPE, 5)
    image = tf.constant(problem.begin, tf.float32)
    for optimizer in (LBFGS(10, 0.02, FAR, 0.0), Adam(0.02, 0.9, 0.999, 1e-8, 0.0)):
        whole, *_ = optimizer.step(start(image), optimizer.init(image), problem)
        half, *_ = optimizer.step(start(image, 0.5), optimizer.init(image), problem)
        np.testing.assert_allclose(half.image - image, (whole.image - image) / 2.0, atol=1e-6)


def test_negative_curvature_is_not_remembered() -> None:
    def saddle(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        away = image - 0.5
        return terms(100.0 - tf.reduce_sum(away**2, (1, 2, 3))), -2.0 * away

    begin = 0.5 + 0.01 * np.random.default_rng(6).normal(0.0, 1.0, SHAPE)
    *_, path = run(LBFGS(5, 0.01, 0.05, 0.0), saddle, begin, 6)
    losses = [float(saddle(tf.constant(image))[0].total[0]) for image in path]
    assert all(after < before for before, after in pairwise(losses))


def test_lbfgs_stays_where_the_gradient_is_zero() -> None:
    problem = Quadratic(SHAPE, 7)
    common, *_ = run(LBFGS(5, 0.02, 0.1, 0.0), problem, problem.centre.astype(np.float32), 4)
    np.testing.assert_allclose(common.image, problem.centre, atol=1e-5)


# --- both ----------------------------------------------------------------------------------------

BOTH: dict[str, Callable[[], Adam | LBFGS]] = {
    "adam": lambda: Adam(0.02, 0.9, 0.999, 1e-8, 0.9),
    "lbfgs": lambda: LBFGS(4, 0.02, 0.1, 0.9),
}
optimizers = pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)


@optimizers
def test_a_batch_of_two_equals_two_single_runs(make: Callable[[], Adam | LBFGS]) -> None:
    problem = Quadratic((2, *SHAPE[1:]), 8)
    together, *_ = run(make(), problem, problem.begin, 12)
    for i in (0, 1):
        alone = Quadratic(SHAPE, 0)
        alone.curvature, alone.centre = problem.curvature[i : i + 1], problem.centre[i : i + 1]
        single, *_ = run(make(), alone, problem.begin[i : i + 1], 12)
        for name in ("image", "best", "average"):
            got, wanted = getattr(together, name)[i], getattr(single, name)[0]
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        np.testing.assert_allclose(together.best_loss[i], single.best_loss[0], 1e-4, 1e-6)


@optimizers
def test_the_best_image_is_the_one_that_had_the_lowest_loss(
    make: Callable[[], Adam | LBFGS],
) -> None:
    losses = iter([5.0, 3.0, 4.0, 6.0])
    seen: list[tuple[float, Array]] = []

    def objective(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        loss = next(losses)
        seen.append((loss, image.numpy()))
        return terms(tf.constant([loss])), tf.ones_like(image) * loss

    common, *_ = run(make(), objective, np.full(SHAPE, 0.5), 4)
    lowest, image = min(seen, key=lambda pair: pair[0])
    assert float(common.best_loss[0]) == lowest == 3.0
    np.testing.assert_array_equal(common.best, image)


@optimizers
def test_the_average_weighs_the_iterates(make: Callable[[], Adam | LBFGS]) -> None:
    problem = Quadratic(SHAPE, 9)
    common, _, path = run(make(), problem, problem.begin, 7)
    weights = 0.9 ** np.arange(6, -1, -1.0)
    wanted = np.tensordot(weights / weights.sum(), np.stack(path), 1)
    np.testing.assert_allclose(common.average / (1.0 - 0.9**7), wanted, atol=1e-5)


@optimizers
@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 21.0])
def test_a_loss_without_bounds_stops_the_image_and_is_noticed(
    make: Callable[[], Adam | LBFGS], loss: float
) -> None:
    optimizer, image = make(), tf.fill(SHAPE, 0.5)

    def objective(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        return terms(tf.constant([loss])), image / 0.0

    common, memory, _ = optimizer.step(start(image), optimizer.init(image), calm)
    assert bool(common.healthy)
    stopped, *_ = optimizer.step(common, memory, objective)
    assert not bool(stopped.healthy)
    np.testing.assert_array_equal(stopped.image, common.image)
    np.testing.assert_array_equal(stopped.best, image)


@optimizers
def test_an_image_that_runs_away_stops_alone(make: Callable[[], Adam | LBFGS]) -> None:
    problem, optimizer = Quadratic((2, *SHAPE[1:]), 11), make()
    image = tf.constant(problem.begin, tf.float32)
    calm_state, memory, _ = optimizer.step(start(image), optimizer.init(image), problem)

    def second_runs_away(images: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        found, gradient = problem(images)
        wild = tf.constant([1.0, float("nan")])
        return terms(found.total * wild), gradient * wild[:, None, None, None]

    both, *_ = optimizer.step(calm_state, memory, problem)
    one, kept, _ = optimizer.step(calm_state, memory, second_runs_away)
    np.testing.assert_array_equal(one.healthy, [True, False])
    np.testing.assert_array_equal(one.image[0], both.image[0])
    np.testing.assert_array_equal(one.image[1], calm_state.image[1])
    assert all(np.isfinite(value[0]).all() for value in kept.values())


@optimizers
def test_each_image_has_its_own_step_length(make: Callable[[], Adam | LBFGS]) -> None:
    problem, optimizer = Quadratic((2, *SHAPE[1:]), 12), make()
    image = tf.constant(problem.begin, tf.float32)
    begin = start(image)._replace(scale=tf.constant([1.0, 0.5]))
    mixed, *_ = optimizer.step(begin, optimizer.init(image), problem)
    whole, *_ = optimizer.step(start(image), optimizer.init(image), problem)
    np.testing.assert_allclose(mixed.image[0], whole.image[0], atol=1e-6)
    half = (whole.image[1] - image[1]) / 2.0
    np.testing.assert_allclose(mixed.image[1] - image[1], half, atol=1e-6)


def calm(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
    return terms(tf.ones((1,))), image


@optimizers
def test_memory_carried_to_a_finer_level_gives_the_same_move(
    make: Callable[[], Adam | LBFGS],
) -> None:
    """Losses are means: with four times the pixels each gradient is a quarter."""
    problem, optimizer = Quadratic(SHAPE, 10), make()
    mean = scaled(problem, 1.0 / np.prod(SHAPE[1:3]))
    common, memory, _ = run(optimizer, mean, problem.begin, 6)
    fine = Quadratic(SHAPE, 10)
    fine.curvature, fine.centre = (grown(each) for each in (problem.curvature, problem.centre))

    same, *_ = optimizer.step(start(common.image), optimizer.carry(memory, lambda x: x, 1.0), mean)
    finer, *_ = optimizer.step(
        start(tf.constant(grown(common.image.numpy()))),
        optimizer.carry(memory, lambda x: tf.constant(grown(x.numpy())), 4.0),
        scaled(fine, 0.25 / np.prod(SHAPE[1:3])),
    )
    move = grown((same.image - common.image).numpy())
    assert np.abs(move).max() > 1e-3
    np.testing.assert_allclose(finer.image - grown(common.image.numpy()), move, atol=1e-4)


def scaled(problem: Quadratic, factor: float) -> LossAndGradient:
    def objective(image: tf.Tensor) -> tuple[Terms, tf.Tensor]:
        found, gradient = problem(image)
        return terms(found.total * factor), gradient * factor

    return objective


def grown(images: Any) -> Any:
    """Return (B, H, W, C) with every pixel four times."""
    return np.repeat(np.repeat(images, 2, 1), 2, 2)


def test_a_checkpoint_with_another_number_of_pairs_is_adopted() -> None:
    problem = Quadratic(SHAPE, 5)
    common, memory, _ = run(LBFGS(4, 0.01, FAR, 0.0), problem, problem.begin, 7)
    fewer, same, more = (LBFGS(pairs, 0.01, FAR, 0.0) for pairs in (2, 4, 6))
    for name, value in same.adopt(memory).items():
        np.testing.assert_array_equal(value, memory[name])
    assert fewer.adopt(memory).keys() == fewer.init(common.image).keys()
    longer = more.adopt(memory)
    assert not longer["rho5"].numpy().any()
    for optimizer in (fewer, more):
        state, kept = common, optimizer.adopt(memory)
        for _ in range(60):
            state, kept, terms = optimizer.step(state, kept, problem)
        assert terms.total.numpy().item() < 1e-6
