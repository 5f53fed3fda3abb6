"""`/v1/{workspace_id}/integrations/{integration_id}/hook`: the address a service posts its webhooks to."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from trunkline.http.native.route import Call, Router
from trunkline.services import hooks

router = Router("Hooks")
_PATH = "/v1/{workspace_id}/integrations/{integration_id}/hook"


class HookResponse(BaseModel):
    """Where a service posts its webhooks, and how they are verified."""

    path: str
    url: str | None
    created_at: datetime
    previous_until: datetime | None
    description: str
    verification: str | None
    missing: list[str]
    warning: str | None


def _to_wire(view: hooks.HookView) -> HookResponse:
    return HookResponse.model_validate(view, from_attributes=True)


@router.answers(
    "GET /v1/{workspace_id}/integrations/{integration_id}/hook",
    "Hook.view",
    returns=HookResponse,
    errors={404: "No such integration, or it takes no webhooks."},
)
async def get_hook(call: Call, workspace_id: UUID, integration_id: UUID) -> HookResponse:
    """Show the address a service posts its webhooks to, and what is missing before they are accepted."""
    return _to_wire(await hooks.url(call, str(integration_id)))


@router.answers(
    "POST /v1/{workspace_id}/integrations/{integration_id}/hook",
    "Hook.update",
    status=201,
    returns=HookResponse,
    errors={404: "No such integration, or it takes no webhooks."},
)
async def rotate_hook(call: Call, workspace_id: UUID, integration_id: UUID) -> HookResponse:
    """Make the address, or another one: then the one before works for 24 hours more."""
    return _to_wire(await hooks.rotate(call, str(integration_id)))
