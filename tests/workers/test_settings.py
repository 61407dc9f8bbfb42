"""What a child is told at its start arrives as it was meant."""

from __future__ import annotations

import json

from nstd.photo.limits import Limits
from nstd.workers.settings import PaintSettings, WorkerSettings


def test_settings_survive_the_way_to_the_child() -> None:
    settings = WorkerSettings(
        weights="builtin",
        memory_bytes=123,
        cache_dir="/var/cache",
        paint=PaintSettings(limits=Limits(max_pixels=5), keep_gps=True, checkpoint_s=1.5),
    )
    assert WorkerSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
