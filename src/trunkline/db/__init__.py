"""The database: `read` and `write` a function of a connection, on SQLite or PostgreSQL.

Owns connections, threads, transactions and migrations being applied. The SQL lives with the noun it
serves; what the drivers raise becomes ours in `faults`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from trunkline.db import postgresql, schema, sqlite
from trunkline.db.lane import Lane
from trunkline.settings import Settings

__all__ = ["Database", "insert", "open_database"]

T = TypeVar("T")


class Database:
    """An open database. A function gets a SQLAlchemy Core connection and does nothing but SQL on it.

    It must return fetched rows, never a live result, and must not commit or roll back. It may run more
    than once, each time on a clean slate: on PostgreSQL when the database asks for that, up to three
    times; on SQLite when another call of its batch failed after it had written.
    """

    def __init__(self, dialect: str, reads: Lane, writes: Lane) -> None:
        self.dialect = dialect
        self._reads = reads
        self._writes = writes

    async def read(self, fn: Callable[[sa.Connection], T]) -> T:
        """Return what `fn` finds, all of it in one snapshot that holds every write answered before."""
        return await self._reads.submit(fn)

    async def write(self, fn: Callable[[sa.Connection], T]) -> T:
        """Run `fn` as a transaction and return its result once the commit is durable.

        Raises:
            Conflict: a value that must be unique is taken, or a row it needs is gone.
            Unavailable: the database failed, is locked, full or closed; nothing was written.
        """
        return await self._writes.submit(fn)

    async def close(self) -> None:
        """Finish what was accepted, then let go of every connection."""
        await asyncio.to_thread(self._writes.close)
        await asyncio.to_thread(self._reads.close)


def insert(dialect: str, table: sa.Table) -> Any:
    """Begin an INSERT of a dialect, which both spell alike: for one that says what to do on a conflict."""
    return (sqlite_insert if dialect == "sqlite" else postgresql_insert)(table)


async def open_database(settings: Settings) -> Database:
    """Open the database of `settings`, bringing its tables up to date, one process at a time.

    Raises:
        Invalid: the address is none.
        Unavailable: the database cannot be used, or a newer Trunkline made it.
    """
    opener = _open_postgresql if settings.database_url else _open_sqlite
    return await asyncio.to_thread(opener, settings)


def _open_sqlite(settings: Settings) -> Database:
    path = settings.sqlite_path
    schema.prepare_sqlite(path)
    reads = Lane("db-read", [sqlite.SqliteReader(path) for _ in range(sqlite.READERS)], sqlite.READ_BATCH)
    writes = Lane("db-write", [sqlite.SqliteWriter(path)], sqlite.WRITE_BATCH)
    return Database("sqlite", reads, writes)


def _open_postgresql(settings: Settings) -> Database:
    url = postgresql.parse(settings.database_url)
    schema.prepare_postgresql(url)
    readers = postgresql.readers(url)
    writers = postgresql.writers(url)
    return Database(
        "postgresql",
        Lane("db-read", readers, postgresql.READ_BATCH),
        Lane("db-write", writers, postgresql.WRITE_BATCH),
    )
