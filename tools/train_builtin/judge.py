"""``python -m tools.train_builtin.judge``: paint pairs with given features, and judge the pictures.

The judge is a VGG19-shaped file other than the features (pretrained, so that it knows what a
painting looks like). It judges only: nothing here leads back into the training.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from nstd.engine import losses, weights
from nstd.engine.params import STYLE_LAYERS, StyleParams, preset
from nstd.engine.progress import Listener, StyleImage
from nstd.engine.pyramid import fit
from nstd.engine.stylizer import Stylizer
from nstd.engine.vgg import FeatureExtractor, load_kernels
from tools.train_builtin.noise import Array

CONTENT_LAYER = "block4_conv2"
TYPES = ("jpg", "jpeg", "png")


@dataclass(frozen=True)
class Verdict:
    """How far a picture is from its photograph and from its painting; smaller is nearer."""

    content: float
    style: tuple[float, ...]  # block1_conv1 .. block5_conv1
    variation: float

    @property
    def mean_style(self) -> float:
        """The mean over the five blocks."""
        return float(np.mean(self.style))


def load(path: str, size: int) -> Array:
    """Read a picture as (H, W, 3) uint8 with ``size`` as its long side."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    height, width = fit(picture.height, picture.width, size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def live_channels(kernels: dict[str, Any]) -> dict[str, Any]:
    """Drop the channels that are zero, with what reads them: the same numbers, much sooner."""
    slim, alive = {}, np.arange(3)
    for name, (kernel, bias) in kernels.items():
        cut = np.asarray(kernel)[:, :, alive]
        alive = np.flatnonzero(np.abs(cut).sum((0, 1, 2)) + np.abs(np.asarray(bias)))
        slim[name] = (cut[..., alive], np.asarray(bias)[alive])
    return slim


class Judge:
    """Relative distances in the features of one file, with its own zero padding."""

    def __init__(self, path: str) -> None:
        kernels = live_channels(load_kernels(path))
        self.features = FeatureExtractor(kernels, (*STYLE_LAYERS, CONTENT_LAYER), edge="zero")

    def look(self, picture: Array) -> dict[str, Any]:
        """Return the features of a (H, W, 3) uint8 picture."""
        return self.features(tf.constant(picture[None] / 255, tf.float32))

    def __call__(self, picture: Array, content: Array, style: Array) -> Verdict:
        """Return the verdict on a picture of ``content``'s size."""
        seen, photograph, painting = (self.look(image) for image in (picture, content, style))
        apart = seen[CONTENT_LAYER] - photograph[CONTENT_LAYER]
        scale = tf.reduce_mean(photograph[CONTENT_LAYER] ** 2)
        blocks = []
        for name in STYLE_LAYERS:
            got, wanted = losses.gram(seen[name]), losses.gram(painting[name])
            blocks.append(float(tf.reduce_mean((got - wanted) ** 2) / tf.reduce_mean(wanted**2)))
        x = picture / 255
        rough = (np.diff(x, axis=0) ** 2).mean() + (np.diff(x, axis=1) ** 2).mean()
        return Verdict(float(tf.reduce_mean(apart**2) / scale), tuple(blocks), float(rough))


def pairs(folder: str) -> list[tuple[str, str]]:
    """Return every (content-*, style-*) pair of pictures in ``folder``."""
    names = sorted(n for n in os.listdir(folder) if n.rpartition(".")[2].lower() in TYPES)
    content = [os.path.join(folder, n) for n in names if n.startswith("content")]
    style = [os.path.join(folder, n) for n in names if n.startswith("style")]
    return list(itertools.product(content, style))


def features(path: str) -> weights.Weights:
    """Return a features file of this package's format, found by its path."""
    known = weights.find("builtin")
    return replace(known, path=path) if path.endswith(".npz") else weights.find(path)


def paint(painter: Stylizer, content: Array, style: Array, params: StyleParams) -> Array:
    """Return ``content`` painted in ``style``, both (H, W, 3) uint8."""
    return painter.stylize(content, [StyleImage(style)], params, listener=Listener()).pixels


def settings(text: str, base: StyleParams) -> StyleParams:
    """Return ``base`` with the JSON object ``text``'s settings put in."""
    chosen = json.loads(text)
    unknown = set(chosen) - {field.name for field in fields(StyleParams)}
    if unknown:
        raise SystemExit(f"There is no setting {min(unknown)!r}.")
    return StyleParams.from_dict({**base.to_dict(), **chosen})


def main() -> None:
    """Paint every pair, print each verdict and the means, and save a sheet if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_builtin.judge")
    parser.add_argument("--features", default="nstd/engine/builtin.npz")
    parser.add_argument("--judge", required=True, help="a VGG19 'notop' HDF5 file")
    parser.add_argument("--images", required=True, help="folder of content-* and style-* pictures")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--set", default="{}", help="StyleParams over the preset, as JSON")
    parser.add_argument("--sheet", help="save the pictures side by side as this PNG")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th pair only")
    chosen = parser.parse_args()
    params = settings(chosen.set, preset(chosen.preset))
    judge, painter = Judge(chosen.judge), Stylizer(features(chosen.features))
    verdicts, pictures = [], []
    for content, style in pairs(chosen.images)[:: chosen.every]:
        photograph, painting = load(content, params.size), load(style, params.size)
        picture = paint(painter, photograph, painting, params)
        verdicts.append(judge(picture, photograph, painting))
        pictures.append(np.asarray(Image.fromarray(picture).resize((256, 192))))
        print(os.path.basename(content), os.path.basename(style), line(verdicts[-1]), flush=True)
    blocks = tuple(np.mean([v.style for v in verdicts], 0).tolist())
    rough = float(np.mean([v.variation for v in verdicts]))
    print("mean", line(Verdict(float(np.mean([v.content for v in verdicts])), blocks, rough)))
    if chosen.sheet:
        rows = [np.concatenate(pictures[i : i + 3], 1) for i in range(0, len(pictures) - 2, 3)]
        Image.fromarray(np.concatenate(rows, 0)).save(chosen.sheet)


def line(verdict: Verdict) -> str:
    """Return a verdict in one line."""
    blocks = " ".join(f"{value:.3f}" for value in verdict.style)
    return (
        f"content {verdict.content:.3f} style {verdict.mean_style:.4f} "
        f"(blocks {blocks}) variation {verdict.variation:.4f}"
    )


if __name__ == "__main__":
    main()
