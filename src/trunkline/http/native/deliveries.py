"""`/v1/{workspace_id}/deliveries…`: what was sent, attempt by attempt; sending again."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from trunkline.http.native.models import Id, PageQuery, PaginatedResponse
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.services import deliveries
from trunkline.services.deliveries import Filter

router = Router("Deliveries")
_NOT_FOUND = {404: "Delivery not found."}
State = Literal["pending", "sending", "delivered", "failed", "cancelled"]


def _time(given: Any) -> Any:
    """Read a time from text, the only way JSON can write one; bodies are otherwise strict about types."""
    return datetime.fromisoformat(given) if isinstance(given, str) else given


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    state: State | None = None
    route_id: Id | None = None
    event_id: Id | None = None
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
    route_id: Id | None = None


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
    wanted = Filter(**query.model_dump(exclude={"limit", "continuation_token"}))
    page = await deliveries.list_page(call, wanted, query.limit, query.continuation_token)
    return page_of(page.items, page.total, query.continuation_token, more=page.more)


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
    return {"count": await deliveries.recover(call, body.since, body.route_id)}


@router.answers(
    "POST /v1/{workspace_id}/deliveries/{delivery_id}/resend",
    "Delivery.resend",
    returns=DeliveryResponse,
    errors=_NOT_FOUND | {409: "It is being sent, or its route or event is gone."},
)
async def resend_delivery(call: Call, workspace_id: UUID, delivery_id: UUID) -> deliveries.Delivery:
    """Send a delivery again now, whatever became of it before."""
    return await deliveries.resend(call, str(delivery_id))
