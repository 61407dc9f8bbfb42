from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.errors import StorageError
from nstd.jobs import originals, publish
from nstd.jobs.job import Job, StoredInput
from tests.jobs.test_ledger import job


@pytest.fixture(autouse=True)
def _no_hook_survives() -> Iterator[None]:
    yield
    publish.hook = publish._no_hook


def finished(root: Path, contents: dict[str, bytes], *, stays: tuple[str, ...] = ()) -> Job:
    one = job()
    folder = root / one.id / "input"
    folder.mkdir(parents=True)
    inputs = []
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        digest = publish.sha256_of(str(folder), name) or ""
        inputs.append(StoredInput(name, "content", digest, len(data), name in stays, 0, 0, 0, 0))
    return Job(**{**vars(one), "inputs": tuple(inputs)})


def put(root: Path, one: Job, reserved: set[str] | None = None) -> list[str]:
    originals.put_away(one, str(root / one.id), str(root / "originals"), reserved or set())
    return sorted(os.listdir(root / "originals" / "x"))


def refuse_links(name: str) -> None:
    if name == "link":
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.mark.parametrize("links", [True, False])
def test_put_away_twice_is_put_away_once(tmp_path: Path, *, links: bool) -> None:
    one = finished(tmp_path, {"a.jpg": b"a", "b.yaml": b"b"})
    publish.hook = publish._no_hook if links else refuse_links
    assert put(tmp_path, one) == ["a.jpg", "b.yaml"]
    assert put(tmp_path, one) == ["a.jpg", "b.yaml"]
    assert (tmp_path / "originals" / "x" / "a.jpg").read_bytes() == b"a"


def test_nothing_is_replaced_not_even_by_equal_bytes_of_another_job(tmp_path: Path) -> None:
    for number in range(1, 4):
        names = put(tmp_path, finished(tmp_path, {"a.jpg": b"same"}))
        assert len(names) == number


def test_what_another_job_needs_is_not_put_away(tmp_path: Path) -> None:
    one = finished(tmp_path, {"a.yaml": b"a", "p.jpg": b"p"}, stays=("p.jpg",))
    assert put(tmp_path, one) == ["a.yaml"]


def test_a_name_that_was_taken_meanwhile_is_chosen_anew(tmp_path: Path) -> None:
    one = finished(tmp_path, {"a.jpg": b"mine"})
    (tmp_path / one.id / originals.PLAN_FILE).write_text(json.dumps({"a.jpg": "a.jpg"}))
    target = tmp_path / "originals" / "x"
    target.mkdir(parents=True)
    (target / "a.jpg").write_bytes(b"somebody else's")
    assert put(tmp_path, one) == ["a-2.jpg", "a.jpg"]
    assert (target / "a-2.jpg").read_bytes() == b"mine"
    assert (target / "a.jpg").read_bytes() == b"somebody else's"


def test_names_that_other_jobs_are_about_to_use_are_avoided(tmp_path: Path) -> None:
    other = finished(tmp_path, {"a.jpg": b"other"})
    (tmp_path / other.id / originals.PLAN_FILE).write_text(json.dumps({"a.jpg": "A.jpg"}))
    reserved = originals.planned([str(tmp_path / other.id), str(tmp_path / "absent")])
    assert put(tmp_path, finished(tmp_path, {"a.jpg": b"mine"}), reserved) == ["a-2.jpg"]


def test_half_a_copy_is_swept_when_it_goes_on(tmp_path: Path) -> None:
    one = finished(tmp_path, {"a.jpg": b"a"})
    put(tmp_path, one)
    (tmp_path / "originals" / "x" / publish.temporary_name()).write_bytes(b"half")
    assert put(tmp_path, one) == ["a.jpg"]


def test_a_plan_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    one = finished(tmp_path, {"a.jpg": b"a"})
    (tmp_path / one.id / originals.PLAN_FILE).write_text("{")
    assert put(tmp_path, one) == ["a.jpg"]


def test_a_full_disk_is_said_and_leaves_no_temporary(tmp_path: Path) -> None:
    one = finished(tmp_path, {"a.jpg": b"a"})

    def full(name: str) -> None:
        refuse_links(name)
        if name == "write" and os.path.exists(tmp_path / one.id / originals.PLAN_FILE):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish.hook = full
    with pytest.raises(StorageError):
        put(tmp_path, one)
    publish.hook = publish._no_hook
    assert os.listdir(tmp_path / "originals" / "x") == []
    assert put(tmp_path, one) == ["a.jpg"]
