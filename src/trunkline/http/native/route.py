"""How a native route runs: caller, permission, path, query, body, handler, bytes.

FastAPI declares the routes and writes the OpenAPI page from them; the request itself takes this shorter
path, because FastAPI's own costs more than half of a durable write (docs/decisions.md, 1).
"""

import inspect
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, is_dataclass
from itertools import islice
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from fastapi import APIRouter, Security
from fastapi.params import Header, Query
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from trunkline.context import App, Caller, Context
from trunkline.errors import Forbidden, Invalid, NotFound, TrunklineError
from trunkline.http.native.errors import MAX_FAULTS, from_pydantic, to_answer
from trunkline.http.wire import (
    Answer,
    Stream,
    bearer_token,
    encode,
    parse_json,
    read_body,
    send_answer,
    send_stream,
)
from trunkline.services import api_keys, permissions

_BEARER = HTTPBearer(
    scheme_name="BearerAuth",
    description="API key issued via `POST /v1/{workspace_id}/api-keys`. "
    "Pass the returned `api_key` value as a Bearer token.",
)
Call = Annotated[Context, Security(_BEARER)]
"""The first parameter of every handler: the request's context."""

_UUID = TypeAdapter(UUID)
_NUMBER = TypeAdapter(Annotated[int, Field(ge=0, le=2**31 - 1)])
_TOO_MANY_FAULTS = 20_000
_REST = "/{key}"
"""A record's key may hold anything, slashes too: it is the rest of the path."""
Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a handler takes, read once from its signature."""

    handler: Handler
    permission: str | None
    status: int
    path: tuple[tuple[str, type], ...]
    query: tuple[str, TypeAdapter[Any]] | None
    body: tuple[str, TypeAdapter[Any]] | None
    headers: tuple[tuple[str, TypeAdapter[Any]], ...] = ()
    """Parameters that are `Header()`s; all of them may be absent."""
    is_upload: bool = False
    """The body may be as large as files are."""
    is_body_optional: bool = False


class NativeRoute(APIRoute):
    """A route declared to FastAPI and run by its plan."""

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        extra = self.openapi_extra or {}
        self.plan = _plan(self, extra.get("x-permission"), is_upload=bool(extra.get("x-upload")))
        self.app = self.serve

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path parameters were read."""
        request_id: str = scope["request_id"]
        scope["route_path"] = self.path
        answer: Answer | Stream
        try:
            answer = await self._answer(scope, receive, request_id)
        except TrunklineError as error:
            answer = to_answer(error, request_id)
        if isinstance(answer, Stream):
            await send_stream(scope, receive, send, answer)
        else:
            await send_answer(send, answer, request_id)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer | Stream:
        app: App = scope["trunkline"]
        plan = self.plan
        caller = await api_keys.authenticate(app, bearer_token(scope) or "")
        scope["workspace_id"] = caller.workspace_id
        arguments: dict[str, Any] = {}
        for name, kind in plan.path:
            text = _without_nul(scope["path_params"][name], "path", name)
            if kind is UUID:
                arguments[name] = _uuid(name, text, caller)
            else:
                arguments[name] = _validate(_NUMBER, text, "path", name) if kind is int else text
        _check_access(plan, caller, arguments.get("workspace_id"))
        if plan.query is not None:
            arguments[plan.query[0]] = _query(plan.query[1], scope)
        for name, adapter in plan.headers:
            if (given := _header(scope, name)) is not None:
                arguments[name] = _validate(adapter, given, "header", name)
        if plan.body is not None:
            sent = await read_body(scope, receive, app.settings, is_upload=plan.is_upload)
            if sent or not plan.is_body_optional:
                arguments[plan.body[0]] = _validate(plan.body[1], parse_json(sent), "body")
        result = await plan.handler(Context(app, caller, request_id), **arguments)
        if isinstance(result, Answer | Stream):
            return result
        return Answer(plan.status, _encode(_shown(result, self.response_model)))


