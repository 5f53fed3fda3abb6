"""The native wire format, `/v1/{workspace_id}/…`: one file per noun."""

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from trunkline import __version__
from trunkline.http.native import (
    api_keys,
    calls,
    connectors,
    datasets,
    deliveries,
    events,
    hooks,
    integrations,
    records,
    routes,
    runs,
    search,
    uploads,
    workspaces,
)
from trunkline.http.wire import Answer, encode

_ROUTERS = (
    calls.router,
    integrations.router,
    hooks.router,
    events.router,
    routes.router,
    deliveries.router,
    datasets.router,
    records.router,
    search.router,
    runs.router,
    uploads.router,
    api_keys.router,
    connectors.router,
    workspaces.router,
)


def build() -> FastAPI:
    """Make the native sub-application and its OpenAPI 3.1 page, which needs no network."""
    native: FastAPI = FastAPIOffline(
        title="Trunkline",
        version=__version__,
        summary="Connect services, call their APIs, turn their alerts into messages.",
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for router in _ROUTERS:
        native.router.routes.extend(router.routes)
    return native


def unmatched(error: HTTPException, request_id: str) -> Answer:
    """Answer what no route takes, in the native error shape."""
    codes = {404: "not_found", 405: "method_not_allowed"}
    body = {
        "detail": error.detail,
        "error_code": codes.get(error.status_code, "invalid"),
        "request_id": request_id,
    }
    headers = tuple((name.lower().encode(), text.encode()) for name, text in (error.headers or {}).items())
    return Answer(error.status_code, encode(body), headers=headers)
