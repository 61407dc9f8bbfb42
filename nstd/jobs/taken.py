"""An inbox file that the spool has a copy of: remembered so that it is never taken twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nstd.jobs.inputs import InboxFile
from nstd.jobs.ledger_file import LedgerFile


def numbers(file: InboxFile) -> tuple[int, ...]:
    """Return device, inode, size, mtime and ctime: what a change of the file changes."""
    return (file.dev, file.inode, file.size, file.mtime_ns, file.ctime_ns)


def identity(file: InboxFile) -> str:
    """Return a file's numbers as text.

    Device and inode are 64 bits without sign, which SQLite's integers do not hold.
    """
    return " ".join(map(str, numbers(file)))


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
    sha256: str = ""
    """Of the bytes that were taken; empty when nobody knows it."""

    @classmethod
    def of(cls, file: InboxFile, job: str, *, remove: bool, at: float, sha256: str = "") -> Taken:
        """Note that ``job`` has a copy of ``file``."""
        return cls(file.path, identity(file), job, remove, at, sha256)

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

    def may_be(self, numbers: tuple[int, ...]) -> bool:
        """Whether a file in another state may hold the very bytes that were taken: ask them.

        A changed mode or attribute sets the ctime, and programs that bring a photograph give it its
        old mtime, maybe after it has its name (Syncthing does). A write moves the mtime forward:
        that is another drop, even of the same bytes.
        """
        known = self.numbers
        return bool(self.sha256) and numbers[:3] == known[:3] and numbers[3] <= known[3]

    def to_row(self) -> tuple[Any, ...]:
        """Return the columns of the table ``taken``."""
        key, remove = self.key(self.path), int(self.remove)
        return (key, self.identity, self.job, remove, self.at, self.sha256)

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Taken:
        """Build from ``to_row``'s columns."""
        path, remove = os.fsdecode(row["path"]), bool(row["remove"])
        return cls(path, row["identity"], row["job"], remove, row["at"], row["sha256"])


class TakenFiles(LedgerFile):
    """The part of the ledger that knows the inbox files of which the spool has, or had, copies."""

    def remember(self, taken: Sequence[Taken]) -> None:
        """Note inbox files that were copied; a later state of the same path replaces the former."""
        with self._transaction():
            self._remember(taken)

    def already_taken(self, file: InboxFile) -> bool:
        """Whether exactly this state of the file was taken before and left in place."""
        found = self.taken(file.path)
        return found is not None and found.is_of(file)

    def taken(self, path: str) -> Taken | None:
        """Return what was taken of that path last, and left in place or not removed yet."""
        found = self._one("SELECT * FROM taken WHERE path = ?", Taken.key(path))
        return None if found is None else Taken.from_row(found)

    def left_the_inbox(self, paths: Sequence[str]) -> None:
        """Note that copied files are gone: what comes under their names next is another drop.

        Should the very same files come back (a folder moved away and back), they are still known.
        """
        with self._transaction():
            for path in paths:
                self._run("UPDATE taken SET sha256 = '' WHERE path = ?", Taken.key(path))

    def to_remove(self) -> list[Taken]:
        """Return the inbox files that are in the spool and still have to leave the inbox."""
        rows = self._all("SELECT * FROM taken WHERE remove = 1 ORDER BY job, path")
        return [Taken.from_row(row) for row in rows]

    def removed(self, taken: Sequence[Taken]) -> None:
        """Forget inbox files that have left the inbox."""
        with self._transaction():
            for each in taken:
                sql = "DELETE FROM taken WHERE path = ? AND identity = ?"
                self._run(sql, Taken.key(each.path), each.identity)

    def forget_taken(self, gone: Callable[[str], bool]) -> int:
        """Forget copied files that ``gone`` says are in the inbox no more; returns how many."""
        rows = self._all("SELECT * FROM taken WHERE remove = 0")
        lost = [taken for row in rows if gone((taken := Taken.from_row(row)).path)]
        if lost:
            self.removed(lost)
        return len(lost)

    def _remember(self, taken: Sequence[Taken]) -> None:
        for each in taken:
            self._run("INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?, ?)", *each.to_row())
