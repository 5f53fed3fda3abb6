"""Reading on from the event log: which routes each new event matches, and the deliveries that follow from it."""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import log
from trunkline.context import App, Context
from trunkline.db import insert
from trunkline.errors import Invalid
from trunkline.services import deliveries, events, routes
from trunkline.services.deliveries import Planned
from trunkline.services.events import Event, NewEvent
from trunkline.services.matching import Matcher, Pattern, Rule, compile_conditions
from trunkline.services.routes import Route
from trunkline.tables import event_logs, event_readers
from trunkline.tables import events as event_table
from trunkline.tables import routes as route_table

READER = "routing"
BATCH = 500
"""Most events routed in one go."""
MOST_PLANNED = 2_000
"""A batch ends after the event that reaches so many deliveries."""
CHUNK = 50
"""Most whole events in memory at once."""
DRY_RUN_EVENTS = 1_000
DRY_RUN_SHOWN = 20
_WORKSPACES = 100
_TYPES_NAMED = 10
T = TypeVar("T")
_LOG = log.get("trunkline.routing")


class Head(NamedTuple):
    """What is read of every event: enough for most routes, however large its data."""

    sequence: int
    id: str
    type: str
    project: str | None


class _Matching(NamedTuple):
    """A workspace's routes as they were when `mark` was read."""

    mark: tuple[int, ...]
    matcher: Matcher[Route]


_OF_WORKSPACE = route_table.c.workspace_id == sa.bindparam("workspace_id")
_UPDATED = sa.type_coerce(route_table.c.updated_at, sa.BigInteger)
# Any change shows in one of these, whatever the clocks of other workers say.
_MARK = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.max(_UPDATED), 0),
    sa.func.coalesce(sa.func.sum(_UPDATED % 1_000_000_007), 0),
).where(_OF_WORKSPACE)
_ROUTES = sa.select(route_table).where(_OF_WORKSPACE, route_table.c.enabled)
_AT = sa.select(event_readers.c.sequence).where(
    event_readers.c.reader == READER, event_readers.c.workspace_id == sa.bindparam("workspace_id")
)
_ANY_HEAD = sa.select(
    event_table.c.sequence, event_table.c.id, event_table.c.type, event_table.c.project
).where(event_table.c.workspace_id == sa.bindparam("workspace_id"))
_HEADS = (
    _ANY_HEAD.where(event_table.c.sequence > sa.bindparam("after"))
    .order_by(event_table.c.sequence)
    .limit(BATCH)
)
_NEWEST = _ANY_HEAD.order_by(event_table.c.sequence.desc()).limit(DRY_RUN_EVENTS)
_WHOLE = (
    sa.select(event_table)
    .where(event_table.c.workspace_id == sa.bindparam("workspace_id"))
    .where(event_table.c.sequence.in_(sa.bindparam("sequences", expanding=True)))
)
_BEHIND = sa.func.coalesce(event_readers.c.sequence, 0)
_NEWS = (
    sa.select(event_logs.c.workspace_id)
    .outerjoin(
        event_readers,
        sa.and_(event_readers.c.workspace_id == event_logs.c.workspace_id, event_readers.c.reader == READER),
    )
    .where(event_logs.c.last_sequence > _BEHIND)
    .limit(_WORKSPACES)
)
_ADVANCE = (
    sa.update(event_readers)
    .where(event_readers.c.reader == READER, event_readers.c.workspace_id == sa.bindparam("of_workspace"))
    .where(event_readers.c.sequence == sa.bindparam("from_sequence"))
    .values(sequence=sa.bindparam("to_sequence"))
)
_LIVE = (
    sa.select(route_table.c.id, route_table.c.destination_id)
    .where(route_table.c.id.in_(sa.bindparam("ids", expanding=True)), route_table.c.enabled)
    .order_by(route_table.c.id)
    # Whoever deletes a route meanwhile waits, and then cancels what is planned here.
    .with_for_update(read=True)
)


async def route_due(app: App) -> bool:
    """Plan deliveries for the events that no route was looked up for yet, a batch of each workspace; tell whether more is left."""
    waiting = list(await app.db.read(lambda conn: conn.execute(_NEWS).scalars().all()))
    random.shuffle(waiting)  # several workers begin at different workspaces
    more = [await _route(app, workspace_id) for workspace_id in waiting]
    return any(more) or len(waiting) == _WORKSPACES


