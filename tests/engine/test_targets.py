"""Targets: styles at the right size, blended by weight, by region, and remembered."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from nstd.engine import losses, targets
from nstd.engine.objective import Objective, Targets
from nstd.engine.params import StyleParams
from nstd.engine.progress import StyleImage
from nstd.engine.pyramid import PyramidLevel
from nstd.engine.targets import StyleCache, TargetMaker
from nstd.engine.vgg import FeatureExtractor
from tests.engine.conftest import Kernels, Pixels, picture

pytestmark = pytest.mark.usefixtures("_cpu")

SHALLOW, DEEP = "block1_conv1", "block3_conv1"
PARAMS = StyleParams(
    content_layers=(("block2_conv1", 1.0),), style_layers=((SHALLOW, 3.0), (DEEP, 1.0))
)
LEVEL = PyramidLevel(0, 32, 48, 5)
ONE, OTHER = picture(40, 30, 1), picture(36, 44, 2)


@pytest.fixture(scope="module")
def objective(lively: Kernels) -> Objective:
    return Objective(FeatureExtractor(lively, ["block2_conv1", SHALLOW, DEEP]), PARAMS)


class Counted:
    """A reader that counts the styles it measures."""

    def __init__(self, objective: Objective) -> None:
        self._objective, self.sizes = objective, list[tuple[int, int]]()
        self.tile = 0

    def content_features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._objective.content_features(image)

    def style_moments(self, image: tf.Tensor) -> dict[str, losses.Moments]:
        self.sizes.append((int(image.shape[1]), int(image.shape[2])))
        return self._objective.style_moments(image)


@pytest.fixture
def reader(objective: Objective) -> Counted:
    return Counted(objective)


def build(
    reader: Counted,
    *styles: StyleImage,
    params: StyleParams = PARAMS,
    cache: StyleCache | None = None,
    network: str = "network",
) -> Targets:
    content = tf.constant(picture(LEVEL.height, LEVEL.width, 9)[None] / np.float32(255))
    maker = TargetMaker(params, styles, cache or StyleCache(None), network, lambda _: reader)
    return maker.build(content, LEVEL, reader)


def alone(reader: Counted, pixels: Pixels) -> dict[str, losses.Moments]:
    found = build(reader, StyleImage(pixels))
    return {layer: regions[0] for layer, regions in found.style.items()}


# --- sizes ---------------------------------------------------------------------------------------


def test_a_picture_of_the_right_size_is_only_scaled_to_one() -> None:
    pixels = picture(9, 7, 3)
    np.testing.assert_allclose(targets.resize(pixels, 9, 7)[0], pixels / 255.0, 1e-6)


@pytest.mark.parametrize("size", [(5, 4), (90, 70), (9, 70)])
def test_resized_pictures_stay_in_range(size: tuple[int, int]) -> None:
    checks = (np.indices((30, 40)).sum(0)[..., None] // 5 % 2 * np.full(3, 255)).astype(np.uint8)
    got = targets.resize(checks, *size)
    assert got.shape == (1, *size, 3)
    assert 0.0 <= float(tf.reduce_min(got)) <= float(tf.reduce_max(got)) <= 1.0


def test_shrinking_averages_instead_of_skipping() -> None:
    checks = (np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 255)).astype(np.uint8)
    np.testing.assert_allclose(targets.resize(checks, 8, 8), 0.5, atol=0.02)


def test_the_style_has_the_levels_long_side_and_its_own_shape(reader: Counted) -> None:
    build(reader, StyleImage(ONE))
    assert reader.sizes == [(48, 36)]


def test_style_scale_changes_the_size_of_the_style_alone(reader: Counted) -> None:
    params = dataclasses.replace(PARAMS, style_scale=0.5)
    found = build(reader, StyleImage(ONE), params=params)
    assert reader.sizes == [(24, 18)]
    assert found.content["block2_conv1"].shape[1:3] == (16, 24)


def test_squeezing_ignores_the_styles_shape(reader: Counted) -> None:
    params = dataclasses.replace(PARAMS, squeeze=(32, 32))
    build(reader, StyleImage(ONE), params=params)
    assert reader.sizes == [(32, 32)]


# --- blends and regions --------------------------------------------------------------------------


def test_several_styles_blend_by_weight(reader: Counted) -> None:
    found = build(reader, StyleImage(ONE, 3.0), StyleImage(OTHER, 1.0))
    first, second = alone(reader, ONE), alone(reader, OTHER)
    assert found.shares == {}
    for layer, (blend,) in found.style.items():
        for part in ("mean", "gram"):
            a, b = getattr(first[layer], part), getattr(second[layer], part)
            np.testing.assert_allclose(getattr(blend, part), 0.75 * a + 0.25 * b, 1e-5)


def halves() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    left = np.zeros((16, 24), np.float32)
    left[:, :12] = 1.0
    return left, 1.0 - left


def test_each_mask_says_where_its_style_applies(reader: Counted) -> None:
    left, right = halves()
    found = build(reader, StyleImage(ONE, mask=left), StyleImage(OTHER, mask=right))
    for layer, size in ((SHALLOW, (32, 48)), (DEEP, (8, 12))):
        west, east = found.shares[layer]
        assert west.shape == (1, *size, 1)
        middle = size[1] // 2
        np.testing.assert_allclose(west[:, :, :middle], 1.0, atol=1e-5)
        np.testing.assert_allclose(west[:, :, middle:], 0.0, atol=1e-5)
        np.testing.assert_allclose(west + east, 1.0, atol=1e-5)
        first, second = found.style[layer]
        np.testing.assert_allclose(first.gram, alone(reader, ONE)[layer].gram, 1e-5)
        np.testing.assert_allclose(second.gram, alone(reader, OTHER)[layer].gram, 1e-5)


def test_styles_without_a_mask_fill_the_rest(reader: Counted) -> None:
    left, _ = halves()
    found = build(reader, StyleImage(ONE), StyleImage(OTHER, mask=left))
    rest, west = found.shares[DEEP]
    np.testing.assert_allclose(rest[:, :, 6:], 1.0, atol=1e-5)
    np.testing.assert_allclose(rest + west, 1.0, atol=1e-5)


def test_styles_that_share_a_mask_are_blended_in_it(reader: Counted) -> None:
    left, _ = halves()
    first, second = StyleImage(ONE, 3.0, mask=left), StyleImage(OTHER, 1.0, mask=left.copy())
    found = build(reader, first, second)
    blend = build(reader, StyleImage(ONE, 3.0), StyleImage(OTHER, 1.0))
    assert found.regions == (1, True)
    np.testing.assert_allclose(found.style[DEEP][0].gram, blend.style[DEEP][0].gram, 1e-6)


# --- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def looks() -> list[bool]:
    return []


def test_the_second_look_at_a_style_costs_nothing(reader: Counted, looks: list[bool]) -> None:
    cache, style = StyleCache(None, looks.append), StyleImage(ONE, sha256="a")
    first = build(reader, style, cache=cache)
    second = build(reader, style, cache=cache)
    assert looks == [False, True]
    assert len(reader.sizes) == 1
    np.testing.assert_array_equal(first.style[DEEP][0].gram, second.style[DEEP][0].gram)


def test_pixels_without_a_digest_are_measured_each_time(reader: Counted, looks: list[bool]) -> None:
    cache = StyleCache(None, looks.append)
    build(reader, StyleImage(ONE), cache=cache)
    build(reader, StyleImage(OTHER), cache=cache)
    assert looks == []
    assert len(reader.sizes) == 2


CHANGES: dict[str, Callable[[Counted, StyleCache], object]] = {
    "file": lambda r, c: build(r, StyleImage(OTHER, sha256="b"), cache=c),
    "decoded size": lambda r, c: build(r, StyleImage(ONE[:-1], sha256="a"), cache=c),
    "network": lambda r, c: build(r, StyleImage(ONE, sha256="a"), cache=c, network="other"),
    "pooling": lambda r, c: build(
        r, StyleImage(ONE, sha256="a"), cache=c, params=dataclasses.replace(PARAMS, pooling="avg")
    ),
    "edge": lambda r, c: build(
        r, StyleImage(ONE, sha256="a"), cache=c, params=dataclasses.replace(PARAMS, edge="zero")
    ),
    "size": lambda r, c: build(
        r, StyleImage(ONE, sha256="a"), cache=c, params=dataclasses.replace(PARAMS, style_scale=2.0)
    ),
    "layers": lambda r, c: build(
        r,
        StyleImage(ONE, sha256="a"),
        cache=c,
        params=dataclasses.replace(PARAMS, style_layers=((DEEP, 1.0),)),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_the_moments_is_another_style(
    reader: Counted, looks: list[bool], change: Callable[[Counted, StyleCache], object]
) -> None:
    cache = StyleCache(None, looks.append)
    build(reader, StyleImage(ONE, sha256="a"), cache=cache)
    change(reader, cache)
    assert looks == [False, False]


def test_weights_and_masks_do_not_make_another_style(reader: Counted, looks: list[bool]) -> None:
    cache = StyleCache(None, looks.append)
    build(reader, StyleImage(ONE, sha256="a"), cache=cache)
    build(reader, StyleImage(ONE, 2.0, "a", halves()[0]), cache=cache)
    assert looks == [False, True]


def test_a_style_is_found_on_disk_by_the_next_process(
    reader: Counted, tmp_path: Path, looks: list[bool]
) -> None:
    folder, style = str(tmp_path / "cache"), StyleImage(ONE, sha256="a")
    first = build(reader, style, cache=StyleCache(folder, looks.append))
    again = build(reader, style, cache=StyleCache(folder, looks.append))
    assert looks == [False, True]
    for layer in (SHALLOW, DEEP):
        for part in ("mean", "gram"):
            before, after = (getattr(each.style[layer][0], part) for each in (first, again))
            np.testing.assert_array_equal(before, after)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda _data: b"not an archive",
    "one byte off": lambda data: data[:400] + bytes([data[400] ^ 255]) + data[401:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_a_miss_and_is_replaced(
    reader: Counted, tmp_path: Path, looks: list[bool], damage: Callable[[bytes], bytes]
) -> None:
    folder, style = str(tmp_path), StyleImage(ONE, sha256="a")
    wanted = build(reader, style, cache=StyleCache(folder))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        got = build(reader, style, cache=StyleCache(folder, looks.append))
        np.testing.assert_array_equal(got.style[DEEP][0].gram, wanted.style[DEEP][0].gram)
    assert looks == [False, True]


def test_a_foreign_archive_is_a_miss(reader: Counted, tmp_path: Path, looks: list[bool]) -> None:
    style = StyleImage(ONE, sha256="a")
    build(reader, style, cache=StyleCache(str(tmp_path)))
    (path,) = tmp_path.glob("*.npz")
    odd = np.zeros((1, 8), np.float32)
    arrays = {f"{SHALLOW}/mean": odd, f"{SHALLOW}/gram": odd, f"{DEEP}/mean": odd}
    np.savez(path, allow_pickle=False, **arrays)
    build(reader, style, cache=StyleCache(str(tmp_path), looks.append))
    assert looks == [False]


def test_a_cache_that_cannot_be_written_only_costs_time(reader: Counted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = build(reader, StyleImage(ONE, sha256="a"), cache=StyleCache(str(tmp_path / "file")))
    assert found.style[DEEP][0].gram.shape[0] == 1


def test_the_oldest_styles_leave_memory() -> None:
    looks: list[bool] = []
    cache = StyleCache(None, looks.append)
    one = {"layer": losses.Moments(tf.zeros((1, 2)), tf.zeros((1, 2, 2)))}
    for i in range(70):
        cache.get(str(i), ["layer"], lambda: one)
    looks.clear()
    cache.get("69", ["layer"], lambda: one)
    cache.get("0", ["layer"], lambda: one)
    assert looks == [True, False]


def test_the_disk_keeps_what_was_read_last_and_nothing_half_written(
    reader: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_KEPT_ON_DISK", 2)
    (tmp_path / ".0123.9.npz").write_bytes(b"half")
    looks: list[bool] = []
    for turn, name in enumerate("abacab"):  # each in a process of its own: nothing in memory
        for number, path in enumerate(sorted(tmp_path.iterdir(), key=os.path.getmtime)):
            os.utime(path, (turn + number, turn + number))
        cache = StyleCache(str(tmp_path), looks.append)
        build(reader, StyleImage(ONE, sha256=name), cache=cache)
    assert looks == [False, False, True, False, True, False]
    assert len(list(tmp_path.iterdir())) == 2
