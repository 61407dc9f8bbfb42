"""From files to bytes: sizes, colours, transparency, formats, and a report of all that."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstd import __version__
from nstd.engine.params import PRESETS, StyleParams
from nstd.engine.progress import Checkpoint, Listener, Losses, Result, StyleImage
from nstd.errors import CancelledError, DecodeError
from nstd.jobs.spec import OutputSpec
from nstd.photo.colour import with_luminance_of
from nstd.photo.decode import decode
from nstd.workers import decode_child
from nstd.workers.painting import Painting, PaintRequest, Source, Watch, job_hash, paint
from nstd.workers.standin import Standin
from tests.workers.conftest import picture, sha256

PARAMS = PRESETS["tiny"]


@pytest.fixture(autouse=True)
def _decoding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: the child has tests of its own."""

    def decode_here(path: str, limits: Any, *, max_side: int, name: str, **_limits: Any) -> Any:
        return decode(Path(path).read_bytes(), limits=limits, max_side=max_side, name=name)

    monkeypatch.setattr(decode_child, "decode_limited", decode_here)


class Recorder:
    """An engine that keeps what it was given and gives the content back, or what it is told."""

    def __init__(self, answer: Callable[[Any], Any] = lambda content: content) -> None:
        self._answer = answer

    def facts(self) -> dict[str, Any]:
        return {"device": "CPU:0", "engine": 1, "tensorflow": "2", "weights": {"sha256": "ab"}}

    def stylize(
        self,
        content: Any,
        styles: Sequence[StyleImage],
        params: StyleParams,
        *,
        listener: Listener,
        resume: Checkpoint | None = None,
        job_hash: str = "",
    ) -> Result:
        self.content, self.styles, self.resume, self.hash = content, styles, resume, job_hash
        pixels = self._answer(content)
        if listener.preview is not None:
            listener.preview(pixels)
        losses = Losses(1 / 3, 0.1, float("nan"), 0.0)
        return Result(pixels, losses, [(1, losses)], 1, {"optimize": 1.0}, {"levels": []}, ["x"])


def request(folder: Path, params: StyleParams = PARAMS, **changes: Any) -> PaintRequest:
    content = Source(str(picture(folder / "beach.png", 1)), "content")
    style = Source(str(picture(folder / "waves.png", 2)), "style")
    values: dict[str, Any] = {"content": content, "styles": (style,), "output": OutputSpec()}
    return PaintRequest(params=params, **(values | changes))


def painted(folder: Path, params: StyleParams = PARAMS, **changes: Any) -> Recorder:
    recorder = Recorder()
    paint(request(folder, params, **changes), recorder, listener=Listener())
    return recorder


def opened(painting: Painting) -> Image.Image:
    return Image.open(io.BytesIO(painting.data))


