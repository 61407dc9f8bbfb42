from __future__ import annotations

import numpy as np

from tests.photo.make import read, saved


def test_hidden_colours_never_show() -> None:
    secret = np.zeros((40, 60, 4), np.uint8)
    secret[..., :3] = (255, 0, 255)
    secret[10:20, 10:30] = (40, 90, 20, 255)
    pixels = read(saved(secret, "PNG")).pixels
    assert (np.abs(pixels.astype(int) - (40, 90, 20)).max(axis=-1) <= 2).all()


def test_a_picture_that_shows_nothing_is_grey() -> None:
    photo = read(saved(np.zeros((9, 7, 4), np.uint8), "PNG"))
    assert np.array_equal(np.unique(photo.pixels), [128])
    assert photo.alpha is not None
    assert not photo.alpha.any()
