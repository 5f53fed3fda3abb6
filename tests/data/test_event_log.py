"""The event log on both databases: numbers nobody can miss, patterns, pages, and what is forgotten when."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import App, Caller, Context
from trunkline.db import Database, open_database
from trunkline.http.server import open_app
from trunkline.ids import new_id
from trunkline.services import events, retention
from trunkline.services.events import Filter, NewEvent
from trunkline.settings import Settings
from trunkline.tables import deliveries, delivery_attempts, event_readers, inbox
from trunkline.tables import events as table

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WS, OTHER = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


def new(kind: str = "acme.x", **more: Any) -> NewEvent:
    return NewEvent(**({"type": kind, "time": NOW, "data": {}} | more))


async def append(db: Database, *found: NewEvent, workspace: str = WS, now: datetime = NOW) -> int:
    return await db.write(partial(events.append, workspace_id=workspace, new=found, now=now))


async def numbers(db: Database, workspace: str = WS) -> list[int]:
    found = await db.read(partial(events.read_after, workspace_id=workspace, sequence=0, limit=10_000))
    return [event.sequence for event in found]


async def test_every_workspace_counts_for_itself(database: Database):
    assert await append(database, new(), new()) == 2
    assert await append(database, new(), workspace=OTHER) == 1
    last = await database.write(partial(events.append_all, new={OTHER: [new()], WS: [new(), new()]}, now=NOW))
    assert last == {WS: 4, OTHER: 2}
    assert (await numbers(database), await numbers(database, OTHER)) == ([1, 2, 3, 4], [1, 2])


async def test_an_event_without_data_has_empty_data(database: Database):
    await append(database, new(data=None))
    (event,) = await database.read(partial(events.read_after, workspace_id=WS, sequence=0, limit=9))
    assert event.data == {}


async def test_what_fails_takes_no_number(database: Database):
    twice = new(id=new_id())
    await append(database, twice)
    with pytest.raises(Exception, match="exists already"):
        await append(database, twice)
    await append(database, new())
    assert await numbers(database) == [1, 2]


async def test_no_reader_misses_an_event_however_many_write(database: Database, database_settings: Settings):
    other = await open_database(database_settings)  # another process's
    writers, rounds = 8, 12
    done = asyncio.Event()

    async def write(db: Database, number: int) -> None:
        for _ in range(rounds):
            await append(db, *[new() for _ in range(1 + number % 3)])

    async def follow() -> list[int]:
        seen: list[int] = []
        while True:
            is_last_look = done.is_set()
            after = seen[-1] if seen else 0
            found = await database.read(partial(events.read_after, workspace_id=WS, sequence=after, limit=7))
            seen += [event.sequence for event in found]
            if is_last_look and not found:
                return seen

    readers = [asyncio.create_task(follow()) for _ in range(3)]
    await asyncio.gather(*(write((database, other)[number % 2], number) for number in range(writers)))
    done.set()
    total = sum((1 + number % 3) * rounds for number in range(writers))
    assert await asyncio.gather(*readers) == [list(range(1, total + 1))] * 3
    await other.close()


TYPES = ["acme.a", "acme.a.b", "ACME.a", "acme_a", "acme%a", "acme?a", "acme[a", "acme\\a", "other"]


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("*", TYPES),
        ("acme.a", ["acme.a"]),
        ("acme.*", ["acme.a", "acme.a.b"]),
        ("acme.**b", ["acme.a.b"]),
        ("*a", [kind for kind in TYPES if kind.endswith("a")]),
        ("acme_*", ["acme_a"]),
        ("acme%*", ["acme%a"]),
        ("acme?*", ["acme?a"]),
        ("acme[*", ["acme[a"]),
        ("acme\\*", ["acme\\a"]),
        ("Acme*", []),
        ("*" * 100 + "x", []),
    ],
)
async def test_a_pattern_has_one_wildcard_and_minds_case(
    database: Database, pattern: str, fitting: list[str]
):
    await append(database, *[new(kind) for kind in TYPES])
    fits = events.type_fits(pattern, database.dialect)
    found = await database.read(lambda conn: list(conn.scalars(sa.select(table.c.type).where(fits))))
    assert sorted(found) == sorted(fitting)


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(replace(database_settings, event_retention_days=10), clock) as opened:
        yield opened


def context(app: App) -> Context:
    caller = Caller(WS, new_id(), "ak_1", None, None, "owner", (), frozenset({"*"}), None)
    return Context(app, caller, "req_1")


async def listed(app: App, limit: int = 100, before: int | None = None, **wanted: Any) -> list[int]:
    page = await events.list_page(context(app), Filter(**wanted), limit, before)
    return [event.sequence for event in page.items]


async def test_a_page_ends_where_the_next_begins(app: App):
    await append(app.db, *[new() for _ in range(5)])
    first = await events.list_page(context(app), Filter(), 2)
    second = await events.list_page(context(app), Filter(), 2, first.before)
    third = await events.list_page(context(app), Filter(), 2, second.before)
    pages = [[event.sequence for event in page.items] for page in (first, second, third)]
    assert (pages, third.before) == ([[5, 4], [3, 2], [1]], None)
    assert await listed(app, before=1) == []


async def test_large_events_end_a_page_early(app: App):
    await append(app.db, *[new(data="x" * 3_000_000) for _ in range(4)])
    page = await events.list_page(context(app), Filter(), 100)
    assert ([event.sequence for event in page.items], page.before) == ([4, 3], 3)


async def test_a_time_is_found_in_the_log(app: App):
    for minute in range(0, 60, 10):
        await append(app.db, new(), now=NOW + timedelta(minutes=minute))
    assert await listed(app, since=NOW + timedelta(minutes=30)) == [6, 5, 4]
    assert await listed(app, until=NOW + timedelta(minutes=30)) == [3, 2, 1]
    assert await listed(app, since=NOW + timedelta(minutes=5), until=NOW + timedelta(minutes=25)) == [3, 2]
    assert await listed(app, since=NOW + timedelta(days=900)) == []
    far = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert len(await listed(app, since=far[0], until=far[1])) == 6


async def test_a_long_search_ends_and_tells_where_to_go_on(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "_WINDOW", 3)
    monkeypatch.setattr(events, "_WINDOWS", 2)
    await append(app.db, new(project="rare"), *[new() for _ in range(10)])
    wanted, tokens = Filter(project="rare"), [None]
    while True:
        page = await events.list_page(context(app), wanted, 5, tokens[-1])
        if page.before is None:
            break
        assert page.items == []
        tokens.append(page.before)
    assert (tokens, [event.sequence for event in page.items]) == ([None, 6], [1])


async def _routed(app: App, sequence: int) -> None:
    row = {"reader": "routing", "workspace_id": WS, "sequence": sequence}
    await app.db.write(lambda conn: conn.execute(sa.insert(event_readers), row).rowcount)


async def test_events_are_forgotten_when_they_are_old(app: App, clock: ManualClock):
    await append(app.db, new(), new())
    await append(app.db, new(), now=NOW + timedelta(days=5))
    await _routed(app, 3)
    clock.advance(11 * 86400)
    await retention.prune_due(app)
    assert await numbers(app.db) == [3]
    assert await append(app.db, new()) == 4


async def test_a_large_backlog_is_forgotten_in_batches(app: App, clock: ManualClock):
    await append(app.db, *[new() for _ in range(1201)])
    await _routed(app, 1201)
    clock.advance(11 * 86400)
    await retention.prune_due(app)
    assert await numbers(app.db) == []
    assert len(clock.slept) == 2


async def test_what_no_route_was_looked_up_for_is_kept(app: App, clock: ManualClock):
    await append(app.db, new(), new(), new())
    clock.advance(11 * 86400)
    await retention.prune_due(app)
    assert await numbers(app.db) == [1, 2, 3]
    await _routed(app, 1)
    await retention.prune_due(app)
    assert await numbers(app.db) == [2, 3]


def _delivery(event_id: str, sequence: int, state: str) -> dict[str, Any]:
    times = dict.fromkeys(("due_at", "created_at", "queued_at"), NOW)
    counts = {"attempts": 0, "failures": 0}
    ids = {"id": new_id(), "workspace_id": WS, "route_id": new_id(), "destination_id": "d"}
    return ids | times | counts | {"event_id": event_id, "event_sequence": sequence, "state": state}


async def test_what_is_still_to_be_delivered_is_kept(app: App, clock: ManualClock):
    second = new()
    await append(app.db, new(), second, new())
    await _routed(app, 3)
    waiting, done = _delivery(second.id, 2, "pending"), _delivery(second.id, 2, "delivered")
    attempt = {"delivery_id": done["id"], "number": 1, "workspace_id": WS, "started_at": NOW}

    def write(conn: sa.Connection) -> None:
        conn.execute(sa.insert(deliveries), [waiting, done])
        conn.execute(sa.insert(delivery_attempts), attempt)

    await app.db.write(write)
    clock.advance(11 * 86400)
    await retention.prune_due(app)
    assert await numbers(app.db) == [2, 3]
    left = await app.db.read(lambda conn: list(conn.scalars(sa.select(deliveries.c.id))))
    attempts = await app.db.read(lambda conn: list(conn.scalars(sa.select(delivery_attempts.c.number))))
    assert (left, attempts) == ([waiting["id"]], [])


async def test_requests_are_forgotten_once_they_were_read(app: App, clock: ManualClock):
    given = {"workspace_id": WS, "integration_id": "i", "headers": {}, "body": b"", "received_at": NOW}
    rows = [given | {"id": new_id(), "read_at": NOW}, given | {"id": new_id(), "read_at": None}]
    await app.db.write(lambda conn: conn.execute(sa.insert(inbox), rows).rowcount)
    clock.advance(11 * 86400)
    await retention.prune_due(app)
    assert await app.db.read(lambda conn: list(conn.scalars(sa.select(inbox.c.id)))) == [rows[1]["id"]]


async def test_nothing_is_forgotten_at_a_stop(app: App, clock: ManualClock):
    await append(app.db, new())
    await _routed(app, 1)
    clock.advance(11 * 86400)
    app.stopping = True
    await retention.prune_due(app)
    assert await numbers(app.db) == [1]
