"""Following the log: nothing missed, nothing twice, an end that is told, and no more than there is room for."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from http_asgi import Client, Incoming
from trunkline.clock import ManualClock
from trunkline.http import wire
from trunkline.services import streams
from trunkline.tables import events as table

EVENTS = "/v1/{ws}/events"


@asynccontextmanager
async def following(client: Client, query: str = "", **headers: str) -> AsyncIterator[Incoming]:
    """Follow the log; the block begins when the stream does."""
    async with client.stream(f"{EVENTS}/stream?{query}", **headers) as stream:
        assert stream.status == 200
        assert await stream.next() == {"retry": "2000"}
        yield stream


async def types(stream: Incoming, count: int) -> list[str]:
    found = [await stream.next() for _ in range(count)]
    return [block["event"] for block in found if block]


async def pass_by(client: Client, clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)
    client.hub.app.bells.events.ring()


async def prune(client: Client, up_to: int) -> None:
    gone = sa.delete(table).where(table.c.workspace_id == client.workspace_id, table.c.sequence <= up_to)
    await client.hub.app.db.write(lambda conn: conn.execute(gone).rowcount)


async def test_events_come_as_they_are_appended(alice: Client):
    await alice.append_events("acme.before")
    async with following(alice) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        (event,) = await alice.append_events("acme.now", title="two\nlines", data={"text": "a\n\nb"})
        block = await stream.next()
        assert block is not None
        assert (block["id"], block["event"]) == ("2", "acme.now")
        assert json.loads(block["data"]) == (await alice.get(f"{EVENTS}/{event.id}")).json
        await alice.append_events("acme.a", "acme.b")
        assert await types(stream, 2) == ["acme.a", "acme.b"]


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ("after=0", {}, "acme.1"),
        ("after=2", {}, "acme.3"),
        ("", {"last_event_id": "1"}, "acme.2"),
        ("after=0", {"last_event_id": "2"}, "acme.3"),
    ],
)
async def test_a_stream_goes_on_after_a_number(
    alice: Client, query: str, headers: dict[str, str], first: str
):
    await alice.append_events("acme.1", "acme.2", "acme.3")
    async with following(alice, query, **headers) as stream:
        assert await types(stream, 1) == [first]


async def test_nothing_is_missed_between_two_streams(alice: Client):
    seen: list[str] = []
    last = "0"
    for batch in range(4):
        await alice.append_events(*[f"acme.{batch}x{number}" for number in range(3)])
        async with following(alice, last_event_id=last) as stream:
            for _ in range(2 if batch < 3 else 6):
                block = await stream.next()
                assert block is not None
                seen.append(block["event"])
                last = block["id"]
    assert seen == [f"acme.{batch}x{number}" for batch in range(4) for number in range(3)]


@pytest.mark.parametrize(
    ("query", "headers", "place"),
    [
        ("after=x", {}, ["query", "after"]),
        ("after=-1", {}, ["query", "after"]),
        ("type=", {}, ["query", "type"]),
        ("", {"last_event_id": "0b1"}, ["header", "last_event_id"]),
        ("", {"last_event_id": "9" * 30}, ["header", "last_event_id"]),
    ],
)
async def test_a_wrong_beginning_is_named(
    alice: Client, query: str, headers: dict[str, str], place: list[str]
):
    reply = await alice.get(f"{EVENTS}/stream?{query}", **headers)
    assert reply.status == 422, reply.text
    assert reply.json["detail"][0]["loc"] == place


async def test_a_pattern_chooses_and_the_number_moves_on_all_the_same(alice: Client, clock: ManualClock):
    async with following(alice, "type=acme.*") as stream:
        await alice.append_events("acme.a", "other.b", "acme.c", "other.d")
        assert await types(stream, 2) == ["acme.a", "acme.c"]
        await pass_by(alice, clock, 15)
        assert await stream.next() == {"": "keep-alive", "id": "4"}


async def test_a_quiet_stream_shows_that_it_is_alive(alice: Client, clock: ManualClock):
    async with following(alice) as stream:
        for _ in range(3):
            await pass_by(alice, clock, 15)
            assert await stream.next() == {"": "keep-alive", "id": "0"}


async def test_what_another_process_appends_comes_too(alice: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.01)
    async with following(alice) as stream:
        await alice.append_events("acme.far", rings=False)
        assert await types(stream, 1) == ["acme.far"]


async def test_events_that_are_gone_are_told_of(alice: Client):
    await alice.append_events("acme.1", "acme.2", "acme.3", "acme.4")
    await prune(alice, 2)
    async with following(alice, "after=1") as stream:
        assert await stream.next() == {"event": "gap", "data": '{"after": 1, "before": 3}'}
        assert await types(stream, 2) == ["acme.3", "acme.4"]
        await alice.append_events("acme.5", rings=False)
        await prune(alice, 5)
        await alice.append_events("acme.6")
        assert await stream.next() == {"event": "gap", "data": '{"after": 4, "before": 6}'}
        assert await types(stream, 1) == ["acme.6"]


async def test_a_log_that_is_all_gone_goes_on_with_what_comes(alice: Client):
    await alice.append_events("acme.1", "acme.2")
    await prune(alice, 2)
    async with following(alice, "after=0") as stream:
        assert await stream.next() == {"event": "gap", "data": '{"after": 0, "before": 3}'}
        await alice.append_events("acme.3")
        assert await types(stream, 1) == ["acme.3"]


async def test_a_number_that_never_was_is_told_of(alice: Client):
    await alice.append_events("acme.1")
    async with following(alice, "after=99") as stream:
        assert await stream.next() == {"event": "gap", "data": '{"after": 99, "before": 2}'}
        await alice.append_events("acme.2")
        assert await types(stream, 1) == ["acme.2"]


async def test_a_stop_ends_every_stream(alice: Client):
    async with following(alice) as one, following(alice) as two:
        alice.hub.stop()
        assert [await one.next(), await two.next()] == [None, None]


async def _change(alice: Client, key: dict[str, Any], how: str) -> None:
    if how == "revoked":
        await alice.delete(f"/v1/{{ws}}/api-keys/{key['key_id']}")
    elif how == "rotated":
        await alice.post(f"/v1/{{ws}}/api-keys/{key['key_id']}/rotate", {"duration_days": 9})


@pytest.mark.parametrize("how", ["revoked", "rotated", "expired"])
async def test_a_key_that_does_not_hold_any_more_ends_its_streams(
    alice: Client, clock: ManualClock, how: str
):
    key = (await alice.post("/v1/{ws}/api-keys", {"duration_days": 9})).json
    async with following(Client(alice.hub, key["api_key"], alice.workspace_id)) as stream:
        clock.advance(1)
        await _change(alice, key, how)
        await pass_by(alice, clock, 9 * 86400 if how == "expired" else 15)
        assert await stream.next() is None


async def test_a_workspace_has_room_for_so_many(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    async with following(alice), following(alice):
        refused = await alice.get(f"{EVENTS}/stream")
        assert (refused.status, refused.headers["retry-after"]) == (429, "15")
        async with following(charlie):
            pass
    async with following(alice) as stream:
        await alice.append_events("acme.a")
        assert await types(stream, 1) == ["acme.a"]
    assert alice.workspace_id not in streams._open


async def test_nobody_hears_of_another_workspace(alice: Client, charlie: Client, clock: ManualClock):
    async with following(charlie, "after=0") as stream:
        await alice.append_events("acme.secret")
        await pass_by(alice, clock, 15)
        assert await stream.next() == {"": "keep-alive", "id": "0"}


async def test_large_events_are_read_a_few_at_a_time(alice: Client):
    for _ in range(4):
        await alice.append_events("acme.big", data="x" * 900_000)
    async with alice.stream(f"{EVENTS}/stream?after=0") as stream:
        await stream.next()
        sizes = []
        while sum(sizes) < 4 * 900_000:
            sizes.append(len((await stream._messages.get())["body"]))
    assert (
        len([size for size in sizes if size < max(sizes)]) == 2
    )  # the ends of two reads, each sent in pieces


async def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "STALLED_SECONDS", 0.01)
    dropped, closed = asyncio.Event(), asyncio.Event()
    taken: list[int] = []

    async def send(message: Any) -> None:
        taken.append(len(message.get("body", b"")))
        if len(taken) == 4:
            await asyncio.Event().wait()

    async def receive() -> Any:
        await dropped.wait()
        return {"type": "http.disconnect"}

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 150_000
        finally:
            closed.set()

    scope = {"request_id": "req_1", wire.DROP: dropped.set}
    await asyncio.wait_for(wire.send_stream(scope, receive, send, wire.Stream(chunks())), 10)
    assert taken == [
        0,
        65_536,
        65_536,
        18_928,
    ]  # in pieces, so that a slow client is not taken for one that left
    assert dropped.is_set()
    assert closed.is_set()
