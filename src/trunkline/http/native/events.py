"""`/v1/{workspace_id}/events…`: the log, its stream, replay. Events are shown as CloudEvents 1.0."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import Response

from trunkline.http.native.models import Id, PaginatedResponse
from trunkline.http.native.route import Call, Router
from trunkline.http.wire import Stream, encode
from trunkline.services import events, ingest, streams
from trunkline.services.events import Filter, to_cloud_event
from trunkline.services.streams import News

router = Router("Events")
_NOT_FOUND = {404: "Event not found."}
_HIGHEST = 2**53


def _utc(time: datetime) -> datetime:
    """Take a time without a zone as UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


Pattern = Annotated[
    str, Field(min_length=1, max_length=256, description="A type, or a pattern: `*` is any run of characters")
]
When = Annotated[datetime, AfterValidator(_utc)]
Number = Annotated[int, Field(ge=0, le=_HIGHEST)]


class CloudEvent(BaseModel):
    """An event as CloudEvents 1.0 in its JSON format writes it; what is absent is left out."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: datetime
    datacontenttype: Literal["application/json"]
    sequence: str = Field(description="The event's number in the workspace's log")
    receivedtime: datetime = Field(description="When Trunkline took it in")
    subject: str | None = None
    title: str | None = None
    project: str | None = None
    severity: str | None = None
    dedupkey: str | None = None
    action: str | None = None
    url: str | None = None
    integrationid: str | None = None
    error: str | None = Field(None, description="Why what came in could not be read as its connector says")
    replayof: str | None = Field(None, description="Id of the event that this is a replay of")
    data: Any


class ListEventsQuery(BaseModel):
    """Which events."""

    type: Pattern | None = None
    integration_id: Id | None = None
    project: Annotated[str, Field(max_length=256)] | None = None
    severity: Literal["critical", "high", "medium", "low", "info"] | None = None
    subject: Annotated[str, Field(max_length=512)] | None = None
    dedup_key: Annotated[str, Field(max_length=512)] | None = None
    since: When | None = Field(None, description="Taken in at this time or later")
    until: When | None = Field(None, description="Taken in before this time")
    errors: bool = Field(False, description="Only events with `error`")
    limit: Annotated[int, Field(gt=0, le=100)] = 10
    continuation_token: Number = 0


class StreamQuery(BaseModel):
    """Where a stream begins, and what it holds."""

    after: Number | None = Field(None, description="Begin after this number; without it, with what comes")
    type: Pattern | None = None


class _EventStream(Response):
    media_type = "text/event-stream"


@router.answers("GET /v1/{workspace_id}/events", "Event.view", returns=PaginatedResponse[CloudEvent])
async def list_events(
    call: Call, workspace_id: UUID, query: Annotated[ListEventsQuery, Query()]
) -> dict[str, Any]:
    """List events, newest first. A page may end early, even empty: go on as long as `has_more` says so."""
    wanted = Filter(**query.model_dump(exclude={"limit", "continuation_token"}))
    page = await events.list_page(call, wanted, query.limit, query.continuation_token or None)
    return {
        "items": [to_cloud_event(event) for event in page.items],
        "has_more": page.before is not None,
        "continuation_token": page.before,
        "total": None,
    }


# Before the route of one event, which would take it for an id.
@router.answers(
    "GET /v1/{workspace_id}/events/stream",
    "Event.view",
    response_class=_EventStream,
    errors={429: "The workspace has as many streams as it may."},
)
async def stream_events(
    call: Call,
    workspace_id: UUID,
    query: Annotated[StreamQuery, Query()],
    *,
    last_event_id: Annotated[Number | None, Header()] = None,
) -> Stream:
    """Send events as they come, as server-sent events; `Last-Event-ID` goes on where a stream broke off."""
    after = query.after if last_event_id is None else last_event_id
    return Stream(_chunks(await streams.follow(call, after, query.type)))


async def _chunks(following: AsyncGenerator[News, None]) -> AsyncGenerator[bytes, None]:
    yield b"retry: 2000\n\n"
    async with aclosing(following) as news:
        async for item in news:
            yield _written(item)


def _written(news: News) -> bytes:
    parts = []
    if news.gap:
        parts.append(b'event: gap\ndata: {"after": %d, "before": %d}\n\n' % news.gap)
    parts += [
        b"id: %d\nevent: %b\ndata: %b\n\n"
        % (event.sequence, event.type.encode(), encode(to_cloud_event(event)))
        for event in news.events
    ]
    # The number alone moves Last-Event-ID on, also past events that the pattern leaves out.
    return b"".join(parts) or b": keep-alive\nid: %d\n\n" % news.position


@router.answers(
    "GET /v1/{workspace_id}/events/{event_id}", "Event.view", returns=CloudEvent, errors=_NOT_FOUND
)
async def get_event(call: Call, workspace_id: UUID, event_id: UUID) -> dict[str, Any]:
    """Show one event."""
    return to_cloud_event(await events.get(call, str(event_id)))


@router.answers(
    "POST /v1/{workspace_id}/events/{event_id}/replay",
    "Event.replay",
    status=201,
    returns=CloudEvent,
    errors=_NOT_FOUND | {409: "There is nothing to read again, or nothing to read it by."},
)
async def replay_event(call: Call, workspace_id: UUID, event_id: UUID) -> dict[str, Any]:
    """Read the event's request again by today's rules, into a new event that is routed like any other."""
    return to_cloud_event(await ingest.replay(call, str(event_id)))
