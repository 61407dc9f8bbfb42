"""The report beside each picture: all that is needed to know how it came about, or to redo it."""

from __future__ import annotations

import math
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from nstd import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nstd.engine.progress import Losses, Result
    from nstd.workers.painting import PaintRequest, Source

REPORT_VERSION = 1


def build_report(
    request: PaintRequest,
    result: Result,
    facts: Mapping[str, Any],
    *,
    notes: Sequence[str],
    seconds: Mapping[str, float],
    job_hash: str,
) -> dict[str, Any]:
    """Return the report as plain JSON values; it names files, never folders of this machine."""
    return {
        "report": REPORT_VERSION,
        "job": request.job_id,
        "inputs": [_input(source) for source in request.sources()],
        "parameters": request.params.to_dict(),
        "output": {"format": request.output.format, "quality": request.output.quality},
        "losses": _rounded(result.losses),
        "losses_over_time": [{"step": step, **_rounded(losses)} for step, losses in result.history],
        "steps": result.steps,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "engine_seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "device": facts.get("device"),
        "weights": facts.get("weights"),
        "plan": dict(result.plan),
        "engine": facts.get("engine"),  # a stand-in says so: its pictures are no paintings
        "versions": _versions(facts),
        "notes": [*notes, *result.notes],
        "job_hash": job_hash,
    }


def _versions(facts: Mapping[str, Any]) -> dict[str, Any]:
    versions = {"nstd": __version__, "python": platform.python_version(), "numpy": np.__version__}
    if "tensorflow" in facts:
        versions["tensorflow"] = facts["tensorflow"]
    return versions


def _input(source: Source) -> dict[str, Any]:
    values: dict[str, Any] = {
        "role": source.role,
        "name": source.shown(),
        "sha256": source.sha256,
        "bytes": os.stat(source.path).st_size,
    }
    if source.role == "style":
        values["weight"] = source.weight
    return values


def _rounded(losses: Losses) -> dict[str, float | None]:
    """Return seven digits (float32 has no more); None where JSON has no such number."""
    return {
        name: float(f"{value:.7g}") if math.isfinite(value) else None
        for name, value in losses.to_dict().items()
    }
