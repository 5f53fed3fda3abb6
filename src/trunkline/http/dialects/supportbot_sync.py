"""Supportbot's two streams: an integration synced, an upload taken in; frames in batches of what the run's version wrote.

The run is a row that a job works, so it waits for nobody who watches; the frames are read from its version afterwards.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from trunkline.catalog.manifest import Manifest
from trunkline.context import Context
from trunkline.errors import Broken, Conflict, Invalid, NotFound, TrunklineError
from trunkline.http.dialects import supportbot_integrations as services
from trunkline.http.dialects import supportbot_knowledge as base
from trunkline.http.dialects import supportbot_wire as wire
from trunkline.http.dialects.dialect import Request
from trunkline.http.wire import Stream
from trunkline.rest.cursors import like
from trunkline.services import integrations, knowledge, progress, rewriting, uploads, versions
from trunkline.services.integrations import Integration
from trunkline.services.knowledge import Busy, Source
from trunkline.services.progress import Run
from trunkline.services.versions import Version

BUSY = "A sync is already in progress for this integration. Please wait."
_STOPPING = "Ingestion error: the hub is restarting; the run goes on"
_NOT_BEGUN = "The hub is restarting; sync again"


class Options(BaseModel):
    """How many incidents a frame tells of."""

    batch_size: Annotated[int, Field(ge=1, le=1_000)] = wire.BATCH


class Ingest(BaseModel):
    """Which upload to take in."""

    session_id: str
    notes: base.Notes | None = None


async def sync(ctx: Context, request: Request) -> Stream:
    """Sync an integration while the caller watches, or leaves; what goes wrong from here on is a frame."""
    try:
        integration_id = services.read_id(request.path["id"], "syncing")
        service, run = await _begin(ctx, integration_id)
    except (Invalid, NotFound, Conflict) as error:
        return Stream(_said(wire.error_frame(error.message)))
    return Stream(_to_the_end(_told(ctx, integration_id, run, service, request.query.batch_size)))


async def _said(frame: bytes) -> AsyncGenerator[bytes, None]:
    yield frame


async def _to_the_end(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Let a stream that breaks off end with an error all the same."""
    try:
        async for frame in frames:
            yield frame
    except (Invalid, NotFound, Conflict) as error:
        yield wire.error_frame(error.message)
    except TrunklineError as error:
        text = "Internal error" if isinstance(error, Broken) else error.message
        yield wire.error_frame(f"Ingestion error: {text}")


async def _told(
    ctx: Context, integration_id: str, run: Run | Busy, service: str, size: int
) -> AsyncGenerator[bytes, None]:
    fetching = f"Fetching incidents from {service}..."
    yield wire.frame("progress", {"batch": 0, "totalBatches": 0, "message": fetching})
    while isinstance(run, Busy):
        if await _end(ctx, run.run_id) is None:
            raise Conflict(_NOT_BEGUN)
        service, run = await _begin(ctx, integration_id)
    ended = await _end(ctx, run.id)
    if ended is None or ended.state != "succeeded":
        outcome = {"state": ended.state, "error": ended.error} if ended else None
        yield wire.error_frame(wire.why(outcome, service) if outcome else _STOPPING)
        return
    version = await _version(ctx, ended)
    total = version.added + version.changed if version else 0
    if version is None or total == 0:
        nothing = {"batch": 0, "totalBatches": 0, "message": "No new incidents to ingest"}
        yield wire.frame("progress", nothing)
    else:
        async for frames in _batches(ctx, version, total, size):
            yield frames
    await services.settle(ctx, integration_id)
    shown = await services.show(ctx, integration_id)
    stats = {
        "added": version.added if version else 0,
        "total": total,
        "last_synced": shown["last_synced_at"],
    }
    yield wire.frame("complete", {"success": True, "integration": shown, "stats": stats})


async def _ready(ctx: Context, row: Integration) -> tuple[Source, Any, str]:
    """Check that an integration can be synced, and say from where on; a refusal is written down with it.

    Raises:
        Invalid: saying what is missing.
    """
    manifest = integrations.manifest_of(ctx, row)
    aside = row.aside or {}
    service = aside.get("service_name") or (manifest.name if manifest else row.display_name)
    try:
        return _checked(row, manifest, service)
    except Invalid as error:
        message = error.message
        await rewriting.change_aside(ctx, row.id, lambda _, aside: wire.refused(aside, message))
        raise


