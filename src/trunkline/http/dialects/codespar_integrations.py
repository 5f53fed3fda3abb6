"""Codespar's routes 1 to 9: integrations set up, and calls of their services."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from trunkline.catalog.manifest import Manifest
from trunkline.context import Context
from trunkline.errors import Invalid, RemoteFailed
from trunkline.http.dialects import codespar_wire as wire
from trunkline.http.dialects.dialect import Request, need
from trunkline.services import actions, hooks, integrations
from trunkline.services.drafts import Credentials, Draft
from trunkline.services.integrations import Change, Filter, Integration

INTEGRATIONS = ("pagerduty", "linear", "sentry", "slack")
UPSTREAM_SECONDS = 10.0
_MAX_FOUND = 100

Limit = Annotated[int, Field(ge=1, le=100)]


class Configure(BaseModel):
    """Route 2: set or update an integration's credentials."""

    integration: Literal["pagerduty", "linear", "sentry", "slack"]
    config: dict[str, str]


async def status(ctx: Context, request: Request) -> dict[str, Any]:
    """Say of each of the four integrations whether it is set up."""
    del request
    rows = [await find(ctx, connector) for connector in INTEGRATIONS]
    return {"integrations": [wire.show_status(*pair) for pair in zip(INTEGRATIONS, rows, strict=True)]}


async def configure(ctx: Context, request: Request) -> dict[str, Any]:
    """Make or change the workspace's integration of a connector; what is not sent again stays."""
    body: Configure = request.body
    row = await find(ctx, body.integration)
    manifest = ctx.app.catalog.get(body.integration)
    given = wire.read_config(manifest, body.config)
    try:
        row = await _create(ctx, manifest, given) if row is None else await _update(ctx, row, given)
    except Invalid as error:
        raise given.name_again(error) from None
    return {"integration": body.integration, "status": "active", "configuredAt": wire.stamp(row.updated_at)}


async def _create(ctx: Context, manifest: Manifest, given: wire.Config) -> Integration:
    need(ctx, "Integration.create")
    draft = Draft(
        name=manifest.id,
        display_name=manifest.name,
        connector=manifest.id,
        config=given.config,
        credentials=Credentials(None, given.secrets),
    )
    row = await integrations.create(ctx, draft)
    await hooks.ensure(ctx, row.id)
    return row


async def _update(ctx: Context, row: Integration, given: wire.Config) -> Integration:
    credentials = Credentials(None, given.secrets) if given.secrets else None
    change = Change(config=given.config, credentials=credentials, enabled=True)
    return await integrations.update(ctx, row.id, change)


async def find(ctx: Context, connector: str) -> Integration | None:
    """Return the integration that stands for a connector: the one of its name, else the oldest enabled, else any."""
    page = await integrations.list_page(ctx, Filter(connector=connector), "created_at", _MAX_FOUND, 0)
    rows = sorted(page.items, key=lambda row: (row.name != connector, not row.enabled))
    return rows[0] if rows else None


async def _call(ctx: Context, connector: str, endpoint: str, verb: str = "fetch from", **params: Any) -> Any:
    """Run an endpoint of a connector's integration; what is None is not sent.

    Raises:
        NotConfigured, RemoteFailed
    """
    row = await find(ctx, connector)
    name = ctx.app.catalog.get(connector).name
    if row is None or not row.configured:
        raise wire.NotConfigured(f"{name} integration is not configured")
    given = {key: value for key, value in params.items() if value is not None}
    trace, _ = await actions.run(ctx, row.id, endpoint, given, detail=False, budget_seconds=UPSTREAM_SECONDS)
    if trace.error is None:
        return trace.value
    if trace.error_kind == "misconfigured":
        raise wire.NotConfigured(f"{name} integration is not configured: {trace.error}")
    text = (
        f"Request timeout after {UPSTREAM_SECONDS * 1000:.0f}ms"
        if trace.error_kind == "timeout"
        else trace.error
    )
    raise RemoteFailed(f"Failed to {verb} {name} API", status=trace.status_code, trace={"details": text})


async def oncall(ctx: Context, request: Request) -> dict[str, Any]:
    """Show who is on call."""
    del request
    return {"oncall": wire.show_oncall(await _call(ctx, "pagerduty", "list_oncalls", limit=_MAX_FOUND))}


