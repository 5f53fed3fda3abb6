"""The fake Sentry: the routes of its API, tokens, `Link` headers, limits and refusals."""

import hmac
import math
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.sandbox.limits import Window
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.sentry.issues import SLUG, Organization, Record
from trunkline.sandbox.sentry.webhooks import builders
from trunkline.sandbox.service import (
    Build,
    RefusedError,
    Service,
    base_url,
    json_response,
    media_type,
    parse_object,
    read_body,
    relative_path,
)

MAX_BODY = 1024 * 1024
SECOND_LIMIT = 40
_TEXTS = {
    403: "You do not have permission to perform this action.",
    404: "The requested resource does not exist",
    405: "Method not allowed.",
    429: "You are attempting to use this endpoint too frequently. Limit is {limit} requests in 1 seconds",
}
Handler = Callable[[Request], Any]


class Sentry(Service):
    """One organization, a token that may change issues and one that may only read."""

    name = "sentry"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token")
        self._readonly = self.credential("readonly_token")
        self._secret = self.credential("webhook_secret")
        self.reset()

    def reset(self) -> None:
        limit = self._options.request_limits.get(self.name, SECOND_LIMIT)
        self._window = Window(self._clock, limit, 1)
        self.organization = Organization(self._clock, self._options.seed)

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": base_url,
            "organization": SLUG,
            "project": self.organization.projects[0]["slug"],
            "token": self._token,
            "readonly_token": self._readonly,
            "webhook_secret": self._secret,
        }

    def webhooks(self) -> dict[str, Build]:
        return builders(self.organization, self._secret)

    def routes(self) -> list[BaseRoute]:
        org = "/organizations/{organization}"
        read: dict[str, Handler] = {
            "/organizations/": self._organizations,
            f"{org}/": self._organization,
            f"{org}/projects/": self._projects,
            "/projects/": self._projects,
            "/projects/{organization}/{project}/": self._project,
            "/projects/{organization}/{project}/issues/": self._issues,
            f"{org}/issues/": self._issues,
            f"{org}/releases/": self._releases,
        }
        routes = [
            Route(f"/api/0{path}", self._guarded(handler), methods=["GET"]) for path, handler in read.items()
        ]
        for home in ("/api/0/issues/{id}", f"/api/0{org}/issues/{{id}}"):
            routes += [
                Route(f"{home}/", self._guarded(self._get), methods=["GET"]),
                Route(f"{home}/", self._guarded(self._update, writes=True), methods=["PUT"]),
                Route(f"{home}/comments/", self._guarded(self._comments), methods=["GET"]),
                Route(f"{home}/comments/", self._guarded(self._comment, writes=True), methods=["POST"]),
                Route(f"{home}/events/", self._guarded(self._events), methods=["GET"]),
                Route(f"{home}/events/{{event}}/", self._guarded(self._event), methods=["GET"]),
            ]
        return list(routes)

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        text = _TEXTS.get(refused.status, refused.message).format(limit=self._window.limit)
        return json_response(refused.detail or {"detail": text}, refused.status, refused.headers)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        return self._headers(0, seconds)

    def _headers(self, remaining: int, seconds: float) -> dict[str, str]:
        return {
            "X-Sentry-Rate-Limit-Limit": str(self._window.limit),
            "X-Sentry-Rate-Limit-Remaining": str(remaining),
            "X-Sentry-Rate-Limit-Reset": str(math.ceil(self._clock.now().timestamp() + seconds)),
            "X-Sentry-Rate-Limit-ConcurrentLimit": "25",
            "X-Sentry-Rate-Limit-ConcurrentRemaining": "24",
        }

    def _guarded(self, handler: Handler, *, writes: bool = False) -> Handler:
        async def guarded(request: Request) -> Response:
            self._check_token(request, writes=writes)
            place = self._window.take(relative_path(request))
            headers = self._headers(place.remaining, place.reset_after)
            if not place.admitted:
                raise RefusedError(429, headers=headers)
            if request.path_params.get("organization", SLUG) != SLUG:
                raise RefusedError(404)
            answer = await handler(request)
            response = answer if isinstance(answer, Response) else json_response(answer)
            response.headers.update(headers)
            return response

        return guarded

    def _check_token(self, request: Request, *, writes: bool) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise RefusedError(401, "Authentication credentials were not provided.")
        if hmac.compare_digest(given.encode(), self._readonly.encode()):
            if writes:
                raise RefusedError(403)
        elif not hmac.compare_digest(given.encode(), self._token.encode()):
            raise RefusedError(401, "Invalid token")

    async def _organizations(self, request: Request) -> Response:
        return _page(request, [self.organization.document])

    async def _organization(self, request: Request) -> Record:
        del request
        return self.organization.document

    async def _projects(self, request: Request) -> Response:
        query = request.query_params.get("query", "").casefold()
        found = [
            one for one in self.organization.projects if query in f"{one['slug']} {one['name']}".casefold()
        ]
        return _page(request, found)

    async def _project(self, request: Request) -> Record:
        return self.organization.project(request.path_params["project"])

    async def _releases(self, request: Request) -> Response:
        query = request.query_params.get("query", "")
        return _page(request, [one for one in self.organization.releases if query in one["version"]])

    async def _issues(self, request: Request) -> Response:
        params = request.query_params
        found = self.organization.search(params.get("query", "is:unresolved"), params.get("sort", "date"))
        slugs = [*params.getlist("projectSlug"), *params.getlist("project")]
        slugs += [request.path_params["project"]] if "project" in request.path_params else []
        wanted = {self.organization.project(slug)["id"] for slug in slugs if slug not in {"", "-1"}}
        if wanted:
            found = [one for one in found if one["project"]["id"] in wanted]
        response = _page(request, found, word="limit")
        response.headers["X-Hits"] = str(len(found))
        return response

    def _issue(self, request: Request) -> Record:
        return self.organization.issue(request.path_params["id"])

    async def _get(self, request: Request) -> Record:
        last = self.organization.releases[0]
        return {**self._issue(request), "activity": [], "firstRelease": None, "lastRelease": last}

    async def _update(self, request: Request) -> Record:
        issue = self._issue(request)
        self.organization.update(issue, await _body(request))
        return issue

    async def _comments(self, request: Request) -> Response:
        issue = self._issue(request)
        return _page(request, [one for one in self.organization.comments if one["issue"] == issue["id"]])

    async def _comment(self, request: Request) -> Response:
        issue = self._issue(request)
        return json_response(self.organization.comment(issue, (await _body(request)).get("text")), 201)

    async def _events(self, request: Request) -> Response:
        return _page(request, self.organization.events(self._issue(request)))

    async def _event(self, request: Request) -> Record:
        issue, wanted = self._issue(request), request.path_params["event"]
        events = self.organization.events(issue)
        named = {"latest": events[0], "recommended": events[0], "oldest": events[-1]}
        found = named.get(wanted) or next((one for one in events if one["eventID"] == wanted), None)
        if found is None:
            raise RefusedError(404)
        return {**found, "release": None, "contexts": {}, "entries": [], "size": 1_200}


