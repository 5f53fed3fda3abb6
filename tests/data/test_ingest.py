"""From the inbox to the log: each request once, whatever happens in between, and again when asked."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from trunkline.catalog.registry import Registry
from trunkline.clock import ManualClock
from trunkline.context import App, Caller, Context
from trunkline.errors import Conflict, NotFound
from trunkline.http.server import open_app
from trunkline.ids import new_id
from trunkline.services import api_keys, events, hooks, inbox, ingest, integrations
from trunkline.services.drafts import Credentials, Draft
from trunkline.services.events import Event
from trunkline.settings import Settings
from trunkline.tables import inbox as table

FILE = """
name: Tickets
base_url: "{config.url}"
config:
  url: {label: Address}
auth:
  key: {type: api_key_header, header_name: X-Key}
endpoints:
  list_tickets: {description: Tickets., path: /tickets}
webhook:
  verify: {open: {type: none}}
events:
  - {when: {payload.kind: many}, each: list, type: tickets.entry, subject: "{item.n}"}
  - {when: {payload.kind: odd}, type: tickets.odd, title: "{payload.title}"}
  - {when: {payload.kind: "*"}, type: "tickets.{payload.kind}", url: "{config.url}", time: "{payload.at?}"}
"""


@pytest.fixture
def settings_of_hub(database_settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "connectors"
    folder.mkdir()
    (folder / "tickets.yaml").write_text(FILE)
    return replace(database_settings, connectors_dir=folder)


@pytest.fixture
async def app(settings_of_hub: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(settings_of_hub, clock) as opened:
        yield opened


class Tickets:
    """An integration of the connector, and what its service sends."""

    def __init__(self, app: App, workspace_id: str, integration_id: str) -> None:
        self.app = app
        self.workspace_id = workspace_id
        self.id = integration_id
        caller = Caller(workspace_id, new_id(), "ak_1", None, None, "owner", (), frozenset({"*"}), None)
        self.ctx = Context(app, caller, "req_1")

    async def source(self) -> hooks.Source:
        found = await hooks.source_of(self.app, self.workspace_id, self.id)
        assert found is not None
        return found

    async def sends(self, payload: Any, dedup: str | None = None) -> str:
        headers = {"content-type": "application/json"}
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        return await inbox.receive(self.app, await self.source(), headers, body, dedup)

    async def log(self) -> list[Event]:
        read = partial(events.read_after, workspace_id=self.workspace_id, sequence=0, limit=5_000)
        return await self.app.db.read(read)

    async def reads(self) -> list[Event]:
        """Read all that waits and return the log."""
        while await ingest.read_due(self.app):
            pass
        return await self.log()


@pytest.fixture
async def tickets(app: App) -> Tickets:
    return await _tickets(app, "one")


async def _tickets(app: App, name: str) -> Tickets:
    made = Tickets(app, (await api_keys.create_workspace(app, name))["id"], "")
    key = Credentials("key", {"api_key": "key-1234"})
    config = {"url": "https://tickets.example"}
    draft = Draft(name=name, display_name=name, connector="tickets", config=config, credentials=key)
    made.id = (await integrations.create(made.ctx, draft)).id
    return made


async def test_a_request_becomes_an_event(tickets: Tickets, clock: ManualClock):
    inbox_id = await tickets.sends({"kind": "opened", "at": "2026-01-01T10:00:00Z"})
    came_at = clock.now()
    clock.advance(60)
    (event,) = await tickets.reads()
    assert (event.id, event.inbox_id, event.sequence, event.type) == (inbox_id, inbox_id, 1, "tickets.opened")
    assert (event.source, event.integration_id) == (f"/integrations/{tickets.id}", tickets.id)
    assert (event.time.hour, event.received_at) == (10, clock.now())
    assert (event.url, event.data["kind"], event.error) == ("https://tickets.example", "opened", None)
    await tickets.sends({"kind": "closed"})
    assert (await tickets.reads())[1].time == clock.now() != came_at


async def test_several_events_of_a_request_have_ids_that_follow_from_its_own(tickets: Tickets):
    inbox_id = await tickets.sends({"kind": "many", "list": [{"n": 1}, {"n": 2}, {"n": 3}]})
    found = await tickets.reads()
    assert [event.subject for event in found] == ["1", "2", "3"]
    wanted = [inbox_id, *(str(uuid.uuid5(uuid.UUID(inbox_id), str(number))) for number in (1, 2))]
    assert [event.id for event in found] == wanted


async def test_what_was_accepted_before_a_crash_is_read_after_it(
    settings_of_hub: Settings, clock: ManualClock
):
    async with open_app(settings_of_hub, clock) as first:
        tickets = await _tickets(first, "one")
        for number in range(450):
            await tickets.sends({"kind": f"k{number}"})
    async with open_app(settings_of_hub, clock) as second:
        again = Tickets(second, tickets.workspace_id, tickets.id)
        assert [event.type for event in await again.reads()] == [
            f"tickets.k{number}" for number in range(450)
        ]


async def test_two_workers_append_a_request_once(
    tickets: Tickets, settings_of_hub: Settings, clock: ManualClock
):
    sent = {await tickets.sends({"kind": f"k{number}"}) for number in range(300)}
    async with open_app(settings_of_hub, clock) as other:
        while any(await asyncio.gather(*(ingest.read_due(app) for app in (tickets.app, other) * 2))):
            pass
    found = await tickets.log()
    assert [event.sequence for event in found] == list(range(1, 301))
    assert {event.id for event in found} == sent


async def test_a_repeat_adds_nothing_even_when_its_first_was_forgotten(tickets: Tickets):
    first = await tickets.sends({"kind": "a"}, dedup="delivery-1")
    await tickets.reads()
    assert await tickets.sends({"kind": "b"}, dedup="delivery-1") == first
    assert len(await tickets.reads()) == 1
    await tickets.app.db.write(lambda conn: conn.execute(sa.delete(table)).rowcount)
    await tickets.sends({"kind": "b"}, dedup="delivery-1")
    assert len(await tickets.reads()) == 1
    assert await tickets.app.db.read(lambda conn: conn.scalar(sa.select(table.c.read_at))) is not None


async def test_every_workspace_gets_its_own(app: App, tickets: Tickets):
    other = await _tickets(app, "two")
    for number in range(5):
        await tickets.sends({"kind": f"a{number}"})
        await other.sends({"kind": f"b{number}"})
    assert {event.type[:9] for event in await tickets.reads()} == {"tickets.a"}
    assert [event.sequence for event in await other.log()] == [1, 2, 3, 4, 5]


async def test_reading_wakes_whoever_follows_the_log(tickets: Tickets):
    await tickets.sends({"kind": "a"})
    bell = tickets.app.bells.events
    assert (bell.rung, await ingest.read_due(tickets.app), bell.rung) == (0, True, 1)
    assert (await ingest.read_due(tickets.app), bell.rung) == (False, 1)


async def test_large_requests_are_read_a_few_at_a_time(tickets: Tickets, monkeypatch: pytest.MonkeyPatch):
    parts: list[int] = []
    store = ingest._store
    monkeypatch.setattr(
        ingest, "_store", lambda conn, read, now: parts.append(len(read)) or store(conn, read, now)
    )
    for _ in range(5):
        await tickets.sends({"kind": "big", "fill": "x" * 900_000})
    assert (len(await tickets.reads()), parts) == (5, [2, 2, 1])


async def test_large_requests_do_not_fill_the_memory(app: App, tickets: Tickets):
    other = await _tickets(app, "two")
    for _ in range(6):
        await tickets.sends({"kind": "big", "fill": "x" * 100_000})
        await other.sends({"kind": "small"})
    found = await app.db.read(partial(inbox.waiting, limit=50, most_bytes=300_000))
    sources = [row.integration_id for row in found]
    assert (sources.count(other.id), sources.count(tickets.id)) == (6, 2 if sources[0] == tickets.id else 3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{no json", "the body is no JSON"),
        (b'{"kind": "odd"}', "rule 2 (tickets.odd): 'payload.title' is missing"),
        (b"[" * 500 + b"]" * 500, "the body is nested more than 64 levels deep"),
    ],
)
async def test_what_cannot_be_read_is_kept_and_marked(tickets: Tickets, body: bytes, error: str):
    await tickets.sends(body)
    (event,) = await tickets.reads()
    assert event.type == "tickets.unreadable"
    assert event.error is not None
    assert event.error.startswith(error)


@pytest.mark.parametrize(
    ("title", "stored"),
    [
        (rb"a\u0000b", "a\ufffdb"),
        (rb"\ud800", "\ufffd"),
        (rb"\ud83d\ude00", "\U0001f600"),
        (b"x" * 5000, "x" * 1023 + "…"),
    ],
)
async def test_odd_texts_are_stored(tickets: Tickets, title: bytes, stored: str):
    await tickets.sends(b'{"kind": "odd", "title": "%b", "\\u0000": "\\u0000"}' % title)
    (event,) = await tickets.reads()
    assert (event.title, event.data["\0"]) == (stored, "\0")


async def test_an_event_that_no_database_takes_holds_up_no_other(
    tickets: Tickets, monkeypatch: pytest.MonkeyPatch
):
    clash = new_id()
    new = ingest._new
    monkeypatch.setattr(
        ingest,
        "_new",
        lambda parsed, *rest: replace(
            new(parsed, *rest), **({"id": clash, "project": None} if parsed.type == "tickets.bad" else {})
        ),
    )
    for kind in ("a", "bad", "bad", "b"):
        await tickets.sends({"kind": kind})
    found = await tickets.reads()
    assert [event.type for event in found] == ["tickets.a", "tickets.bad", "tickets.unreadable", "tickets.b"]
    assert found[2].error == "cannot be stored: Something with these values exists already."


async def test_what_came_for_a_deleted_integration_is_told_of(tickets: Tickets):
    await tickets.sends({"kind": "a"})
    await integrations.delete(tickets.ctx, tickets.id)
    (event,) = await tickets.reads()
    assert (event.type, event.integration_id) == ("hook.orphaned", tickets.id)
    with pytest.raises(Conflict, match="gone"):
        await ingest.replay(tickets.ctx, event.id)


def _rewrite(app: App, folder: Path, text: str | None) -> None:
    path = folder / "connectors" / "tickets.yaml"
    path.unlink() if text is None else path.write_text(text)
    app.catalog = Registry(folder / "connectors")


async def test_without_its_file_a_request_waits_in_an_event_for_its_replay(tickets: Tickets, tmp_path: Path):
    await tickets.sends({"kind": "a"})
    _rewrite(tickets.app, tmp_path, None)
    (event,) = await tickets.reads()
    assert event.type == "tickets.unreadable"
    with pytest.raises(Conflict):
        await ingest.replay(tickets.ctx, event.id)
    _rewrite(tickets.app, tmp_path, FILE)
    assert (await ingest.replay(tickets.ctx, event.id)).type == "tickets.a"


async def test_what_a_rule_failed_on_is_read_once_the_rule_is_mended(tickets: Tickets, tmp_path: Path):
    await tickets.sends({"kind": "odd", "name": "Disk"})
    (failed,) = await tickets.reads()
    _rewrite(tickets.app, tmp_path, FILE.replace("{payload.title}", "{payload.name}"))
    replayed = await ingest.replay(tickets.ctx, failed.id)
    assert (replayed.type, replayed.title, replayed.error) == ("tickets.odd", "Disk", None)
    assert (replayed.sequence, replayed.replay_of) == (2, failed.id)
    assert (await tickets.log())[1] == replayed
    again = await ingest.replay(tickets.ctx, replayed.id)
    assert (again.sequence, again.replay_of) == (3, failed.id)


async def test_a_request_that_makes_more_events_now_is_replayed_whole(tickets: Tickets, tmp_path: Path):
    _rewrite(tickets.app, tmp_path, FILE.replace("each: list,", "").replace("{item.n}", "{payload.none}"))
    await tickets.sends({"kind": "many", "list": [{"n": 1}, {"n": 2}]})
    (failed,) = await tickets.reads()
    _rewrite(tickets.app, tmp_path, FILE)
    assert (await ingest.replay(tickets.ctx, failed.id)).subject == "1"
    assert [(event.type, event.subject) for event in await tickets.log()] == [
        ("tickets.unreadable", None),
        ("tickets.entry", "1"),
        ("tickets.entry", "2"),
    ]


async def test_one_of_several_events_is_replayed_alone(tickets: Tickets, tmp_path: Path):
    await tickets.sends({"kind": "many", "list": [{"n": 1}, {"n": 2}]})
    first, second = await tickets.reads()
    assert (await ingest.replay(tickets.ctx, second.id)).subject == "2"
    assert (await ingest.replay(tickets.ctx, first.id)).subject == "1"
    assert len(await tickets.log()) == 4
    _rewrite(tickets.app, tmp_path, FILE.replace("each: list", "each: other"))
    with pytest.raises(Conflict, match="only 1 events; this was number 2"):
        await ingest.replay(tickets.ctx, second.id)


async def test_what_is_not_there_is_not_replayed(tickets: Tickets, app: App):
    other = await _tickets(app, "two")
    await tickets.sends({"kind": "a"})
    (event,) = await tickets.reads()
    for ctx, event_id in ((other.ctx, event.id), (tickets.ctx, new_id())):
        with pytest.raises(NotFound):
            await ingest.replay(ctx, event_id)
    await app.db.write(lambda conn: conn.execute(sa.delete(table)).rowcount)
    with pytest.raises(Conflict, match="too old"):
        await ingest.replay(tickets.ctx, event.id)


async def test_a_preview_stores_nothing(tickets: Tickets, clock: ManualClock):
    body = orjson.dumps({"kind": "many", "list": [{"n": 1}, {"n": 2}]})
    found = ingest.preview(await tickets.source(), {"content-type": "application/json"}, body, clock.now())
    assert [(event.type, event.subject, event.time) for event in found] == [
        ("tickets.entry", "1", clock.now()),
        ("tickets.entry", "2", clock.now()),
    ]
    assert await tickets.reads() == []


async def test_a_burst_is_read_with_rests_in_between(
    tickets: Tickets, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    await tickets.sends({"kind": "a"})
    monkeypatch.setattr(inbox, "rest_seconds", lambda app, worked: 0.5)
    assert await ingest.read_due(tickets.app)
    assert clock.slept == [0.5]
