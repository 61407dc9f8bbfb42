"""What the optimizer minimizes at one pyramid level: loss and gradient of images (B, H, W, 3).

The objective holds only what is the same for every picture of a preset (the network, the kind of
losses); targets are arguments. So one traced graph serves every style, photograph and size: a new
job pays for no compilation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from nstd.engine import losses

if TYPE_CHECKING:
    from nstd.engine.params import StyleParams
    from nstd.engine.vgg import FeatureExtractor


class Targets(NamedTuple):
    """What a level's image is compared with; a pytree of tensors."""

    content: dict[str, tf.Tensor]
    """Layer -> (B, h, w, C)."""
    style: dict[str, tuple[losses.Moments, ...]]
    """Layer -> one Moments a region."""
    shares: dict[str, tuple[tf.Tensor, ...]]
    """Layer -> one (B, h, w, 1) mask a region; empty: a single region, everywhere."""
    weights: dict[str, tf.Tensor]
    """``content``, ``style``, ``tv``, ``range`` and ``style.<layer>``: (B,) each."""

    @property
    def regions(self) -> tuple[int, bool]:
        """How many regions there are, and whether masks say where: what a graph is traced for."""
        return max(map(len, self.style.values())), bool(self.shares)


class Terms(NamedTuple):
    """The objective's weighted terms, (B,) each."""

    total: tf.Tensor
    content: tf.Tensor
    style: tf.Tensor
    tv: tf.Tensor


def weights_of(params: StyleParams) -> dict[str, tf.Tensor]:
    """Return the ``Targets.weights`` that ``params`` ask for, of one image: (1,) each."""
    scalars = {
        "content": params.content_weight,
        "style": params.style_weight,
        "tv": params.tv_weight,
        "range": params.range_weight,
        **{f"style.{layer}": weight for layer, weight in params.layer_weights()},
        **{f"content.{layer}": weight for layer, weight in params.content_layers},
    }
    return {name: tf.constant([value], tf.float32) for name, value in scalars.items()}


class Objective:
    """Loss and gradient of one preset's kind of objective."""

    tile = 0
    """In one piece, as a ``Reader``'s tile says it."""

    def __init__(self, extractor: FeatureExtractor, params: StyleParams) -> None:
        self.extractor = extractor
        self.content_layers = tuple(layer for layer, _ in params.content_layers)
        self.style_layers = tuple(layer for layer, _ in params.layer_weights())
        self.statistic = params.statistic
        self.normalization = params.normalization
        # A graph, as the steps are: it rounds where they do, so that a picture that is the
        # photograph has no content loss in bfloat16, either.
        self._read = tf.function(extractor, input_signature=[_ONE_IMAGE], autograph=False)

    def style_term(self, got: dict[str, tuple[losses.Moments, ...]], targets: Targets) -> tf.Tensor:
        """Return the weighted style loss of measured moments, (B,)."""
        total: tf.Tensor = 0.0
        for layer in self.style_layers:
            regions = targets.style[layer]
            parts = [
                losses.style_loss(mine, target, self.statistic, self.normalization)
                * _area(targets, layer, i)
                for i, (mine, target) in enumerate(zip(got[layer], regions, strict=True))
            ]
            total += targets.weights[f"style.{layer}"] * tf.add_n(parts)
        return targets.weights["style"] * total

    def content_term(self, features: dict[str, tf.Tensor], targets: Targets) -> tf.Tensor:
        """Return the weighted content loss of feature maps, (B,)."""
        parts = [
            targets.weights[f"content.{layer}"]
            * losses.content_loss(features[layer], targets.content[layer], self.normalization)
            for layer in self.content_layers
        ]
        return targets.weights["content"] * tf.add_n(parts)

    def moments(
        self, features: dict[str, tf.Tensor], targets: Targets
    ) -> dict[str, tuple[losses.Moments, ...]]:
        """Return each style layer's moments, one a region."""
        return {
            layer: tuple(
                losses.moments(features[layer], share)
                for share in (targets.shares.get(layer) or (None,))
            )
            for layer in self.style_layers
        }

    def content_features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the content layers' maps of (1, H, W, 3)."""
        features = self._read(image)
        return {layer: features[layer] for layer in self.content_layers}

    def style_moments(self, image: tf.Tensor) -> dict[str, losses.Moments]:
        """Return the style layers' moments of (1, H, W, 3)."""
        features = self._read(image)
        return {layer: losses.moments(features[layer]) for layer in self.style_layers}

    def pixel_terms(self, images: tf.Tensor, targets: Targets) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the weighted total variation and range losses, (B,) each."""
        clipped = tf.clip_by_value(images, 0.0, 1.0)
        tv = targets.weights["tv"] * losses.tv_loss(clipped)
        return tv, targets.weights["range"] * losses.range_loss(images)

    def terms(self, images: tf.Tensor, targets: Targets) -> Terms:
        """Return the weighted terms of ``images`` (B, H, W, 3), clipped to [0, 1] here."""
        features = self.extractor(tf.clip_by_value(images, 0.0, 1.0))
        content = self.content_term(features, targets)
        style = self.style_term(self.moments(features, targets), targets)
        tv, out_of_range = self.pixel_terms(images, targets)
        return Terms(content + style + tv + out_of_range, content, style, tv)

    def __call__(self, images: tf.Tensor, targets: Targets) -> tuple[Terms, tf.Tensor]:
        """Return the terms (B,) and the gradient of each image's total (B, H, W, 3)."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            terms = self.terms(images, targets)
        return terms, tape.gradient(terms.total, images)


_ONE_IMAGE = tf.TensorSpec((1, None, None, 3))


def _area(targets: Targets, layer: str, region: int) -> tf.Tensor | float:
    """Return a region's share of the picture, (B,): small regions must not outvote large ones."""
    shares = targets.shares.get(layer)
    return tf.reduce_mean(shares[region], (1, 2, 3)) if shares else 1.0
