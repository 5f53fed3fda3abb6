"""The fake GitHub: the routes of its REST API, tokens, pages by `Link`, limits and refusals."""

import hmac
import math
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.sandbox.github.repos import Account, Record, invalid, iso, shown
from trunkline.sandbox.github.webhooks import builders
from trunkline.sandbox.limits import Window
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Build,
    RefusedError,
    Service,
    accepts,
    base_url,
    json_response,
    parse_object,
    read_body,
    relative_path,
)

MAX_BODY = 1024 * 1024
HOUR = 3_600
HOURLY_LIMIT = 5_000
VERSIONS = ("2022-11-28", "2026-03-10")
DOCS = "https://docs.github.com/rest"
_ACCEPTED = frozenset({"application/json", "application/vnd.github+json", "application/vnd.github.v3+json"})
_NO_AGENT = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
Handler = Callable[[Request], Any]


class GitHub(Service):
    """One user's repositories, behind a token that may write and one that may only read."""

    name = "github"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token", lambda: f"github_pat_{secrets.token_hex(20)}")
        self._readonly = self.credential("readonly_token", lambda: f"github_pat_{secrets.token_hex(20)}")
        self._secret = self.credential("webhook_secret")
        self.reset()

    def reset(self) -> None:
        self._window = Window(self._clock, self._options.request_limits.get(self.name, HOURLY_LIMIT), HOUR)
        self.account = Account(self._clock, self._options.seed)

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": base_url,
            "token": self._token,
            "readonly_token": self._readonly,
            "webhook_secret": self._secret,
            "owner": self.account.user["login"],
            "repo": "shop",
        }

    def webhooks(self) -> dict[str, Build]:
        return builders(self.account, self._secret)

    def routes(self) -> list[BaseRoute]:
        repo = "/repos/{owner}/{repo}"
        issue = f"{repo}/issues/{{number}}"
        wanted: list[tuple[str, str, Handler]] = [
            ("GET", "/user", self._user),
            ("GET", "/user/repos", self._repos),
            ("GET", repo, self._repo),
            ("GET", f"{repo}/issues", self._issues),
            ("POST", f"{repo}/issues", self._create),
            ("GET", issue, self._issue),
            ("PATCH", issue, self._update),
            ("GET", f"{issue}/comments", self._comments),
            ("POST", f"{issue}/comments", self._comment),
            ("GET", f"{repo}/pulls", self._pulls),
            ("GET", f"{repo}/pulls/{{number}}", self._pull),
            ("GET", f"{repo}/commits", self._commits),
            ("GET", f"{repo}/actions/runs", self._runs),
            ("POST", f"{repo}/actions/runs/{{id}}/rerun-failed-jobs", self._rerun),
            ("POST", f"{repo}/dispatches", self._dispatch),
        ]
        return [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in wanted]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        texts = {
            404: "Not Found",
            429: "You have exceeded a secondary rate limit. Please wait a few minutes.",
        }
        body = {"message": texts.get(refused.status, refused.message), "documentation_url": DOCS}
        if refused.detail:
            body["errors"] = refused.detail
        return json_response({**body, "status": str(refused.status)}, refused.status, refused.headers)

    def _headers(self, remaining: int, seconds: float) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self._window.limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Used": str(self._window.limit - remaining),
            "X-RateLimit-Reset": str(math.ceil(self._clock.now().timestamp() + seconds)),
            "X-RateLimit-Resource": "core",
            "X-GitHub-Media-Type": "github.v3; format=json",
        }

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self._check(request)
            place = self._window.take("")
            headers = self._headers(place.remaining, place.reset_after)
            if not place.admitted:
                text = f"API rate limit exceeded for user ID {self.account.user['id']}."
                raise RefusedError(403, text, headers=headers)
            if "repo" in request.path_params:
                self.account.repo(request.path_params["owner"], request.path_params["repo"])
            answer = await handler(request)
            response = answer if isinstance(answer, Response) else json_response(answer)
            response.headers.update(headers)
            return response

        return guarded

    def _check(self, request: Request) -> None:
        if not request.headers.get("user-agent", "").strip():
            raise RefusedError(403, _NO_AGENT)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if not given:
            raise RefusedError(401, "Requires authentication")
        is_reader = hmac.compare_digest(given.encode(), self._readonly.encode())
        is_writer = hmac.compare_digest(given.encode(), self._token.encode())
        if scheme.lower() not in {"bearer", "token"} or not (is_reader or is_writer):
            raise RefusedError(401, "Bad credentials")
        if is_reader and request.method != "GET":
            raise RefusedError(403, "Resource not accessible by personal access token")
        version = request.headers.get("x-github-api-version")
        if version is not None and version not in VERSIONS:
            raise RefusedError(400, f"The API version '{version}' is not supported")
        if not accepts(request, _ACCEPTED):
            raise RefusedError(415, "Unsupported 'Accept' header")

    async def _user(self, request: Request) -> Record:
        del request
        return self.account.user

    async def _repos(self, request: Request) -> Response:
        wanted = request.query_params.get("visibility", "all")
        if wanted not in {"all", "public", "private"}:
            raise invalid("User", "visibility", "invalid")
        repos = [one for one in self.account.repos.values() if wanted in {"all", _visibility(one)}]
        return _page(
            request, _sorted(request, repos, {"created", "updated", "pushed", "full_name"}, "full_name")
        )

    async def _repo(self, request: Request) -> Record:
        return self.account.repos[request.path_params["repo"]]

    async def _issues(self, request: Request) -> Response:
        params = request.query_params
        found = _in_state(request, self.account.issues[request.path_params["repo"]])
        labels = {name for name in params.get("labels", "").split(",") if name}
        found = [one for one in found if labels <= {label["name"] for label in one["labels"]}]
        if assignee := params.get("assignee"):
            found = [one for one in found if _assigned(one, assignee)]
        if since := params.get("since"):
            found = [one for one in found if one["updated_at"] >= _moment(since)]
        found = _sorted(request, found, {"created", "updated", "comments"}, "created")
        return _page(request, [shown(one) for one in found])

    def _one(self, request: Request) -> Record:
        return self.account.issue(request.path_params["repo"], request.path_params["number"])

    async def _issue(self, request: Request) -> Record:
        return shown(self._one(request))

    async def _create(self, request: Request) -> Response:
        made = self.account.create_issue(request.path_params["repo"], await _body(request))
        return json_response(shown(made), 201)

    async def _update(self, request: Request) -> Record:
        number = request.path_params["number"]
        return shown(self.account.update_issue(request.path_params["repo"], number, await _body(request)))

    async def _comments(self, request: Request) -> Response:
        return _page(request, self._one(request)["_comments"])

    async def _comment(self, request: Request) -> Response:
        number = request.path_params["number"]
        made = self.account.comment(request.path_params["repo"], number, await _body(request))
        return json_response(made, 201)

    async def _pulls(self, request: Request) -> Response:
        name = request.path_params["repo"]
        found = [one for one in _in_state(request, self.account.issues[name]) if "pull_request" in one]
        known = {"created", "updated", "popularity", "long-running"}
        pulls = [self.account.pull(name, one) for one in _sorted(request, found, known, "created")]
        base = request.query_params.get("base", "main")
        return _page(request, [pull for pull in pulls if pull["base"]["ref"] == base])

    async def _pull(self, request: Request) -> Record:
        issue = self._one(request)
        if "pull_request" not in issue:
            raise RefusedError(404)
        return self.account.pull(request.path_params["repo"], issue)

    async def _commits(self, request: Request) -> Response:
        params = request.query_params
        since, until = _moment(params.get("since", "1970-01-01")), _moment(params.get("until", "9000-01-01"))
        found = [
            one
            for one in reversed(self.account.commits[request.path_params["repo"]])
            if since <= one["commit"]["author"]["date"] <= until
            and params.get("author", "mona") in {"mona", "mona@example.com"}
        ]
        return _page(request, found)

    async def _runs(self, request: Request) -> Response:
        params = request.query_params
        runs = [
            run
            for run in self.account.runs[request.path_params["repo"]]
            if params.get("branch") in {None, run["head_branch"]}
            and params.get("event") in {None, run["event"]}
            and params.get("status") in {None, run["status"], run["conclusion"]}
        ]
        return _page(request, runs, wrapped="workflow_runs")

    async def _rerun(self, request: Request) -> Response:
        runs = self.account.runs[request.path_params["repo"]]
        run = next((one for one in runs if str(one["id"]) == request.path_params["id"]), None)
        if run is None:
            raise RefusedError(404)
        if run["conclusion"] != "failure":
            raise RefusedError(403, "This workflow run cannot be retried")
        run |= {"status": "queued", "conclusion": None, "run_attempt": run["run_attempt"] + 1}
        return json_response({}, 201)

    async def _dispatch(self, request: Request) -> Response:
        given = await _body(request)
        kind, payload = given.get("event_type"), given.get("client_payload", {})
        if not isinstance(kind, str) or not 0 < len(kind) <= 100:
            raise RefusedError(422, 'Invalid request.\n\n"event_type" wasn\'t supplied.')
        if not isinstance(payload, dict) or len(payload) > 10:
            raise RefusedError(422, "Invalid request.\n\nNo more than 10 properties are allowed.")
        self.account.dispatches.append({"event_type": kind, "client_payload": payload})
        return Response(status_code=204)


