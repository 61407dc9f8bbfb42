from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nstd.errors import NoSpaceError, StorageError
from nstd.jobs import publish
from nstd.jobs.free_names import free_stem


class Crash(BaseException):
    """Stands for the death of the process: every later call dies too."""


@pytest.fixture(autouse=True)
def _no_hook_survives() -> Iterator[None]:
    yield
    publish.hook = publish._no_hook


def crash_at(number: int) -> list[str]:
    seen: list[str] = []

    def hook(name: str) -> None:
        seen.append(name)
        if len(seen) >= number:
            raise Crash(name)

    publish.hook = hook
    return seen


def fail_at(number: int, code: int) -> list[str]:
    seen: list[str] = []

    def hook(name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            raise OSError(code, os.strerror(code))

    publish.hook = hook
    return seen


def temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".nstd-")]


def test_a_published_file_holds_the_data_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    publish.write_atomic(str(tmp_path), "beach.json", b"{}", replace=False)
    assert os.listdir(tmp_path) == ["beach.json"]
    assert (tmp_path / "beach.json").read_bytes() == b"{}"


def test_pieces_small_and_large_are_published_in_their_order(tmp_path: Path) -> None:
    pieces = [b"a" * size for size in (0, 3, publish.CHUNK - 4, 1, 2, publish.CHUNK + 7, 5)]
    pieces = [piece.replace(b"a", bytes([i])) for i, piece in enumerate(pieces)]

    def write(file: io.RawIOBase) -> None:
        for piece in pieces:
            assert file.write(piece) == len(piece)

    heard = fail_at(10**6, errno.EIO)
    publish.write_atomic(str(tmp_path), "checkpoint.npz", write, replace=True)
    assert (tmp_path / "checkpoint.npz").read_bytes() == b"".join(pieces)
    assert heard.count("write") == 4  # what was gathered, twice, the large one, and the rest


def test_a_disk_that_fills_among_the_pieces_leaves_nothing(tmp_path: Path) -> None:
    fail_at(4, errno.ENOSPC)  # open, open, write, write
    with pytest.raises(NoSpaceError):
        publish.write_atomic(
            str(tmp_path),
            "checkpoint.npz",
            lambda file: [file.write(bytes(publish.CHUNK)) for _ in range(4)],
            replace=True,
        )
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_never_replaced_unless_told(tmp_path: Path) -> None:
    (tmp_path / "beach.jpg").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        publish.write_atomic(str(tmp_path), "beach.jpg", b"new", replace=False)
    assert (tmp_path / "beach.jpg").read_bytes() == b"old"
    assert temporaries(tmp_path) == []
    publish.write_atomic(str(tmp_path), "beach.jpg", b"new", replace=True)
    assert (tmp_path / "beach.jpg").read_bytes() == b"new"


def test_publishing_a_file_leaves_the_source_and_returns_its_hash(tmp_path: Path) -> None:
    source = tmp_path / "picture"
    source.write_bytes(b"x" * (publish.CHUNK + 5))
    target = tmp_path / "out"
    target.mkdir()
    digest = publish.publish_noreplace(str(source), str(target), "beach.jpg")
    assert source.exists()
    assert (target / "beach.jpg").read_bytes() == source.read_bytes()
    assert digest == publish.sha256_of(str(target), "beach.jpg")
    with pytest.raises(FileExistsError):
        publish.publish_noreplace(str(source), str(target), "beach.jpg")
    assert temporaries(target) == []


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        publish.write_atomic(str(tmp_path), "beach.jpg", b"", replace=False)
    finally:
        os.umask(old)
    assert (tmp_path / "beach.jpg").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("replace", [False, True])
def test_a_crash_at_any_call_leaves_the_old_file_or_the_whole_new_one(
    tmp_path: Path, *, replace: bool
) -> None:
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        if replace:
            (folder / "a").write_bytes(b"old")
        seen = crash_at(number)
        with contextlib.suppress(Crash):
            publish.write_atomic(str(folder), "a", b"new", replace=replace)
        publish.hook = publish._no_hook
        publish.sweep(str(folder))
        left = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
        whole = [{"a": b"new"}, {"a": b"old"} if replace else {}]
        assert left in whole, seen
        if len(seen) < number:
            break
    assert number > 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_an_error_at_any_call_is_said_in_words_and_leaves_no_temporary(
    tmp_path: Path, code: int
) -> None:
    number, failures = 0, 0
    error = StorageError("")
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        seen = fail_at(number, code)
        try:
            publish.write_atomic(str(folder), "a", b"new", replace=False)
        except StorageError as caught:
            failures += 1
            error = caught
        if failures:
            full = code in {errno.ENOSPC, errno.EDQUOT}
            assert isinstance(error, NoSpaceError) == full
            assert error.message
            assert error.remedy
        assert temporaries(folder) == []
        publish.hook = publish._no_hook
        if len(seen) < number:
            break
    assert failures >= 5


