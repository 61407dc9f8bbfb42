"""File systems are told apart by the kernel's own table."""

from __future__ import annotations

from pathlib import Path

import pytest

from nstd.service import places
from nstd.service.places import Mount

TABLE = [Mount("/", "ext4"), Mount("/srv", "xfs"), Mount("/srv/share", "nfs4")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/srv/share/inbox", "nfs4"), ("/srv/shared", "xfs"), ("/tmp", "ext4"), ("/srv", "xfs")],
)
def test_the_deepest_mount_decides(path: str, kind: str) -> None:
    assert places.fstype(path, TABLE) == kind


def test_the_last_of_two_mounts_on_one_point_decides() -> None:
    assert places.fstype("/srv/x", [*TABLE, Mount("/srv", "cifs")]) == "cifs"


def test_names_with_spaces_are_read_from_the_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 25 0:31 / /srv/my\\040share rw shared:1 - cifs //nas/x rw\nnonsense\n")
    assert places.mounts(str(table)) == [Mount("/srv/my share", "cifs")]


def test_a_missing_table_tells_nothing(tmp_path: Path) -> None:
    assert places.mounts(str(tmp_path / "none")) == []
    assert places.fstype("/tmp", []) == ""


@pytest.mark.parametrize("kind", ["nfs", "cifs", "smb3", "fuse.sshfs", "fuse", "ceph"])
def test_remote_kinds_are_unfit_for_the_state_folder(kind: str) -> None:
    assert places.is_remote(kind)
    assert places.needs_polling(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "zfs", ""])
def test_local_kinds_are_watched(kind: str) -> None:
    assert not places.is_remote(kind)
    assert not places.needs_polling(kind)


def test_a_folder_of_the_host_is_polled_but_may_hold_the_state() -> None:
    assert places.needs_polling("virtiofs")
    assert not places.is_remote("virtiofs")


def test_the_root_is_always_mounted() -> None:
    assert places.is_mounted("/")
    assert places.is_mounted("/proc")


def test_an_ordinary_folder_is_no_mount(tmp_path: Path) -> None:
    assert not places.is_mounted(str(tmp_path))
    assert not places.is_mounted(str(tmp_path / "none"))


def test_the_mount_root_is_the_highest_folder_on_the_device() -> None:
    assert places.mount_root("/proc/sys/kernel") in ("/proc", "/proc/sys")
    assert places.is_mounted(places.mount_root("/proc/self/"))


def test_identity_tells_a_replaced_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    before = places.identity(str(folder))
    folder.rename(tmp_path / "b")
    assert places.identity(str(folder)) is None
    folder.mkdir()
    assert places.identity(str(folder)) != before
