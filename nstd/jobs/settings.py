"""The settings that users may give, once: sidecar keys, options of ``stylize``, job defaults.

Name, type, bounds and the sentence that explains it stand in ``Settings`` and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from nstd.engine.params import (
    MAX_ITERATIONS,
    MAX_SIZE,
    MAX_WEIGHT,
    MIN_SIZE,
    PRESETS,
    Init,
    Normalization,
    OptimizerName,
    Pooling,
    PrecisionChoice,
    PreserveColor,
    StyleParams,
    preset,
)

PresetName = Literal[
    "draft", "standard", "fine", "tiny", "tutorial-keras", "tutorial-blog", "tutorial-avgpool"
]
Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT)]


class Settings(BaseModel):
    """What a user may say about how a picture is painted; None leaves it to the preset."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    preset: PresetName | None = Field(
        default=None, description="Set of values to start from; every other setting overrides it."
    )
    size: int | None = Field(
        default=None,
        ge=MIN_SIZE,
        le=MAX_SIZE,
        description="Long side of the result in pixels; smaller photographs are enlarged.",
    )
    iterations: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ITERATIONS,
        description="Upper limit of optimizer steps over all pyramid levels.",
    )
    content_weight: Weight | None = Field(
        default=None, description="How much the photograph's shapes count."
    )
    style_weight: Weight | None = Field(
        default=None, description="How much the style's strokes and colours count."
    )
    tv_weight: Weight | None = Field(
        default=None, description="How much smoothness counts (total variation)."
    )
    style_strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="0 keeps every line of the photograph, 1 gives the painter's swirls.",
    )
    style_scale: float | None = Field(
        default=None,
        ge=0.1,
        le=4,
        description="Size of the strokes: long side of the style image relative to the result's.",
    )
    optimizer: OptimizerName | None = Field(default=None, description="What takes the steps.")
    init: Init | None = Field(default=None, description="What the picture starts as.")
    pooling: Pooling | None = Field(
        default=None, description="How the network shrinks its feature maps."
    )
    preserve_color: PreserveColor | None = Field(
        default=None,
        description="Keep the photograph's colours: by luminance, or by matching histograms.",
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, description="Same seed, same picture (on one machine)."
    )
    normalization: Normalization | None = Field(
        default=None,
        description="Form of the losses: relative, or gatys as in the paper and the tutorials.",
    )
    precision: PrecisionChoice | None = Field(
        default=None,
        description="Numbers of the network; auto: bfloat16 where the processor is made for it.",
    )

    def given(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return {name: value for name in SETTING_NAMES if (value := getattr(self, name)) is not None}


SETTING_NAMES = tuple(Settings.model_fields)


@dataclass(frozen=True)
class Setting:
    """One row of the table: all that an option, a message or a manual needs to know."""

    name: str
    kind: type
    """``int``, ``float`` or ``str``."""
    choices: tuple[str, ...]
    """For ``str``: what is allowed."""
    minimum: float | None
    maximum: float | None
    help: str

    @property
    def allowed(self) -> str:
        """Say in words what is allowed."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = "a whole number" if self.kind is int else "a number"
        return f"{kind} from {self.minimum:.15g} to {self.maximum:.15g}"

    @property
    def default(self) -> Any:
        """The value in the preset ``standard``."""
        return getattr(PRESETS["standard"], self.name)


@cache
def table() -> dict[str, Setting]:
    """Return every setting by name, in the order in which manuals list them."""
    return {name: _row(name) for name in SETTING_NAMES}


def _row(name: str) -> Setting:
    field = Settings.model_fields[name]
    bounds: dict[str, float] = {}
    for part in (*field.metadata, *_annotations(field.annotation)):
        bounds |= {key: getattr(part, key) for key in ("ge", "le") if hasattr(part, key)}
    kind = _plain_type(field.annotation)
    choices = tuple(str(choice) for choice in get_args(kind)) if not isinstance(kind, type) else ()
    return Setting(
        name,
        str if choices else kind,
        choices,
        bounds.get("ge"),
        bounds.get("le"),
        field.description or "",
    )


def _plain_type(annotation: Any) -> Any:
    """Strip ``| None`` and ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if len(inner) == 1 and get_origin(annotation) is not Literal:
        return _plain_type(inner[0])
    return annotation


def _annotations(annotation: Any) -> list[Any]:
    """Return the metadata of an ``Annotated`` inside an optional type."""
    parts = [part for part in get_args(annotation) if get_origin(part) is Annotated]
    metadata = [each for part in parts for each in get_args(part)[1:]]
    return [inner for each in metadata for inner in getattr(each, "metadata", [each])]


def resolve(
    given: Mapping[str, Any],
    style: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> StyleParams:
    """Return the parameters: the preset, over it the defaults, the style's settings, the given.

    The preset is the one that the most specific of the three names. A job or a style that names
    one leaves the configured defaults behind: ``preset: draft`` is quick whatever they say.
    """
    style, defaults = style or {}, defaults or {}
    name = given.get("preset") or style.get("preset")
    layers: tuple[Mapping[str, Any], ...] = (style, given)
    if name is None:
        name = defaults.get("preset") or "standard"
        layers = (defaults, style, given)
    values = {key: value for layer in layers for key, value in layer.items() if value is not None}
    base = preset(name)
    if base.squeeze and "size" in values:  # a square of the size asked for
        base = dataclasses.replace(base, squeeze=(values["size"], values["size"]))
    return dataclasses.replace(base, **{**values, "preset": name})
