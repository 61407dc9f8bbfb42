"""File names as people and their programs see them: compared, and shown."""

from __future__ import annotations

import unicodedata

# Marks that turn the direction of text round, and line ends that are no control characters.
_TRICKS = frozenset(
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def is_plain(name: str) -> bool:
    """Whether a name holds nothing but printable ASCII, as almost all do: the quick way."""
    return name.isascii() and name.isprintable()


def shown(name: str) -> str:
    r"""Return a name that is safe in a log, a terminal, a page or a report.

    Control characters, direction marks and bytes that are not UTF-8 become escapes (``\n``,
    ``\u202e``, ``\xff``); everything else, emoji included, stays.
    """
    if is_plain(name):
        return name
    return "".join(_shown_char(char) for char in name)


def _shown_char(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # os.fsdecode's stand-in for a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char in _TRICKS or unicodedata.category(char) in {"Cc", "Cs"}:
        return char.encode("unicode_escape").decode("ascii")
    return char


def folded(name: str) -> str:
    """Return the key under which case-insensitive and normalizing clients see a name."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
