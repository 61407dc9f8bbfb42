"""The sidecar: a small file of the user's that names a job's files and settings.

Whatever bytes come in, out comes a ``Sidecar``, None (nobody's sidecar), or a ``SidecarError``
that names the key, the line and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from nstd.engine.params import PRESETS
from nstd.errors import SidecarError
from nstd.jobs.names import refusal
from nstd.jobs.safe_yaml import Document, Path, encoding_of, load
from nstd.jobs.settings import SETTING_NAMES, Settings, table
from nstd.jobs.spec import OutputSpec
from nstd.jobs.text import shown

MAX_STYLES = 8
MAX_PRIORITY = 1000
FORMATS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp", "tiff": "tiff", "tif": "tiff"}
_MAX_NAME_BYTES = 200
_LOOK_BYTES = 256 * 1024
_FORBIDDEN = frozenset('/\\:*?"<>|')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def _bare_name(name: str) -> str:
    """Accept the name of a file in the same folder, and nothing that could lead elsewhere."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise ValueError("a bare file name, without a path")
    if refusal(name) or len(name.encode("utf-8", "replace")) > 255:
        raise ValueError("a file name of at most 255 bytes, without control characters")
    return name


def _output_name(name: str) -> str:
    """Accept a stem that every client of a share can show, without its extension."""
    stem, dot, extension = name.rpartition(".")
    if dot and extension.casefold() in FORMATS:
        name = stem
    if (
        not name.strip(" .")
        or name.startswith(".")
        or name.endswith((" ", "."))
        or _FORBIDDEN & set(name)
        or _RESERVED.fullmatch(name)
        or refusal(name)
        or len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES
    ):
        raise ValueError(
            f"a file name of at most {_MAX_NAME_BYTES} bytes without path, extension, leading dot "
            'or any of : * ? " < > |, and none that Windows keeps to itself, such as CON'
        )
    return name


def _format(value: Any) -> Any:
    return FORMATS.get(value.casefold(), value) if isinstance(value, str) else value


def _style_list(value: Any) -> Any:
    """Bring the three ways to write styles into one: a list of {image, weight}."""
    entries = value if isinstance(value, list) else [value]
    return [{"image": entry} if isinstance(entry, str) else entry for entry in entries]


BareName = Annotated[str, AfterValidator(_bare_name)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SidecarStyle(_Model):
    """One entry of ``style``."""

    image: BareName
    weight: float = Field(default=1.0, gt=0, le=1e6)


class _Output(_Model):
    format: Annotated[Literal["jpg", "png", "webp", "tiff"] | None, BeforeValidator(_format)] = None
    quality: int = Field(default=95, ge=1, le=100)
    name: Annotated[str, AfterValidator(_output_name)] | None = None


class _Schema(Settings):
    content: BareName | None = None
    style: Annotated[
        list[SidecarStyle], BeforeValidator(_style_list), Field(min_length=1, max_length=MAX_STYLES)
    ] = Field(default_factory=list)
    mask: BareName | None = None
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    output: _Output = _Output()


KEYS = ("content", "style", "mask", *SETTING_NAMES, "priority", "output")
_ALLOWED: Mapping[str, str] = {
    "content": "the name of a file beside the sidecar",
    "style": "a library style, a file beside the sidecar, or a list of at most "
    f"{MAX_STYLES} of {{image, weight}}",
    "style.image": "a library style or the name of a file beside the sidecar",
    "style.weight": "a number above 0, at most 1000000",
    "mask": "the name of a file beside the sidecar",
    "priority": f"a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}",
    "output": "{format, quality, name}",
    "output.format": "one of jpg, png, webp, tiff",
    "output.quality": "a whole number from 1 to 100",
    "output.name": "a file name without path and extension",
}
_RECORD = ("report", "outcome")
"""Keys of records that nstd writes."""
_MENTION = re.compile(rf"(?im)(?:^|[\s{{,\"'])({'|'.join(KEYS)})[\"']?\s*:")


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar asks for; what it leaves open is for grouping to fill in."""

    name: str
    content: str | None = None
    styles: tuple[SidecarStyle, ...] = ()
    mask: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that it gives, by name."""
    priority: int = 0
    output: OutputSpec = field(default_factory=OutputSpec)


def parse_sidecar(data: bytes, name: str) -> Sidecar | None:
    """Read a sidecar; None when none of our keys is in it; raises SidecarError, nothing else."""
    text = data[:_LOOK_BYTES].decode(encoding_of(data), "replace")
    if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        raise SidecarError(
            f"'{shown(name)}' is empty.",
            "Write `content: PHOTOGRAPH` and `style: STYLE` into it, or remove it.",
        )
    if not _MENTION.search(text) or _is_foreign_json(text, name):
        return None
    document = load(data, name)
    if not _is_ours(document.value):
        return None
    return _validated(document, name)


def _is_ours(value: Any) -> bool:
    return isinstance(value, dict) and any(key.casefold() in KEYS for key in value)


def _is_foreign_json(text: str, name: str) -> bool:
    """Whether it is JSON that asks for nothing, however long or deep; or a record of our own.

    Records (a picture's report, ``error.json``) share keys with sidecars, and come back into the
    inbox with the photographs that they lie beside.
    """
    if not name.casefold().endswith(".json"):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False  # ``load`` says what is wrong with it
    record = isinstance(value, dict) and "job" in value and not value.keys().isdisjoint(_RECORD)
    return record or not _is_ours(value)


def _validated(document: Document, name: str) -> Sidecar:
    # A key with nothing behind it (`size:`) is left to its default, like a key that is not there.
    given = {key: value for key, value in document.value.items() if value is not None}
    try:
        model = _Schema.model_validate(given)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False)[0], document, name) from error
    return Sidecar(
        name=name,
        content=model.content,
        styles=tuple(model.style),
        mask=model.mask,
        settings=model.given(),
        priority=model.priority,
        output=OutputSpec(**model.output.model_dump()),
    )


