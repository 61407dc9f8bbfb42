"""Checkpoints as bytes, for tests that keep or damage them."""

from __future__ import annotations

import io

from nstd.engine.progress import Checkpoint


def packed(checkpoint: Checkpoint) -> bytes:
    """Return what the checkpoint writes."""
    buffer = io.BytesIO()
    checkpoint.write(buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> Checkpoint:
    """Read what ``packed`` returned."""
    return Checkpoint.read(io.BytesIO(data))
