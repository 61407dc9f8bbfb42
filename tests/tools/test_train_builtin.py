"""The built-in features' generator, training and file, on a set of a few tiny images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tools.train_builtin import batches, cache, layout, media, scenes, textures

PLAN = cache.Plan(size=96, classes=13, exemplars=1, scenes=6, painters=3)
SHIPPED = Path(__file__).resolve().parents[2] / "nstd" / "engine" / "builtin.npz"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> cache.Images:
    """Draw the tiny plan's images in this process."""
    folder = str(tmp_path_factory.mktemp("images"))
    cache.draw_all(folder, PLAN, workers=0)
    return cache.opened_images(folder)


@pytest.mark.parametrize("number", range(len(textures.FAMILIES)))
def test_a_texture_depends_on_its_seeds_alone_and_exemplars_differ(number: int) -> None:
    first = textures.texture(0, number, 0, 48)
    assert first.shape == (48, 48, 3)
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.std() > 0.005
    np.testing.assert_array_equal(first, textures.texture(0, number, 0, 48))
    assert not np.array_equal(first, textures.texture(0, number, 1, 48))


@pytest.mark.parametrize("number", range(len(media.MEDIA)))
def test_every_painter_repaints_a_scene_in_its_own_way(number: int) -> None:
    clean = scenes.compose(np.random.default_rng(1), 0, 48).image.clip(0, 1)
    painted = media.paint(np.random.default_rng(2), clean, media.painter(0, number))
    assert painted.shape == clean.shape
    assert np.isfinite(painted).all()
    assert 0.002 < np.abs(painted - clean).mean() < 0.5


def test_a_painter_has_one_palette_and_brush_in_all_pictures() -> None:
    first, again = media.painter(0, 9), media.painter(0, 9)
    np.testing.assert_array_equal(first.colours, again.colours)
    assert (first.unit, first.aspect, first.flow) == (again.unit, again.aspect, again.flow)
    assert first.unit != media.painter(0, 17).unit


def test_a_scenes_maps_name_a_thing_and_a_depth_for_every_pixel() -> None:
    painted, clean, maps, painter = scenes.scene(0, 7, 48, painters=3)
    assert painted.dtype == clean.dtype == maps.dtype == np.uint8
    assert maps[..., 0].max() < len(scenes.THINGS)
    assert set(np.unique(maps[..., 2])) <= {0, 255}
    assert painter == 7 % 3


def test_a_steps_batch_is_the_same_whenever_it_is_read(images: cache.Images) -> None:
    ahead = list(batches.ahead(images, PLAN, range(3, 5), 2, 2))
    again = batches.as_parts(batches.batch(images, PLAN, 4, 2, 2))
    for name, values in batches.as_parts(ahead[1]).items():
        np.testing.assert_array_equal(values, again[name])
    assert not np.array_equal(ahead[0].windows, ahead[1].windows)


def test_a_painting_its_photograph_and_its_maps_are_cut_by_one_window(
    images: cache.Images,
) -> None:
    whole = batches.batch(images, PLAN, 1, 1, 2)
    pixels = np.arange(PLAN.size)[None, :, None, None] + np.zeros((2, 1, PLAN.size, 3))
    ramp = pixels.astype(np.uint8)  # says its row in every image
    still = {"gain": np.ones_like(whole.gain), "offset": np.zeros_like(whole.offset)}
    parts = batches.as_parts(whole) | {"painted": ramp, "clean": ramp, "maps": ramp} | still
    cut = {name: np.asarray(value) for name, value in batches.cut(parts).items()}
    painted, clean = cut["pictures"][1:3], cut["pictures"][3:]
    np.testing.assert_array_equal(painted, clean)
    np.testing.assert_allclose(cut["maps"], painted * 255, atol=0.51)  # the nearest pixel's


def test_the_file_is_the_same_bytes_and_reads_back(tmp_path: Path) -> None:
    weights = layout.random_weights(1, (4, 4, 8, 8, 8))
    path = str(tmp_path / "features.npz")
    assert layout.save(path, weights, {"name": "test"}) == layout.save(
        path, weights, {"name": "test"}
    )
    back, card = layout.load(path)
    assert card["name"] == "test"
    assert card["format"] == layout.FORMAT
    for name, (kernel, bias) in weights.items():
        step = np.abs(kernel).max((0, 1, 2)) / 127  # of 8 bits, by output channel
        assert (np.abs(back[name][0] - kernel) <= 0.501 * step).all()
        np.testing.assert_array_equal(back[name][1], bias)


def test_the_shipped_file_has_every_layer_of_vgg19_and_stays_small() -> None:
    weights, card = layout.load(str(SHIPPED))
    assert SHIPPED.stat().st_size < 3_000_000
    assert card["input"] == layout.INPUT
    for name, before, after in layout.layers():
        kernel, bias = weights[name]
        assert kernel.shape == (3, 3, before, after)
        assert bias.shape == (after,)
        assert np.isfinite(kernel).all()
        assert np.isfinite(bias).all()


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(
    images: cache.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from tools.train_builtin import train
    from tools.train_builtin.network import COLOURS, MEANS, handing_on, network_input

    # three compilations would cost more than these few steps; what is computed is the same
    monkeypatch.setattr(tf, "function", lambda step, **_: step)
    settings = train.Settings(
        steps=2, textures=2, scenes=2, warmup=1, widths=(4, 4, 8, 8, 8), measured=4, patches=500,
        precision="float32",
    )  # fmt: skip

    def begin(folder: str) -> train.Training:
        return train.Training(images, PLAN, settings, str(tmp_path / folder))

    silent = lambda _: None  # noqa: E731
    whole = begin("whole")
    assert whole.run(say=silent) == 2
    assert begin("halves").run(1, silent) == 1
    second = begin("halves")
    assert second.run(say=silent) == 2
    expected, found = whole.weights(), second.weights()
    for name in expected:
        np.testing.assert_allclose(found[name][0], expected[name][0], rtol=2e-3, atol=2e-5)

    # the folded convolutions give what the normalised ones gave, on VGG19's input
    last = second.sample(10**6 + 1)
    inside, _ = second.features(last)
    x = network_input(last) * layout.INPUT_SCALE
    np.testing.assert_allclose(x[..., ::-1] + np.array(MEANS[::-1]), last * 255, atol=1e-3)
    colours, even = x, {n: handing_on(3) for n in ("block1_conv1", "block1_conv2")}
    for name in ("block1_conv1", "block1_conv2"):
        kernel, bias = found[name]
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
        np.testing.assert_allclose(x, inside[name], rtol=1e-3, atol=1e-3)
        colours = tf.nn.conv2d(colours, even[name], 1, "SAME")
        seen, wanted = (np.asarray(v)[:, 4:-4, 4:-4].reshape(-1, COLOURS)
                        for v in (x[..., :COLOURS], colours))  # fmt: skip
        for channel in range(COLOURS):  # handed on: blurred, moved and scaled, nothing else
            assert np.corrcoef(seen[:, channel], wanted[:, channel])[0, 1] > 0.98

    path = str(tmp_path / "out.npz")
    second.export(path)
    assert layout.load(path)[1]["training"]["steps_done"] == 2
    assert dataclasses.asdict(PLAN) == layout.load(path)[1]["plan"]
