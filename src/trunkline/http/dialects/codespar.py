"""The codespar wire format: `/api/…`, once more under `/v1`. What it documents and what is a choice: docs/codespar.md."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

from trunkline.context import App, Caller
from trunkline.errors import Forbidden
from trunkline.http import dispatch
from trunkline.http.dialects import codespar_alerts as alerts
from trunkline.http.dialects import codespar_integrations as services
from trunkline.http.dialects import codespar_wire as wire
from trunkline.http.dialects.dialect import Dialect, Route, nobody
from trunkline.http.wire import bearer_token, is_loopback
from trunkline.services import api_keys, workspaces

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "origin")


async def _read_caller(app: App, scope: Scope, headers: Mapping[str, str], route: Route) -> Caller:
    """Read the key; the organisation, where one is named, must be the key's workspace."""
    if route.is_signed:
        return nobody("")
    token = bearer_token(scope)
    if token is None and _is_let_in(app, scope, headers):
        first = await app.db.read(workspaces.first_workspace)
        caller = nobody(first or "", "member")
    else:
        caller = await api_keys.authenticate(app, token or "")
    wanted = wire.read_org(headers)
    if wanted.lower() not in {wire.DEFAULT_ORG, caller.workspace_id}:
        name = await workspaces.name_of(app, caller.workspace_id)
        if wanted.casefold() != name.casefold():
            raise Forbidden("x-org-id must be 'default', or the id or the name of the key's workspace.")
    return caller


def _is_let_in(app: App, scope: Scope, headers: Mapping[str, str]) -> bool:
    """Tell whether a request without a key is from a program on this machine, as far as that can be seen.

    A web page in a browser here sends its origin or the name by which it reached us; a proxy says that it is one.
    """
    if not app.settings.codespar_without_key or any(name in headers for name in _FORWARDED):
        return False
    try:
        host = urlsplit("//" + headers.get("host", "")).hostname
    except ValueError:
        return False
    client = scope.get("client") or ("",)
    return is_loopback(client[0]) and is_loopback(host or "")


DIALECT = Dialect(
    dispatch.CODESPAR,
    (
        Route("GET /api/integrations/status", services.status, "Integration.view"),
        Route(
            "POST /api/integrations/configure",
            services.configure,
            "Integration.update",
            body=services.Configure,
        ),
        Route("GET /api/integrations/pagerduty/oncall", services.oncall, "Integration.view"),
        Route(
            "GET /api/integrations/pagerduty/incidents",
            services.incidents,
            "Integration.view",
            query=services.Incidents,
        ),
        Route(
            "POST /api/integrations/pagerduty/incidents/{id}/acknowledge",
            services.acknowledge,
            "Integration.view",
        ),
        Route("GET /api/integrations/linear/teams", services.teams, "Integration.view"),
        Route(
            "GET /api/integrations/linear/issues", services.issues, "Integration.view", query=services.Issues
        ),
        Route(
            "POST /api/integrations/linear/issues",
            services.create_issue,
            "Integration.view",
            201,
            body=services.NewIssue,
        ),
        Route(
            "GET /api/observability/sentry",
            services.error_issues,
            "Integration.view",
            query=services.ErrorIssues,
        ),
        Route("POST /api/webhooks/sentry", alerts.receive, is_signed=True),
        Route("POST /webhooks/sentry", alerts.receive, is_signed=True),
        Route("POST /api/integrations/sentry/webhook", alerts.receive, is_signed=True),
        Route("GET /api/channel-routes", alerts.list_routes, "Route.view"),
        Route("POST /api/channel-routes", alerts.create_route, "Route.create", 201),
        Route("DELETE /api/channel-routes/{id}", alerts.delete_route, "Route.delete"),
        Route("DELETE /api/channel-routes/{channelType}/{channelId}", alerts.delete_channel, "Route.delete"),
    ),
    _read_caller,
    wire.to_answer,
    headers=((b"x-api-version", b"v1"),),
    versions=("/v1",),
)
