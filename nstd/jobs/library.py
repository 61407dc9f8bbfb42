"""The style library: what lies in ``styles/``, and what each entry is good for.

``starry-night.jpg`` is a style; so is ``starry-night/`` with several images and an optional
``style.yaml`` of settings. Nothing is followed that is a link, and nothing is decoded here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from nstd.errors import NstdError
from nstd.jobs.inputs import LibraryStyle
from nstd.jobs.names import classify, is_sidecar_name, refusal
from nstd.jobs.publish import CHUNK, guard
from nstd.jobs.sidecar import settings_from
from nstd.jobs.text import folded, shown
from nstd.photo.names import is_image_name, unreadable_remedy

MAX_STYLES = 1000
MAX_IMAGES = 16
SETTINGS_NAMES = ("style.yaml", "style.yml", "style.json")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def scan_library(styles_dir: str) -> dict[str, LibraryStyle]:
    """Return every style by name, usable or not; an absent folder is an empty library.

    Raises StorageError when the folder itself cannot be read.
    """
    try:
        with guard(styles_dir):
            names = sorted(os.listdir(styles_dir))
    except NstdError:
        if not os.path.lexists(styles_dir):
            return {}
        raise
    library: dict[str, LibraryStyle] = {}
    seen: dict[str, str] = {}
    for style in _styles(styles_dir, names):
        if len(library) >= MAX_STYLES:
            break
        twin = seen.setdefault(folded(style.name), style.name)
        if style.name in library or twin != style.name:
            library[style.name] = _with_problem(style, f"there is more than one '{shown(twin)}'")
        else:
            library[style.name] = style
    return library


def find_style(name: str, library: Mapping[str, LibraryStyle]) -> LibraryStyle | None:
    """Return the style of that name, as a case-insensitive client would find it."""
    if name in library:
        return library[name]
    key = folded(name)
    return next((style for each, style in library.items() if folded(each) == key), None)


def _styles(root: str, names: list[str]) -> Iterator[LibraryStyle]:
    for name in names:
        path = os.path.join(root, name)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue  # gone between the two calls
        is_dir = stat.S_ISDIR(mode)
        if classify(name, is_dir=is_dir) != "ok" or is_sidecar_name(name) or refusal(name):
            continue
        if is_dir:
            yield _folder_style(path, name)
        elif stat.S_ISREG(mode):
            yield _checked(LibraryStyle(name.rpartition(".")[0], (path,)))


def _folder_style(path: str, name: str) -> LibraryStyle:
    try:
        entries = sorted(os.listdir(path))
        images = tuple(os.path.join(path, entry) for entry in entries if _is_usable(path, entry))
        settings = _settings(path, entries)
    except NstdError as error:
        return _with_problem(LibraryStyle(name, ()), str(error))
    except OSError as error:
        return LibraryStyle(name, (), problem=f"its folder cannot be read ({error.strerror})")
    return _checked(LibraryStyle(name, images[:MAX_IMAGES], settings))


def _is_usable(folder: str, name: str) -> bool:
    if classify(name, is_dir=False) != "ok" or not is_image_name(name) or refusal(name):
        return False
    return stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode)


def _settings(folder: str, entries: list[str]) -> dict[str, Any]:
    for name in SETTINGS_NAMES:
        if name in entries:
            descriptor = os.open(os.path.join(folder, name), _FLAGS)
            with open(descriptor, "rb") as file:
                return settings_from(file.read(CHUNK), f"{os.path.basename(folder)}/{name}")
    return {}


def _checked(style: LibraryStyle) -> LibraryStyle:
    if not style.images:
        return _with_problem(style, "there is no image in its folder")
    for path in style.images:
        remedy = unreadable_remedy(os.path.basename(path))
        if remedy:
            name = shown(os.path.basename(path))
            return _with_problem(style, f"{name} is of a kind that cannot be read: {remedy}")
    return style


def _with_problem(style: LibraryStyle, problem: str) -> LibraryStyle:
    return LibraryStyle(style.name, style.images, style.settings, problem.rstrip("."))
