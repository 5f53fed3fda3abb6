"""Events from the command line, and their stream: a connection that breaks is made again, and nothing is missed."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cli_fake_hub import KEY, NOW_ID, WORKSPACE, FakeHub, Run, integration

from trunkline.client import Trunkline, following
from trunkline.client.server_sent import Message, Reader
from trunkline.errors import Forbidden, Unavailable


def event(sequence: int, **fields: Any) -> dict[str, Any]:
    """Describe an event as the hub shows it."""
    shown = {
        "specversion": "1.0",
        "id": f"e-{sequence}",
        "type": "alert.raised",
        "time": "2026-05-03T10:00:00Z",
        "sequence": str(sequence),
        "title": "Disk\nfull",
        "data": {"level": "fatal"},
    }
    return shown | fields


def test_events_are_listed_and_narrowed(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/integrations", [integration()])
    fake.answer("GET", "/events", [event(number) for number in range(200, 0, -1)])
    words = (
        "--type",
        "alert.*",
        "--integration",
        "now",
        "--severity",
        "high",
        "--errors",
        "--since",
        "2026-05-03",
    )
    result = with_hub("event", "list", *words, "--limit", "150")
    query = fake.last("GET").query
    assert {name: query.get(name) for name in ("type", "integration_id", "severity", "errors", "since")} == {
        "type": "alert.*",
        "integration_id": NOW_ID,
        "severity": "high",
        "errors": "true",
        "since": "2026-05-03T00:00:00+00:00",
    }
    assert ("e-51" in result.stdout, "e-50 " in result.stdout) == (True, False)
    assert len(json.loads(with_hub("event", "list", "--json").stdout)["items"]) == 20


def test_tokens_that_count_down_are_followed_and_a_circle_is_not(with_hub: Run, fake: FakeHub) -> None:
    page = {"items": [event(5)], "has_more": True, "continuation_token": 5, "total": None}
    fake.answer("GET", "/events", page)
    result = with_hub("event", "list")
    assert (result.exit_code, "does not advance" in result.stderr) == (3, True)


def test_one_event_is_shown_with_its_data_and_read_again(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", f"/events/{NOW_ID}", event(1))
    fake.answer("POST", f"/events/{NOW_ID}/replay", event(2, replayof=NOW_ID), 201)
    shown = with_hub("event", "show", NOW_ID)
    assert ('"level": "fatal"' in shown.stdout, "specversion" in shown.stdout) == (True, False)
    assert json.loads(with_hub("event", "show", NOW_ID, "--json").stdout) == event(1)
    assert NOW_ID in with_hub("event", "replay", NOW_ID).stdout


def written(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (one["sequence"].encode(), one["type"].encode(), json.dumps(one).encode())
        for one in events
    )


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_stream_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    raw = (
        b"retry: 2000\r\n\r\n: keep-alive\nid: 4\n\n" + written(event(5)) + b"data: a\ndata:b\n\nevent: half"
    )
    reader, found = Reader("3"), list[Message]()
    for start in range(0, len(raw), size):
        found += reader.feed(raw[start : start + size])
    assert [(one.id, one.type) for one in found] == [("5", "alert.raised"), (None, "message")]
    assert (json.loads(found[0].data), found[1].data, reader.last_id) == (event(5), "a\nb", "5")


def test_an_id_without_an_event_counts() -> None:
    reader = Reader("3")
    assert (reader.feed(b": keep-alive\nid: 9\n\n"), reader.last_id) == ([], "9")


def test_an_endless_line_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.client.server_sent.MAX_BYTES", 100)
    reader = Reader("0")
    assert reader.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(Unavailable):
        reader.feed(b"x")


Turn = Callable[[web.StreamResponse], Awaitable[None]]


class Streaming:
    """A hub whose stream does something else at each connection."""

    def __init__(self, *turns: Turn | int, newest: int = 3) -> None:
        self.turns = list(turns)
        self.newest = newest
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/stream"):
            return web.json_response({"items": [event(self.newest)], "has_more": False})
        self.asked.append((request.headers["Last-Event-ID"], dict(request.query)))
        turn = self.turns.pop(0)
        if isinstance(turn, int):
            return web.json_response({"detail": "No."}, status=turn)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await turn(stream)
        return stream


def says(*parts: bytes) -> Turn:
    async def turn(stream: web.StreamResponse) -> None:
        for part in parts:
            await stream.write(part)

    return turn


async def breaks(stream: web.StreamResponse) -> None:
    await stream.write(written(event(5))[:-9])
    assert stream._req is not None
    assert stream._req.transport is not None
    stream._req.transport.close()


async def waits(stream: web.StreamResponse) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def serve(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Callable[[Streaming], Awaitable[Trunkline]]]:
    """Start a hub and return a client of it; connections are made again at once."""
    monkeypatch.setattr(following, "_FIRST_WAIT", 0.0)
    servers: list[TestServer] = []

    async def start(hub: Streaming) -> Trunkline:
        app = web.Application()
        app.router.add_get("/{path:.*}", hub.answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return Trunkline(str(server.make_url("/")), KEY, workspace_id=WORKSPACE)

    yield start
    for server in servers:
        await server.close()


async def read(client: Trunkline, count: int, **options: Any) -> list[str]:
    found: list[str] = []
    async with client, aclosing(client.events.follow(**options)) as following:
        async for one in following:
            found.append(one["sequence"])
            if len(found) == count:
                break
    return found


async def test_the_stream_goes_on_where_it_broke_off(serve) -> None:
    hub = Streaming(
        says(written(event(4))), breaks, 503, says(b"id: 6\n\n"), says(written(event(7))), newest=3
    )
    said: list[str] = []
    assert await read(await serve(hub), 2, type="alert.*", tell=said.append) == ["4", "7"]
    assert [place for place, _ in hub.asked] == ["3", "4", "4", "4", "6"]
    assert {query["type"] for _, query in hub.asked} == {"alert.*"}
    assert len(said) == 4


async def test_the_stream_may_begin_at_a_number(serve) -> None:
    hub = Streaming(says(written(event(1), event(2))))
    assert await read(await serve(hub), 2, after=0) == ["1", "2"]
    assert hub.asked == [("0", {})]


async def test_events_that_are_gone_are_told_of(serve) -> None:
    gap = b'event: gap\ndata: {"after": 1, "before": 5}\n\n'
    hub, said = Streaming(says(gap + written(event(5)))), list[str]()
    assert await read(await serve(hub), 1, after=1, tell=said.append) == ["5"]
    assert "not kept any more" in said[0]


async def test_an_event_called_gap_is_an_event(serve) -> None:
    assert await read(await serve(Streaming(says(written(event(4, type="gap"))))), 1) == ["4"]


async def test_a_refusal_ends_the_stream(serve) -> None:
    client = await serve(Streaming(says(written(event(4))), 403))
    with pytest.raises(Forbidden):
        await read(client, 2)


async def test_a_silent_hub_is_called_again(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.client.hub._SILENT_SECONDS", 0.05)
    said: list[str] = []
    hub = Streaming(waits, says(written(event(4))))
    assert await read(await serve(hub), 1, tell=said.append) == ["4"]
    assert "did not answer in time" in said[0]


async def test_a_hub_that_is_not_there_is_said_at_once() -> None:
    client = Trunkline("http://127.0.0.1:9", KEY, workspace_id=WORKSPACE)
    with pytest.raises(Unavailable):
        await read(client, 1, after=0)


def test_the_tail_prints_lines_and_ends_when_told(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/events", [])
    fake.streams["/events/stream"] = written(event(1), event(2), event(3))
    result = with_hub("event", "tail", "--after", "0", "--limit", "2")
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == ["1", "2"]
    assert "Disk full" in result.stdout
    result = with_hub("event", "tail", "--after", "0", "--limit", "3", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["e-1", "e-2", "e-3"]
