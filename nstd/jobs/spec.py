"""What one job is to do: plain facts that survive JSON, the ledger and a change of version."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from nstd.engine.params import StyleParams
from nstd.jobs.text import shown

INPUT_FOLDER = "input"
STYLE_FOLDER = "style"
_PARAMETERS = frozenset(each.name for each in dataclasses.fields(StyleParams))


@dataclass(frozen=True)
class OutputSpec:
    """The form of the result; None leaves the choice to the content."""

    format: str | None = None
    """``jpg``, ``png``, ``webp`` or ``tiff``."""
    quality: int = 95
    name: str | None = None
    """Stem of the result's file name."""


@dataclass(frozen=True)
class StyleChoice:
    """One style of a job."""

    image: str
    """A library style's name, or the name of a file beside the photograph."""
    weight: float = 1.0
    library: bool = False
    files: tuple[str, ...] = ()
    """Where its images lie, as paths below the job folder; a library style may have several,
    which share the weight. Filled in at admission."""


@dataclass(frozen=True)
class JobSpec:
    """One picture to paint."""

    content: str
    """File name of the photograph, in ``folder``."""
    styles: tuple[StyleChoice, ...]
    mask: str | None = None
    params: StyleParams = field(default_factory=StyleParams)
    priority: int = 0
    output: OutputSpec = field(default_factory=OutputSpec)
    folder: str = ""
    """Sub-path below the inbox, and below the outbox; empty for the root."""
    stem: str = ""
    """Name of the result without extension, unless ``output.name`` gives another."""
    style_name: str | None = None
    """The library style that was asked for, where there is exactly one."""

    @property
    def result_stem(self) -> str:
        """The first choice for the result's name, without extension."""
        return self.output.name or self.stem or self.content.rpartition(".")[0] or self.content

    @property
    def content_file(self) -> str:
        """Path of the photograph below the job folder."""
        return f"{INPUT_FOLDER}/{self.content}"

    @property
    def mask_file(self) -> str | None:
        """Path of the mask below the job folder."""
        return f"{INPUT_FOLDER}/{self.mask}" if self.mask else None

    @property
    def title(self) -> str:
        """What people see: the photograph with its sub-path, safe to print."""
        return shown(f"{self.folder}/{self.content}" if self.folder else self.content)

    @property
    def style_title(self) -> str:
        """What people see of the styles: their names."""
        return ", ".join(shown(choice.image) for choice in self.styles)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; ``from_json`` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> JobSpec:
        """Build from ``to_json``'s output, in which JSON has turned tuples into lists."""
        known = dict(values)
        known["styles"] = tuple(
            StyleChoice(**{**choice, "files": tuple(choice["files"])}) for choice in known["styles"]
        )
        # A row that another version wrote may hold parameters that this one does not have.
        params = {key: value for key, value in known["params"].items() if key in _PARAMETERS}
        known["params"] = StyleParams.from_dict(params)
        known["output"] = OutputSpec(**known["output"])
        return cls(**known)
