"""Reading and writing: what is promised of a transaction, on both databases."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
import sqlalchemy as sa

from trunkline.db import Database, open_database
from trunkline.errors import Broken, Conflict, Invalid, Unavailable
from trunkline.settings import Settings
from trunkline.tables import memberships, workspaces

PATIENCE = 10.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
only_sqlite = pytest.mark.parametrize("database_settings", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_settings", ["postgresql"], indirect=True)


def add(id: str, name: str = "Alice"):
    """Return a function that adds a workspace."""

    def write(conn: sa.Connection) -> str:
        conn.execute(workspaces.insert(), {"id": id, "name": name, "created_at": NOW})
        return id

    return write


def ids(conn: sa.Connection) -> list[str]:
    return sorted(conn.execute(sa.select(workspaces.c.id)).scalars())


class Held:
    """Keeps the writer busy, so that what is written meanwhile is queued behind."""

    def __init__(self, database: Database) -> None:
        self._go = threading.Event()
        self._started = threading.Event()
        self._task = asyncio.ensure_future(database.write(self._wait))

    def _wait(self, conn: sa.Connection) -> None:
        self._started.set()
        assert self._go.wait(PATIENCE)

    async def __aenter__(self) -> Self:
        assert await asyncio.to_thread(self._started.wait, PATIENCE)
        return self

    async def __aexit__(self, *_) -> None:
        self._go.set()
        await self._task


async def queued(*writes) -> list[asyncio.Task]:
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    return tasks


async def test_a_written_row_is_read_back(database: Database) -> None:
    assert await database.write(add("a")) == "a"
    assert await database.read(ids) == ["a"]


async def test_a_failing_function_costs_its_neighbours_nothing(database: Database) -> None:
    def fail(conn: sa.Connection) -> None:
        add("half")(conn)
        raise LookupError("mine")

    async with Held(database):
        tasks = await queued(*[database.write(fn) for fn in (add("a"), fail, add("b"))])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[::2] == ["a", "b"]
    assert isinstance(outcomes[1], LookupError)
    assert await database.read(ids) == ["a", "b"]


@only_sqlite
async def test_many_writes_share_one_commit(database: Database) -> None:
    statements: list[str] = []
    await database.write(lambda c: c.connection.driver_connection.set_trace_callback(statements.append))
    async with Held(database):
        tasks = await queued(*[database.write(add(f"{number:02}")) for number in range(50)])
    await asyncio.gather(*tasks)
    assert statements.count("COMMIT") == 3  # of the trace itself, of the held one, of the fifty


@only_sqlite
async def test_when_the_commit_fails_nobody_is_told_of_success(database: Database) -> None:
    def dangle(conn: sa.Connection) -> None:
        conn.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        conn.execute(
            memberships.insert(), {"workspace_id": "?", "person_id": "?", "role": "x", "created_at": NOW}
        )

    async with Held(database):
        tasks = await queued(database.write(add("a")), database.write(dangle))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert await database.read(ids) == []
    assert await database.write(add("b")) == "b"


@only_sqlite
async def test_a_full_disk_is_said_and_survived(database: Database) -> None:
    pages = await database.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
    await database.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one())
    with pytest.raises(Unavailable, match="full"):
        await database.write(add("big", "x" * 1_000_000))
    await database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=100000").scalar_one())
    assert await database.write(add("small")) == "small"


async def test_a_caller_that_gave_up_does_not_break_the_batch(database: Database) -> None:
    async with Held(database):
        first, given_up, last = await queued(*[database.write(add(key)) for key in "abc"])
        given_up.cancel()
    assert await asyncio.gather(first, last) == ["a", "c"]
    assert given_up.cancelled()
    assert set(await database.read(ids)) >= {"a", "c"}


async def test_closing_finishes_what_was_accepted(database: Database, database_settings: Settings) -> None:
    async with Held(database):
        tasks = await queued(*[database.write(add(f"{number:02}")) for number in range(20)])
        closing = asyncio.ensure_future(database.close())
    assert len(await asyncio.gather(*tasks)) == 20
    await closing
    again = await open_database(database_settings)
    assert len(await again.read(ids)) == 20
    await again.close()


async def test_a_closed_database_is_unavailable(database: Database) -> None:
    await database.close()
    with pytest.raises(Unavailable, match="closed"):
        await database.write(add("a"))
    with pytest.raises(Unavailable, match="closed"):
        await database.read(ids)


async def test_several_event_loops_share_a_database(database: Database) -> None:
    def other(id: str) -> str:
        return asyncio.run(database.write(add(id)))

    assert await asyncio.gather(*[asyncio.to_thread(other, key) for key in "abc"]) == ["a", "b", "c"]


async def test_a_taken_value_is_a_conflict(database: Database) -> None:
    await database.write(add("a"))
    with pytest.raises(Conflict, match="exists already"):
        await database.write(add("a"))


async def test_a_dangling_reference_is_a_conflict(database: Database) -> None:
    row = {"workspace_id": "none", "person_id": "none", "role": "x", "created_at": NOW}
    with pytest.raises(Conflict, match="not there"):
        await database.write(lambda c: c.execute(memberships.insert(), row))


async def test_a_missing_value_is_our_own_fault(database: Database) -> None:
    with pytest.raises(Broken):
        await database.write(lambda c: c.execute(workspaces.insert(), {"id": "a", "created_at": NOW}))


@pytest.mark.parametrize("text", ["\ud800", "\0" * 3], ids=["surrogate", "nul"])
async def test_text_that_cannot_be_stored_is_invalid_or_stored(database: Database, text: str) -> None:
    if text.startswith("\0") and database.dialect == "sqlite":
        await database.write(add("a", text))  # SQLite does store it
        return
    with pytest.raises(Invalid, match="cannot be stored"):
        await database.write(add("a", text))


async def test_no_error_text_quotes_a_value(database: Database) -> None:
    await database.write(add("canary"))
    with pytest.raises(Conflict) as caught:
        await database.write(add("canary"))
    assert "canary" not in f"{caught.value} {caught.value.__cause__} {caught.value.args}"


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Broken):
        await database.read(add("a"))
    assert await database.read(ids) == []


async def test_a_read_sees_one_moment(database: Database) -> None:
    first, written = threading.Event(), threading.Event()

    def look_twice(conn: sa.Connection) -> tuple[list[str], list[str]]:
        before = ids(conn)
        first.set()
        assert written.wait(PATIENCE)
        return before, ids(conn)

    looking = asyncio.ensure_future(database.read(look_twice))
    assert await asyncio.to_thread(first.wait, PATIENCE)
    await database.write(add("a"))
    written.set()
    assert await looking == ([], [])
    assert await database.read(ids) == ["a"]


async def test_a_read_that_fails_costs_others_nothing(database: Database) -> None:
    wrong = database.read(lambda c: c.execute(sa.text("SELECT nothing FROM nowhere")).all())
    outcomes = await asyncio.gather(wrong, *[database.read(ids) for _ in range(30)], return_exceptions=True)
    assert isinstance(outcomes[0], Broken)
    assert outcomes[1:] == [[]] * 30


async def test_a_live_result_is_refused(database: Database) -> None:
    with pytest.raises(Broken, match="fetch"):
        await database.read(lambda c: c.execute(sa.select(workspaces)))


@only_sqlite
@pytest.mark.parametrize("ending", [sa.Connection.commit, sa.Connection.rollback])
async def test_a_function_cannot_end_the_shared_transaction(database: Database, ending) -> None:
    def meddle(conn: sa.Connection) -> None:
        add("mine")(conn)
        ending(conn)

    async with Held(database):
        tasks = await queued(*[database.write(fn) for fn in (add("a"), meddle, add("b"))])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], Broken)
    assert await database.read(ids) == ["a", "b"]


async def test_stop_iteration_reaches_the_caller_as_a_fault(database: Database) -> None:
    with pytest.raises(Broken):
        await database.read(lambda _: next(iter([])))


@only_sqlite
async def test_the_file_is_durable_checked_and_private(database: Database, settings: Settings) -> None:
    def pragma(name: str):
        return database.write(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    assert [await pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]
    for file in settings.data_dir.iterdir():
        assert file.name.startswith("trunkline.db")


async def test_a_new_data_directory_is_the_owners_alone(settings: Settings) -> None:
    await (await open_database(settings)).close()
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert settings.sqlite_path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_no_database_is_said(settings: Settings) -> None:
    settings.data_dir.mkdir()
    settings.sqlite_path.write_text("something else entirely" * 100)
    with pytest.raises(Unavailable, match="no SQLite database"):
        await open_database(settings)


async def test_a_data_directory_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be used"):
        await open_database(Settings(data_dir=tmp_path / "file"))


@only_postgresql
async def test_a_deadlock_is_tried_again(database: Database) -> None:
    await database.write(add("a"))
    await database.write(add("b"))
    meet = threading.Barrier(2)
    tries: list[str] = []

    def update(conn: sa.Connection, *order: str) -> None:
        tries.append(order[0])
        conn.execute(sa.text("SET LOCAL deadlock_timeout = '20ms'"))
        for key in order:
            conn.execute(sa.update(workspaces).where(workspaces.c.id == key).values(name=order[0]))
            if key == order[0] and len(tries) <= 2:
                meet.wait(PATIENCE)

    await asyncio.gather(
        database.write(lambda c: update(c, "a", "b")), database.write(lambda c: update(c, "b", "a"))
    )
    assert len(tries) > 2


@only_postgresql
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_a_lost_connection_is_replaced(database: Database, kind: str) -> None:
    tries: list[int] = []

    def cut_once(conn: sa.Connection) -> int:
        tries.append(1)
        if len(tries) == 1:
            conn.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return len(tries)

    assert await getattr(database, kind)(cut_once) == 2


@only_postgresql
async def test_what_stays_impossible_is_unavailable_after_three_tries(database: Database) -> None:
    tries: list[int] = []

    def cut(conn: sa.Connection) -> None:
        tries.append(1)
        conn.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable):
        await database.write(cut)
    assert len(tries) == 3


@only_postgresql
async def test_a_statement_that_takes_too_long_is_cut_off(database: Database) -> None:
    def slow(conn: sa.Connection) -> None:
        conn.execute(sa.text("SET LOCAL statement_timeout = '10ms'"))
        conn.execute(sa.text("SELECT pg_sleep(20)")).all()

    with pytest.raises(Unavailable, match="too long"):
        await database.write(slow)


@pytest.mark.parametrize(
    "url",
    ["mysql://u:sesame@h/d", "sesame", "postgresql://u:sesame@h:port/d", "postgresql://u:x@sesame@h/d"],
)
async def test_an_address_that_is_none_is_refused_without_quoting_it(settings: Settings, url: str) -> None:
    with pytest.raises(Invalid, match="TRUNKLINE_DATABASE_URL") as caught:
        await open_database(Settings(data_dir=settings.data_dir, database_url=url))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
async def test_an_unreachable_server_is_named_without_its_password(settings: Settings, scheme: str) -> None:
    url = f"{scheme}://sesame:sesame@127.0.0.1:1/sesame"
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 .*nothing answers") as caught:
        await open_database(Settings(data_dir=settings.data_dir, database_url=url))
    assert "sesame" not in str(caught.value)


@only_postgresql
@pytest.mark.parametrize("part", ["database", "user"])
async def test_a_wrong_name_is_told_apart(database_settings: Settings, part: str) -> None:
    url = sa.make_url(database_settings.database_url)
    wrong = url.set(database="nowhere") if part == "database" else url.set(username="nobody_here")
    text = wrong.render_as_string(hide_password=False)
    with pytest.raises(Unavailable, match=f"no such {part}"):
        await open_database(Settings(data_dir=database_settings.data_dir, database_url=text))
