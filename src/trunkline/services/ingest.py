"""Read what came in: from a request of the inbox to events of the log, by the connector's rules; and again, when asked.

Owns which manifest reads a request and that each is read exactly once. What the rules mean is `rest/event_rules.py`'s.
"""

import asyncio
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import log
from trunkline.catalog.configure import with_defaults
from trunkline.catalog.manifest import Manifest
from trunkline.context import App, Context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.ids import new_id
from trunkline.rest.event_rules import MAX_ENTRIES, Parsed, compile_rules
from trunkline.services import events, inbox
from trunkline.services.events import Event, NewEvent
from trunkline.services.hooks import Source
from trunkline.tables import integrations

ORPHANED = "hook.orphaned"
"""Type of what came in for an integration that was deleted before it could be read."""
_AT_ONCE = 800
_PART = 200
_BYTES_AT_ONCE = 2 * 1024 * 1024
_LOG = log.get("trunkline.ingest")


class _Reader(NamedTuple):
    """What of an integration its requests are read with."""

    connector: str | None
    config: dict[str, str]


_Readers = Mapping[tuple[str, str], _Reader]
_Request = tuple[inbox.Row, list[NewEvent]]
_READERS = sa.select(
    integrations.c.workspace_id, integrations.c.id, integrations.c.connector, integrations.c.config
).where(integrations.c.id.in_(sa.bindparam("ids", expanding=True)))


async def read_due(app: App) -> bool:
    """Read requests that wait in the inbox into events, a batch of them; tell whether more may wait.

    In a burst it rests between batches, so that storing what comes in keeps its rate.
    """
    started = app.clock.monotonic()
    rows, readers = await app.db.read(partial(_waiting, limit=inbox.turn(app, _AT_ONCE)))
    writing: asyncio.Task[None] | None = None
    for part in _parts(rows):
        read = [(row, _events_of(app, row, readers)) for row in part]
        if writing is not None:
            await writing
        writing = asyncio.create_task(_append(app, read))  # the next part is read meanwhile
        await asyncio.sleep(0)
    if writing is not None:
        await writing
    if rows and (rest := inbox.rest_seconds(app, app.clock.monotonic() - started)):
        await app.clock.sleep(rest)
    return bool(rows)


def _waiting(conn: Connection, limit: int) -> tuple[list[inbox.Row], _Readers]:
    rows = inbox.waiting(conn, limit)
    return rows, _readers(conn, {row.integration_id for row in rows})


def _readers(conn: Connection, ids: Collection[str]) -> _Readers:
    if not ids:
        return {}
    found = conn.execute(_READERS, {"ids": list(ids)})
    return {(row.workspace_id, row.id): _Reader(row.connector, row.config) for row in found}


def _parts(rows: Sequence[inbox.Row]) -> Iterator[list[inbox.Row]]:
    """Cut large requests apart: reading them holds up everything else, and their events share a transaction."""
    part: list[inbox.Row] = []
    size = 0
    for row in rows:
        if part and (size + len(row.body) > _BYTES_AT_ONCE or len(part) == _PART):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.body)
    if part:
        yield part


def _events_of(app: App, row: inbox.Row, readers: _Readers) -> list[NewEvent]:
    """Return the events of a request: at least one, whatever became of the integration and its connector."""
    reader = readers.get((row.workspace_id, row.integration_id))
    if reader is None:
        error = "the integration was deleted before this was read"
        return [_event(row, 0, Parsed(type=ORPHANED, data={}, error=error))]
    found = _parse(_manifest(app, reader), reader, row.headers, row.body)
    return [_event(row, index, parsed) for index, parsed in enumerate(found)]


def _manifest(app: App, reader: _Reader) -> Manifest | None:
    try:
        return app.catalog.get(reader.connector or "")
    except NotFound:
        return None


def _parse(
    manifest: Manifest | None, reader: _Reader, headers: Mapping[str, str], body: bytes
) -> list[Parsed]:
    if manifest is None:
        error = f"the connector '{reader.connector}' is not in the catalogue any more; put its file back"
        return [Parsed(type=f"{reader.connector}.unreadable", data={}, error=error)]
    try:
        rules = compile_rules(manifest)
    except ValueError as fault:
        return [Parsed(type=f"{manifest.id}.unreadable", data={}, error=str(fault))]
    return rules.read_request(body, headers, with_defaults(manifest, reader.config))


def _event(row: inbox.Row, index: int, parsed: Parsed) -> NewEvent:
    return _new(parsed, _id_of(row.id, index), row.integration_id, row.received_at, row.id)


def _new(
    parsed: Parsed, event_id: str, integration_id: str, received_at: datetime, inbox_id: str | None
) -> NewEvent:
    return NewEvent(
        type=parsed.type,
        time=parsed.time or received_at,
        data=parsed.data,
        source=f"/integrations/{integration_id}",
        id=event_id,
        subject=parsed.subject,
        title=parsed.title,
        project=parsed.project,
        severity=parsed.severity,
        dedup_key=parsed.dedup_key,
        action=parsed.action,
        url=parsed.url,
        integration_id=integration_id,
        error=parsed.error,
        inbox_id=inbox_id,
    )


