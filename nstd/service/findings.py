"""What ``nstd check`` finds: one sentence for what is, one for what it means and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nstd.errors import ConfigError, NstdError

Grade = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    area: str
    """``configuration``, a folder's name, ``weights``, ``device``, ``http`` ..."""
    grade: Grade
    text: str
    advice: str = ""
    exit_code: int = 0
    """Of a bad finding: what ``nstd run`` would end with."""


def good(area: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(area, "good", text)


def note(area: str, text: str, advice: str) -> Finding:
    """Return a finding that works, but not as one might expect."""
    return Finding(area, "note", text, advice)


def bad(area: str, text: str, advice: str, exit_code: int = ConfigError.exit_code) -> Finding:
    """Return a finding that keeps nstd from working."""
    return Finding(area, "bad", text, advice, exit_code)


def from_error(area: str, error: NstdError) -> Finding:
    """Return an error as the finding that it is."""
    return bad(area, error.message, error.remedy, error.exit_code)
