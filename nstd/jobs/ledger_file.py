"""The ledger's file: its schema, its versions, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any, Self

from nstd.errors import ConfigError, NoSpaceError, NstdError, StorageError
from nstd.jobs.publish import call, guard
from nstd.jobs.text import shown

APPLICATION_ID = 0x6E737464  # "nstd"
BUSY_S = 10.0
"""How long to wait for the other process (``nstd status`` beside the daemon)."""

MIGRATIONS = (
    # 1: jobs, and the inbox files that were taken.
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, spec TEXT, folder TEXT NOT NULL,
        inputs TEXT NOT NULL, intake TEXT NOT NULL, since REAL NOT NULL, admitted REAL NOT NULL,
        priority INTEGER NOT NULL, started REAL, ended REAL, attempts INTEGER NOT NULL,
        worker_deaths INTEGER NOT NULL, daemon_deaths INTEGER NOT NULL, retry_at REAL,
        outcome TEXT, reason TEXT NOT NULL, message TEXT NOT NULL, remedy TEXT NOT NULL,
        outputs TEXT NOT NULL, failed_folder TEXT, retry_of TEXT, facts TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX jobs_by_turn ON jobs (state, priority DESC, since, id);
    CREATE INDEX jobs_by_end ON jobs (ended);
    -- Numbers of 64 bits without sign (inode, dev) do not fit SQLite's integers: text.
    CREATE TABLE taken (
        path BLOB PRIMARY KEY, identity TEXT NOT NULL, job TEXT NOT NULL,
        remove INTEGER NOT NULL, at REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    # 2: what happened when, and what commands ask of the daemon.
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, job TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL,
        note TEXT NOT NULL
    );
    CREATE INDEX events_by_job ON events (job, number);
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, job TEXT NOT NULL,
        at REAL NOT NULL, answer TEXT
    );
    """,
    # 3: the latest of each kind, among 100,000 ended jobs (measured: 0.6 s without the index).
    """
    CREATE INDEX jobs_by_state_and_end ON jobs (state, ended, id);
    """,
    # 4: a file of which only the times have changed is known by its bytes.
    """
    ALTER TABLE taken ADD COLUMN sha256 TEXT NOT NULL DEFAULT '';
    """,
)
VERSION = len(MIGRATIONS)


class LedgerFile:
    """An open ledger: transactions, and errors that people understand."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = connect(path)

    @property
    def changes(self) -> int:
        """A number that grows with every row that this connection has changed."""
        return self._connection.total_changes

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; inside another one, a part of it."""
        if self._in_transaction():
            yield
            return
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            with guard(self.path):
                call("commit", self._run, "COMMIT")
        except BaseException:
            if self._in_transaction():
                self._connection.rollback()
            raise

    def _in_transaction(self) -> bool:
        return self._connection.in_transaction

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        with translated(self.path):
            return self._connection.execute(sql, values)

    def _one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._run(sql, *values).fetchone()
        return row

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._run(sql, *values).fetchall()


def connect(path: str) -> sqlite3.Connection:
    """Open the ledger, create it where there is none, bring an older one up to date.

    Raises ConfigError for a newer one or a file that is none, StorageError for the rest.
    """
    with translated(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            _version(connection, path)  # refuses before anything is changed
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    if _version(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")  # of two processes that both see an old one, one migrates
    for script in MIGRATIONS[_version(connection, path) :]:
        for statement in script.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema's version, 0 for a new file; refuse what is not ours, or newer."""
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (owner or number or tables):
        raise ConfigError(
            f"'{shown(path)}' is a database, but not a ledger of nstd.",
            "Choose another state folder.",
        )
    if number > VERSION:
        raise ConfigError(
            f"The ledger '{shown(path)}' was written by a newer nstd (schema {number}; this one "
            f"knows {VERSION}).",
            "Install that version again, or choose another state folder.",
        )
    return number


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(path, error) from error


def _meaning(path: str, error: sqlite3.Error) -> NstdError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = shown(path)
    if code == sqlite3.SQLITE_FULL:
        return NoSpaceError(
            f"There is no room left for the ledger '{name}'.",
            "Free some space there; nstd goes on by itself when there is room.",
        )
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return ConfigError(
            f"The ledger '{name}' is damaged ({error}).",
            f"Move {os.path.basename(name)} and its -wal and -shm files away; nstd then starts "
            "with an empty history and puts unfinished jobs back into the inbox.",
        )
    return StorageError(
        f"The ledger '{name}' cannot be used ({error}).",
        "Check that the state folder is there and that nstd may write to it.",
    )
