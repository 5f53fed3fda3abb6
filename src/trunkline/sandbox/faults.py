"""Faults on demand: which one is due for a request, and how each kind is carried out."""

import fnmatch
import math
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.clock import Clock
from trunkline.errors import Invalid
from trunkline.sandbox.service import RefusedError, Service, reason

KINDS = ("status", "delay", "reset", "rate_limit", "drip", "malformed", "close")
TRANSPORT = "trunkline.transport"
PIECE = 16
NOT_HTTP = b"\x00\x01 this is no HTTP\r\n\r\n"
_DEFAULT_SECONDS = {"delay": 1.0, "rate_limit": 1.0, "drip": 0.05}
_MAX_FAULTS = 1_000


@dataclass
class Fault:
    """One order: which requests of which service fail, how often and how."""

    service: str
    kind: str
    method: str | None = None
    path: str | None = None
    times: int | None = 1
    status: int = 500
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    used: int = 0

    def matches(self, service: str, method: str, path: str) -> bool:
        if self.service != service or (self.method and self.method != method):
            return False
        if self.path is None:
            return True
        if any(mark in self.path for mark in "*?["):
            return fnmatch.fnmatchcase(path, self.path)
        return path.startswith(self.path)

    def content(self) -> bytes | None:
        """Return the ordered body as bytes, or None to leave it to the service."""
        if self.body is None:
            return None
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body)


class FaultBook:
    """The orders that are still open, oldest first."""

    def __init__(self, services: list[str]) -> None:
        self._services = services
        self._faults: list[Fault] = []

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        """Take an order from the control API (raises Invalid naming the field)."""
        if len(self._faults) >= _MAX_FAULTS:
            raise Invalid.field(("faults",), f"{_MAX_FAULTS} faults are open; delete some first")
        fault = parse_fault(document, self._services)
        self._faults.append(fault)
        return asdict(fault)

    def take(self, service: str, method: str, path: str) -> Fault | None:
        """Return the fault due for this request, and count it."""
        for fault in self._faults:
            if fault.matches(service, method, path):
                fault.used += 1
                if fault.times is not None and fault.used >= fault.times:
                    self._faults.remove(fault)
                return fault
        return None

    def clear(self, service: str | None = None) -> int:
        """Drop the open orders (of one service) and return how many there were."""
        kept = [fault for fault in self._faults if service and fault.service != service]
        dropped = len(self._faults) - len(kept)
        self._faults = kept
        return dropped

    def open(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]


def parse_fault(document: dict[str, Any], services: list[str]) -> Fault:
    """Check an order field by field (raises Invalid)."""
    known = ("service", "kind", "method", "path", "times", "status", "seconds", "headers", "body")
    for name in document:
        if name not in known:
            raise Invalid.field((name,), f"unknown field; there are: {', '.join(known)}")
    kind = _one_of(document, "kind", KINDS)
    headers = document.get("headers") or {}
    if not isinstance(headers, dict) or not all(_is_header(*item) for item in headers.items()):
        raise Invalid.field(("headers",), "must map header names to one-line ASCII texts")
    return Fault(
        service=_one_of(document, "service", services),
        kind=kind,
        method=(_text(document, "method") or "").upper() or None,
        path=_text(document, "path"),
        times=_times(document),
        status=int(_number(document, "status", 500, 200, 599)),
        seconds=_number(document, "seconds", _DEFAULT_SECONDS.get(kind, 0.0), 0, 3_600),
        headers=headers,
        body=document.get("body"),
    )


def _one_of(document: dict[str, Any], name: str, allowed: tuple[str, ...] | list[str]) -> str:
    value = document.get(name)
    if value not in allowed:
        raise Invalid.field((name,), f"must be one of: {', '.join(allowed)}")
    return str(value)


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= 1_000):
        raise Invalid.field((name,), "must be a text of at most 1,000 characters")
    return value


def _is_header(name: object, value: object) -> bool:
    if not (isinstance(name, str) and isinstance(value, str) and name.isascii() and value.isascii()):
        return False
    return name.replace("-", "").replace("_", "").isalnum() and value.isprintable()


def _number(document: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Invalid.field((name,), f"must be a number between {low} and {high}")
    return value


def _times(document: dict[str, Any]) -> int | None:
    value = document.get("times", 1)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid.field(("times",), "must be a whole number from 1, or null for every time")
    return value


@dataclass
class Failing:
    """A request about to fail, with what the kinds need to do so."""

    fault: Fault
    service: Service
    app: ASGIApp
    clock: Clock
    path: str

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the fault out instead of, before, or around the real answer."""
        kind = self.fault.kind
        if kind == "delay":
            await self.clock.sleep(self.fault.seconds)
            await self.app(scope, receive, send)
        elif kind == "drip":
            await self._drip(scope, receive, send)
        elif kind in {"status", "rate_limit"}:
            await self._answer()(scope, receive, send)
        else:
            await self._break(scope, receive)

    def _answer(self) -> Response:
        """Return the ordered answer, by default in the service's own error shape."""
        fault = self.fault
        headers: dict[str, str] = {}
        status = fault.status
        if fault.kind == "rate_limit":
            status = 429
            headers = self.service.rate_limit_headers(math.ceil(fault.seconds))
        refused = RefusedError(status, reason(status), headers=headers)
        response = self.service.refusal(refused, self.path)
        content = fault.content()
        if content is not None:
            response = Response(content, status, headers, media_type="application/json")
        for name, value in fault.headers.items():
            response.headers[name] = value
        return response

    async def _drip(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer's head at once and its body 16 bytes at a time, `seconds` apart."""
        head, body = await _capture(self.app, scope, receive)
        ordered = self.fault.content()
        if ordered is not None:
            body = ordered
            kept = [pair for pair in head["headers"] if pair[0] != b"content-length"]
            head["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        await send(head)
        transport = _transport(scope)
        for start in range(0, len(body), PIECE):
            await self.clock.sleep(self.fault.seconds)
            if transport is not None and transport.is_closing():
                return
            await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _break(self, scope: Scope, receive: Receive) -> None:
        """Break the connection: reset, garbage, or closed before or inside the answer."""
        transport = _transport(scope)
        if transport is None:
            raise ConnectionResetError(f"fault {self.fault.kind} of the sandbox")
        content = self.fault.content()
        if self.fault.kind == "malformed":
            transport.write(content or NOT_HTTP)
        elif self.fault.kind == "close" and content:
            transport.write(_cut_answer(content))
        if self.fault.kind == "reset":
            _linger_no_more(transport)
            transport.abort()
        else:
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def _transport(scope: Scope) -> Any:
    return scope.get("extensions", {}).get(TRANSPORT, {}).get("transport")


def _linger_no_more(transport: Any) -> None:
    """Make the close a TCP reset (RST): SO_LINGER on, for 0 seconds."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _cut_answer(content: bytes) -> bytes:
    """Announce the whole body, deliver half of it."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content[: len(content) // 2]


async def _capture(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    head: Message = {}
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, collect)
    return head, b"".join(parts)
