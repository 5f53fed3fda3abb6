"""Codespar's routes 10 to 13: the error tracker's webhook, and which alerts go to which channel."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, NotFound, Unauthenticated
from trunkline.http.dialects import codespar_wire as wire
from trunkline.http.dialects.codespar_integrations import find
from trunkline.http.dialects.dialect import Request, need, nobody, validate
from trunkline.http.wire import Answer, encode, parse_json
from trunkline.rest.signatures import refusal
from trunkline.services import hooks, inbox, ingest, routes, routing, targets, workspaces
from trunkline.services.hooks import Source
from trunkline.services.routes import Draft

SIGNATURE = "sentry-hook-signature"
_PAGE = 500
Channel = Literal["slack", "whatsapp", "telegram", "discord"]
Text = Annotated[str, Field(min_length=1, max_length=256)]


class ChannelRoute(BaseModel):
    """Route 12's body as the page has it."""

    eventType: Text  # noqa: N815 - the wire's names
    channel: Channel
    channelId: Text  # noqa: N815
    projectId: Text | None = None  # noqa: N815


class AlertRoute(BaseModel):
    """Route 12's body as the product's own server has it."""

    channelType: Channel  # noqa: N815
    channelId: Text  # noqa: N815
    channelName: Text | None = None  # noqa: N815
    alertTypes: Annotated[list[wire.AlertType], Field(min_length=1, max_length=10)]  # noqa: N815
    projectFilter: Text | None = None  # noqa: N815


async def list_routes(ctx: Context, request: Request) -> dict[str, Any]:
    """List the routes into channels, newest first, whoever made them."""
    del request
    return {"routes": [wire.show_route(route) for route in await _channel_routes(ctx)]}


async def _channel_routes(ctx: Context) -> list[routes.Route]:
    found: list[routes.Route] = []
    while True:
        page, total = await routes.list_page(ctx, None, _PAGE, len(found))
        found += page
        if not page or len(found) >= total:
            return [route for route in found if wire.is_channel_route(route)]


async def create_route(ctx: Context, request: Request) -> Any:
    """Make a route into a channel; each body shape is answered in its own."""
    body = parse_json(request.body)
    if isinstance(body, dict) and "alertTypes" in body and "eventType" not in body:
        return await _set_alerts(ctx, validate(AlertRoute, body))
    wanted = validate(ChannelRoute, body)
    target = targets.Notify(wanted.channelId, connector=wanted.channel)
    draft = Draft(event_type=wanted.eventType, target=target, project_id=wanted.projectId)
    try:
        made = await routes.create(ctx, draft)
    except Invalid as error:
        raise wire.name_route_fields(error, "channel") from None
    return wire.show_route(made.route) | {"createdAt": wire.stamp(made.route.created_at)}


async def _set_alerts(ctx: Context, wanted: AlertRoute) -> Answer:
    """Let a channel have alerts of these types, and no others of those set this way before."""
    channel, project = wanted.channelId.strip(), (wanted.projectFilter or "").strip() or None
    patterns = wire.patterns_of(wanted.alertTypes)
    name = wire.alerts_name(wanted.channelName or channel)
    before = [
        route for route in await _of_channel(ctx, wanted.channelType, channel) if wire.sets_alerts(route)
    ]
    kept = {route.event_type: route for route in before if route.project_id == project}
    kept = {pattern: route for pattern, route in kept.items() if pattern in patterns and route.enabled}
    gone = [route.id for route in before if route.id not in {route.id for route in kept.values()}]
    if gone:
        need(ctx, "Route.delete")
    target = targets.Notify(channel, connector=wanted.channelType)
    try:
        for pattern in patterns:
            if pattern not in kept:
                await routes.create(ctx, Draft(pattern, target, name=name, project_id=project))
    except Invalid as error:
        raise wire.name_route_fields(error, "channelType") from None
    await _delete(ctx, gone)
    shown = wanted.model_dump(exclude_none=True) | {"channelId": channel}
    return Answer(200, encode({"success": True, "route": shown}))


async def _of_channel(ctx: Context, connector: str, channel: str) -> list[routes.Route]:
    wanted = {"connector": connector, "channel": channel}
    return [route for route in await _channel_routes(ctx) if wanted.items() <= route.target.items()]


async def _delete(ctx: Context, route_ids: list[str]) -> int:
    deleted = 0
    for route_id in route_ids:
        try:
            await routes.delete(ctx, route_id)
        except NotFound:  # deleted since it was listed
            continue
        deleted += 1
    return deleted


async def delete_route(ctx: Context, request: Request) -> dict[str, Any]:
    """Delete one route into a channel; any other kind of route is not there in this format."""
    route_id = request.path["id"]
    try:
        if not wire.is_channel_route(await routes.get(ctx, route_id)):
            raise wire.RouteNotFound
        await routes.delete(ctx, route_id)
    except NotFound:
        raise wire.RouteNotFound from None
    return {"id": route_id, "deleted": True}


async def delete_channel(ctx: Context, request: Request) -> dict[str, Any]:
    """Delete every route into a channel, as the product's own server addresses it."""
    connector, channel = request.path["channelType"], request.path["channelId"]
    found = await _of_channel(ctx, connector, channel)
    if not await _delete(ctx, [route.id for route in found]):
        raise wire.RouteNotFound
    return {"success": True, "removed": {"channelType": connector, "channelId": channel}}


async def receive(ctx: Context, request: Request) -> dict[str, Any]:
    """Accept what the error tracker posts, once its signature holds; say whether a route takes it."""
    if SIGNATURE not in request.headers:
        raise Unauthenticated(f"Missing {SIGNATURE} header")
    source = await _source(ctx, _org(request))
    body, headers = request.body, request.headers
    try:
        if source is None:
            raise refusal(body)
        secrets = await hooks.open_proofs(ctx.app, source)
        verified = source.webhook.verify(headers, body, request.query, secrets, ctx.now)
    except Unauthenticated:
        raise Unauthenticated("Invalid webhook signature") from None
    if not source.enabled:
        raise Conflict("This integration is disabled; enable it to take its webhooks.")
    kept = {name: text for name, text in headers.items() if name in source.kept_headers}
    inbox_id = await inbox.receive(ctx.app, source, kept, body, verified.dedup)
    found = ingest.preview(source, kept, body, ctx.now)
    taken = [await routing.matching(ctx.app, source.workspace_id, event) for event in found]
    return wire.show_received(inbox_id, is_routed=any(taken))


def _org(request: Request) -> str:
    """Return the organisation that the address names, else the header's."""
    named = request.query.get("orgId")
    return wire.name_org(named) if named else wire.read_org(request.headers)


async def _source(ctx: Context, org: str) -> Source | None:
    """Find the error tracker's integration of an organisation, by as many look-ups whether it is there or not."""
    if org == wire.DEFAULT_ORG:
        workspace_id = await ctx.app.db.read(workspaces.first_workspace)
    else:
        workspace_id = await workspaces.find_named(ctx.app, org)
    row = await find(replace(ctx, caller=nobody(workspace_id or "")), "sentry")
    return await hooks.source_of(ctx.app, workspace_id or "", row.id if row else "")
