"""`/v1/{workspace_id}/api-keys…` and `/v1/auth/me`: the contract's section 6.4."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from trunkline.http.native.models import (
    ApiKeyQuery,
    ApiKeyResponse,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    MeResponse,
    PaginatedResponse,
    RotateApiKeyRequest,
)
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.services import api_keys, workspaces
from trunkline.services.api_keys import NewKey

router = Router("API keys")
_NOT_FOUND = {404: "API key not found."}
_REFUSED = {422: "Invalid request body or role."}


def _shown_once(key: NewKey) -> CreateApiKeyResponse:
    return CreateApiKeyResponse.model_validate({**key.row, "api_key": key.api_key})


@router.answers("GET /v1/auth/me", None, id="get-me", returns=MeResponse)
async def me(call: Call) -> MeResponse:
    """Show who the caller is."""
    caller = call.caller
    return MeResponse.model_validate(
        {
            "workspace_id": caller.workspace_id,
            "workspace_name": await workspaces.name_of(call.app, caller.workspace_id),
            "credential_id": caller.credential_id,
            "key_id": caller.key_id,
            "person_id": caller.person_id,
            "name": caller.name,
            "role": caller.role,
            "permissions": api_keys.effective_permissions(caller),
            "expires_at": caller.expires_at,
        }
    )


@router.answers("GET /v1/{workspace_id}/api-keys", "ApiKey.view", returns=PaginatedResponse[ApiKeyResponse])
async def list_api_keys(
    call: Call, workspace_id: UUID, query: Annotated[ApiKeyQuery, Query()]
) -> dict[str, Any]:
    """List keys, newest first; never their text."""
    rows, total = await api_keys.list_keys(
        call, mine_only=query.mine_only, limit=query.limit, offset=query.continuation_token
    )
    return page_of(rows, total, query.continuation_token)


@router.answers(
    "POST /v1/{workspace_id}/api-keys",
    "ApiKey.create",
    status=201,
    returns=CreateApiKeyResponse,
    errors=_REFUSED,
)
async def create_api_key(call: Call, workspace_id: UUID, body: CreateApiKeyRequest) -> CreateApiKeyResponse:
    """Make a key that holds at most what the caller holds; its text is shown this once."""
    key = await api_keys.create(
        call,
        name=body.name,
        role=body.role,
        explicit=body.permissions,
        duration_days=body.duration_days,
        person_id=body.person_id,
    )
    return _shown_once(key)


@router.answers(
    "POST /v1/{workspace_id}/api-keys/{key_id}/rotate",
    "ApiKey.update",
    returns=CreateApiKeyResponse,
    errors=_NOT_FOUND | _REFUSED,
)
async def rotate_api_key(
    call: Call, workspace_id: UUID, key_id: str, body: RotateApiKeyRequest
) -> CreateApiKeyResponse:
    """Give a key a new secret; the old one stops working at once."""
    return _shown_once(await api_keys.rotate(call, key_id, body.duration_days))


@router.answers("DELETE /v1/{workspace_id}/api-keys/{key_id}", "ApiKey.delete", status=204, errors=_NOT_FOUND)
async def delete_api_key(call: Call, workspace_id: UUID, key_id: str) -> None:
    """Revoke a key; it stops working at once."""
    await api_keys.revoke(call, key_id)
