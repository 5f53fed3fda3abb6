"""SQLite: how a file is opened, and what a batch of calls means on it.

Transactions are spoken on the raw driver connection: at thousands of them a second SQLAlchemy's own
bookkeeping would cost more than the statements. Functions still get a SQLAlchemy connection.
"""

import os
import sqlite3
from pathlib import Path
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from trunkline.db.faults import translate
from trunkline.db.lane import Call
from trunkline.errors import Broken, Unavailable

READERS = 2
WRITE_BATCH = 256
READ_BATCH = 16  # measured: few large batches serve most reads; a long listing delays no more than these
_BUSY_SECONDS = 15.0  # another process, such as `trunkline key rotate`, may hold the write lock
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-16000")


class SqliteWriter:
    """The only connection of this process that writes: a batch of calls shares one durable commit."""

    def __init__(self, path: Path) -> None:
        self._connection, self._raw = connect(path)
        self._cursor = self._raw.cursor()
        self._root = self._connection.begin()

    def run(self, calls: list[Call]) -> None:
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
            if not self._run_together(calls):
                self._cursor.execute("ROLLBACK")
                self._cursor.execute("BEGIN IMMEDIATE")
                for call in calls:
                    self._step(call)
            self._cursor.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon(calls, error)

    def close(self) -> None:
        disconnect(self._connection, self._raw)

    def _run_together(self, calls: list[Call]) -> bool:
        """Run the calls without savepoints between them; tell whether no call that failed has written anything.

        Each statement hands the interpreter to the event loop and waits to get it back: savepoints would make
        three of one. A failed call that did write makes the whole batch run again, each call in its savepoint.
        """
        for call in calls:
            changes = self._raw.total_changes
            succeeded = call.run(self._connection)
            if not self._root.is_active:
                self._root = _begin_again(self._connection, self._root)
            if not self._raw.in_transaction or (not succeeded and self._raw.total_changes != changes):
                return False
        return True

    def _step(self, call: Call) -> None:
        self._cursor.execute("SAVEPOINT call")
        if not call.run(self._connection):
            self._cursor.execute("ROLLBACK TO call")
        self._cursor.execute("RELEASE call")
        if not self._root.is_active:
            self._root = _begin_again(self._connection, self._root)

    def _abandon(self, calls: list[Call], error: sqlite3.Error) -> None:
        if self._raw.in_transaction:
            self._raw.rollback()
        # a disk that is full or fails undoes the whole batch: the call that met it knows the reason
        causes = [translate(cause) for cause in (error, *(call.error for call in calls)) if cause]
        known = (str(cause) for cause in causes if isinstance(cause, Unavailable))
        text = next(known, "The database could not commit.")
        for call in calls:
            call.error = Unavailable(text)


class SqliteReader:
    """A connection that cannot write: a batch of calls shares one snapshot."""

    def __init__(self, path: Path) -> None:
        self._connection, self._raw = connect(path)
        self._raw.execute("PRAGMA query_only=ON")
        self._root = self._connection.begin()

    def run(self, calls: list[Call]) -> None:
        self._raw.execute("BEGIN")
        try:
            for call in calls:
                call.run(self._connection)
                if not self._root.is_active:
                    self._root = _begin_again(self._connection, self._root)
        finally:
            self._raw.rollback()

    def close(self) -> None:
        disconnect(self._connection, self._raw)


def connect(path: Path) -> tuple[sa.Connection, sqlite3.Connection]:
    """Open `path` and return SQLAlchemy's connection and the driver's below it, in autocommit mode."""
    raw = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    for pragma in _PRAGMAS:
        raw.execute(f"PRAGMA {pragma}")
    engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=NullPool, hide_parameters=True)
    connection = engine.connect()
    sa.event.listen(engine, "commit", _refuse)
    sa.event.listen(engine, "rollback", _refuse)
    return connection, raw


def disconnect(connection: sa.Connection, raw: sqlite3.Connection) -> None:
    """Close what `connect` opened; an open transaction is lost."""
    sa.event.remove(connection.engine, "rollback", _refuse)
    connection.close()
    raw.close()


def make_file(path: Path) -> None:
    """Create the folder and an empty database that only its owner can read, in WAL mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its WAL the same mode
    raw = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        raw.execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()


def _refuse(_: sa.Connection) -> NoReturn:
    raise Broken("A database function neither commits nor rolls back: its caller does.")


def _begin_again(connection: sa.Connection, root: sa.RootTransaction) -> sa.RootTransaction:
    if (
        connection.get_transaction() is not None
    ):  # a refused commit leaves it there, a refused rollback does not
        root.rollback()
    return connection.begin()
