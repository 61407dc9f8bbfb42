"""The set-up finds a Python that will do, or says in one sentence what is wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import setup_venv


def find(root: Path, folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the finder with nothing on the PATH but what lies in ``folder``."""
    shell = shutil.which("sh")
    assert shell
    return subprocess.run(
        [shell, root / "tools" / "find_python.sh", *names],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def stub(folder: Path, name: str, command: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return path


def test_a_python_on_the_path_is_found(root: Path, tmp_path: Path) -> None:
    os.symlink(sys.executable, tmp_path / "python3")
    found = find(root, tmp_path)
    assert (found.returncode, found.stdout.strip()) == (0, str(tmp_path / "python3"))


def test_stubs_that_do_not_start_are_passed_over(root: Path, tmp_path: Path) -> None:
    stub(tmp_path, "python3", "echo 'version not installed' >&2; exit 127")
    os.symlink(sys.executable, tmp_path / "python3.11")
    assert find(root, tmp_path).stdout.strip() == str(tmp_path / "python3.11")


def test_an_old_python_is_not_taken(root: Path, tmp_path: Path) -> None:
    stub(tmp_path, "python3", "exit 1")  # its answer to "are you new enough?"
    found = find(root, tmp_path)
    assert found.returncode == 69
    assert "Python 3.11 or newer" in found.stderr


def test_the_python_that_was_named_comes_first(root: Path, tmp_path: Path) -> None:
    named = tmp_path / "elsewhere"
    named.symlink_to(sys.executable)
    os.symlink(sys.executable, tmp_path / "python3")
    assert find(root, tmp_path, str(named)).stdout.strip() == str(named)


def test_other_settings_of_tools_need_no_new_environment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / "pyproject.toml").read_text()
    monkeypatch.setattr(setup_venv, "ROOT", tmp_path)
    keys = []
    for change in ("", "\n[tool.other]\nsetting = 1\n"):
        (tmp_path / "pyproject.toml").write_text(text + change)
        keys.append(setup_venv.key())
    (tmp_path / "pyproject.toml").write_text(text.replace('"rich>=', '"rich>=1'))
    keys.append(setup_venv.key())
    assert keys[0] == keys[1] != keys[2]


def test_an_environment_of_another_place_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_venv, "VENV", tmp_path / ".venv")
    assert not setup_venv.works()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert not setup_venv.works()


def test_every_target_of_the_makefile_explains_itself(root: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("needs make (Debian: apt-get install make)")
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "setup", "format", "clean"):
        assert f"make {target} " in shown
