"""The model that kills are judged by finds what it is to find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.model import Model, make_drop, sha256

PICTURE = b"a painted picture"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return a house in which one photograph, and one broken one, have ended as they should."""
    root = tmp_path / "root"
    for folder in ("inbox", "outbox/starry", "originals", "failed/job", "state/spool"):
        (root / folder).mkdir(parents=True)
    good, bad = make_drop(0), make_drop(5)
    made = Model(root, root / "state", {good.kind: sha256(PICTURE)}, copies=False)
    for drop in (good, bad):
        made.drop(drop)
    for name, data in good.files.items():
        (root / "originals" / name).parent.mkdir(exist_ok=True)
        (root / "inbox" / name).rename(root / "originals" / name)
        report = {"inputs": [{"sha256": sha256(data)}]}
        (root / "outbox" / good.result).with_suffix(".json").write_text(json.dumps(report))
    for name in bad.files:
        (root / "inbox" / name).rename(root / "failed" / "job" / Path(name).name)
    (root / "outbox" / good.result).write_bytes(PICTURE)
    return made


def result(model: Model) -> Path:
    return model.root / "outbox" / model.drops[0].result


def test_what_is_well_is_well(model: Model) -> None:
    model.check_end()
    assert model.words == []


def test_half_a_picture_is_torn(model: Model) -> None:
    result(model).write_bytes(PICTURE[:9])
    model.check_wreck()
    assert model.found["torn"] == 1


def test_a_picture_without_its_report_is_torn(model: Model) -> None:
    result(model).with_suffix(".json").unlink()
    model.check_wreck()
    assert model.found["torn"] == 1


def test_half_an_original_is_torn_and_its_other_half_lost(model: Model) -> None:
    original = next(path for path in (model.root / "originals").rglob("*.jpg"))
    original.write_bytes(original.read_bytes()[:99])
    model.check_wreck()
    assert model.found["torn"] == 1
    assert model.found["lost"] == 1


def test_a_second_picture_of_one_photograph_is_doubled(model: Model) -> None:
    for suffix in (".jpg", ".json"):
        path = result(model).with_suffix(suffix)
        path.with_name(f"{path.stem}-2{suffix}").write_bytes(path.read_bytes())
    model.check_wreck()
    assert model.found["doubled"] == 2


def test_a_photograph_that_lies_nowhere_is_lost(model: Model) -> None:
    next((model.root / "failed").rglob("*.jpg")).unlink()
    model.check_wreck()
    assert model.found["lost"] == 1


def test_what_lies_in_a_hidden_folder_is_not_there_yet(model: Model) -> None:
    half = model.root / "failed" / ".nstd-0123456789abcdef.tmp" / "error.json"
    half.parent.mkdir()
    half.write_text("{")
    model.check_wreck()
    assert model.words == []
    model.check_end()
    assert model.found["left over"] == 1


def test_a_temporary_is_left_over(model: Model) -> None:
    (model.root / "outbox" / ".nstd-0123456789abcdef.tmp").touch()
    model.check_end()
    assert model.found["left over"] == 1
