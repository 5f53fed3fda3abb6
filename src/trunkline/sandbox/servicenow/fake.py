"""The fake ServiceNow: routes of the Table, Aggregate and OAuth APIs, their limits and their refusals."""

from collections import deque
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import Invalid
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Control,
    RefusedError,
    Service,
    accepts,
    base_url,
    json_response,
    media_type,
    read_body,
    relative_path,
)
from trunkline.sandbox.servicenow.auth import Accounts, User
from trunkline.sandbox.servicenow.batch import run_batch
from trunkline.sandbox.servicenow.instance import Instance
from trunkline.sandbox.servicenow.render import View
from trunkline.sandbox.servicenow.stats import aggregate
from trunkline.sandbox.servicenow.table import Record, Table
from trunkline.sandbox.servicenow.writes import Writer, parse_body

MAX_BODY = 10 * 1024 * 1024
HOUR = 3_600
_JSON = frozenset({"application/json"})
_NOT_FOUND = ("No Record found", "Record doesn't exist or ACL restricts the record retrieval")
_RULE = "Trunkline sandbox: requests per hour"


class ServiceNow(Service):
    """One instance with its accounts and tables."""

    name = "servicenow"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._accounts = Accounts(options)
        self._instance = self._fresh()
        self._served: deque[float] = deque()

    def _fresh(self) -> Instance:
        return Instance(self._options, [self._accounts.username, self._accounts.readonly_username])

    def reset(self) -> None:
        self._instance = self._fresh()
        self._accounts.forget_tokens()
        self._served.clear()

    def ready(self, base_url: str) -> dict[str, str]:
        accounts = self._accounts
        return {
            "url": base_url,
            "username": accounts.username,
            "password": accounts.password,
            "client_id": accounts.client_id,
            "client_secret": accounts.client_secret,
            "readonly_username": accounts.readonly_username,
            "readonly_password": accounts.readonly_password,
        }

    def credentials(self) -> list[str]:
        accounts = self._accounts
        return [accounts.password, accounts.readonly_password, accounts.client_secret]

    def controls(self) -> dict[str, Control]:
        return {"replay": self._replay, "revoke_tokens": self._revoke_tokens}

    def _replay(self, document: dict[str, Any]) -> dict[str, Any]:
        rows = document.get("rows")
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise Invalid.field(("rows",), "must be a whole number from 0")
        return self._instance.replay(rows)

    def _revoke_tokens(self, document: dict[str, Any]) -> dict[str, Any]:
        del document
        return {"revoked": self._accounts.revoke_access()}

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/", _front_page, methods=["GET"]),
            Route("/oauth_token.do", self._accounts.token, methods=["POST"]),
        ]
        for version in ("", "/v1", "/v2"):
            table = f"/api/now{version}/table/{{table}}"
            routes += [
                Route(table, self._list, methods=["GET"]),
                Route(table, self._insert, methods=["POST"]),
                Route(f"{table}/{{sys_id}}", self._get, methods=["GET"]),
                Route(f"{table}/{{sys_id}}", self._update, methods=["PATCH", "PUT"]),
                Route(f"{table}/{{sys_id}}", self._delete, methods=["DELETE"]),
                Route(f"/api/now{version}/stats/{{table}}", self._stats, methods=["GET"]),
                Route(f"/api/now{version}/batch", self._batch, methods=["POST"]),
            ]
        return routes

    def refusal(self, refused: RefusedError, path: str) -> Response:
        message, detail = refused.message, refused.detail
        if path == "/oauth_token.do":
            body = {"error": "server_error", "error_description": message}
            return json_response(body, refused.status, refused.headers)
        status = refused.status
        if status == 404 and message == "Not Found":
            status, message = 400, f"Requested URI does not represent any resource: {path[:200]}"
        if refused.status == 405:
            message, detail = "Method not supported", "The resource does not take this HTTP method"
        error = {"message": message, "detail": detail}
        return json_response({"error": error, "status": "failure"}, status, refused.headers)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        reset = int(self._options.clock.now().timestamp()) + seconds
        limit = self._options.servicenow_hourly_limit or HOUR
        return {
            "Retry-After": str(seconds),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-Rule": _RULE,
        }

    async def _list(self, request: Request) -> Response:
        self._admit(request)
        table, params = self._table(request), request.query_params
        limit = min(_whole(params, "sysparm_limit", 10_000), self._options.servicenow_page_cap)
        offset = _whole(params, "sysparm_offset", 0)
        selection = self._instance.selector.select(table, params.get("sysparm_query", ""))
        body = self._instance.renderer.page(table, selection.page(offset, limit), _view(request))
        response = Response(body, media_type="application/json")
        if params.get("sysparm_no_count", "").lower() != "true":
            response.headers["X-Total-Count"] = str(len(selection))
        if params.get("sysparm_suppress_pagination_header", "").lower() != "true":
            links = _links(request, offset, limit, len(selection))
            if links:
                response.headers["Link"] = links
        return response

    async def _get(self, request: Request) -> Response:
        self._admit(request)
        table = self._table(request)
        return self._answer(request, table, _record(request, table))

    async def _insert(self, request: Request) -> Response:
        user = self._admit(request)
        table, body = self._table(request), await _body(request)
        record = self._writer(user, "Insert").insert(table, body)
        location = f"{base_url(request)}/api/now/table/{table.name}/{table.value(record, 'sys_id')}"
        return self._answer(request, table, record, 201, {"Location": location})

    async def _update(self, request: Request) -> Response:
        user = self._admit(request)
        table, body = self._table(request), await _body(request)
        record = _record(request, table)
        return self._answer(request, table, self._writer(user, "Update").update(table, record, body))

    async def _delete(self, request: Request) -> Response:
        user = self._admit(request)
        table = self._table(request)
        record = _record(request, table)
        self._writer(user, "Delete")
        table.remove(table.value(record, "sys_id"))
        return Response(status_code=204)

    async def _stats(self, request: Request) -> Response:
        self._admit(request)
        table = self._table(request)
        selection = self._instance.selector.select(table, request.query_params.get("sysparm_query", ""))
        records = selection.page(0, len(selection))
        return json_response({"result": aggregate(table, records, request.query_params)})

    async def _batch(self, request: Request) -> Response:
        self._admit(request)
        return await run_batch(request, await _body(request))

    def _admit(self, request: Request) -> User:
        """Check who calls, what answer is wanted and, when there is one, the limit of requests an hour."""
        user = self._accounts.caller(request)
        if not accepts(request, _JSON):
            raise RefusedError(406, "Not Acceptable", detail="this sandbox answers application/json only")
        limit = self._options.servicenow_hourly_limit
        if limit is not None:
            now = self._options.clock.monotonic()
            while self._served and self._served[0] <= now - HOUR:
                self._served.popleft()
            if len(self._served) >= limit:
                headers = self.rate_limit_headers(max(1, int(self._served[0] + HOUR - now)))
                raise RefusedError(429, "Rate limit exceeded", detail=_RULE, headers=headers)
            self._served.append(now)
        return user

    def _table(self, request: Request) -> Table:
        name = request.path_params["table"]
        table = self._instance.tables.get(name)
        if table is None:
            raise RefusedError(400, f"Invalid table {name[:100]}")
        return table

    def _writer(self, user: User, action: str) -> Writer:
        if not user.may_write:
            detail = f"ACL Exception {action} Failed due to security constraints"
            raise RefusedError(403, "Operation Failed", detail=detail)
        return Writer(self._instance, self._options.clock, user.name)

    def _answer(
        self,
        request: Request,
        table: Table,
        record: Record,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        body = self._instance.renderer.one(table, record, _view(request))
        return Response(body, status, headers, media_type="application/json")


async def _front_page(request: Request) -> Response:
    del request
    return Response("<html><title>ServiceNow (Trunkline sandbox)</title></html>", media_type="text/html")


def _record(request: Request, table: Table) -> Record:
    record = table.rows.get(request.path_params["sys_id"])
    if record is None:
        raise RefusedError(404, _NOT_FOUND[0], detail=_NOT_FOUND[1])
    return record


async def _body(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) != "application/json":
        raise RefusedError(415, "Unsupported media type", detail="this sandbox reads application/json only")
    return parse_body(raw)


def _whole(params: Any, name: str, default: int) -> int:
    """Read a parameter that is a whole number; anything else is refused, so that a client's slip shows."""
    text = params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise RefusedError(400, f"Invalid {name}", detail=f"{name} must be a whole number")
    return int(text)


def _view(request: Request) -> View:
    params = request.query_params
    display = params.get("sysparm_display_value", "false").lower()
    fields = tuple(name.strip() for name in params.get("sysparm_fields", "").split(",") if name.strip())
    if len(fields) > 500:
        raise RefusedError(400, "Invalid sysparm_fields", detail="more than 500 fields")
    links = params.get("sysparm_exclude_reference_link", "").lower() != "true"
    return View(base_url(request), fields, display if display in {"true", "all"} else "false", links)


def _links(request: Request, offset: int, limit: int, total: int) -> str:
    """Return the Link header (RFC 8288): first, prev, next and last page of this list."""
    if limit == 0 or total == 0:
        return ""
    last = (total - 1) // limit * limit
    places = {"first": 0}
    if offset > 0:
        places["prev"] = max(0, offset - limit)
    if offset + limit < total:
        places["next"] = offset + limit
    places["last"] = last
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "sysparm_offset"]
    if "sysparm_limit" not in request.query_params:
        others.append(("sysparm_limit", str(limit)))
    here = f"{base_url(request)}{relative_path(request)}?{urlencode(others)}&sysparm_offset="
    return ",".join(f'<{here}{place}>;rel="{rel}"' for rel, place in places.items())
