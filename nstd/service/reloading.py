"""A new configuration for a running daemon: what it may change, and what needs a restart."""

from __future__ import annotations

import os

from nstd.engine import weights
from nstd.service import startup
from nstd.service.config import Config
from nstd.service.settings import FOLDER_NAMES


def postpone(old: Config, fresh: Config) -> tuple[Config, tuple[str, ...]]:
    """Return ``fresh`` with what only a restart changes as it was, and the names of what differs.

    The ledger, the spool and what is being delivered belong to the folders they began in.
    """
    names = [
        f"folders.{name}"
        for name in FOLDER_NAMES
        if getattr(fresh.folders, name) != getattr(old.folders, name)
    ]
    previews = old.outbox.previews_folder
    if fresh.outbox.previews_folder != previews:
        names.append("outbox.previews_folder")
    outbox = fresh.outbox.model_copy(update={"previews_folder": previews})
    kept = fresh.model_copy(update={"folders": old.folders, "outbox": outbox})
    return kept, tuple(names)


def new_devices(old: Config, fresh: Config) -> list[str] | None:
    """Return the devices to paint on from now on, None for those of before.

    Raises WeightsError or DeviceError where the workers of ``fresh`` could not start: better to
    keep what works. Nothing is downloaded, since the loop waits for this.
    """
    if fresh.model.weights != old.model.weights and not os.environ.get(startup.ENGINE_VARIABLE):
        weights.find(fresh.model.weights, may_download=False)
    return startup.find_devices(fresh) if fresh.model.device != old.model.device else None
