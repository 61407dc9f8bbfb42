"""What a running optimization tells, and what it needs to go on after a stop (no TensorFlow)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from nstd.engine.params import StyleParams
from nstd.errors import InputError

Image = NDArray[np.uint8]
"""(H, W, 3) sRGB, upright."""


@dataclass(frozen=True)
class Losses:
    """The weighted terms of the objective; ``total`` is what the optimizer minimizes."""

    total: float
    content: float
    style: float
    tv: float

    def to_dict(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class StepReport:
    """One look at a running job, a few times a second at most."""

    step: int
    steps: int
    """Steps planned at most, over all levels; the run may end earlier."""
    level: int
    levels: int
    height: int
    width: int
    losses: Losses | None
    """None for a sign of life inside a step (a tile, a compilation)."""
    seconds: float
    """Since the optimization began (resumed runs count what was spent before)."""
    eta_s: float | None
    pixel_steps: int = 0
    """Optimizer steps times pixels so far."""
    compile_s: float = 0.0
    """Seconds spent compiling so far."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on bit for bit: named arrays and JSON-able facts."""

    job_hash: str
    """Hash of inputs, parameters, weights and versions: another job's checkpoint is refused."""
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    """Read from the file one by one, each time they are asked for: together they may be GBs."""

    def close(self) -> None:
        """Let go of the file, which a newer one may have replaced."""
        if isinstance(self.arrays, _Arrays):
            self.arrays.close()

    def write(self, file: io.RawIOBase | BinaryIO) -> None:
        """Write an uncompressed .npz that holds no pickles, piece by piece."""
        head = json.dumps({"job_hash": self.job_hash, "facts": self.facts}).encode()
        arrays = {f"{_ARRAY}{name}": value for name, value in self.arrays.items()}
        np.savez(file, allow_pickle=False, head=np.frombuffer(head, np.uint8), **arrays)

    @classmethod
    def read(cls, file: str | BinaryIO) -> Checkpoint:
        """Read what ``write`` wrote; InputError when it is damaged, OSError when it is not there.

        Every array is looked at once, for its checksum.
        """
        try:
            archive = zipfile.ZipFile(file)
            arrays = _Arrays(archive)
            head = json.loads(_array(archive, "head").tobytes())
            for name in arrays:
                arrays[name]
            return cls(head["job_hash"], head["facts"], arrays)
        except _DAMAGE as error:
            raise InputError("The checkpoint is damaged.", "The job starts anew.") from error


_ARRAY = "array."
_DAMAGE = (ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile)
"""What reading a damaged archive raises; RuntimeError where it seems to be encrypted, say."""


class _Arrays(Mapping[str, "NDArray[Any]"]):
    """The arrays of a checkpoint's file, by their names in the run."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        members = (name.removesuffix(".npy") for name in archive.namelist())
        self._names = [name.removeprefix(_ARRAY) for name in members if name.startswith(_ARRAY)]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return _array(self._archive, _ARRAY + name)

    def close(self) -> None:
        self._archive.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        found: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # the checksum is compared at the end
            raise zipfile.BadZipFile(name)
    return found


@dataclass(frozen=True)
class StyleImage:
    """One style to paint in: pixels, its share of the blend, and where it applies."""

    pixels: Image
    weight: float = 1.0
    sha256: str = ""
    """Of the file it was read from: the key of cached style targets; empty: not cached."""
    mask: NDArray[np.float32] | None = None
    """(H, W) in [0, 1] over the content, at any size; None: everywhere."""


@dataclass(frozen=True)
class Result:
    """A finished picture and the record of how it came about."""

    pixels: Image
    losses: Losses
    history: Sequence[tuple[int, Losses]]
    """(step, losses) at most every step, thinned to 500 entries."""
    steps: int
    seconds: Mapping[str, float]
    """By stage of the engine: ``prepare``, ``compile``, ``optimize``."""
    plan: Mapping[str, Any]
    """Levels, sizes, steps per level and tiles: what ran, for the report."""
    notes: Sequence[str]
    """Sentences about what went otherwise than planned (roll backs, smaller tiles)."""


@dataclass(frozen=True)
class Listener:
    """Where an optimization reports to; every callback runs between two steps."""

    report: Callable[[StepReport], None] = lambda _report: None
    checkpoint: Callable[[Checkpoint], None] | None = None
    """Called every ``checkpoint_s`` and at level ends."""
    preview: Callable[[Image], None] | None = None
    """Called every ``preview_s`` with the picture as it stands."""
    cancelled: Callable[[], bool] = lambda: False
    """Polled between steps; True raises CancelledError after a last checkpoint."""
    checkpoint_s: float = 60.0
    preview_s: float = 10.0
    report_s: float = 0.25


class Stylize(Protocol):
    """Paints ``content`` in ``styles``; what ``Stylizer.stylize`` and the test stand-in offer."""

    def __call__(
        self,
        content: Image,
        styles: Sequence[StyleImage],
        params: StyleParams,
        *,
        listener: Listener,
        resume: Checkpoint | None = None,
        job_hash: str = "",
    ) -> Result:
        """Return the picture; raises CancelledError, DivergedError, MemoryExhaustedError."""
        ...
