"""The styles that `nstd stylize` is given: files, or names of the style library."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nstd.errors import InputError
from nstd.jobs.inputs import LibraryStyle
from nstd.jobs.library import find_style, scan_library
from nstd.jobs.text import shown
from nstd.workers.task import Source


@dataclass(frozen=True)
class Styles:
    """What to paint in: the images, and what a library style says of itself."""

    sources: tuple[Source, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def find(names: Sequence[Path], shares: Sequence[float], library: Path) -> Styles:
    """Return the images of ``names``, whose shares are given; a file goes before a style's name.

    As for the daemon's jobs, the images of one library style divide its share, and its settings
    count where it is the only style. Raises InputError for what is neither.
    """
    found = [_find(name, library) for name in names]
    sources = tuple(
        source
        for entry, name, share in zip(found, names, shares, strict=True)
        for source in _sources(entry, name, share)
    )
    only = found[0] if len(found) == 1 else None
    return Styles(sources, only.settings if only else {})


def _find(name: Path, library: Path) -> LibraryStyle | None:
    """Return the library style of that name; None where it is a file."""
    if name.exists() and not name.is_dir():
        return None
    styles = scan_library(str(library)) if name.name == str(name) else {}
    style = find_style(str(name), styles)
    if style is None and name.is_dir():
        raise InputError(f"'{shown(str(name))}' is a folder.", "Name a picture in it.")
    if style is None:
        raise _unknown(name, library, styles)
    if style.problem:
        raise InputError(
            f"The style '{shown(style.name)}' cannot be used: {style.problem}.",
            "Mend it in the library, or name a picture.",
        )
    return style


def _sources(style: LibraryStyle | None, name: Path, share: float) -> list[Source]:
    if style is None:
        return [Source(str(name), "style", weight=share)]
    part = share / len(style.images)
    return [
        Source(path, "style", name=f"{style.name}/{Path(path).name}", weight=part)
        for path in style.images
    ]


def _unknown(name: Path, library: Path, styles: Mapping[str, LibraryStyle]) -> InputError:
    if not styles:
        return InputError(f"There is no file '{shown(str(name))}'.", "Check its name.")
    near = difflib.get_close_matches(str(name), styles, n=1)
    hint = f"Did you mean {shown(near[0])}?" if near else f"There are: {', '.join(styles)}."
    return InputError(
        f"'{shown(str(name))}' is neither a file nor a style in {shown(str(library))}.", hint
    )
