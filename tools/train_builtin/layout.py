"""The file of the built-in features: VGG19's layers at other widths, plain arrays, and a card.

The file is an ``.npz`` without pickles. For each of VGG19's sixteen convolutions it holds
``<layer>/kernel`` (3, 3, in, out), int8; ``<layer>/scale`` (out,), float32, by which the kernel's
values are multiplied; ``<layer>/bias`` (out,), float32. And ``card``, the bytes of a JSON text that
says what the file is and how the network is to be run. The first
convolution takes what VGG19's takes (BGR minus the ImageNet means, 0 to 255), so that a program
that can run VGG19 needs no special case: the training's own input scale is folded into the kernel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, tuple[Array, Array]]

CONVOLUTIONS = (2, 2, 4, 4, 4)
"""How many convolutions each of VGG19's blocks has (Simonyan & Zisserman 2014, table 1, E)."""

WIDTHS = (16, 32, 64, 192, 192)
"""Channels per block: a quarter of VGG19's, and three eighths in the deep blocks: on AMX units 192
channels train as fast as 128."""

INPUT_SCALE = 64.0
"""The training's input is (BGR - means) / 64, about unit variance; folded into block1_conv1."""

FORMAT = "nstd-builtin-2"
INPUT = "BGR minus (103.939, 116.779, 123.68), 0..255"


USE = {
    "content_layers": [
        ["block1_conv2", 0.95],
        ["block2_conv2", 0.65],
        ["block3_conv4", 0.55],
        ["block4_conv2", 0.35],
    ],
    "tv_share": 0.1,
    "style_strength": 0.45,
}
"""How the engine uses these features (``params.suited``): what the judge and the eye preferred."""


def layers(widths: tuple[int, ...] = WIDTHS) -> list[tuple[str, int, int]]:
    """Return (name, channels in, channels out) of the sixteen convolutions, input first."""
    found, before = [], 3
    for block, (count, width) in enumerate(zip(CONVOLUTIONS, widths, strict=True), 1):
        for index in range(1, count + 1):
            found.append((f"block{block}_conv{index}", before, width))
            before = width
    return found


def random_weights(seed: int, widths: tuple[int, ...] = WIDTHS) -> Weights:
    """Return untrained weights: orthogonal kernels that keep the variance through a ReLU."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, before, after in layers(widths):
        rows = 9 * before
        basis, _ = np.linalg.qr(rng.standard_normal((max(rows, after), min(rows, after))))
        flat = basis if rows >= after else basis.T  # (9 * in, out)
        gain = np.sqrt(2.0 * max(rows, after) / rows)
        kernel = (gain * flat).reshape(3, 3, before, after).astype(np.float32)
        if name == "block1_conv1":
            kernel /= INPUT_SCALE
        weights[name] = (kernel, np.zeros(after, np.float32))
    return weights


def encode(weights: Weights, card: dict[str, Any]) -> bytes:
    """Return the file's bytes: the same bytes for the same weights and card on every machine.

    ``numpy.savez`` stamps nothing but lets zlib choose; members are written here one by one with
    a fixed date so that the sha256 in the documentation can be reproduced.
    """
    text = json.dumps({"format": FORMAT, "input": INPUT, **card}, sort_keys=True)
    arrays: dict[str, Array] = {"card": np.frombuffer(text.encode(), np.uint8)}
    for name, (kernel, bias) in weights.items():
        scale = np.maximum(np.abs(kernel).max((0, 1, 2)), 1e-12) / 127
        arrays[f"{name}/kernel"] = np.ascontiguousarray(np.rint(kernel / scale), np.int8)
        arrays[f"{name}/scale"] = scale.astype(np.float32)
        arrays[f"{name}/bias"] = bias.astype(np.float32)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.getvalue())
    return whole.getvalue()


def save(path: str, weights: Weights, card: dict[str, Any]) -> str:
    """Write the file at ``path`` by one rename and return its sha256."""
    data = encode(weights, card)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
    return hashlib.sha256(data).hexdigest()


def load(path: str) -> tuple[Weights, dict[str, Any]]:
    """Read a file of this format: float32 weights by layer, and the card."""
    with np.load(path, allow_pickle=False) as file:
        card = json.loads(file["card"].tobytes())
        names = [key.removesuffix("/kernel") for key in file.files if key.endswith("/kernel")]
        weights = {
            name: (file[f"{name}/kernel"] * file[f"{name}/scale"], file[f"{name}/bias"])
            for name in names
        }
    return weights, card
