"""What services call by themselves: `POST /hooks/{token}` and its GET handshake. The token and the signature are the key.

The hottest path there is: plain ASGI, nothing parsed that need not be. What is accepted is on disk before it is answered.
"""

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from trunkline.context import App
from trunkline.errors import Conflict, TrunklineError
from trunkline.http.native.errors import to_answer
from trunkline.http.wire import Answer, encode, read_body, send_answer
from trunkline.rest.signatures import Reply, refusal
from trunkline.services import hooks, inbox
from trunkline.services.hooks import Source

PREFIX = hooks.PATH
_METHODS = ((b"allow", b"GET, POST"),)
_TEXT = b"text/plain; charset=utf-8"


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request under `/hooks/`."""
    scope["route_path"] = "/hooks/{token}"
    request_id: str = scope["request_id"]
    try:
        answer = await _answer(scope["trunkline"], scope, receive, request_id)
    except TrunklineError as error:
        answer = to_answer(error, request_id)
    await send_answer(send, answer, request_id)


async def _answer(app: App, scope: Scope, receive: Receive, request_id: str) -> Answer:
    method = scope["method"]
    if method not in {"POST", "GET"}:
        fault = {
            "detail": "Method Not Allowed",
            "error_code": "method_not_allowed",
            "request_id": request_id,
        }
        return Answer(405, encode(fault), headers=_METHODS)
    source = await hooks.find(app, scope["path"][len(PREFIX) :])
    if method == "GET":
        return await _handshake(app, scope, source)
    return await take(app, scope, source, await read_body(scope, receive, app.settings))


async def take(app: App, scope: Scope, source: Source | None, body: bytes) -> Answer:
    """Verify a request, store it, and answer its id or what its service must hear once it is durable.

    A challenge is answered instead, and not stored.

    Raises:
        Unauthenticated: there is no such source, or the request does not prove that it comes from there.
        Conflict: the integration is switched off.
        TooMany, Unavailable: it cannot be stored now.
    """
    if source is None:
        raise refusal(body)
    headers = _headers(scope, source)
    secrets = await hooks.open_proofs(app, source)
    verified = source.webhook.verify(headers, body, _query(scope), secrets, app.clock.now())
    scope["workspace_id"] = source.workspace_id
    if not source.enabled:
        raise Conflict("This integration is disabled; enable it to take its webhooks.")
    if verified.reply is not None:
        return _reply(verified.reply)
    kept = {name: text for name, text in headers.items() if name in source.kept_headers}
    inbox_id = await inbox.receive(app, source, kept, body, verified.dedup)
    if source.webhook.answer is not None:
        return _reply(source.webhook.answer)
    return Answer(202, b'{"id":"%s"}' % inbox_id.encode())


async def _handshake(app: App, scope: Scope, source: Source | None) -> Answer:
    if source is None:
        raise refusal(b"")
    reply = source.webhook.handshake(_query(scope), await hooks.open_proofs(app, source))
    scope["workspace_id"] = source.workspace_id
    return _reply(reply)


def _headers(scope: Scope, source: Source) -> dict[str, str]:
    """Pick the headers that count here, several of one name joined by commas."""
    wanted = source.headers
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = wanted.get(raw)
        if name is not None:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _query(scope: Scope) -> dict[str, str]:
    raw = scope["query_string"]
    return dict(QueryParams(raw)) if raw else {}


def _reply(reply: Reply) -> Answer:
    if isinstance(reply, str):
        return Answer(200, reply.encode("utf-8", "replace"), _TEXT)
    return Answer(200, encode(reply))
