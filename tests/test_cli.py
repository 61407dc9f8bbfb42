from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nstd import __version__
from nstd.cli import app
from nstd.cli_guard import guarded
from nstd.engine.params import PRESETS
from nstd.jobs.settings import table
from nstd.service.config import load
from nstd.service.example import example
from nstd.service.snapshot import Snapshot
from nstd.service.status import Reply, gather

Run = Callable[..., tuple[int, str, str]]

COMMANDS = [
    ["run"],
    ["stylize"],
    ["demo"],
    ["check"],
    ["status"],
    ["retry"],
    ["cancel"],
    ["weights"],
    ["weights", "list"],
    ["weights", "fetch"],
    ["weights", "verify"],
    ["bench"],
]
WITH_FOLDERS = [["run"], ["check"], ["status"], ["retry", "x"], ["cancel", "x"]]


@pytest.fixture
def nstd(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("nstd.service.config.SYSTEM_CONFIG", Path("/nonexistent/nstd.yaml"))

    def run(*args: str | Path) -> tuple[int, str, str]:
        code = guarded(app, [str(arg) for arg in args])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def one_sentence(err: str) -> str:
    assert err.startswith("nstd: ")
    assert err.count("\n") == 1
    assert not set("╭│╰") & set(err)
    assert "Traceback" not in err
    return err


def test_the_version_is_said(nstd: Run) -> None:
    assert nstd("--version") == (0, f"nstd {__version__}\n", "")


def test_alone_it_shows_what_there_is(nstd: Run) -> None:
    code, out, err = nstd()
    assert (code, err) == (0, "")
    for name, *_ in COMMANDS:
        assert name in out
    assert "nstd demo" in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(nstd: Run, command: list[str]) -> None:
    code, out, err = nstd(*command, "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 5


@pytest.mark.parametrize("name", table())
def test_stylize_has_every_setting_of_a_sidecar(nstd: Run, name: str) -> None:
    _, out, _ = nstd("stylize", "--help")
    assert f"--{name.replace('_', '-')}" in out


@pytest.mark.parametrize("command", WITH_FOLDERS, ids=" ".join)
def test_without_folders_the_remedy_is_named(nstd: Run, command: list[str]) -> None:
    code, _, err = nstd(*command)
    assert code == 2
    assert "--root" in one_sentence(err)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["paint"], "No such command 'paint'"),
        (["--frob"], "No such option: --frob"),
        (["run", "--frob"], "No such option: --frob"),
        (["stylize"], "Missing"),
        (["stylize", "a.jpg", "b.jpg"], "--output"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--size", "big"], "--size"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--size", "3"], "from 32 to 8192"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--style-weight", "nan"], "--style-weight"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--optimizer", "sgd"], "lbfgs, adam"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--blend", "1,2"], "2 shares for 1 style."),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--blend", "x"], "--blend cannot be x"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.jpg", "--quality", "0"], "--quality"),
        (["stylize", "a.jpg", "b.jpg", "-o", "c.gif"], "Let it end in .jpg"),
        (["stylize", "a.jpg", "b.jpg", "-o", "no/such/c.jpg"], "no folder"),
        (["retry", "--root", "/nonexistent"], "Name one job"),
        (["retry", "x", "--failed", "--root", "/nonexistent"], "Name one job"),
        (["retry", "x", "--root", "/nonexistent"], "There are no jobs"),
        (["cancel", "x", "--root", "/nonexistent"], "There are no jobs"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_sentence_and_exit_2(
    nstd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    code, out, err = nstd(*args)
    assert (code, out) == (2, "")
    assert words in one_sentence(err)


def test_a_wrong_configuration_is_exit_78_with_key_and_line(nstd: Run, tmp_path: Path) -> None:
    path = tmp_path / "nstd.yaml"
    path.write_text("inbox:\n  setle_s: 3\n")
    for command in ("run", "check", "status"):
        code, _, err = nstd(command, "--config", path)
        assert code == 78
        assert "line 2: there is no setting inbox.setle_s" in one_sentence(err)


def test_a_configuration_that_is_not_there_is_exit_78(nstd: Run, tmp_path: Path) -> None:
    code, _, err = nstd("status", "--config", tmp_path / "none.yaml")
    assert code == 78
    assert "none.yaml" in one_sentence(err)


def test_the_environment_names_the_configuration(
    nstd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nstd.yaml"
    path.write_text(f"folders: {{root: {tmp_path / 'there'}}}\n")
    monkeypatch.setenv("NSTD_CONFIG", str(path))
    _, out, _ = nstd("status", "--json")
    assert json.loads(out)["folders"][0]["path"] == str(tmp_path / "there" / "inbox")


def test_missing_weights_are_exit_69_with_three_remedies(nstd: Run, tmp_path: Path) -> None:
    code, out, _ = nstd("check", "--root", tmp_path, "--quick", "--device", "cpu")
    assert code == 69
    for remedy in ("nstd weights fetch", "--weights PATH", "builtin"):
        assert remedy in out
    code, _, err = nstd("weights", "verify", tmp_path / "none.h5")
    assert code == 69
    assert "none.h5" in one_sentence(err)


def test_a_name_cannot_steer_the_terminal(nstd: Run, tmp_path: Path) -> None:
    evil = tmp_path / "a\x1b[31m\n\u202e.jpg"
    code, _, err = nstd("stylize", evil, evil, "-o", tmp_path / "o.jpg")
    assert code == 65
    assert "\\x1b[31m" in one_sentence(err)
    assert "\x1b" not in err


def test_a_bug_is_one_sentence_too(nstd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("nstd.service.status.gather", broken)
    code, _, err = nstd("status", "--root", "/nonexistent")
    assert code == 1
    assert "This is a bug in nstd: ZeroDivisionError" in one_sentence(err)
    assert "NSTD_DEBUG=1" in err
    monkeypatch.setenv("NSTD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        nstd("status", "--root", "/nonexistent")


@pytest.mark.parametrize(("refused", "code"), [(False, 0), (True, 1)])
def test_a_wish_that_is_refused_is_exit_1(
    nstd: Run, monkeypatch: pytest.MonkeyPatch, code: int, *, refused: bool
) -> None:
    replies = [Reply("a: is queued again."), Reply("b: so so.", refused=refused)]
    monkeypatch.setattr("nstd.service.status.ask", lambda *_: replies)
    for command in (["retry", "--failed"], ["cancel", "b"]):
        out = "a: is queued again.\nb: so so.\n"
        assert nstd(*command, "--root", "/nonexistent") == (code, out, "")


def test_what_the_system_refuses_is_no_bug(nstd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nstd.service.status.gather", full)
    code, _, err = nstd("status", "--root", "/nonexistent")
    assert code == 75
    assert "no room left to write 'the output'" in one_sentence(err)


def test_ctrl_c_ends_quietly_with_the_code_that_shells_expect(
    nstd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nstd.service.status.gather", interrupted)
    code, out, err = nstd("status", "--root", "/nonexistent")
    assert (code, out) == (130, "")
    assert err in ("", "nstd: Interrupted.\n")


def test_status_works_where_nothing_ever_ran(nstd: Run, tmp_path: Path) -> None:
    code, out, err = nstd("status", "--root", tmp_path)
    assert (code, err) == (0, "")
    assert "nstd is not running" in out


def test_the_table_and_the_json_are_views_of_one_snapshot(nstd: Run, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "beach.jpg").write_bytes(b"x")
    _, text, _ = nstd("status", "--root", tmp_path)
    _, data, _ = nstd("status", "--root", tmp_path, "--json")
    snapshot = Snapshot.from_json(data)
    assert [file.name for file in snapshot.waiting] == ["beach.jpg"]
    assert snapshot.pending["waiting"] == 1
    assert "Waiting (1)" in text
    assert "beach.jpg" in text
    assert gather(load(root=tmp_path), snapshot.taken).pending == snapshot.pending


def test_the_example_configuration_is_printed(nstd: Run) -> None:
    assert nstd("check", "--example") == (0, example(), "")


def test_the_weights_are_listed(nstd: Run) -> None:
    code, out, _ = nstd("weights", "list")
    assert code == 0
    assert "imagenet" in out
    assert "builtin" in out


def test_weights_are_those_of_the_configuration(nstd: Run, tmp_path: Path) -> None:
    config = tmp_path / "nstd.yaml"
    config.write_text("model: {weights: builtin}\nfolders: {root: house}\n")
    assert "asks for builtin" in nstd("weights", "list", "--config", config)[1]
    code, out, _ = nstd("weights", "verify", "--config", config)
    assert (code, out[:8]) == (0, "builtin:")
    assert nstd("weights", "verify", "--root", tmp_path)[0] == 69  # imagenet, which is not here


def test_the_builtin_weights_are_verified(nstd: Run) -> None:
    code, out, _ = nstd("weights", "verify", "builtin")
    assert code == 0
    assert re.search(r"sha256 [0-9a-f]{64}", out)


# --- through the real entry point --------------------------------------------------------------

CHECK_IMPORTS = """
import sys
sys.argv = ["nstd", *sys.argv[1:]]
from nstd.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
heavy = {"tensorflow", "keras", "h5py"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.mark.parametrize(
    "args", [["--version"], ["--help"], ["status", "--root", "."], ["weights", "list"]]
)
def test_quick_commands_never_load_tensorflow(tmp_path: Path, args: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-c", CHECK_IMPORTS, *args], cwd=tmp_path, check=True, capture_output=True
    )


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    for number in range(150):
        (tmp_path / "inbox" / f"{number}.jpg").touch()
    command = [sys.executable, "-m", "nstd", "status", "--root", str(tmp_path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_the_entry_point_is_installed() -> None:
    name = Path(sys.executable).with_name("nstd")
    done = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"nstd {__version__}\n"
    done = subprocess.run([name, "paint"], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_every_preset_can_be_asked_for(nstd: Run) -> None:
    _, out, _ = nstd("stylize", "--help")
    flat = re.sub(r"[\s│]+", "", out)
    for name in PRESETS:
        assert name in flat
