"""The fake Jira Cloud: issues by JQL with page tokens, comments, work logs, transitions, and signed webhooks.

Of JQL it knows conditions joined by AND, and one field to order by; anything else is refused aloud.
"""

import base64
import hashlib
import hmac
import math
import random
import re
import secrets
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
MINUTE_LIMIT = 1_000
EMAIL = "bridge@example.com"
STATUSES = {"To Do": "new", "In Progress": "indeterminate", "Done": "done"}
PROJECTS = {"SUP": "Support", "OPS": "Operations"}
_TITLES = ("Mail is slow", "Disk full on db-3", "Cannot log in", "Printer on fire", "Checkout fails")
_PRIORITIES = ("Highest", "High", "Medium", "Low", "Lowest")
_SEARCH_WORDS = {
    *("jql", "fields", "maxResults", "nextPageToken", "expand", "properties", "fieldsByKeys"),
    "reconcileIssues",
}
_CONDITION = re.compile(r"(\w+)\s*(>=|<=|!=|=|>|<|is not|in)\s*(.+)", re.IGNORECASE)
_UNBOUNDED = (
    "Unbounded JQL queries are not allowed here. Please add a search restriction to your query and try again."
)
Record = dict[str, Any]
Handler = Callable[[Request, Any], Any]


def iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"


def _bad(text: str, status: int = 400, **errors: str) -> RefusedError:
    return RefusedError(status, text, detail=errors)


