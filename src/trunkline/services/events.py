"""The event log: one append-only list per workspace, each event with the next number. Reading it, and keeping it short.

Whoever reads on from the log (routing, incidents, streams) asks for what is after a number; numbers become visible
in their order, because each workspace's are given out under a lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from trunkline.ids import new_id
from trunkline.tables import event_logs, events

OWN_SOURCE = "/trunkline"
"""CloudEvents `source` of what Trunkline itself says; an integration's is `/integrations/{id}`."""
SEVERITIES = ("critical", "high", "medium", "low", "info")
ACTIONS = ("trigger", "acknowledge", "resolve")


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


_INSERT = sa.insert(events)
_COLUMNS = tuple(column.name for column in events.c)


def append(conn: Connection, workspace_id: str, new: Sequence[NewEvent], now: datetime) -> int:
    """Append events to a workspace's log, inside the caller's transaction, and return the last number.

    The caller rings `app.bells.events` once the transaction is committed.
    """
    last = _take_numbers(conn, workspace_id, len(new))
    rows = [
        {name: getattr(event, name) for name in NewEvent.__dataclass_fields__}
        | {"workspace_id": workspace_id, "sequence": last - len(new) + index, "received_at": now}
        for index, event in enumerate(new, 1)
    ]
    if rows:
        conn.execute(_INSERT, rows)
    return last


def _take_numbers(conn: Connection, workspace_id: str, count: int) -> int:
    insert: Any = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
    statement = insert(event_logs).values(workspace_id=workspace_id, last_sequence=count)
    statement = statement.on_conflict_do_update(
        index_elements=["workspace_id"],
        set_={"last_sequence": event_logs.c.last_sequence + statement.excluded.last_sequence},
    )
    return int(conn.scalar(statement.returning(event_logs.c.last_sequence)) or 0)


def from_row(row: sa.RowMapping) -> Event:
    """Read an event as it is stored."""
    return Event(**{name: row[name] for name in _COLUMNS})


def read_after(conn: Connection, workspace_id: str, sequence: int, limit: int) -> list[Event]:
    """Return the events after a number, in their order."""
    query = (
        sa.select(events)
        .where(events.c.workspace_id == workspace_id, events.c.sequence > sequence)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [from_row(row) for row in conn.execute(query).mappings()]


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
