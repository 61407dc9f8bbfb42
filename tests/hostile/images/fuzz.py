"""Mutated pictures from a seed: what decoding must survive, thousands of times.

``python -m tests.hostile.images.fuzz COUNT SEED`` runs many and prints what was found.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from nstd.errors import InputError
from nstd.photo.decode import decode
from nstd.photo.formats import readable
from nstd.photo.limits import Limits
from tests.photo.make import RAMP_8, RAMP_16, exif_of, noise, png_16, profile, saved, scene, tiff

LIMITS = Limits(max_pixels=4_000_000, max_side=8192)
"""Small, since most mutated sizes are enormous, and refusing them is another test."""

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


@cache
def seeds() -> tuple[bytes, ...]:
    """Return small whole pictures of every kind that is read here."""
    image = Image.fromarray(scene(24, 32))
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(RAMP_8[:24, :32]))
    second = Image.fromarray(noise(24, 32))
    exif, icc = exif_of(Orientation=6, Artist="Zoë".encode()), profile("swapped")
    found = [
        saved(image, "JPEG", exif=exif, icc_profile=icc, comment=b"beach"),
        saved(image, "JPEG", progressive=True, subsampling=2),
        saved(image.convert("CMYK"), "JPEG"),
        saved(image.convert("L"), "JPEG", restart_marker_blocks=2),
        saved(image, "MPO", save_all=True, append_images=[second]),
        saved(image, "PNG", exif=exif, icc_profile=icc),
        saved(clear, "PNG", save_all=True, append_images=[second.convert("RGBA")]),
        saved(image.quantize(8), "PNG", transparency=2),
        png_16(RAMP_16[:24, :32]),
        saved(image, "WEBP", exif=exif, icc_profile=icc),
        saved(clear, "WEBP", lossless=True),
        saved(image, "WEBP", save_all=True, append_images=[second]),
        saved(image.quantize(8), "GIF", transparency=1),
        saved(image, "GIF", save_all=True, append_images=[second]),
        saved(image, "TIFF", exif=exif, icc_profile=icc),
        saved(image, "TIFF", compression="tiff_lzw"),
        saved(image, "TIFF", compression="jpeg"),
        saved(image.convert("1"), "TIFF", compression="group4"),
        saved(clear, "TIFF", compression="tiff_adobe_deflate", big_tiff=True),
        tiff(RAMP_16[:24, :32], order=">"),
        tiff(np.dstack([RAMP_16[:24, :32]] * 3)),
    ]
    if readable("avif"):
        found.append(saved(clear, "AVIF", exif=exif))
    if readable("heif"):
        found.append(saved(image, "HEIF", exif=exif))
    return tuple(found)


def mutated(rng: random.Random) -> bytes:
    """Return one of the seeds with a few things wrong."""
    data = bytearray(rng.choice(seeds()))
    # Most of what can go wrong stands in the header.
    reach = len(data) if rng.random() < 0.4 else min(len(data), 400)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(max(1, min(reach, len(data))))
        _MUTATIONS[rng.randrange(len(_MUTATIONS))](data, at, rng)
        if not data:
            break
    return bytes(data)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _set(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.randrange(256)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
    data[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))


def _cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def _hollow(data: bytearray, at: int, rng: random.Random) -> None:
    count = min(len(data) - at, rng.choice((4, 64, 5000)))
    data[at : at + count] = bytes(count)


def _drop(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randrange(1, 40)]


def _repeat(data: bytearray, at: int, rng: random.Random) -> None:
    piece = bytes(data[at : at + rng.randrange(1, 200)])
    data[at:at] = piece * rng.randrange(1, 5)


def _splice(data: bytearray, at: int, rng: random.Random) -> None:
    other = rng.choice(seeds())
    start = rng.randrange(len(other))
    data[at:] = other[start:]


_MUTATIONS = (_flip, _set, _set, _number, _number, _cut, _hollow, _drop, _repeat, _splice)


@dataclass
class Finding:
    """One file that ended other than it may."""

    number: int
    data: bytes
    what: str


def run(count: int, seed: int) -> Iterator[tuple[str, float, Finding | None]]:
    """Decode ``count`` mutated files; yield how each ended, its seconds, and what is wrong."""
    rng = random.Random(seed)
    for number in range(count):
        data = mutated(rng)
        started = time.monotonic()
        ended, finding = _ending(number, data)
        yield ended, time.monotonic() - started, finding


def _ending(number: int, data: bytes) -> tuple[str, Finding | None]:
    try:
        photo = decode(data, limits=LIMITS, max_side=64)
    except InputError as error:
        sentence = str(error)
        if sentence.isprintable() and error.remedy and len(sentence) < 300:
            return type(error).__name__, None
        return "odd sentence", Finding(number, data, sentence)
    except Exception as error:  # noqa: BLE001  # the finding that is looked for
        return type(error).__name__, Finding(number, data, repr(error))
    if photo.pixels.ndim == 3 and photo.pixels.dtype == np.uint8 and photo.pixels.size:
        return "decoded", None
    return "odd photo", Finding(number, data, str(photo.pixels.shape))


def main() -> int:
    """Run as many as asked for and say what was found; findings are written beside."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    endings: Counter[str] = Counter()
    slowest, findings = 0.0, 0
    for ended, seconds, finding in run(count, seed):
        endings[ended] += 1
        slowest = max(slowest, seconds)
        if finding:
            findings += 1
            Path(f"finding-{seed}-{finding.number}.bin").write_bytes(finding.data)
            print(finding.number, finding.what)  # noqa: T201
    print(f"{count} files, slowest {slowest:.2f} s, {findings} findings:", dict(endings))  # noqa: T201
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
