"""Runs whose worker dies, hangs or stops: another goes on at the place, and nothing is lost or there twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from http_asgi import Client
from run_stories import Shop, order, reached, settle, synced, write_connectors
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.http.server import open_app
from trunkline.services import index, sync
from trunkline.services.driving import MOST_ATTEMPTS
from trunkline.services.progress import Run
from trunkline.settings import Settings

ROWS = [order(number) for number in range(35)]
NOTES = {row["id"]: [{"id": f"{row['id']}-{n}"} for n in range(index % 8)] for index, row in enumerate(ROWS)}


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


@pytest.fixture
async def shop(upstream: Callable[[Any], Awaitable[str]]) -> Shop:
    made = Shop(list(ROWS), dict(NOTES))
    made.url = await upstream(made.handle)
    return made


@pytest.fixture
async def other(app: App, clock: ManualClock) -> AsyncIterator[App]:
    """Another worker on the same database."""
    async with open_app(app.settings, clock) as opened:
        yield opened


async def die(app: App) -> None:
    """Stop working without a word, as after kill -9: whatever is not committed is gone."""
    tasks = [each.task for each in app.crew.working.values()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    app.crew.working.clear()


def everything(stream: str) -> list[str]:
    found = [note["id"] for notes in NOTES.values() for note in notes] if stream == "notes" else []
    return sorted(found or [row["id"] for row in ROWS])


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stream", ["orders", "items", "notes"])
async def test_a_run_whose_worker_dies_goes_on_at_its_place(
    alice: Client, shop: Shop, other: App, clock: ManualClock, *, stream: str, at: int
):
    dataset = await synced(alice, shop, stream)
    shop.held[at] = asyncio.Event()
    run = await dataset.start()
    await reached(dataset, run, at)
    await die(dataset.app)
    before = await dataset.found(run)
    shop.asked.clear()
    shop.held.clear()
    assert await sync.run_due(other) is False
    assert not other.crew.working
    clock.advance(16)
    await settle(other)
    ended = await dataset.found(run)
    assert (ended.state, ended.error) == ("succeeded", None)
    assert await dataset.keys() == everything(stream)
    assert ended.added == len(everything(stream))
    assert await dataset.versions() == [(1, "active")]
    if before.pages > 0 and stream == "orders":
        assert not any("since=2020" in path for path in shop.asked)
    if before.pages > 0 and stream == "items":
        assert f"page={before.pages + 1}" in shop.asked[0]


async def test_a_run_that_dies_again_and_again_still_ends(
    alice: Client, shop: Shop, clock: ManualClock, other: App
):
    dataset = await synced(alice, shop, "notes")
    run = await dataset.start()
    apps = [dataset.app, other]
    for number in range(200):
        app = apps[number % 2]
        clock.advance(16)
        before = (await dataset.found(run)).pages
        await sync.run_due(app)
        while app.crew.working and (await dataset.found(run)).pages == before and not ended(app):
            await app.bells.progress.wait(0.005)
        if (await dataset.found(run)).state != "running":
            break
        if app.crew.working and (await dataset.found(run)).pages != before:
            await die(app)
        await index.fill_due(app)
    await settle(dataset.app)
    assert (await dataset.found(run)).state == "succeeded"
    assert await dataset.keys() == everything("notes")


def ended(app: App) -> bool:
    return all(each.task.done() for each in app.crew.working.values())


async def test_a_worker_that_hangs_loses_its_run_and_writes_nothing_more(
    alice: Client, shop: Shop, other: App, clock: ManualClock
):
    dataset = await synced(alice, shop)
    gate = shop.held[3] = asyncio.Event()
    run = await dataset.start()
    await reached(dataset, run, 3)
    clock.advance(16)
    await settle(other)
    done = await dataset.found(run)
    assert done.state == "succeeded"
    (working,) = dataset.app.crew.working.values()
    gate.set()
    await asyncio.wait([working.task])
    await settle(dataset.app)
    assert await dataset.found(run) == done
    assert await dataset.keys() == everything("orders")


async def test_a_worker_that_lives_keeps_its_run_however_long_the_service_takes(
    alice: Client, shop: Shop, other: App, clock: ManualClock
):
    dataset = await synced(alice, shop)
    gate = shop.held[3] = asyncio.Event()
    run = await dataset.start()
    await reached(dataset, run, 3)
    for _ in range(20):
        clock.advance(8)
        await sync.run_due(dataset.app)
        await sync.run_due(other)
        assert not other.crew.working
    gate.set()
    await settle(dataset.app)
    assert (await dataset.found(run)).state == "succeeded"


async def test_a_worker_that_stops_lets_go_at_once(alice: Client, shop: Shop, other: App):
    dataset = await synced(alice, shop)
    shop.held[3] = asyncio.Event()
    run = await dataset.start()
    await reached(dataset, run, 3)
    await sync.stop(dataset.app)
    assert (await dataset.found(run)).state == "running"
    shop.held.clear()
    await settle(other)
    assert (await dataset.found(run)).state == "succeeded"
    assert await dataset.keys() == everything("orders")


@pytest.mark.parametrize("phase", ["sweep", "undo"])
async def test_taking_out_and_taking_back_go_on_as_well(
    alice: Client, shop: Shop, other: App, clock: ManualClock, *, phase: str, monkeypatch: pytest.MonkeyPatch
):
    dataset = await synced(alice, shop, "items")
    await dataset.run()
    shop.rows = shop.rows[:30] if phase == "sweep" else [*shop.rows[:25], {"id": "new"}]
    if phase == "undo":
        shop.before[len(shop.asked) + 3] = lambda: web.Response(status=500)
    name = "open_keys" if phase == "sweep" else "take_back"
    monkeypatch.setattr(f"trunkline.services.history.{name}", _broken)
    run = await dataset.start("full")
    await sync.run_due(dataset.app)
    (working,) = dataset.app.crew.working.values()
    await asyncio.wait([working.task])
    assert (await dataset.found(run)).place["phase"] == phase
    dataset.app.crew.working.clear()
    monkeypatch.undo()
    clock.advance(16)
    await settle(other)
    found = await dataset.found(run)
    if phase == "sweep":
        assert (found.state, found.removed) == ("succeeded", 5)
        assert len(await dataset.keys()) == 30
    else:
        assert (found.state, found.version) == ("failed", 2)
        assert "HTTP 500" in (found.error or "")
        assert len(await dataset.keys()) == 35


def _broken(*_: Any, **__: Any) -> Any:
    raise KeyError("broken on purpose")


async def test_a_run_that_breaks_is_ended_and_frees_its_dataset(
    alice: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    dataset = await synced(alice, shop)
    monkeypatch.setattr("trunkline.services.versions.write_page", _broken)
    run = await dataset.run()
    assert (run.state, run.error) == ("failed", "Internal error; the log says more.")
    monkeypatch.undo()
    assert (await dataset.run()).state == "succeeded"


async def test_a_run_that_never_gets_further_is_given_up(alice: Client, shop: Shop, clock: ManualClock):
    dataset = await synced(alice, shop)
    shop.held = {number: asyncio.Event() for number in range(1, 50)}
    run = await dataset.start()
    for number in range(1, MOST_ATTEMPTS + 1):
        while len(shop.asked) < number:
            await sync.run_due(dataset.app)
            await asyncio.sleep(0.002)
        await die(dataset.app)
        clock.advance(16)
    await settle(dataset.app)
    found = await dataset.found(run)
    assert found.state == "failed"
    assert "never got any further" in (found.error or "")


async def test_two_workers_asked_at_once_begin_one_run(alice: Client, shop: Shop, other: App):
    dataset = await synced(alice, shop)
    elsewhere = replace(dataset, alice=replace(alice, hub=type(alice.hub)(other)))
    results = await asyncio.gather(
        *(each.start() for each in [dataset, elsewhere] * 5), return_exceptions=True
    )
    runs = [result for result in results if isinstance(result, Run)]
    assert len(runs) == 1
    assert {str(result) for result in results if not isinstance(result, Run)} == {sync.progress.BUSY}
    await asyncio.gather(settle(dataset.app), settle(other))
    assert (await dataset.found(runs[0])).attempts <= 1
    assert await dataset.keys() == everything("orders")


async def test_a_worker_that_hangs_before_it_begins_takes_nothing_from_the_next(
    alice: Client, shop: Shop, other: App, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    dataset = await synced(alice, shop)
    hangs, prepare = asyncio.Event(), sync.SOURCES["auto"]

    async def slow(app: App, run: Run) -> Any:
        source = await prepare(app, run)
        if app is dataset.app:
            await hangs.wait()
        return source

    monkeypatch.setitem(sync.SOURCES, "auto", slow)
    gate = shop.held[2] = asyncio.Event()
    run = await dataset.start()
    await sync.run_due(dataset.app)
    clock.advance(16)
    while (await dataset.found(run)).pages < 1:
        await sync.run_due(other)
        await other.bells.progress.wait(0.01)
    (working,) = dataset.app.crew.working.values()
    hangs.set()
    await asyncio.wait([working.task])
    await sync.run_due(dataset.app)
    gate.set()
    await settle(other)
    ended = await dataset.found(run)
    assert (ended.state, ended.error) == ("succeeded", None)
    assert await dataset.versions() == [(1, "active")]
    assert await dataset.keys() == everything("orders")
