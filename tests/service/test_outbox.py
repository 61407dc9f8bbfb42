"""Delivery: complete when visible, never overwriting, exactly once across any crash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.errors import NoSpaceError, StorageError
from nstd.jobs import publish
from nstd.jobs.job import Output
from nstd.service.outbox import Outbox, Outputs, Parcel
from tests.service.kit import refusing

PICTURE = b"\xff\xd8 a painted beach \xff\xd9"


class Ledger:
    """Holds what the real one would keep on disk."""

    def __init__(self) -> None:
        self.outputs: Outputs = ()
        self.writes = 0

    def record(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.writes += 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "outbox"
    path.mkdir()
    return path


@pytest.fixture
def outbox(root: Path) -> Outbox:
    return Outbox(str(root), notes=str(root.parent / "notes"))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(autouse=True)
def _hook() -> Iterator[None]:
    before = publish.hook
    yield
    publish.hook = before


def parcel(tmp_path: Path, *, folder: str = "", stem: str = "beach", job: str = "j1") -> Parcel:
    spool = tmp_path / "spool" / job
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "picture.jpg").write_bytes(PICTURE)
    (spool / "report.json").write_text(json.dumps({"job": job, "steps": 3}))
    return Parcel(str(spool / "picture.jpg"), str(spool / "report.json"), folder, stem)


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_picture_and_report_lie_side_by_side(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    outputs = outbox.deliver(parcel(tmp_path, folder="starry-night/day"), (), ledger.record)
    assert listing(root) == ["starry-night/day/beach.jpg", "starry-night/day/beach.json"]
    report, picture = ((root / output.name).read_bytes() for output in outputs)
    assert picture == PICTURE
    assert [hashlib.sha256(data).hexdigest() for data in (report, picture)] == [
        output.sha256 for output in outputs
    ]
    assert json.loads(report) == {"job": "j1", "steps": 3, "picture": {"name": "beach.jpg"}}


@pytest.mark.parametrize("taken", ["beach.jpg", "beach.json", "BEACH.JPG"])
def test_one_free_stem_serves_both(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger, taken: str
) -> None:
    (root / taken).write_text("somebody else's")
    outputs = outbox.deliver(parcel(tmp_path), (), ledger.record)
    assert [output.name for output in outputs] == ["beach-2.json", "beach-2.jpg"]
    assert (root / taken).read_text() == "somebody else's"


def test_the_ledger_knows_the_names_before_anything_is_visible(
    outbox: Outbox, root: Path, tmp_path: Path
) -> None:
    seen: list[list[str]] = []
    outbox.deliver(parcel(tmp_path), (), lambda _outputs: seen.append(listing(root)))
    assert seen == [[]]


def test_the_picture_becomes_visible_last(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    states: list[tuple[bool, bool]] = []
    publish.hook = lambda _name: states.append(
        ((root / "beach.json").exists(), (root / "beach.jpg").exists())
    )
    outbox.deliver(parcel(tmp_path), (), ledger.record)
    assert (False, True) not in states
    assert (True, False) in states


def test_a_name_taken_in_the_last_moment_is_not_overwritten(
    outbox: Outbox, root: Path, tmp_path: Path
) -> None:
    ledger = Ledger()

    def record(outputs: Outputs) -> None:
        if not ledger.outputs:
            (root / "beach.jpg").write_text("somebody else's")
        ledger.record(outputs)

    outbox.deliver(parcel(tmp_path), (), record)
    assert listing(root) == ["beach-2.jpg", "beach-2.json", "beach.jpg"]
    assert (root / "beach.jpg").read_text() == "somebody else's"
    assert ledger.writes == 2


def _crash_at(number: int) -> None:
    left = number

    def hook(name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt(name)

    publish.hook = hook


def test_a_delivery_cut_off_at_any_call_goes_on_and_happens_once(
    outbox: Outbox, root: Path, tmp_path: Path
) -> None:
    (root / "sub").mkdir()
    number, finished = 0, False
    while not finished:
        number += 1
        box, ledger = parcel(tmp_path, folder=f"sub/{number}"), Ledger()
        _crash_at(number)
        try:
            outbox.deliver(box, (), ledger.record)
            finished = True
        except KeyboardInterrupt:
            publish.hook = lambda _name: None
            outbox.sweep({box.folder})
            outbox.deliver(box, ledger.outputs, ledger.record)
        publish.hook = lambda _name: None
        here = root / "sub" / str(number)
        assert listing(here) == ["beach.jpg", "beach.json"]
        assert (here / "beach.jpg").read_bytes() == PICTURE
    assert number > 12


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_an_error_at_any_call_leaves_nothing_half_and_a_second_try_succeeds(
    outbox: Outbox, root: Path, tmp_path: Path, code: int
) -> None:
    number, full, finished = 0, 0, False
    while not finished:
        number += 1
        box, ledger = parcel(tmp_path, folder=str(number)), Ledger()
        left = number

        def hook(name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(code, os.strerror(code), name)

        publish.hook = hook
        try:
            outbox.deliver(box, (), ledger.record)
            finished = left > 0
        except NoSpaceError:
            full += 1
        except StorageError:
            pass
        publish.hook = lambda _name: None
        for name in listing(root):
            assert name.endswith((".jpg", ".json"))
        if not finished:
            outbox.deliver(box, ledger.outputs, ledger.record)
        assert listing(root / str(number)) == ["beach.jpg", "beach.json"]
    assert (full > 0) == (code in (errno.ENOSPC, errno.EDQUOT))


def test_a_picture_painted_again_takes_the_place_of_its_own_unfinished_delivery(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    box = parcel(tmp_path)
    outbox.deliver(box, (), ledger.record)
    (root / "beach.jpg").unlink()  # as if the crash had come before the picture
    (tmp_path / "spool" / "j1" / "picture.jpg").write_bytes(b"another attempt")
    outbox.deliver(box, ledger.outputs, ledger.record)
    assert listing(root) == ["beach.jpg", "beach.json"]
    assert (root / "beach.jpg").read_bytes() == b"another attempt"


def test_what_is_visible_needs_no_spool(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    box = parcel(tmp_path)
    outbox.deliver(box, (), ledger.record)
    os.unlink(box.picture)
    os.unlink(box.report)
    assert outbox.deliver(box, ledger.outputs, ledger.record) == ledger.outputs
    assert listing(root) == ["beach.jpg", "beach.json"]


def test_other_files_under_the_names_are_not_taken_for_ours(outbox: Outbox, root: Path) -> None:
    (root / "beach.jpg").write_text("somebody else's")
    assert not outbox.is_visible((Output("beach.jpg", "0" * 64, "picture"),))
    assert not outbox.is_visible((Output("nowhere/beach.jpg", "0" * 64, "picture"),))


def test_a_link_in_the_outbox_is_not_followed(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "starry-night").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="link"):
        outbox.deliver(parcel(tmp_path, folder="starry-night"), (), ledger.record)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_report_that_is_a_link_is_not_taken_for_ours(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    (root / "beach.json").symlink_to(tmp_path / "target")
    outbox.deliver(parcel(tmp_path), (), ledger.record)
    assert ledger.outputs[0].name == "beach-2.json"
    assert not (tmp_path / "target").exists()


def test_files_get_the_modes_that_the_umask_leaves(
    outbox: Outbox, root: Path, tmp_path: Path, ledger: Ledger
) -> None:
    before = os.umask(0o002)
    try:
        root.chmod(0o2775)
        outbox.deliver(parcel(tmp_path, folder="sub"), (), ledger.record)
    finally:
        os.umask(before)
    assert (root / "sub" / "beach.jpg").stat().st_mode & 0o777 == 0o664
    assert (root / "sub").stat().st_mode & 0o7777 == 0o2775


def test_a_preview_is_replaced_and_goes_in_the_end(
    outbox: Outbox, root: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "preview.jpg").write_bytes(b"one")
    path = outbox.show_preview("job", "beach", str(job / "preview.jpg"))
    assert path == "previews/beach.jpg"
    (job / "preview.jpg").write_bytes(b"two")
    assert outbox.show_preview("job", "beach", str(job / "preview.jpg")) == path
    assert (root / path).read_bytes() == b"two"
    outbox.remove_preview("job")
    outbox.remove_preview("job")
    assert listing(root) == []


def test_a_preview_that_resists_is_known_until_it_is_gone(root: Path, tmp_path: Path) -> None:
    def opened(previews: str) -> Outbox:
        return Outbox(str(root), notes=str(tmp_path / "notes"), previews=previews)

    (tmp_path / "preview.jpg").write_bytes(b"one")
    outbox = opened("previews")
    for job in ("one", "two"):
        outbox.show_preview(job, "beach", str(tmp_path / "preview.jpg"))
    with refusing(errno.EIO, "unlink"), pytest.raises(StorageError):
        outbox.remove_preview("one")
    assert listing(root) == ["previews/beach-2.jpg", "previews/beach.jpg"]
    later = opened("elsewhere")  # after a restart, with another folder
    later.remove_previews({"two"})
    assert listing(root) == ["previews/beach-2.jpg"]
    later.remove_previews(())
    assert listing(root) == []
    assert not any((tmp_path / "notes").iterdir())


def test_a_preview_never_takes_the_place_of_another_file(
    outbox: Outbox, root: Path, tmp_path: Path
) -> None:
    (root / "previews").mkdir()
    (root / "previews" / "beach.jpg").write_text("a result of inbox/previews/")
    job = tmp_path / "job"
    job.mkdir()
    (job / "preview.jpg").write_bytes(b"one")
    for _ in range(2):
        path = outbox.show_preview("job", "beach", str(job / "preview.jpg"))
        assert path == "previews/beach-2.jpg"
    outbox.remove_preview("job")
    assert listing(root) == ["previews/beach.jpg"]


def test_the_status_page_is_replaced(outbox: Outbox, root: Path) -> None:
    outbox.write_status("<p>one</p>")
    outbox.write_status("<p>zwei \udcff</p>")
    assert "zwei" in (root / "status.html").read_text()
    assert listing(root) == ["status.html"]


def test_sweeping_removes_left_over_temporaries_and_nothing_else(
    outbox: Outbox, root: Path
) -> None:
    (root / "sub").mkdir()
    for folder in (root, root / "sub"):
        (folder / ".nstd-0123456789abcdef.tmp").touch()
        (folder / "beach.jpg").touch()
    assert outbox.sweep({"sub", "never-made"}) == 2
    assert listing(root) == ["beach.jpg", "sub/beach.jpg"]