def _id_of(inbox_id: str, index: int) -> str:
    """Return the id of a request's event: the first has the request's own, so that a repeat makes none anew."""
    return inbox_id if index == 0 else str(uuid.uuid5(uuid.UUID(inbox_id), str(index)))


async def _append(app: App, read: list[_Request]) -> None:
    try:
        appended = await _write(app, read)
    except (Invalid, Conflict):
        appended = any([await _append_alone(app, request) for request in read])
    if appended:
        app.bells.events.ring()


async def _append_alone(app: App, request: _Request) -> bool:
    """Append one request's events: one that cannot be stored holds up no other, and is marked."""
    row, found = request
    try:
        return await _write(app, [request])
    except (Invalid, Conflict) as error:
        if await app.db.read(partial(events.known, ids=[row.id])):
            return await _write(
                app, [(row, [])]
            )  # a repeat: the first was forgotten already, but not its event
        _LOG.error("events cannot be stored", inbox_id=row.id, reason=error.message)
        kind = f"{found[0].type.partition('.')[0][:64]}.unreadable"
        marked = Parsed(type=kind, data={}, error=f"cannot be stored: {error.message}")
        return await _write(app, [(row, [_event(row, 0, marked)])])


async def _write(app: App, read: list[_Request]) -> bool:
    """Mark requests as read and append their events, in one transaction; tell whether any was appended."""
    return await app.db.write(partial(_store, read=read, now=app.clock.now()))


def _store(conn: Connection, read: list[_Request], now: datetime) -> bool:
    fresh = inbox.mark_read(conn, [row.id for row, _ in read], now)
    new: dict[str, list[NewEvent]] = {}
    for row, found in read:
        if row.id in fresh and found:
            new.setdefault(row.workspace_id, []).extend(found)
    events.append_all(conn, new, now)
    return bool(new)


def preview(source: Source, headers: Mapping[str, str], body: bytes, now: datetime) -> list[NewEvent]:
    """Return what a request would be read as, without storing anything."""
    reader = _Reader(source.manifest.id, dict(source.config))
    found = _parse(source.manifest, reader, headers, body)
    return [_new(parsed, new_id(), source.integration_id, now, None) for parsed in found]


async def replay(ctx: Context, event_id: str) -> Event:
    """Read an event's request again, by today's rules, into a new event that is routed like any other.

    A request that made one event is appended with all that it makes now; else its entry at the event's place. The
    answer is the first that was appended.

    Raises:
        NotFound
        Conflict: there is nothing to read again, or nothing to read it by.
    """
    event, row, reader, is_alone = await ctx.app.db.read(
        partial(_again, workspace_id=ctx.workspace_id, event_id=event_id)
    )
    if row is None or event.inbox_id is None:
        raise Conflict(
            "This event has no request to read again: Trunkline made it itself, or it was too old to keep."
        )
    manifest = _manifest(ctx.app, reader) if reader is not None else None
    if reader is None or manifest is None:
        raise Conflict("The integration or its connector is gone, so nothing says how to read this again.")
    origin = event.replay_of or event.id
    found = [
        _event(row, index, item) for index, item in enumerate(_parse(manifest, reader, row.headers, row.body))
    ]
    place = next(index for index in range(MAX_ENTRIES + 1) if _id_of(row.id, index) == origin)
    if place >= len(found):
        raise Conflict(
            f"By today's rules the request makes only {len(found)} events; this was number {place + 1}."
        )
    chosen = found if place == 0 and is_alone else [found[place]]
    new = [replace(item, id=new_id(), replay_of=origin) for item in chosen]
    now = ctx.now
    last = await ctx.app.db.write(partial(events.append, workspace_id=ctx.workspace_id, new=new, now=now))
    ctx.app.bells.events.ring()
    first = {name: getattr(new[0], name) for name in NewEvent.__dataclass_fields__}
    return Event(**first, workspace_id=ctx.workspace_id, sequence=last - len(new) + 1, received_at=now)


def _again(
    conn: Connection, workspace_id: str, event_id: str
) -> tuple[Event, inbox.Row | None, _Reader | None, bool]:
    """Return an event, its request, what to read that with, and whether it was the request's only event."""
    event = events.find(conn, workspace_id, event_id)
    if event.inbox_id is None or event.integration_id is None:
        return event, None, None, False
    row = inbox.body_of(conn, workspace_id, event.inbox_id)
    readers = _readers(conn, [event.integration_id])
    is_alone = not events.known(conn, [_id_of(event.inbox_id, 1)])
    return event, row, readers.get((workspace_id, event.integration_id)), is_alone
