"""Before the first tick: folders are made or refused, weights and devices are there or named."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nstd.engine import device, weights
from nstd.errors import ConfigError, WeightsError
from nstd.service import config as config_module
from nstd.service import places, startup
from nstd.service.config import Config


def config(root: Path, **overrides: Any) -> Config:
    return config_module.load(root=root, overrides=overrides)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    startup.make_folders(config(tmp_path / "deep" / "root"))
    made = sorted(path.name for path in (tmp_path / "deep" / "root").iterdir())
    assert made == ["failed", "inbox", "originals", "outbox", "state", "styles"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file in the way")
    with pytest.raises(ConfigError, match=r"folders\.outbox"):
        startup.make_folders(config(tmp_path))


def test_a_state_folder_on_a_remote_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "fstype", lambda _path: "cifs")
    with pytest.raises(ConfigError, match="remote file system \\(cifs\\)"):
        startup.make_folders(config(tmp_path))


def test_an_outbox_that_a_link_leads_into_the_inbox_is_refused(tmp_path: Path) -> None:
    made = config(tmp_path)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "outbox").symlink_to(tmp_path / "inbox")
    with pytest.raises(ConfigError, match="outbox"):
        startup.make_folders(made)


def test_missing_weights_are_named_before_any_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(startup.ENGINE_VARIABLE, raising=False)
    made = config(tmp_path, **{"model.weights": str(tmp_path / "none.h5")})
    with pytest.raises(WeightsError, match=r"none\.h5"):
        startup.require_weights(made, lambda _text: None)


def test_the_imagenet_weights_are_fetched_where_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(startup.ENGINE_VARIABLE, raising=False)
    fetched: list[str] = []
    monkeypatch.setattr(weights, "fetch", lambda: fetched.append("fetched"))
    monkeypatch.setattr(weights, "cached_path", lambda: str(tmp_path / "vgg19.h5"))
    made = config(tmp_path, **{"model.weights": "imagenet"})
    startup.require_weights(made, fetched.append)
    assert fetched[-1] == "fetched"
    (tmp_path / "vgg19.h5").touch()
    startup.require_weights(made, lambda _text: pytest.fail("fetched again"))


def test_builtin_weights_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(startup.ENGINE_VARIABLE, raising=False)
    made = config(tmp_path, **{"model.weights": "builtin"})
    startup.require_weights(made, lambda _text: pytest.fail("fetched"))


def test_devices_are_resolved_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(startup.ENGINE_VARIABLE, raising=False)
    assert startup.find_devices(config(tmp_path, **{"model.device": "cpu"})) == [device.CPU]


def test_workers_may_hold_most_of_the_machines_memory_by_default(tmp_path: Path) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert startup.supervision(config(tmp_path)).max_memory_bytes == int(0.8 * total)
    named = config(tmp_path, **{"worker.max_memory_bytes": 2**30})
    assert startup.supervision(named).max_memory_bytes == 2**30


def test_new_folders_have_the_modes_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        startup.make_folders(config(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "inbox").stat().st_mode) == 0o775
