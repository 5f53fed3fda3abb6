"""`/v1/{workspace_id}/routes…`: which events go where."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from trunkline.errors import Invalid
from trunkline.http.native import route_models as models
from trunkline.http.native.models import PaginatedResponse
from trunkline.http.native.paging import page_of
from trunkline.http.native.route import Call, Router
from trunkline.http.wire import Answer, encode
from trunkline.services import routes, routing, targets
from trunkline.services.events import Event
from trunkline.services.routes import Change, Draft, Made, Route

router = Router("Routes")
_NOT_FOUND = {404: "Route not found."}
_SHOWN = tuple(models.RouteResponse.model_fields)
_SHOWN_OF_EVENT = ("sequence", "id", "type", "title", "subject", "project", "severity", "time")


def to_wire(route: Route) -> dict[str, Any]:
    """Show a route."""
    return {name: getattr(route, name) for name in _SHOWN}


def _changed(made: Made, *warnings: str | None) -> dict[str, Any]:
    said = " ".join(text for text in (made.warning, *warnings) if text)
    return to_wire(made.route) | {"signing_secret": made.secret, "warning": said or None}


def _target(given: models.NotifyTarget | models.EndpointTarget | models.WebhookTarget) -> targets.Target:
    if isinstance(given, models.NotifyTarget):
        return targets.Notify(given.channel, given.connector, given.integration_id)
    if isinstance(given, models.EndpointTarget):
        return targets.CallEndpoint(given.integration_id, given.endpoint, given.params)
    return targets.SignedWebhook(given.url)


def _conditions(given: list[models.Condition]) -> list[dict[str, Any]]:
    return [condition.model_dump() for condition in given]


@router.answers(
    "GET /v1/{workspace_id}/routes", "Route.view", returns=PaginatedResponse[models.RouteResponse]
)
async def list_routes(
    call: Call, workspace_id: UUID, query: Annotated[models.ListRoutesQuery, Query()]
) -> dict[str, Any]:
    """List routes, newest first."""
    found, total = await routes.list_page(call, query.enabled, query.limit, query.continuation_token)
    return page_of([to_wire(route) for route in found], total, query.continuation_token)


@router.answers(
    "POST /v1/{workspace_id}/routes",
    "Route.create",
    status=201,
    returns=models.ChangedRouteResponse,
    errors={
        200: "A dry run: how many of the newest events match, and the newest of those.",
        409: "The workspace has as many routes as it may have.",
        422: "Invalid request body.",
    },
)
async def create_route(
    call: Call,
    workspace_id: UUID,
    query: Annotated[models.DryRunQuery, Query()],
    body: models.CreateRouteRequest,
) -> dict[str, Any] | Answer:
    """Make a route; with `dry_run` show which of the newest events it would have taken, and store nothing."""
    conditions = _conditions(body.conditions)
    if query.dry_run:
        if body.target is not None:
            await targets.check(call, _target(body.target))
        found = await routing.dry_run(call, body.event_type, body.project_id, conditions)
        return Answer(200, encode(_shown(found)))
    if body.target is None:
        raise Invalid.field(("body", "target"), "Field required", "missing")
    draft = Draft(
        event_type=body.event_type,
        target=_target(body.target),
        name=body.name,
        project_id=body.project_id,
        conditions=conditions,
        enabled=body.enabled,
    )
    made = await routes.create(call, draft)
    found = await routing.dry_run(call, body.event_type, body.project_id, conditions)
    return _changed(made, found.warning)


def _shown(found: routing.DryRun) -> dict[str, Any]:
    return {
        "matched": found.matched,
        "looked_at": found.looked_at,
        "events": [_event(event) for event in found.events],
        "warning": found.warning,
    }


def _event(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in _SHOWN_OF_EVENT}


@router.answers(
    "GET /v1/{workspace_id}/routes/{route_id}", "Route.view", returns=models.RouteResponse, errors=_NOT_FOUND
)
async def get_route(call: Call, workspace_id: UUID, route_id: UUID) -> dict[str, Any]:
    """Show one route."""
    return to_wire(await routes.get(call, str(route_id)))


@router.answers(
    "PUT /v1/{workspace_id}/routes/{route_id}",
    "Route.update",
    returns=models.ChangedRouteResponse,
    errors=_NOT_FOUND | {422: "Invalid request body."},
)
async def update_route(
    call: Call, workspace_id: UUID, route_id: UUID, body: models.UpdateRouteRequest
) -> dict[str, Any]:
    """Change parts of a route; switching it on forgets why it was switched off."""
    change = Change(
        name=body.name,
        event_type=body.event_type,
        target=None if body.target is None else _target(body.target),
        project_id=body.project_id,
        conditions=None if body.conditions is None else _conditions(body.conditions),
        enabled=body.enabled,
    )
    return _changed(await routes.update(call, str(route_id), change))


@router.answers("DELETE /v1/{workspace_id}/routes/{route_id}", "Route.delete", status=204, errors=_NOT_FOUND)
async def delete_route(call: Call, workspace_id: UUID, route_id: UUID) -> None:
    """Delete a route, and cancel what still waits to be sent by it."""
    await routes.delete(call, str(route_id))


@router.answers(
    "POST /v1/{workspace_id}/routes/{route_id}/rotate-secret",
    "Route.update",
    returns=models.ChangedRouteResponse,
    errors=_NOT_FOUND | {409: "The route's target is no webhook."},
)
async def rotate_route_secret(call: Call, workspace_id: UUID, route_id: UUID) -> dict[str, Any]:
    """Give a signed webhook a new secret; the old one signs too for 24 hours."""
    return _changed(await routes.rotate_secret(call, str(route_id)))
