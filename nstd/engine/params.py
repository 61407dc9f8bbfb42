"""Everything that decides how a picture looks: parameters and presets (no TensorFlow here)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nstd.errors import UsageError

OptimizerName = Literal["lbfgs", "adam"]
Init = Literal["content", "style", "noise"]
Pooling = Literal["max", "avg"]
PreserveColor = Literal["none", "luminance", "histogram"]
Normalization = Literal["relative", "gatys"]
Statistic = Literal["gram", "moments", "wasserstein"]
Keep = Literal["last", "best", "average"]
Edge = Literal["zero", "first", "replicate"]
Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
LayerWeights = tuple[tuple[str, float], ...]

MIN_SIZE, MAX_SIZE = 32, 8192
MAX_ITERATIONS = 20_000
MAX_WEIGHT = 1e9

CONTENT_LAYERS: LayerWeights = (("block4_conv2", 1.0),)
STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")


@dataclass(frozen=True)
class StyleParams:
    """How one picture is painted. Images are (H, W, 3) RGB in [0, 1]; weights have no unit."""

    preset: str = "standard"
    size: int = 512
    """Long side of the result in pixels."""
    iterations: int = 260
    """Upper limit of optimizer steps over all pyramid levels."""
    content_weight: float = 2.25
    style_weight: float = 20.0
    tv_weight: float = 20.0
    range_weight: float = 30.0
    """Weight of the mean squared distance to [0, 1]; only where the objective clips."""
    content_layers: LayerWeights = CONTENT_LAYERS
    style_layers: LayerWeights = ()
    """Explicit layer weights; empty: ``style_strength`` decides."""
    style_strength: float = 0.0
    """0 keeps every line (256:64:16:4:1 over the blocks), 1 gives the painter's swirls (equal)."""
    style_scale: float = 1.0
    """Size of the style image relative to the picture's long side."""
    statistic: Statistic = "moments"
    normalization: Normalization = "relative"
    optimizer: OptimizerName = "lbfgs"
    learning_rate: float = 0.02
    """Adam's step, as a share of the pixel range."""
    beta1: float = 0.99
    beta2: float = 0.999
    epsilon: float = 1e-8
    init: Init = "content"
    recolour: bool = True
    """Where it starts from the content: in the style's colours, or (tutorials) as it is."""
    pooling: Pooling = "max"
    edge: Edge = "replicate"
    """Padding of the convolutions: zero, replicate, or replicate in the first one only."""
    bleed: float = 0.016
    """Border that is painted and trimmed again, as a share of the long side; 0: none."""
    preserve_color: PreserveColor = "none"
    precision: PrecisionChoice = "auto"
    """Of the convolutions; auto: bfloat16 where the processor has matrix units for it."""
    seed: int = 0
    pyramid_min: int = 128
    """Long side of the coarsest level; equal to or above ``size``: a single level."""
    coarse_growth: float = 1.25
    """Steps of a level relative to the next finer one: coarse steps are cheap."""
    history: int = 10
    """Pairs that L-BFGS remembers (fewer where memory is short)."""
    average: float = 0.0
    """Decay of the iterates' moving average; 0 switches it off."""
    keep: Keep = "last"
    plateau: float = 0.0
    """A level ends when its loss falls by less than this share in ten steps; 0: never."""
    squeeze: tuple[int, int] | None = None
    """(height, width) to force both images to, as one tutorial does."""

    def layer_weights(self) -> LayerWeights:
        """Return the style layers with weights that sum to one."""
        if self.style_layers:
            layers = self.style_layers
        else:
            base = 4.0 ** (1.0 - self.style_strength)
            layers = tuple((name, base ** (4 - i)) for i, name in enumerate(STYLE_LAYERS))
        total = math.fsum(weight for _, weight in layers)
        return tuple((name, weight / total) for name, weight in layers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``from_dict`` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StyleParams:
        """Build from ``to_dict``'s output, in which JSON has turned tuples into lists."""
        known = dict(values)
        for name in ("content_layers", "style_layers"):
            if name in known:
                known[name] = tuple((str(layer), float(w)) for layer, w in known[name])
        if known.get("squeeze") is not None:
            height, width = known["squeeze"]
            known["squeeze"] = (int(height), int(width))
        return cls(**known)


def suited(params: StyleParams, use: Mapping[str, Any]) -> StyleParams:
    """Return ``params`` as a features' card asks for: content layers, what tv and strength mean.

    What works with VGG19 trained on photographs need not with other features. The settings keep
    their meaning: ``tv_weight`` is multiplied, and ``style_strength`` starts from the card's and
    still ends at 1. Formulas of the paper, and layers that were chosen, stay as they are.
    """
    if not use or params.normalization != "relative" or params.content_layers != CONTENT_LAYERS:
        return params
    layers = tuple((str(layer), float(weight)) for layer, weight in use["content_layers"])
    least = float(use["style_strength"])
    return dataclasses.replace(
        params,
        content_layers=layers,
        tv_weight=params.tv_weight * float(use["tv_share"]),
        style_strength=least + (1.0 - least) * params.style_strength,
    )


def adapted(asked: StyleParams, used: StyleParams) -> dict[str, Any]:
    """Return what ran with another value than was asked for: by the features, by what fits here."""
    before = asked.to_dict()
    return {name: value for name, value in used.to_dict().items() if value != before[name]}


_TUTORIAL = StyleParams(
    preset="tutorial-keras",
    iterations=1000,
    content_weight=1e3,
    style_weight=1e-2,
    tv_weight=0.0,
    range_weight=0.0,
    content_layers=(("block5_conv2", 1.0),),
    style_layers=tuple((name, 1.0) for name in STYLE_LAYERS),
    statistic="gram",
    normalization="gatys",
    optimizer="adam",
    learning_rate=5.0 / 255.0,
    beta1=0.99,
    beta2=0.999,
    epsilon=25.5,  # 0.1 on the source's 0..255 gradients
    edge="zero",
    recolour=False,
    bleed=0.0,
    precision="float32",
    pyramid_min=MAX_SIZE,
    keep="best",
)

PRESETS: dict[str, StyleParams] = {
    "draft": StyleParams(preset="draft", size=256, iterations=60),
    "standard": StyleParams(preset="standard"),
    "fine": StyleParams(preset="fine", size=1024, iterations=450),
    "tiny": StyleParams(preset="tiny", size=48, iterations=4, pyramid_min=32, bleed=0.0),
    "tutorial-keras": _TUTORIAL,
    "tutorial-blog": dataclasses.replace(
        _TUTORIAL,
        preset="tutorial-blog",
        size=224,
        squeeze=(224, 224),
        content_layers=(("block5_pool", 1.0),),
        style_layers=(("block5_pool", 1.0),),
    ),
    "tutorial-avgpool": dataclasses.replace(
        _TUTORIAL, preset="tutorial-avgpool", pooling="avg", init="noise"
    ),
}


def preset(name: str) -> StyleParams:
    """Return the preset called ``name``; UsageError lists the names when there is none."""
    try:
        return PRESETS[name]
    except KeyError:
        names = ", ".join(PRESETS)
        raise UsageError(f"There is no preset {name!r}.", f"Take one of: {names}.") from None
