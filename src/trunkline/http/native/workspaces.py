"""Trunkline's own routes for workspaces and their people."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from trunkline.http.native.models import (
    NewWorkspaceResponse,
    PageQuery,
    PaginatedResponse,
    PersonRequest,
    PersonResponse,
    RoleRequest,
    WorkspaceRequest,
    WorkspaceResponse,
)
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.services import api_keys, people, workspaces

router = Router("Workspaces")
_NOBODY = {404: "Person not found."}


@router.answers("POST /v1/workspaces", "Workspace.create", status=201, returns=NewWorkspaceResponse)
async def create_workspace(call: Call, body: WorkspaceRequest) -> NewWorkspaceResponse:
    """Make another workspace and its owner's key, shown this once."""
    made = await api_keys.create_workspace(call.app, body.name)
    return NewWorkspaceResponse.model_validate(made)


@router.answers("GET /v1/{workspace_id}", "Workspace.view", returns=WorkspaceResponse)
async def get_workspace(call: Call, workspace_id: UUID) -> dict[str, Any]:
    """Show the workspace."""
    return await workspaces.get(call)


@router.answers("PUT /v1/{workspace_id}", "Workspace.update", returns=WorkspaceResponse)
async def update_workspace(call: Call, workspace_id: UUID, body: WorkspaceRequest) -> dict[str, Any]:
    """Rename the workspace."""
    return await workspaces.rename(call, body.name)


@router.answers("GET /v1/{workspace_id}/people", "Person.view", returns=PaginatedResponse[PersonResponse])
async def list_people(call: Call, workspace_id: UUID, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    """List people by e-mail address."""
    rows, total = await people.list_people(call, query.limit, query.continuation_token)
    return page_of(rows, total, query.continuation_token)


@router.answers(
    "POST /v1/{workspace_id}/people",
    "Person.create",
    status=201,
    returns=PersonResponse,
    errors={409: "The person is in the workspace already."},
)
async def add_person(call: Call, workspace_id: UUID, body: PersonRequest) -> dict[str, Any]:
    """Add a person with a role that does not outrank the caller's."""
    return await people.add_person(call, body.email, body.name, body.role)


@router.answers(
    "GET /v1/{workspace_id}/people/{person_id}", "Person.view", returns=PersonResponse, errors=_NOBODY
)
async def get_person(call: Call, workspace_id: UUID, person_id: UUID) -> dict[str, Any]:
    """Show one person."""
    return await people.get_person(call, str(person_id))


@router.answers(
    "PUT /v1/{workspace_id}/people/{person_id}", "Person.update", returns=PersonResponse, errors=_NOBODY
)
async def update_person(call: Call, workspace_id: UUID, person_id: UUID, body: RoleRequest) -> dict[str, Any]:
    """Give a person another role."""
    return await people.change_role(call, str(person_id), body.role)


@router.answers("DELETE /v1/{workspace_id}/people/{person_id}", "Person.delete", status=204, errors=_NOBODY)
async def remove_person(call: Call, workspace_id: UUID, person_id: UUID) -> None:
    """Take a person out of the workspace."""
    await people.remove_person(call, str(person_id))
