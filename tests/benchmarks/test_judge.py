"""The baselines are the algorithms that they are named after, on the objective that is judged."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from judge import Judge, PlainAdam, PlainLBFGS, Quality, without_dead_channels

from nstd.engine.targets import resize
from tests.engine.conftest import Pixels, lively_kernels, picture
from tests.engine.reference import Array


def resized(pixels: Pixels, side: int) -> tf.Tensor:
    """Return a square picture as the style is seen: at the photograph's long side."""
    return resize(pixels, side, side)


@pytest.fixture(scope="module")
def case() -> Judge:
    return Judge(lively_kernels(), picture(32, 48, 1), picture(40, 40, 2))


def test_the_photograph_itself_has_no_content_distance(case: Judge) -> None:
    terms = case.objective.terms(case.start, case.targets)
    assert float(terms.content[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(terms.tv[0]) == 0.0
    assert float(terms.total[0]) == pytest.approx(float(terms.style[0]))


def test_j_is_content_plus_twenty_times_the_mean_of_the_style_distances(case: Judge) -> None:
    image = tf.constant(picture(32, 48, 5)[None] / 255.0, tf.float32)
    got, photograph, painting = (
        {
            name: np.asarray(maps[0], np.float64)
            for name, maps in case.objective.extractor(x).items()
        }
        for x in (image, case.start, resized(picture(40, 40, 2), 48))
    )

    def gram(maps: Array) -> Array:
        flat = maps.reshape(-1, maps.shape[2])
        return np.asarray(flat.T @ flat / len(flat))

    def relative(a: Array, b: Array) -> float:
        return float(((a - b) ** 2).mean() / (b**2).mean())

    content = relative(got["block4_conv2"], photograph["block4_conv2"])
    style = [
        relative(gram(got[name]), gram(painting[name]))
        for name in (f"block{i}_conv1" for i in range(1, 6))
    ]
    j = float(case.eager(image)[0][0])
    assert j == pytest.approx(content + 20.0 * sum(style) / 5.0, rel=1e-3)


def test_compiled_and_eager_adam_take_the_same_steps(case: Judge) -> None:
    loops = [PlainAdam(case, compiled=compiled) for compiled in (True, False)]
    for loop in loops:
        for _ in range(3):
            loop.step()
    np.testing.assert_allclose(loops[0].image, loops[1].image, atol=1e-4)


@pytest.mark.parametrize("plain", ["adam", "lbfgs"])
def test_the_plain_loops_lower_the_objective(plain: str, case: Judge) -> None:
    loop = PlainAdam(case, compiled=True) if plain == "adam" else PlainLBFGS(case)
    before = float(case.graph(case.start)[0][0])
    for _ in range(12):
        loop.step()
    assert float(case.graph(loop.image)[0][0]) < 0.8 * before


def test_dead_channels_do_not_change_the_objective() -> None:
    kernels = {name: (k.copy(), b.copy()) for name, (k, b) in lively_kernels().items()}
    for name in ("block1_conv2", "block3_conv1"):
        kernels[name][0][..., 2:5] = 0.0
        kernels[name][1][2:5] = 0.0
    slim = without_dead_channels(kernels)
    assert slim["block3_conv1"][0].shape[3] == kernels["block3_conv1"][0].shape[3] - 3
    assert slim["block3_conv2"][0].shape[2] == kernels["block3_conv2"][0].shape[2] - 3
    photograph, painting = picture(32, 48, 1), picture(40, 40, 2)
    wide, thin = (Judge(each, photograph, painting) for each in (kernels, slim))
    image = tf.constant(picture(32, 48, 5)[None], tf.float32) / 255.0
    assert float(thin.graph(image)[0][0]) == pytest.approx(float(wide.graph(image)[0][0]), rel=1e-3)


def test_quality_asks_for_both_the_objective_and_calm() -> None:
    wanted = Quality(j=0.10, tv=0.01)
    assert wanted.reached_by(Quality(0.104, 0.009), 0.05)
    assert not wanted.reached_by(Quality(0.106, 0.009), 0.05)
    assert not wanted.reached_by(Quality(0.09, 0.011), 0.05)
