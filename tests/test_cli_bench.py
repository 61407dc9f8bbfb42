"""``nstd bench`` and ``nstd check`` as commands, with the stand-in for the engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.cli import app
from nstd.cli_guard import guarded
from nstd.workers import standin


@pytest.fixture(autouse=True)
def _with_standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(standin.ENGINE_VARIABLE, "standin")
    monkeypatch.setattr("nstd.service.config.SYSTEM_CONFIG", Path("/nonexistent/nstd.yaml"))
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        os.environ.pop(name)


def test_the_bench_prints_figures_for_people_and_for_scripts(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nstd.cli_bench.SIDES", (32, 48))
    options = ["bench", "--weights", "builtin", "--device", "cpu"]
    assert guarded(app, options) == 0
    table = capfd.readouterr().out
    assert "Steps/s" in table
    assert "48 x 48" in table
    for name in ("draft", "standard", "fine"):
        assert name in table
    assert guarded(app, [*options, "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    assert [step["side"] for step in data["steps"]] == [32, 48]
    assert all(step["steps_per_s"] > 0 for step in data["steps"])
    assert data["peak_gflops"] is None  # the stand-in has no network to count
    assert [each["preset"] for each in data["presets"]] == ["draft", "standard", "fine"]
    assert data["facts"]["engine"]


def test_a_good_machine_passes_the_check_and_is_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--root", str(tmp_path), "--weights", "builtin", "--device", "cpu", "--quick"]
    code = guarded(app, ["check", *options])
    out, err = capfd.readouterr()
    if "in use" in out:
        pytest.skip("another nstd listens on the default port of this machine")
    assert (code, err) == (0, "")
    assert "nstd can work here." in out
    assert "BAD" not in out
    assert list(tmp_path.iterdir()) == []


def test_the_first_bad_finding_decides_the_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outbox").touch()
    options = ["--root", str(tmp_path), "--weights", "none.h5", "--device", "cpu", "--quick"]
    assert guarded(app, ["check", *options]) == 78
    out = capfd.readouterr().out
    assert "2 things must be mended" in out or "3 things must be mended" in out
    assert "→" in out
