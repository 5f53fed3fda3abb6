"""What every fake service is: routes, state, credentials, its own error shape. No transport, no faults."""

import http
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from trunkline.sandbox.options import SandboxOptions

_BASE_URL = "trunkline.base_url"
Control = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Outgoing:
    """A webhook that a fake sends by itself; `proof` are the headers that say where it comes from."""

    body: bytes
    headers: dict[str, str]
    proof: dict[str, str]
    method: str = "POST"
    query: dict[str, str] = field(default_factory=dict)


Build = Callable[[dict[str, Any], datetime, str | None], Outgoing]
"""Makes one webhook of options, the time it is sent at, and the secret (None: the fake's own); see `sender`."""


class RefusedError(Exception):
    """A fake says no. The service it comes from turns it into its own error shape."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        detail: Any = None,
        code: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.message = message or reason(status)
        self.detail = detail
        self.code = code
        self.headers = headers or {}
        super().__init__(self.message)


def reason(status: int) -> str:
    """Return the standard phrase of a status."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


class Service(ABC):
    """One fake: built with its data, reset to it, mounted under its name."""

    name: ClassVar[str]

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._clock = options.clock
        self._credentials: list[str] = []

    def credential(self, name: str, make: Callable[[], str] | None = None) -> str:
        """Return a secret of this fake, the one that was given or a fresh one; the journal never shows it."""
        self._credentials.append(self._options.credential(self.name, name, make))
        return self._credentials[-1]

    @abstractmethod
    def routes(self) -> list[BaseRoute]:
        """Return the routes, relative to where the fake is mounted."""

    @abstractmethod
    def refusal(self, refused: RefusedError, path: str) -> Response:
        """Say no in the shape the real service uses on this path."""

    @abstractmethod
    def ready(self, base_url: str) -> dict[str, str]:
        """Return the address and credentials a client needs."""

    @abstractmethod
    def reset(self) -> None:
        """Go back to the state right after the start; the credentials stay."""

    def credentials(self) -> list[str]:
        """Return every secret value, so that the journal never shows one."""
        return self._credentials

    def controls(self) -> dict[str, Control]:
        """Return what the control API offers beyond faults, by name."""
        return {}

    def webhooks(self) -> dict[str, Build]:
        """Return what this service sends to an address by itself, by event."""
        return {}

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        """Return what the real service sends beside a 429."""
        return {"Retry-After": str(seconds)}


def relative_path(request: Request) -> str:
    """Return the path below the mount point."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def base_url(request: Request) -> str:
    """Return the address this fake was called by, without a trailing slash (raises RefusedError 400)."""
    found: str | None = request.scope.get(_BASE_URL)
    if found is None:
        try:
            found = request.scope[_BASE_URL] = str(request.base_url).rstrip("/")
        except ValueError as error:
            raise RefusedError(400, "Invalid Host header") from error
    return found


def build_service_app(service: Service) -> ASGIApp:
    """Make the application of one fake; what no route serves is refused in the service's own shape."""

    def on_refused(request: Request, exc: Exception) -> Response:
        if not isinstance(exc, RefusedError):
            raise exc
        return service.refusal(exc, relative_path(request))

    def on_http(request: Request, exc: Exception) -> Response:
        if not isinstance(exc, HTTPException):
            raise exc
        refused = RefusedError(exc.status_code, headers=dict(exc.headers or {}))
        return service.refusal(refused, relative_path(request))

    return Starlette(
        routes=service.routes(),
        exception_handlers={RefusedError: on_refused, HTTPException: on_http},
    )


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body up to `limit` bytes; refuse a larger one with 413 while it is still arriving."""
    size, parts = 0, []
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise RefusedError(413)
            parts.append(chunk)
    except ClientDisconnect as gone:
        raise RefusedError(400) from gone
    return b"".join(parts)


def parse_object(raw: bytes, no_json: RefusedError, no_object: RefusedError | None = None) -> dict[str, Any]:
    """Read a JSON object; else say no, with the first refusal or, of JSON that is no object, the second."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise no_json from error
    if not isinstance(value, dict):
        raise no_object or no_json
    return value


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def accepts(request: Request, media_types: frozenset[str]) -> bool:
    """Tell whether the Accept header admits one of `media_types`; an absent one admits all."""
    accept = request.headers.get("accept", "").strip()
    if not accept:
        return True
    for part in accept.lower().split(","):
        offered = part.partition(";")[0].strip()
        if offered == "*/*" or offered in media_types:
            return True
        if offered.endswith("/*") and any(known.startswith(offered[:-1]) for known in media_types):
            return True
    return False
