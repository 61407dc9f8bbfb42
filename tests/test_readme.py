"""What the README tells a reader to run is there to be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nstd.errors import NstdError, all_reasons, by_reason

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CLI = ROOT / "nstd" / "cli.py"


def code() -> str:
    """Return everything that stands in code type."""
    return "\n".join(re.findall(r"```.*?```|`[^`]+`", README, re.DOTALL))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands() -> set[str]:
    if not CLI.exists():
        pytest.skip("the commands are not written yet")
    import typer.main

    from nstd.cli import app

    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_make_target_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", code()))
    assert named
    assert named - targets() == set()


def test_every_command_exists() -> None:
    named = set(re.findall(r"\bnstd ([a-z]+)", code()))
    assert named
    assert named - commands() == set()


def test_every_command_is_named() -> None:
    assert {name for name in commands() if f"`nstd {name}`" not in README} == set()


def test_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    raised = {by_reason(reason).exit_code for reason in all_reasons()} | {NstdError.exit_code}
    assert listed == raised | {0}
