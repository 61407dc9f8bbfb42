from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nstd.engine import bleed
from nstd.engine.params import PRESETS, StyleParams
from nstd.engine.progress import Image, Listener, StyleImage
from nstd.engine.stylizer import Stylizer
from tests.engine.conftest import picture

PARAMS = StyleParams()


@pytest.mark.parametrize("name", ["tutorial-keras", "tutorial-blog", "tutorial-avgpool"])
def test_tutorials_paint_no_bleed(name: str) -> None:
    assert bleed.width_of(400, 512, PRESETS[name]) == 0


@pytest.mark.parametrize(("size", "pixels"), [((192, 256), 4), ((768, 1024), 16), ((3, 512), 2)])
def test_a_bleed_grows_with_the_picture(size: tuple[int, int], pixels: int) -> None:
    assert bleed.width_of(*size, PARAMS) == pixels


def test_trimming_undoes_extending() -> None:
    content = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    wide = bleed.extend(content, 5)
    assert wide.shape == (30, 40, 3)
    np.testing.assert_array_equal(bleed.trim(wide, 5, painted=40), content)


def test_a_mask_is_continued_in_proportion() -> None:
    mask = np.zeros((50, 100), np.float32)
    mask[:, :50] = 1.0
    style = StyleImage(np.zeros((8, 8, 3), np.uint8), mask=mask)
    wide = bleed.extend_mask(style, 100, 200, 10).mask
    assert wide is not None
    assert wide.shape == (60, 110)
    assert wide[:, :55].all()
    assert not wide[:, 55:].any()


def test_previews_of_coarse_levels_lose_their_share() -> None:
    seen: list[Image] = []
    listener = bleed.trimming(Listener(preview=seen.append), 10, painted=220)
    assert listener.preview is not None
    listener.preview(np.zeros((60, 110, 3), np.uint8))
    assert seen[0].shape == (50, 100, 3)


def test_the_picture_has_the_size_that_was_asked_for(stylizer: Stylizer) -> None:
    content, styles = picture(40, 48, 1), [StyleImage(picture(44, 40, 2))]
    params = dataclasses.replace(PRESETS["tiny"], bleed=0.016)
    result = stylizer.stylize(content, styles, params, listener=Listener())
    assert result.pixels.shape == content.shape
    assert result.plan["bleed"] == 4
