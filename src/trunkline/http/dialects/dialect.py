"""How a wire format other than native runs its routes: caller, permission, query, body, handler, bytes.

Knows no product: a dialect brings its routes, its way of reading the caller and its error table.
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from trunkline.context import App, Caller, Context
from trunkline.errors import FieldError, Forbidden, Invalid, NotFound, TrunklineError
from trunkline.http.wire import Answer, Stream, encode, parse_json, read_body, send_answer, send_stream
from trunkline.services import permissions

T = TypeVar("T", bound=BaseModel)
_MAX_FAULTS = 20
_MAX_QUERY_FIELDS = 200


class NoSuchMethod(NotFound):
    """Method not allowed."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        self.allowed = allowed
        super().__init__()


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler reads besides its context."""

    path: Mapping[str, str]
    query: Any
    """The route's query model; without one, the parameters as texts."""
    body: Any
    """The route's body model; without one, the bytes as they came."""
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """One documented request, such as `GET /api/things/{id}`, and who answers it."""

    request: str
    handler: Callable[[Context, Request], Awaitable[Any]]
    permission: str | None = None
    status: int = 200
    is_upload: bool = False
    """The body may be as large as files are."""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    is_signed: bool = False
    """The request proves itself by a signature, not by a key."""
    method: str = field(init=False)
    path: str = field(init=False)
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        method, path = self.request.split(" ")
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "path", path)
        text = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        object.__setattr__(self, "pattern", re.compile(text))


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format: what its routes share."""

    name: str
    routes: Sequence[Route]
    read_caller: Callable[[App, Scope, Mapping[str, str], Route], Awaitable[Caller]]
    to_answer: Callable[[TrunklineError, str], Answer]
    permit: Callable[[Context, str | None], None] | None = None
    """Refuses a caller without a route's permission, where the format names permissions in its own way."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    versions: tuple[str, ...] = ()
    """Prefixes under which every path is there once more."""
    index: dict[int, list[Route]] = field(init=False)

    def __post_init__(self) -> None:
        index: defaultdict[int, list[Route]] = defaultdict(list)
        for route in self.routes:
            index[route.path.count("/")].append(route)
        object.__setattr__(self, "index", dict(index))

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of this format."""
        try:
            answer = await self._answer(scope, receive)
        except TrunklineError as error:
            answer = self.to_answer(error, scope["request_id"])
        if isinstance(answer, Stream):
            await send_stream(scope, receive, send, answer)
        else:
            await self.send(send, answer, scope["request_id"])

    async def send(self, send: Send, answer: Answer, request_id: str) -> None:
        """Send an answer with the headers that all of this format's have."""
        headers = (*self.headers, *answer.headers)
        await send_answer(send, Answer(answer.status, answer.body, answer.content_type, headers), request_id)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | Stream:
        route, found = self.find(scope["method"], scope["path"])
        scope["route_path"] = route.path
        app: App = scope["trunkline"]
        headers = read_headers(scope)
        caller = await self.read_caller(app, scope, headers, route)
        scope["workspace_id"] = caller.workspace_id or None
        context = Context(app, caller, scope["request_id"])
        (self.permit or need)(context, route.permission)
        query = _query(route, scope["query_string"])
        body = await read_body(scope, receive, app.settings, is_upload=route.is_upload)
        request = Request(_texts(found, "path"), query, _body(route, body), headers)
        result = await route.handler(context, request)
        return result if isinstance(result, Answer | Stream) else Answer(route.status, encode(result))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a request and its path parameters.

        Raises:
            NotFound: no such path.
            NoSuchMethod: the path takes other methods.
        """
        prefix = next((prefix for prefix in self.versions if path.startswith(prefix + "/")), "")
        path = path[len(prefix) :]
        allowed = []
        for route in self.index.get(path.count("/"), ()):
            found = route.pattern.fullmatch(path)
            if found is not None and route.method == method:
                return route, found.groupdict()
            if found is not None:
                allowed.append(route.method)
        if allowed:
            raise NoSuchMethod(", ".join(sorted(set(allowed))))
        raise NotFound


def nobody(workspace_id: str, role: str = "") -> Caller:
    """Return a caller who shows no key: with a role's permissions, or with none."""
    granted = permissions.effective(role, []) if role else frozenset[str]()
    return Caller(workspace_id, "", "", None, None, role or "viewer", (), granted, None)


def need(ctx: Context, permission: str | None) -> None:
    """Refuse a caller who lacks a permission.

    Raises:
        Forbidden: naming it.
    """
    if permission is not None and not permissions.allows(ctx.caller.permissions, permission):
        raise Forbidden(f"Insufficient permissions: {permission} is needed.")


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the request's headers by lower-case name, as latin-1 text; several of one name joined by commas."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _query(route: Route, raw: bytes) -> Any:
    """Read the query; a parameter without a value counts as absent."""
    try:
        pairs = parse_qsl(raw.decode("latin-1"), max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise Invalid.field(("query",), f"has more than {_MAX_QUERY_FIELDS} parameters") from None
    given = _texts(dict(pairs), "query")
    return given if route.query is None else validate(route.query, given, "query", strict=False)


def _body(route: Route, body: bytes) -> Any:
    if route.body is None:
        return body
    return validate(route.body, parse_json(body), "body")


def _texts(given: dict[str, str], place: str) -> dict[str, str]:
    """Refuse what one of our databases cannot even compare with."""
    for name, text in given.items():
        if "\0" in text:
            raise Invalid.field((place, name), "must not hold the character U+0000")
    return given


def validate(model: type[T], value: Any, *place: str, strict: bool = True) -> T:
    """Check a value, which stands at a place in the request, against a model.

    Raises:
        Invalid: naming the fields at fault, never repeating a value.
    """
    try:
        return TypeAdapter(model).validate_python(value, strict=strict)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_FAULTS]
    raise Invalid(
        fields=[FieldError((*place, *fault["loc"]), _text(fault), fault["type"]) for fault in faults]
    )


def _text(fault: Mapping[str, Any]) -> str:
    """Say what is wrong without naming a class of ours."""
    return "Input should be an object" if fault["type"] == "model_type" else str(fault["msg"])