async def _body(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) != "application/json":
        raise RefusedError(415, f'Unsupported media type "{media_type(request)}" in request.')
    no_object = RefusedError(400, "Invalid data. Expected a dictionary.")
    return parse_object(raw, RefusedError(400, "JSON parse error"), no_object)


def _page(request: Request, records: Sequence[Record], word: str = "per_page") -> Response:
    """Return one page with the `Link` header, which always names both neighbours and tells whether they hold anything."""
    size = _size(request.query_params.get(word, "100"), word)
    start = _start(request.query_params.get("cursor"))
    page = records[start : start + size]
    links = [
        _link(request, "previous", max(0, start - size), is_previous=True, results=start > 0),
        _link(request, "next", start + size, is_previous=False, results=start + size < len(records)),
    ]
    return json_response(page, 200, {"Link": ", ".join(links)})


def _size(text: str, word: str) -> int:
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if word == "limit" and size:
        return min(size, 100)
    if not 1 <= size <= 100:
        raise RefusedError(400, f"Invalid {word} value. Must be between 1 and 100.")
    return size


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    parts = cursor.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise RefusedError(400, "Invalid cursor parameter.")
    return int(parts[1])


def _link(request: Request, rel: str, offset: int, *, is_previous: bool, results: bool) -> str:
    cursor = f"0:{offset}:{int(is_previous)}"
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    url = f"{base_url(request)}{relative_path(request)}?{urlencode([*kept, ('cursor', cursor)])}"
    return f'<{url}>; rel="{rel}"; results="{str(results).lower()}"; cursor="{cursor}"'
