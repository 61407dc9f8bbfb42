"""What the features are taught: to tell textures and media apart, and to see through the paint.

Each task reads a layer through one linear map, so the layer itself has to be good. Tasks that
read averages (which texture? which medium?) teach what a style is; tasks that read every place
(which thing? how near? where is an edge? what did it look like unpainted?) teach content.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tools.train_builtin import layout
from tools.train_builtin.media import MEDIA
from tools.train_builtin.scenes import THINGS

STYLE_TAPS = {
    "block1_conv1": 0.3,
    "block2_conv1": 0.5,
    "block3_conv1": 0.7,
    "block4_conv1": 1.0,
    "block5_conv1": 1.0,
}
"""Layers whose averages must name the texture, with the task's weight: the style layers."""
THING_TAPS = {"block3_conv4": 0.3, "block4_conv2": 0.7, "block4_conv4": 0.5, "block5_conv4": 0.7}
EDGE_TAPS = {"block1_conv2": 0.3, "block2_conv2": 0.3, "block3_conv4": 0.3}
CLEAN_TAPS = {"block2_conv2": 0.5, "block3_conv4": 0.5, "block4_conv2": 1.0}
DETAIL = 4
"""block4_conv2 sees one place per 8 pixels and must draw 4 x 4 points of the clean scene there."""


class Heads(tf.Module):  # type: ignore[misc]
    """One linear map per task and layer; they are thrown away after training."""

    def __init__(self, classes: int, widths: tuple[int, ...] = layout.WIDTHS) -> None:
        super().__init__()
        width = {name: after for name, _, after in layout.layers(widths)}
        self.maps: dict[str, Any] = {}
        for tap in STYLE_TAPS:
            self.add(f"texture {tap}", 2 * width[tap], classes)
            self.add(f"medium {tap}", 2 * width[tap], len(MEDIA))
            self.add(f"palette {tap}", width[tap], 3)
        for tap in THING_TAPS:
            self.add(f"thing {tap}", width[tap], len(THINGS) + 1)
        for tap in EDGE_TAPS:
            self.add(f"edge {tap}", width[tap], 1)
        for tap in CLEAN_TAPS:
            self.add(f"clean {tap}", width[tap], 3 * DETAIL**2 if tap == "block4_conv2" else 3)

    def add(self, name: str, before: int, after: int) -> None:
        """Make one map, zero at first."""
        self.maps[name] = (
            tf.Variable(tf.zeros((before, after)), name=name),
            tf.Variable(tf.zeros(after), name=f"{name} bias"),
        )

    def read(self, name: str, x: Any) -> Any:
        """Apply map ``name`` to the last axis."""
        kernel, bias = self.maps[name]
        return tf.einsum("...i,io->...o", x, kernel) + bias


def averages(x: Any) -> Any:
    """Return (B, 2 C): mean and deviation over the places of (B, h, w, C), standardised.

    What all images share is taken away (over the batch), or the maps would spend the training on
    it: without this, hundreds of steps went by before the first texture was named.
    """
    mean, variance = tf.nn.moments(x, [1, 2])
    stats = tf.concat([mean, tf.sqrt(variance + 1e-3)], -1)
    centre, spread = tf.nn.moments(stats, [0])
    return (stats - centre) * tf.math.rsqrt(spread + 1e-4)


def shrink(x: Any, to: Any) -> Any:
    """Average (B, h, w, C) down to the height of ``to``."""
    step = x.shape[1] // to.shape[1]
    return tf.nn.avg_pool2d(x, step, step, "VALID") if step > 1 else x


def name_loss(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the mean cross entropy with smoothed labels."""
    depth = logits.shape[-1]
    target = tf.one_hot(labels, depth) * (1 - smoothing) + smoothing / depth
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))


def losses(heads: Heads, found: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Return each task's weighted loss, and the texture accuracy, for one batch's features.

    ``parts``: pictures, classes, clean, maps, media, as in ``Batch``; textures come first.
    """
    count = parts["classes"].shape[0]
    total = dict.fromkeys(("texture", "medium", "palette", "thing", "edge", "clean"), 0.0)
    accuracy = 0.0
    for tap, weight in STYLE_TAPS.items():
        stats = averages(found[tap])
        logits = heads.read(f"texture {tap}", stats[:count])
        total["texture"] += 0.5 * weight * name_loss(logits, parts["classes"], 0.1)
        medium = heads.read(f"medium {tap}", stats[count:])
        total["medium"] += 0.2 * weight * name_loss(medium, parts["media"], 0.05)
        colour = heads.read(f"palette {tap}", found[tap])
        total["palette"] += 4.0 * tf.reduce_mean((colour - shrink(parts["pictures"], colour)) ** 2)
        hit = tf.argmax(logits, -1, tf.int32) == parts["classes"]
        accuracy += tf.reduce_mean(tf.cast(hit, tf.float32)) / len(STYLE_TAPS)
    scenes = {tap: x[count:] for tap, x in found.items()}
    add_scene_losses(total, heads, scenes, parts)
    return {**total, "accuracy": accuracy}


def add_scene_losses(
    total: dict[str, Any], heads: Heads, found: dict[str, Any], parts: dict[str, Any]
) -> None:
    """Add the tasks that read every place of a scene."""
    things = tf.one_hot(tf.cast(parts["maps"][..., 0], tf.int32), len(THINGS))
    near, edges = parts["maps"][..., 1:2] / 255, parts["maps"][..., 2:] / 255
    for tap, weight in THING_TAPS.items():
        said = heads.read(f"thing {tap}", found[tap])
        mixed = tf.nn.softmax_cross_entropy_with_logits(shrink(things, said), said[..., :-1])
        distance = (said[..., -1:] - shrink(near, said)) ** 2
        total["thing"] += weight * (tf.reduce_mean(mixed) + 3.0 * tf.reduce_mean(distance))
    for tap, weight in EDGE_TAPS.items():
        said = heads.read(f"edge {tap}", found[tap])
        share = tf.minimum(2.0 * shrink(edges, said), 1.0)
        mixed = tf.nn.sigmoid_cross_entropy_with_logits(share, said)
        total["edge"] += weight * tf.reduce_mean(mixed)
    for tap, weight in CLEAN_TAPS.items():
        said = heads.read(f"clean {tap}", found[tap])
        if tap == "block4_conv2":
            said = tf.nn.depth_to_space(said, DETAIL)
        total["clean"] += 16.0 * weight * tf.reduce_mean((said - shrink(parts["clean"], said)) ** 2)


def as_parts(batch: Any) -> dict[str, Any]:
    """Return a ``Batch`` as the mapping that a compiled step takes."""
    return {name: np.asarray(value) for name, value in vars(batch).items()}
