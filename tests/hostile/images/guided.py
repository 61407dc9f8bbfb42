"""Coverage-guided fuzzing of the doors that pictures come through.

``pip install atheris``, then ``python -m tests.hostile.images.guided FOLDER -runs=100000``. The
folder keeps what reaches new code, and is filled with whole pictures first. The walkers that look
at files before any library does are Python, so it is these that the guidance explores.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["nstd.photo"]):
    from nstd.errors import InputError
    from nstd.photo.completeness import completeness
    from nstd.photo.decode import decode
    from tests.hostile.images.fuzz import LIMITS, seeds


def look(data: bytes) -> None:
    """Pass ``data`` through the look at its end and the decode; anything but words is a find."""
    file = os.memfd_create("fuzz")
    try:
        os.write(file, data)
        completeness(file, len(data), "x.jpg")
    finally:
        os.close(file)
    try:
        decode(data, limits=LIMITS, max_side=64)
    except InputError as error:
        if not str(error).isprintable():
            raise


def main() -> None:
    """Fill the corpus folder where it is empty, and run."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        for number, data in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(data)
    atheris.Setup(sys.argv, look)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
