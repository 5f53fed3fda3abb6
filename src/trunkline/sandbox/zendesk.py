"""The fake Zendesk Support: incremental exports by cursor, tickets and their comments, and signed webhooks."""

import base64
import hashlib
import hmac
import math
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import Invalid
from trunkline.sandbox.limits import Window
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Build,
    Outgoing,
    RefusedError,
    Service,
    base_url,
    json_response,
    read_body,
)

MAX_BODY = 1024 * 1024
SEEDED = 250
MINUTE_LIMIT, EXPORT_LIMIT = 700, 10
QUIET_SECONDS = 60
"""What was written so short ago is in no export yet."""
EMAIL, ACCOUNT_ID, AGENT_ID = "bridge@example.com", 12514403, 1
STATUSES = ("new", "open", "pending", "hold", "solved", "closed")
PRIORITIES = ("urgent", "high", "normal", "low", None)
_SUBJECTS = ("Printer on fire", "Refund please", "Cannot log in", "Where is my order?", "Checkout fails")
Record = dict[str, Any]
Handler = Callable[[Request, Any], Any]


def iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Zendesk(Service):
    """One account with one agent."""

    name = "zendesk"

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._clock = options.clock
        self._token = options.credential(self.name, "token")
        self._secret = options.credential(self.name, "webhook_secret")
        self.reset()

    def reset(self) -> None:
        limit = self._options.request_limits.get(self.name, MINUTE_LIMIT)
        self._window, self._exports = Window(self._clock, limit, 60), Window(self._clock, EXPORT_LIMIT, 60)
        self.tickets: dict[int, Record] = {}
        self._comments: dict[int, list[Record]] = {}
        start = self._clock.now() - timedelta(minutes=10 * SEEDED)
        self.users = {number: _user(number, start + timedelta(hours=number)) for number in range(1, 31)}
        self.organizations = [
            {"id": 500 + number, "name": f"Company {number}", "updated_at": iso(start)} for number in range(3)
        ]
        dice = random.Random(self._options.seed)
        for number in range(SEEDED):
            at = self._clock.now() - timedelta(minutes=10 * (SEEDED - number))
            made = self._insert(
                dice.choice(_SUBJECTS), "It does not work.", at, priority=dice.choice(PRIORITIES)
            )
            made.update(requester_id=dice.randrange(2, 31), status=dice.choice(STATUSES[:4]))

    def ready(self, base_url: str) -> dict[str, str]:
        given = {"username": f"{EMAIL}/token", "token": self._token, "webhook_secret": self._secret}
        return {"url": base_url, **given}

    def credentials(self) -> list[str]:
        return [self._token, self._secret]

    def routes(self) -> list[BaseRoute]:
        ticket = "/api/v2/tickets/{id:int}"
        wanted: list[tuple[str, str, Handler]] = [
            ("GET", "/api/v2/users/me.json", lambda _request, _body: {"user": self.users[AGENT_ID]}),
            ("GET", "/api/v2/incremental/tickets/cursor.json", partial(self._export, "tickets")),
            ("GET", "/api/v2/incremental/users/cursor.json", partial(self._export, "users")),
            ("GET", "/api/v2/organizations.json", lambda request, _body: _paged(request, "organizations", self.organizations)),
            ("POST", "/api/v2/tickets.json", self._create),
            ("GET", f"{ticket}.json", lambda request, _body: {"ticket": self._find(request)}),
            ("PUT", f"{ticket}.json", self._update),
            ("DELETE", f"{ticket}.json", lambda request, _body: self.touch(self._find(request)["id"], status="deleted") and None),
            ("GET", f"{ticket}/comments.json", lambda request, _body: _paged(request, "comments", self._comments[self._find(request)["id"]])),
        ]  # fmt: skip
        return [Route(path, self._guarded(run), methods=[method]) for method, path, run in wanted]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        kinds = {401: "Couldn't authenticate you", 404: "RecordNotFound", 429: "APIRateLimitExceeded"}
        body = {"error": kinds.get(refused.status, "RecordInvalid"), "description": refused.message}
        if refused.detail:
            body["details"] = refused.detail
        if refused.status == 401:
            del body["description"]
        return json_response(body, refused.status, refused.headers)

    def webhooks(self) -> dict[str, Build]:
        kinds = ("ticket.created", "ticket.status_changed", "ticket.comment_added", "ticket.soft_deleted")
        return {kind: partial(self._send, kind) for kind in kinds}

    def _guarded(self, handler: Handler) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            pair = base64.b64encode(f"{EMAIL}/token:{self._token}".encode()).decode()
            if not hmac.compare_digest(
                request.headers.get("authorization", "").encode(), f"Basic {pair}".encode()
            ):
                raise RefusedError(401)
            place = self._window.take("")
            if not place.admitted:
                self._refuse("Number of allowed API requests per minute exceeded", place.reset_after)
            headers = {
                "ratelimit-limit": str(self._window.limit),
                "ratelimit-remaining": str(place.remaining),
            }
            headers |= {"X-Rate-Limit-Remaining": str(place.remaining)}
            headers |= {"ratelimit-reset": str(math.ceil(place.reset_after))}
            answer = handler(request, await _body(request) if request.method in {"POST", "PUT"} else None)
            if answer is None:
                return Response(status_code=204, headers=headers)
            return json_response(answer, 201 if request.method == "POST" else 200, headers)

        return guarded

    def _refuse(self, text: str, seconds: float) -> None:
        raise RefusedError(429, text, headers=self.rate_limit_headers(math.ceil(seconds)))

    def _insert(self, subject: str, text: str, at: datetime, **fields: Any) -> Record:
        number = len(self.tickets) + 1
        told = {"id": number, "subject": subject, "description": text, "status": "new", "priority": None}
        told |= {"type": None, "tags": [], "requester_id": AGENT_ID, "assignee_id": None, "group_id": None}
        told |= {
            "organization_id": None,
            "external_id": None,
            "via": {"channel": "api"},
            "created_at": iso(at),
        }
        told |= {"updated_at": iso(at), "generated_timestamp": int(at.timestamp()), **fields}
        self.tickets[number] = told
        self._comments[number] = []
        self._say(number, text, is_public=True, at=at)
        return told

    def _say(self, ticket: int, text: str, *, is_public: bool, at: datetime) -> None:
        kept = self._comments[ticket]
        told = {"id": ticket * 1_000 + len(kept), "type": "Comment", "author_id": AGENT_ID, "body": text}
        kept.append({**told, "public": is_public, "created_at": iso(at)})

    def touch(self, ticket: int, **fields: Any) -> Record:
        """Change a ticket as somebody of the account would."""
        now = self._clock.now()
        self.tickets[ticket].update(fields, updated_at=iso(now), generated_timestamp=int(now.timestamp()))
        return self.tickets[ticket]

    def _find(self, request: Request) -> Record:
        found = self.tickets.get(request.path_params["id"])
        if found is None or found["status"] == "deleted":
            raise RefusedError(404, "Not found")
        return found

    def _export(self, kind: str, request: Request, _body: Any) -> Record:
        place = self._exports.take(kind)
        if not place.admitted:
            text = "Number of allowed incremental export API requests per minute exceeded"
            self._refuse(text, place.reset_after)
        after = self._after(request)
        limit = self._clock.now().timestamp() - QUIET_SECONDS
        rows = [(_stamp(row), row["id"], row) for row in getattr(self, kind).values()]
        if request.query_params.get("exclude_deleted") == "true":
            rows = [row for row in rows if row[2].get("status") != "deleted"]
        rows = sorted(row for row in rows if after < row[:2] and row[0] <= limit)
        size = min(_whole(request, "per_page", 1_000), 1_000)
        last = rows[:size][-1][:2] if rows else after
        cursor = base64.b64encode(f"{last[0]}.0||{last[1]}|".encode()).decode()
        url = f"{base_url(request)}/api/v2/incremental/{kind}/cursor.json?cursor={cursor}"
        told = {"after_cursor": cursor, "after_url": url, "before_cursor": None, "before_url": None}
        return {kind: [row[2] for row in rows[:size]], **told, "end_of_stream": len(rows) <= size}

    def _after(self, request: Request) -> tuple[int, int]:
        """Say after which time and id to go on: by the cursor, else by the time the export begins at."""
        cursor = request.query_params.get("cursor")
        if cursor is not None:
            try:
                at, _, rest = base64.b64decode(cursor, validate=True).decode().partition(".0||")
                return int(at), int(rest.rstrip("|"))
            except ValueError:
                raise RefusedError(400, "cursor is invalid") from None
        start = _whole(request, "start_time", None)
        if start > self._clock.now().timestamp() - QUIET_SECONDS:
            raise RefusedError(422, "Too recent start_time. Use a start_time older than 60 seconds")
        return start, -1

    def _create(self, _request: Request, body: Record) -> Record:
        given = _ticket_of(body)
        comment = given.pop("comment", None) or {}
        if not comment.get("body"):
            raise RefusedError(
                422,
                "Record validation errors",
                detail={"base": [{"description": "Description: cannot be blank"}]},
            )
        requester = given.pop("requester", None) or {}
        if requester:
            given["requester_id"] = self._requester(requester)
        made = self._insert(given.pop("subject", ""), comment["body"], self._clock.now(), **given)
        return {"ticket": made, "audit": {"id": made["id"]}}

    def _requester(self, given: Record) -> int:
        for user in self.users.values():
            if user["email"] == given.get("email"):
                return int(user["id"])
        if not given.get("name"):
            text = "Requester: Name: is too short (minimum one character)"
            raise RefusedError(422, "Record validation errors", detail={"requester": [{"description": text}]})
        number = len(self.users) + 1
        self.users[number] = _user(number, self._clock.now()) | given
        return number

    def _update(self, request: Request, body: Record) -> Record:
        found, given = self._find(request), _ticket_of(body)
        comment = given.pop("comment", None)
        status, priority = given.get("status", "open"), given.get("priority")
        if found["status"] == "closed" or status not in STATUSES[1:5] or priority not in PRIORITIES:
            raise RefusedError(
                422, "Record validation errors", detail={"status": [{"description": "Status: is invalid"}]}
            )
        if status == "solved" and not given.get("assignee_id", found["assignee_id"]):
            text = "Assignee: is required when solving a ticket"
            raise RefusedError(422, "Record validation errors", detail={"base": [{"description": text}]})
        if comment:
            is_public = comment.get("public", True)
            self._say(found["id"], comment.get("body", ""), is_public=is_public, at=self._clock.now())
        return {"ticket": self.touch(found["id"], **given), "audit": {"id": found["id"]}}

    def _send(self, kind: str, options: Record, at: datetime, secret: str | None) -> Outgoing:
        """Make a webhook; options: `ticket` (its number, else the newest), `status`, `priority`, `text`."""
        ticket = self.tickets.get(options.get("ticket", len(self.tickets)))
        if ticket is None:
            raise Invalid.field(("ticket",), "is no number of a ticket")
        status = str(options.get("status", ticket["status"])).upper()
        priority = options.get("priority", ticket["priority"])
        detail = {**ticket, "id": str(ticket["id"]), "requester_id": str(ticket["requester_id"])}
        detail |= {"status": status, "priority": priority and str(priority).upper()}
        event: Record = {"meta": {"sequence": {"id": uuid.uuid4().hex, "position": 1}}}
        if kind == "ticket.status_changed":
            event |= {"current": status, "previous": str(ticket["status"]).upper()}
        if kind == "ticket.comment_added":
            event["comment"] = {"id": "1", "body": options.get("text", "Looking."), "is_public": True}
        told = {"type": f"zen:event-type:{kind}", "account_id": ACCOUNT_ID, "id": str(uuid.uuid4())}
        told |= {
            "time": iso(at),
            "zendesk_event_version": "2022-11-06",
            "subject": f"zen:ticket:{ticket['id']}",
        }
        body = orjson.dumps({**told, "detail": detail, "event": event})
        digest = hmac.new((secret or self._secret).encode(), iso(at).encode() + body, hashlib.sha256).digest()
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Zendesk-Account-Id": str(ACCOUNT_ID)}
        headers |= {"X-Zendesk-Webhook-Id": "01GK8E6BKWMJZD2T8Y5AXJQMG5"}
        headers["X-Zendesk-Webhook-Invocation-Id"] = uuid.uuid4().hex
        signature = base64.b64encode(digest).decode()
        proof = {"X-Zendesk-Webhook-Signature-Timestamp": iso(at), "X-Zendesk-Webhook-Signature": signature}
        return Outgoing(body, headers, proof)