def _visibility(repo: Record) -> str:
    return "private" if repo["private"] else "public"


def _assigned(issue: Record, wanted: str) -> bool:
    logins = {one["login"] for one in issue["assignees"]}
    return {"none": not logins, "*": bool(logins)}.get(wanted, wanted in logins)


def _in_state(request: Request, issues: Sequence[Record]) -> list[Record]:
    state = request.query_params.get("state", "open")
    if state not in {"open", "closed", "all"}:
        raise invalid("Issue", "state", "invalid", value=state)
    return [one for one in issues if state in {"all", one["state"]}]


def _sorted(request: Request, records: Sequence[Record], known: set[str], usual: str) -> list[Record]:
    name = request.query_params.get("sort", usual)
    direction = request.query_params.get("direction", "asc" if name == "full_name" else "desc")
    if name not in known or direction not in {"asc", "desc"}:
        raise invalid("Search", "sort", "invalid", value=name)
    field = {"comments": "comments", "full_name": "full_name", "popularity": "comments"}.get(
        name, f"{name.replace('long-running', 'created')}_at"
    )
    return sorted(records, key=lambda one: (one[field], one["id"]), reverse=direction == "desc")


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid("Issue", "since", "invalid", value=text) from error
    return iso(moment.astimezone(UTC) if moment.tzinfo else moment)


async def _body(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    no_object = RefusedError(400, "Body should be a JSON object")
    return parse_object(raw, RefusedError(400, "Problems parsing JSON"), no_object)


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 9 and int(text) else default


def _page(request: Request, records: Sequence[Record], *, wrapped: str | None = None) -> Response:
    """Return one page, of at most 100, with the addresses of those around it in `Link`."""
    size, page = min(100, _whole(request, "per_page", 30)), _whole(request, "page", 1)
    last = max(1, math.ceil(len(records) / size))
    around = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    if page >= last:
        del around["next"], around["last"]
    if page == 1:
        del around["prev"], around["first"]
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]
    home = f"{base_url(request)}{relative_path(request)}"
    links = [
        f'<{home}?{urlencode([*kept, ("page", number)])}>; rel="{rel}"' for rel, number in around.items()
    ]
    found = list(records[(page - 1) * size : page * size])
    body = found if wrapped is None else {"total_count": len(records), wrapped: found}
    return json_response(body, 200, {"Link": ", ".join(links)} if links else None)
