"""``nstd stylize`` through every layer but the engine, which the stand-in replaces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstd.cli import app
from nstd.cli_guard import guarded
from nstd.workers import standin

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _with_standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(standin.ENGINE_VARIABLE, "standin")
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        os.environ.pop(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for name, shape in (("photo.jpg", (60, 80, 3)), ("style.png", (50, 40, 3))):
        Image.fromarray(generator.integers(0, 255, shape, np.uint8)).save(tmp_path / name)
    return tmp_path


def paint(folder: Path, *arguments: str) -> int:
    options = ["--weights", "builtin", "--device", "cpu", "--preset", "tiny", "--size", "64"]
    picture = ["-o", str(folder / "out.jpg")]
    return guarded(app, ["stylize", str(folder / "photo.jpg"), *arguments, *picture, *options])


@pytest.fixture
def stylize(folder: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(
        output: str = "out.jpg", *more: str, styles: tuple[str, ...] = ("style.png",)
    ) -> tuple[int, str, str]:
        paths = [str(folder / name) for name in ("photo.jpg", *styles)]
        options = ["--weights", "builtin", "--device", "cpu", "--preset", "tiny", "--size", "64"]
        code = guarded(app, ["stylize", *paths, "-o", str(folder / output), *options, *more])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"photo.jpg", "style.png"}


def test_a_picture_is_painted_and_one_line_says_what_came_out(stylize: Run, folder: Path) -> None:
    code, out, err = stylize()
    assert (code, err) == (0, "")
    assert out.startswith(f"{folder}/out.jpg: 64 x 48 px, ")
    assert out.count("\n") == 1
    with Image.open(folder / "out.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
    assert leftovers(folder) == {"out.jpg"}


@pytest.mark.parametrize(
    ("name", "form"), [("o.png", "PNG"), ("o.webp", "WEBP"), ("o.TIFF", "TIFF"), ("o.jpeg", "JPEG")]
)
def test_the_extension_decides_the_format(stylize: Run, folder: Path, name: str, form: str) -> None:
    assert stylize(name)[0] == 0
    with Image.open(folder / name) as picture:
        assert picture.format == form


def test_a_style_may_be_a_name_of_the_library(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = folder / "house" / "styles" / "two"
    own.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (own / name).write_bytes((folder / "style.png").read_bytes())
    (own / "style.yaml").write_text("style_weight: 7.5\niterations: 2\n")
    library = ("--root", str(folder / "house"), "--report")
    assert paint(folder, "Two", *library) == 0
    report = json.loads((folder / "out.json").read_text())
    styles = [entry for entry in report["inputs"] if entry["role"] == "style"]
    assert [(s["name"], s["weight"]) for s in styles] == [("two/a.png", 0.5), ("two/b.png", 0.5)]
    assert report["parameters"]["style_weight"] == 7.5
    assert paint(folder, "tow", *library, "--force") == 65
    err = capfd.readouterr().err
    assert "neither a file nor a style" in err
    assert "Did you mean two?" in err


def test_a_file_goes_before_a_style_of_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "house" / "styles" / "style.png").mkdir(parents=True)  # no image: unusable
    monkeypatch.chdir(folder)
    assert paint(folder, "style.png", "--root", "house") == 0


def test_an_existing_picture_is_refused_without_force(stylize: Run, folder: Path) -> None:
    (folder / "out.jpg").write_bytes(b"mine")
    code, _, err = stylize()
    assert code == 2
    assert "is there already. Overwrite it with --force." in err
    assert (folder / "out.jpg").read_bytes() == b"mine"
    assert stylize("out.jpg", "--force")[0] == 0
    assert (folder / "out.jpg").read_bytes() != b"mine"


def test_an_input_is_never_overwritten(stylize: Run, folder: Path) -> None:
    before = (folder / "photo.jpg").read_bytes()
    code, _, err = stylize("photo.jpg", "--force")
    assert code == 2
    assert "one of the pictures to paint from" in err
    assert (folder / "photo.jpg").read_bytes() == before


def test_the_report_names_everything_that_was_asked_for(stylize: Run, folder: Path) -> None:
    code, _, _ = stylize(
        "out.png", "--report", "--style-weight", "7", "--seed", "5", "--preserve-color", "luminance"
    )
    assert code == 0
    report = json.loads((folder / "out.json").read_text())
    given = report["parameters"]
    assert (given["preset"], given["size"], given["seed"]) == ("tiny", 64, 5)
    assert (given["style_weight"], given["preserve_color"]) == (7.0, "luminance")
    assert [each["name"] for each in report["inputs"]] == ["photo.jpg", "style.png"]
    assert report["engine"]  # the stand-in says that it is one


def test_several_styles_are_blended_by_their_shares(stylize: Run, folder: Path) -> None:
    assert (
        stylize("out.jpg", "--report", "--blend", "2,1", styles=("style.png", "photo.jpg"))[0] == 0
    )
    report = json.loads((folder / "out.json").read_text())
    assert [each.get("weight") for each in report["inputs"]] == [None, 2.0, 1.0]


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0half"])
def test_a_bad_photograph_is_exit_65_in_words(stylize: Run, folder: Path, content: bytes) -> None:
    (folder / "photo.jpg").write_bytes(content)
    code, out, err = stylize()
    assert (code, out) == (65, "")
    assert "photo.jpg" in err
    assert err.count("\n") == 1
    assert leftovers(folder) == set()


def test_a_missing_file_and_a_folder_are_exit_65(stylize: Run, folder: Path) -> None:
    code, _, err = stylize(styles=("none.jpg",))
    assert code == 65
    assert "There is no file" in err
    (folder / "sub").mkdir()
    code, _, err = stylize(styles=("sub",))
    assert code == 65
    assert "is a folder" in err


def test_a_gpu_that_is_not_there_is_exit_75(stylize: Run, folder: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("needs a machine without a GPU")
    code, _, err = stylize("out.jpg", "--device", "gpu")
    assert code == 75
    assert err.count("\n") == 1


def test_ctrl_c_ends_between_two_steps_and_leaves_nothing_behind(
    stylize: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    real = standin.Standin.stylize

    def interrupted(self: standin.Standin, *args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(standin.Standin, "stylize", interrupted)
    code, out, err = stylize()
    assert (code, out) == (130, "")
    assert err == "nstd: Cancelled; nothing was written.\n"
    assert leftovers(folder) == set()
    assert signal.getsignal(signal.SIGINT) is handler


def test_native_chatter_stays_off_the_terminal(
    stylize: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = standin.Standin.stylize

    def chatty(self: standin.Standin, *args: Any, **kwargs: Any) -> Any:
        os.write(2, b"I0000 oneDNN custom operations are on.\n")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(standin.Standin, "stylize", chatty)
    assert stylize()[2] == ""
    monkeypatch.setenv("NSTD_DEBUG", "1")
    assert "oneDNN" in stylize("again.jpg")[2]
