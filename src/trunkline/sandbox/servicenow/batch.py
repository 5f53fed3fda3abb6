"""The Batch API: several requests of this instance in one, each answered as it would be alone."""

import base64
import binascii
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from trunkline.sandbox.service import RefusedError, json_response, reason

MAX_REQUESTS = 150


async def run_batch(request: Request, body: dict[str, Any]) -> Response:
    """Serve each of `rest_requests` in order, as the caller of the batch (raises RefusedError 400)."""
    batch_id, orders = body.get("batch_request_id"), body.get("rest_requests")
    if (
        batch_id is None
        or not isinstance(orders, list)
        or not all(isinstance(order, dict) for order in orders)
    ):
        raise RefusedError(
            400, "Invalid batch request", detail="batch_request_id and rest_requests are needed"
        )
    if len(orders) > MAX_REQUESTS:
        raise RefusedError(400, "Invalid batch request", detail=f"more than {MAX_REQUESTS} requests")
    served = [await _serve(request, order) for order in orders]
    answer = {"batch_request_id": str(batch_id), "serviced_requests": served, "unserviced_requests": []}
    return json_response(answer)


async def _serve(request: Request, order: dict[str, Any]) -> dict[str, Any]:
    scope, body = _scope(request, order), _body(order)
    status, headers, parts = 500, [], []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], message["headers"]
        else:
            parts.append(message.get("body", b""))

    await request.app(scope, receive, send)
    return {
        "id": str(order.get("id")),
        "status_code": status,
        "status_text": reason(status),
        "headers": [
            {"name": name.decode("latin-1"), "value": value.decode("latin-1")} for name, value in headers
        ],
        "body": base64.b64encode(b"".join(parts)).decode(),
        "execution_time": 1,
    }


def _scope(request: Request, order: dict[str, Any]) -> Scope:
    url, method = order.get("url"), order.get("method")
    if not isinstance(url, str) or not isinstance(method, str) or "/batch" in url:
        raise RefusedError(
            400, "Invalid batch request", detail="each request needs a url and a method of its own"
        )
    root_path: str = request.scope["root_path"]
    path, _, query = url.removeprefix(root_path).partition("?")
    given = order.get("headers") or []
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise RefusedError(400, "Invalid batch request", detail="headers must be a list of name and value")
    own = [(str(item.get("name")).lower().encode(), str(item.get("value")).encode()) for item in given]
    kept = [pair for pair in request.scope["headers"] if pair[0] in {b"authorization", b"host"}]
    return {
        **{
            name: request.scope[name]
            for name in ("type", "asgi", "http_version", "server", "client", "scheme")
        },
        "root_path": root_path,
        "path": root_path + unquote(path),
        "raw_path": (root_path + path).encode(),
        "query_string": query.encode(),
        "method": method.upper(),
        "headers": [pair for pair in own if pair[0] not in {b"authorization", b"host"}] + kept,
    }


def _body(order: dict[str, Any]) -> bytes:
    body = order.get("body") or ""
    try:
        return base64.b64decode(body, validate=True) if isinstance(body, str) else orjson.dumps(body)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, "Invalid batch request", detail="each body must be base64") from error
