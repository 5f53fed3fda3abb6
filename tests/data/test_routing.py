"""Reading on from the event log: every event once, for the routes there were, whatever the workers do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import App, Context
from trunkline.errors import Unavailable
from trunkline.http.server import open_app
from trunkline.services import api_keys, deliveries, events, routes, routing
from trunkline.services.events import NewEvent
from trunkline.services.routes import Change, Draft, Route
from trunkline.services.targets import Notify, SignedWebhook
from trunkline.settings import Settings
from trunkline.tables import deliveries as delivery_table
from trunkline.tables import event_readers
from trunkline.tables import routes as route_table

HOOK = SignedWebhook("https://hooks.example/a")


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(database_settings, clock) as opened:
        yield opened


@pytest.fixture
async def other(app: App, database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    """Another worker on the same database."""
    async with open_app(database_settings, clock) as opened:
        yield opened


async def workspace(app: App) -> Context:
    made = await api_keys.create_workspace(app, "Alice's")
    return Context(app, await api_keys.authenticate(app, made["api_key"]), "req")


@pytest.fixture
async def alice(app: App) -> Context:
    return await workspace(app)


Happen = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def happen(app: App, alice: Context) -> Happen:
    """Append events of these types and return their ids."""

    async def append(*types: str, ctx: Context = alice, **fields: Any) -> list[str]:
        now = app.clock.now()
        new = [NewEvent(type=name, time=now, **({"data": {}} | fields)) for name in types]
        await app.db.write(lambda conn: events.append(conn, ctx.workspace_id, new, now))
        return [event.id for event in new]

    return append


async def a_route(ctx: Context, event_type: str = "*", **fields: Any) -> Route:
    draft = Draft(event_type=event_type, **({"target": HOOK} | fields))
    return (await routes.create(ctx, draft)).route


async def route_all(*apps: App) -> int:
    """Run the job until nothing is left; tell how often it ran."""
    for turn in range(1, 1000):
        if not any(await asyncio.gather(*(routing.route_due(app) for app in apps))):
            return turn
    raise AssertionError


async def planned(app: App) -> list[tuple[str, str]]:
    query = sa.select(delivery_table.c.route_id, delivery_table.c.event_id).order_by(
        delivery_table.c.event_sequence
    )
    return [tuple(row) for row in await app.db.read(lambda conn: conn.execute(query).all())]


async def reader(app: App, ctx: Context) -> int | None:
    query = sa.select(event_readers.c.sequence).where(event_readers.c.workspace_id == ctx.workspace_id)
    return await app.db.read(lambda conn: conn.scalar(query))


async def test_an_event_goes_to_every_route_that_matches(app: App, alice: Context, happen: Happen):
    wanted = [await a_route(alice, pattern) for pattern in ("alert.*", "*", "alert.raised")]
    await a_route(alice, "deploy.*")
    await a_route(alice, "alert.*", enabled=False)
    (event,) = await happen("alert.raised")
    await route_all(app)
    assert sorted(await planned(app)) == sorted((route.id, event) for route in wanted)


async def test_routes_of_another_workspace_see_nothing(app: App, alice: Context, happen: Happen):
    charlie = await workspace(app)
    await a_route(charlie)
    mine = await a_route(alice)
    (event,) = await happen("alert.raised")
    await route_all(app)
    assert await planned(app) == [(mine.id, event)]


async def test_a_delivery_says_which_event_and_where(app: App, alice: Context, happen: Happen):
    route = await a_route(alice)
    await happen("a", "b")
    await route_all(app)
    rows = await app.db.read(
        lambda conn: (
            conn.execute(sa.select(delivery_table).order_by(delivery_table.c.event_sequence)).mappings().all()
        )
    )
    assert [(row["event_sequence"], row["state"]) for row in rows] == [(1, "pending"), (2, "pending")]
    assert {row["destination_id"] for row in rows} == {route.destination_id}
    assert {row["workspace_id"] for row in rows} == {alice.workspace_id}


async def test_a_route_through_a_service_hears_of_it_only_by_name(app: App, alice: Context, happen: Happen):
    chat = Notify(connector="slack", channel="C0PAGER")
    await a_route(alice, "*", target=chat)
    await a_route(alice, "slack.*", target=chat)
    named = await a_route(alice, "slack.app_mention", target=chat)
    elsewhere = await a_route(alice, "slack.*")
    message, mention = await happen("slack.message", "slack.app_mention")
    await route_all(app)
    assert sorted(await planned(app)) == sorted(
        [(named.id, mention), (elsewhere.id, message), (elsewhere.id, mention)]
    )


async def test_a_route_does_not_see_what_was_before_it(app: App, alice: Context, happen: Happen):
    await happen("early")
    route = await a_route(alice)
    (late,) = await happen("late")
    await route_all(app)
    assert await planned(app) == [(route.id, late)]


@pytest.mark.parametrize("change", [Change(enabled=True), Change(event_type="*"), Change(conditions=[])])
async def test_a_route_that_looks_anew_does_not_see_what_was_before(
    app: App, alice: Context, happen: Happen, change: Change
):
    condition = {"path": "data.x", "operator": "equals", "value": 1}
    route = await a_route(alice, "no*", enabled=change.enabled is None, conditions=[condition])
    await happen("nothing", data={"x": 2})
    await routes.update(alice, route.id, change)
    if change.conditions is None:
        await routes.update(alice, route.id, Change(conditions=[]))
    (late,) = await happen("nothing.new")
    await route_all(app)
    assert await planned(app) == [(route.id, late)]


async def test_another_name_or_target_loses_nothing_that_waits(app: App, alice: Context, happen: Happen):
    route = await a_route(alice)
    (event,) = await happen("a")
    changed = await routes.update(
        alice, route.id, Change(name="Other", target=SignedWebhook("https://hooks.example/b"))
    )
    await route_all(app)
    assert await planned(app) == [(route.id, event)]
    query = sa.select(delivery_table.c.destination_id)
    assert await app.db.read(lambda conn: conn.scalar(query)) == changed.route.destination_id


async def test_conditions_look_into_the_event(app: App, alice: Context, happen: Happen):
    condition = {"path": "data.issue.level", "operator": "equals", "value": "fatal"}
    route = await a_route(alice, conditions=[condition])
    await happen("a", data={"issue": {"level": "error"}})
    (event,) = await happen("a", data={"issue": {"level": "fatal"}})
    await happen("a", data=["no object"])
    await route_all(app)
    assert await planned(app) == [(route.id, event)]


async def test_conditions_see_an_event_as_the_wire_shows_it(app: App, alice: Context, happen: Happen):
    conditions = [
        {"path": "time", "operator": "starts_with", "value": "2026-01-01T"},
        {"path": "dedupkey", "operator": "equals", "value": "k"},
        {"path": "subject", "operator": "exists", "value": False},
    ]
    route = await a_route(alice, conditions=conditions)
    (event,) = await happen("a", dedup_key="k")
    await route_all(app)
    assert await planned(app) == [(route.id, event)]


async def test_more_than_one_batch_is_left_for_the_next_turn(app: App, alice: Context, happen: Happen):
    route = await a_route(alice)
    ids = await happen(*["a"] * (routing.BATCH * 2 + 1))
    assert await routing.route_due(app) is True
    assert await reader(app, alice) == routing.BATCH
    assert await route_all(app) == 2
    assert await planned(app) == [(route.id, event) for event in ids]
    assert await routing.route_due(app) is False


async def test_a_batch_that_plans_much_ends_early(
    app: App, alice: Context, happen: Happen, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routing, "MOST_PLANNED", 4)
    for _ in range(3):
        await a_route(alice)
    await happen(*"abcde")
    assert await routing.route_due(app) is True
    assert await reader(app, alice) == 2
    await route_all(app)
    assert len(await planned(app)) == 15


async def test_two_workers_route_each_event_once(app: App, other: App, alice: Context, happen: Happen):
    route = await a_route(alice)
    charlie = await workspace(app)
    theirs = await a_route(charlie)
    ids = await happen(*["a"] * 1200)
    foreign = await happen(*["a"] * 700, ctx=charlie)
    await route_all(app, other, app, other)
    found = await planned(app)
    assert sorted(found) == sorted([(route.id, it) for it in ids] + [(theirs.id, it) for it in foreign])
    assert (await reader(app, alice), await reader(app, charlie)) == (1200, 700)


async def test_the_slower_of_two_workers_plans_nothing(app: App, alice: Context, happen: Happen):
    route = await a_route(alice)
    (event,) = await happen("a")
    step = routing._Step(alice.workspace_id, 0, 1)
    item = deliveries.Planned(event, 1, route.id, route.destination_id)
    now = app.clock.now()
    outcomes = [await app.db.write(lambda conn: routing._plan(conn, step, [item], now)) for _ in range(2)]
    assert outcomes == [True, False]
    assert len(await planned(app)) == 1


async def test_a_route_that_went_meanwhile_gets_nothing(app: App, alice: Context, happen: Happen):
    route, kept = await a_route(alice), await a_route(alice)
    (event,) = await happen("a")
    await routes.delete(alice, route.id)
    items = [deliveries.Planned(event, 1, it.id, it.destination_id) for it in (route, kept)]
    step = routing._Step(alice.workspace_id, 0, 1)
    await app.db.write(lambda conn: routing._plan(conn, step, items, app.clock.now()))
    assert await planned(app) == [(kept.id, event)]


async def test_what_fails_is_routed_again(
    app: App, alice: Context, happen: Happen, monkeypatch: pytest.MonkeyPatch
):
    route = await a_route(alice)
    (event,) = await happen("a")

    def fail(*_: Any) -> None:
        raise Unavailable("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(deliveries, "plan", fail)
        with pytest.raises(Unavailable):
            await routing.route_due(app)
    assert await reader(app, alice) is None
    await route_all(app)
    assert await planned(app) == [(route.id, event)]


async def test_a_route_made_by_another_worker_counts_at_once(
    app: App, other: App, alice: Context, happen: Happen
):
    await a_route(alice, "warm.*")
    await happen("warm.up")
    await route_all(other)
    elsewhere = replace(alice, app=other)
    made = await a_route(alice, "new")
    (event,) = await happen("new")
    await route_all(other)
    assert (made.id, event) in await planned(app)
    await routes.update(elsewhere, made.id, Change(event_type="newer"))
    await happen("new")
    await route_all(app)
    assert len(await planned(app)) == 2


async def test_a_workspace_without_routes_is_read_on_all_the_same(app: App, alice: Context, happen: Happen):
    await happen("a", "b")
    assert await route_all(app) == 1
    assert await reader(app, alice) == 2


async def test_the_bell_of_deliveries_rings(app: App, alice: Context, happen: Happen):
    await a_route(alice, "a")
    await happen("b")
    await route_all(app)
    rung = app.bells.deliveries.rung
    await happen("a")
    await route_all(app)
    assert app.bells.deliveries.rung == rung + 1


async def test_one_route_that_makes_no_sense_any_more_stops_no_other(
    app: App, alice: Context, happen: Happen
):
    odd, fine = await a_route(alice), await a_route(alice)
    nonsense = [{"path": "a..b", "operator": "equals", "value": 1}]
    change = sa.update(route_table).where(route_table.c.id == odd.id).values(conditions=nonsense)
    await app.db.write(lambda conn: conn.execute(change).rowcount)
    (event,) = await happen("a")
    await route_all(app)
    assert await planned(app) == [(fine.id, event)]


async def test_deleting_a_route_cancels_what_waits(app: App, alice: Context, happen: Happen):
    route, kept = await a_route(alice), await a_route(alice)
    await happen("a", "b")
    await route_all(app)
    await routes.delete(alice, route.id)
    query = sa.select(delivery_table.c.route_id, delivery_table.c.state).distinct()
    rows = await app.db.read(lambda conn: conn.execute(query).all())
    assert {tuple(row) for row in rows} == {(route.id, "cancelled"), (kept.id, "pending")}


async def test_one_can_ask_where_an_event_would_go(app: App, alice: Context):
    route = await a_route(alice, "a.*", project_id="p")
    event = NewEvent(type="a.b", time=app.clock.now(), data={}, project="p")
    assert await routing.matching(app, alice.workspace_id, event) == [route]
    assert await routing.matching(app, alice.workspace_id, replace(event, project=None)) == []
    await routes.delete(alice, route.id)
    assert await routing.matching(app, alice.workspace_id, event) == []
