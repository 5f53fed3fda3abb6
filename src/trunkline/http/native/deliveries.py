"""`/v1/{workspace_id}/deliveries…`: what was sent, attempt by attempt; sending again."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from trunkline.http.native.models import PageQuery, PaginatedResponse
from trunkline.http.native.route import Call, Router
from trunkline.services import deliveries
from trunkline.services.deliveries import Filter

router = Router("Deliveries")
_NOT_FOUND = {404: "Delivery not found."}
State = Literal["pending", "sending", "delivered", "failed", "cancelled"]


def _time(given: Any) -> Any:
    """Read a time from text, the only way JSON can write one; bodies are otherwise strict about types."""
    return datetime.fromisoformat(given) if isinstance(given, str) else given


def _uuid(given: Any) -> Any:
    return UUID(given) if isinstance(given, str) else given


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    state: State | None = None
    route_id: UUID | None = None
    event_id: UUID | None = None
    since: AwareDatetime | None = Field(None, description="Only those made at this time or later")


class DeliveryResponse(BaseModel):
    """One event on one route, and how far it has come."""

    id: UUID = Field(description="Also the idempotency key that receivers see")
    event_id: UUID
    route_id: UUID
    state: State
    attempt_count: int
    failures: int = Field(description="Attempts that count for the schedule; 'not now' does not")
    due_at: datetime = Field(description="When it is tried next, while it is pending")
    last_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class AttemptResponse(BaseModel):
    """One attempt; `trace` holds its exchanges, redacted and cut."""

    number: int
    started_at: datetime
    duration_ms: float | None
    status: int | None
    error: str | None
    trace: dict[str, Any] | None


class DeliveryWithAttemptsResponse(DeliveryResponse):
    """A delivery with its newest attempts, in their order."""

    attempts: list[AttemptResponse]


class RecoverRequest(BaseModel):
    """Which failed deliveries to send again."""

    since: Annotated[AwareDatetime, BeforeValidator(_time)]
    route_id: Annotated[UUID, BeforeValidator(_uuid)] | None = None


class RecoverResponse(BaseModel):
    """How many deliveries are sent again."""

    count: int


@router.answers(
    "GET /v1/{workspace_id}/deliveries", "Delivery.view", returns=PaginatedResponse[DeliveryResponse]
)
async def list_deliveries(
    call: Call, workspace_id: UUID, query: Annotated[DeliveryQuery, Query()]
) -> dict[str, Any]:
    """List deliveries, newest first; `total` is null beyond 10,000."""
    wanted = Filter(
        state=query.state,
        route_id=str(query.route_id) if query.route_id else None,
        event_id=str(query.event_id) if query.event_id else None,
        since=query.since,
    )
    page = await deliveries.list_page(call, wanted, query.limit, query.continuation_token)
    end = query.continuation_token + len(page.items)
    return {
        "items": page.items,
        "has_more": page.more,
        "continuation_token": end if page.more else None,
        "total": page.total,
    }


@router.answers(
    "GET /v1/{workspace_id}/deliveries/{delivery_id}",
    "Delivery.view",
    returns=DeliveryWithAttemptsResponse,
    errors=_NOT_FOUND,
)
async def get_delivery(call: Call, workspace_id: UUID, delivery_id: UUID) -> dict[str, Any]:
    """Show a delivery and its attempts."""
    found, attempts = await deliveries.get(call, str(delivery_id))
    return {name: getattr(found, name) for name in DeliveryResponse.model_fields} | {"attempts": attempts}


@router.answers("POST /v1/{workspace_id}/deliveries/recover", "Delivery.resend", returns=RecoverResponse)
async def recover_deliveries(call: Call, workspace_id: UUID, body: RecoverRequest) -> dict[str, int]:
    """Send again everything that was given up since a time."""
    route_id = str(body.route_id) if body.route_id else None
    return {"count": await deliveries.recover(call, body.since, route_id)}


@router.answers(
    "POST /v1/{workspace_id}/deliveries/{delivery_id}/resend",
    "Delivery.resend",
    returns=DeliveryResponse,
    errors=_NOT_FOUND | {409: "It is being sent, or its route or event is gone."},
)
async def resend_delivery(call: Call, workspace_id: UUID, delivery_id: UUID) -> deliveries.Delivery:
    """Send a delivery again now, whatever became of it before."""
    return await deliveries.resend(call, str(delivery_id))
