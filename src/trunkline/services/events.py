"""The event log: one append-only list per workspace, each event with the next number. What is appended to it, and how it is read.

Whoever reads on from the log (routing, incidents, streams) asks for what is after a number; numbers become visible
in their order, because each workspace's are given out under a lock. None is left out, and the oldest go first: the
events that are kept are always those of one unbroken run of numbers. Following it is `streams.py`'s,
keeping it short `retention.py`'s.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.db import insert
from trunkline.errors import NotFound
from trunkline.ids import new_id
from trunkline.tables import event_logs, events

OWN_SOURCE = "/trunkline"
"""CloudEvents `source` of what Trunkline itself says; an integration's is `/integrations/{id}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """One fact, about to be appended."""

    type: str
    time: datetime
    data: Any
    source: str = OWN_SOURCE
    id: str = field(default_factory=new_id)
    subject: str | None = None
    title: str | None = None
    project: str | None = None
    severity: str | None = None
    dedup_key: str | None = None
    action: str | None = None
    url: str | None = None
    integration_id: str | None = None
    error: str | None = None
    inbox_id: str | None = None
    replay_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(NewEvent):
    """One fact of the log."""

    workspace_id: str
    sequence: int
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to list: every part is optional. Times are those at which Trunkline took an event in."""

    type: str | None = None
    """May hold `*` for any run of characters."""
    integration_id: str | None = None
    project: str | None = None
    severity: str | None = None
    subject: str | None = None
    dedup_key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    errors: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Events, and the number before which the list goes on; None at its end."""

    items: list[Event]
    before: int | None


_INSERT = sa.insert(events)
_NEW = tuple(NewEvent.__dataclass_fields__)
_COLUMNS = tuple(column.name for column in events.c)
SHOWN = [
    sa.type_coerce(column, sa.Text).label(column.name) if column.name == "data" else column
    for column in events.c
]
"""The columns of an event; its data as the text that is stored, for `take`."""
# A page may end early, and a long search is several reads, so that no list holds up others or fills the memory.
_PAGE_BYTES = 4 * 1024 * 1024
_WINDOW = 20_000
_WINDOWS = 10
_EXACT = ("integration_id", "project", "severity", "subject", "dedup_key")
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_SKEW = timedelta(minutes=1)  # clocks of several hubs differ, so times may go back a little along the numbers


def append(conn: Connection, workspace_id: str, new: Sequence[NewEvent], now: datetime) -> int:
    """Append events to a workspace's log, inside the caller's transaction, and return the last number.

    The caller rings `app.bells.events` once the transaction is committed.
    """
    return append_all(conn, {workspace_id: new}, now)[workspace_id]


def append_all(conn: Connection, new: Mapping[str, Sequence[NewEvent]], now: datetime) -> dict[str, int]:
    """Append events to several workspaces' logs, as `append` does, and return the last number of each."""
    rows: list[dict[str, Any]] = []
    last: dict[str, int] = {}
    for workspace_id in sorted(new):  # in one order everywhere, so that no two wait for each other
        found = new[workspace_id]
        last[workspace_id] = number = _take_numbers(conn, workspace_id, len(found))
        for sequence, event in enumerate(found, number - len(found) + 1):
            row = {name: getattr(event, name) for name in _NEW}
            row["data"] = {} if event.data is None else event.data
            rows.append(row | {"workspace_id": workspace_id, "sequence": sequence, "received_at": now})
    if rows:
        conn.execute(_INSERT, rows)
    return last


def _taking(dialect: str) -> Any:
    statement = insert(dialect, event_logs).values(
        workspace_id=sa.bindparam("workspace"), last_sequence=sa.bindparam("count")
    )
    statement = statement.on_conflict_do_update(
        index_elements=["workspace_id"],
        set_={"last_sequence": event_logs.c.last_sequence + statement.excluded.last_sequence},
    )
    return statement.returning(event_logs.c.last_sequence)


_TAKE = {dialect: _taking(dialect) for dialect in ("sqlite", "postgresql")}


def _take_numbers(conn: Connection, workspace_id: str, count: int) -> int:
    return int(conn.scalar(_TAKE[conn.dialect.name], {"workspace": workspace_id, "count": count}) or 0)


def from_row(row: sa.RowMapping) -> Event:
    """Read an event as it is stored."""
    return Event(**{name: row[name] for name in _COLUMNS})


_AFTER = (
    sa.select(events)
    .where(events.c.workspace_id == sa.bindparam("workspace"), events.c.sequence > sa.bindparam("after"))
    .order_by(events.c.sequence)
    .limit(sa.bindparam("most"))
)


def read_after(conn: Connection, workspace_id: str, sequence: int, limit: int) -> list[Event]:
    """Return the events after a number, in their order."""
    given = {"workspace": workspace_id, "after": sequence, "most": limit}
    return [from_row(row) for row in conn.execute(_AFTER, given).mappings()]


def take(
    conn: Connection, query: sa.Select[Any], given: Mapping[str, Any], limit: int, most_bytes: int
) -> tuple[list[Event], bool]:
    """Read events of a query of `SHOWN` until there are `limit` or so many bytes of data; tell whether there are more."""
    options = {"stream_results": True, "max_row_buffer": 8}  # else the driver would fetch all of it
    found: list[Event] = []
    size = 0
    with conn.execute(query.limit(limit + 1), given, execution_options=options) as result:
        for row in result.mappings():
            if len(found) == limit or size > most_bytes:
                return found, True
            size += len(row["data"])
            found.append(Event(**{**row, "data": orjson.loads(row["data"])}))
    return found, False


_BY_ID = sa.select(events).where(
    events.c.workspace_id == sa.bindparam("workspace"), events.c.id == sa.bindparam("event")
)


