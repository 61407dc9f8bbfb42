from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstd.jobs.names import classify, folded, is_sidecar_name, refusal, shown

FINE = [
    "beach.jpg", "BEACH.JPEG", "a b.png", "ünïcode 😀.webp", "photo.tiff", "IMG_0001.HEIC",
    "raw.cr2", "beach.yaml", "beach.yml", "beach.json", "--help.jpg", "Photoshop template.jpg",
    "Unconfirmed ufo.jpg", "beach.original.jpg", "conflict-zone.jpg",
]  # fmt: skip
TEMP = [
    ".syncthing.beach.jpg.tmp", "~syncthing~beach.jpg.tmp", "beach.jpg.part",
    "beach.jpg.ocTransferId123.part", "beach.jpg.filepart", "beach.jpg.partial",
    ".beach.jpg.~1a2b", ".beach.jpg.Ab12Cd", "Unconfirmed 123.crdownload",
    ".com.google.Chrome.abc", "beach.jpg.opdownload", "x.aria2", "beach.jpg.!ut", "beach.jpg.!qB",
    "beach.jpg.!Sync", "beach.jpg.tacitpart", ".in.beach.jpg.", ".pureftpd-upload.123",
    ".goutputstream-ABC", "~WRL0001.tmp", "beach.jpg_exiftool_tmp", "x.lrtmp", "beach.jpg.icloud",
    "beach.jpg.sb-12345678-abcdef", ".nstd-0123456789abcdef.tmp", "Photoshop Temp1234", "BEACH.TMP",
]  # fmt: skip
SYSTEM = [
    "beach.sync-conflict-20250101-120000-ABCDEFG.jpg", "beach_conflict-20250101-120000.jpg",
    "beach (conflicted copy 2025-01-01).jpg", ".sync_abc.db", ".owncloudsync.log", ".stignore",
    "._beach.jpg", ".DS_Store", ".apdisk", ".localized", "Icon\r", ".smbdelete1", "Thumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "beach.jpg:Zone.Identifier", "~$beach.jpg",
    ".~lock.beach.jpg#", ".nfs0001", ".fuse_hidden01", "beach.jpg~", ".beach.jpg.swp",
    "#beach.jpg#", "4913", ".dropbox.attr", ".unison.x", ".seafile-x", "beach.jpg_original",
]  # fmt: skip
OTHER = ["notes.txt", "beach.xmp", "beach.jpg.pp3", "video.mp4", "README", "beach.pdf", "jpg"]
TEMP_FOLDERS = [
    ".rsync-partial",
    ".~tmp~",
    "beach.download",
    "_UNPACK_x",
    "@tmp",
    ".tmp.driveupload",
]
SYSTEM_FOLDERS = [
    "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
    "__MACOSX", ".AppleDouble", ".Trash-1000", ".stfolder", ".stversions", ".sync", ".recycle",
]  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_photographs_and_sidecars_are_looked_at(name: str) -> None:
    assert classify(name, is_dir=False) == "ok"


@pytest.mark.parametrize("name", TEMP)
def test_half_written_files_are_left_alone(name: str) -> None:
    assert classify(name, is_dir=False) == "temp"


@pytest.mark.parametrize("name", SYSTEM)
def test_what_systems_keep_for_themselves_is_left_alone(name: str) -> None:
    assert classify(name, is_dir=False) == "system"


@pytest.mark.parametrize("name", OTHER)
def test_other_kinds_of_files_are_left_alone(name: str) -> None:
    assert classify(name, is_dir=False) == "extension"


@pytest.mark.parametrize("name", [".hidden.jpg", ".beach.yaml", ".config"])
def test_hidden_files_are_left_alone(name: str) -> None:
    assert classify(name, is_dir=False) == "hidden"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (TEMP_FOLDERS, "temp"),
        (SYSTEM_FOLDERS, "system"),
        ([".git", ".x"], "hidden"),
        (["starry-night", "beach.jpg", "my photos 2025"], "ok"),
    ],
)
def test_folders_have_their_own_names(names: list[str], kind: str) -> None:
    assert {classify(name, is_dir=True) for name in names} == {kind}


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1))
def test_macos_and_windows_spellings_are_judged_alike(name: str) -> None:
    spellings = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    assert len({folded(each) for each in spellings}) == 1
    assert len({classify(each, is_dir=True) for each in spellings}) == 1


def test_a_sidecar_is_known_by_its_extension() -> None:
    assert is_sidecar_name("Beach.YAML")
    assert not is_sidecar_name("yaml.jpg")


@pytest.mark.parametrize(
    "name", ["a\n.jpg", "a\x1b[2J.jpg", "a\x7f.jpg", "a\x85.jpg", "\udcff.jpg", "\r.jpg"]
)
def test_control_characters_and_broken_utf8_are_refused(name: str) -> None:
    assert refusal(name)


@pytest.mark.parametrize(
    "name", ["a b.jpg", "😀👩‍👩‍👧.jpg", "\u202eevil.jpg", "Ünïcode.jpg", "日本.jpg"]
)
def test_any_other_utf8_is_fine(name: str) -> None:
    assert refusal(name) is None


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud83d", "\\ud83d"),
        ("é😀👩‍👧 ok", "é😀👩‍👧 ok"),
        ("\u2028", "\\u2028"),
    ],
)
def test_names_are_shown_safely(name: str, seen: str) -> None:
    assert shown(name) == seen


@given(st.text())
def test_nothing_that_is_shown_can_steer_a_terminal(name: str) -> None:
    text = shown(name)
    assert shown(text) == text
    text.encode("utf-8")