@pytest.mark.parametrize("size", [32, 64, 100])
def test_the_long_side_becomes_the_size_that_was_asked_for(tmp_path: Path, size: int) -> None:
    content = painted(tmp_path, dataclasses.replace(PARAMS, size=size)).content
    assert content.shape == (size * 3 // 4, size, 3)


def test_a_tutorial_may_squeeze_the_content(tmp_path: Path) -> None:
    params = dataclasses.replace(PARAMS, squeeze=(40, 40))
    assert painted(tmp_path, params).content.shape == (40, 40, 3)


def test_the_engine_gets_styles_with_weight_and_identity(tmp_path: Path) -> None:
    path = picture(tmp_path / "scream.png", 3, (30, 50))
    styles = (Source(str(path), "style", "scream", 2.0),)
    style = painted(tmp_path, styles=styles).styles[0]
    assert style.pixels.shape == (50, 30, 3)
    assert (style.weight, style.sha256, style.mask) == (2.0, sha256(path), None)


def test_a_mask_is_white_where_the_style_applies(tmp_path: Path) -> None:
    grey = np.zeros((10, 20, 4), np.uint8)
    grey[:, 5:] = 255
    grey[:5, :, 3] = 0  # transparent
    grey[5:, :, 3] = 255
    Image.fromarray(grey).save(tmp_path / "mask.png")
    mask = Source(str(tmp_path / "mask.png"), "mask")
    got = painted(tmp_path, mask=mask).styles[0].mask
    assert got is not None
    assert got.shape == (10, 20)
    assert got.dtype == np.float32
    assert (got[:5] == 0).all()
    assert (got[6:, :4] == 0).all()
    assert (got[6:, 6:] == 1).all()


def test_histogram_recolours_the_style_and_its_statistics_are_not_shared(tmp_path: Path) -> None:
    plain = painted(tmp_path).styles[0]
    params = dataclasses.replace(PARAMS, preserve_color="histogram")
    recorder = painted(tmp_path, params)
    style = recorder.styles[0]
    assert style.sha256 == ""
    before = np.abs(plain.pixels.mean((0, 1)) - recorder.content.mean((0, 1))).sum()
    after = np.abs(style.pixels.mean((0, 1)) - recorder.content.mean((0, 1))).sum()
    assert after < before


def test_luminance_gives_the_photographs_colours_to_picture_and_preview(tmp_path: Path) -> None:
    params = dataclasses.replace(PARAMS, preserve_color="luminance")
    previews: list[Any] = []
    recorder = Recorder(lambda content: 255 - content)
    painting = paint(
        request(tmp_path, params), recorder, listener=Listener(preview=previews.append)
    )
    wanted = with_luminance_of(recorder.content, 255 - recorder.content)
    assert np.array_equal(np.asarray(opened(painting)), wanted)
    assert np.array_equal(previews[0], wanted)


@pytest.mark.parametrize(
    ("suffix", "asked", "got"),
    [("png", None, "PNG"), ("jpg", None, "JPEG"), ("gif", None, "JPEG"), ("png", "webp", "WEBP")],
)
def test_the_result_has_the_contents_format_unless_told(
    tmp_path: Path, suffix: str, asked: str | None, got: str
) -> None:
    content = Source(str(picture(tmp_path / f"a.{suffix}", 1)), "content")
    painting = paint(
        request(tmp_path, content=content, output=OutputSpec(asked)),
        Recorder(),
        listener=Listener(),
    )
    assert opened(painting).format == got


def test_transparency_is_restored_at_the_new_size(tmp_path: Path) -> None:
    pixels = np.full((24, 32, 4), 200, np.uint8)
    pixels[:, :16, 3] = 0
    pixels[:, 16:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = Source(str(tmp_path / "a.png"), "content")
    painting = paint(request(tmp_path, content=content), Recorder(), listener=Listener())
    alpha = np.asarray(opened(painting))[..., 3]
    assert alpha.shape == (36, 48)
    assert (alpha[:, :20] == 0).all()
    assert (alpha[:, 28:] == 255).all()


def test_the_report_tells_everything_as_plain_json(tmp_path: Path) -> None:
    notes = ["a note"]
    wish = dataclasses.replace(request(tmp_path), job_id="j1")
    painting = paint(wish, Recorder(), listener=Listener(), watch=Watch(notes=notes))
    report = json.loads(json.dumps(painting.report, allow_nan=False))
    assert report["job"] == "j1"
    assert [(each["role"], each["name"]) for each in report["inputs"]] == [
        ("content", "beach.png"),
        ("style", "waves.png"),
    ]
    assert report["inputs"][0]["sha256"] == sha256(tmp_path / "beach.png")
    assert set(PARAMS.to_dict()) == set(report["parameters"])
    assert report["losses"] == {"total": 0.3333333, "content": 0.1, "style": None, "tv": 0.0}
    assert report["losses_over_time"][0]["step"] == 1
    assert set(report["seconds"]) == {"decode", "optimize", "encode"}
    assert report["device"] == "CPU:0"
    assert report["weights"] == {"sha256": "ab"}
    assert report["versions"]["nstd"] == __version__
    assert report["notes"] == ["a note", "x"]
    assert report["picture"]["width"] == 48
    assert str(tmp_path) not in json.dumps(report)


def test_stages_are_told_in_order(tmp_path: Path) -> None:
    told: list[str] = []
    watch = Watch(begin=told.append, stage=lambda stage, _seconds: told.append(f"{stage} ended"))
    paint(request(tmp_path), Recorder(), listener=Listener(), watch=watch)
    assert told == [
        "decode", "decode", "decode ended", "prepare", "optimize ended", "encode", "encode ended",
    ]  # fmt: skip


def test_a_cancellation_is_heard_between_two_files(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        paint(request(tmp_path), Recorder(), listener=Listener(cancelled=lambda: True))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    content = Source(str(tmp_path / "gone.png"), "content")
    with pytest.raises(DecodeError, match=r"gone\.png"):
        paint(request(tmp_path, content=content), Recorder(), listener=Listener())


def test_the_checkpoint_is_asked_for_by_the_jobs_hash(tmp_path: Path) -> None:
    kept = Checkpoint("any", {}, {})
    asked: list[str] = []
    recorder = Recorder()

    def resume(identity: str) -> Checkpoint:
        asked.append(identity)
        return kept

    paint(request(tmp_path), recorder, listener=Listener(), watch=Watch(resume=resume))
    assert recorder.resume is kept
    assert asked == [recorder.hash]


def test_the_hash_changes_with_inputs_parameters_and_engine_but_not_with_the_device(
    tmp_path: Path,
) -> None:
    wish = request(tmp_path).hashed()
    facts = Recorder().facts()
    same = job_hash(wish, facts)
    assert job_hash(wish, facts | {"device": "GPU:1"}) == same
    others = [
        job_hash(wish, facts | {"engine": 2}),
        job_hash(wish, facts | {"weights": {"sha256": "cd"}}),
        job_hash(dataclasses.replace(wish, params=PRESETS["draft"]), facts),
        job_hash(dataclasses.replace(wish, mask=wish.content), facts),
        job_hash(
            dataclasses.replace(wish, styles=(dataclasses.replace(wish.styles[0], weight=2.0),)),
            facts,
        ),
        job_hash(dataclasses.replace(wish, content=wish.styles[0]), facts),
    ]
    assert len({same, *others}) == len(others) + 1


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    wish = request(tmp_path)
    first, second = (paint(wish, Standin(), listener=Listener()).data for _ in range(2))
    assert first == second