class Jira(Service):
    """One site with two projects and one account."""

    name = "jira"

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._clock = options.clock
        self._token = options.credential(self.name, "token", lambda: f"ATATT3x{secrets.token_hex(20)}")
        self._secret = options.credential(self.name, "webhook_secret")
        self.reset()

    def reset(self) -> None:
        limit = self._options.request_limits.get(self.name, MINUTE_LIMIT)
        self._window = Window(self._clock, limit, 60)
        self._user = {"accountId": "5b10a2844c20165700ede21g", "accountType": "atlassian", "active": True}
        self._user |= {"displayName": "Bridge", "emailAddress": EMAIL, "timeZone": "Etc/UTC"}
        self.issues: dict[str, Record] = {}
        self._comments: dict[str, list[Record]] = {}
        self._worklogs: dict[str, list[Record]] = {}
        dice = random.Random(self._options.seed)
        for number in range(SEEDED):
            at = self._clock.now() - timedelta(minutes=10 * (SEEDED - number))
            project, priority = dice.choice(list(PROJECTS)), dice.choice(_PRIORITIES)
            made = self._insert(project, "Bug", dice.choice(_TITLES), at, priority={"name": priority})
            self._comment(made["id"], "Looking.", at) if number % 5 == 0 else None

    def ready(self, base_url: str) -> dict[str, str]:
        return {"url": base_url, "email": EMAIL, "token": self._token, "webhook_secret": self._secret}

    def credentials(self) -> list[str]:
        return [self._token, self._secret]

    def routes(self) -> list[BaseRoute]:
        issue = "/rest/api/3/issue/{issue}"
        wanted: list[tuple[str, str, Handler]] = [
            ("GET", "/rest/api/3/myself", lambda _request, _body: self._user),
            ("POST", "/rest/api/3/search/jql", self._search),
            ("GET", "/rest/api/3/project/search", self._projects),
            ("GET", "/rest/api/3/users/search", lambda request, _body: _slice(request, [self._user])[0]),
            ("POST", "/rest/api/3/issue", self._create),
            ("GET", issue, lambda request, _body: self._find(request)),
            ("PUT", issue, self._update),
            ("GET", f"{issue}/transitions", self._transitions),
            ("POST", f"{issue}/transitions", self._transition),
            ("GET", f"{issue}/comment", partial(self._list, "comments")),
            ("POST", f"{issue}/comment", self._add_comment),
            ("GET", f"{issue}/worklog", partial(self._list, "worklogs")),
        ]
        return [Route(path, self._guarded(run), methods=[method]) for method, path, run in wanted]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        body = {"errorMessages": [] if refused.detail else [refused.message], "errors": refused.detail or {}}
        return json_response(body, refused.status, refused.headers)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        reset = (self._clock.now() + timedelta(seconds=seconds)).astimezone(UTC)
        return {"Retry-After": str(seconds), "X-RateLimit-Reset": reset.strftime("%Y-%m-%dT%H:%MZ")}

    def webhooks(self) -> dict[str, Build]:
        kinds = ("issue_created", "issue_updated", "issue_deleted", "comment_created")
        return {kind: partial(self._send, kind) for kind in kinds}

    def _guarded(self, handler: Handler) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            pair = base64.b64encode(f"{EMAIL}:{self._token}".encode()).decode()
            if not hmac.compare_digest(
                request.headers.get("authorization", "").encode(), f"Basic {pair}".encode()
            ):
                raise RefusedError(401, "Client must be authenticated to access this resource.")
            place = self._window.take("")
            if not place.admitted:
                raise RefusedError(
                    429, "Rate limit exceeded.", headers=self.rate_limit_headers(math.ceil(place.reset_after))
                )
            answer = handler(request, await _body(request) if request.method in {"POST", "PUT"} else None)
            status = 204 if answer is None else 201 if request.method == "POST" and "self" in answer else 200
            headers = {
                "X-RateLimit-Limit": str(self._window.limit),
                "X-RateLimit-Remaining": str(place.remaining),
            }
            return (
                Response(status_code=204, headers=headers)
                if answer is None
                else json_response(answer, status, headers)
            )

        return guarded

    def _insert(self, project: str, kind: str, summary: str, at: datetime, **fields: Any) -> Record:
        number = len(self.issues) + 1
        key = f"{project}-{number}"
        told: Record = {"summary": summary, "description": None, "issuetype": {"name": kind}, "labels": []}
        told |= {"project": {"key": project, "name": PROJECTS[project]}, "priority": {"name": "Medium"}}
        told |= {"status": _status("To Do"), "assignee": None, "reporter": self._user, "resolution": None}
        told |= {"created": iso(at), "updated": iso(at), **fields}
        self.issues[str(10_000 + number)] = {"id": str(10_000 + number), "key": key, "fields": told}
        return self.issues[str(10_000 + number)]

    def _find(self, request: Request) -> Record:
        wanted = request.path_params["issue"]
        for issue in [self.issues[wanted]] if wanted in self.issues else self.issues.values():
            if wanted in {issue["id"], issue["key"]}:
                return issue
        raise _bad("Issue does not exist or you do not have permission to see it.", 404)

    def touch(self, issue_id: str, **fields: Any) -> Record:
        """Change an issue as somebody on the site would."""
        self.issues[issue_id]["fields"].update(fields, updated=iso(self._clock.now()))
        return self.issues[issue_id]

    def _search(self, request: Request, body: Record) -> Record:
        size, names = body.get("maxResults", 50), body.get("fields", ["id"])
        is_odd = (
            set(body) - _SEARCH_WORDS or not isinstance(names, list) or not isinstance(body.get("jql"), str)
        )
        if is_odd or isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= 5_000:
            raise _bad("Invalid request payload. Refer to the REST API documentation and try again.")
        found = _select(list(self.issues.values()), body["jql"])
        start = _place_of(body.get("nextPageToken"), body["jql"])
        end = start + min(size, 5_000 if names == ["id"] else 100)
        shown = [_shown(issue, names, base_url(request)) for issue in found[start:end]]
        more = {"nextPageToken": _token_of(end, body["jql"])} if end < len(found) else {}
        return {"issues": shown, "isLast": end >= len(found), **more}

    def _projects(self, request: Request, _body: Any) -> Record:
        all_of = [{"id": str(10_000 + number), "key": key, "name": name, "projectTypeKey": "software"}
                  for number, (key, name) in enumerate(PROJECTS.items())]  # fmt: skip
        wanted = request.query_params.get("query", "").lower()
        page, told = _slice(
            request, [one for one in all_of if wanted in f"{one['key']} {one['name']}".lower()]
        )
        return {**told, "isLast": told["startAt"] + len(page) >= told["total"], "values": page}

    def _list(self, kind: str, request: Request, _body: Any) -> Record:
        kept = self._comments if kind == "comments" else self._worklogs
        page, told = _slice(request, kept.get(self._find(request)["id"], []))
        return {**told, kind: page}

    def _create(self, request: Request, body: Record) -> Record:
        fields = body.get("fields") or {}
        project, kind = (fields.get(name) or {} for name in ("project", "issuetype"))
        if project.get("key") not in PROJECTS:
            raise _bad("", project="valid project is required")
        if not kind.get("name"):
            raise _bad("", issuetype="Specify an issue type")
        if not isinstance(fields.get("summary"), str) or not 0 < len(fields["summary"]) <= 255:
            raise _bad("", summary="You must specify a summary of the issue.")
        _check_text(fields)
        more = {
            name: value for name, value in fields.items() if name not in {"project", "issuetype", "summary"}
        }
        made = self._insert(project["key"], kind["name"], fields["summary"], self._clock.now(), **more)
        return {
            "id": made["id"],
            "key": made["key"],
            "self": f"{base_url(request)}/rest/api/3/issue/{made['id']}",
        }

    def _update(self, request: Request, body: Record) -> None:
        fields = body.get("fields") or {}
        _check_text(fields)
        self.touch(self._find(request)["id"], **fields)

    def _transitions(self, request: Request, _body: Any) -> Record:
        now = self._find(request)["fields"]["status"]["name"]
        names = enumerate(STATUSES, 1)
        there = [
            {"id": f"{number}1", "name": name, "to": _status(name)} for number, name in names if name != now
        ]
        return {"expand": "transitions", "transitions": there}

    def _transition(self, request: Request, body: Record) -> None:
        wanted = (body.get("transition") or {}).get("id")
        for one in self._transitions(request, None)["transitions"]:
            if one["id"] == wanted:
                self.touch(self._find(request)["id"], status=one["to"], **(body.get("fields") or {}))
                return
        raise _bad(
            f"It seems that you have tried to perform a workflow operation ({wanted}) that is not valid."
        )

    def _comment(self, issue_id: str, text: str | Record, at: datetime) -> Record:
        kept = self._comments.setdefault(issue_id, [])
        number = str(int(issue_id) * 100 + len(kept))
        kept.append(
            {"id": number, "author": self._user, "body": text, "created": iso(at), "updated": iso(at)}
        )
        return kept[-1]

    def _add_comment(self, request: Request, body: Record) -> Record:
        if not isinstance(body.get("body"), dict) or body["body"].get("type") != "doc":
            raise _bad("", comment="Comment body is not valid!")
        issue = self.touch(self._find(request)["id"])
        made = self._comment(issue["id"], body["body"], self._clock.now())
        return made | {"self": f"{base_url(request)}/rest/api/3/issue/{issue['id']}/comment/{made['id']}"}

    def _send(self, kind: str, options: Record, at: datetime, secret: str | None) -> Outgoing:
        """Make a webhook; options: `issue` (key or id, else the newest), `status`, `priority`, `text`."""
        wanted = options.get("issue", list(self.issues)[-1])
        issue = next((one for one in self.issues.values() if wanted in {one["id"], one["key"]}), None)
        if issue is None or options.get("status", "To Do") not in STATUSES:
            raise Invalid.field(("issue" if issue is None else "status",), "is not there")
        fields = {
            **issue["fields"],
            "status": _status(options.get("status", issue["fields"]["status"]["name"])),
        }
        fields |= {"priority": {"name": options["priority"]}} if "priority" in options else {}
        event = kind if kind.startswith("comment") else f"jira:{kind}"
        told: Record = {"timestamp": int(at.timestamp() * 1_000), "webhookEvent": event, "user": self._user}
        told["issue"] = {**issue, "fields": fields}
        if kind == "issue_updated":
            told["issue_event_type_name"] = "issue_generic" if "status" in options else "issue_updated"
        if kind.startswith("comment"):
            told["comment"] = {"id": "1", "author": self._user, "body": options.get("text", "Looking.")}
        body = orjson.dumps(told)
        digest = hmac.new((secret or self._secret).encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Atlassian-Webhook-Flow": "Primary"}
        headers["X-Atlassian-Webhook-Identifier"] = str(uuid.uuid4())
        return Outgoing(body, headers, {"X-Hub-Signature": f"sha256={digest}"})


def _status(name: str) -> Record:
    return {"name": name, "statusCategory": {"key": STATUSES[name]}}


def _check_text(fields: Record) -> None:
    text = fields.get("description")
    if text is not None and not (isinstance(text, dict) and text.get("type") == "doc"):
        raise _bad(
            "",
            description="Operation value must be an Atlassian Document (see the Atlassian Document Format)",
        )


def _shown(issue: Record, names: list[str], root: str) -> Record:
    wanted = issue["fields"] if {"*all", "*navigable"} & set(names) else None
    fields = {name: value for name, value in issue["fields"].items() if wanted is not None or name in names}
    plain = {"id": issue["id"], "key": issue["key"], "self": f"{root}/rest/api/3/issue/{issue['id']}"}
    return {"id": issue["id"]} if names == ["id"] else {**plain, "fields": fields}


def _token_of(place: int, jql: str) -> str:
    return base64.urlsafe_b64encode(
        f"{place}:{hashlib.sha256(jql.encode()).hexdigest()[:16]}".encode()
    ).decode()


def _place_of(token: Any, jql: str) -> int:
    if token is None:
        return 0
    try:
        place = int(base64.urlsafe_b64decode(str(token)).partition(b":")[0])
    except ValueError:
        place = -1
    if place < 0 or _token_of(place, jql) != token:
        raise _bad("The provided next page token is invalid or expired.")
    return place


def _select(issues: list[Record], jql: str) -> list[Record]:
    where, _, order = (
        re.split(r"(\border\s+by\b)", jql, maxsplit=1, flags=re.IGNORECASE)
        if re.search(r"\border\s+by\b", jql, re.IGNORECASE)
        else (jql, "", "")
    )
    if not where.strip():
        raise _bad(_UNBOUNDED)
    for part in re.split(r"\s+and\s+", where.strip(), flags=re.IGNORECASE):
        inner = re.fullmatch(r"\((.*)\)", part.strip())
        found = _CONDITION.fullmatch((inner[1] if inner else part).strip())
        if found is None:
            raise _bad(f"Error in the JQL Query: the sandbox does not understand '{part[:100]}'.")
        issues = [issue for issue in issues if _holds(issue, found[1], found[2].lower(), found[3])]
    name, _, way = order.strip().partition(" ")
    if name.lower() not in {"", "updated", "created", "key", "id"}:
        raise _bad(f"Field '{name}' does not exist or you do not have permission to view it.")
    issues = sorted(issues, key=lambda issue: (issue["fields"].get(name.lower(), ""), int(issue["id"])))
    return issues[::-1] if way.strip().lower() == "desc" else issues


def _holds(issue: Record, field: str, operator: str, text: str) -> bool:
    fields = issue["fields"]
    if field.lower() in {"updated", "created"}:
        at, than = datetime.fromisoformat(fields[field.lower()]), _time(text)
        return {">=": at >= than, "<=": at <= than, ">": at > than, "<": at < than}.get(operator, at == than)
    named = {"project": fields["project"]["key"], "status": fields["status"]["name"], "key": issue["key"]}
    named["statuscategory"] = fields["status"]["statusCategory"]["key"]
    if field.lower() not in named:
        raise _bad(f"Field '{field}' does not exist or you do not have permission to view it.")
    values = [one.strip().strip("\"'").lower() for one in text.strip("()").split(",")]
    is_one = named[field.lower()].lower() in values
    return operator == "is not" or (is_one if operator in {"=", "in"} else not is_one)


def _time(text: str) -> datetime:
    """Read a date as JQL has it: milliseconds since 1970, or a time to the minute."""
    plain = text.strip().strip("\"'")
    try:
        if plain.isdecimal():
            return datetime.fromtimestamp(int(plain) / 1_000, UTC)
        return datetime.strptime(plain.replace("/", "-"), "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        formats = "'yyyy/MM/dd HH:mm', 'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', 'yyyy-MM-dd', or a period format"
        raise _bad(f"Date value '{plain[:50]}' is invalid. Valid formats include: {formats}") from None


def _slice(request: Request, items: list[Record]) -> tuple[list[Record], Record]:
    try:
        start = int(request.query_params.get("startAt", 0))
        size = int(request.query_params.get("maxResults", 50))
    except ValueError:
        raise _bad("startAt and maxResults must be whole numbers.", 404) from None
    page = items[max(start, 0) : max(start, 0) + max(size, 0)]
    return page, {"startAt": start, "maxResults": size, "total": len(items)}


async def _body(request: Request) -> Record:
    try:
        body = orjson.loads(await read_body(request, MAX_BODY))
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise _bad("There was an error parsing JSON. Check that your request body is valid.")
    return body
