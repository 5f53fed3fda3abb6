"""A workspace's integrations: stored, listed, changed, deleted. Calling them is `actions.py`'s.

JSON columns hold exactly what the native wire shows, so that a list is read without decoding it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from trunkline import vault
from trunkline.catalog.endpoint import AuthConfigWithSecrets, EndpointConfig
from trunkline.catalog.manifest import Manifest, webhook_fields
from trunkline.context import Context
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.ids import new_id
from trunkline.services import drafts, permissions
from trunkline.services.drafts import Credentials, Draft
from trunkline.tables import hooks, integrations

_SORTABLE = ("name", "display_name", "created_at", "updated_at")
_SORT = re.compile(rf" *([+-]?)({'|'.join(_SORTABLE)}) *")
_NOT_FOUND = "Integration not found"
_READDRESS = "Integration.readdress"


@dataclass(frozen=True, slots=True)
class Integration:
    """One integration as it is stored; `auth` and `endpoints` are JSON texts ready for the wire."""

    id: str
    workspace_id: str
    name: str
    display_name: str
    connector: str | None
    protocol: str
    base_url: str
    config: dict[str, str]
    auth: str | None
    endpoints: str
    enabled: bool
    builtin: bool
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None
    last_test_status: str | None
    aside: dict[str, Any] | None = None
    method: str | None = None
    configured: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list: every part is optional."""

    enabled: bool | None = None
    protocol: str | None = None
    search: str | None = None
    connector: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A partial update: None leaves a part as it is."""

    display_name: str | None = None
    base_url: str | None = None
    auth: AuthConfigWithSecrets | None = None
    config: Mapping[str, str | None] | None = None
    credentials: Credentials | None = None
    endpoints: Sequence[EndpointConfig] | None = None
    enabled: bool | None = None


_RAW = ("auth", "endpoints")
COLUMNS = [
    sa.type_coerce(column, sa.Text).label(column.name) if column.name in _RAW else column
    for column in integrations.c
    if column.name != "search_text"
]


async def create(ctx: Context, draft: Draft) -> Integration:
    """Store a new integration and its secrets, together.

    Raises:
        Invalid: naming each field at fault.
        Conflict: the name is taken in this workspace.
    """
    manifest = drafts.connector_of(ctx.app.catalog, draft.connector)
    checked = drafts.check(draft, manifest)
    integration_id, now = new_id(), ctx.now
    values: dict[str, Any] = {
        "id": integration_id,
        "workspace_id": ctx.workspace_id,
        "name": draft.name,
        "display_name": draft.display_name,
        "connector": draft.connector,
        "protocol": "rest",
        "base_url": draft.base_url,
        "config": checked.config,
        "auth": checked.auth,
        "endpoints": checked.endpoints,
        "enabled": draft.enabled,
        "builtin": False,
        "search_text": search_text(draft.name, draft.display_name),
        "created_at": now,
        "updated_at": now,
    }
    sealed = await ctx.app.vault.prepare(ctx.workspace_id, integration_id, checked.secrets)

    def write(conn: Connection) -> None:
        conn.execute(_INSERT, values)
        vault.store(conn, sealed)

    try:
        await ctx.app.db.write(write)
    except Conflict:
        raise Conflict("Integration name already taken in this workspace.") from None
    ctx.app.integration_totals.drop(ctx.workspace_id)
    stored = {key: value for key, value in values.items() if key != "search_text"}
    stored |= {"auth": _dump(checked.auth), "endpoints": _dump(checked.endpoints) or "[]"}
    return _complete(
        Integration(**stored, last_tested_at=None, last_test_status=None), manifest, list(checked.secrets)
    )


_INSERT = sa.insert(integrations)


async def get(ctx: Context, integration_id: str) -> Integration:
    """Return one integration.

    Raises:
        NotFound: absent, or another workspace's.
    """
    found = await ctx.app.db.read(lambda conn: _select(conn, ctx, _by_id(ctx, integration_id)))
    if not found:
        raise NotFound(_NOT_FOUND)
    return _finish(ctx, found)[0]


async def find(ctx: Context, name: str) -> Integration | None:
    """Return the integration of this name, if there is one."""
    wanted = sa.and_(integrations.c.workspace_id == ctx.workspace_id, integrations.c.name == name)
    found = await ctx.app.db.read(lambda conn: _select(conn, ctx, wanted))
    return next(iter(_finish(ctx, found)), None)


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list and the size of the whole."""

    items: list[Integration]
    total: int
    offset: int = field(default=0)


