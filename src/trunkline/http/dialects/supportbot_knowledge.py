"""Supportbot's knowledge base: records, the ingestion log, uploads, versions and roll back."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.http.dialects import supportbot_wire as wire
from trunkline.http.dialects.dialect import Request, validate
from trunkline.http.wire import parse_json
from trunkline.services import knowledge, records, uploads, versions
from trunkline.services.knowledge import Entry
from trunkline.services.upload_files import MAX_FILES, File
from trunkline.services.upload_rows import PREVIEW
from trunkline.services.uploads import Upload
from trunkline.services.versions import Version

_EDITED = ("edit", "upload")
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
Notes = Annotated[str, Field(max_length=2_000)]


class Incidents(BaseModel):
    """Which records."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    offset: Offset = 0


async def incidents(ctx: Context, request: Request) -> dict[str, Any]:
    """List records of the active version."""
    query: Incidents = request.query
    found = await knowledge.entries(ctx, query.limit, query.offset)
    names = ("incident_id", "title", "description", "action_taken", "opened_at", "updated_at")
    shown = [
        {name: entry.data.get(name) for name in names} | {"source": entry.version.source} for entry in found
    ]
    return {"success": True, "incidents": shown, "limit": query.limit, "offset": query.offset}


async def delete_incident(ctx: Context, request: Request) -> dict[str, Any]:
    """Delete a record, by making a version without it."""
    try:
        dataset = await knowledge.need(ctx)
        await records.delete(ctx, dataset.id, [request.path["incident_id"]])
    except NotFound:
        return wire.failed("Incident not found")
    except Conflict as error:
        return wire.failed(error.message)
    return {"success": True, "message": "Incident deleted successfully"}


class Logs(BaseModel):
    """How much of the log."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 10


async def logs(ctx: Context, request: Request) -> dict[str, Any]:
    """List what was taken in last, newest first."""
    found = await knowledge.entries(ctx, request.query.limit, newest_first=True)
    return {"success": True, "logs": [_log(entry) for entry in found]}


def _log(entry: Entry) -> dict[str, Any]:
    return {
        "id": str(entry.position),
        "incident_id": entry.data.get("incident_id"),
        "title": entry.data.get("title"),
        "source": entry.version.source,
        "created_at": wire.stamp(entry.version.finished_at or entry.version.created_at),
    }


class UploadedFile(BaseModel):
    """One file; its size is counted, not believed."""

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    size: int | None = None
    content: str


class NewUpload(BaseModel):
    """Files to take in."""

    files: Annotated[list[UploadedFile], Field(min_length=1, max_length=MAX_FILES)]


async def upload(ctx: Context, request: Request) -> dict[str, Any]:
    """Keep files of records for checking."""
    body: NewUpload = request.body
    try:
        made, checked = await uploads.create(ctx, [File(file.filename, file.content) for file in body.files])
    except Invalid as error:
        return wire.failed("; ".join(field.msg for field in error.fields)[:2000] or error.message)
    return {
        "success": True,
        "session_id": made.id,
        "status": made.status,
        "incident_count": sum(file["rows"] for file in made.files),
        "file_metadata": made.files,
        "preview": list(checked.records.values())[:PREVIEW],
    }


class Mapped(BaseModel):
    """Which field of the files is which of a record."""

    session_id: str | None = None
    mapping: Annotated[dict[str, Annotated[str, Field(max_length=200)]], Field(max_length=500)]


async def check(ctx: Context, request: Request) -> dict[str, Any]:
    """Check every row of an upload."""
    return _report(await uploads.validate(ctx, read_session(request.path["session_id"])))


async def map_fields(ctx: Context, request: Request) -> dict[str, Any]:
    """Check every row again, with other names for its fields."""
    body: Mapped = request.body
    session_id = read_session(request.path["session_id"])
    if body.session_id not in {None, session_id}:
        raise Invalid.field(("body", "session_id"), "is not the session of the address")
    return _report(await uploads.validate(ctx, session_id, body.mapping))


def _report(found: Upload) -> dict[str, Any]:
    return {"success": True, "session_id": found.id, **(found.report or {})}


def read_session(text: str) -> str:
    """Read the id of an upload. Raises NotFound."""
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFound("Upload not found") from None


class Versions(BaseModel):
    """Which versions."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 20
    offset: Offset = 0