def settings_from(data: bytes, name: str) -> dict[str, Any]:
    """Read settings alone, as in a library style's ``style.yaml``; raises SidecarError."""
    document = load(data, name)
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        raise SidecarError(f"'{shown(name)}' holds no settings.", "Write lines like `size: 512`.")
    given = {key: each for key, each in value.items() if each is not None}
    try:
        return Settings.model_validate(given).given()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _explained(first, document, name, tuple(table())) from error


# --- messages --------------------------------------------------------------------------------


def _explained(
    error: ErrorDetails, document: Document, name: str, keys: tuple[str, ...] = KEYS
) -> SidecarError:
    """Turn pydantic's first finding into a sentence with key, line and what is allowed."""
    path = error["loc"]
    line = document.line(_as_written(path, document))
    where = f"'{shown(name)}', line {line}," if line else f"'{shown(name)}'"
    dotted = ".".join(str(part) for part in path if not isinstance(part, int))
    if error["type"] == "extra_forbidden":
        return _unknown_key(str(path[-1]), dotted, where, keys)
    if error["type"] == "missing":
        return SidecarError(f"{where} lacks '{dotted}'.", f"It is {_allowed(dotted)}.")
    value = shown(_short(error["input"]))
    return SidecarError(
        f"{where} gives '{dotted}' a value that it cannot have: {value}.",
        f"Allowed: {_rule(error) or _allowed(dotted)}." + _hint(dotted, error["input"]),
    )


def _as_written(path: Path, document: Document) -> Path:
    """Undo ``_style_list``: a single style stands where the list would."""
    if path[:1] == ("style",) and not isinstance(document.value.get("style"), list):
        return ("style", *path[2:])
    return path


def _unknown_key(key: str, dotted: str, where: str, keys: tuple[str, ...]) -> SidecarError:
    parent = dotted.rpartition(".")[0]
    known = {
        "": keys,
        "output": tuple(_Output.model_fields),
        "style": tuple(SidecarStyle.model_fields),
    }.get(parent, keys)
    near = difflib.get_close_matches(key.casefold()[:100], known, n=1, cutoff=0.6)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    return SidecarError(
        f"{where} has the unknown key '{shown(_short(key, quoted=False))}'.",
        f"{guess}Known keys: {', '.join(known)}.",
    )


def _allowed(dotted: str) -> str:
    rows = table()
    return rows[dotted].allowed if dotted in rows else _ALLOWED.get(dotted, "something else")


def _rule(error: ErrorDetails) -> str:
    """Return the words of a validator of ours; empty for pydantic's own findings."""
    return str(error["ctx"]["error"]) if error["type"] == "value_error" else ""


def _hint(dotted: str, value: Any) -> str:
    row = table().get(dotted)
    choices = tuple(PRESETS) if dotted == "preset" else row.choices if row else ()
    if not choices or not isinstance(value, str):
        return ""
    near = difflib.get_close_matches(value.casefold()[:100], choices, n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _short(value: Any, *, quoted: bool = True) -> str:
    text = repr(value) if quoted or not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "..."
