from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nstd.errors import DecodeError
from nstd.jobs import aside
from nstd.jobs.admission import failing
from nstd.jobs.job import Job
from tests.jobs.test_ledger import job


def broken(**changes: object) -> Job:
    base = replace(job(), **changes)  # type: ignore[arg-type]
    return failing(base, DecodeError("'beach.jpg' is torn.", "Copy it again."))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "beach.jpg").write_bytes(b"photograph")
    (tmp_path / "failed").mkdir()
    return folder


def build(one: Job, inputs: Path) -> Path:
    failed = inputs.parent / "failed"
    aside.build(one, str(inputs), str(failed), now=0.0)
    return failed / (one.failed_folder or "")


def test_the_reason_stands_there_in_plain_words_and_for_machines(inputs: Path) -> None:
    one = broken()
    folder = build(one, inputs)
    words = (folder / "error.txt").read_text(encoding="utf-8")
    assert words.startswith("x/beach.jpg could not be painted.\n\n'beach.jpg' is torn.\n")
    assert "What to do:\nCopy it again." in words
    assert f"nstd retry {one.id}" in words
    facts = json.loads((folder / "error.json").read_bytes())
    assert (facts["job"], facts["reason"], facts["outcome"]) == (one.id, "decode", "failed")
    assert facts["inputs"][0]["name"] == "beach.jpg"
    assert facts["parameters"]["preset"] == "standard"


def test_what_to_do_is_what_the_intake_allows(inputs: Path) -> None:
    folder = build(broken(intake="move"), inputs)
    assert (
        "put beach.jpg back into the inbox (folder x), or run: nstd retry "
        in (folder / "error.txt").read_text()
    )
    other = build(broken(intake="copy", id="20260102-000000-aaaaaa"), inputs)
    assert "change the files where they still lie" in (other / "error.txt").read_text()


def test_the_command_that_tries_again_is_the_one_for_these_folders(inputs: Path) -> None:
    one, failed = broken(), inputs.parent / "failed"
    aside.build(one, str(inputs), str(failed), now=0.0, retry="nstd retry --root /x")
    (folder,) = failed.iterdir()
    assert (folder / "error.txt").read_text().endswith(f"run: nstd retry --root /x {one.id}\n")


def test_a_long_list_of_files_is_not_written_out(inputs: Path) -> None:
    one = broken()
    many = replace(one, inputs=tuple(replace(one.inputs[0], name=f"{n}.jpg") for n in range(9)))
    words = (build(many, inputs) / "error.txt").read_text()
    assert "put the photographs and sidecars of this folder back into the inbox" in words


def test_a_cancelled_job_says_so(inputs: Path) -> None:
    folder = build(replace(broken(), outcome="cancelled", remedy=""), inputs)
    assert "was cancelled" in (folder / "error.txt").read_text(encoding="utf-8")


def test_a_folder_that_is_there_is_not_made_twice(inputs: Path) -> None:
    one = broken()
    folder = build(one, inputs)
    (folder / "error.txt").write_text("read")
    build(one, inputs)
    assert (folder / "error.txt").read_text() == "read"
    assert os.listdir(inputs.parent / "failed") == [folder.name]


def test_a_failed_folder_that_was_deleted_is_made_anew(inputs: Path) -> None:
    (inputs.parent / "failed").rmdir()
    assert build(broken(), inputs).is_dir()


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("beach.jpg", "beach"),
        ("a b 😀.jpg", "a b 😀"),
        ("..jpg", "job"),
        ("a\nb\x1b:c\udcff\u202e.jpg", "a_b__c__"),
        ("x" * 250 + ".jpg", "x" * 120),
        ("é" * 120 + ".jpg", "é" * 60),
    ],
)
def test_the_folders_name_is_plain_and_ends_with_the_id(title: str, stem: str) -> None:
    one = replace(job(), spec=None, folder="")
    one = replace(one, inputs=(replace(one.inputs[0], name=title),))
    assert aside.folder_name(one) == f"{stem}-{one.id}"


def test_inputs_are_told_from_the_files_that_explain(inputs: Path) -> None:
    for name in ("error.json", "error-2.jpg", "errors.yaml"):
        (inputs / name).write_bytes(b"{}")
    folder = build(broken(), inputs)
    assert aside.names_in(str(folder)) == sorted(os.listdir(inputs))


def test_a_folder_is_found_by_its_jobs_id_and_removed(inputs: Path) -> None:
    one = broken()
    folder = build(one, inputs)
    failed = str(inputs.parent / "failed")
    assert aside.find(failed, one.id) == str(folder)
    assert aside.find(failed, "another") is None
    aside.remove(failed, one.id)
    aside.remove(failed, one.id)
    assert os.listdir(failed) == []
    assert aside.find(failed + "/absent", one.id) is None
