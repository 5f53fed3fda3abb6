"""Runs over HTTP: begun, listed, watched by several and from another process, cancelled; who may."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from http_asgi import Client
from run_stories import Shop, Synced, order, reached, settle, synced, write_connectors
from trunkline.services import progress
from trunkline.settings import Settings


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


@pytest.fixture
async def orders(alice: Client, upstream: Callable[[Any], Awaitable[str]]) -> Synced:
    shop = Shop([order(number) for number in range(35)])
    shop.url = await upstream(shop.handle)
    return await synced(alice, shop)


async def events_of(orders: Synced, run_id: str, **headers: str) -> list[dict[str, Any]]:
    """Read a stream to its end."""
    found = []
    async with orders.alice.stream(f"{orders.path}/{run_id}/stream", **headers) as stream:
        assert stream.status == 200
        assert await stream.next() == {"retry": "2000"}
        while (event := await stream.next()) is not None:
            if "id" in event:
                found.append(event)
    return found


async def test_a_run_is_begun_shown_and_listed(orders: Synced):
    made = await orders.alice.post(orders.path, {})
    assert (made.status, made.json["state"], made.json["mode"]) == (201, "queued", "auto")
    await settle(orders.app)
    shown = (await orders.alice.get(f"{orders.path}/{made.json['id']}")).json
    assert (shown["state"], shown["mode"], shown["version"]) == ("succeeded", "full", 1)
    assert (shown["fetched"], shown["pages"], shown["added"]) == (35, 5, 35)
    listed = (await orders.alice.get(orders.path)).json
    assert (listed["items"], listed["total"], listed["has_more"]) == ([shown], 1, False)


async def test_a_second_start_is_a_conflict(orders: Synced):
    assert (await orders.alice.post(orders.path, {"mode": "full"})).status == 201
    again = await orders.alice.post(orders.path, {})
    assert again.status == 409
    assert again.json["detail"].startswith("A sync is already in progress")


@pytest.mark.parametrize("body", [{"mode": "auto"}, {"mode": "upload"}, {"more": 1}, {"mode": 5}, [], None])
async def test_bad_starts_are_refused(orders: Synced, body: Any):
    assert (await orders.alice.send("POST", orders.path, body, raw=orjson.dumps(body))).status == 422


async def test_a_stream_tells_each_page_and_one_end(orders: Synced):
    run = await orders.run()
    told = await events_of(orders, run.id)
    assert [event["event"] for event in told] == ["progress"] * 5 + ["complete"]
    assert [int(event["id"]) for event in told] == [1, 2, 3, 4, 5, 6]
    data = [orjson.loads(event["data"]) for event in told]
    assert [each["fetched"] for each in data] == [10, 19, 28, 35, 35, 35]
    assert {each.get("total") for each in data[:5]} == {35}
    assert (data[5]["state"], data[5]["added"], data[5]["version"]) == ("succeeded", 35, 1)


async def test_a_stream_that_broke_off_goes_on_where_it_was(orders: Synced):
    run = await orders.run()
    whole = await events_of(orders, run.id)
    assert await events_of(orders, run.id, last_event_id="3") == whole[3:]
    assert await events_of(orders, run.id, last_event_id="6") == []
    assert await events_of(orders, run.id, last_event_id="99") == []


async def test_several_watchers_see_the_same_as_it_happens(orders: Synced):
    run = await orders.start()
    path = f"{orders.path}/{run.id}/stream"
    async with orders.alice.stream(path) as one, orders.alice.stream(path) as other:
        await settle(orders.app)
        for stream in (one, other):
            assert [(await stream.next() or {}).get("id") for _ in range(7)] == [None, *"123456"]
            assert await stream.next() is None


async def test_a_watcher_that_leaves_ends_nothing(orders: Synced):
    run = await orders.start()
    async with orders.alice.stream(f"{orders.path}/{run.id}/stream") as stream:
        await stream.next()
    await settle(orders.app)
    assert (await orders.found(run)).state == "succeeded"


async def test_a_failed_run_ends_its_stream_with_one_error(orders: Synced):
    orders.shop.rows = [{"id": ["no text"]}]
    run = await orders.run()
    told = await events_of(orders, run.id)
    assert [event["event"] for event in told] == ["error"]
    assert "no text or number at id" in orjson.loads(told[0]["data"])["message"]


async def test_a_stream_that_hears_nothing_shows_that_it_is_alive(orders: Synced, clock: Any):
    run = await orders.start()
    async with orders.alice.stream(f"{orders.path}/{run.id}/stream") as stream:
        await stream.next()
        clock.advance(16)
        orders.app.bells.progress.ring()
        assert await stream.next() == {"": "keep-alive"}
        orders.app.stopping = True
        orders.app.bells.progress.ring()
        assert await stream.next() is None


async def test_a_queued_run_is_cancelled_at_once(orders: Synced):
    run = await orders.start()
    done = await orders.alice.post(f"{orders.path}/{run.id}/cancel")
    assert (done.status, done.json["state"], done.json["error"]) == (200, "cancelled", "Cancelled.")
    assert (await orders.run()).state == "succeeded"
    assert (await orders.alice.post(f"{orders.path}/{run.id}/cancel")).status == 409


@pytest.mark.parametrize("by", ["the next page", "the job"])
async def test_a_run_under_way_is_cancelled_within_a_page(orders: Synced, by: str):
    await orders.run()
    orders.shop.put(*[order(number, "2025-07-01 00:00:00") for number in range(35)])
    orders.shop.asked.clear()
    gate = orders.shop.held[3] = asyncio.Event()
    run = await orders.start()
    await reached(orders, run, 3)
    asked = await orders.alice.post(f"{orders.path}/{run.id}/cancel")
    assert (asked.json["cancel_asked"], asked.json["state"]) == (True, "running")
    if by == "the next page":
        gate.set()
        await orders.app.crew.working[run.id].task
    await settle(orders.app)
    gate.set()
    ended = await orders.found(run)
    assert (ended.state, ended.error) == ("cancelled", "Cancelled.")
    assert ended.pages == (3 if by == "the next page" else 2)
    assert (await orders.read())["o00003"]["at"] == "2025-06-01 00:03:00"
    assert await orders.versions() == [(2, "failed"), (1, "active")]
    assert (await orders.told(run))[-1][1] == "error"


async def test_viewers_watch_but_neither_start_nor_cancel(orders: Synced, bob: Client):
    run = await orders.start()
    assert (await bob.post(orders.path, {})).status == 403
    assert (await bob.post(f"{orders.path}/{run.id}/cancel")).status == 403
    assert (await bob.get(f"{orders.path}/{run.id}")).status == 200


async def test_a_run_is_found_below_its_own_dataset_only(orders: Synced):
    run = await orders.run()
    other = await synced(orders.alice, orders.shop, "items")
    for path in (f"{other.path}/{run.id}", f"{other.path}/{run.id}/stream"):
        assert (await orders.alice.get(path)).status == 404
    assert (await orders.alice.post(f"{other.path}/{run.id}/cancel")).status == 404


async def test_only_so_many_watch_at_once(orders: Synced, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "MAX_WATCHERS", 1)
    run = await orders.start()
    path = f"{orders.path}/{run.id}/stream"
    async with orders.alice.stream(path) as stream:
        await stream.next()
        assert (await orders.alice.get(path)).status == 429


async def test_what_old_runs_told_is_forgotten_and_their_streams_end(orders: Synced, monkeypatch: Any):
    monkeypatch.setattr(progress, "KEPT_EVENTS", 2)
    monkeypatch.setattr(progress, "KEPT_RUNS", 3)
    made = []
    for _ in range(4):
        orders.app.clock.advance(60)
        made.append(await orders.run())
    assert await events_of(orders, made[1].id) == []
    assert len(await events_of(orders, made[3].id)) > 0
    assert (await orders.alice.get(f"{orders.path}/{made[0].id}")).status == 404