def find(conn: Connection, workspace_id: str, event_id: str) -> Event:
    """Return one event.

    Raises:
        NotFound: absent, forgotten, or another workspace's.
    """
    given = {"workspace": workspace_id, "event": event_id}
    row = conn.execute(_BY_ID, given).mappings().one_or_none()
    if row is None:
        raise NotFound("Event not found")
    return from_row(row)


async def get(ctx: Context, event_id: str) -> Event:
    """Return one event of the caller's workspace, as `find` does."""
    return await ctx.app.db.read(partial(find, workspace_id=ctx.workspace_id, event_id=event_id))


_KNOWN = sa.select(events.c.id).where(events.c.id.in_(sa.bindparam("ids", expanding=True)))


def known(conn: Connection, ids: Collection[str]) -> set[str]:
    """Return those of some ids that events have already."""
    return set(conn.scalars(_KNOWN, {"ids": list(ids)})) if ids else set()


def type_fits(pattern: str, dialect: str) -> sa.ColumnElement[bool]:
    """Return the condition that an event's type fits a pattern: `*` is any run of characters, case counts."""
    if "*" not in pattern:
        return events.c.type == pattern
    parts = re.split(r"\*+", pattern)
    if dialect == "sqlite":  # whose LIKE does not tell cases apart
        return events.c.type.op("GLOB")("*".join(re.sub(r"[?\[]", r"[\g<0>]", part) for part in parts))
    return events.c.type.like("%".join(re.sub(r"[\\%_]", r"\\\g<0>", part) for part in parts), escape="\\")


async def list_page(ctx: Context, wanted: Filter, limit: int, before: int | None = None) -> Page:
    """List events, newest first, those before a number.

    A page may hold fewer than `limit` and still be followed by others: when its events are large, or when a long
    part of the log was searched for few.
    """
    read = ctx.app.db.read
    low, high = await read(partial(_span, workspace_id=ctx.workspace_id, wanted=wanted, before=before))
    conditions = _conditions(ctx, wanted)
    is_indexed = len(conditions) == 1 or (len(conditions) == 2 and wanted.type and "*" not in wanted.type)
    found: list[Event] = []
    for _ in range(_WINDOWS):
        if high <= low:
            return Page(found, None)
        bottom = low if is_indexed else max(low, high - _WINDOW)
        query = sa.select(*SHOWN).where(*conditions, events.c.sequence >= bottom, events.c.sequence < high)
        query = query.order_by(events.c.sequence.desc())
        part, more = await read(
            partial(take, query=query, given={}, limit=limit - len(found), most_bytes=_PAGE_BYTES)
        )
        found += part
        high = found[-1].sequence if more else bottom
        if more or len(found) == limit:
            break
    return Page(found, high if high > low else None)


def _conditions(ctx: Context, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    conditions = [events.c.workspace_id == ctx.workspace_id]
    if wanted.type is not None:
        conditions.append(type_fits(wanted.type, ctx.app.db.dialect))
    conditions += [events.c[name] == value for name in _EXACT if (value := getattr(wanted, name)) is not None]
    if wanted.since is not None:
        conditions.append(events.c.received_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(events.c.received_at < wanted.until)
    if wanted.errors:
        conditions.append(events.c.error.is_not(None))
    return conditions


def _span(conn: Connection, workspace_id: str, wanted: Filter, before: int | None) -> tuple[int, int]:
    """Return the first number to look at and the one after the last."""
    first = oldest(conn, workspace_id)
    end = last_sequence(conn, workspace_id) + 1
    if first is None:
        return end, end
    low, high = first, end
    if wanted.since is not None:
        low = _number_at(conn, workspace_id, first, end, max(wanted.since, _EARLIEST) - _SKEW)
    if wanted.until is not None:
        high = _number_at(conn, workspace_id, first, end, min(wanted.until, _LATEST) + _SKEW)
    return low, high if before is None else min(high, before)


_LAST = sa.select(event_logs.c.last_sequence).where(event_logs.c.workspace_id == sa.bindparam("workspace"))
_NEXT = (
    sa.select(events.c.sequence, events.c.received_at)
    .where(events.c.workspace_id == sa.bindparam("workspace"), events.c.sequence >= sa.bindparam("at"))
    .order_by(events.c.sequence)
    .limit(1)
)


def last_sequence(conn: Connection, workspace_id: str) -> int:
    """Return the number given out last; 0 when there was none."""
    return int(conn.scalar(_LAST, {"workspace": workspace_id}) or 0)


def oldest(conn: Connection, workspace_id: str, at: int = 0) -> int | None:
    """Return the first number from `at` on whose event is kept."""
    number = conn.scalar(_NEXT, {"workspace": workspace_id, "at": at})
    return None if number is None else int(number)


def _number_at(conn: Connection, workspace_id: str, low: int, high: int, time: datetime) -> int:
    """Return the first number whose event came in at a time or later, found by halving."""
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(_NEXT, {"workspace": workspace_id, "at": middle}).one_or_none()
        if row is not None and row.received_at < time:
            low = row.sequence + 1
        else:
            high = middle
    return low


def to_cloud_event(event: Event) -> dict[str, Any]:
    """Write an event as CloudEvents 1.0, JSON format; what CloudEvents does not name are extension attributes."""
    shown: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": "application/json",
        "sequence": str(event.sequence),
        "receivedtime": event.received_at,
        "title": event.title,
        "project": event.project,
        "severity": event.severity,
        "dedupkey": event.dedup_key,
        "action": event.action,
        "url": event.url,
        "integrationid": event.integration_id,
        "error": event.error,
        "replayof": event.replay_of,
    }
    return {name: value for name, value in shown.items() if value is not None} | {"data": event.data}
