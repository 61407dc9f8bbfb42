"""What the configuration means for those who paint: limits, memory, weights."""

from __future__ import annotations

import os

from nstd.photo.limits import Limits
from nstd.service.config import Config
from nstd.workers.settings import PaintSettings, WorkerSettings


def limits(config: Config) -> Limits:
    """Return what a picture may weigh and measure."""
    inbox = config.inbox
    return Limits(
        max_bytes=inbox.max_file_bytes, max_pixels=inbox.max_pixels, max_side=inbox.max_side
    )


def paint_settings(config: Config) -> PaintSettings:
    """Return how one job treats its files."""
    worker = config.worker
    return PaintSettings(
        limits=limits(config),
        decode_timeout_s=worker.decode_timeout_s,
        decode_memory_bytes=worker.decode_memory_bytes,
        keep_gps=config.outbox.keep_gps,
        previews=config.outbox.preview,
        preview_s=worker.preview_s,
        checkpoint_s=worker.checkpoint_s,
    )


def worker_settings(config: Config) -> WorkerSettings:
    """Return everything that a worker child needs besides its device."""
    memory, batch = config.model.memory_bytes, config.worker.batch
    return WorkerSettings(
        weights=config.model.weights,
        memory_bytes=None if memory == "auto" else memory,
        cache_dir=os.path.join(config.folders.state, "cache"),
        batch=None if batch == "auto" else batch,
        paint=paint_settings(config),
    )
