"""The supportbot wire format: `/integrations/…` and `/api/knowledge-base/…`. What it documents and what is a choice: docs/supportbot.md."""

from collections.abc import Mapping

from starlette.types import Scope

from trunkline.context import App, Caller
from trunkline.errors import Unauthenticated
from trunkline.http import dispatch
from trunkline.http.dialects import supportbot_integrations as services
from trunkline.http.dialects import supportbot_knowledge as base
from trunkline.http.dialects import supportbot_sync as sync
from trunkline.http.dialects import supportbot_wire as wire
from trunkline.http.dialects.dialect import Dialect, Route
from trunkline.http.wire import bearer_token
from trunkline.ids import is_api_key
from trunkline.services import api_keys


async def _read_caller(app: App, scope: Scope, headers: Mapping[str, str], route: Route) -> Caller:
    """Read the key, and say what is wrong with it in the product's words."""
    del headers, route
    token = bearer_token(scope)
    if not token:
        raise Unauthenticated("Not authenticated")
    if not is_api_key(token):
        raise Unauthenticated("Invalid token payload")
    try:
        return await api_keys.authenticate(app, token)
    except Unauthenticated:
        raise Unauthenticated("Token revoked") from None


_KB = "/api/knowledge-base"

DIALECT = Dialect(
    dispatch.SUPPORTBOT,
    (
        Route("GET /integrations/all", services.list_all, "integration.view"),
        Route("GET /integrations/id/{id}", services.get, "integration.view"),
        Route("POST /integrations/create", services.create, "integration.create", body=services.Written),
        Route("PUT /integrations/update/{id}", services.update, "integration.edit", body=services.Written),
        Route("DELETE /integrations/delete/{id}", services.delete, "integration.delete"),
        Route("POST /integrations/sync/{id}", sync.sync, "integration.sync", query=sync.Options),
        Route(f"GET {_KB}/incidents", base.incidents, "integration.view", query=base.Incidents),
        Route(f"DELETE {_KB}/incidents/{{incident_id}}", base.delete_incident, "integration.delete"),
        Route(f"GET {_KB}/logs", base.logs, "integration.view", query=base.Logs),
        Route(f"POST {_KB}/upload", base.upload, "kb.upload", body=base.NewUpload, is_upload=True),
        Route(f"POST {_KB}/validate/{{session_id}}", base.check, "kb.validate"),
        Route(
            f"POST {_KB}/validate/{{session_id}}/map-fields",
            base.map_fields,
            "kb.validate",
            body=base.Mapped,
        ),
        Route(f"POST {_KB}/ingest", sync.ingest, "kb.ingest", body=sync.Ingest, query=sync.Options),
        Route(f"GET {_KB}/versions", base.list_versions, "kb.view", query=base.Versions),
        Route(f"GET {_KB}/versions/active", base.active_version, "kb.view"),
        Route(f"GET {_KB}/versions/{{version_id}}", base.get_version, "kb.view"),
        Route(f"POST {_KB}/versions/{{version_id}}/rollback", base.roll_back, "kb.rollback"),
        Route(f"DELETE {_KB}/versions/{{version_id}}", base.delete_version, "kb.version_manage"),
    ),
    _read_caller,
    wire.to_answer,
    permit=wire.permit,
)
