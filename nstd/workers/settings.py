"""What a worker child is told at its start: how to load the engine, and how to treat files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nstd.engine.device import CPU
from nstd.photo.limits import Limits

GPU_PLACES = 8
"""Jobs of a small size that a GPU gets at a time unless the configuration says otherwise."""


@dataclass(frozen=True)
class PaintSettings:
    """How one job treats its files; the same in a worker and in ``nstd stylize``."""

    limits: Limits = field(default_factory=Limits)
    decode_timeout_s: float = 60.0
    decode_memory_bytes: int = 2 * 2**30
    keep_gps: bool = False
    """Off: a picture that is handed on does not tell where its painter lives."""
    previews: bool = True
    preview_s: float = 10.0
    checkpoint_s: float = 60.0


@dataclass(frozen=True)
class WorkerSettings:
    """Everything that a worker child needs besides its device."""

    weights: str = "imagenet"
    """``imagenet``, ``builtin`` or a path, as in the configuration."""
    memory_bytes: int | None = None
    """What the optimization plans its tiles for; None: what the device has."""
    cache_dir: str | None = None
    """Where the engine may keep style statistics between runs; None: nowhere."""
    batch: int | None = None
    """Jobs at a time that a worker may have; None: one on a CPU, eight on a GPU."""
    paint: PaintSettings = field(default_factory=PaintSettings)

    def places(self, device: str) -> int:
        """Return how many jobs a worker on this device may have at a time."""
        if self.batch is not None:
            return self.batch
        return 1 if device == CPU else GPU_PLACES

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> WorkerSettings:
        """Build from ``to_dict``'s output."""
        paint = dict(values["paint"])
        limits = Limits(**paint.pop("limits"))
        return cls(**{**values, "paint": PaintSettings(limits=limits, **paint)})
