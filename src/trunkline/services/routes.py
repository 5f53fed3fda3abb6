"""A workspace's routes: stored, listed, changed, deleted. Which events they match, and reading on from the log, is `routing.py`'s.

A route looks only at events after it was made: `after_sequence` is the number of the last one that is not for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import vault
from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.ids import new_id
from trunkline.rest.signatures import new_signing_secret
from trunkline.services import deliveries, events, targets
from trunkline.services.matching import Pattern, compile_conditions
from trunkline.services.targets import Checked, Target
from trunkline.tables import routes

SECRET, PREVIOUS_SECRET = "signing_secret", "previous_signing_secret"
OVERLAP = timedelta(hours=24)
"""How long the secret before a rotation still signs."""
MAX_ROUTES = 10_000
_NOT_FOUND = "Route not found"
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Route:
    """One route as it is stored; `target` is JSON of one of the kinds of `targets.py`."""

    id: str
    workspace_id: str
    name: str
    event_type: str
    project_id: str | None
    conditions: list[dict[str, Any]]
    target: dict[str, Any]
    destination_id: str
    enabled: bool
    disabled_reason: str | None
    after_sequence: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A route somebody asks for; each condition has `path`, `operator` and `value`."""

    event_type: str
    target: Target
    name: str | None = None
    project_id: str | None = None
    conditions: Sequence[Mapping[str, Any]] = ()
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """A partial update: None leaves a part as it is. An empty `project_id` means any project."""

    name: str | None = None
    event_type: str | None = None
    target: Target | None = None
    project_id: str | None = None
    conditions: Sequence[Mapping[str, Any]] | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A route; its new signing secret, this once; and what is not wrong but should be known."""

    route: Route
    secret: str | None = field(default=None, repr=False)
    warning: str | None = None


def from_row(row: sa.RowMapping) -> Route:
    """Read a route as it is stored."""
    return Route(**{name: row[name] for name in Route.__slots__})


def check_filter(event_type: str | None, conditions: Sequence[Mapping[str, Any]] | None) -> None:
    """Check what a route looks for.

    Raises:
        Invalid: naming `event_type`, or the condition's number and field.
    """
    faults = []
    if event_type is not None:
        try:
            Pattern.compile(event_type)
        except ValueError as error:
            faults += Invalid.field(("body", "event_type"), str(error)).fields
    try:
        compile_conditions(conditions or ())
    except Invalid as error:
        for fault in error.fields:
            faults += Invalid.field(("body", "conditions", *fault.loc), fault.msg).fields
    if faults:
        raise Invalid(fields=faults)


async def create(ctx: Context, draft: Draft) -> Made:
    """Store a new route. One that sends a signed webhook gets its secret, shown only now.

    Raises:
        Invalid: naming each field at fault.
        Conflict: the workspace has as many routes as it may have.
    """
    check_filter(draft.event_type, draft.conditions)
    checked = await targets.check(ctx, draft.target)
    now = ctx.now
    route = Route(
        id=new_id(),
        workspace_id=ctx.workspace_id,
        name=draft.name or f"{draft.event_type} to {checked.label}"[:256],
        event_type=draft.event_type,
        project_id=draft.project_id or None,
        conditions=[dict(condition) for condition in draft.conditions],
        target=checked.stored,
        destination_id=checked.destination_id(ctx.workspace_id),
        enabled=draft.enabled,
        disabled_reason=None,
        after_sequence=0,
        created_at=now,
        updated_at=now,
    )
    secret = new_signing_secret() if checked.is_signed else None
    sealed = await ctx.app.vault.prepare(ctx.workspace_id, route.id, {SECRET: secret} if secret else {})

    def write(conn: Connection) -> Route:
        count = sa.select(sa.func.count()).where(routes.c.workspace_id == ctx.workspace_id)
        if int(conn.scalar(count) or 0) >= MAX_ROUTES:
            raise Conflict(f"A workspace has at most {MAX_ROUTES:,} routes; delete some.")
        stored = replace(route, after_sequence=events.last_sequence(conn, ctx.workspace_id))
        conn.execute(sa.insert(routes), _values(stored))
        vault.store(conn, sealed)
        _ensure_destination(conn, stored.destination_id, ctx.workspace_id, checked)
        return stored

    return Made(await ctx.app.db.write(write), secret, checked.warning)


def _values(route: Route) -> dict[str, Any]:
    return {name: getattr(route, name) for name in Route.__slots__}


def _ensure_destination(conn: Connection, destination_id: str, workspace_id: str, checked: Checked) -> None:
    deliveries.ensure_destination(
        conn,
        destination_id,
        workspace_id,
        checked.label,
        integration_id=checked.stored.get("integration_id"),
        connector=checked.stored.get("connector"),
        notify=checked.notify,
    )


def _by_id(ctx: Context, route_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(routes.c.workspace_id == ctx.workspace_id, routes.c.id == route_id)


async def get(ctx: Context, route_id: str) -> Route:
    """Return one route.

    Raises:
        NotFound: absent, or another workspace's.
    """
    return await ctx.app.db.read(lambda conn: _find(conn, sa.select(routes).where(_by_id(ctx, route_id))))


def _find(conn: Connection, query: sa.Select[Any]) -> Route:
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(_NOT_FOUND)
    return from_row(row)


async def list_page(ctx: Context, enabled: bool | None, limit: int, offset: int) -> tuple[list[Route], int]:
    """List routes, newest first: all, or only those that are on or off; also tell how many there are."""
    where = routes.c.workspace_id == ctx.workspace_id
    if enabled is not None:
        where = sa.and_(where, routes.c.enabled == enabled)
    query = sa.select(routes).where(where).order_by(routes.c.created_at.desc(), routes.c.id.desc())
    count = sa.select(sa.func.count()).select_from(routes).where(where)

    def read(conn: Connection) -> tuple[list[Route], int]:
        found = conn.execute(query.slice(offset, offset + limit)).mappings()
        return [from_row(row) for row in found], int(conn.scalar(count) or 0)

    return await ctx.app.db.read(read)


async def update(ctx: Context, route_id: str, change: Change) -> Made:
    """Change parts of a route. One that is switched on begins anew: its destination too, whatever failed before.

    What waits for the old target goes to the new one. A route that becomes a signed webhook gets its secret.

    Raises:
        Invalid, NotFound
    """
    check_filter(change.event_type, change.conditions)
    checked = None if change.target is None else await targets.check(ctx, change.target)
    secret = new_signing_secret() if checked is not None and checked.is_signed else None
    sealed = await ctx.app.vault.prepare(ctx.workspace_id, route_id, {SECRET: secret} if secret else {})

    def write(conn: Connection) -> tuple[Route, bool]:
        before = _locked(conn, ctx, route_id)
        after = _changed(conn, before, change, checked, ctx.now)
        had_secret = targets.is_signed(before.target)
        gets_secret = secret is not None and not had_secret
        if checked is not None:
            _ensure_destination(conn, after.destination_id, ctx.workspace_id, checked)
            if after.destination_id != before.destination_id:
                deliveries.move(conn, route_id, before.destination_id, after.destination_id, ctx.now)
            if gets_secret:
                vault.store(conn, sealed)
            elif had_secret and not checked.is_signed:
                vault.forget(conn, ctx.workspace_id, route_id)
        if change.enabled:
            deliveries.reopen(conn, after.destination_id, ctx.now)
        conn.execute(sa.update(routes).where(_by_id(ctx, route_id)).values(_values(after)))
        return after, gets_secret

    route, is_new = await ctx.app.db.write(write)
    ctx.app.bells.deliveries.ring()
    return Made(route, secret if is_new else None, checked.warning if checked else None)


def _locked(conn: Connection, ctx: Context, route_id: str) -> Route:
    return _find(conn, sa.select(routes).where(_by_id(ctx, route_id)).with_for_update())


def _changed(
    conn: Connection, before: Route, change: Change, checked: Checked | None, now: datetime
) -> Route:
    values: dict[str, Any] = {"updated_at": max(now, before.updated_at + _TICK)}
    looks_anew = False
    for name in ("name", "event_type", "project_id", "conditions", "enabled"):
        given = getattr(change, name)
        if given is not None:
            values[name] = given
            looks_anew = looks_anew or (name != "name" and given != getattr(before, name))
    if change.project_id is not None:
        values["project_id"] = change.project_id or None
    if change.conditions is not None:
        values["conditions"] = [dict(condition) for condition in change.conditions]
    if change.enabled is not None:
        values["disabled_reason"] = None
    if checked is not None:
        kept = {"previous_secret_until": before.target.get("previous_secret_until")}
        kept = kept if checked.is_signed and kept["previous_secret_until"] else {}
        values["target"] = checked.stored | kept
        values["destination_id"] = checked.destination_id(before.workspace_id)
    if looks_anew:
        values["after_sequence"] = events.last_sequence(conn, before.workspace_id)
    return replace(before, **values)


async def delete(ctx: Context, route_id: str) -> None:
    """Remove a route and its secret, and cancel what still waits to be sent by it.

    Raises:
        NotFound
    """

    def write(conn: Connection) -> None:
        # The route first: whoever is planning deliveries for it holds its row, and is done when this returns.
        if not conn.execute(sa.delete(routes).where(_by_id(ctx, route_id))).rowcount:
            raise NotFound(_NOT_FOUND)
        deliveries.cancel(conn, route_id, ctx.now)
        vault.forget(conn, ctx.workspace_id, route_id)

    await ctx.app.db.write(write)


async def rotate_secret(ctx: Context, route_id: str) -> Made:
    """Give a signed webhook a new secret; for 24 hours messages carry a signature by the old one too.

    Raises:
        NotFound
        Conflict: the route's target is no webhook.
    """
    while True:
        made = await _try_rotation(ctx, route_id)
        if made is not None:
            return made


async def _try_rotation(ctx: Context, route_id: str) -> Made | None:
    """Rotate, unless somebody else did since the secret in use was looked up."""
    app, workspace_id = ctx.app, ctx.workspace_id
    found = await app.db.read(lambda conn: vault.rows(conn, workspace_id, route_id))
    known = await app.vault.open_sealed(workspace_id, route_id, found)
    secret, until = new_signing_secret(), ctx.now + OVERLAP
    fresh = {SECRET: secret} | ({PREVIOUS_SECRET: known[SECRET]} if SECRET in known else {})
    sealed = await app.vault.prepare(workspace_id, route_id, fresh)

    def write(conn: Connection) -> Route | None:
        before = _locked(conn, ctx, route_id)
        if not targets.is_signed(before.target):
            raise Conflict("This route signs nothing: only a webhook target has a secret.")
        if vault.rows(conn, workspace_id, route_id) != found:
            return None
        vault.store(conn, sealed)
        target = before.target | {"previous_secret_until": until.isoformat().replace("+00:00", "Z")}
        after = replace(before, target=target, updated_at=max(ctx.now, before.updated_at + _TICK))
        conn.execute(sa.update(routes).where(_by_id(ctx, route_id)).values(_values(after)))
        return after

    route = await app.db.write(write)
    return None if route is None else Made(route, secret)
