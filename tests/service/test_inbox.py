"""The scan is the truth: what settles, what waits and why, what is never looked at."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nstd.errors import NstdError, StorageError
from nstd.jobs.inputs import InboxFile
from nstd.photo.completeness import completeness
from nstd.service import inbox as module
from nstd.service import lease, places, settling, walk
from nstd.service.inbox import Inbox, Limits, Scan
from nstd.service.settling import Patience

SETTLE, INCOMPLETE = 2.0, 30.0


@pytest.fixture(autouse=True)
def _leases() -> None:
    lease.prepare()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


@pytest.fixture
def inbox(folder: Path) -> Inbox:
    return Inbox(str(folder), patience=Patience(SETTLE, INCOMPLETE))


@pytest.fixture
def jpeg(tmp_path: Path) -> bytes:
    Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "x.jpg")
    return (tmp_path / "x.jpg").read_bytes()


def settled(scan: Scan) -> list[str]:
    return [file.path for file in scan.files if file.settled]


def why(scan: Scan) -> dict[str, str]:
    return {file.path: file.why for file in [*scan.files, *scan.refused]}


# --- settling ------------------------------------------------------------------------------------


def test_a_whole_file_settles_after_the_quiet_period(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    first = inbox.scan(100.0)
    assert settled(first) == []
    assert first.due == 102.0
    assert settled(inbox.scan(101.9)) == []
    last = inbox.scan(102.0)
    assert settled(last) == ["a.jpg"]
    assert last.due is None


def test_a_growing_file_never_settles_and_says_since_when(inbox: Inbox, folder: Path) -> None:
    for second in range(10):
        with (folder / "a.jpg").open("ab") as file:
            file.write(b"x" * 1000)
        assert settled(inbox.scan(float(second))) == []
    scan = inbox.scan(10.0)
    assert why(scan) == {"a.jpg": "still being written: changed 1 s ago"}


def test_a_kept_mtime_does_not_make_a_file_old(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    os.utime(folder / "a.jpg", (1e9, 1e9))
    assert settled(inbox.scan(2e9)) == []


def test_a_change_of_mtime_alone_starts_the_wait_anew(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    os.utime(folder / "a.jpg", (1e9, 1e9))
    assert settled(inbox.scan(2.0)) == []
    assert settled(inbox.scan(4.0)) == ["a.jpg"]


def test_a_replaced_file_is_a_new_one(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    assert inbox.scan(2.0).files[0].settled
    (folder / "b").write_bytes(jpeg)
    (folder / "b").rename(folder / "a.jpg")
    scan = inbox.scan(3.0)
    assert settled(scan) == []
    assert scan.files[0].first_seen == 3.0


def test_a_file_deleted_while_settling_is_forgotten(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    (folder / "a.jpg").unlink()
    scan = inbox.scan(5.0)
    assert scan.files == []
    assert scan.due is None


def test_a_file_that_somebody_has_open_for_writing_waits(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    path = folder / "a.jpg"
    path.write_bytes(jpeg)
    inbox.scan(0.0)
    with path.open("ab"):
        scan = inbox.scan(10.0)
        assert why(scan) == {"a.jpg": "open for writing by another program"}
        assert settled(inbox.scan(100.0)) == []
    assert settled(inbox.scan(200.0)) == ["a.jpg"]


def test_an_explorer_like_writer_is_waited_for(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    """The final size stands from the beginning; the bytes come later, without a lease to ask."""
    path = folder / "a.jpg"
    path.write_bytes(bytes(len(jpeg)))
    inbox.scan(0.0)
    assert settled(inbox.scan(3.0)) == []
    path.write_bytes(jpeg)
    inbox.scan(4.0)
    assert settled(inbox.scan(6.0)) == ["a.jpg"]


def test_a_missing_end_lengthens_the_wait_and_no_more(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    inbox.scan(0.0)
    scan = inbox.scan(2.0)
    assert settled(scan) == []
    assert "waiting 30 s more" in why(scan)["a.jpg"]
    assert scan.due is not None
    assert scan.due <= 32.0
    assert settled(inbox.scan(31.9)) == []
    last = inbox.scan(32.0)
    assert settled(last) == ["a.jpg"]
    assert last.files[0].why  # what it seems to lack


def test_an_empty_photograph_waits_too(inbox: Inbox, folder: Path) -> None:
    (folder / "a.jpg").touch()
    inbox.scan(0.0)
    assert settled(inbox.scan(10.0)) == []
    assert settled(inbox.scan(32.0)) == ["a.jpg"]


def test_a_sidecar_needs_no_end(inbox: Inbox, folder: Path) -> None:
    (folder / "a.yaml").write_text("content: a.jpg\n")
    inbox.scan(0.0)
    assert settled(inbox.scan(2.0)) == ["a.yaml"]


def test_a_clock_that_is_set_back_does_not_lengthen_the_wait(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(10_000.0)
    assert settled(inbox.scan(0.0)) == []
    assert settled(inbox.scan(2.0)) == ["a.jpg"]


def test_a_clock_that_is_set_forward_does_not_shorten_it(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    inbox.shift(10_000.0)
    assert settled(inbox.scan(10_001.0)) == []
    assert settled(inbox.scan(10_002.0)) == ["a.jpg"]


def test_a_file_that_may_not_be_read_says_so(
    inbox: Inbox, folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(module, "open_beneath", refuse)
        scan = inbox.scan(2.0)
    assert "may not read" in why(scan)["a.jpg"]
    assert settled(inbox.scan(10.0)) == ["a.jpg"]


def test_an_unexpected_error_in_one_file_does_not_stop_the_others(
    inbox: Inbox, folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(jpeg)
    inbox.scan(0.0)
    real = completeness

    def explode(fd: int, size: int, name: str) -> object:
        if name == "a.jpg":
            raise ValueError("boom")
        return real(fd, size, name)

    monkeypatch.setattr(settling, "completeness", explode)
    assert settled(inbox.scan(2.0)) == ["b.jpg"]


def test_just_before_admission_a_file_is_looked_at_again(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    path = folder / "a.jpg"
    path.write_bytes(jpeg)
    inbox.scan(0.0)
    file = inbox.scan(2.0).files[0]
    assert inbox.still_ready(file)
    with path.open("ab") as writer:
        assert not inbox.still_ready(file)
        writer.write(b"more")
    assert not inbox.still_ready(file)
    path.unlink()
    assert not inbox.still_ready(file)


def test_a_damaged_file_that_has_waited_long_enough_is_ready(inbox: Inbox, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"\xff\xd8 nonsense")
    inbox.scan(0.0)
    file = inbox.scan(40.0).files[0]
    assert file.settled
    assert inbox.still_ready(file)


# --- order and amount ----------------------------------------------------------------------------


def test_files_come_oldest_first(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    for second, name in enumerate(("z.jpg", "m.jpg", "a.jpg")):
        (folder / name).write_bytes(jpeg)
        inbox.scan(float(second))
    assert settled(inbox.scan(10.0)) == ["z.jpg", "m.jpg", "a.jpg"]


def test_many_files_take_turns_oldest_first_and_sidecars_before_all(
    folder: Path, jpeg: bytes
) -> None:
    inbox = Inbox(str(folder), patience=Patience(SETTLE, INCOMPLETE), limits=Limits(looks=10))
    for number in range(30):
        (folder / f"{number:02}.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    (folder / "late.yaml").write_text("content: 00.jpg\n")
    inbox.scan(1.0)
    scan = inbox.scan(3.0)
    assert len(settled(scan)) == 10
    assert "late.yaml" in settled(scan)
    assert scan.due is not None
    assert scan.due <= 3.0
    inbox.scan(3.1)
    inbox.scan(3.2)
    assert len(settled(inbox.scan(3.3))) == 31


def test_a_flood_in_one_folder_takes_turns_with_the_others(folder: Path, jpeg: bytes) -> None:
    inbox = Inbox(str(folder), patience=Patience(SETTLE, INCOMPLETE), limits=Limits(looks=10))
    for name in ("flood", "later"):
        (folder / name).mkdir()
    for number in range(500):
        (folder / "flood" / f"{number:03}.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    (folder / "later" / "beach.jpg").write_bytes(jpeg)
    inbox.scan(1.0)
    scan = inbox.scan(3.0)
    assert "later/beach.jpg" in [file.path for file in scan.files if file.settled]
    for number in range(9):
        scan = inbox.scan(3.1 + number / 10)
    assert all(file.settled for file in scan.files)


def test_a_scan_of_many_files_opens_none_that_is_not_quiet(
    inbox: Inbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(500):
        (folder / f"{number}.jpg").write_bytes(b"x")
    monkeypatch.setattr(module, "open_beneath", lambda *_: pytest.fail("opened a file"))
    inbox.scan(0.0)
    assert len(inbox.scan(1.0).files) == 500


def test_a_settled_file_is_not_opened_again(
    inbox: Inbox, folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    inbox.scan(2.0)
    monkeypatch.setattr(module, "open_beneath", lambda *_: pytest.fail("opened a file"))
    assert settled(inbox.scan(3.0)) == ["a.jpg"]


def test_a_flood_in_one_folder_does_not_hide_the_others(folder: Path, jpeg: bytes) -> None:
    inbox = Inbox(str(folder), limits=Limits(max_entries=50))
    (folder / "style").mkdir()
    (folder / "style" / "a.jpg").write_bytes(jpeg)
    for number in range(1200):
        (folder / f"{number}.jpg").touch()
    scan = inbox.scan(0.0)
    assert "style/a.jpg" in [file.path for file in scan.files]
    assert any("too many files" in problem for problem in scan.problems)


def test_fresh_files_are_counted_once(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    assert inbox.scan(0.0).fresh == 1
    assert inbox.scan(1.0).fresh == 0


# --- what is never consumed ----------------------------------------------------------------------


def test_names_of_tools_are_left_and_counted_once(inbox: Inbox, folder: Path) -> None:
    for name in (".hidden.jpg", "a.jpg.part", "Thumbs.db", "notes.txt"):
        (folder / name).touch()
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "x.jpg").touch()
    scan = inbox.scan(0.0)
    assert scan.files == []
    assert scan.ignored == {"hidden": 1, "temp": 1, "system": 2, "extension": 1}
    assert scan.no_images == ["notes.txt"]
    assert scan.newly_ignored == scan.ignored
    again = inbox.scan(1.0)
    assert again.ignored == scan.ignored
    assert not again.newly_ignored


def _symlink(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(b"secret")
    path.symlink_to(target)


def _hardlink(path: Path) -> None:
    target = path.parent.parent / "outside"
    target.write_bytes(b"secret")
    os.link(target, path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_symlink, "a link is never followed"),
        (_hardlink, "second name"),
        (os.mkfifo, "a pipe"),
        (_socket, "device or socket"),
    ],
)
def test_unsafe_kinds_are_refused_unread_with_words(
    inbox: Inbox, folder: Path, make: Callable[[Path], None], words: str
) -> None:
    make(folder / "x.jpg")
    inbox.scan(0.0)
    scan = inbox.scan(100.0)
    assert scan.files == []
    assert words in why(scan)["x.jpg"]
    assert scan.ignored["unsafe"] == 1


def test_what_is_refused_is_there_since_it_came(inbox: Inbox, folder: Path) -> None:
    os.mkfifo(folder / "x.jpg")
    came = (folder / "x.jpg").stat().st_ctime
    (refused,) = inbox.scan(came + 500.0).refused
    assert refused.first_seen == came


def test_a_linked_folder_is_not_entered(inbox: Inbox, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.jpg").touch()
    (folder / "sub").symlink_to(tmp_path / "secrets")
    scan = inbox.scan(0.0)
    assert scan.files == []
    assert scan.folders == [""]


def test_a_file_swapped_for_a_pipe_while_settling_is_refused(
    inbox: Inbox, folder: Path, jpeg: bytes
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    file = inbox.scan(2.0).files[0]
    (folder / "a.jpg").unlink()
    os.mkfifo(folder / "a.jpg")
    assert not inbox.still_ready(file)
    assert "a pipe" in why(inbox.scan(3.0))["a.jpg"]


def test_a_file_that_became_a_folder_is_entered(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").mkdir()
    (folder / "a.jpg" / "b.jpg").write_bytes(jpeg)
    scan = inbox.scan(1.0)
    assert [file.path for file in scan.files] == ["a.jpg/b.jpg"]
    assert scan.refused == []


def test_folders_below_the_depth_limit_are_counted(folder: Path) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "a" / "b" / "x.jpg").touch()
    (folder / "a" / "b" / "c" / "y.jpg").touch()
    scan = Inbox(str(folder), limits=Limits(max_depth=2)).scan(0.0)
    assert [file.path for file in scan.files] == ["a/b/x.jpg"]
    assert scan.ignored == {"depth": 1}


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe.jpg", b"new\nline.jpg", "\u202egpj.exe.jpg".encode(), "🏖 beach.jpg".encode(),
     b"-rf.jpg", b"a" * 251 + b".jpg"],
)  # fmt: skip
def test_any_name_is_carried_unchanged(inbox: Inbox, folder: Path, name: bytes) -> None:
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        file.write(b"x")
    inbox.scan(0.0)
    scan = inbox.scan(40.0)
    assert [os.fsencode(file.name) for file in scan.files] == [name]
    assert scan.files[0].settled


# --- the folder itself ---------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    bad: set[str] = set()
    real = walk.open_folder

    def maybe(root: int, folder: str) -> int:
        if folder in bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(root, folder)

    monkeypatch.setattr(walk, "open_folder", maybe)
    return bad


def test_one_bad_folder_never_stops_the_others(
    inbox: Inbox, folder: Path, jpeg: bytes, broken: set[str]
) -> None:
    for sub in ("a", "b"):
        (folder / sub).mkdir()
        (folder / sub / "x.jpg").write_bytes(jpeg)
    broken.add("a")
    inbox.scan(0.0)
    scan = inbox.scan(2.0)
    assert settled(scan) == ["b/x.jpg"]
    assert scan.problems == ["a cannot be read: Input/output error."]


def test_a_settled_file_is_not_offered_while_its_folder_cannot_be_read(
    inbox: Inbox, folder: Path, jpeg: bytes, broken: set[str]
) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "x.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    assert settled(inbox.scan(2.0)) == ["a/x.jpg"]
    broken.add("a")
    assert settled(inbox.scan(3.0)) == []
    broken.clear()
    inbox.scan(4.0)
    assert settled(inbox.scan(6.0)) == ["a/x.jpg"]


def test_a_missing_inbox_is_not_an_empty_one(inbox: Inbox, folder: Path) -> None:
    inbox.scan(0.0)
    folder.rmdir()
    scan = inbox.scan(1.0)
    assert not scan.present
    assert scan.problems


def test_a_replaced_inbox_is_noticed(inbox: Inbox, folder: Path, jpeg: bytes) -> None:
    assert not inbox.scan(0.0).replaced
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg)
    assert inbox.scan(1.0).replaced
    assert not inbox.scan(2.0).replaced
    assert settled(inbox.scan(3.0)) == ["a.jpg"]


def test_an_empty_mountpoint_is_not_an_empty_inbox(
    folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.jpg").write_bytes(jpeg)
    inbox = Inbox(str(folder), mount="/srv/share")
    monkeypatch.setattr(places, "is_mounted", lambda _root: False)
    scan = inbox.scan(0.0)
    assert not scan.present
    assert scan.files == []
    assert "/srv/share" in scan.problems[0]
    monkeypatch.setattr(places, "is_mounted", lambda _root: True)
    assert inbox.scan(1.0).present


def test_the_mount_of_the_inbox_is_learned(inbox: Inbox, folder: Path) -> None:
    inbox.scan(0.0)
    assert inbox.mount == places.mount_root(str(folder))


def test_a_sync_tools_marker_is_noticed(inbox: Inbox, folder: Path) -> None:
    assert inbox.scan(0.0).sync_tool is None
    (folder / ".stfolder").mkdir()
    assert inbox.scan(1.0).sync_tool == "Syncthing"


# --- files that stay (copy intake) ---------------------------------------------------------------


def test_a_file_taken_before_is_listed_apart_and_never_opened(
    folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def taken(file: InboxFile) -> bool:
        asked.append(file.path)
        return True

    (folder / "a.jpg").write_bytes(jpeg)
    inbox = Inbox(str(folder), taken=taken)
    monkeypatch.setattr(module, "open_beneath", lambda *_: pytest.fail("opened a file"))
    for second in range(5):
        scan = inbox.scan(float(second))
        assert scan.files == []
        assert [file.path for file in scan.taken] == ["a.jpg"]
    assert asked == ["a.jpg"]


def test_a_file_that_is_recognised_once_it_has_settled_is_taken(folder: Path, jpeg: bytes) -> None:
    asked: list[str] = []

    def recognises(file: InboxFile) -> bool:
        asked.append(file.path)
        return file.name == "a.jpg"

    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(jpeg)
    inbox = Inbox(str(folder), recognises=recognises)
    inbox.scan(0.0)
    assert asked == []
    for second in (2.0, 3.0):
        scan = inbox.scan(second)
        assert settled(scan) == ["b.jpg"]
        assert [file.path for file in scan.taken] == ["a.jpg"]
        assert not scan.left
    assert asked == ["a.jpg", "b.jpg"]
    (folder / "a.jpg").unlink()
    assert inbox.scan(4.0).left == ["a.jpg"]
    assert inbox.scan(5.0).left == []


def test_a_file_that_cannot_be_recognised_just_now_is_looked_at_again(
    folder: Path, jpeg: bytes
) -> None:
    answers: list[NstdError | None] = [StorageError("'a.jpg' cannot be read."), None]

    def recognises(_file: InboxFile) -> bool:
        if (error := answers.pop(0)) is not None:
            raise error
        return False

    (folder / "a.jpg").write_bytes(jpeg)
    inbox = Inbox(str(folder), recognises=recognises)
    inbox.scan(0.0)
    (file,) = inbox.scan(2.0).files
    assert (file.settled, file.why) == (False, "'a.jpg' cannot be read.")
    assert settled(inbox.scan(2.0 + module.LOOK_RETRY_S)) == ["a.jpg"]


def test_a_taken_file_that_changes_comes_again(folder: Path, jpeg: bytes) -> None:
    known: set[int] = set()
    inbox = Inbox(str(folder), taken=lambda file: file.ctime_ns in known)
    (folder / "a.jpg").write_bytes(jpeg)
    inbox.scan(0.0)
    file = inbox.scan(2.0).files[0]
    known.add(file.ctime_ns)
    inbox.forget([file])
    assert inbox.scan(3.0).files == []
    (folder / "a.jpg").write_bytes(jpeg + b"trailer")
    inbox.scan(4.0)
    assert settled(inbox.scan(6.0)) == ["a.jpg"]
