"""Integrations as clients of other products write them: as a whole, under one id, fit to be called or not yet.

What the connector does not know is kept aside: shown parts in `integrations.aside`, secrets in the vault under an owner
of their own. What it means is the business of the wire format that wrote it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from trunkline import vault
from trunkline.catalog import configure
from trunkline.catalog.manifest import Manifest, webhook_fields
from trunkline.context import Context
from trunkline.errors import Forbidden, NotFound
from trunkline.ids import new_id
from trunkline.services import drafts, integrations, permissions
from trunkline.services.integrations import Integration, aside_owner
from trunkline.tables import integrations as table

_READDRESS = "Integration.readdress"


@dataclass(frozen=True, slots=True)
class Whole:
    """All that an integration is to be. Config and credentials that do not fit the connector are left out of it."""

    display_name: str
    enabled: bool
    manifest: Manifest | None = None
    method: str | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    aside: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those that the connector does not know."""
    keeps_secrets: bool = False
    """Some of the secrets are those that were stored before."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What there is of an integration, its secrets open."""

    row: Integration
    credentials: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)


async def read(ctx: Context, integration_id: str) -> Stored:
    """Return an integration with its secrets.

    Raises:
        NotFound
    """
    row = await integrations.get(ctx, integration_id)
    opened = [
        await ctx.app.vault.open(ctx.workspace_id, owner)
        for owner in (integration_id, aside_owner(integration_id))
    ]
    return Stored(row, *opened)


async def create(ctx: Context, whole: Whole) -> str:
    """Store a new integration, named after its service, and return its id."""
    integration_id = new_id()
    stem = re.sub(r"[^a-z0-9]+", "-", whole.display_name.lower()).strip("-")[:100] or "service"
    values = {
        "id": integration_id,
        "workspace_id": ctx.workspace_id,
        "name": f"{stem}-{integration_id[:8]}",
        "protocol": "rest",
        "base_url": "",
        "endpoints": [],
        "builtin": False,
        "created_at": ctx.now,
        "updated_at": ctx.now,
    }
    parts = _Parts.of(whole)
    sealed = await parts.seal(ctx, integration_id)

    def write(conn: Connection) -> None:
        conn.execute(sa.insert(table), values | parts.values(whole, str(values["name"])))
        for secrets in sealed:
            vault.store(conn, secrets)

    await ctx.app.db.write(write)
    ctx.app.integration_totals.drop(ctx.workspace_id)
    return integration_id


async def replace(ctx: Context, integration_id: str, build: Callable[[Stored], Whole]) -> None:
    """Make an integration what `build` makes of what it was; its id and its name stay, and so do webhook secrets.

    Raises:
        NotFound
        Forbidden: it came with the system, or stored secrets would go to another address.
    """
    while not await _try_replace(ctx, integration_id, build):
        pass  # somebody else changed it meanwhile: another look
    integrations.forget(ctx, integration_id)


async def _try_replace(ctx: Context, integration_id: str, build: Callable[[Stored], Whole]) -> bool:
    stored = await read(ctx, integration_id)
    if stored.row.builtin:
        raise Forbidden("This integration came with the system and cannot be changed.")
    whole = build(stored)
    parts = _Parts.of(whole)
    if whole.keeps_secrets and _goes_elsewhere(ctx, stored, whole, parts):
        raise Forbidden(
            f"Insufficient permissions: {_READDRESS} is needed to send stored secrets to another address; "
            "or send them again."
        )
    sealed = await parts.seal(ctx, integration_id)
    kept = {entry.name for entry in webhook_fields(whole.manifest.webhook)} if whole.manifest else set()
    dropped = [name for name in stored.credentials if name not in kept]

    def write(conn: Connection) -> bool:
        query = sa.select(table).where(_by_id(ctx, integration_id)).with_for_update()
        row = conn.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("Integration not found")
        if not _is_same(row, stored.row):
            return False
        vault.forget(conn, ctx.workspace_id, integration_id, dropped)
        vault.forget(conn, ctx.workspace_id, aside_owner(integration_id))
        for secrets in sealed:
            vault.store(conn, secrets)
        values = parts.values(whole, row["name"]) | {"updated_at": max(ctx.now, row["updated_at"])}
        values["base_url"] = parts.own_address(stored.row)
        conn.execute(sa.update(table).where(_by_id(ctx, integration_id)).values(values))
        return True

    return await ctx.app.db.write(write)


async def change_aside(
    ctx: Context, integration_id: str, change: Callable[[Connection, dict[str, Any]], dict[str, Any]]
) -> None:
    """Change what is kept aside of an integration, in one transaction; one that is gone stays so."""

    def write(conn: Connection) -> None:
        query = sa.select(table.c.aside).where(_by_id(ctx, integration_id)).with_for_update()
        row = conn.execute(query).one_or_none()
        if row is not None:
            changed = change(conn, row.aside or {})
            conn.execute(sa.update(table).where(_by_id(ctx, integration_id)).values(aside=changed))

    await ctx.app.db.write(write)


def _is_same(row: RowMapping, before: Integration) -> bool:
    names = ("updated_at", "config", "base_url", "connector", "aside")
    return all(row[name] == getattr(before, name) for name in names)


def _by_id(ctx: Context, integration_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.workspace_id == ctx.workspace_id, table.c.id == integration_id)


def _goes_elsewhere(ctx: Context, stored: Stored, whole: Whole, parts: "_Parts") -> bool:
    """Tell whether somebody who may not would send what is stored where it was not sent before."""
    if permissions.allows(ctx.caller.permissions, _READDRESS):
        return False
    row = stored.row
    before = drafts.destinations(row.base_url, row.config, None, integrations.manifest_of(ctx, row))
    return not drafts.destinations(parts.own_address(row), parts.config, None, whole.manifest) <= before


@dataclass(frozen=True, slots=True)
class _Parts:
    """What of a whole fits its connector."""

    connector: str | None
    config: dict[str, str]
    method: str | None
    credentials: dict[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, whole: Whole) -> "_Parts":
        manifest = whole.manifest
        if manifest is None:
            return cls(None, {}, None, {}, whole.secrets)
        way_in = configure.effective_auth(manifest, whole.method)
        faults = configure.check_config(manifest, whole.config)
        faults += configure.check_credentials(manifest, way_in, whole.credentials)
        wrong = {fault.loc for fault in faults}
        config = {name: text for name, text in whole.config.items() if ("config", name) not in wrong}
        given = {name: text for name, text in whole.credentials.items() if ("credentials", name) not in wrong}
        return cls(manifest.id, config, whole.method, given, whole.secrets)

    def own_address(self, row: Integration) -> str:
        """Return the integration's own address, unless it was meant for another connector."""
        return row.base_url if row.connector == self.connector else ""

    async def seal(self, ctx: Context, integration_id: str) -> list[vault.SealedSecrets]:
        prepare = ctx.app.vault.prepare
        return [
            await prepare(ctx.workspace_id, integration_id, self.credentials),
            await prepare(ctx.workspace_id, aside_owner(integration_id), self.secrets),
        ]

    def values(self, whole: Whole, name: str) -> dict[str, Any]:
        return {
            "display_name": whole.display_name,
            "search_text": integrations.search_text(name, whole.display_name),
            "connector": self.connector,
            "config": self.config,
            "auth": {"method": self.method} if self.method else None,
            "enabled": whole.enabled,
            "aside": dict(whole.aside),
        }
