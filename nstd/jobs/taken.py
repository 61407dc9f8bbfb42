"""An inbox file that the spool has a copy of: remembered so that it is never taken twice."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import Any

from nstd.jobs.inputs import InboxFile


def identity(file: InboxFile) -> str:
    """Return the five numbers that a change of the file changes, as text.

    Device and inode are 64 bits without sign, which SQLite's integers do not hold.
    """
    return f"{file.dev} {file.inode} {file.size} {file.mtime_ns} {file.ctime_ns}"


@dataclass(frozen=True)
class Taken:
    """One state of one file of the inbox, and the job that has a copy."""

    path: str
    """Below the inbox."""
    identity: str
    job: str
    remove: bool
    """It has still to leave the inbox (``move`` intake); else it stays there."""
    at: float

    @classmethod
    def of(cls, file: InboxFile, job: str, *, remove: bool, at: float) -> Taken:
        """Note that ``job`` has a copy of ``file``."""
        return cls(file.path, identity(file), job, remove, at)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Device, inode, size, mtime, ctime."""
        return tuple(int(number) for number in self.identity.split())

    @staticmethod
    def key(path: str) -> bytes:
        """Return a path as SQLite can keep it, valid UTF-8 or not."""
        return os.fsencode(path)

    def is_of(self, file: InboxFile) -> bool:
        """Whether the file is still in the state that was taken."""
        return self.path == file.path and self.identity == identity(file)

    def to_row(self) -> tuple[Any, ...]:
        """Return the columns of the table ``taken``."""
        return (self.key(self.path), self.identity, self.job, int(self.remove), self.at)

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Taken:
        """Build from ``to_row``'s columns."""
        path, remove = os.fsdecode(row["path"]), bool(row["remove"])
        return cls(path, row["identity"], row["job"], remove, row["at"])
