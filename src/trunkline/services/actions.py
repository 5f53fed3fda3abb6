"""Run an integration's endpoints, and try its connection."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import vault
from trunkline.catalog import configure
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import AuthMethod, Manifest
from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.rest.caller import CompiledEndpoint, Target, compile_endpoint
from trunkline.rest.probe import Probe
from trunkline.rest.trace import Trace
from trunkline.services import drafts
from trunkline.services import integrations as stored
from trunkline.services.integrations import Integration
from trunkline.tables import integrations

HEALTH_CHECK_LIMIT = 50
_HEALTH_CHECK_AT_ONCE = 10
_HEALTH_CHECK_SECONDS = 10.0


@dataclass(slots=True)
class Loaded:
    """An integration ready to be called: compiled once, its secrets still sealed."""

    row: Integration
    manifest: Manifest | None
    target: Target
    own: dict[str, EndpointConfig]
    sealed: Sequence[Any] = field(repr=False)
    compiled: dict[str, CompiledEndpoint] = field(default_factory=dict)

    def endpoint(self, name: str) -> CompiledEndpoint:
        """Return an endpoint, compiled at its first use.

        Raises:
            NotFound
        """
        found = self.compiled.get(name)
        if found is None:
            found = self.compiled[name] = compile_endpoint(self._config(name), self.manifest)
        return found

    def _config(self, name: str) -> EndpointConfig:
        if name in self.own:
            return self.own[name]
        if self.manifest is not None and name in self.manifest.endpoints:
            return self.manifest.endpoints[name]
        raise NotFound("Endpoint not found")


async def load(ctx: Context, integration_id: str) -> Loaded:
    """Return an integration ready to be called, from memory when it was read within the last second.

    Raises:
        NotFound: absent, or another workspace's.
    """
    key = (ctx.workspace_id, integration_id)
    cache = ctx.app.integrations
    ctx.app.catalog.refresh()
    loaded: Loaded | None = cache.get(key)
    if loaded is not None and loaded.manifest is _manifest(ctx, loaded.row):
        return loaded
    known = cache.last(key)
    if loaded is not None:
        cache.drop(key)
    fetched: Loaded = await cache.fetch(key, lambda: _read(ctx, integration_id, known))
    return fetched


def _manifest(ctx: Context, row: Integration) -> Manifest | None:
    return stored.manifest_of(ctx, row)


async def _read(ctx: Context, integration_id: str, known: Loaded | None) -> Loaded:
    """Read an integration; when nothing about it changed, `known` is returned, with all it has compiled."""
    wanted = sa.and_(integrations.c.workspace_id == ctx.workspace_id, integrations.c.id == integration_id)

    def read(conn: Connection) -> tuple[Integration, Sequence[Any]]:
        row = conn.execute(sa.select(*stored.COLUMNS).where(wanted)).mappings().one_or_none()
        if row is None:
            raise NotFound("Integration not found")
        return stored.from_row(row), vault.rows(conn, ctx.workspace_id, integration_id)

    row, sealed = await ctx.app.db.read(read)
    manifest = _manifest(ctx, row)
    if row.connector is not None and manifest is None:
        raise Conflict(
            f"The connector '{row.connector}' is not in the catalogue any more; put its file back."
        )
    if known is not None and (known.row, known.sealed) == (row, sealed) and known.manifest is manifest:
        return known
    own = [EndpointConfig.model_validate(entry) for entry in orjson.loads(row.endpoints)]
    try:
        target = _target(row, manifest)
    except Invalid as error:
        raise Conflict(f"The integration does not fit its connector any more: {error.message}") from None
    return Loaded(row, manifest, target, {entry.name: entry for entry in own}, sealed)


def _target(row: Integration, manifest: Manifest | None) -> Target:
    return Target(
        workspace_id=row.workspace_id,
        integration_id=row.id,
        service=row.display_name,
        base_url=row.base_url or (configure.render_base_url(manifest, row.config) if manifest else ""),
        auth=_auth(row, manifest),
        config=configure.with_defaults(manifest, row.config) if manifest else {},
        manifest=manifest,
    )


def _auth(row: Integration, manifest: Manifest | None) -> AuthMethod | None:
    method = drafts.method_of(row.auth)
    if method is not None:
        return configure.effective_auth(manifest, method, row.config) if manifest else None
    return AuthMethod.model_validate(orjson.loads(row.auth)) if row.auth else None


async def run(
    ctx: Context,
    integration_id: str,
    endpoint_name: str,
    params: dict[str, Any],
    *,
    detail: bool,
    budget_seconds: float | None = None,
) -> tuple[Trace, str]:
    """Run an endpoint for real and return its trace with the service's name; what the upstream does wrong is in the trace, never raised.

    Args:
        detail: keep the exchanges with their headers and bodies, redacted.
        budget_seconds: all attempts and pauses together; TRUNKLINE_CALL_TIMEOUT_SECONDS unless it is shorter.

    Raises:
        NotFound: no such integration or endpoint.
        Conflict: the integration is switched off, or its connector is gone or has changed too much.
        Invalid: the params do not fit the endpoint.
    """
    loaded = await load(ctx, integration_id)
    endpoint = loaded.endpoint(endpoint_name)
    if not loaded.row.enabled:
        raise Conflict("This integration is disabled; enable it to call it.")
    secrets = await open_secrets(ctx, loaded)
    budget = ctx.app.settings.call_timeout_seconds
    if budget_seconds is not None:
        budget = min(budget, budget_seconds)
    trace = await ctx.app.rest.call(
        loaded.target, endpoint, params, secrets, detail=detail, budget_seconds=budget
    )
    return trace, loaded.row.display_name


async def open_secrets(ctx: Context, loaded: Loaded) -> Mapping[str, str]:
    """Open an integration's secrets, in memory alone when its data key was used before."""
    if not loaded.sealed:
        return {}
    return await ctx.app.vault.open_sealed(ctx.workspace_id, loaded.row.id, loaded.sealed)


async def test_connection(ctx: Context, integration_id: str) -> Probe:
    """Resolve auth end to end and knock at the service; remember the outcome."""
    try:
        loaded = await load(ctx, integration_id)
    except Conflict as error:
        probe = Probe("misconfigured", error.message)
    else:
        probe = await ctx.app.rest.probe(loaded.target, await open_secrets(ctx, loaded))
    await stored.note_test(ctx, integration_id, probe.status)
    return probe


@dataclass(frozen=True, slots=True)
class Health:
    """One line of a health check."""

    id: str
    name: str
    status: str
    latency_ms: float


async def health_check(ctx: Context) -> tuple[list[Health], int]:
    """Knock at the newest enabled integrations, a few at a time; return them and how many are enabled."""
    page = await stored.list_page(ctx, stored.Filter(enabled=True), None, HEALTH_CHECK_LIMIT, 0)
    gate = asyncio.Semaphore(_HEALTH_CHECK_AT_ONCE)

    async def check(row: Integration) -> Health | None:
        try:
            async with gate, asyncio.timeout(_HEALTH_CHECK_SECONDS):
                probe = await test_connection(ctx, row.id)
        except TimeoutError:
            await stored.note_test(ctx, row.id, "timeout")
            return Health(row.id, row.name, "timeout", _HEALTH_CHECK_SECONDS * 1000)
        except NotFound:  # deleted since it was listed
            return None
        return Health(row.id, row.name, probe.status, probe.duration_ms)

    found = await asyncio.gather(*(check(row) for row in page.items))
    return [health for health in found if health is not None], page.total
