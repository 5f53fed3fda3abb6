"""The fake Linear's door: one GraphQL endpoint, its key, limits, statuses and headers; and the webhooks it sends."""

import hmac
import secrets
from typing import Any

from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.sandbox.limits import Window
from trunkline.sandbox.linear.graph import Graph, RefusedRequestError
from trunkline.sandbox.linear.refused import error_of
from trunkline.sandbox.linear.webhooks import builders
from trunkline.sandbox.linear.workspace import Workspace
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Build,
    RefusedError,
    Service,
    json_response,
    media_type,
    parse_object,
    read_body,
)

MAX_BODY = 1024 * 1024
HOUR = 3_600
HOURLY_LIMIT = 2_500
COMPLEXITY_LIMIT = 3_000_000
_AUTHENTICATION = "Authentication required, not authenticated"
_BEARER = (
    "It looks like you're trying to use an API key as a Bearer token. "
    "Remove the Bearer prefix from the Authorization header."
)


class Linear(Service):
    """One workspace with one personal API key."""

    name = "linear"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._key = self.credential("api_key", lambda: f"lin_api_{secrets.token_hex(20)}")
        self._secret = self.credential("webhook_secret", lambda: f"lin_wh_{secrets.token_hex(16)}")
        self._graph = Graph()
        self.reset()

    def reset(self) -> None:
        limit = self._options.request_limits.get(self.name, HOURLY_LIMIT)
        self._window = Window(self._clock, limit, HOUR)
        self.workspace = Workspace(self._clock, self._options.seed)

    def ready(self, base_url: str) -> dict[str, str]:
        team = self.workspace.all("teams")[0]
        return {
            "url": base_url,
            "api_key": self._key,
            "webhook_secret": self._secret,
            "team_id": team["id"],
        }

    def routes(self) -> list[BaseRoute]:
        return [Route("/graphql", self._run, methods=["POST"])]

    def webhooks(self) -> dict[str, Build]:
        return builders(self.workspace, self._secret)

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        kinds = {401: ("AUTHENTICATION_ERROR", "authentication error"), 429: ("RATELIMITED", "ratelimited")}
        code, kind = kinds.get(refused.status, ("INPUT_ERROR", "invalid input"))
        if refused.status >= 500:
            code, kind = "INTERNAL_SERVER_ERROR", "internal error"
        status = 400 if refused.status == 429 else refused.status  # the real service limits with a 400
        error = error_of(refused.message, code, refused.status, kind, refused.detail)
        return json_response({"errors": [error]}, status, refused.headers)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        return self._headers(0, seconds)

    def _headers(self, remaining: int, seconds: float) -> dict[str, str]:
        reset = int((self._clock.now().timestamp() + seconds) * 1_000)
        return {
            "X-RateLimit-Requests-Limit": str(self._window.limit),
            "X-RateLimit-Requests-Remaining": str(remaining),
            "X-RateLimit-Requests-Reset": str(reset),
            "X-RateLimit-Complexity-Limit": str(COMPLEXITY_LIMIT),
            "X-RateLimit-Complexity-Remaining": str(COMPLEXITY_LIMIT),
            "X-RateLimit-Complexity-Reset": str(reset),
        }

    def _check_key(self, request: Request) -> None:
        given = request.headers.get("authorization", "").strip()
        if given.lower().startswith("bearer lin_api_"):
            raise RefusedError(400, _BEARER, detail=_BEARER)
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            shown = "You need to authenticate to access this operation."
            raise RefusedError(401, _AUTHENTICATION, detail=shown)

    async def _run(self, request: Request) -> Response:
        self._check_key(request)
        place = self._window.take("")
        headers = self._headers(place.remaining, place.reset_after)
        if not place.admitted:
            text = f"Rate limit exceeded. Only {self._window.limit} requests are allowed per 1 hour"
            raise RefusedError(429, text, detail=text, headers=headers)
        body = await _body(request)
        try:
            result, cost = self._graph.run(
                self.workspace, body["query"], body.get("variables"), body.get("operationName")
            )
        except RefusedRequestError as refused:
            errors = [_refused(error, refused.code) for error in refused.errors]
            return json_response({"errors": errors}, 400, headers)
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [error.formatted for error in result.errors]
        return json_response(answer, 200, {**headers, "X-Complexity": str(cost)})


def _refused(error: GraphQLError, code: str) -> dict[str, Any]:
    written = error_of(error.message, code, 400, "graphql error", error.message)
    written["extensions"]["http"] = {"status": 400}
    return {**error.formatted, **written}


async def _body(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) != "application/json":
        raise RefusedError(400, "This operation has been blocked as a potential Cross-Site Request Forgery")
    empty = RefusedError(400, "GraphQL operations must contain a non-empty `query`.")
    body = parse_object(raw, RefusedError(400, "Unexpected token in JSON"), empty)
    if not isinstance(body.get("query"), str) or not body["query"].strip():
        raise empty
    if not isinstance(body.get("variables"), dict | None) or not isinstance(
        body.get("operationName"), str | None
    ):
        raise RefusedError(400, "`variables` in a POST body must be an object if provided.")
    return body
