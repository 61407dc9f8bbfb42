"""Which names are never consumed, which are refused, and how any name is shown.

The patterns are those of sync tools, browsers, operating systems and photo programs: what they
write beside photographs while they work, or for themselves. Names are compared case-folded and in
NFC, because macOS clients send NFD.
"""

from __future__ import annotations

import re
import unicodedata
from fnmatch import translate
from typing import Literal

from nstd.jobs.text import folded, is_plain, shown
from nstd.photo.names import is_image_name

__all__ = ["NameClass", "classify", "folded", "is_sidecar_name", "refusal", "shown"]

NameClass = Literal["ok", "temp", "hidden", "system", "extension"]

SIDECAR_EXTENSIONS = (".yaml", ".yml", ".json")
MAX_NAME_BYTES = 255

# Half-written files, and what tools rename when they are done.
_TEMP_FILES = (
    ".nstd-*.tmp",
    ".syncthing.*.tmp",
    "~syncthing~*.tmp",
    "*.part",
    "*.filepart",
    "*.partial",
    "*.tacitpart",  # FolderSync
    ".*.~*",  # Nextcloud client download
    ".in.*.",
    ".pureftpd-upload.*",
    "*.crdownload",
    ".com.google.chrome.*",
    "*.opdownload",
    "*.aria2",
    "*.!ut",
    "*.!qb",
    "*.!sync",
    "*.bts",
    "*.icloud",
    ".goutputstream-*",
    "~wrl*.tmp",
    "~*.tmp",
    "*.tmp",
    "*.sb-????????-??????",  # macOS safe save
    "*_exiftool_tmp",
    "*.lrtmp",
    "photoshop temp[0-9]*",  # with the digit: "Photoshop template.jpg" is somebody's photograph
)
_TEMP_FOLDERS = (
    ".~tmp~",
    ".rsync-partial",
    "*.download",
    "_unpack_*",
    "*.sb-????????-??????",
    ".tmp.driveupload",
    ".tmp.drivedownload",
    "@tmp",
)
# What an operating system or a tool keeps for itself; conflict copies belong to their tool's user.
_SYSTEM_FILES = (
    "*.sync-conflict-[0-9]*-[0-9]*-*",
    "*_conflict-[0-9]*",
    "*(conflicted copy*",
    ".sync_*.db*",
    ".owncloudsync.log*",
    ".stfolder",
    ".stignore",
    ".stversions",
    "._*",
    ".ds_store",
    ".apdisk",
    ".localized",
    "icon\r",
    ".smbdelete*",
    "thumbs.db",
    "ehthumbs*.db",
    "desktop.ini",
    "*:zone.identifier",
    "~$*",
    ".~lock.*#",
    ".nfs*",
    ".fuse_hidden*",
    "*~",
    ".*.sw?",
    "#*#",
    "4913",
    ".dropbox*",
    ".unison*",
    ".seafile-*",
    "*_original",  # exiftool's copy of what it changed: beach.jpg_original
)
_SYSTEM_FOLDERS = (
    ".stfolder",
    ".stversions",
    ".appledouble",
    ".temporaryitems",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    ".documentrevisions-v100",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "@eadir",
    "#recycle",
    ".@__thumb",
    "@recycle",
    ".recycle",
    ".trash-*",
    "lost+found",
    ".sync",
    ".dropbox*",
)
_RSYNC = re.compile(r"\..+\.[A-Za-z0-9]{6}")


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns))


_TEMP_FILE, _TEMP_FOLDER = _any_of(_TEMP_FILES), _any_of(_TEMP_FOLDERS)
_SYSTEM_FILE, _SYSTEM_FOLDER = _any_of(_SYSTEM_FILES), _any_of(_SYSTEM_FOLDERS)


def classify(name: str, *, is_dir: bool) -> NameClass:
    """Say whether a name in the inbox is looked at, and if not, why not.

    ``ok`` for image and sidecar names (readable or not: a type that cannot be read fails with its
    remedy) and for folders to descend into.
    """
    key = folded(name)
    temp, system = (_TEMP_FOLDER, _SYSTEM_FOLDER) if is_dir else (_TEMP_FILE, _SYSTEM_FILE)
    if system.match(key):
        return "system"
    if temp.match(key) or (not is_dir and _RSYNC.fullmatch(name)):
        return "temp"
    if key.startswith("."):
        return "hidden"
    if is_dir or is_image_name(name) or is_sidecar_name(name):
        return "ok"
    return "extension"


def is_sidecar_name(name: str) -> bool:
    """Whether a name could be a sidecar's; its content decides whether it is one."""
    return name.casefold().endswith(SIDECAR_EXTENSIONS)


def refusal(name: str) -> str | None:
    """Say why a file is refused for its name alone, or None: any other UTF-8 is fine."""
    if is_plain(name):
        return None
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "its name is not valid UTF-8"
    if any(unicodedata.category(char) == "Cc" for char in name):
        return "its name holds a control character"
    return None