class _News(NamedTuple):
    """What one look at a workspace's log found: from which number on, up to which there are any."""

    after: int
    last: int
    mark: tuple[int, ...]
    heads: list[Head]
    routes: list[Route] | None
    """None when they are as they were."""


async def _route(app: App, workspace_id: str) -> bool:
    known: _Matching | None = app.matchers.get(workspace_id)
    news = await app.db.read(lambda conn: _look(conn, workspace_id, known))
    matcher = _remembered(app, workspace_id, news.mark, news.routes, known)
    to, planned = news.last, list[Planned]()
    if news.heads:  # else there is no route, or the events are gone already
        to, planned = await _match_all(app, workspace_id, matcher, news.heads)
        if len(news.heads) < BATCH and to == news.heads[-1].sequence:
            to = max(to, news.last)
    if to <= news.after:
        return False
    step, now = _Step(workspace_id, news.after, to), app.clock.now()
    if not await app.db.write(lambda conn: _plan(conn, step, planned, now)):
        return False  # another worker was quicker
    if planned:
        app.bells.deliveries.ring()
    return to < news.last


def _look(conn: Connection, workspace_id: str, known: _Matching | None) -> _News:
    """Read what is new, and the routes if they changed, in one snapshot: no event misses a route made before it."""
    given = {"workspace_id": workspace_id}
    mark, changed = _read_routes(conn, workspace_id, known)
    after = int(conn.scalar(_AT, given) or 0)
    has_routes = bool(changed) if changed is not None else bool(known and known.matcher)
    heads = conn.execute(_HEADS, given | {"after": after}).all() if has_routes else []
    last = events.last_sequence(conn, workspace_id)
    return _News(after, last, mark, [Head(*row) for row in heads], changed)


def _read_routes(
    conn: Connection, workspace_id: str, known: _Matching | None
) -> tuple[tuple[int, ...], list[Route] | None]:
    """Return the mark of a workspace's routes, and the routes; None when they are as they were."""
    given = {"workspace_id": workspace_id}
    mark = tuple(int(number) for number in conn.execute(_MARK, given).one())
    if known is not None and known.mark == mark:
        return mark, None
    return mark, [routes.from_row(row) for row in conn.execute(_ROUTES, given).mappings()]


def _remembered(
    app: App, workspace_id: str, mark: tuple[int, ...], found: list[Route] | None, known: _Matching | None
) -> Matcher[Route]:
    if found is None and known is not None:
        return known.matcher
    matcher = Matcher(rule for route in found or () for rule in _rule(route))
    app.matchers.put(workspace_id, _Matching(mark, matcher))
    return matcher


def _rule(route: Route) -> list[Rule[Route]]:
    try:
        conditions = compile_conditions(route.conditions)
        return [Rule(route, Pattern.compile(route.event_type), route.project_id, conditions)]
    except (Invalid, ValueError) as error:  # stored by a version that took more
        _LOG.error("route matches nothing: it is not valid any more", route=route.id, problem=str(error))
        return []


async def _match_all(
    app: App, workspace_id: str, matcher: Matcher[Route], heads: Sequence[Head]
) -> tuple[int, list[Planned]]:
    """Match events in their order; return the number of the last one, and what follows from them."""
    planned: list[Planned] = []
    for start in range(0, len(heads), CHUNK):
        for head, found in await _match_few(app, workspace_id, matcher, heads[start : start + CHUNK]):
            planned += [
                Planned(head.id, head.sequence, route.id, route.destination_id)
                for route in found
                if route.after_sequence < head.sequence and not is_echo(route, head.type)
            ]
            if len(planned) >= MOST_PLANNED:
                return head.sequence, planned
        await asyncio.sleep(0)  # others may run
    return heads[-1].sequence, planned


def is_echo(route: Route, event_type: str) -> bool:
    """Tell whether an event comes from the kind of service the route sends through, which its pattern does not name in full.

    A service may tell of our own message: without this a route for everything would feed itself.
    """
    connector = route.target.get("connector")
    return connector is not None and "*" in route.event_type and event_type.startswith(f"{connector}.")


async def _match_few(
    app: App, workspace_id: str, matcher: Matcher[T], heads: Sequence[Head]
) -> list[tuple[Head, list[T]]]:
    """Match a few events; those that conditions look into are read as a whole."""
    closer = {head.sequence for head in heads if matcher.looks_closer(head.type, head.project)}
    whole = await _read_whole(app, workspace_id, closer) if closer else {}
    return [
        (head, matcher.match(head.type, head.project, partial(_document, whole, head.sequence)))
        for head in heads
        if head.sequence not in closer or head.sequence in whole
    ]


