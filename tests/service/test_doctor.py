from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nstd.engine.device import Machine
from nstd.errors import DeviceError
from nstd.service import doctor, doctor_folders, places
from nstd.service.config import Config, load
from nstd.service.findings import Finding
from nstd.service.http import HttpDoor
from nstd.service.lock import StateLock

Examine = Callable[..., list[Finding]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = load(
        root=tmp_path,
        overrides={
            "model.weights": "builtin",
            "model.device": "cpu",
            "http.listen": "127.0.0.1:0",
            "outbox.free_space_floor_bytes": 0,
        },
    )
    for path in config.folders.by_name().values():
        path.mkdir()
    Image.new("RGB", (8, 8)).save(config.folders.styles / "starry.png")
    return config


def changed(config: Config, dotted: str, value: Any) -> Config:
    return load(
        root=config.folders.root,
        overrides={
            "model.weights": "builtin",
            "model.device": "cpu",
            "http.listen": "127.0.0.1:0",
            "outbox.free_space_floor_bytes": 0,
            dotted: value,
        },
    )


def findings(config: Config, grade: str = "", area: str = "") -> list[Finding]:
    found = list(doctor.examine(config, None, quick=True))
    return [f for f in found if grade in ("", f.grade) and area in ("", f.area)]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_healthy_house_has_nothing_bad_and_is_left_as_it_was(config: Config) -> None:
    before = files(config.folders.root)
    assert findings(config, "bad") == []
    assert files(config.folders.root) == before


def test_every_finding_that_is_not_good_says_what_to_do(config: Config) -> None:
    (config.folders.outbox).rmdir()
    config.folders.outbox.write_text("")
    found = findings(changed(config, "model.weights", "/none.h5"))
    assert any(f.grade == "bad" for f in found)
    for finding in found:
        assert finding.text.endswith((".", "?"))
        assert finding.grade == "good" or finding.advice
        assert (finding.exit_code != 0) == (finding.grade == "bad")


def test_missing_folders_are_no_problem_where_they_can_be_made(config: Config) -> None:
    config.folders.inbox.rmdir()
    (finding,) = findings(config, area="inbox")
    assert finding.grade == "good"
    assert "nstd makes it" in finding.text
    assert not config.folders.inbox.exists()


def test_a_file_in_place_of_a_folder_is_told(config: Config) -> None:
    config.folders.failed.rmdir()
    config.folders.failed.touch()
    (finding,) = findings(config, "bad")
    assert "is not a folder" in finding.text


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(config: Config) -> None:
    config.folders.outbox.chmod(0o555)
    (finding,) = findings(config, "bad")
    assert "cannot be written" in finding.text


def test_what_the_file_system_refuses_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("nstd.jobs.publish.write_new", refuse)
    found = findings(config, "bad")
    assert {f.area for f in found} == {"inbox", "outbox", "originals", "failed", "state"}
    assert all("Read-only file system" in f.text for f in found)
    assert all("Mount it for writing" in f.advice for f in found)


def test_a_file_system_without_links_is_explained(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    found = [f for f in findings(config, "note") if "second name" in f.text]
    assert [f.area for f in found] == ["originals", "failed"]
    assert all("copied" in f.advice for f in found)


def test_a_disk_without_room_is_to_be_freed_not_given_away(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nstd.jobs.publish.write_new", refuse)
    found = findings(config, "bad", "outbox")
    assert [(f.advice, f.exit_code) for f in found] == [("Free some space there.", 75)]


def test_a_folder_still_to_be_made_needs_room_too(config: Config) -> None:
    config.folders.state.rmdir()
    found = findings(changed(config, "outbox.free_space_floor_bytes", 2**50), area="state")
    assert [f.grade for f in found] == ["good", "bad"]
    assert "less than the floor" in found[1].text


def test_folders_that_nobody_may_look_into_hide_no_other_finding(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(Path, "stat", refuse)
    found = findings(config)
    (ledger,) = [f for f in found if f.area == "ledger"]
    assert "cannot be looked into: Permission denied" in ledger.text
    assert found[-1].area == "http"


def test_a_full_disk_is_told(config: Config) -> None:
    found = findings(changed(config, "outbox.free_space_floor_bytes", 2**50), "bad")
    assert {f.area for f in found} == {"outbox", "originals", "failed", "state"}
    assert {f.exit_code for f in found} == {75}


def test_a_remote_state_folder_is_refused_and_a_remote_inbox_explained(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "fstype", lambda _path: "nfs4")
    (finding,) = findings(config, "bad")
    assert (finding.area, finding.exit_code) == ("state", 78)
    (finding,) = [f for f in findings(config, "note", "inbox") if "nfs4" in f.text]
    assert "looking every 10 s" in finding.advice


def test_an_inbox_of_a_sync_tool_is_not_touched(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config.folders.inbox / ".stfolder").mkdir()
    written: list[int] = []
    real = doctor_folders._write

    def spy(folder: int, name: str) -> int | None:
        written.append(os.fstat(folder).st_ino)
        return real(folder, name)

    monkeypatch.setattr(doctor_folders, "_write", spy)
    (finding,) = findings(config, "note", "inbox")
    assert "Syncthing owns" in finding.text
    assert config.folders.inbox.stat().st_ino not in written


def test_folding_case_and_skewed_clocks_are_explained(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_folders, "_folds", lambda *_: True)
    monkeypatch.setattr("time.time", lambda: 1.0)
    texts = " ".join(f.text for f in findings(config, "note"))
    assert "does not tell upper from lower case" in texts
    assert "ahead" in texts


def test_a_file_system_that_cannot_rename_without_replacing_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("nstd.jobs.publish.rename_noreplace", refuse)
    assert any("without replacing" in f.text for f in findings(config, "bad", "outbox"))


def test_missing_weights_are_exit_69(config: Config) -> None:
    (finding,) = findings(changed(config, "model.weights", "/none.h5"), "bad")
    assert (finding.area, finding.exit_code) == ("weights", 69)


def test_a_gpu_that_is_not_there_is_exit_75(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nstd.engine.device.look", lambda *_: Machine())
    (finding,) = findings(changed(config, "model.device", "gpu"), "bad")
    assert (finding.area, finding.exit_code) == ("device", DeviceError.exit_code)


@pytest.mark.parametrize(
    ("script", "grade", "words"),
    [
        ("import json; print(json.dumps(['/GPU:0', '']))", "good", "works (/GPU:0)"),
        (
            "import json; print('noise'); print(json.dumps(['No CUDA.', 'Install it.'])); exit(9)",
            "bad",
            "No CUDA.",
        ),
        ("import sys; sys.stderr.write('core dumped'); sys.exit(134)", "bad", "core dumped"),
        ("import sys; sys.exit(1)", "bad", "could not be loaded"),
        ("import time; time.sleep(60)", "bad", "does not answer"),
    ],
)
def test_the_device_is_tried_in_a_process_that_may_die(
    monkeypatch: pytest.MonkeyPatch, script: str, grade: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "_PROBE", script)
    monkeypatch.setattr(doctor, "PROBE_S", 3 if "sleep" in script else 60)
    finding = doctor._tried("cpu")
    assert finding.grade == grade
    assert words in finding.text


def test_a_port_of_another_program_is_told(config: Config) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (finding,) = findings(changed(config, "http.listen", f"127.0.0.1:{port}"), "bad")
    assert f"Port {port} is in use" in finding.text


def test_an_address_that_this_machine_does_not_have_is_told(config: Config) -> None:
    (finding,) = findings(changed(config, "http.listen", "192.0.2.1:9464"), "bad")
    assert "no address 192.0.2.1" in finding.text


def test_an_open_port_is_pointed_out(config: Config) -> None:
    (finding,) = findings(changed(config, "http.listen", "0.0.0.0:0"), "note", "http")
    assert "without a password" in finding.text


def test_a_running_daemon_is_named_with_its_address(config: Config) -> None:
    (config.folders.state / "listen").write_text("127.0.0.1:4711\n")
    with StateLock(str(config.folders.state)):
        found = findings(config)
    texts = " ".join(f.text for f in found)
    assert f"pid {os.getpid()}" in texts
    assert "listens on 127.0.0.1:4711" in texts


def test_the_library_is_looked_through(config: Config) -> None:
    (finding,) = findings(config, area="styles")[-1:]
    assert finding.text == "1 style: starry."
    (config.folders.styles / "starry.png").unlink()
    assert findings(config, "note", "styles")
    (finding,) = findings(changed(config, "inbox.default_style", "scream"), "bad", "styles")
    assert "scream" in finding.text


def test_a_damaged_ledger_is_told(config: Config) -> None:
    (config.folders.state / "ledger.sqlite3").write_bytes(b"no database" * 100)
    (finding,) = findings(config, "bad", "ledger")
    assert finding.exit_code == 78


def test_a_configuration_that_everybody_may_change_is_pointed_out(
    config: Config, tmp_path: Path
) -> None:
    path = tmp_path / "nstd.yaml"
    path.touch()
    path.chmod(0o666)
    found = list(doctor._configuration(config, path))
    assert any("Everybody may change" in f.text for f in found)
    path.chmod(0o644)
    assert [f.grade for f in doctor._configuration(config, path)] == ["good"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_door_itself_is_not_opened(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(HttpDoor, "start", opened)
    findings(config)
