"""The control API under `/_sandbox`: faults, the journal, reset, and what single fakes offer beyond.

It needs no credential but being on this machine: the peer must be loopback, the Host a loopback name,
and a body must call itself JSON, so that no web page in a browser can reach it.
"""

from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trunkline.clock import Clock
from trunkline.errors import Invalid, Unavailable
from trunkline.sandbox.faults import FaultBook
from trunkline.sandbox.journal import Journal
from trunkline.sandbox.sender import deliver, is_loopback
from trunkline.sandbox.service import RefusedError, Service, json_response, media_type, read_body

MAX_BODY = 1024 * 1024


class Controlled(Protocol):
    """What the control API steers."""

    clock: Clock
    services: dict[str, Service]
    faults: FaultBook
    journal: Journal

    def reset(self) -> None: ...
    def paths(self) -> dict[str, str]: ...


class ControlApi:
    """The handlers, over one sandbox."""

    def __init__(self, sandbox: Controlled) -> None:
        self._sandbox = sandbox

    def app(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/_sandbox", self.index, methods=["GET"]),
                Route("/_sandbox/faults", self.list_faults, methods=["GET"]),
                Route("/_sandbox/faults", self.add_fault, methods=["POST"]),
                Route("/_sandbox/faults", self.clear_faults, methods=["DELETE"]),
                Route("/_sandbox/requests", self.requests, methods=["GET"]),
                Route("/_sandbox/reset", self.reset, methods=["POST"]),
                Route("/_sandbox/{service}/deliver", self.deliver, methods=["POST"]),
                Route("/_sandbox/{service}/{control}", self.control, methods=["POST"]),
            ],
            exception_handlers={
                Invalid: _invalid,
                RefusedError: _refused,
                Unavailable: _unavailable,
                HTTPException: _http,
            },
        )

    async def index(self, request: Request) -> Response:
        _admit(request)
        services = self._sandbox.services
        controls = {name: sorted(service.controls()) for name, service in services.items()}
        webhooks = {
            name: sorted(found) for name, service in services.items() if (found := service.webhooks())
        }
        index = {"services": self._sandbox.paths(), "controls": controls, "webhooks": webhooks}
        return json_response(index)

    async def list_faults(self, request: Request) -> Response:
        _admit(request)
        return json_response({"faults": self._sandbox.faults.open()})

    async def add_fault(self, request: Request) -> Response:
        _admit(request)
        return json_response(self._sandbox.faults.add(await _document(request)), 201)

    async def clear_faults(self, request: Request) -> Response:
        _admit(request)
        return json_response({"deleted": self._sandbox.faults.clear(self._service(request))})

    async def requests(self, request: Request) -> Response:
        _admit(request)
        return json_response({"requests": self._sandbox.journal.read(self._service(request))})

    async def reset(self, request: Request) -> Response:
        _admit(request)
        self._sandbox.reset()
        return json_response({"reset": True})

    async def control(self, request: Request) -> Response:
        _admit(request)
        service = self._sandbox.services.get(request.path_params["service"])
        handler = service.controls().get(request.path_params["control"]) if service else None
        if handler is None:
            raise RefusedError(404, "no such control")
        return json_response(handler(await _document(request)))

    async def deliver(self, request: Request) -> Response:
        _admit(request)
        service = self._sandbox.services.get(request.path_params["service"])
        if service is None:
            raise RefusedError(404, "no such fake")
        return json_response(await deliver(service, await _document(request), self._sandbox.clock))

    def _service(self, request: Request) -> str | None:
        name = request.query_params.get("service")
        if name is not None and name not in self._sandbox.services:
            raise Invalid.field(("service",), f"must be one of: {', '.join(self._sandbox.services)}")
        return name


def _admit(request: Request) -> None:
    peer = request.client.host if request.client else ""
    try:
        host = request.url.hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(peer) or not is_loopback(host):
        raise RefusedError(403, "the control API answers this machine only")


async def _document(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) != "application/json":
        raise RefusedError(415, "send application/json")
    try:
        document = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as error:
        raise Invalid.field(("body",), f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Invalid.field(("body",), "must be an object")
    return document


def _invalid(request: Request, exc: Exception) -> Response:
    del request
    return json_response({"error": str(exc)}, 422)


def _refused(request: Request, exc: Exception) -> Response:
    del request
    status = exc.status if isinstance(exc, RefusedError) else 500
    return json_response({"error": str(exc)}, status)


def _unavailable(request: Request, exc: Exception) -> Response:
    del request
    return json_response({"error": str(exc)}, 502)


def _http(request: Request, exc: Exception) -> Response:
    del request
    if not isinstance(exc, HTTPException):
        raise exc
    return json_response({"error": exc.detail}, exc.status_code)
