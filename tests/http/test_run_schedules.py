"""Datasets that are synced by schedule: each turn once, whatever happened meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from http_asgi import Client
from run_stories import Shop, Synced, order, settle, synced, write_connectors
from trunkline.clock import ManualClock
from trunkline.http.server import open_app
from trunkline.services import datasets, sync, timetable
from trunkline.services.datasets import Change
from trunkline.settings import Settings


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


@pytest.fixture
async def orders(alice: Client, upstream: Callable[[Any], Awaitable[str]], clock: ManualClock) -> Synced:
    shop = Shop([order(number) for number in range(15)])
    shop.url = await upstream(shop.handle)
    schedule = {"every_seconds": 60}
    return await synced(
        alice, shop, schedule=schedule, next_run_at=timetable.next_after(schedule, clock.now())
    )


async def runs_of(orders: Synced) -> list[str]:
    page = await sync.progress.list_page(orders.ctx, orders.dataset.id, 100)
    return [f"{run.made_by} {run.state}" for run in page.items]


async def test_each_turn_makes_one_run(orders: Synced, clock: ManualClock):
    await settle(orders.app)
    assert await runs_of(orders) == []
    for turn in range(1, 4):
        clock.advance(60)
        await settle(orders.app)
        await settle(orders.app)
        assert await runs_of(orders) == ["schedule succeeded"] * turn
    assert (await orders.now()).next_run_at == datetime(2026, 1, 1, 0, 4, tzinfo=UTC)


async def test_turns_that_were_missed_are_one(orders: Synced, clock: ManualClock):
    clock.advance(86_400 + 7)
    await settle(orders.app)
    assert await runs_of(orders) == ["schedule succeeded"]
    assert (await orders.now()).next_run_at == datetime(2026, 1, 2, 0, 1, tzinfo=UTC)


async def test_a_turn_while_a_run_is_under_way_is_left_out(orders: Synced, clock: ManualClock):
    gate = orders.shop.held[1] = asyncio.Event()
    await orders.start()
    for _ in range(20):
        clock.advance(7)
        await sync.run_due(orders.app)
    assert len(await runs_of(orders)) == 1
    gate.set()
    await settle(orders.app)
    clock.advance(60)
    await settle(orders.app)
    assert await runs_of(orders) == ["schedule succeeded", "None succeeded"]


async def test_several_workers_begin_a_turn_once(orders: Synced, clock: ManualClock):
    async with open_app(orders.app.settings, clock) as other:
        clock.advance(60)
        await asyncio.gather(settle(orders.app), settle(other), settle(orders.app), settle(other))
    assert await runs_of(orders) == ["schedule succeeded"]


async def test_a_schedule_that_is_taken_away_ends(orders: Synced, clock: ManualClock):
    await datasets.update(orders.ctx, orders.dataset.id, Change(schedule={}))
    clock.advance(86_400)
    await settle(orders.app)
    assert await runs_of(orders) == []


async def test_a_turn_whose_integration_is_gone_is_told_and_the_next_is_tried(
    orders: Synced, clock: ManualClock
):
    path = f"/v1/{{ws}}/integrations/{orders.integration['id']}"
    assert (await orders.alice.send("DELETE", path)).status == 204
    for _ in range(2):
        clock.advance(60)
        await settle(orders.app)
    assert await runs_of(orders) == ["schedule failed"] * 2
    assert (await orders.now()).last_error == "The integration of this dataset is gone."


async def test_cron_lines_work_too(orders: Synced, clock: ManualClock):
    schedule = timetable.check({"cron": "30 9 * * *", "timezone": "Europe/Vienna"})
    following = timetable.next_after(schedule, clock.now())
    await datasets.update(orders.ctx, orders.dataset.id, Change(schedule=schedule, next_run_at=following))
    clock.advance((following - clock.now()).total_seconds())
    await settle(orders.app)
    assert await runs_of(orders) == ["schedule succeeded"]
    assert (await orders.now()).next_run_at == following + timedelta(days=1)


async def test_one_workspace_with_many_syncs_leaves_room_for_another(
    orders: Synced, charlie: Client, clock: ManualClock
):
    shop = orders.shop
    shop.held = {number: asyncio.Event() for number in range(1, 50)}
    ctx = orders.ctx
    many = [
        await datasets.create(ctx, datasets.Draft(f"d{number}", orders.integration["id"], "items"))
        for number in range(sync.PER_WORKSPACE + 2)
    ]
    for each in many:
        await sync.start(ctx, each.id)
    quiet = Shop([order(1)], url=shop.url)
    theirs = await synced(charlie, quiet, "items")
    run = await theirs.start()
    await sync.run_due(orders.app)
    assert len(orders.app.crew.working) == sync.PER_WORKSPACE + 1
    assert run.id in orders.app.crew.working
    for gate in shop.held.values():
        gate.set()
    await settle(orders.app)
    assert (await theirs.found(run)).state == "succeeded"
