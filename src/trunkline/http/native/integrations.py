"""`/v1/{workspace_id}/integrations…`: the contract's sections 2-4 and 6.1."""

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Query

from trunkline.errors import Invalid
from trunkline.http.native.models import (
    CreateIntegrationRequest,
    CredentialsInput,
    IntegrationResponse,
    ListIntegrationsQuery,
    PaginatedResponse,
    UpdateIntegrationRequest,
)
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.services import hooks, integrations
from trunkline.services.drafts import Credentials, Draft
from trunkline.services.integrations import Change, Filter, Integration

router = Router("Integrations")
_NOT_FOUND = {404: "Integration not found."}


def to_wire(row: Integration) -> dict[str, Any]:
    """Show an integration; stored JSON is passed through unread."""
    configured = row.configured if row.connector else []
    shown = {"method": row.method, "configured": configured} if row.method or configured else None
    return {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "name": row.name,
        "display_name": row.display_name,
        "protocol": row.protocol,
        "base_url": row.base_url,
        "auth": None if row.auth is None else orjson.Fragment(row.auth),
        "endpoints": orjson.Fragment(row.endpoints),
        "enabled": row.enabled,
        "builtin": row.builtin,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "last_tested_at": row.last_tested_at,
        "last_test_status": row.last_test_status,
        "connector": row.connector,
        "config": row.config,
        "credentials": shown,
    }


@router.answers(
    "GET /v1/{workspace_id}/integrations", "Integration.view", returns=PaginatedResponse[IntegrationResponse]
)
async def list_integrations(
    call: Call, workspace_id: UUID, query: Annotated[ListIntegrationsQuery, Query()]
) -> dict[str, Any]:
    """List integrations, newest first unless `sort_by` says otherwise."""
    if not 0 <= query.continuation_token < 2**53:
        raise Invalid.field(("query", "continuation_token"), "must be a token of an earlier answer")
    wanted = Filter(query.enabled, query.protocol, query.search, query.connector)
    page = await integrations.list_page(call, wanted, query.sort_by, query.limit, query.continuation_token)
    return page_of([to_wire(row) for row in page.items], page.total, page.offset)


@router.answers(
    "POST /v1/{workspace_id}/integrations",
    "Integration.create",
    status=201,
    returns=IntegrationResponse,
    errors={
        404: "Workspace not found.",
        409: "Integration name already taken in this workspace.",
        422: "Invalid request body.",
    },
)
async def create_integration(
    call: Call, workspace_id: UUID, body: CreateIntegrationRequest
) -> dict[str, Any]:
    """Create an integration, with endpoints of its own or from a connector; with an address, if that has webhooks."""
    draft = Draft(
        name=body.name,
        display_name=body.display_name,
        connector=body.connector,
        base_url=body.base_url,
        config=body.config,
        auth=body.auth,
        credentials=_credentials(body.credentials),
        endpoints=body.endpoints,
        enabled=body.enabled,
    )
    made = await integrations.create(call, draft)
    if made.connector is not None:
        await hooks.ensure(call, made.id)
    return to_wire(made)


def _credentials(given: CredentialsInput | None) -> Credentials | None:
    return None if given is None else Credentials(given.method, given.values)


@router.answers(
    "GET /v1/{workspace_id}/integrations/{integration_id}",
    "Integration.view",
    returns=IntegrationResponse,
    errors=_NOT_FOUND,
)
async def get_integration(call: Call, workspace_id: UUID, integration_id: UUID) -> dict[str, Any]:
    """Show one integration."""
    return to_wire(await integrations.get(call, str(integration_id)))


@router.answers(
    "PUT /v1/{workspace_id}/integrations/{integration_id}",
    "Integration.update",
    returns=IntegrationResponse,
    errors=_NOT_FOUND | {422: "Invalid request body."},
)
async def update_integration(
    call: Call, workspace_id: UUID, integration_id: UUID, body: UpdateIntegrationRequest
) -> dict[str, Any]:
    """Change parts of an integration. Its name stays; secrets that are not sent again stay."""
    change = Change(
        display_name=body.display_name,
        base_url=body.base_url,
        auth=body.auth,
        config=body.config,
        credentials=_credentials(body.credentials),
        endpoints=body.endpoints,
        enabled=body.enabled,
    )
    return to_wire(await integrations.update(call, str(integration_id), change))


@router.answers(
    "DELETE /v1/{workspace_id}/integrations/{integration_id}",
    "Integration.delete",
    status=204,
    errors=_NOT_FOUND,
)
async def delete_integration(call: Call, workspace_id: UUID, integration_id: UUID) -> None:
    """Delete an integration and its secrets."""
    await integrations.delete(call, str(integration_id))