def _user(number: int, at: datetime) -> Record:
    email = EMAIL if number == AGENT_ID else f"person{number}@example.com"
    told = {"id": number, "name": f"Person {number}", "email": email, "active": True, "updated_at": iso(at)}
    return told | {"role": "admin" if number == AGENT_ID else "end-user", "time_zone": "UTC"}


def _stamp(row: Record) -> int:
    return int(row.get("generated_timestamp") or datetime.fromisoformat(row["updated_at"]).timestamp())


def _whole(request: Request, name: str, default: int | None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise RefusedError(400, f"Invalid attribute: {name} must be a whole number")
    return int(text)


def _paged(request: Request, kind: str, items: list[Record]) -> Record:
    """Cut a list by `page[size]` and `page[after]`; without a size, by offset, as the old lists are."""
    if "page[size]" not in request.query_params:
        return {kind: items[:100], "count": len(items), "next_page": None, "previous_page": None}
    size = _whole(request, "page[size]", None)
    if not 1 <= size <= 100:
        raise RefusedError(400, "page[size] must be between 1 and 100")
    after = request.query_params.get("page[after]")
    try:
        start = int(base64.b64decode(after, validate=True)) if after else 0
    except ValueError:
        raise RefusedError(400, "page[after] is not valid") from None
    end = start + size
    cursor = base64.b64encode(str(end).encode()).decode()
    meta = {"has_more": end < len(items), "after_cursor": cursor, "before_cursor": None}
    return {kind: items[start:end], "meta": meta, "links": {"next": None, "prev": None}}


def _ticket_of(body: Record) -> Record:
    given = body.get("ticket")
    if not isinstance(given, dict):
        raise RefusedError(400, "Parameter ticket is required")
    return dict(given)


async def _body(request: Request) -> Record:
    try:
        body = orjson.loads(await read_body(request, MAX_BODY))
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(422, "Unprocessable Entity")
    return body
