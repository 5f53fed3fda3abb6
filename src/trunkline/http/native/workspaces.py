"""Trunkline's own routes for workspaces and their people."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

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
from trunkline.http.native.route import Call, NativeRoute, operation
from trunkline.services import api_keys, people, workspaces

router = APIRouter(route_class=NativeRoute)
_TAG = "Workspaces"
_NOBODY = {404: "Person not found."}


@operation(
    router,
    "POST",
    "/v1/workspaces",
    permission="Workspace.create",
    id="create-workspace",
    status=201,
    returns=NewWorkspaceResponse,
    tag=_TAG,
)
async def create_workspace(call: Call, body: WorkspaceRequest) -> NewWorkspaceResponse:
    """Make another workspace and its owner's key, shown this once."""
    made = await api_keys.create_workspace(call.app, body.name)
    return NewWorkspaceResponse.model_validate(made)


@operation(
    router,
    "GET",
    "/v1/{workspace_id}",
    permission="Workspace.view",
    id="get-workspace",
    returns=WorkspaceResponse,
    tag=_TAG,
)
async def get_workspace(call: Call, workspace_id: UUID) -> dict[str, Any]:
    """Show the workspace."""
    return await workspaces.get(call)


@operation(
    router,
    "PUT",
    "/v1/{workspace_id}",
    permission="Workspace.update",
    id="update-workspace",
    returns=WorkspaceResponse,
    tag=_TAG,
)
async def update_workspace(call: Call, workspace_id: UUID, body: WorkspaceRequest) -> dict[str, Any]:
    """Rename the workspace."""
    return await workspaces.rename(call, body.name)


@operation(
    router,
    "GET",
    "/v1/{workspace_id}/people",
    permission="Person.view",
    id="list-people",
    returns=PaginatedResponse[PersonResponse],
    tag=_TAG,
)
async def list_people(call: Call, workspace_id: UUID, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    """List people by e-mail address."""
    rows, total = await people.list_people(call, query.limit, query.continuation_token)
    return page_of(rows, total, query.continuation_token)


@operation(
    router,
    "POST",
    "/v1/{workspace_id}/people",
    permission="Person.create",
    id="add-person",
    status=201,
    returns=PersonResponse,
    errors={409: "The person is in the workspace already."},
    tag=_TAG,
)
async def add_person(call: Call, workspace_id: UUID, body: PersonRequest) -> dict[str, Any]:
    """Add a person with a role that does not outrank the caller's."""
    return await people.add_person(call, body.email, body.name, body.role)


@operation(
    router,
    "GET",
    "/v1/{workspace_id}/people/{person_id}",
    permission="Person.view",
    id="get-person",
    returns=PersonResponse,
    errors=_NOBODY,
    tag=_TAG,
)
async def get_person(call: Call, workspace_id: UUID, person_id: UUID) -> dict[str, Any]:
    """Show one person."""
    return await people.get_person(call, str(person_id))


@operation(
    router,
    "PUT",
    "/v1/{workspace_id}/people/{person_id}",
    permission="Person.update",
    id="update-person",
    returns=PersonResponse,
    errors=_NOBODY,
    tag=_TAG,
)
async def update_person(call: Call, workspace_id: UUID, person_id: UUID, body: RoleRequest) -> dict[str, Any]:
    """Give a person another role."""
    return await people.change_role(call, str(person_id), body.role)


@operation(
    router,
    "DELETE",
    "/v1/{workspace_id}/people/{person_id}",
    permission="Person.delete",
    id="remove-person",
    status=204,
    errors=_NOBODY,
    tag=_TAG,
)
async def remove_person(call: Call, workspace_id: UUID, person_id: UUID) -> None:
    """Take a person out of the workspace."""
    await people.remove_person(call, str(person_id))
