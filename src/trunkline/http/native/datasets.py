"""`/v1/{workspace_id}/datasets…`: datasets, their versions, diffs, roll back."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trunkline.context import Context
from trunkline.errors import Invalid
from trunkline.http.native.models import NameString, PageQuery, PaginatedResponse
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.services import datasets, differences, timetable, versions
from trunkline.services.datasets import Change, Dataset, Draft
from trunkline.services.versions import Version

router = Router("Datasets")
_DATASET = {404: "Dataset not found."}
_VERSION = {404: "Dataset or version not found."}
_KEPT = {409: "A version is still being made.", 410: "A version's records are not kept."}
_MAX_PARAMS = 100
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
DatasetName = Annotated[NameString, Field(max_length=128)]
Status = Literal["ingesting", "waiting", "active", "inactive", "failed", "archived"]


def _uuid(given: Any) -> Any:
    return UUID(given) if isinstance(given, str) else given


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CreateDatasetRequest(_Request):
    """A dataset: of a stream of an integration, or filled by uploads alone."""

    name: DatasetName
    integration_id: Annotated[UUID, BeforeValidator(_uuid)] | None = None
    stream: Annotated[str, Field(max_length=64)] | None = None
    params: Annotated[dict[str, Any], Field(max_length=_MAX_PARAMS)] = Field(
        {}, description="Parameters of the stream's endpoint"
    )
    gate: dict[str, Any] = Field(
        {}, description="Limits within which a version goes live: `deletes`, `rows`, `empty`, `schema`"
    )
    schedule: dict[str, Any] | None = Field(
        None, description='{"every_seconds": 300}, or {"cron": "*/5 * * * *", "timezone": "Europe/Vienna"}'
    )


class UpdateDatasetRequest(_Request):
    """Parts to change; what is left out stays."""

    name: DatasetName | None = None
    params: Annotated[dict[str, Any], Field(max_length=_MAX_PARAMS)] | None = None
    gate: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = Field(None, description="{} for none")


class DatasetResponse(BaseModel):
    """One dataset."""

    id: UUID
    name: str
    integration_id: UUID | None
    stream: str | None
    params: dict[str, Any]
    gate: dict[str, Any]
    schedule: dict[str, Any] | None
    next_run_at: datetime | None
    active_version: int | None = Field(description="What readers see; null: nothing yet")
    newest_version: int
    cursor: Any = Field(description="Where the next incremental run begins")
    run_id: UUID | None = Field(description="The run under way")
    last_synced_at: datetime | None
    last_status: str | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime


class VersionResponse(BaseModel):
    """One version; counts are against its base."""

    number: int
    id: UUID
    base: int | None
    status: Status
    source: str = Field(description="A connector's id, `upload`, `edit` or `replay`")
    run_id: UUID | None
    added: int
    changed: int
    removed: int
    total: int
    quarantined: int
    reason: str | None = Field(description="Why it waits, or failed")
    notes: str | None
    made_by: str | None
    created_at: datetime
    finished_at: datetime | None
    activated_at: datetime | None


class VersionDetailResponse(VersionResponse):
    """One version, with its cursor and what a sample of its records holds."""

    cursor: Any
    fields: dict[str, Any] | None


class ListDatasetsQuery(PageQuery):
    """Which datasets."""

    integration_id: UUID | None = None


class ListVersionsQuery(PageQuery):
    """Which versions."""

    status: Status | None = None


class RollbackRequest(_Request):
    """Why."""

    notes: Annotated[str, Field(max_length=2_000)] | None = None


class DiffQuery(BaseModel):
    """Which versions to compare, and the key after which to go on."""

    from_: Number = Field(alias="from")
    to: Number
    after: Annotated[str, Field(max_length=512)] = ""
    limit: Annotated[int, Field(gt=0, le=1_000)] = 100


class DifferenceResponse(BaseModel):
    """One record that differs; `before` and `after` are null where it is not there."""

    key: str
    change: Literal["added", "changed", "removed"]
    fields: list[str] = Field(description="Those that differ, of a record that changed")
    before: Any
    after: Any


class DiffResponse(BaseModel):
    """Differences in the order of their keys."""

    items: list[DifferenceResponse]
    has_more: bool
    after: str | None = Field(description="What to send as `after` for what follows")


def _schedule(call: Context, given: dict[str, Any] | None) -> tuple[dict[str, Any] | None, datetime | None]:
    """Check a schedule, and say when it runs first: an interval at once."""
    if not given:
        return given, None
    checked = timetable.check(given)
    return checked, call.now if "every_seconds" in checked else timetable.next_after(checked, call.now)


@router.answers("GET /v1/{workspace_id}/datasets", "Dataset.view", returns=PaginatedResponse[DatasetResponse])
async def list_datasets(
    call: Call, workspace_id: UUID, query: Annotated[ListDatasetsQuery, Query()]
) -> dict[str, Any]:
    """List datasets, newest first."""
    integration_id = str(query.integration_id) if query.integration_id else None
    page = await datasets.list_page(call, query.limit, query.continuation_token, integration_id)
    return page_of(page.items, page.total, page.offset)


@router.answers(
    "POST /v1/{workspace_id}/datasets",
    "Dataset.create",
    status=201,
    returns=DatasetResponse,
    errors={409: "The name is taken, or there are too many.", 422: "Invalid request body."},
)
async def create_dataset(call: Call, workspace_id: UUID, body: CreateDatasetRequest) -> Dataset:
    """Make a dataset, empty as yet."""
    if body.schedule and body.integration_id is None:
        raise Invalid.field(("body", "schedule"), "needs an integration to sync from")
    schedule, next_run_at = _schedule(call, body.schedule)
    draft = Draft(
        name=body.name,
        integration_id=None if body.integration_id is None else str(body.integration_id),
        stream=body.stream,
        params=body.params,
        gate=body.gate,
        schedule=schedule,
        next_run_at=next_run_at,
    )
    return await datasets.create(call, draft)


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}", "Dataset.view", returns=DatasetResponse, errors=_DATASET
)
async def get_dataset(call: Call, workspace_id: UUID, dataset_id: UUID) -> Dataset:
    """Show a dataset."""
    return await datasets.get(call, str(dataset_id))


@router.answers(
    "PUT /v1/{workspace_id}/datasets/{dataset_id}",
    "Dataset.update",
    returns=DatasetResponse,
    errors=_DATASET
    | {409: "The name is taken, or a run reads with the params.", 422: "Invalid request body."},
)
async def update_dataset(
    call: Call, workspace_id: UUID, dataset_id: UUID, body: UpdateDatasetRequest
) -> Dataset:
    """Change parts of a dataset."""
    if body.schedule and (await datasets.get(call, str(dataset_id))).integration_id is None:
        raise Invalid.field(("body", "schedule"), "needs an integration to sync from")
    schedule, next_run_at = _schedule(call, body.schedule)
    change = Change(body.name, body.params, body.gate, schedule, next_run_at)
    return await datasets.update(call, str(dataset_id), change)


@router.answers(
    "DELETE /v1/{workspace_id}/datasets/{dataset_id}",
    "Dataset.delete",
    status=204,
    errors=_DATASET | {409: "A run is under way."},
)
async def delete_dataset(call: Call, workspace_id: UUID, dataset_id: UUID) -> None:
    """Delete a dataset and all that is in it."""
    await datasets.delete(call, str(dataset_id))


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/versions",
    "Dataset.view",
    returns=PaginatedResponse[VersionResponse],
    errors=_DATASET,
)
async def list_versions(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[ListVersionsQuery, Query()]
) -> dict[str, Any]:
    """List the versions of a dataset, newest first."""
    statuses = (query.status,) if query.status else ()
    page = await versions.list_page(call, str(dataset_id), query.limit, query.continuation_token, statuses)
    return page_of(page.items, page.total, page.offset)


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/versions/{number}",
    "Dataset.view",
    returns=VersionDetailResponse,
    errors=_VERSION,
)
async def get_version(call: Call, workspace_id: UUID, dataset_id: UUID, number: int) -> Version:
    """Show a version."""
    return await versions.get(call, str(dataset_id), number)


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/versions/{number}/rollback",
    "Dataset.rollback",
    returns=VersionResponse,
    errors=_VERSION | {409: "It is not inactive."},
)
async def roll_back(
    call: Call, workspace_id: UUID, dataset_id: UUID, number: int, body: RollbackRequest | None = None
) -> Version:
    """Make another version the active one, records and cursor together, at once."""
    return await versions.roll_back(call, str(dataset_id), number, body.notes if body else None)


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/versions/{number}/activate",
    "Dataset.rollback",
    returns=VersionResponse,
    errors=_VERSION | {409: "It does not wait."},
)
async def activate_version(call: Call, workspace_id: UUID, dataset_id: UUID, number: int) -> Version:
    """Let a version go live that waits for a person."""
    return await versions.activate(call, str(dataset_id), number)


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/versions/{number}/reject",
    "Dataset.rollback",
    returns=VersionResponse,
    errors=_VERSION | {409: "It does not wait."},
)
async def reject_version(call: Call, workspace_id: UUID, dataset_id: UUID, number: int) -> Version:
    """Give up a version that waits for a person."""
    return await versions.reject(call, str(dataset_id), number)


@router.answers(
    "DELETE /v1/{workspace_id}/datasets/{dataset_id}/versions/{number}",
    "Dataset.delete",
    status=204,
    errors=_VERSION | {409: "It is active, waits, or is being made."},
)
async def delete_version(call: Call, workspace_id: UUID, dataset_id: UUID, number: int) -> None:
    """Delete the records that only this version has; what it did stays known."""
    await versions.archive(call, str(dataset_id), number)


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/diff",
    "Dataset.view",
    returns=DiffResponse,
    errors=_VERSION | _KEPT,
)
async def diff_versions(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[DiffQuery, Query()]
) -> dict[str, Any]:
    """Compare two versions, either of which may be the later one."""
    page = await differences.diff(
        call, str(dataset_id), query.from_, query.to, query.after, limit=query.limit
    )
    items = [
        {
            "key": each.key,
            "change": each.kind,
            "fields": each.fields,
            "before": each.before,
            "after": each.after,
        }
        for each in page.items
    ]
    return {"items": items, "has_more": page.after is not None, "after": page.after}
