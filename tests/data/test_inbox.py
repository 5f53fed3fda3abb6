"""The inbox on both databases: fair turns, read once, repeats, what is deleted, and how busy it is."""

import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import Bells
from trunkline.db import Database
from trunkline.services import inbox
from trunkline.tables import inbox as table

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKSPACE = "00000000-0000-4000-8000-00000000000a"
QUIET, LOUD, OTHER = (f"00000000-0000-4000-8000-00000000000{n}" for n in (2, 1, 3))


@pytest.fixture
def app(database: Database, clock: ManualClock):
    return SimpleNamespace(db=database, clock=clock, intake=None, bells=Bells())


def _source(integration_id: str):
    return SimpleNamespace(workspace_id=WORKSPACE, integration_id=integration_id)


async def _receive(app, *integration_ids: str) -> list[str]:
    numbers = itertools.count()
    return [
        await inbox.receive(app, _source(each), {"x-n": str(next(numbers))}, b"\x00\xff")
        for each in integration_ids
    ]


async def _waiting(app, limit: int) -> list[inbox.Row]:
    return await app.db.read(lambda conn: inbox.waiting(conn, limit))


async def _mark(app, ids) -> set[str]:
    return await app.db.write(lambda conn: inbox.mark_read(conn, ids, NOW))


async def test_a_storm_of_one_integration_leaves_turns_to_the_others(app):
    await _receive(app, *[LOUD] * 30, QUIET, OTHER, QUIET)
    turn = [row.integration_id for row in await _waiting(app, 12)]
    assert {each: turn.count(each) for each in (LOUD, QUIET, OTHER)} == {LOUD: 4, QUIET: 2, OTHER: 1}
    first = await _waiting(app, 1)
    assert [row.integration_id for row in first] == [LOUD]  # who has waited longest


async def test_more_integrations_than_turns_are_served_by_their_patience(app):
    many = [f"00000000-0000-4000-8000-0000000001{n:02d}" for n in range(20)]
    await _receive(app, *reversed(many))
    served: list[str] = []
    for _ in range(5):
        turn = await _waiting(app, 4)
        assert len(turn) == 4
        served += [row.integration_id for row in turn]
        await _mark(app, [row.id for row in turn])
    assert served == list(reversed(many))


async def test_large_requests_are_taken_a_few_at_a_time(app):
    for each in (LOUD, LOUD, QUIET, OTHER):
        await inbox.receive(app, _source(each), {}, b"x" * 3_000)
    await inbox.receive(app, _source(LOUD), {}, b"x" * 20_000)
    taken = []
    while rows := await app.db.read(lambda conn: inbox.waiting(conn, 100, most_bytes=6_000)):
        taken.append([row.integration_id for row in rows])
        await _mark(app, [row.id for row in rows])
    assert taken == [[LOUD, QUIET], [LOUD, OTHER], [LOUD]]


async def test_nothing_waits_in_an_empty_inbox(app):
    assert await _waiting(app, 10) == []


async def test_a_request_is_read_by_one_worker_alone(app):
    ids = await _receive(app, LOUD, LOUD, LOUD)
    assert await _mark(app, ids[:2]) == set(ids[:2])
    assert await _mark(app, ids) == {ids[2]}
    assert await _mark(app, []) == set()
    assert await _waiting(app, 10) == []


async def test_a_stored_request_comes_back_as_it_came(app):
    [inbox_id] = await _receive(app, LOUD)
    row = await app.db.read(lambda conn: inbox.body_of(conn, WORKSPACE, inbox_id))
    assert row == inbox.Row(inbox_id, WORKSPACE, LOUD, {"x-n": "0"}, b"\x00\xff", app.clock.now())
    assert [row] == await _waiting(app, 5)
    assert await app.db.read(lambda conn: inbox.body_of(conn, LOUD, inbox_id)) is None


async def test_only_old_requests_that_were_read_are_deleted(app, clock: ManualClock):
    ids = await _receive(app, LOUD, LOUD, LOUD)
    clock.advance(10)
    late = await _receive(app, LOUD)
    await _mark(app, ids[:2] + late)
    before = NOW + timedelta(seconds=5)
    for deleted in (1, 1, 0):
        assert await app.db.write(lambda conn: inbox.prune(conn, before, limit=1)) == deleted
    left = await app.db.read(lambda conn: conn.scalars(sa.select(table.c.id)).all())
    assert set(left) == {ids[2], *late}


async def test_a_repeat_adds_nothing_as_long_as_the_first_is_kept(app, clock: ManualClock):
    first = await inbox.receive(app, _source(LOUD), {}, b"1", "delivery-1")
    clock.advance(3600)
    await _mark(app, [first])
    assert await inbox.receive(app, _source(LOUD), {}, b"1", "delivery-1") == first
    assert await _waiting(app, 5) == []
    assert await inbox.receive(app, _source(LOUD), {}, b"1", "delivery-\ud800") != first
    assert await inbox.receive(app, _source(QUIET), {}, b"1", "delivery-1") != first


async def test_new_requests_ring_the_bell(app):
    before = app.bells.inbox.rung
    await _receive(app, LOUD)
    assert app.bells.inbox.rung > before


async def test_readers_rest_in_a_burst_and_never_stop(app, clock: ManualClock, monkeypatch):
    assert (inbox.rest_seconds(app, 0.01), inbox.turn(app, 800)) == (0.0, 800)
    clock.advance(1)
    await _receive(app, *[LOUD] * 150)
    assert (inbox.pressure(app), inbox.turn(app, 800), inbox.turn(app, 10)) == (150, 50, 10)
    assert inbox.rest_seconds(app, 0.01) == pytest.approx(0.005)
    assert inbox.rest_seconds(app, 60.0) == 1.0
    clock.advance(1)
    assert inbox.pressure(app) == 150
    monkeypatch.setattr(inbox, "pressure", lambda _app: 1_000_000)
    assert inbox.rest_seconds(app, 0.01) == pytest.approx(0.09)
    monkeypatch.undo()
    clock.advance(1)
    assert (inbox.pressure(app), inbox.rest_seconds(app, 1.0)) == (0, 0.0)


async def test_looking_for_what_waits_touches_no_more_than_that(app):
    """A million read requests must cost a look nothing: the plan names the index of unread ones and no scan."""
    if app.db.dialect != "sqlite":
        pytest.skip("PostgreSQL plans by statistics; the index is the same")

    def plan(conn: sa.Connection) -> list[str]:
        text = f"EXPLAIN QUERY PLAN {inbox._SOURCES.text.replace(':limit', '10')}"
        return [row[3] for row in conn.exec_driver_sql(text)]

    steps = await app.db.read(plan)
    touched = [step for step in steps if "inbox" in step]
    assert len(touched) == 3
    assert all("ix_inbox_waiting" in step for step in touched)
