"""Supportbot's integrations: listed, shown, made, replaced, deleted. Synced in `supportbot_sync.py`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, Field

from trunkline.context import Context
from trunkline.errors import Invalid, NotFound
from trunkline.http.dialects import supportbot_wire as wire
from trunkline.http.dialects.dialect import Request
from trunkline.http.wire import encode
from trunkline.services import integrations, knowledge, rewriting
from trunkline.services.integrations import Filter, Integration
from trunkline.services.rewriting import Stored, Whole

NOT_FOUND = "Integration not found"
_AT_ONCE = 1_000
_MAX_CONFIG = 65_536


def _fit_to_keep(config: dict[str, Any]) -> dict[str, Any]:
    encoded = encode(config)
    if len(encoded) > _MAX_CONFIG:
        raise ValueError(f"has more than {_MAX_CONFIG} bytes")
    if b"\\u0000" in encoded:
        raise ValueError("must not hold the character U+0000")
    return config


def _named(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("must be a name, without control characters")
    return name.strip()


class Written(BaseModel):
    """What a client makes of an integration: all of it, each time."""

    service_name: Annotated[str, Field(max_length=256), AfterValidator(_named)]
    auth_type: Literal["basic_auth", "api_token", "oauth2", "pat"]
    config: Annotated[dict[str, Any], AfterValidator(_fit_to_keep)]
    is_active: bool


async def list_all(ctx: Context, request: Request) -> dict[str, Any]:
    """List every integration of the workspace, oldest first."""
    del request
    found: list[Integration] = []
    while True:
        page = await integrations.list_page(ctx, Filter(), "created_at", _AT_ONCE, len(found))
        found += page.items
        if len(page.items) < _AT_ONCE:
            return {"success": True, "integrations": await show_all(ctx, found)}


async def show_all(ctx: Context, rows: Sequence[Integration]) -> list[dict[str, Any]]:
    """Show integrations with what became of their last runs."""
    runs = {row.id: (row.aside or {}).get("sync", {}).get("run") for row in rows}
    wanted = [run_id for run_id in runs.values() if run_id]
    ends = await ctx.app.db.read(lambda conn: knowledge.outcomes(conn, wanted)) if wanted else {}
    return [
        wire.show(
            row, wire.noted(row.aside or {}, ends.get(runs[row.id] or "")), integrations.manifest_of(ctx, row)
        )
        for row in rows
    ]


async def show(ctx: Context, integration_id: str) -> dict[str, Any]:
    """Show one integration. Raises NotFound."""
    return (await show_all(ctx, [await integrations.get(ctx, integration_id)]))[0]


def read_id(text: str, verb: str) -> str:
    """Read the id of an integration; the product lets the database trip over one that is none.

    Raises:
        Invalid
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise Invalid(f"Error occurred while {verb} integration of ID {text[:100]}") from None


async def get(ctx: Context, request: Request) -> dict[str, Any]:
    """Show an integration."""
    try:
        return {"success": True, "integration": await show(ctx, read_id(request.path["id"], "retrieving"))}
    except (Invalid, NotFound) as error:
        return wire.failed(error.message)


async def create(ctx: Context, request: Request) -> dict[str, Any]:
    """Make an integration, complete or not."""
    body: Written = request.body
    config = wire.unmasked(body.config, {})
    aside = {"user_id": ctx.caller.person_id or ctx.caller.credential_id, "sync": _begin_at(config, {}, None)}
    integration_id = await rewriting.create(ctx, _whole(ctx, body, config, aside))
    return {"success": True, "integration": await show(ctx, integration_id)}


def _begin_at(
    config: Mapping[str, Any], sync: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Note from when on the next run reads, if the client now says another time than it was shown."""
    when = wire.last_synced(config)
    known = wire.last_synced(before) if before is not None else None
    return dict(sync) if when == known else {**sync, "start": wire.stamp(when) or ""}


def _whole(
    ctx: Context,
    body: Written,
    config: dict[str, Any],
    aside: Mapping[str, Any],
    *,
    hidden: Sequence[wire.Path] = (),
    keeps: bool = False,
) -> Whole:
    """Sort a client's config into what the connector knows and what is kept aside, secrets apart."""
    manifest = wire.connector_named(ctx.app.catalog.all(), body.service_name)
    fitted = wire.Fitted(manifest, body.auth_type, config) if manifest else None
    secrets = [*wire.secrets_of(config), *((path, config[str(path[0])]) for path in hidden)]
    return Whole(
        display_name=body.service_name,
        enabled=body.is_active,
        manifest=manifest,
        method=fitted.method if fitted else None,
        config=fitted.config if fitted else {},
        credentials=fitted.credentials if fitted else {},
        aside={
            **aside,
            "service_name": body.service_name,
            "auth_type": body.auth_type,
            "config": wire.masked(config, hidden),
        },
        secrets={"config": orjson.dumps(secrets).decode()} if secrets else {},
        keeps_secrets=keeps,
    )


def _secrets(ctx: Context, stored: Stored) -> dict[wire.Path, Any]:
    """Return what each masked place of an integration stands for; what the connector has is newest."""
    aside = stored.row.aside or {}
    known = {tuple(path): value for path, value in orjson.loads(stored.secrets.get("config", "[]"))}
    manifest = integrations.manifest_of(ctx, stored.row)
    if "config" not in aside or manifest is None:
        return known | {(name,): value for name, value in stored.credentials.items()}
    keys = wire.Fitted(manifest, aside["auth_type"], aside["config"]).credential_keys
    return known | {
        (key,): stored.credentials[name] for name, key in keys.items() if name in stored.credentials
    }


async def update(ctx: Context, request: Request) -> dict[str, Any]:
    """Replace an integration; a mask that is written back keeps the secret."""
    body: Written = request.body
    try:
        integration_id = read_id(request.path["id"], "updating")
        await integrations.get(ctx, integration_id)
    except (Invalid, NotFound) as error:
        return wire.failed(error.message)
    shown = (await show(ctx, integration_id))["config"]

    def build(stored: Stored) -> Whole:
        known = _secrets(ctx, stored)
        config, hidden = wire.unmasked(body.config, known), wire.hidden_in(body.config, known)
        aside = dict(stored.row.aside or {})
        aside["sync"] = _begin_at(config, aside.get("sync", {}), shown)
        keeps = bool(hidden) or any(value == wire.MASK for _, value in wire.secrets_of(body.config))
        return _whole(ctx, body, config, aside, hidden=hidden, keeps=keeps)

    await settle(ctx, integration_id)
    await rewriting.replace(ctx, integration_id, build)
    return {"success": True, "integration": await show(ctx, integration_id)}


async def settle(ctx: Context, integration_id: str) -> None:
    """Write the outcome of an integration's last run into what is kept of it, if there is one by now."""
    await rewriting.change_aside(
        ctx,
        integration_id,
        lambda conn, aside: wire.noted(aside, knowledge.outcome(conn, aside.get("sync", {}).get("run"))),
    )


async def delete(ctx: Context, request: Request) -> dict[str, Any]:
    """Delete an integration; what the knowledge base has from it stays."""
    try:
        await integrations.delete(ctx, read_id(request.path["id"], "deleting"))
    except (Invalid, NotFound) as error:
        return wire.failed(error.message)
    return {"success": True, "message": "Integration deleted successfully"}