async def list_versions(ctx: Context, request: Request) -> dict[str, Any]:
    """List versions, newest first."""
    query: Versions = request.query
    dataset = await knowledge.find(ctx)
    if dataset is None:
        return {"success": True, "versions": [], "total": 0, "active_version_id": None}
    page = await versions.list_page(ctx, dataset.id, query.limit, query.offset)
    active = await versions.get(ctx, dataset.id, dataset.active_version) if dataset.active_version else None
    return {
        "success": True,
        "versions": await _show_all(ctx, page.items),
        "total": page.total,
        "active_version_id": active.id if active else None,
    }


async def active_version(ctx: Context, request: Request) -> dict[str, Any]:
    """Show the active version; null when there is none."""
    del request
    dataset = await knowledge.find(ctx)
    if dataset is None or dataset.active_version is None:
        return {"success": True, "version": None}
    found = await versions.get(ctx, dataset.id, dataset.active_version)
    return {"success": True, "version": (await _show_all(ctx, [found]))[0]}


async def get_version(ctx: Context, request: Request) -> dict[str, Any]:
    """Show a version."""
    found = await _version(ctx, request)
    return {"success": True, "version": (await _show_all(ctx, [found]))[0]}


async def _version(ctx: Context, request: Request) -> Version:
    try:
        return await knowledge.version(ctx, str(UUID(request.path["version_id"])))
    except (ValueError, NotFound):
        raise NotFound("Version not found") from None


async def _show_all(ctx: Context, found: list[Version]) -> list[dict[str, Any]]:
    files = await knowledge.sent_files(ctx, [item.run_id for item in found if item.run_id])
    return [_show(ctx, item, files.get(item.run_id or "")) for item in found]


def collection_name(version: Version) -> str:
    """Name a version's collection; there are none here, as a version holds no copy of its records."""
    return f"incidents_v_{version.number}_{version.id[:8]}"


def _show(ctx: Context, item: Version, sent: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": item.id,
        "version_number": item.number,
        "collection_name": collection_name(item),
        "status": "ingesting" if item.status == "waiting" else item.status,
        "is_active": item.status == "active",
        "incident_count": item.total,
        "file_metadata": sent["files"] if sent else None,
        "source": item.source,
        "snapshot_name": None,
        "upload_session_id": sent["id"] if sent else None,
        "uploader_email": item.made_by,
        "notes": item.notes if item.notes or item.source in _EDITED else _notes(ctx, item),
        "activated_at": wire.stamp(item.activated_at),
        "created_at": wire.stamp(item.created_at),
        "updated_at": wire.stamp(max(filter(None, (item.created_at, item.finished_at, item.activated_at)))),
    }


def _notes(ctx: Context, item: Version) -> str:
    manifest = wire.connector_named(ctx.app.catalog.all(), item.source)
    return f"{manifest.name if manifest else item.source} sync - {item.added + item.changed} incidents"


class Rollback(BaseModel):
    """Why."""

    notes: Notes | None = None


async def roll_back(ctx: Context, request: Request) -> dict[str, Any]:
    """Let an older version be the active one."""
    body = validate(Rollback, parse_json(request.body) if request.body else {}, "body")
    try:
        found = await _version(ctx, request)
        dataset = await knowledge.need(ctx)
        if found.status != "active":
            found = await versions.roll_back(ctx, dataset.id, found.number, body.notes)
    except NotFound:
        raise wire.Refused("Version not found") from None
    except Conflict:
        raise wire.Refused(
            _CANNOT.get(found.status, "Cannot activate a version that is not finished")
        ) from None
    return {"success": True, "message": f"Rolled back to version {found.number}", "version_id": found.id}


_CANNOT = {
    "archived": "Cannot activate an archived version (collection deleted)",
    "failed": "Cannot activate a failed version",
}


async def delete_version(ctx: Context, request: Request) -> dict[str, Any]:
    """Delete what only this version has."""
    found = await _version(ctx, request)
    if found.status == "active":
        raise wire.Refused("Cannot delete the active version")
    dataset = await knowledge.need(ctx)
    try:
        await versions.archive(ctx, dataset.id, found.number)
    except Conflict as error:
        raise wire.Refused(error.message) from None
    return {"success": True, "message": "Version deleted"}
