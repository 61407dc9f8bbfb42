"""Pixels to the bytes of a file: JPEG, PNG, WebP, TIFF, always sRGB, upright, with its profile."""

from __future__ import annotations

import io
from typing import Any, Final

from PIL import Image, PngImagePlugin

from nstd.errors import UnsupportedError
from nstd.photo import metadata as metadata_
from nstd.photo import tiff
from nstd.photo.metadata import Metadata
from nstd.photo.profile import srgb_profile
from nstd.photo.resize import Pixels
from nstd.photo.transparency import flatten

_EXTENSIONS: Final = {"jpg": "jpg", "png": "png", "webp": "webp", "tiff": "tif"}
WRITABLE: Final = tuple(_EXTENSIONS)
"""Formats that a result can have."""
_LONGEST_SIDE: Final = {"jpg": 65_500, "webp": 16_383, "png": 2**31 - 1, "tiff": 2**31 - 1}


def extension(format_: str) -> str:
    """Return the extension, without its dot, of a writable format."""
    return _EXTENSIONS[format_]


def writable_format(format_: str, has_alpha: bool) -> str:
    """Return ``format_`` where it can be written, else JPEG, or PNG where there is alpha."""
    if format_ in _EXTENSIONS:
        return format_
    return "png" if has_alpha else "jpg"


def encode(
    pixels: Pixels,
    *,
    format: str,  # noqa: A002  # the contract's word, in sidecars and reports too
    quality: int = 95,
    alpha: Pixels | None = None,
    metadata: Metadata | None = None,
    keep_gps: bool = False,
    comment: str | None = None,
) -> bytes:
    """Return the bytes of a complete file that shows ``pixels``, (H, W, 3) uint8 sRGB.

    ``alpha`` is (H, W) uint8; in a JPEG, which has none, the picture is laid on white.
    ``quality`` (1 to 100) counts for JPEG and WebP. The same arguments give the same bytes.
    Raises UnsupportedError for a format that cannot be written or cannot hold the size.
    """
    _check(format, pixels)
    kept = metadata_.keep(metadata or metadata_.NOTHING, gps=keep_gps)
    if format == "tiff":
        return tiff.write(pixels, alpha, srgb_profile(), metadata_.write(kept, comment))
    image = Image.fromarray(pixels)
    if alpha is not None:
        mask = Image.fromarray(alpha)
        if format == "jpg":
            image = flatten(image, mask)
        else:
            image.putalpha(mask)
    options = _options(format, quality, kept, comment)
    buffer = io.BytesIO()
    image.save(buffer, _PILLOW[format], icc_profile=srgb_profile(), **options)
    return buffer.getvalue()


_PILLOW: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def _check(format_: str, pixels: Pixels) -> None:
    if format_ not in _EXTENSIONS:
        raise UnsupportedError(
            f"Pictures cannot be written as {format_!r}.", f"Use one of {', '.join(WRITABLE)}."
        )
    longest = _LONGEST_SIDE[format_]
    if max(pixels.shape[:2]) > longest:
        raise UnsupportedError(
            f"A {format_} file has at most {longest} pixels a side, not {max(pixels.shape[:2])}.",
            "Ask for png or a smaller size.",
        )


def _options(format_: str, quality: int, metadata: Metadata, comment: str | None) -> dict[str, Any]:
    described = comment if format_ == "webp" else None
    exif = metadata_.write(metadata, described)
    options: dict[str, Any] = {"exif": exif} if exif else {}
    if format_ == "jpg":
        # 4:4:4, since painted strokes have sharp edges in colour.
        # Not "optimize": Pillow then wants the file in one buffer, which noise overflows.
        options |= {"quality": quality, "subsampling": 0}
        if comment:
            options["comment"] = comment.encode()
    elif format_ == "png":
        options["pnginfo"] = _png_texts(metadata, comment)
    else:
        options |= {"quality": quality, "method": 4}
    return options


def _png_texts(metadata: Metadata, comment: str | None) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for key, text in (
        ("Author", metadata.author),
        ("Copyright", metadata.copyright),
        ("Comment", comment),
    ):
        if text:
            texts.add_text(key, text)
    return texts