def _document(whole: Mapping[int, Event], sequence: int) -> dict[str, Any]:
    return to_document(whole[sequence])


async def _read_whole(app: App, workspace_id: str, sequences: Collection[int]) -> dict[int, Event]:
    given = {"workspace_id": workspace_id, "sequences": list(sequences)}
    rows = await app.db.read(lambda conn: conn.execute(_WHOLE, given).mappings().all())
    return {row["sequence"]: events.from_row(row) for row in rows}


def to_document(event: Event) -> dict[str, Any]:
    """Show an event as conditions see it: as it is on the wire."""
    shown = events.to_cloud_event(event)
    return {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in shown.items()
    }


class _Step(NamedTuple):
    """How far the reader goes in one transaction."""

    workspace_id: str
    after: int
    to: int


def _plan(conn: Connection, step: _Step, planned: Sequence[Planned], now: datetime) -> bool:
    """Take the reader forward and plan, both or neither; False when somebody else has taken it on."""
    if step.after == 0:
        first = insert(conn.dialect.name, event_readers).values(
            reader=READER, workspace_id=step.workspace_id, sequence=0
        )
        conn.execute(first.on_conflict_do_nothing())
    to = {"of_workspace": step.workspace_id, "from_sequence": step.after, "to_sequence": step.to}
    if conn.execute(_ADVANCE, to).rowcount != 1:
        return False
    if planned:
        ids = sorted({item.route_id for item in planned})
        live: dict[str, str] = {row.id: row.destination_id for row in conn.execute(_LIVE, {"ids": ids})}
        kept = [
            item._replace(destination_id=live[item.route_id]) for item in planned if item.route_id in live
        ]
        deliveries.plan(conn, step.workspace_id, kept, now)
    return True


async def matching(app: App, workspace_id: str, event: NewEvent) -> list[Route]:
    """Return the routes that an event would take now."""
    known: _Matching | None = app.matchers.get(workspace_id)
    mark, changed = await app.db.read(partial(_read_routes, workspace_id=workspace_id, known=known))
    matcher = _remembered(app, workspace_id, mark, changed, known)
    now = app.clock.now()
    fields = {name: getattr(event, name) for name in NewEvent.__dataclass_fields__}
    whole = Event(**fields, workspace_id=workspace_id, sequence=0, received_at=now)
    found = matcher.match(event.type, event.project, lambda: to_document(whole))
    return [route for route in found if not is_echo(route, event.type)]


@dataclass(frozen=True, slots=True)
class DryRun:
    """Which of the newest events a route would have taken."""

    matched: int
    looked_at: int
    events: list[Event]
    """The newest of them."""
    warning: str | None


async def dry_run(
    ctx: Context, pattern: str, project: str | None, conditions: Sequence[Mapping[str, Any]]
) -> DryRun:
    """Tell which of the newest 1,000 events a route would have taken; `warning` when there is none.

    Raises:
        Invalid: naming each field at fault.
    """
    routes.check_filter(pattern, conditions)
    rule = Rule(None, Pattern.compile(pattern), project or None, compile_conditions(conditions))
    matcher, given = Matcher([rule]), {"workspace_id": ctx.workspace_id}
    rows = await ctx.app.db.read(lambda conn: conn.execute(_NEWEST, given).all())
    heads, matched = [Head(*row) for row in rows], []
    for start in range(0, len(heads), CHUNK):
        part = await _match_few(ctx.app, ctx.workspace_id, matcher, heads[start : start + CHUNK])
        matched += [head.sequence for head, found in part if found]
    whole = await _read_whole(ctx.app, ctx.workspace_id, matched[:DRY_RUN_SHOWN])
    shown = [whole[sequence] for sequence in matched[:DRY_RUN_SHOWN] if sequence in whole]
    return DryRun(len(matched), len(heads), shown, None if matched else _warning(heads))


def _warning(heads: Sequence[Head]) -> str:
    if not heads:
        return "No event has come in yet, so nothing tells whether this route fits any."
    types = list(dict.fromkeys(head.type for head in heads))
    known = ", ".join(types[:_TYPES_NAMED]) + (", …" if len(types) > _TYPES_NAMED else "")
    return f"None of the newest {len(heads):,} events matches. Their types are: {known}"
