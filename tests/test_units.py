"""The systemd files: what the unit promises, checked by systemd's own programs."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from nstd.errors import ConfigError, UsageError, WeightsError
from nstd.service.config import load
from tests.conftest import ROOT, program

UNIT = ROOT / "systemd" / "nstd.service"
WORST_SCORE = 1.6
START = "ExecStart=/opt/nstd/bin/nstd"


def settings(path: Path = UNIT) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that is there: ``verify`` refuses an absent one."""
    text = UNIT.read_text()
    assert START in text
    path = tmp_path / "nstd.service"
    path.write_text(text.replace(START, "ExecStart=/bin/true"))
    return path


def test_systemd_understands_every_line(systemd_analyze: str, unit: Path) -> None:
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["scrape.conf", "home-inbox.conf"])
def test_systemd_understands_the_drop_ins(systemd_analyze: str, unit: Path, name: str) -> None:
    folder = unit.parent / "nstd.service.d"
    folder.mkdir()
    (folder / name).write_text((ROOT / "systemd" / "drop-ins" / name).read_text())
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_locked_down(systemd_analyze: str, unit: Path) -> None:
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250 for `systemd-analyze security --offline`")
    score = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) <= WORST_SCORE


def test_what_cannot_mend_itself_is_not_restarted() -> None:
    unit = settings()
    codes = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
    assert codes == {UsageError.exit_code, WeightsError.exit_code, ConfigError.exit_code}
    assert unit["Restart"] == ["on-failure"]


def test_a_late_driver_is_waited_for_without_end() -> None:
    unit = settings()
    assert unit["RestartSec"] == ["30"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert "StartLimitBurst" not in unit


def test_what_would_break_the_gpu_or_the_compilers_is_left_off() -> None:
    unit = settings()
    for key in ("PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset", "DynamicUser"):
        assert key not in unit
    assert unit["DeviceAllow"] == ["char-nvidia* rw"]


def test_nothing_leaves_the_machine_unless_a_drop_in_says_so() -> None:
    unit = settings()
    assert unit["IPAddressDeny"] == ["any"]
    assert unit["IPAddressAllow"] == ["localhost"]
    assert "IPAddressAllow" in settings(ROOT / "systemd" / "drop-ins" / "scrape.conf")


def test_the_supervisor_alone_gets_sigterm_and_time_for_its_workers() -> None:
    unit = settings()
    assert unit["KillMode"] == ["mixed"]
    assert float(unit["TimeoutStopSec"][0]) > 2 * load(root=Path("/x")).worker.stop_grace_s
    assert unit["OOMPolicy"] == ["continue"]


def test_the_packaged_configuration_fits_the_unit() -> None:
    config = load(ROOT / "systemd" / "nstd.yaml")
    unit = settings()
    (writable,) = unit["ReadWritePaths"]
    folders = config.folders.by_name()
    state = folders.pop("state")
    assert all(str(path).startswith(f"{writable}/") for path in folders.values())
    assert str(state).startswith(f"/var/lib/{unit['StateDirectory'][0]}/")
    assert unit["RequiresMountsFor"] == [writable]
    assert config.http.listen.startswith("127.0.0.1:")


def test_the_scrape_example_asks_where_the_daemon_listens() -> None:
    scrape = yaml.safe_load((ROOT / "systemd" / "prometheus" / "scrape.yaml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["job_name"] == "nstd"
    assert job["static_configs"][0]["targets"] == [load(root=Path("/x")).http.listen]


def test_user_and_folders_are_made_as_the_manual_says(tmp_path: Path) -> None:
    sysusers, tmpfiles = program("systemd-sysusers"), program("systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("needs the superuser: folders are given to another user")
    (tmp_path / "etc").mkdir()
    commands: list[list[str | Path]] = [
        [sysusers, f"--root={tmp_path}", ROOT / "systemd" / "sysusers.d" / "nstd.conf"],
        [
            tmpfiles,
            "--create",
            f"--root={tmp_path}",
            ROOT / "systemd" / "tmpfiles.d" / "nstd.conf",
        ],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    uid = int((tmp_path / "etc" / "passwd").read_text().split(":")[2])
    inbox = (tmp_path / "srv" / "nstd" / "inbox").stat()
    assert inbox.st_uid == uid
    assert stat.S_IMODE(inbox.st_mode) == 0o2775
    assert stat.S_IMODE((tmp_path / "var" / "lib" / "nstd").stat().st_mode) == 0o750


def test_the_manual_names_files_that_exist() -> None:
    manual = (ROOT / "docs" / "administration.md").read_text()
    named = set(re.findall(r"(?<![\w/])systemd/[\w./-]+\w", manual))
    assert {name for name in named if not (ROOT / name).exists()} == set()
    assert UNIT.name in {Path(name).name for name in named}
