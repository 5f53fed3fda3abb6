"""Bring a database to the tables this version needs, one process at a time, all or nothing.

The steps themselves are the revisions in `trunkline.migrations`, written for Alembic.
"""

import importlib
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from trunkline import migrations
from trunkline.db import postgresql, sqlite
from trunkline.db.faults import translate
from trunkline.db.folder import locked
from trunkline.errors import Unavailable

_LOCK = 0x7472756E6B6C696E  # "trunklin": which advisory lock is ours


def prepare_sqlite(path: Path) -> None:
    """Create the file if there is none, and migrate it.

    Raises:
        Unavailable: the file cannot be used, or a newer Trunkline made it.
    """
    try:
        with locked(path.parent):
            sqlite.make_file(path)
            _migrate_file(path)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(translate(error))
        raise Unavailable(f"The database {path} cannot be used: {reason}") from None


def prepare_postgresql(url: sa.URL) -> None:
    """Migrate the database at `url`.

    Raises:
        Unavailable: it cannot be reached, or a newer Trunkline made it.
    """
    engine = postgresql.engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            migrate(connection)
    except OperationalError as error:
        raise postgresql.unreachable(url, error) from None
    except SQLAlchemyError as error:
        raise Unavailable(f"The database cannot be brought up to date: {translate(error)}") from None
    finally:
        engine.dispose()


def migrate(connection: sa.Connection) -> None:
    """Apply the missing revisions inside the caller's transaction.

    Raises:
        Unavailable: the database is at a revision this version does not know.
    """
    if not _is_newest(connection):
        # Alembic takes a tenth of a second to import, which most starts need not spend.
        importlib.import_module("trunkline.db.upgrade").upgrade(connection)


def _is_newest(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    found = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    return list(found) == [migrations.NEWEST]


def _migrate_file(path: Path) -> None:
    connection, raw = sqlite.connect(path)
    try:
        raw.execute("PRAGMA foreign_keys=OFF")  # tables are rebuilt; the whole is checked before the commit
        connection.begin()
        raw.execute("BEGIN IMMEDIATE")
        migrate(connection)
        if raw.execute("PRAGMA foreign_key_check").fetchone():
            raise Unavailable(f"The database {path} cannot be brought up to date: rows would lose others.")
        raw.execute("COMMIT")
    finally:
        sqlite.disconnect(connection, raw)
