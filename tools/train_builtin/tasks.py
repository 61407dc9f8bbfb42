"""What the features are taught: to tell textures and painters apart, and to see through the paint.

Each task reads a layer through one linear map, so the layer itself has to be good. Tasks that
read averages (which texture? which painter?) teach what a style is; tasks that read every place
(which thing? how near? where is an edge? what did it look like unpainted? where in the photograph
is this?) teach content.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tools.train_builtin import layout
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
EDGE_TAPS = {"block2_conv2": 0.4, "block3_conv4": 0.4}
CLEAN_TAPS = {"block2_conv2": 0.5, "block3_conv4": 0.5, "block4_conv2": 1.0}
PLACE_TAPS = {"block4_conv2": 0.3, "block5_conv4": 0.3}
DETAIL = 4
"""block4_conv2 sees one place per 8 pixels and must draw 4 x 4 points of the clean scene there."""
PLACE_WIDTH = 48
TEMPERATURE = 0.1


class Heads(tf.Module):  # type: ignore[misc]
    """One linear map per task and layer; they are thrown away after training."""

    def __init__(
        self, classes: int, painters: int, widths: tuple[int, ...] = layout.WIDTHS
    ) -> None:
        super().__init__()
        width = {name: after for name, _, after in layout.layers(widths)}
        self.maps: dict[str, Any] = {}
        for tap in STYLE_TAPS:
            self.add(f"texture {tap}", 2 * width[tap], classes)
            self.add(f"painter {tap}", 2 * width[tap], painters)
        for tap in THING_TAPS:
            self.add(f"thing {tap}", width[tap], len(THINGS) + 1)
        for tap in EDGE_TAPS:
            self.add(f"edge {tap}", width[tap], 1)
        for tap in CLEAN_TAPS:
            self.add(f"clean {tap}", width[tap], 3 * DETAIL**2 if tap == "block4_conv2" else 3)
        for tap in PLACE_TAPS:
            self.add(f"place {tap}", width[tap], PLACE_WIDTH, spread=width[tap] ** -0.5)

    def add(self, name: str, before: int, after: int, spread: float = 0.0) -> None:
        """Make one map, zero at first (random where two of its results are compared)."""
        self.maps[name] = (
            tf.Variable(spread * tf.random.normal((before, after)), name=name),
            tf.Variable(tf.zeros(after), name=f"{name} bias"),
        )

    def read(self, name: str, x: Any) -> Any:
        """Apply map ``name`` to the last axis."""
        kernel, bias = self.maps[name]
        # one flat product: einsum's gradient took three fifths of a whole training step
        flat = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel) + bias
        return tf.reshape(flat, (*x.shape[:-1], kernel.shape[1]))


def averages(x: Any) -> Any:
    """Return (B, 2 C): mean and deviation over the places of (B, h, w, C), standardised.

    What all images share is taken away (over the batch), or the maps would spend the training on
    it: without this, hundreds of steps went by before the first texture was named.
    """
    mean = tf.nn.avg_pool2d(x, x.shape[1], 1, "VALID")[:, 0, 0]
    square = tf.nn.avg_pool2d(x * x, x.shape[1], 1, "VALID")[:, 0, 0]
    stats = tf.concat([mean, tf.sqrt(tf.nn.relu(square - mean * mean) + 1e-3)], -1)
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

    ``parts``: what ``batches.cut`` gives: textures, scenes as painted, the same scenes clean.
    """
    count, scenes = parts["classes"].shape[0], parts["painters"].shape[0]
    total = dict.fromkeys(("texture", "painter", "thing", "edge", "clean", "place"), 0.0)
    accuracy = 0.0
    painted, clean = {}, {}
    for tap in dict.fromkeys((*STYLE_TAPS, *THING_TAPS, *EDGE_TAPS, *CLEAN_TAPS, *PLACE_TAPS)):
        # not by slicing, whose gradient pads each piece to the whole
        textures, painted[tap], clean[tap] = (
            tf.cast(x, tf.float32) for x in tf.split(found[tap], [count, scenes, scenes])
        )
        if tap not in STYLE_TAPS:
            continue
        weight = STYLE_TAPS[tap]
        stats = averages(tf.concat([textures, painted[tap]], 0))
        textures, scenery = tf.split(stats, [count, scenes])
        logits = heads.read(f"texture {tap}", textures)
        total["texture"] += 0.5 * weight * name_loss(logits, parts["classes"], 0.1)
        painter = heads.read(f"painter {tap}", scenery)
        total["painter"] += 0.3 * weight * name_loss(painter, parts["painters"], 0.1)
        hit = tf.argmax(logits, -1, tf.int32) == parts["classes"]
        accuracy += tf.reduce_mean(tf.cast(hit, tf.float32)) / len(STYLE_TAPS)
    add_scene_losses(total, heads, painted, parts["maps"], parts["pictures"][count + scenes :])
    for tap, weight in PLACE_TAPS.items():
        total["place"] += weight * place_loss(
            *(heads.read(f"place {tap}", x[tap]) for x in (painted, clean))
        )
    return {**total, "accuracy": accuracy}


def place_loss(painted: Any, clean: Any) -> Any:
    """Return how badly each place of a painting finds itself in its photograph.

    Contrastive (van den Oord et al. 2018), among all places of the same scene: features that know
    what stands there, and not how it is painted, find it.
    """
    count, width = painted.shape[1] * painted.shape[2], painted.shape[3]
    one, other = (
        tf.math.l2_normalize(tf.reshape(x, (-1, count, width)), -1) for x in (painted, clean)
    )
    logits = tf.matmul(one, other, transpose_b=True) / TEMPERATURE  # (scenes, count, count)
    right = tf.broadcast_to(tf.range(count), tf.shape(logits)[:2])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(right, logits))


def add_scene_losses(
    total: dict[str, Any], heads: Heads, found: dict[str, Any], maps: Any, clean: Any
) -> None:
    """Add the tasks that read every place of a painted scene."""
    things = tf.one_hot(tf.cast(maps[..., 0] + 0.5, tf.int32), len(THINGS))
    near, edges = maps[..., 1:2] / 255, maps[..., 2:] / 255
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
        total["clean"] += 16.0 * weight * tf.reduce_mean((said - shrink(clean, said)) ** 2)
