"""Write ``config.example.yaml`` from the settings, so that neither can forget a key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from nstd.service.config import Config
from nstd.service.settings import Section

WIDTH = 96
HEAD = """\
The configuration of nstd: every setting with its default value.
Copy what you change to /etc/nstd/nstd.yaml; what you leave out keeps its default.
`nstd check --config FILE` says whether a file is right; SIGHUP makes a running daemon read it anew.
"""


def example() -> str:
    """Return the example file: loading it gives exactly the defaults."""
    lines = [*_comment(HEAD, "")]
    for name, field in Config.model_fields.items():
        lines += ["", *_section(name, field)]
    return "\n".join(lines) + "\n"


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    model = field.annotation
    if not (isinstance(model, type) and issubclass(model, Section)):
        raise TypeError(name)
    yield from _comment(model.title, "")
    yield f"{name}:"
    for key, setting in model.model_fields.items():
        yield from _comment(_sentence(setting), "  ")
        yield f"  {key}: {_plain(setting.default)}"


def _sentence(field: FieldInfo) -> str:
    choices = ", ".join(_choices(field.annotation))
    return f"{field.description} {f'({choices})' if choices else _bounds(field)}".strip()


def _choices(annotation: Any) -> list[str]:
    """Return the words that a setting takes, where it takes nothing but words."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return [str(part) for part in parts]
    return _choices(parts[0]) if len(parts) == 1 else []


def _bounds(field: FieldInfo) -> str:
    found = {type(item).__name__: item for item in field.metadata}
    low = f"from {_number(found['Ge'].ge)}" if "Ge" in found else ""
    if "Gt" in found:
        low = f"above {_number(found['Gt'].gt)}"
    high = f"up to {_number(found['Le'].le)}" if "Le" in found else ""
    bounds = " ".join(part for part in (low, high) if part)
    return f"({bounds})" if bounds else ""


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for paragraph in text.strip().splitlines():
        for line in textwrap.wrap(paragraph, WIDTH - len(indent)):
            yield f"{indent}# {line}"


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