class Router(APIRouter):
    """The routes of one noun, each declared with its permission."""

    def __init__(self, tag: str) -> None:
        super().__init__(route_class=NativeRoute, tags=[tag])

    def answers(
        self,
        request: str,
        permission: str | None,
        *,
        id: str | None = None,
        status: int = 200,
        returns: Any = None,
        response_class: type[Response] = JSONResponse,
        errors: dict[int, str] | None = None,
        is_upload: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Declare a route, such as `GET /v1/{workspace_id}`: its permission is checked before its handler runs.

        Args:
            permission: None means any valid key.
            id: the handler's name with hyphens, unless it says otherwise.
            is_upload: the body may be as large as files are.
        """
        method, path = request.split(" ")
        extra: dict[str, Any] = {"x-permission": permission} if permission else {}
        extra |= {"x-upload": True} if is_upload else {}
        described = {401: "Missing or invalid API key."} | (errors or {})
        if permission:
            described[403] = "Insufficient permissions."

        def declare(handler: Handler) -> Handler:
            self.add_api_route(
                path,
                handler,
                methods=[method],
                operation_id=id or handler.__name__.replace("_", "-"),
                status_code=status,
                response_model=returns,
                response_class=response_class,
                responses={code: {"description": text} for code, text in described.items()},
                openapi_extra=extra or None,
            )
            return handler

        return declare


class RouteIndex:
    """Finds a request's route among those of its method and number of segments.

    The framework tries every route in turn, which costs more than all other routing and dispatching.
    """

    def __init__(self, routes: Iterable[object]) -> None:
        self._routes: defaultdict[tuple[str, int], list[NativeRoute]] = defaultdict(list)
        self._open: list[tuple[str, re.Pattern[str], NativeRoute]] = []
        for route in routes:
            if isinstance(route, NativeRoute):
                for method in route.methods or ():
                    self._routes[method, route.path.count("/")].append(route)
                    if route.path.endswith(_REST):
                        pattern = route.path_regex.pattern.replace("(?P<key>[^/]+)", "(?P<key>.+)")
                        self._open.append((method, re.compile(pattern, re.DOTALL), route))

    def find(self, method: str, path: str) -> tuple[NativeRoute, dict[str, str]] | None:
        """Return the route and the path parameters as text, or None."""
        for route in self._routes.get((method, path.count("/")), ()):
            found = route.path_regex.match(path)
            if found is not None:
                return route, found.groupdict()
        for known, pattern, route in self._open:
            if known == method and (found := pattern.match(path)) is not None:
                return route, found.groupdict()
        return None


def _plan(route: APIRoute, permission: str | None, *, is_upload: bool) -> Plan:
    path: list[tuple[str, type]] = []
    is_optional = False
    headers: list[tuple[str, TypeAdapter[Any]]] = []
    query = body = None
    parameters = list(inspect.signature(route.endpoint).parameters.values())[1:]
    for parameter in parameters:
        if f"{{{parameter.name}}}" in route.path:
            path.append((parameter.name, parameter.annotation))
        elif _is(parameter, Header):
            headers.append((parameter.name, TypeAdapter(parameter.annotation)))
        elif _is(parameter, Query):
            query = (parameter.name, TypeAdapter(get_args(parameter.annotation)[0]))
        else:
            body = (parameter.name, TypeAdapter(parameter.annotation))
            is_optional = parameter.default is not parameter.empty
    return Plan(
        route.endpoint,
        permission,
        route.status_code or 200,
        tuple(path),
        query,
        body,
        tuple(headers),
        is_upload,
        is_optional,
    )


def _is(parameter: inspect.Parameter, kind: type) -> bool:
    """Tell whether a parameter is annotated as a `Query()` or a `Header()`."""
    is_annotated = get_origin(parameter.annotation) is Annotated
    return is_annotated and any(isinstance(part, kind) for part in get_args(parameter.annotation))


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.replace("_", "-").encode()
    return next((value.decode("latin-1") for given, value in scope["headers"] if given == wanted), None)


def _uuid(name: str, text: str, caller: Caller) -> str:
    if text == caller.workspace_id:
        return text
    try:
        return str(_UUID.validate_python(text))
    except ValidationError as error:
        raise from_pydantic(error, "path", name) from None


def _check_access(plan: Plan, caller: Caller, workspace_id: str | None) -> None:
    """Refuse another workspace before anything else: it does not exist for this caller."""
    if workspace_id is not None and workspace_id != caller.workspace_id:
        raise NotFound("Workspace not found")
    if plan.permission is not None and not permissions.allows(caller.permissions, plan.permission):
        raise Forbidden(f"Insufficient permissions: {plan.permission} is needed.")


def _query(adapter: TypeAdapter[Any], scope: Scope) -> Any:
    raw = scope["query_string"]
    given = dict(QueryParams(raw)) if raw else {}
    for name, text in given.items():
        _without_nul(text, "query", name)
    return _validate(adapter, given, "query")


def _without_nul(text: str, *place: str) -> str:
    """Refuse what one of our databases cannot even compare with."""
    if "\0" in text:
        raise Invalid.field(place, "must not hold the character U+0000")
    return text


def _validate(adapter: TypeAdapter[Any], value: Any, place: str, *names: str) -> Any:
    strict = place == "body"  # JSON has types of its own; a query has only text
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        found = error
    if found.error_count() > MAX_FAULTS:  # writing down hundreds of thousands takes seconds
        try:
            adapter.validate_python(_beginning(value), strict=strict)
        except ValidationError as error:
            found = error
    if found.error_count() > _TOO_MANY_FAULTS:
        raise Invalid.field((place,), f"has {found.error_count()} faults")
    raise from_pydantic(found, place, *names) from None


def _beginning(value: Any) -> Any:
    """Keep the first entries of every object and list."""
    if isinstance(value, dict):
        return {key: _beginning(value[key]) for key in islice(value, MAX_FAULTS)}
    return [_beginning(item) for item in value[:MAX_FAULTS]] if isinstance(value, list) else value


def _shown(result: Any, model: Any) -> Any:
    """Show of what a service returned, or of each item in a page of it, what the route says that it answers."""
    if is_dataclass(result):
        return {name: getattr(result, name) for name in model.model_fields}
    items = result.get("items") if isinstance(result, dict) else None
    if not items or not is_dataclass(items[0]):
        return result
    names = get_args(model.model_fields["items"].annotation)[0].model_fields
    return result | {"items": [{name: getattr(item, name) for name in names} for item in items]}


def _encode(result: Any) -> bytes:
    if result is None:
        return b""
    if isinstance(result, bytes):
        return result
    if isinstance(result, BaseModel):
        return result.model_dump_json().encode()
    return encode(result)
