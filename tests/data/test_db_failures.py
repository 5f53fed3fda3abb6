"""When the connection itself fails: callers are told, nothing is repeated that may have happened."""

import os

import psycopg
import pytest
import sqlalchemy as sa

from trunkline.db import Database, postgresql
from trunkline.db.lane import Lane
from trunkline.errors import Conflict, Invalid, Unavailable
from trunkline.tables import workspaces

only_postgresql = pytest.mark.parametrize("database_settings", ["postgresql"], indirect=True)
DEAD = "postgresql://sesame:sesame@127.0.0.1:1/sesame"


class FailingSession:
    """A connection that is never there."""

    def __init__(self) -> None:
        self.batches = 0

    def run(self, calls) -> None:
        self.batches += 1
        raise RuntimeError("gone")

    def close(self) -> None: ...


async def test_a_lane_outlives_a_session_that_raises() -> None:
    session = FailingSession()
    lane = Lane("test", [session], 1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="gone"):
            await lane.submit(lambda _: None)
    lane.close()
    assert session.batches == 2


async def test_closing_twice_is_closing_once() -> None:
    lane = Lane("test", [FailingSession()], 1)
    lane.close()
    lane.close()
    with pytest.raises(Unavailable):
        await lane.submit(lambda _: None)


@pytest.mark.parametrize("sessions", [postgresql.readers, postgresql.writers])
async def test_a_server_that_is_gone_is_unavailable(sessions) -> None:
    lane = Lane("test", sessions(postgresql.parse(DEAD)), 1)
    with pytest.raises(Unavailable) as caught:
        await lane.submit(lambda _: None)
    lane.close()
    assert "sesame" not in str(caught.value)


@only_postgresql
async def test_a_commit_whose_answer_is_lost_is_not_repeated(database: Database, clock) -> None:
    tries: list[int] = []

    def lose_the_link(conn: sa.Connection) -> None:
        row = {"id": f"w{len(tries)}", "name": "Alice", "created_at": clock.now()}
        conn.execute(workspaces.insert(), row)
        pid = conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        tries.append(pid)
        with psycopg.connect(os.environ["TRUNKLINE_TEST_POSTGRES"], autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with pytest.raises(Unavailable, match="at the commit"):
        await database.write(lose_the_link)
    assert len(tries) == 1


@only_postgresql
async def test_a_promise_broken_at_the_commit_is_told(database: Database) -> None:
    def defer(conn: sa.Connection) -> None:
        conn.execute(
            sa.text("CREATE TEMP TABLE t (id INT UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP")
        )
        conn.execute(sa.text("INSERT INTO t VALUES (1), (1)"))

    with pytest.raises(Conflict, match="exists already"):
        await database.write(defer)


async def test_a_number_no_column_holds_is_invalid(database: Database) -> None:
    with pytest.raises(Invalid, match="out of range"):
        await database.read(lambda c: c.execute(sa.select(sa.literal(2**80, sa.BigInteger) + 1)).all())
