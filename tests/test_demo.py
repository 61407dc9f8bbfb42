"""The demonstration runs a real daemon, tells where everything is, and hides no failure."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from nstd import demo
from nstd.errors import MissingError
from nstd.service.snapshot import EndedJob, RunningJob, Snapshot, WaitingFile


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the daemon's worker use the stand-in for the engine, and small pictures."""
    monkeypatch.setenv("NSTD_ENGINE", "standin")
    small = np.zeros((32, 48, 3), np.uint8) + np.arange(48, dtype=np.uint8)[:, None]
    monkeypatch.setattr(demo, "photograph", lambda: small)
    monkeypatch.setattr(demo, "painting", lambda: small[::-1])


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=300, highlight=False)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.usefixtures("quick")
def test_picture_report_and_metrics_are_where_it_says(tmp_path: Path, console: Console) -> None:
    assert demo.run(tmp_path / "demo", device="cpu", console=console) == 0
    _, _, places = said(console).partition("Done")
    where = dict(line.split() for line in places.splitlines() if len(line.split()) == 2)
    with Image.open(where["picture"]) as image:
        assert image.format == "JPEG"
    report = json.loads(Path(where["report"]).read_text())
    assert report["inputs"][0]["name"] == demo.PHOTO
    assert 'nstd_jobs_total{outcome="done"} 1.0' in Path(where["metrics"]).read_text()
    assert (tmp_path / "demo" / "originals" / demo.STYLE / demo.PHOTO).exists()
    assert not (tmp_path / "demo" / "state" / "listen").exists()  # the daemon has gone


def test_the_command_to_go_on_with_is_one_that_the_shell_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = tmp_path / "venv" / "nstd", tmp_path / "bin" / "nstd"
    for program in (own, other):
        program.parent.mkdir()
        program.touch(0o755)
    monkeypatch.setattr("sys.executable", str(own.with_name("python")))
    monkeypatch.setenv("PATH", str(other.parent))
    assert demo._program() == str(own)  # another installation comes first
    monkeypatch.setenv("PATH", str(own.parent))
    assert demo._program() == "nstd"
    own.unlink()
    assert demo._program() == f"{own.with_name('python')} -m nstd"
    monkeypatch.setenv("PATH", str(other.parent))
    assert demo._program() == "nstd"


@pytest.mark.usefixtures("quick")
def test_second_run_on_the_same_root_paints_again(tmp_path: Path, console: Console) -> None:
    for _ in range(2):
        assert demo.run(tmp_path, device="cpu", console=console) == 0
    pictures = {path.name for path in (tmp_path / "outbox" / demo.STYLE).glob("*.jpg")}
    assert pictures == {"bay-at-dusk.jpg", "bay-at-dusk-2.jpg"}


def test_refusal_of_the_daemon_is_passed_on_with_its_code(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert demo.run(tmp_path, device="gpu", console=console) == 75
    assert "CUDA_VISIBLE_DEVICES hides them all" in said(console)
    assert "Traceback" not in said(console)


@pytest.mark.usefixtures("quick")
def test_unusable_gpu_is_told_before_the_cpu_takes_its_place(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoGpu(demo.Daemon):
        def __init__(self, root: Path, weights: str, device: str) -> None:
            self.gpu = device == "auto"
            super().__init__(root, weights, "gpu" if self.gpu else device)

        def __enter__(self) -> Self:
            with monkeypatch.context() as patch:
                if self.gpu:  # the stand-in takes any device; the real engine looks for it
                    patch.delenv("NSTD_ENGINE")
                return super().__enter__()

    monkeypatch.setattr(demo, "Daemon", NoGpu)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert demo.run(tmp_path, console=console) == 0
    before, _, after = said(console).partition("The demonstration goes on with the CPU.")
    assert "CUDA_VISIBLE_DEVICES" in before
    assert "Done" in after
    assert len(list((tmp_path / "outbox" / demo.STYLE).glob("*.jpg"))) == 1


def test_folder_that_cannot_be_made_is_named(tmp_path: Path, console: Console) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="file/demo"):
        demo.run(tmp_path / "file" / "demo", console=console)


def test_without_a_root_a_folder_is_made_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = demo._folder(None)
    assert folder.parent == tmp_path
    assert os.access(folder, os.W_OK)


def running(**facts: object) -> RunningJob:
    return RunningJob(id="1", name="n", style="s", worker="w", started=0.0, **facts)  # type: ignore[arg-type]


def test_every_stage_has_words() -> None:
    waiting = Snapshot(0.0, "ready", waiting=(WaitingFile("a.jpg", "", 0.0),))
    assert demo._doing(None, None) == "the daemon starts"
    assert demo._doing(waiting, None) == "the photograph settles"
    job = running(stage="optimize", level=1, levels=3, width=64, height=48)
    assert demo._doing(waiting, job) == "painting at 64x48, level 2/3"
    assert demo._doing(waiting, running(stage="deliver")) == "delivering the picture"
    assert "3 s to go" in demo._note(running(stage="optimize", eta_s=3.2))


def test_failed_job_is_a_failed_demonstration(tmp_path: Path, console: Console) -> None:
    job = EndedJob("1", "n", "s", "failed", 0.0, error="No [room].", folder="f")
    outcome = demo.Outcome(job, tmp_path / "metrics.txt")
    assert demo._tell(tmp_path, outcome, 1.0, "builtin", console) == 1
    assert "No [room]." in said(console)
