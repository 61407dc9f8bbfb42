"""The loop on the device takes the optimizer's steps, many at once, and stops when it must."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nstd.engine.loop import DeviceLoop, TiledLoop
from nstd.engine.objective import Targets, Terms
from nstd.engine.optimizers import LBFGS, Adam, start

pytestmark = pytest.mark.usefixtures("_cpu")


class Bowl:
    """A quadratic around the targets' content; NaN once the loss is below ``floor``."""

    def __init__(self, floor: float = -1.0) -> None:
        self.floor, self.traces = floor, 0

    def __call__(self, images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
        self.traces += 1
        away = images - targets.content["layer"]
        loss = tf.reduce_mean(tf.square(away), (1, 2, 3))
        loss = tf.where(loss < self.floor, float("nan"), loss)
        return Terms(loss, loss, 2.0 * loss, 3.0 * loss), away


def targets(height: int, width: int, value: float = 0.5) -> Targets:
    return Targets({"layer": tf.fill((1, height, width, 3), value)}, {"layer": ()}, {}, {})


def optimizers() -> list[Adam | LBFGS]:
    return [Adam(0.02, 0.9, 0.999, 1e-8, 0.9), LBFGS(3, 0.02, 0.05, 0.0)]


LOOPS: list[Any] = [DeviceLoop, TiledLoop]


@pytest.mark.parametrize("optimizer", optimizers(), ids=["adam", "lbfgs"])
@pytest.mark.parametrize("loop", LOOPS)
def test_steps_in_a_loop_are_the_optimizers(loop: Any, optimizer: Adam | LBFGS) -> None:
    image = tf.random.stateless_uniform((1, 5, 7, 3), (1, 2))
    common, memory = start(image), optimizer.init(image)
    looped, kept, rows = loop(Bowl(), optimizer)(common, dict(memory), targets(5, 7), 6)
    for i in range(6):
        common, memory, terms = optimizer.step(common, memory, lambda x: Bowl()(x, targets(5, 7)))
        np.testing.assert_allclose(rows[i], tf.stack(terms), 1e-4)
    for got, wanted in zip(looped, common, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert kept.keys() == memory.keys()
    np.testing.assert_array_equal(looped.step, [6])


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loop_stops_at_the_step_that_goes_wrong(loop: Any) -> None:
    image = tf.ones((1, 4, 4, 3))
    optimizer = Adam(0.05, 0.9, 0.999, 1e-8, 0.0)
    state, _, rows = loop(Bowl(floor=0.1), optimizer)(
        start(image), optimizer.init(image), targets(4, 4), 50
    )
    assert not bool(state.healthy)
    assert 1 < len(rows) < 50
    assert np.isnan(rows[-1]).all()
    assert np.isfinite(rows[:-1]).all()


@pytest.mark.parametrize("optimizer", optimizers(), ids=["adam", "lbfgs"])
def test_runs_side_by_side_take_the_steps_that_each_takes_alone(optimizer: Adam | LBFGS) -> None:
    bowl: Any = Bowl()
    loop = DeviceLoop(bowl, optimizer)
    states = [
        (start(image, 1.0 / (i + 1), step=i), optimizer.init(image), targets(5, 7, 0.2 * i))
        for i, image in enumerate(tf.random.stateless_uniform((3, 1, 5, 7, 3), (1, 2)))
    ]
    together = loop.together(states, 6)
    for got, state in zip(together, states, strict=True):
        wanted = loop(*state, 6)
        for one, alone in zip(tf.nest.flatten(got), tf.nest.flatten(wanted), strict=True):
            np.testing.assert_allclose(one, alone, 1e-4, 1e-6)
    assert bowl.traces == 1  # of any batch


def test_one_run_that_goes_wrong_stops_all_at_that_step_and_spoils_none() -> None:
    image, optimizer = tf.ones((1, 4, 4, 3)), Adam(0.05, 0.9, 0.999, 1e-8, 0.0)
    loop = DeviceLoop(Bowl(floor=0.1), optimizer)  # type: ignore[arg-type]
    wild, tame = (
        (start(image), optimizer.init(image), targets(4, 4, value)) for value in (0.5, -1.0)
    )
    (sick, _, spoiled), (well, _, rows) = loop.together([wild, tame], 50)
    assert (bool(sick.healthy[0]), bool(well.healthy[0])) == (False, True)
    assert 1 < len(rows) == len(spoiled) < 50
    alone, _, wanted = loop(*tame, len(rows))
    np.testing.assert_allclose(well.image, alone.image, 1e-6)
    np.testing.assert_allclose(rows, wanted, 1e-6)


def test_one_trace_serves_every_size_target_and_count() -> None:
    bowl: Any = Bowl()
    optimizer = LBFGS(3, 0.02, 0.05, 0.0)
    loop = DeviceLoop(bowl, optimizer)
    for height, width, count in ((4, 6, 3), (9, 5, 1), (16, 16, 7)):
        image = tf.zeros((1, height, width, 3))
        state, _, rows = loop(
            start(image), optimizer.init(image), targets(height, width, 0.1 * count), count
        )
        assert state.image.shape == image.shape
        assert len(rows) == count
    assert bowl.traces == 1