class Incidents(BaseModel):
    """Route 4's query."""

    status: str = "triggered,acknowledged"
    limit: Limit = 25


async def incidents(ctx: Context, request: Request) -> dict[str, Any]:
    """List incidents."""
    query: Incidents = request.query
    statuses = wire.read_statuses(query.status)
    order = "created_at:desc"  # a choice: of many the newest, not those the service lists first
    found = await _call(
        ctx, "pagerduty", "list_incidents", statuses=statuses, limit=query.limit, sort_by=order
    )
    return _page("incidents", found, wire.INCIDENT, query.limit)


def _page(noun: str, found: Any, names: tuple[str, ...], limit: int) -> dict[str, Any]:
    """Wrap a list. `total` is its length: a choice, as not every service counts what it does not send."""
    shown = wire.show_all(found, names)[:limit]
    return {noun: shown, "total": len(shown)}


async def acknowledge(ctx: Context, request: Request) -> dict[str, Any]:
    """Acknowledge an incident; who did is in the service's own log, as the key's or the configured user."""
    try:
        found = await _call(
            ctx,
            "pagerduty",
            "acknowledge_incident",
            "acknowledge the incident through",
            id=request.path["id"],
        )
    except RemoteFailed as error:
        if error.status == 404:
            raise wire.IncidentNotFound from None
        raise
    shown = wire.show(found, wire.ACKNOWLEDGED)
    return shown | {"acknowledgedAt": shown["acknowledgedAt"] or wire.stamp(ctx.now)}


async def teams(ctx: Context, request: Request) -> dict[str, Any]:
    """List teams."""
    del request
    return {"teams": wire.show_all(await _call(ctx, "linear", "list_teams", limit=_MAX_FOUND), wire.TEAM)}


class Issues(BaseModel):
    """Route 7's query."""

    team: str | None = None
    status: str | None = None
    assignee: str | None = None
    limit: Limit = 25


async def issues(ctx: Context, request: Request) -> dict[str, Any]:
    """List issues."""
    query: Issues = request.query
    found = await _call(
        ctx,
        "linear",
        "list_issues",
        team_id=query.team,
        state=query.status,
        assignee_id=query.assignee,
        limit=query.limit,
    )
    return _page("issues", found, wire.ISSUE, query.limit)


class NewIssue(BaseModel):
    """Route 8's body."""

    title: Annotated[str, Field(min_length=1, max_length=512)]
    teamId: Annotated[str, Field(min_length=1, max_length=128)]  # noqa: N815 - the wire's name
    description: str | None = None
    priority: Annotated[int, Field(ge=0, le=4)] | None = None
    labels: Annotated[list[Annotated[str, Field(min_length=1, max_length=80)]], Field(max_length=20)] = []


async def create_issue(ctx: Context, request: Request) -> dict[str, Any]:
    """Open an issue; labels go by name, and those that the team lacks are made."""
    body: NewIssue = request.body
    label_ids = [await _label(ctx, body.teamId, name) for name in dict.fromkeys(body.labels)]
    found = await _call(
        ctx,
        "linear",
        "create_issue",
        "create an issue through",
        title=body.title,
        team_id=body.teamId,
        description=body.description,
        priority=body.priority,
        label_ids=label_ids or None,
    )
    return wire.show(found, wire.CREATED_ISSUE)


async def _label(ctx: Context, team_id: str, name: str) -> str:
    """Return the id of a label of the team or of the whole workspace; make it for the team when there is none."""
    found = wire.records_of(await _call(ctx, "linear", "list_labels", team_id=team_id, name=name))
    if not found:
        made = await _call(
            ctx, "linear", "create_label", "create a label through", team_id=team_id, name=name
        )
        found = wire.records_of([made])
    return str(found[0].get("id")) if found else ""


class ErrorIssues(BaseModel):
    """Route 9's query."""

    project: str | None = None
    query: str = "is:unresolved"
    limit: Limit = 25


async def error_issues(ctx: Context, request: Request) -> dict[str, Any]:
    """List issues of the error tracker."""
    query: ErrorIssues = request.query
    found = await _call(
        ctx, "sentry", "list_issues", projectSlug=query.project, query=query.query, limit=query.limit
    )
    return _page("issues", found, wire.ERROR_ISSUE, query.limit)
