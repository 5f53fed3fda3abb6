"""Outgoing messages as rows: planned, listed, sent again when asked. Whose turn it is, `claims.py` decides.

A delivery is one event on one route. Its destination is where routes with the same target meet.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from trunkline.catalog.manifest import Notify
from trunkline.ids import new_id
from trunkline.tables import Time, deliveries, destinations

BURST_SECONDS = 0.2
"""So much of a second's messages through one integration may leave at once."""


IS_PENDING = deliveries.c.state == sa.literal_column("'pending'")  # literal, or no partial index is used


class Planned(NamedTuple):
    """One event on one route, about to become a delivery."""

    event_id: str
    sequence: int
    route_id: str
    destination_id: str


def _insert(conn: Connection, table: sa.Table) -> Any:
    return (sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert)(table)


def plan(conn: Connection, workspace_id: str, planned: Sequence[Planned], now: datetime) -> None:
    """Make deliveries that are due at once, inside the caller's transaction; an event is on a route only once.

    The caller rings `app.bells.deliveries` once the transaction is committed.
    """
    if not planned:
        return
    rows = [
        {
            "id": new_id(),
            "workspace_id": workspace_id,
            "event_id": item.event_id,
            "event_sequence": item.sequence,
            "route_id": item.route_id,
            "destination_id": item.destination_id,
            "state": "pending",
            "due_at": now,
            "attempts": 0,
            "failures": 0,
            "queued_at": now,
            "created_at": now,
        }
        for item in planned
    ]
    conn.execute(
        _insert(conn, deliveries).on_conflict_do_nothing(index_elements=["route_id", "event_id"]), rows
    )
    call_up(conn, dict.fromkeys((item.destination_id for item in planned), now))


_NOW: sa.BindParameter[datetime] = sa.bindparam("now", type_=Time)
_TURN = sa.case((destinations.c.next_turn_at < _NOW, destinations.c.next_turn_at), else_=_NOW)
_CALL_UP = (
    sa.update(destinations)
    .where(destinations.c.id == sa.bindparam("destination"))
    .values(next_turn_at=sa.case((destinations.c.open_at > _TURN, destinations.c.open_at), else_=_TURN))
)


def call_up(conn: Connection, turns: Mapping[str, datetime]) -> None:
    """Give destinations their turn no later than told, but for those that may not be sent to before."""
    # In one order everywhere: transactions that lock several never wait for each other in a circle.
    rows = [{"destination": each, "now": turns[each]} for each in sorted(turns)]
    if rows:
        conn.execute(_CALL_UP, rows)


def move(conn: Connection, route_id: str, old_id: str, new_id: str, now: datetime) -> None:
    """Let what waits on a route go to its new destination, as when its target was changed."""
    waiting = sa.and_(deliveries.c.destination_id == old_id, IS_PENDING, deliveries.c.route_id == route_id)
    conn.execute(sa.update(deliveries).where(waiting).values(destination_id=new_id, due_at=now))
    call_up(conn, {new_id: now})


def ensure_destination(
    conn: Connection,
    destination_id: str,
    workspace_id: str,
    label: str,
    *,
    integration_id: str | None = None,
    connector: str | None = None,
    notify: Notify | None = None,
) -> None:
    """Make a route's destination known, with its limits; one that was switched off begins anew.

    Args:
        label: what people call it, such as "C0PAGER through Slack".
        connector: of a `notify` target; with its `integration_id`, or None for the workspace's oldest.
        notify: the connector's.
    """
    pace_id = None
    if notify is not None and notify.per_second is not None:
        pace_id = integration_id or hashlib.sha256(f"{workspace_id}\0{connector}".encode()).hexdigest()
        # What a burst may take at once is taken from the second, so that no second has more than was said.
        between = (1 + BURST_SECONDS) / notify.per_second
        _put(conn, pace_id, workspace_id, "", between, integration_id=integration_id)
    between = notify.channel_seconds if notify is not None else 0.0
    _put(conn, destination_id, workspace_id, label, between, integration_id=integration_id, pace_id=pace_id)


def _put(
    conn: Connection, destination_id: str, workspace_id: str, label: str, between: float, **more: Any
) -> None:
    given = {"label": label, "seconds_between": between, **more}
    statement = _insert(conn, destinations).values(
        id=destination_id, workspace_id=workspace_id, failures=0, **given
    )
    is_off = destinations.c.disabled_at.is_not(None)
    reset = {
        "failures": sa.case((is_off, 0), else_=destinations.c.failures),
        **{
            name: sa.case((is_off, None), else_=destinations.c[name])
            for name in ("open_at", "failing_since", "disabled_at")
        },
    }
    conn.execute(statement.on_conflict_do_update(index_elements=["id"], set_={**given, **reset}))


def cancel(conn: Connection, route_id: str, now: datetime) -> None:
    """Give up what waits to be sent by a route that goes."""
    conn.execute(
        sa.update(deliveries)
        .where(deliveries.c.route_id == route_id, deliveries.c.state == "pending")
        .values(state="cancelled", finished_at=now, last_error="The route was deleted.")
    )


def reopen(conn: Connection, destination_id: str, now: datetime) -> None:
    """Forget what failed at a destination, and give it a turn."""
    conn.execute(
        sa.update(destinations)
        .where(destinations.c.id == destination_id)
        .values(failures=0, failing_since=None, disabled_at=None, open_at=None)
    )
    call_up(conn, {destination_id: now})