def _checked(row: Integration, manifest: Manifest | None, service: str) -> tuple[Source, Any, str]:
    if not row.enabled:
        raise Invalid("Integration is not active")
    if manifest is None:
        raise Invalid(f"No connector for {service}: it cannot be synced")
    service = manifest.name
    aside = row.aside or {}
    method = manifest.auth.get(row.method) if row.method else None
    fitted = wire.Fitted(
        manifest, aside.get("auth_type") or wire.auth_type_of(method), aside.get("config", {})
    )
    if not fitted.is_complete(manifest, row):
        raise Invalid(f"Missing {service} configuration ({', '.join(fitted.needed)})")
    for name, stream in manifest.streams.items():
        if stream.record_mapping and knowledge.KEY_FIELD in stream.record_mapping:
            start = aside.get("sync", {}).get("start")
            if start and stream.cursor is not None:
                start = like(stream.cursor.start, datetime.fromisoformat(start))
            return Source(row.id, name), start, service
    raise Invalid(f"{service} has no incidents that could be synced")


async def _begin(ctx: Context, integration_id: str) -> tuple[str, Run | Busy]:
    """Begin a run, or tell which other one fills the knowledge base; name the service, too.

    Raises:
        NotFound
        Invalid: saying what is missing.
        Conflict: the integration is being synced.
    """
    source, start, service = await _ready(ctx, await integrations.get(ctx, integration_id))
    dataset = await knowledge.ensure(ctx)
    begun: list[Run | Busy] = []

    def begin(conn: Connection, aside: dict[str, Any]) -> dict[str, Any]:
        begun.clear()
        sync = aside.get("sync", {})
        busy = knowledge.under_way(conn, dataset)
        if busy is not None:
            if busy.source == source:
                raise Conflict(BUSY)
            begun.append(busy)
            return aside
        aside = wire.noted(aside, knowledge.outcome(conn, sync.get("run")))
        run, since = knowledge.begin_run(conn, ctx, dataset, source, since=sync.get("since"), start=start)
        begun.append(run)
        return wire.begun(aside, run.id, since, service)

    await rewriting.change_aside(ctx, integration_id, begin)
    if not begun:
        raise NotFound(services.NOT_FOUND)
    ctx.app.bells.runs.ring()
    return service, begun[0]


async def _end(ctx: Context, run_id: str) -> Run | None:
    """Wait for a run's end; None when this process stops before."""
    async with aclosing(progress.watch(ctx.app, run_id)) as told:
        async for _ in told:
            pass
    ended = await ctx.app.db.read(lambda conn: progress.find(conn, run_id))
    return None if ended.state in progress.UNFINISHED else ended


async def _version(ctx: Context, run: Run) -> Version | None:
    if run.version is None:
        return None
    number = run.version
    return await ctx.app.db.read(lambda conn: versions.find(conn, run.dataset, number))


async def _batches(ctx: Context, version: Version, total: int, size: int) -> AsyncGenerator[bytes, None]:
    """Tell of what a version wrote, batch by batch; many frames go out at once."""
    count = -(-total // size)
    text = f"Ingesting {total} incidents in {count} batch(es)..."
    yield wire.frame(
        "progress", {"batch": 0, "totalBatches": count, "totalIncidents": total, "message": text}
    )
    number = 0
    rest: list[str] = []
    async with aclosing(knowledge.written(ctx.app, version)) as pages:
        async for keys in pages:
            rest += keys
            full = len(rest) // size * size
            frames = [
                _batch(number + at, count, total, rest[at * size : at * size + size])
                for at in range(full // size)
            ]
            number += len(frames)
            rest = rest[full:]
            yield b"".join(frames)
    if rest:
        yield _batch(number, count, total, rest)


def _batch(before: int, count: int, total: int, keys: list[str]) -> bytes:
    number = before + 1
    return wire.frame(
        "progress",
        {
            "batch": number,
            "totalBatches": count,
            "incidents": keys,
            "totalIncidents": total,
            "message": f"Batch {number} of {count} processed ({len(keys)} incidents)",
        },
    )


async def ingest(ctx: Context, request: Request) -> Stream:
    """Take an upload in while the caller watches, or leaves."""
    body: Ingest = request.body
    try:
        run = await uploads.ingest(ctx, base.read_session(body.session_id), body.notes)
    except (Invalid, NotFound, Conflict) as error:
        return Stream(_said(wire.error_frame(error.message)))
    return Stream(_to_the_end(_taken_in(ctx, run, request.query.batch_size)))


async def _taken_in(ctx: Context, run: Run, size: int) -> AsyncGenerator[bytes, None]:
    ended = await _end(ctx, run.id)
    if ended is None or ended.state != "succeeded":
        yield wire.error_frame(f"Ingestion error: {ended.error}" if ended else _STOPPING)
        return
    version = await _version(ctx, ended)
    if version is None:
        yield wire.frame("progress", {"batch": 0, "totalBatches": 0, "message": "No new incidents to ingest"})
        version = await ctx.app.db.read(lambda conn: knowledge.active(conn, run.dataset))
    else:
        async for frames in _batches(ctx, version, version.added + version.changed, size):
            yield frames
    yield wire.frame(
        "complete",
        {
            "success": True,
            "version_id": version.id,
            "version_number": version.number,
            "collection_name": base.collection_name(version),
            "incident_count": version.total,
        },
    )
