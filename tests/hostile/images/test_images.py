"""No picture, however made, takes more than its memory and time, or ends other than in words."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nstd.errors import InputError
from nstd.photo.completeness import completeness
from nstd.photo.decode import Photo
from nstd.photo.limits import Limits
from nstd.workers.decode_child import decode_limited
from tests.hostile.images import fuzz
from tests.hostile.images.corpus import CASES, Case

MEMORY_BYTES = 512 * 2**20
INTERPRETER_BYTES = 128 * 2**20
"""What Python, numpy and Pillow are resident with at most, and a margin."""


def ending(path: Path, seconds: float) -> Photo | InputError:
    """Decode as a worker does; what else is raised than an InputError fails the test."""
    try:
        return decode_limited(
            str(path), Limits(), max_side=512, timeout_s=seconds, memory_bytes=MEMORY_BYTES
        )
    except InputError as error:
        return error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_picture_ends_in_words_or_pixels(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.make())
    end = ending(path, 4.0 if case.endless else 90.0)
    if case.ends is None:
        assert isinstance(end, Photo), end
        assert end.pixels.dtype == np.uint8
        assert max(end.pixels.shape) < 4 * 512
    else:
        assert isinstance(end, case.ends), end
        assert case.name in end.message
        assert end.remedy
        assert str(end).isprintable()


PEAK = """
import resource, sys
from nstd.errors import TooLargeError
from nstd.photo.decode import Photo
from nstd.photo.limits import Limits
from nstd.workers.decode_child import SERVER, decode_limited
try:
    decode_limited(sys.argv[1], Limits(), memory_bytes=int(sys.argv[2]))
except TooLargeError:
    SERVER.close()
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def test_the_child_is_held_to_its_memory(tmp_path: Path) -> None:
    """Measured, not only set: the peak of a child that meets the largest bomb."""
    path = tmp_path / "bomb.png"
    path.write_bytes(next(case for case in CASES if case.name == "bomb.png").make())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(MEMORY_BYTES)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert 0 < int(done.stdout) < MEMORY_BYTES + INTERPRETER_BYTES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_picture_is_settled_without_a_word_too_much(case: Case, tmp_path: Path) -> None:
    """The look at the end never raises; what decodes well is mostly complete, halves never are."""
    path = tmp_path / case.name
    path.write_bytes(case.make())
    with path.open("rb") as file:
        verdict = completeness(file.fileno(), path.stat().st_size, case.name)
    assert verdict.complete or verdict.why
    if case.name.startswith(("cut-", "zeros-", "head-")):
        assert not verdict.complete


def test_mutated_pictures_end_in_words_or_pixels() -> None:
    """Some thousand mutations in this process; `fuzz` itself runs as many as asked for."""
    for _, _, finding in fuzz.run(1500, seed=20240607):
        assert finding is None, (finding.number, finding.what)


def test_mutations_are_the_same_for_the_same_seed() -> None:
    one, other = random.Random(5), random.Random(5)
    assert [fuzz.mutated(one) for _ in range(20)] == [fuzz.mutated(other) for _ in range(20)]
