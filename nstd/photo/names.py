"""What a file's name says about the kind of picture in it."""

from __future__ import annotations

from typing import Final

from nstd.photo.formats import HEIF_REMEDY, readable

_FORMAT_OF_EXTENSION: Final = {
    ".jpg": "jpg", ".jpeg": "jpg", ".jpe": "jpg", ".jfif": "jpg",
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff", ".tiff": "tiff",
    ".gif": "gif",
    ".heic": "heif", ".heif": "heif", ".hif": "heif",
    ".avif": "avif",
}  # fmt: skip

_RAW_REMEDY: Final = "Develop it in a photo application and export it as JPEG, TIFF or PNG."
_EXPORT_REMEDY: Final = "Export it as JPEG, PNG or TIFF."

_REMEDY_OF_EXTENSION: Final = {
    **dict.fromkeys(
        (
            ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".kdc", ".mef", ".mrw",
            ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
        ),
        _RAW_REMEDY,
    ),
    **dict.fromkeys(
        (".bmp", ".jp2", ".j2k", ".jxl", ".psb", ".psd", ".svg", ".tga", ".xcf"),
        _EXPORT_REMEDY,
    ),
}  # fmt: skip

KNOWN_EXTENSIONS: Final = frozenset(_FORMAT_OF_EXTENSION) | frozenset(_REMEDY_OF_EXTENSION)
"""Extensions (lower case, with the dot) of pictures, whether they can be read here or not."""


def _extension(name: str) -> str:
    """Return the lower-case extension; a leading dot alone makes a hidden file, not one."""
    stem, dot, extension = name.rpartition(".")
    return f".{extension.lower()}" if dot and stem else ""


def is_image_name(name: str) -> bool:
    """Whether ``name`` ends like a picture's name, readable here or not."""
    return _extension(name) in KNOWN_EXTENSIONS


def format_of_name(name: str) -> str | None:
    """Return the format that ``name`` promises (``jpg``, ``png``, ...), or None."""
    return _FORMAT_OF_EXTENSION.get(_extension(name))


def unreadable_remedy(name: str) -> str | None:
    """Return what to do about a known kind of picture that cannot be read here, else None."""
    extension = _extension(name)
    if extension in _REMEDY_OF_EXTENSION:
        return _REMEDY_OF_EXTENSION[extension]
    format_ = _FORMAT_OF_EXTENSION.get(extension)
    if format_ is None or readable(format_):
        return None
    return HEIF_REMEDY if format_ == "heif" else _EXPORT_REMEDY