def refuse(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def refusing(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    for name in names:
        target = publish if hasattr(publish, name) else os
        monkeypatch.setattr(target, name, refusing)


@pytest.mark.parametrize("missing", [["_renameat2"], ["_renameat2", "link"]])
def test_file_systems_without_renameat2_or_links_never_replace_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    refuse(monkeypatch, *missing)
    publish.write_atomic(str(tmp_path), "a", b"one", replace=False)
    with pytest.raises(FileExistsError):
        publish.write_atomic(str(tmp_path), "a", b"two", replace=False)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert temporaries(tmp_path) == []


def test_one_free_stem_serves_all_extensions(tmp_path: Path) -> None:
    for name in ("beach.json", "beach-2.jpg"):
        (tmp_path / name).touch()
    assert free_stem(str(tmp_path), "beach", (".jpg", ".json")) == "beach-3"
    assert free_stem(str(tmp_path), "beach", (".jpg", ".json"), {"beach-3.jpg"}) == "beach-4"


def test_names_that_clients_see_as_one_are_not_free(tmp_path: Path) -> None:
    (tmp_path / "CAFE\u0301.jpg").touch()
    assert free_stem(str(tmp_path), "caf\u00e9", (".jpg",)) == "caf\u00e9-2"


def test_a_stem_too_long_for_the_file_system_is_cut_between_characters(tmp_path: Path) -> None:
    stem = free_stem(str(tmp_path), "é" * 200, (".jpg", ".json"))
    assert set(stem) == {"é"}
    publish.write_atomic(str(tmp_path), stem + ".json", b"", replace=False)
    assert free_stem(str(tmp_path), "é" * 200, (".jpg", ".json")).endswith("-2")


def test_sweep_removes_temporaries_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / publish.temporary_name()).touch()
    folder = tmp_path / publish.temporary_name()
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    (tmp_path / ".nstd-notes").touch()
    (tmp_path / "beach.jpg").touch()
    assert publish.sweep(str(tmp_path)) == 2
    assert sorted(os.listdir(tmp_path)) == [".nstd-notes", "beach.jpg"]
    assert publish.sweep(str(tmp_path / "absent")) == 0


def test_removing_a_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "kept")
    with publish.directory(str(tmp_path)) as folder:
        publish.remove_tree(folder, "tree")
        publish.remove_tree(folder, "tree")
    assert (tmp_path / "kept" / "file").exists()
    assert not tree.exists()


def test_a_folder_appears_by_one_rename_and_never_replaces(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    with publish.directory(str(tmp_path)) as folder:
        with pytest.raises(FileExistsError):
            publish.rename_noreplace(folder, "a", folder, "b")
        publish.rename_noreplace(folder, "a", folder, "c")
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_no_hash_is_given_for_links_and_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert publish.sha256_of(str(tmp_path), "file") is not None
    for name in ("link", "folder", "fifo", "absent"):
        assert publish.sha256_of(str(tmp_path), name) is None


def test_folders_are_made_with_their_parents_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "c")
    publish.make_folder(path)
    publish.make_folder(path)
    assert os.path.isdir(path)


@pytest.mark.parametrize(("wish", "status"), [("2", -9), ("2:ENOSPC", 3), ("", 0), ("99", 0)])
def test_a_process_dies_or_fails_at_the_call_that_the_environment_names(
    tmp_path: Path, wish: str, status: int
) -> None:
    program = (
        "import sys; from nstd.jobs import publish; from nstd.errors import NoSpaceError\n"
        "publish.arm_from_environment()\n"
        "try: publish.write_atomic(sys.argv[1], 'a', b'x', replace=False)\n"
        "except NoSpaceError: sys.exit(3)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    run = subprocess.run(command, env={**os.environ, "NSTD_CRASH_AT": wish}, check=False)
    assert run.returncode == status


def test_the_hook_hears_of_every_call_of_the_protocol(tmp_path: Path) -> None:
    seen: list[str] = []
    hear: Callable[[str], None] = seen.append
    publish.hook = hear
    publish.write_atomic(str(tmp_path), "a", b"x", replace=False)
    assert seen == ["open", "open", "write", "fsync", "rename", "fsync"]
