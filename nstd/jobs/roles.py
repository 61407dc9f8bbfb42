"""What a file's name says about its part in a job: ``beach.content.jpg``, ``beach_style2.png``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from nstd.jobs.names import SIDECAR_EXTENSIONS
from nstd.jobs.text import folded
from nstd.photo.names import is_image_name

Kind = Literal["photo", "content", "style", "mask", "sidecar"]

_PART = re.compile(
    r"(?P<stem>.+)[._-](?P<kind>content|style|mask)(?P<number>[0-9]{0,3})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Part:
    """A name taken apart."""

    kind: Kind
    stem: str
    """What the files of one job have in common, and the result's name."""
    number: int = 1
    """Of a style: ``beach.style2.jpg`` is the second."""
    key: str = field(init=False)
    """The stem as case-insensitive clients see it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", folded(self.stem))


def part_of(name: str) -> Part:
    """Take a name apart; ``photo`` where it names no part of a pair."""
    lower = name.casefold()
    if lower.endswith(SIDECAR_EXTENSIONS):
        return Part("sidecar", _without_image_extension(name.rpartition(".")[0]))
    stem = name.rpartition(".")[0]
    match = _PART.fullmatch(stem)
    if match is None:
        return Part("photo", stem)
    kind, number = match["kind"].casefold(), match["number"]
    if number and kind != "style":
        return Part("photo", stem)
    kinds: dict[str, Kind] = {"content": "content", "style": "style", "mask": "mask"}
    return Part(kinds[kind], match["stem"], int(number or 1))


def _without_image_extension(stem: str) -> str:
    """Return the photograph's stem for ``beach.jpg.yaml``, too."""
    return stem.rpartition(".")[0] if is_image_name(stem) else stem
