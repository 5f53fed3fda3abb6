"""Bytes in, bytes out: reading a body within limits, writing JSON, naming errors. Shared by every wire format."""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from trunkline.errors import FieldError, Invalid
from trunkline.rest.json_text import compact_json, depth_exceeds
from trunkline.settings import Settings

MAX_DEPTH = 64
"""Deepest nesting of a request body: far beyond honest use, far below any recursion limit."""

DROP = "trunkline.drop"
"""Where a request's scope has what breaks its connection at once, if there is one."""
STALLED_SECONDS = 10.0
"""A stream's client that takes no piece of it for so long has gone, whatever its connection says."""
_PIECE = 64 * 1024
_DRAIN_FACTOR = 16
_LONGEST_LENGTH = 20  # digits; longer ones are nonsense, and Python refuses to read them at some point


class TooLarge(Invalid):
    """The request body is too large."""

    code = "body_too_large"


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: server-sent events, each chunk sent as it comes, until the client leaves."""

    chunks: AsyncGenerator[bytes, None]
    content_type: bytes = b"text/event-stream"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def encode(value: Any) -> bytes:
    """Write JSON; what orjson cannot hold (integers beyond 64 bits, deep nesting) the slow way."""
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except TypeError:
        return compact_json(value).encode()


async def read_body(scope: Scope, receive: Receive, settings: Settings, *, is_upload: bool = False) -> bytes:
    """Read a request body, as large as the settings allow.

    Raises:
        TooLarge: after reading on for a while, so that the client gets to see the answer.
    """
    name = "max_upload_bytes" if is_upload else "max_body_bytes"
    limit: int = getattr(settings, name)
    declared = _content_length(scope)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Invalid.field(("body",), "the connection closed before the whole body came", "incomplete")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit or declared > limit:
            chunks.clear()
            if size > limit * _DRAIN_FACTOR or not message.get("more_body"):
                break
            continue
        if not message.get("more_body"):
            return chunk if not chunks else b"".join([*chunks, chunk])
        chunks.append(chunk)
    text = f"is larger than {limit} bytes; the operator can raise TRUNKLINE_{name.upper()}"
    raise TooLarge(fields=[FieldError(("body",), text, "too_large")])


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < _LONGEST_LENGTH else 0
    return 0


def parse_json(body: bytes) -> Any:
    """Parse a request body strictly: no NaN, no lone surrogates, no deep nesting.

    Raises:
        Invalid: naming `body`.
    """
    if not body:
        raise Invalid.field(("body",), "Field required", "missing")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid.field(("body", error.pos), f"JSON decode error: {error.msg}", "json_invalid") from None
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and depth_exceeds(value, MAX_DEPTH):
        raise Invalid.field(("body",), f"is nested more than {MAX_DEPTH} levels deep", "too_deep")
    return value


async def send_answer(send: Send, answer: Answer, request_id: str) -> None:
    """Send a finished answer."""
    headers = [
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *answer.headers,
    ]
    if answer.body:
        headers.append((b"content-type", answer.content_type))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def send_stream(scope: Scope, receive: Receive, send: Send, stream: Stream) -> None:
    """Send chunks until there are no more, or the client has left or reads no more; then close their source."""
    headers = [
        (b"content-type", stream.content_type),
        (b"x-request-id", scope["request_id"].encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-accel-buffering", b"no"),
        *stream.headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sending = asyncio.ensure_future(_pump(scope, stream.chunks, send))
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
    if sending.done() and not sending.cancelled() and (fault := sending.exception()) is not None:
        raise fault


async def _pump(scope: Scope, chunks: AsyncGenerator[bytes, None], send: Send) -> None:
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                for start in range(0, len(chunk), _PIECE):
                    piece = chunk[start : start + _PIECE]
                    await _push(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await _push(send, {"type": "http.response.body", "body": b""})
    except _Stalled:
        # Ending in order would wait for the client, too, and so would a stop.
        scope.get(DROP, lambda: None)()


class _Stalled(Exception):  # noqa: N818 - no fault of anybody's
    """The client takes nothing."""


async def _push(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            await send(message)
    except TimeoutError:
        raise _Stalled from None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def is_loopback(host: str) -> bool:
    """Tell whether a host can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bearer_token(scope: Scope) -> str | None:
    """Read the caller's key: `Authorization: Bearer …` or `x-api-key`."""
    other: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return str(token.strip())
        elif name == b"x-api-key":
            other = value.decode("latin-1").strip()
    return other
