"""Turn what the database drivers raise into Trunkline's errors; nothing else may know their exceptions.

Driver texts can quote values and addresses, so none of them becomes part of a message a caller sees,
and none is chained: the traceback stays, the text is ours.
"""

import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from trunkline.errors import Broken, Conflict, Invalid, TrunklineError, Unavailable

_TAKEN = "Something with these values exists already."
_DANGLING = "Refers to something that is not there, or is still referred to."
_UNFIT = "A value cannot be stored: it is out of range, too long, or holds characters that are no text."
_DOWN = "The database cannot be used right now."

_SQLITE = {
    "SQLITE_CONSTRAINT_UNIQUE": Conflict(_TAKEN),
    "SQLITE_CONSTRAINT_PRIMARYKEY": Conflict(_TAKEN),
    "SQLITE_CONSTRAINT_ROWID": Conflict(_TAKEN),
    "SQLITE_CONSTRAINT_FOREIGNKEY": Conflict(_DANGLING),
    "SQLITE_TOOBIG": Invalid(_UNFIT),
    "SQLITE_FULL": Unavailable("The disk that holds the database is full."),
    "SQLITE_BUSY": Unavailable("The database is locked by another process."),
    "SQLITE_BUSY_SNAPSHOT": Unavailable("The database is locked by another process."),
    "SQLITE_NOTADB": Unavailable("The database file is no SQLite database."),
    "SQLITE_CORRUPT": Unavailable("The database file is damaged."),
    "SQLITE_CANTOPEN": Unavailable("The database file cannot be opened."),
    "SQLITE_NOMEM": Unavailable("The database is out of memory."),
}
_SQLITE_IO = "SQLITE_IOERR"
_POSTGRESQL = {
    "23505": Conflict(_TAKEN),
    "23503": Conflict(_DANGLING),
    "53100": Unavailable("The disk that holds the database is full."),
    "53300": Unavailable("The database has no connection left to give."),
    "40001": Unavailable("The database is too busy with the same rows."),
    "40P01": Unavailable("The database is too busy with the same rows."),
    "55P03": Unavailable("The database is too busy with the same rows."),
    "57014": Unavailable("The database took too long."),
}
_POSTGRESQL_DOWN = ("08", "53", "57", "58")  # connection, resources, operator, system
_POSTGRESQL_UNFIT = "22"
_RETRYABLE = frozenset({"40001", "40P01"})


def _is_postgresql(error: BaseException, name: str = "Error") -> bool:
    """Tell a driver's exception by its name: importing the driver would slow the start on SQLite down."""
    return any(
        kind.__module__.startswith("psycopg") and kind.__name__ == name for kind in type(error).__mro__
    )


def translate(error: BaseException) -> BaseException:
    """Return our error for a driver's; anything else comes back as it is."""
    if isinstance(error, UnicodeEncodeError | OverflowError):
        ours: TrunklineError = Invalid(_UNFIT)
    elif isinstance(error, SQLAlchemyError | sqlite3.Error) or _is_postgresql(error):
        ours = _ours(error)
    elif isinstance(error, StopIteration):  # a future refuses to carry it
        ours = Broken("A database function raised StopIteration.")
    else:
        return error
    return ours.with_traceback(error.__traceback__)


def is_retryable(error: BaseException | None) -> bool:
    """Tell whether a failed PostgreSQL transaction deserves another try: serialization, deadlock, lost link."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _RETRYABLE


def _ours(error: BaseException) -> TrunklineError:
    origin: Any = error.orig if isinstance(error, sa.exc.StatementError) else error
    if isinstance(origin, UnicodeEncodeError | OverflowError):
        return Invalid(_UNFIT)
    if isinstance(origin, sqlite3.Error):
        found = _of_sqlite(getattr(origin, "sqlite_errorname", None) or "")
    elif _is_postgresql(origin):
        found = _of_postgresql(origin)
    else:
        found = Unavailable(_DOWN) if isinstance(error, sa.exc.TimeoutError) else None
    if found is None:
        return Broken(f"{type(origin).__name__}: {str(origin).partition(chr(10))[0]}")
    return type(found)(found.message)  # a fresh one: tracebacks grow on an exception that is raised twice


def _of_sqlite(name: str) -> TrunklineError | None:
    if name.startswith(_SQLITE_IO):
        return Unavailable("The disk that holds the database fails.")
    return _SQLITE.get(name)


def _of_postgresql(origin: Any) -> TrunklineError | None:
    state = origin.sqlstate or ""
    if state in _POSTGRESQL:
        return _POSTGRESQL[state]
    if state.startswith(_POSTGRESQL_UNFIT) or (not state and _is_postgresql(origin, "DataError")):
        return Invalid(_UNFIT)
    if state.startswith(_POSTGRESQL_DOWN) or (not state and _is_postgresql(origin, "OperationalError")):
        return Unavailable(_DOWN)
    return None
