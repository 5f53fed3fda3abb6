"""`/v1/{workspace_id}/datasets/{dataset_id}/records…`: reading, exporting, the feed of changes, quarantine."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trunkline.errors import Invalid
from trunkline.http.native.models import PageQuery, PaginatedResponse
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.http.wire import Stream
from trunkline.services import datasets, differences, exports, pulling, quarantine, records
from trunkline.services.records import Filters, Record

router = Router("Records")
_DATASET = {404: "Dataset not found."}
_VERSION = {
    404: "No such dataset or version, or none is active yet.",
    409: "The version is being made.",
    410: "The version's records are not kept.",
}
_RECORD = _VERSION | {404: "No such dataset, version or record."}
_AFTER = re.compile(r"(\d{1,9}):(.*)", re.ASCII | re.DOTALL)
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class VersionQuery(BaseModel):
    """Which version; the active one unless told otherwise."""

    version: Number | None = None


class RecordsQuery(VersionQuery):
    """Which records."""

    after: Annotated[str, Field(max_length=600)] | None = Field(
        None, description="The `after` of the answer before: the list goes on, at the same version"
    )
    limit: Annotated[int, Field(gt=0, le=1_000)] = 100
    filters: str | None = Field(
        None, description='A JSON object of paths and the values wanted there: {"state":"Closed"}'
    )


class RecordResponse(BaseModel):
    """One record."""

    key: str
    version: int = Field(description="The version it was read from")
    since: int = Field(description="The version since which it is like this")
    record: Any


class RecordsResponse(BaseModel):
    """Records of one version in the order of their keys."""

    items: list[RecordResponse]
    version: int
    has_more: bool
    after: str | None = Field(description="What to send as `after` for what follows")
    total: int | None = Field(description="Null with filters")


class DeletedResponse(BaseModel):
    """The version that was made."""

    version: int
    status: Literal["active", "waiting"]


class ChangesQuery(BaseModel):
    """Where to go on."""

    since: Annotated[str, Field(max_length=2_000)] | None = Field(
        None,
        description="The `position` of the answer before, or a version's number; without it all records are new",
    )
    limit: Annotated[int, Field(gt=0, le=1_000)] = 100


class ChangeResponse(BaseModel):
    """What happened to one record; `record` is null when it was deleted."""

    key: str
    type: Literal["added", "updated", "deleted"]
    record: Any


class ChangesResponse(BaseModel):
    """Changes in the order of their keys, up to a version."""

    items: list[ChangeResponse]
    version: int
    position: str = Field(description="What to send as `since` next time")
    has_more: bool


class ExportQuery(VersionQuery):
    """What to write, and how."""

    format: Literal["jsonl", "csv", "parquet"] = "jsonl"


class QuarantineQuery(PageQuery):
    """Which rows."""

    version: Number | None = None


class QuarantinedResponse(BaseModel):
    """One row that could not be taken in."""

    id: UUID
    version: int
    reason: str
    data: str = Field(description="Its text, of long ones the beginning")
    created_at: datetime


class ReplayRequest(BaseModel):
    """Which rows to try again."""

    model_config = ConfigDict(extra="forbid")
    ids: Annotated[list[str], Field(max_length=quarantine.MOST_REPLAYED)] | None = Field(
        None, description="Without it the oldest 1,000"
    )
    key: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="The path of their key, when the stream's is not right, or for a dataset of uploads"
    )


class ReplayResponse(BaseModel):
    """How many rows were tried, how many fit now, and the version that has these."""

    tried: int
    taken: int
    version: int | None


class _File(Response):
    media_type = "application/octet-stream"


_TYPES = {"added": "added", "changed": "updated", "removed": "deleted"}


def _shown(record: Record, version: int) -> dict[str, Any]:
    return {
        "key": record.key,
        "version": version,
        "since": record.since,
        "record": orjson.loads(record.data),
    }


def _place(query: RecordsQuery) -> tuple[int | None, str]:
    if not query.after:
        return query.version, ""
    match = _AFTER.fullmatch(query.after)
    if match is None or query.version not in {None, int(match[1])}:
        raise Invalid.field(("query", "after"), "must be the `after` of an answer for the same version")
    return int(match[1]), match[2]


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/records",
    "Dataset.view",
    returns=RecordsResponse,
    errors=_VERSION,
)
async def list_records(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[RecordsQuery, Query()]
) -> dict[str, Any]:
    """List the records of a version; following `after` never mixes two, whatever goes live meanwhile."""
    filters = Filters.parse(query.filters)
    number, after = _place(query)
    page = await records.list_page(call, str(dataset_id), number, after, query.limit, filters=filters)
    version = page.version.number
    return {
        "items": [_shown(record, version) for record in page.items],
        "version": version,
        "has_more": page.after is not None,
        "after": None if page.after is None else f"{version}:{page.after}",
        "total": None if filters else page.version.total,
    }


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/records/{key}",
    "Dataset.view",
    returns=RecordResponse,
    errors=_RECORD,
)
async def get_record(
    call: Call, workspace_id: UUID, dataset_id: UUID, key: str, query: Annotated[VersionQuery, Query()]
) -> dict[str, Any]:
    """Show a record. Its key is the rest of the path, percent-encoded where a path needs that."""
    version, record = await records.get(call, str(dataset_id), key, query.version)
    return _shown(record, version.number)


@router.answers(
    "DELETE /v1/{workspace_id}/datasets/{dataset_id}/records/{key}",
    "Dataset.delete",
    returns=DeletedResponse,
    errors=_RECORD | {409: "A run is under way."},
)
async def delete_record(call: Call, workspace_id: UUID, dataset_id: UUID, key: str) -> dict[str, Any]:
    """Delete a record by making a version without it."""
    version = await records.delete(call, str(dataset_id), [key])
    return {"version": version.number, "status": version.status}


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/changes",
    "Dataset.view",
    returns=ChangesResponse,
    errors=_VERSION | {410: "The position is too old: begin anew."},
)
async def list_changes(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[ChangesQuery, Query()]
) -> dict[str, Any]:
    """Tell whoever keeps a copy what changed since a position, roll backs too."""
    feed = await differences.changes(call, str(dataset_id), query.since, query.limit)
    return {
        "items": [{"key": each.key, "type": _TYPES[each.kind], "record": each.after} for each in feed.items],
        "version": feed.version,
        "position": feed.position,
        "has_more": feed.more,
    }


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/export",
    "Dataset.view",
    response_class=_File,
    errors=_VERSION,
)
async def export_records(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[ExportQuery, Query()]
) -> Stream:
    """Write a version out as JSON Lines, CSV or Parquet."""
    number, chunks = await exports.export(call, str(dataset_id), query.version, query.format)
    name = f'attachment; filename="version-{number}.{query.format}"'.encode()
    content_type = exports.CONTENT_TYPES[query.format].encode()
    return Stream(chunks, content_type, ((b"content-disposition", name),))


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/quarantine",
    "Dataset.view",
    returns=PaginatedResponse[QuarantinedResponse],
    errors=_DATASET,
)
async def list_quarantine(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[QuarantineQuery, Query()]
) -> dict[str, Any]:
    """List the rows that could not be taken in, newest first."""
    page = await quarantine.list_page(
        call, str(dataset_id), query.limit, query.continuation_token, version=query.version
    )
    return page_of(page.items, page.total, page.offset)


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/quarantine/replay",
    "Dataset.sync",
    returns=ReplayResponse,
    errors=_DATASET | {409: "A run is under way."},
)
async def replay_quarantine(
    call: Call, workspace_id: UUID, dataset_id: UUID, body: ReplayRequest
) -> dict[str, Any]:
    """Try quarantined rows again; those that fit now become a version."""
    dataset = await datasets.get(call, str(dataset_id))
    read_row = await pulling.row_reader(call, dataset, body.key)
    replay = await quarantine.replay(call, str(dataset_id), read_row, body.ids)
    version = replay.version.number if replay.version else None
    return {"tried": replay.tried, "taken": replay.taken, "version": version}
