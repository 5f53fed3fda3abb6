"""The native wire format, `/v1/{workspace_id}/…`: one file per noun."""

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from trunkline import __version__
from trunkline.http.native import api_keys, calls, connectors, integrations, workspaces
from trunkline.http.wire import encode

_ROUTERS = (calls.router, integrations.router, api_keys.router, connectors.router, workspaces.router)


def build() -> FastAPI:
    """Make the native sub-application and its OpenAPI 3.1 page, which needs no network."""
    native: FastAPI = FastAPIOffline(
        title="Trunkline",
        version=__version__,
        summary="Connect services, call their APIs.",
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
        exception_handlers={HTTPException: _unmatched},
    )
    for router in _ROUTERS:
        native.router.routes.extend(router.routes)
    return native


async def _unmatched(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in the native error shape."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    body = {
        "detail": error.detail,
        "error_code": codes.get(error.status_code, "invalid"),
        "request_id": request.scope.get("request_id"),
    }
    return Response(
        encode(body), error.status_code, headers=dict(error.headers or {}), media_type="application/json"
    )
