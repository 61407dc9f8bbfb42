from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nstd.errors import StorageError
from nstd.jobs import intake
from nstd.jobs.inputs import InboxFile
from nstd.jobs.intake import ChangedError
from nstd.jobs.publish import directory
from nstd.jobs.taken import Taken


def seen(root: Path, path: str) -> InboxFile:
    found = (root / path).stat()
    folder, _, name = path.rpartition("/")
    return InboxFile(
        folder, name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev,
        found.st_ino, 0.0, settled=True,
    )  # fmt: skip


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / "x").mkdir(parents=True)
    (tmp_path / "inbox" / "x" / "a.jpg").write_bytes(b"photograph")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out").mkdir()
    return tmp_path / "inbox"


def copy(inbox: Path, file: InboxFile) -> str:
    with directory(str(inbox.parent / "out")) as target:
        return intake.copy_input(str(inbox), file.folder, file, target)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parents[2] / "secret")


def hard_link(path: Path) -> None:
    path.unlink()
    path.hardlink_to(path.parents[2] / "secret")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def second_name(path: Path) -> None:
    (path.parent / "b.jpg").hardlink_to(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        old = os.getcwd()
        os.chdir(path.parent)  # the path itself may be too long for a socket
        try:
            server.bind(path.name)
        finally:
            os.chdir(old)


def folder_link(path: Path) -> None:
    path.parent.rename(path.parents[2] / "elsewhere")
    path.parent.symlink_to(path.parents[2] / "elsewhere")


SWAPS: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b"another"),
    lambda path: path.unlink(),
    lambda path: os.truncate(path, 3),
    folder,
    link,
    hard_link,
    second_name,
    pipe,
    unix_socket,
    folder_link,
]


@pytest.mark.parametrize("swap", SWAPS)
def test_a_file_that_was_swapped_is_never_read(inbox: Path, swap: Callable[[Path], object]) -> None:
    file = seen(inbox, "x/a.jpg")
    swap(inbox / "x" / "a.jpg")
    with pytest.raises(ChangedError) as caught:
        copy(inbox, file)
    assert caught.value.retry
    with pytest.raises(ChangedError):
        intake.read_input(str(inbox), "x", file, 100)
    assert b"secret" not in [p.read_bytes() for p in (inbox.parent / "out").iterdir()]


def test_a_file_that_changes_while_it_is_read_is_not_taken(inbox: Path) -> None:
    file = seen(inbox, "x/a.jpg")

    def read_it_meanwhile(folder: int) -> None:
        with intake.opened(folder, file) as descriptor:
            assert os.read(descriptor, 4) == b"phot"
            (inbox / "x" / "a.jpg").write_bytes(b"PHOTOGRAPH")

    with directory(str(inbox / "x")) as here, pytest.raises(ChangedError):
        read_it_meanwhile(here)


def test_reading_stops_at_the_limit(inbox: Path) -> None:
    assert intake.read_input(str(inbox), "x", seen(inbox, "x/a.jpg"), 5) == b"photo"


def taken(inbox: Path) -> Taken:
    file = seen(inbox, "x/a.jpg")
    return Taken.of(file, "job", remove=True, at=0.0, sha256=copy(inbox, file))


def test_what_was_taken_leaves_the_inbox_once(inbox: Path) -> None:
    note = taken(inbox)
    assert intake.is_still_there(str(inbox), note)
    intake.remove_taken(str(inbox), note)
    assert not (inbox / "x" / "a.jpg").exists()
    assert not intake.is_still_there(str(inbox), note)
    intake.remove_taken(str(inbox), note)


@pytest.mark.parametrize("change", ["mode", "old mtime"])
def test_other_times_do_not_keep_a_taken_file_in_the_inbox(inbox: Path, change: str) -> None:
    note, path = taken(inbox), inbox / "x" / "a.jpg"
    path.chmod(0o600) if change == "mode" else os.utime(path, (1e9, 1e9))
    assert note.numbers[4] != path.stat().st_ctime_ns
    intake.remove_taken(str(inbox), note)
    assert not path.exists()


def test_the_same_bytes_written_again_stay(inbox: Path) -> None:
    note, path = taken(inbox), inbox / "x" / "a.jpg"
    path.write_bytes(path.read_bytes())
    intake.remove_taken(str(inbox), note)
    assert path.exists()


def test_a_newer_file_of_the_same_name_stays(inbox: Path) -> None:
    note, path = taken(inbox), inbox / "x" / "a.jpg"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(b"PHOTOGRAPH")
    os.utime(path, ns=times)  # same size, same mtime: only the bytes tell
    intake.remove_taken(str(inbox), note)
    assert path.read_bytes() == b"PHOTOGRAPH"


@pytest.mark.parametrize("swap", [link, pipe, folder_link])
def test_removal_follows_no_link(inbox: Path, swap: Callable[[Path], object]) -> None:
    note = taken(inbox)
    swap(inbox / "x" / "a.jpg")
    intake.remove_taken(str(inbox), note)
    assert (inbox.parent / "secret").exists()
    assert os.path.lexists(inbox / "x" / "a.jpg")


def test_style_images_are_files_and_nothing_else(inbox: Path) -> None:
    with directory(str(inbox.parent / "out")) as target:
        intake.copy_style_image(str(inbox / "x" / "a.jpg"), target, "s.jpg")
        for swap in (link, pipe):
            swap(inbox / "x" / "a.jpg")
            with pytest.raises(ChangedError):
                intake.copy_style_image(str(inbox / "x" / "a.jpg"), target, "t.jpg")
        with pytest.raises(ChangedError):
            intake.copy_style_image(str(inbox / "absent.jpg"), target, "u.jpg")


def test_a_folder_that_cannot_be_entered_is_said_in_words(inbox: Path) -> None:
    file = replace(seen(inbox, "x/a.jpg"), folder="y" * 300)
    with pytest.raises(StorageError):
        intake.read_input(str(inbox), file.folder, file, 5)