async def list_page(ctx: Context, wanted: Filter, sort_by: str | None, limit: int, offset: int) -> Page:
    """List integrations, newest first unless sorted.

    Raises:
        Invalid: naming `sort_by`, when it names no sortable field.
    """
    order = _order(sort_by, ctx.app.db.dialect)
    where = _where(ctx, wanted)
    totals = _totals(ctx)
    known = totals.get(wanted)

    def read(conn: Connection) -> tuple[list[Integration], int]:
        found = _select(conn, ctx, where, order, slice(offset, offset + limit))
        if offset == 0 and len(found) < limit:
            return found, len(found)
        if known is not None:
            return found, max(known, offset + len(found))
        return found, int(conn.scalar(sa.select(sa.func.count()).select_from(integrations).where(where)) or 0)

    items, total = await ctx.app.db.read(read)
    totals[wanted] = total
    return Page(_finish(ctx, items), total, offset)


def _totals(ctx: Context) -> dict[Filter, int]:
    """Return what is remembered of the workspace's totals: counting costs more than reading a page of many rows.

    It is taken before the database is read: a write meanwhile leaves us with one that nobody asks any more.
    """
    totals = ctx.app.integration_totals.get(ctx.workspace_id)
    if totals is None:
        totals = {}
        ctx.app.integration_totals.put(ctx.workspace_id, totals)
    return totals


