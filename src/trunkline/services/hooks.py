"""The addresses that services post webhooks to: made, shown, rotated, found, with what verifies the requests.

A request at an address is verified by `rest/signatures.py` and stored by `inbox.py`. Deleting an integration deletes its
hooks, in `integrations.py`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import vault
from trunkline.catalog import configure
from trunkline.catalog.manifest import Manifest
from trunkline.context import App, Context
from trunkline.errors import NotFound
from trunkline.ids import new_hook_token, new_id
from trunkline.rest.signatures import CompiledWebhook, compile_webhook, headers_in
from trunkline.services import integrations as stored
from trunkline.tables import hooks, integrations
from trunkline.vault import SealedRow, SealedSecrets

PATH = "/hooks/"
OVERLAP = timedelta(hours=24)
"""How long an address works after a newer one took its place."""
_TOKEN = "token"  # noqa: S105 - the name of it
_NO_WEBHOOKS = "This integration takes no webhooks: its connector has none."


@dataclass(frozen=True, slots=True)
class Source:
    """An integration that takes webhooks, ready to judge them; its secrets are still sealed."""

    workspace_id: str
    integration_id: str
    enabled: bool
    manifest: Manifest
    config: Mapping[str, str]
    webhook: CompiledWebhook
    headers: Mapping[bytes, str]
    """The headers of a request that count at all: as they arrive, and in text."""
    kept_headers: frozenset[str]
    """What is stored of a request's headers, in lower case: what the rules of events look up."""
    proofs: Sequence[SealedRow] = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HookView:
    """An integration's address and how its requests are verified."""

    path: str
    url: str | None
    created_at: datetime
    previous_until: datetime | None
    """Until when the address before this one works too."""
    description: str
    verification: str | None
    """What proves a request: hmac, token, ed25519, standard or none; None when nothing that comes is accepted."""
    missing: list[str]
    """Secrets to store with the integration's credentials: without one of them requests are refused."""
    warning: str | None


_NOBODY = object()
_SOURCE = (
    integrations.c.workspace_id,
    integrations.c.id,
    integrations.c.connector,
    integrations.c.config,
    integrations.c.enabled,
)
_BY_TOKEN = (
    sa.select(*_SOURCE, hooks.c.expires_at)
    .join(hooks, hooks.c.integration_id == integrations.c.id)
    .where(hooks.c.token_hash == sa.bindparam("digest"))
)
_BY_ID = sa.select(*_SOURCE, sa.null().label("expires_at")).where(
    integrations.c.workspace_id == sa.bindparam("workspace_id"), integrations.c.id == sa.bindparam("id")
)


async def find(app: App, token: str) -> Source | None:
    """Return the integration behind an address, from memory when it was read within the last second.

    Whether there is one takes the same reads either way, and is remembered either way.
    """
    digest = _digest(token)
    found = app.hooks.get(digest) or await app.hooks.fetch(
        digest, lambda: _load(app, _BY_TOKEN, {"digest": digest})
    )
    if found is _NOBODY or (found.expires_at is not None and found.expires_at <= app.clock.now()):
        return None
    source: Source = found
    return source


async def source_of(app: App, workspace_id: str, integration_id: str) -> Source | None:
    """Return an integration as the source of webhooks, for paths that name it without a token."""
    wanted = {"workspace_id": workspace_id, "id": integration_id}
    found = await app.hooks.fetch(
        f"{workspace_id}/{integration_id}".encode(), lambda: _load(app, _BY_ID, wanted)
    )
    return None if found is _NOBODY else found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def _load(app: App, query: sa.Select[Any], wanted: Mapping[str, Any]) -> Any:
    def fetch(conn: Connection) -> tuple[Any, list[SealedRow]]:
        row = conn.execute(query, wanted).one_or_none()
        return row, vault.rows(conn, *((row.workspace_id, row.id) if row else ("", "")))

    row, sealed = await app.db.read(fetch)
    manifest = _manifest(app, row.connector) if row else None
    if manifest is None or manifest.webhook is None:
        return _NOBODY
    config = configure.with_defaults(manifest, row.config)
    webhook = compile_webhook(manifest.webhook, config)
    needed = webhook.needed([secret.name for secret in sealed])
    read = headers_in([rule.model_dump(mode="json") for rule in manifest.events]) | {"content-type"}
    return Source(
        workspace_id=row.workspace_id,
        integration_id=row.id,
        enabled=row.enabled,
        manifest=manifest,
        config=config,
        webhook=webhook,
        headers={name.encode(): name for name in webhook.header_names | read},
        kept_headers=frozenset(read - webhook.secret_headers),
        proofs=[secret for secret in sealed if secret.name in needed],
        expires_at=row.expires_at,
    )


def _manifest(app: App, connector: str | None) -> Manifest | None:
    try:
        return app.catalog.get(connector) if connector else None
    except NotFound:
        return None


async def open_proofs(app: App, source: Source) -> dict[str, str]:
    """Open the secrets that a request is verified with; the caller keeps them no longer than the request."""
    return await app.vault.open_sealed(source.workspace_id, source.integration_id, source.proofs)


async def ensure(ctx: Context, integration_id: str) -> None:
    """Give an integration an address, if its connector has webhooks and it has none yet.

    Raises:
        NotFound: absent, or another workspace's.
    """
    if await _webhooks_of(ctx, integration_id) is not None:
        await _insert(ctx, integration_id, replace=False)


