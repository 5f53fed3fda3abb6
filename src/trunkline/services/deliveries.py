"""Outgoing messages as rows: planned, listed, sent again when asked. Whose turn it is, `claims.py` decides.

A delivery is one event on one route. Its destination is where routes with the same target meet.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.catalog.manifest import Notify
from trunkline.context import Context
from trunkline.db import insert
from trunkline.errors import Conflict, NotFound
from trunkline.ids import new_id
from trunkline.tables import Time, deliveries, delivery_attempts, destinations, events, routes

BURST_SECONDS = 0.2
"""So much of a second's messages through one integration may leave at once."""


IS_PENDING = deliveries.c.state == sa.literal_column("'pending'")  # literal, or no partial index is used


class Planned(NamedTuple):
    """One event on one route, about to become a delivery."""

    event_id: str
    sequence: int
    route_id: str
    destination_id: str


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
    statement = insert(conn.dialect.name, deliveries)
    conn.execute(statement.on_conflict_do_nothing(index_elements=["route_id", "event_id"]), rows)
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
        label: what people call it, such as "pager through the team's chat".
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
    statement = insert(conn.dialect.name, destinations).values(
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


def move(conn: Connection, route_id: str, old_id: str, new_id: str, now: datetime) -> None:
    """Let what waits on a route go to its new destination, as when its target was changed."""
    waiting = sa.and_(deliveries.c.destination_id == old_id, IS_PENDING, deliveries.c.route_id == route_id)
    conn.execute(sa.update(deliveries).where(waiting).values(destination_id=new_id, due_at=now))
    call_up(conn, {new_id: now})


def reopen(conn: Connection, destination_id: str, now: datetime) -> None:
    """Forget what failed at a destination, and give it a turn."""
    conn.execute(
        sa.update(destinations)
        .where(destinations.c.id == destination_id)
        .values(failures=0, failing_since=None, disabled_at=None, open_at=None)
    )
    call_up(conn, {destination_id: now})


STATES = ("pending", "sending", "delivered", "failed", "cancelled")
"""Waiting for its time; under way; taken; given up after the last attempt; not sent since its route went."""
MAX_ATTEMPTS_SHOWN = 100
_MAX_COUNTED = 10_000
_RECOVERED_AT_ONCE = 500
_NOT_FOUND = "Delivery not found"
_ANEW = {"state": "pending", "failures": 0, "finished_at": None}
_SHOWN = (
    *(deliveries.c[name] for name in ("id", "event_id", "route_id", "state")),
    deliveries.c.attempts.label("attempt_count"),
    *(
        deliveries.c[name]
        for name in ("failures", "due_at", "last_status", "last_error", "created_at", "finished_at")
    ),
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on one route, and how far it has come."""

    id: str
    event_id: str
    route_id: str
    state: str
    attempt_count: int
    failures: int
    due_at: datetime
    last_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a delivery; `trace` is redacted and cut."""

    number: int
    started_at: datetime
    duration_ms: float | None
    status: int | None
    error: str | None
    trace: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to list: every part is optional."""

    state: str | None = None
    route_id: str | None = None
    event_id: str | None = None
    since: datetime | None = None


class Page(NamedTuple):
    """A slice of a list; `total` is None when there are more than are worth counting."""

    items: list[Delivery]
    total: int | None
    more: bool


async def list_page(ctx: Context, wanted: Filter, limit: int, offset: int) -> Page:
    """List deliveries, newest first."""
    where = _where(ctx, wanted)
    query = sa.select(*_SHOWN).where(where).order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc())
    some = sa.select(sa.literal(1)).select_from(deliveries).where(where).limit(_MAX_COUNTED + 1)

    def read(conn: Connection) -> Page:
        rows = conn.execute(query.slice(offset, offset + limit + 1)).all()
        total = int(conn.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0)
        items = [Delivery(*row) for row in rows[:limit]]
        return Page(items, total if total <= _MAX_COUNTED else None, len(rows) > limit)

    return await ctx.app.db.read(read)


def _where(ctx: Context, wanted: Filter) -> sa.ColumnElement[bool]:
    parts = [deliveries.c.workspace_id == ctx.workspace_id]
    if wanted.state is not None:
        # literal, so that the index of this state is used; it is one of STATES
        parts.append(deliveries.c.state == sa.literal_column(f"'{wanted.state}'"))
    if wanted.route_id is not None:
        parts.append(deliveries.c.route_id == wanted.route_id)
    if wanted.event_id is not None:
        parts.append(deliveries.c.event_id == wanted.event_id)
    if wanted.since is not None:
        parts.append(deliveries.c.created_at >= wanted.since)
    return sa.and_(*parts)


def _by_id(ctx: Context, delivery_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(deliveries.c.workspace_id == ctx.workspace_id, deliveries.c.id == delivery_id)


async def get(ctx: Context, delivery_id: str) -> tuple[Delivery, list[Attempt]]:
    """Return a delivery and its newest attempts, in their order.

    Raises:
        NotFound: absent, or another workspace's.
    """
    tries = delivery_attempts.c
    query = sa.select(
        tries.number, tries.started_at, tries.duration_ms, tries.status, tries.error, tries.trace
    ).where(tries.delivery_id == delivery_id)
    query = query.order_by(tries.number.desc()).limit(MAX_ATTEMPTS_SHOWN)

    def read(conn: Connection) -> tuple[Delivery, list[Attempt]]:
        row = conn.execute(sa.select(*_SHOWN).where(_by_id(ctx, delivery_id))).one_or_none()
        if row is None:
            raise NotFound(_NOT_FOUND)
        return Delivery(*row), [Attempt(*each) for each in reversed(conn.execute(query).all())]

    return await ctx.app.db.read(read)


async def resend(ctx: Context, delivery_id: str) -> Delivery:
    """Send a delivery again, at once and with its whole schedule before it, under the same id.

    Raises:
        NotFound
        Conflict: it is being sent right now, or its route is gone or switched off, or its event is not kept any more.
    """
    query = sa.select(deliveries.c.state, deliveries.c.destination_id).where(_by_id(ctx, delivery_id))

    def write(conn: Connection) -> Delivery:
        row = conn.execute(query.with_for_update()).one_or_none()
        if row is None:
            raise NotFound(_NOT_FOUND)
        if row.state == "sending":
            raise Conflict("This delivery is being sent right now; look again in a minute.")
        is_one = deliveries.c.id == delivery_id
        if conn.scalar(sa.select(sa.literal(1)).where(is_one, _CAN_BE_SENT)) is None:
            raise Conflict(
                "This delivery cannot be sent again: its route is deleted or switched off, or its event is not kept any more."
            )
        conn.execute(sa.update(deliveries).where(is_one).values(due_at=ctx.now, queued_at=ctx.now, **_ANEW))
        reopen(conn, row.destination_id, ctx.now)
        return Delivery(*conn.execute(sa.select(*_SHOWN).where(is_one)).one())

    sent = await ctx.app.db.write(write)
    ctx.app.bells.deliveries.ring()
    return sent


_CAN_BE_SENT = sa.and_(
    sa.exists().where(routes.c.id == deliveries.c.route_id, routes.c.enabled),
    sa.exists().where(events.c.id == deliveries.c.event_id),
)


async def recover(ctx: Context, since: datetime, route_id: str | None = None) -> int:
    """Send again what was given up and made since a time, of one route or of all; return how many.

    What belongs to a route that is deleted or switched off, or to an event that is not kept any more, stays failed.
    """
    started_at, count = ctx.now, 0
    while True:
        done = await ctx.app.db.write(lambda conn: _recover_some(conn, ctx, since, route_id, started_at))
        ctx.app.bells.deliveries.ring()
        count += done
        if done < _RECOVERED_AT_ONCE:
            return count


def _recover_some(
    conn: Connection, ctx: Context, since: datetime, route_id: str | None, before: datetime
) -> int:
    where = _where(ctx, Filter(state="failed", route_id=route_id, since=since))
    found = conn.execute(
        sa.select(deliveries.c.id, deliveries.c.destination_id)
        # what fails again meanwhile waits for the next call
        .where(where, deliveries.c.finished_at <= before, _CAN_BE_SENT)
        .order_by(deliveries.c.created_at, deliveries.c.id)
        .limit(_RECOVERED_AT_ONCE)
        .with_for_update(skip_locked=True, of=deliveries)
    ).all()
    if found:
        conn.execute(_REQUEUE, [{"delivery": row.id, "now": ctx.now} for row in found])
    for destination_id in sorted({row.destination_id for row in found}):
        reopen(conn, destination_id, ctx.now)
    return len(found)


_REQUEUE = (
    sa.update(deliveries)
    .where(deliveries.c.id == sa.bindparam("delivery"))
    .values(due_at=_NOW, queued_at=_NOW, **_ANEW)
)