def _by_id(ctx: Context, integration_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(integrations.c.workspace_id == ctx.workspace_id, integrations.c.id == integration_id)


def _where(ctx: Context, wanted: Filter) -> sa.ColumnElement[bool]:
    parts = [integrations.c.workspace_id == ctx.workspace_id]
    if wanted.enabled is not None:
        parts.append(integrations.c.enabled == wanted.enabled)
    if wanted.protocol is not None:
        parts.append(integrations.c.protocol == wanted.protocol)
    if wanted.connector is not None:
        parts.append(integrations.c.connector == wanted.connector)
    if wanted.search is not None:
        parts.append(integrations.c.search_text.contains(wanted.search.casefold(), autoescape=True))
    return sa.and_(*parts)


def _order(sort_by: str | None, dialect: str) -> list[Any]:
    """Read `[+|-]field[,…]`; a `+` in a query string arrives as a space.

    Texts sort by code point on both databases, whatever the locale of a PostgreSQL.
    """
    if not sort_by:
        return [integrations.c.created_at.desc(), integrations.c.id.desc()]
    order: dict[str, Any] = {}
    for part in sort_by.split(","):
        found = _SORT.fullmatch(part)
        if found is None or found[2] in order:
            text = f"must be a list of [+|-]field, each of {', '.join(_SORTABLE)} at most once"
            raise Invalid.field(("query", "sort_by"), text)
        column: sa.ColumnElement[Any] = integrations.c[found[2]]
        if dialect == "postgresql" and isinstance(column.type, sa.String):
            column = column.collate("C")
        order[found[2]] = column.desc() if found[1] == "-" else column.asc()
    return [*order.values(), integrations.c.id]


def _select(
    conn: Connection,
    ctx: Context,
    where: sa.ColumnElement[bool],
    order: Sequence[Any] = (),
    part: slice = slice(None),
) -> list[Integration]:
    query = sa.select(*COLUMNS).where(where).order_by(*order)
    rows = [from_row(row) for row in conn.execute(query.slice(part.start, part.stop)).mappings()]
    made = [row.id for row in rows if row.connector is not None]
    names = vault.names(conn, ctx.workspace_id, made) if made else {}
    return [_with_names(row, names.get(row.id, ())) for row in rows]


def from_row(row: RowMapping) -> Integration:
    """Read the columns of `COLUMNS`."""
    return Integration(**row)


def _with_names(row: Integration, names: Sequence[str]) -> Integration:
    return row if not names else _replace(row, configured=names)


def _replace(row: Integration, **changes: Any) -> Integration:
    values = {name: getattr(row, name) for name in Integration.__slots__}
    return Integration(**(values | changes))


def _finish(ctx: Context, rows: list[Integration]) -> list[Integration]:
    return [_complete(row, manifest_of(ctx, row), row.configured) for row in rows]


def manifest_of(ctx: Context, row: Integration) -> Manifest | None:
    """Return the connector behind an integration; None when self-made, or when the file is gone."""
    if row.connector is None:
        return None
    try:
        return ctx.app.catalog.get(row.connector)
    except NotFound:
        return None


def _complete(row: Integration, manifest: Manifest | None, configured: Sequence[str]) -> Integration:
    """Show a connector's endpoints beside the integration's own, and its auth method instead of `auth`."""
    if row.connector is None:
        return row
    method = drafts.method_of(row.auth)
    if method is None and row.auth is not None:  # what `auth` needs is shown there
        hooks = _webhook_secrets(manifest)
        configured = [name for name in configured if name in hooks]
    return _replace(
        row,
        auth=row.auth if method is None else None,
        method=method,
        endpoints=drafts.merged_endpoints(row.endpoints, manifest),
        configured=sorted(configured),
    )


def search_text(name: str, display_name: str) -> str:
    """Return what a search looks through."""
    return f"{name}\n{display_name}".casefold()


def _dump(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


async def update(ctx: Context, integration_id: str, change: Change) -> Integration:
    """Change parts of an integration; its name stays, and secrets that are not sent again stay.

    Raises:
        Invalid, NotFound
        Forbidden: the integration came with the system, or stored secrets would go to another address.
    """
    while not await _try_update(ctx, integration_id, change):
        pass  # somebody else changed what this change builds on: another look
    forget(ctx, integration_id)
    return await get(ctx, integration_id)


async def _try_update(ctx: Context, integration_id: str, change: Change) -> bool:
    """Change an integration, unless its config or address changed since it was looked at."""
    current = await get(ctx, integration_id)
    manifest = manifest_of(ctx, current)
    checked = drafts.check_change(change, current.config, current.base_url, manifest, current.method)
    sealed = await ctx.app.vault.prepare(ctx.workspace_id, integration_id, checked.secrets)

    def write(conn: Connection) -> bool:
        query = sa.select(integrations).where(_by_id(ctx, integration_id)).with_for_update()
        row = _changeable(conn.execute(query).one_or_none())
        if (row.config, row.base_url) != (current.config, current.base_url):
            return False
        if drafts.is_other_way_in(row.auth, checked.auth):
            _forget_way_in(conn, ctx, integration_id, manifest)
        elif _goes_elsewhere(row, change, checked, manifest):
            kept = set(vault.names(conn, ctx.workspace_id, [integration_id])[integration_id])
            _check_readdress(ctx, kept - set(checked.secrets))
        vault.store(conn, sealed)
        values = _changed(change, checked, row.name, row.display_name)
        conn.execute(
            sa.update(integrations)
            .where(_by_id(ctx, integration_id))
            .values(**values, updated_at=max(ctx.now, row.updated_at))
        )
        return True

    return await ctx.app.db.write(write)


def _webhook_secrets(manifest: Manifest | None) -> set[str]:
    return {field.name for field in webhook_fields(manifest.webhook)} if manifest else set()


def _forget_way_in(conn: Connection, ctx: Context, integration_id: str, manifest: Manifest | None) -> None:
    """Drop the credentials of the way in that was; those that verify webhooks have nothing to do with it."""
    kept = _webhook_secrets(manifest)
    stored = vault.names(conn, ctx.workspace_id, [integration_id])[integration_id]
    vault.forget(conn, ctx.workspace_id, integration_id, [name for name in stored if name not in kept])


def _goes_elsewhere(row: Any, change: Change, checked: drafts.Checked, manifest: Manifest | None) -> bool:
    """Tell whether the change names an origin that secrets were not sent to before."""
    base_url = row.base_url if change.base_url is None else change.base_url
    config = row.config if change.config is None else checked.config
    wanted = drafts.destinations(base_url, config, checked.auth or row.auth, manifest)
    return not wanted <= drafts.destinations(row.base_url, row.config, row.auth, manifest)


def _check_readdress(ctx: Context, kept: set[str]) -> None:
    """Refuse to point stored secrets elsewhere: whoever listens there would read them."""
    if kept and not permissions.allows(ctx.caller.permissions, _READDRESS):
        raise Forbidden(
            f"Insufficient permissions: {_READDRESS} is needed to send stored secrets to another address; "
            f"or send them again: {', '.join(sorted(kept))}."
        )


def _changed(change: Change, checked: drafts.Checked, name: str, display_name: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.display_name is not None:
        display_name = change.display_name
        values["display_name"] = display_name
        values["search_text"] = search_text(name, display_name)
    if change.base_url is not None:
        values["base_url"] = change.base_url
    if change.config is not None:
        values["config"] = checked.config
    if checked.auth is not None:
        values["auth"] = checked.auth
    if change.endpoints is not None:
        values["endpoints"] = checked.endpoints
    if change.enabled is not None:
        values["enabled"] = change.enabled
    return values


def _changeable(row: Any) -> Any:
    if row is None:
        raise NotFound(_NOT_FOUND)
    if row.builtin:
        raise Forbidden("This integration came with the system and cannot be changed.")
    return row


async def delete(ctx: Context, integration_id: str) -> None:
    """Remove an integration, its secrets and its hooks.

    Raises:
        NotFound
        Forbidden: the integration came with the system.
    """

    def write(conn: Connection) -> None:
        query = sa.select(integrations.c.builtin).where(_by_id(ctx, integration_id))
        _changeable(conn.execute(query.with_for_update()).one_or_none())
        own = sa.and_(hooks.c.workspace_id == ctx.workspace_id, hooks.c.integration_id == integration_id)
        owner_ids = (
            integration_id,
            aside_owner(integration_id),
            *conn.scalars(sa.select(hooks.c.id).where(own)),
        )
        for owner_id in owner_ids:
            vault.forget(conn, ctx.workspace_id, owner_id)
        conn.execute(sa.delete(hooks).where(own))
        conn.execute(sa.delete(integrations).where(_by_id(ctx, integration_id)))

    await ctx.app.db.write(write)
    forget(ctx, integration_id)


def aside_owner(integration_id: str) -> str:
    """Return as whose the vault keeps those secrets of an integration that its connector does not know."""
    return str(uuid5(UUID(integration_id), "aside"))


def forget(ctx: Context, integration_id: str) -> None:
    """Drop what this process remembers of an integration."""
    ctx.app.integrations.drop((ctx.workspace_id, integration_id))
    ctx.app.hooks.clear()
    ctx.app.integration_totals.drop(ctx.workspace_id)
    ctx.app.rest.forget(integration_id)


async def note_test(ctx: Context, integration_id: str, status: str) -> None:
    """Remember the outcome of the last connection test."""
    change = (
        sa.update(integrations)
        .where(_by_id(ctx, integration_id))
        .values(last_tested_at=ctx.now, last_test_status=status)
    )
    await ctx.app.db.write(lambda conn: conn.execute(change).rowcount)
