"""Networks and pictures that the engine's tests share: TensorFlow is loaded once, on the CPU."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from nstd.engine import weights
from nstd.engine.weights import Weights
from tests.engine import reference

if TYPE_CHECKING:
    from nstd.engine.stylizer import Stylizer

Pixels = NDArray[np.uint8]
Kernels = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

WIDTHS = (8, 12, 16, 24, 24)
ACTIVATION = 100.0
"""Root mean square that VGG19's layers have, roughly: the tutorials' numbers count on it."""


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + 60.0
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def picture(height: int, width: int, seed: int) -> Pixels:
    """Return a smooth, colourful (height, width, 3) picture with a little grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 24.0
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-4.0, 4.0, (3, 3))]
    grain = rng.normal(0.0, 8.0, (height, width, 3))
    return np.clip(127.0 + 90.0 * np.stack(waves, -1) + grain, 0, 255).astype(np.uint8)


def lively_kernels(seed: int = 0) -> Kernels:
    """Return a narrow VGG19 with random kernels and activations of the real one's order."""
    rng = np.random.default_rng(seed)
    sample = reference.bgr_of(picture(32, 32, 99)[None] / 255.0)
    kernels: Kernels = {}
    channels, x = 3, sample
    for name in reference.ORDER:
        if name.endswith("pool"):
            x = x[:, ::2, ::2]
            continue
        width = WIDTHS[int(name[5]) - 1]
        kernel = rng.normal(0.0, 1.0, (3, 3, channels, width))
        y = reference.convolve(reference.padded(x, "zero"), kernel)
        scale = ACTIVATION / np.sqrt(np.square(np.maximum(y, 0.0)).mean())
        bias = rng.normal(0.0, 0.1 * ACTIVATION, width)
        x = np.maximum(y * scale + bias, 0.0)
        kernels[name] = (kernel * scale).astype(np.float32), bias.astype(np.float32)
        channels = width
    return kernels


def write_npz(path: Path, kernels: Kernels) -> Weights:
    """Write kernels in the layout of the built-in features and return them as weights."""
    arrays = {f"{name}/kernel": kernel for name, (kernel, _) in kernels.items()}
    arrays |= {f"{name}/bias": bias for name, (_, bias) in kernels.items()}
    card = np.array(json.dumps({"name": "test"}))
    np.savez(path, allow_pickle=False, card=card, **arrays)
    data = path.read_bytes()
    digests = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()  # noqa: S324
    return Weights("path", str(path), *digests, "npz")


@pytest.fixture(scope="session")
def _cpu() -> Iterator[None]:
    """Everything of TensorFlow happens on the CPU, where results are the same bytes."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        yield


@pytest.fixture(scope="session")
def builtin() -> Weights:
    """Return the weights that ship with the package."""
    return weights.find("builtin")


@pytest.fixture(scope="session")
def builtin_kernels(builtin: Weights, _cpu: None) -> Kernels:
    """Return the kernels of the weights that ship with the package."""
    from nstd.engine.vgg import load_kernels

    return load_kernels(builtin.path)


@pytest.fixture(scope="session")
def lively() -> Kernels:
    """Return a narrow random network whose activations are of VGG19's order."""
    return lively_kernels()


@pytest.fixture(scope="session")
def lively_weights(lively: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Return the same network as a file."""
    return write_npz(tmp_path_factory.mktemp("weights") / "lively.npz", lively)


@pytest.fixture(scope="session")
def stylizer(builtin: Weights, _cpu: None) -> Stylizer:
    """Return a stylizer with the package's weights, whose traces all tests share."""
    from nstd.engine.stylizer import Stylizer

    return Stylizer(builtin)


@pytest.fixture(scope="session")
def content() -> Pixels:
    """Return a photograph of 48 by 40 pixels."""
    return picture(40, 48, 1)


@pytest.fixture(scope="session")
def style() -> Pixels:
    """Return a painting of 40 by 44 pixels."""
    return picture(44, 40, 2)
