from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nstd.errors import CancelledError, DecodeError, NoSpaceError
from nstd.jobs import publish
from nstd.jobs.intake import ChangedError
from nstd.jobs.job import Job
from tests.jobs.house import NOW, House


def drop(house: House, drops: dict[str, bytes]) -> None:
    for name, data in drops.items():
        path = house.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def admitted(house: House, drops: dict[str, bytes]) -> Job:
    drop(house, drops)
    assert house.admit()
    (job,) = house.ledger.unfinished()
    return job


def paint(house: House, job: Job) -> None:
    house.deliver(house.ledger.start(job.id))


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_admitted_job_has_all_it_needs_in_its_folder(house: House) -> None:
    job = admitted(house, {"starry/beach.jpg": b"photograph", "starry/beach.yaml": b"size: 64"})
    folder = Path(house.spool.job_dir(job.id))
    assert names(folder) == [
        "input/beach.jpg",
        "input/beach.yaml",
        "job.json",
        "style/0/starry.jpg",
    ]
    assert job.spec is not None
    assert (folder / job.spec.content_file).read_bytes() == b"photograph"
    assert [(folder / file).read_bytes() for file in job.spec.styles[0].files] == [b"stars"]
    assert job.inputs[0].sha256 == publish.sha256_of(str(folder / "input"), "beach.jpg")
    assert names(house.inbox) == []


def test_a_change_of_the_library_does_not_touch_an_admitted_job(house: House) -> None:
    job = admitted(house, {"starry/beach.jpg": b"photograph"})
    (house.root / "styles" / "starry.jpg").write_bytes(b"another style")
    paint(house, job)
    assert b"stars" in (house.outbox / "beach.jpg").read_bytes()


def test_a_style_that_vanishes_meanwhile_leaves_the_photograph_where_it_is(house: House) -> None:
    drop(house, {"starry/beach.jpg": b"photograph"})
    (house.root / "styles" / "starry.jpg").write_bytes(b"stars")
    library = house.library()
    (house.root / "styles" / "starry.jpg").unlink()
    house.library = lambda: library  # type: ignore[method-assign]
    with pytest.raises(ChangedError):
        house.admit()
    assert names(house.inbox) == ["starry/beach.jpg"]
    assert house.ledger.unfinished() == []


def test_inputs_of_a_finished_job_lie_in_originals_under_their_names(house: House) -> None:
    for _again in range(2):
        job = admitted(house, {"starry/a.jpg": b"same bytes", "starry/a.yaml": b"size: 64"})
        paint(house, job)
    assert names(house.originals) == [
        "starry/a-2.jpg", "starry/a-2.yaml", "starry/a.jpg", "starry/a.yaml",
    ]  # fmt: skip
    assert names(house.outbox) == ["a-2.jpg", "a.jpg"]


def test_inputs_are_deleted_only_where_the_configuration_says_so(house: House) -> None:
    house.spool.keep_originals = False
    paint(house, admitted(house, {"starry/a.jpg": b"photograph"}))
    assert names(house.originals) == []
    assert names(house.inbox) == []


def test_copy_intake_never_touches_the_inbox_and_takes_a_file_once(house: House) -> None:
    house.mode = "copy"
    paint(house, admitted(house, {"starry/a.jpg": b"photograph"}))
    assert names(house.inbox) == ["starry/a.jpg"]
    assert names(house.originals) == []
    assert not house.admit()
    (house.inbox / "starry" / "a.jpg").write_bytes(b"another one")
    assert house.admit()


@pytest.mark.parametrize("mtime", [None, 1e9], ids=["mode", "old mtime"])
def test_a_copied_file_with_other_times_is_recognised_by_its_bytes(
    house: House, mtime: float | None
) -> None:
    house.mode = "copy"
    admitted(house, {"starry/a.jpg": b"photograph"})
    path = house.inbox / "starry" / "a.jpg"
    path.chmod(0o600) if mtime is None else os.utime(path, (mtime, mtime))
    (file,) = house.files()
    assert not file.taken
    assert house.spool.recognises(file)
    (file,) = house.files()
    assert file.taken


def test_a_drop_of_the_same_or_other_bytes_is_another_job(house: House) -> None:
    house.mode = "copy"
    admitted(house, {"starry/a.jpg": b"photograph"})
    path = house.inbox / "starry" / "a.jpg"
    path.write_bytes(b"photograph")
    assert not house.spool.recognises(house.files()[0])
    path.write_bytes(b"PHOTOGRAPH")
    os.utime(path, (1e9, 1e9))
    assert not house.spool.recognises(house.files()[0])


def test_what_left_the_inbox_is_not_recognised_when_it_comes_again(house: House) -> None:
    house.mode = "copy"
    admitted(house, {"starry/a.jpg": b"photograph"})
    house.ledger.left_the_inbox(["starry/a.jpg"])
    assert house.files()[0].taken  # a folder was moved away and back
    (house.inbox / "starry" / "a.jpg").chmod(0o600)
    assert not house.spool.recognises(house.files()[0])


def test_a_failed_job_appears_with_its_inputs_and_the_reason(house: House) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    house.spool.set_aside(job.id, DecodeError("'a.jpg' is torn.", "Copy it again."))
    (folder,) = house.failed.iterdir()
    assert folder.name == f"a-{job.id}"
    assert names(folder) == ["a.jpg", "error.json", "error.txt"]
    assert (folder / "a.jpg").read_bytes() == b"photograph"
    assert (folder / "a.jpg").stat().st_nlink == 1
    assert house.ledger.get(job.id).state == "failed"
    assert not os.path.exists(house.spool.job_dir(job.id))


