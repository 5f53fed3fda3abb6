"""`/v1/{workspace_id}/datasets/{dataset_id}/runs…`: syncs begun, watched, cancelled."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from trunkline.http.native.models import PageQuery, PaginatedResponse
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.http.wire import Stream, encode
from trunkline.services import progress, sync
from trunkline.services.progress import Run, RunEvent

router = Router("Runs")
_DATASET = {404: "Dataset not found."}
_RUN = {404: "Run not found."}
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]


class StartRunRequest(BaseModel):
    """How to sync."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["full", "incremental"] | None = Field(
        None,
        description="`full` reads everything and finds what is gone; `incremental` reads what is new since the "
        "last run; without it: incremental where that is possible",
    )


class RunResponse(BaseModel):
    """One run. Its counts are against the version before it."""

    id: UUID
    mode: Literal["auto", "full", "incremental", "upload"] = Field(description="`auto` until it has begun")
    state: Literal["queued", "running", "succeeded", "waiting", "failed", "cancelled"] = Field(
        description="`waiting`: its version waits for a person"
    )
    cancel_asked: bool
    version: int | None = Field(description="The version it makes; null again when nothing had changed")
    fetched: int
    pages: int
    added: int
    changed: int
    removed: int
    quarantined: int
    error: str | None
    made_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunStreamQuery(BaseModel):
    """Where a stream begins."""

    after: Number = Field(0, description="Begin after the event of this number")


class _EventStream(Response):
    media_type = "text/event-stream"


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/runs",
    "Dataset.sync",
    status=201,
    returns=RunResponse,
    errors=_DATASET | {409: "A run is under way, or the dataset has nothing to sync from."},
)
async def start_run(call: Call, workspace_id: UUID, dataset_id: UUID, body: StartRunRequest) -> Run:
    """Begin a sync; it goes on whether or not anybody watches."""
    return await sync.start(call, str(dataset_id), body.mode)


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/runs",
    "Dataset.view",
    returns=PaginatedResponse[RunResponse],
    errors=_DATASET,
)
async def list_runs(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[PageQuery, Query()]
) -> dict[str, Any]:
    """List the runs of a dataset, newest first; the newest 1,000 are remembered."""
    page = await progress.list_page(call, str(dataset_id), query.limit, query.continuation_token)
    return page_of(page.items, page.total, query.continuation_token)


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/runs/{run_id}",
    "Dataset.view",
    returns=RunResponse,
    errors=_RUN,
)
async def get_run(call: Call, workspace_id: UUID, dataset_id: UUID, run_id: UUID) -> Run:
    """Show a run."""
    return await progress.get(call, str(dataset_id), str(run_id))


@router.answers(
    "POST /v1/{workspace_id}/datasets/{dataset_id}/runs/{run_id}/cancel",
    "Dataset.sync",
    returns=RunResponse,
    errors=_RUN | {409: "It is over."},
)
async def cancel_run(call: Call, workspace_id: UUID, dataset_id: UUID, run_id: UUID) -> Run:
    """End a run within a page, and undo what it wrote; readers have seen nothing of it."""
    return await sync.cancel(call, str(dataset_id), str(run_id))


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/runs/{run_id}/stream",
    "Dataset.view",
    response_class=_EventStream,
    errors=_RUN | {429: "The workspace watches as many runs as it may."},
)
async def stream_run(
    call: Call,
    workspace_id: UUID,
    dataset_id: UUID,
    run_id: UUID,
    query: Annotated[RunStreamQuery, Query()],
    *,
    last_event_id: Annotated[Number | None, Header()] = None,
) -> Stream:
    """Send `progress` events as a run gets on, then one `complete` or `error`; `Last-Event-ID` goes on where a stream broke off."""
    after = query.after if last_event_id is None else last_event_id
    return Stream(_chunks(await progress.follow(call, str(dataset_id), str(run_id), after)))


async def _chunks(following: AsyncGenerator[RunEvent | None, None]) -> AsyncGenerator[bytes, None]:
    yield b"retry: 2000\n\n"
    async with aclosing(following) as events:
        async for event in events:
            yield _written(event)


def _written(event: RunEvent | None) -> bytes:
    if event is None:
        return b": keep-alive\n\n"
    data = encode(event.data | {"at": event.at})
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.number, event.type.encode(), data)