async def rotate(ctx: Context, integration_id: str) -> HookView:
    """Give an integration a new address; the one it had works for 24 hours more.

    Raises:
        NotFound: absent, another workspace's, or its connector has no webhooks.
    """
    if await _webhooks_of(ctx, integration_id) is None:
        raise NotFound(_NO_WEBHOOKS)
    await _insert(ctx, integration_id, replace=True)
    return await url(ctx, integration_id)


async def _webhooks_of(ctx: Context, integration_id: str) -> Manifest | None:
    manifest = stored.manifest_of(ctx, await stored.get(ctx, integration_id))
    return manifest if manifest and manifest.webhook else None


async def _insert(ctx: Context, integration_id: str, *, replace: bool) -> None:
    token, hook_id = new_hook_token(), new_id()
    sealed = await ctx.app.vault.prepare(ctx.workspace_id, hook_id, {_TOKEN: token})
    row = {
        "id": hook_id,
        "workspace_id": ctx.workspace_id,
        "integration_id": integration_id,
        "token_hash": _digest(token),
        "created_at": ctx.now,
    }
    await ctx.app.db.write(lambda conn: _replace(conn, row, sealed, replace=replace))


def _replace(conn: Connection, row: Mapping[str, Any], sealed: SealedSecrets, *, replace: bool) -> None:
    """Add a hook, put an end to the one in use, forget those that ended. Without `replace` one in use stays."""
    workspace_id, now = row["workspace_id"], row["created_at"]
    owner = sa.select(integrations.c.id).where(
        integrations.c.workspace_id == workspace_id, integrations.c.id == row["integration_id"]
    )
    if conn.scalar(owner.with_for_update()) is None:
        raise NotFound("Integration not found")
    own = sa.and_(hooks.c.workspace_id == workspace_id, hooks.c.integration_id == row["integration_id"])
    in_use = sa.and_(own, hooks.c.expires_at.is_(None))
    if not replace and conn.scalar(sa.select(hooks.c.id).where(in_use).limit(1)) is not None:
        return
    ended = conn.scalars(sa.select(hooks.c.id).where(own, hooks.c.expires_at <= now)).all()
    for hook_id in ended:
        vault.forget(conn, workspace_id, hook_id)
    conn.execute(sa.delete(hooks).where(hooks.c.id.in_(ended)))
    conn.execute(sa.update(hooks).where(in_use).values(expires_at=now + OVERLAP))
    conn.execute(sa.insert(hooks).values(**row))
    vault.store(conn, sealed)


async def url(ctx: Context, integration_id: str) -> HookView:
    """Show an integration's address and what is missing before it accepts anything.

    Raises:
        NotFound: no such integration in this workspace, or it has no address.
    """
    row = await stored.get(ctx, integration_id)
    manifest = stored.manifest_of(ctx, row)
    if row.connector is None or (manifest is not None and manifest.webhook is None):
        raise NotFound(_NO_WEBHOOKS)
    own = sa.and_(hooks.c.workspace_id == ctx.workspace_id, hooks.c.integration_id == integration_id)

    def read(conn: Connection) -> tuple[Any, datetime | None, list[SealedRow]]:
        found = conn.execute(sa.select(hooks).where(own, hooks.c.expires_at.is_(None))).first()
        if found is None:
            raise NotFound("This integration has no hook yet; POST here makes one.")
        before = conn.execute(sa.select(hooks.c.expires_at).where(own).order_by(hooks.c.expires_at.desc()))
        until = max((at for (at,) in before if at is not None), default=None)
        return found, until, vault.rows(conn, ctx.workspace_id, found.id)

    found, until, sealed = await ctx.app.db.read(read)
    token = (await ctx.app.vault.open_sealed(ctx.workspace_id, found.id, sealed))[_TOKEN]
    path, public = PATH + token, ctx.app.settings.public_url
    return HookView(
        path=path,
        url=public + path if public else None,
        created_at=found.created_at,
        previous_until=until if until and until > ctx.now else None,
        **_verification(manifest, row),
    )


def _verification(manifest: Manifest | None, row: stored.Integration) -> dict[str, Any]:
    """Say how requests are verified, and plainly what stands in their way."""
    if manifest is None or manifest.webhook is None:
        text = f"The connector '{row.connector}' is not in the catalogue any more: requests are refused."
        return {"description": "", "verification": None, "missing": [], "warning": text}
    webhook = compile_webhook(manifest.webhook, configure.with_defaults(manifest, row.config))
    way, missing = webhook.way(row.configured), webhook.missing(row.configured)
    kind = webhook.type_of(way) if way else None
    warning = None
    if not row.enabled:
        warning = "The integration is disabled: requests are answered with 409."
    elif kind is None:
        warning = (
            f"Requests are refused until a secret is stored with the integration: {' or '.join(missing)}."
        )
    elif kind == "none":
        warning = "Requests are not verified: whoever knows the address can post."
    elif missing:
        warning = f"The service's question at the address is refused until a secret is stored: {missing[0]}."
    description = manifest.webhook.description
    return {"description": description, "verification": kind, "missing": missing, "warning": warning}