def test_a_cancelled_job_is_set_aside_as_cancelled(house: House) -> None:
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    assert house.spool.set_aside(job.id, CancelledError("No.")).state == "cancelled"


def test_a_full_disk_leaves_the_photograph_in_the_inbox(house: House) -> None:
    drop(house, {"starry/a.jpg": b"photograph"})

    def full(name: str) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish.hook = full
    with pytest.raises(NoSpaceError):
        house.admit()
    publish.hook = publish._no_hook
    assert names(house.inbox) == ["starry/a.jpg"]
    assert names(house.state / "spool") == []
    assert house.admit()


def test_a_full_disk_does_not_keep_a_job_from_being_set_aside_by_links(house: House) -> None:
    """The inputs, which may be large, cost no room; the two small files may."""
    job = admitted(house, {"starry/a.jpg": b"x" * 100_000})
    written: list[str] = []
    publish.hook = written.append
    house.spool.set_aside(job.id, DecodeError("Torn."))
    assert "link" in written
    assert written.count("write") == 2


def test_what_cannot_leave_the_inbox_is_not_taken_twice_and_goes_later(house: House) -> None:
    drop(house, {"starry/a.jpg": b"photograph"})

    def read_only(name: str) -> None:
        if name == "unlink":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    publish.hook = read_only
    assert house.admit()
    assert names(house.inbox) == ["starry/a.jpg"]
    assert not house.admit()
    assert house.spool.clear_inbox()
    publish.hook = publish._no_hook
    assert house.spool.catch_up() == []
    assert names(house.inbox) == []
    assert len(house.ledger.unfinished()) == 1


def test_a_file_that_changes_between_copy_and_removal_is_a_new_drop(house: House) -> None:
    drop(house, {"starry/a.jpg": b"photograph"})

    def change(name: str) -> None:
        if name == "commit":
            (house.inbox / "starry" / "a.jpg").write_bytes(b"a newer one")

    publish.hook = change
    house.admit()
    publish.hook = publish._no_hook
    assert (house.inbox / "starry" / "a.jpg").read_bytes() == b"a newer one"
    assert house.admit()
    assert len(house.ledger.unfinished()) == 2


@pytest.mark.parametrize("name", ["a b 😀.jpg", "-rf.jpg", "x" * 251 + ".jpg", "\u202egpj.jpg"])
def test_any_fine_name_goes_all_the_way(house: House, name: str) -> None:
    paint(house, admitted(house, {f"starry/{name}": b"photograph"}))
    assert names(house.originals) == [f"starry/{name}"]
    assert len(names(house.outbox)) == 1


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[2J.jpg", "caf\udce9.jpg"])
def test_a_refused_name_ends_in_failed_under_a_plain_one(house: House, name: str) -> None:
    job = admitted(house, {f"starry/{name}": b"photograph"})
    assert job.state == "failing"
    house.spool.catch_up()
    (folder,) = house.failed.iterdir()
    assert folder.name.isprintable()
    assert "\n" not in folder.name
    assert (folder / name).read_bytes() == b"photograph"
    text = (folder / "error.txt").read_text(encoding="utf-8")
    assert "refused" in text
    assert "\x1b" not in text


def test_a_sidecar_called_error_keeps_its_name(house: House) -> None:
    job = admitted(house, {"error.json": b'{"size": "big"}'})
    house.spool.catch_up()
    (folder,) = house.failed.iterdir()
    assert names(folder) == ["error-2.json", "error-2.txt", "error.json"]
    assert (folder / "error.json").read_bytes() == b'{"size": "big"}'
    assert house.ledger.get(job.id).state == "failed"


def test_a_setgid_folder_gives_its_group_to_what_is_put_into_it(house: House) -> None:
    groups = [gid for gid in [*os.getgroups(), 12345] if gid != os.getgid()]
    target = house.originals / "starry"
    target.mkdir(parents=True)
    try:
        os.chown(target, -1, groups[0])
    except (OSError, IndexError):
        pytest.skip("no second group to give the folder to")
    target.chmod(0o2775)
    paint(house, admitted(house, {"starry/a.jpg": b"photograph"}))
    assert (target / "a.jpg").stat().st_gid == groups[0]


def test_a_link_in_originals_is_never_followed(house: House) -> None:
    elsewhere = house.root / "elsewhere"
    elsewhere.mkdir()
    (house.originals / "starry").symlink_to(elsewhere)
    job = house.ledger.start(admitted(house, {"starry/a.jpg": b"photograph"}).id)
    house.ledger.begin_delivery(job.id, [])
    house.ledger.delivered(job.id)
    assert any("cannot be put away" in note for note in house.spool.catch_up())
    assert names(elsewhere) == []
    (house.originals / "starry").unlink()
    assert house.spool.catch_up() == []
    assert names(house.originals) == ["starry/a.jpg"]


def test_the_time_is_the_spools_clock(house: House) -> None:
    house.spool.clock = lambda: NOW
    job = admitted(house, {"starry/a.jpg": b"photograph"})
    assert job.admitted == NOW
    assert job.id.startswith("20010909-014640-")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of one megabyte, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full_leaves_everything_as_it_was(
    tmp_path: Path, small_disk: Path
) -> None:
    house = House(tmp_path / "root", small_disk)
    house.furnish({"starry/large.jpg": b"x" * 2_000_000})
    house.open()
    for _again in range(3):
        with pytest.raises(NoSpaceError):
            house.admit()
    assert names(house.inbox) == ["starry/large.jpg"]
    assert names(house.state / "spool") == []
    (house.inbox / "starry" / "large.jpg").write_bytes(b"x" * 1000)
    paint(house, admitted(house, {}))
    assert names(house.outbox) == ["large.jpg"]
    house.close()
