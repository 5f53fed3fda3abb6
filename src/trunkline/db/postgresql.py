"""PostgreSQL: its address, its connections, and what a call means on it."""

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from trunkline.db.faults import is_retryable
from trunkline.db.lane import Call
from trunkline.errors import Invalid, Unavailable

READERS = 4
WRITERS = 8
READ_BATCH = 8
WRITE_BATCH = 1  # a commit each: rows locked for one caller never wait for another's statements
_TRIES = 3
_SETTING = ("TRUNKLINE_DATABASE_URL",)
_DRIVER = "postgresql+psycopg"
_SPELLINGS = frozenset({_DRIVER, "postgresql", "postgres"})
_DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "trunkline",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    # milliseconds: no statement outlives a caller's patience, no lock a crashed peer's
    "options": "-c statement_timeout=30000 -c lock_timeout=10000"
    " -c idle_in_transaction_session_timeout=60000",
}
_REASONS = (
    ("password authentication failed", "the user or password is wrong"),
    ("no password supplied", "a password is needed"),
    ("no pg_hba.conf entry", "the server does not let this user or host in"),
    ("role ", "there is no such user"),
    ("database ", "there is no such database, or the user may not enter it"),
    ("resolve", "the host name is unknown"),
    ("translate host name", "the host name is unknown"),
    ("refused", "nothing answers there"),
    ("timeout", "no answer in time"),
    ("too many", "it has no connection left to give"),
    ("ssl", "TLS failed"),
)


def parse(text: str) -> sa.URL:
    """Read a PostgreSQL address in any usual spelling.

    Raises:
        Invalid: naming the setting, without quoting the address: it holds a password.
    """
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise _bad_address() from None
    if url.drivername not in _SPELLINGS or not url.database or "@" in (url.host or ""):
        raise _bad_address()
    return url.set(drivername=_DRIVER)


def engine(url: sa.URL, *, size: int = 1, isolation: str | None = None) -> sa.Engine:
    """Make an engine of at most `size` connections; nothing connects yet."""
    extra = {} if isolation is None else {"isolation_level": isolation}
    return sa.create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={name: value for name, value in _DEFAULTS.items() if name not in url.query},
        **extra,
    )


def unreachable(url: sa.URL, error: SQLAlchemyError) -> Unavailable:
    """Say why there is no connection, in our words: the driver's might quote the address."""
    found = str(getattr(error, "orig", error)).lower()
    reason = next((reason for mark, reason in _REASONS if mark in found), "the connection failed")
    return Unavailable(
        f"PostgreSQL at {url.host or 'localhost'}:{url.port or 5432} cannot be used: {reason}."
    )


def readers(url: sa.URL) -> list["PostgresqlReader"]:
    """Make the sessions of the read lane, over one pool."""
    pool = engine(url, size=READERS, isolation="REPEATABLE READ")
    sa.event.listen(pool, "connect", _make_read_only)
    return [PostgresqlReader(pool) for _ in range(READERS)]


def writers(url: sa.URL) -> list["PostgresqlWriter"]:
    """Make the sessions of the write lane, over one pool."""
    pool = engine(url, size=WRITERS)
    return [PostgresqlWriter(pool) for _ in range(WRITERS)]


class PostgresqlReader:
    """Runs a batch of calls in one read-only snapshot; a failing one costs the others nothing."""

    def __init__(self, pool: sa.Engine) -> None:
        self._pool = pool

    def run(self, calls: list[Call]) -> None:
        with self._pool.connect() as connection:
            for call in calls:
                for _ in range(_TRIES):
                    if call.run(connection):
                        break
                    connection.rollback()  # the snapshot is lost with the failure
                    if not is_retryable(call.error):
                        break

    def close(self) -> None:
        self._pool.dispose()


class PostgresqlWriter:
    """Runs each call as a transaction of its own, again when the database asks for it."""

    def __init__(self, pool: sa.Engine) -> None:
        self._pool = pool

    def run(self, calls: list[Call]) -> None:
        for call in calls:
            for _ in range(_TRIES):
                self._transact(call)
                if not is_retryable(call.error):
                    break

    def close(self) -> None:
        self._pool.dispose()

    def _transact(self, call: Call) -> None:
        try:
            with self._pool.connect() as connection:
                if call.run(connection):
                    _commit(connection, call)
        except DBAPIError as error:
            call.error = error


def _commit(connection: sa.Connection, call: Call) -> None:
    try:
        connection.commit()
    except DBAPIError as error:
        # whether a commit happened whose answer was lost nobody knows: never try that one again
        call.error = (
            Unavailable("The database was lost at the commit.") if error.connection_invalidated else error
        )


def _make_read_only(raw: object, _: object) -> None:
    raw.read_only = True  # type: ignore[attr-defined]  # psycopg's connection, typed as a bare DBAPI one


def _bad_address() -> Invalid:
    return Invalid.field(
        _SETTING,
        "must be a PostgreSQL address such as postgresql://user:password@host:5432/database, "
        "with special characters percent-encoded",
    )
