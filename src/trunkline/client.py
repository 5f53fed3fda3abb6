"""A client of a running hub's native API: what the command line and users' own programs import.

It speaks HTTP and nothing else; it knows no table, no service and no connector.
"""

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from uuid import UUID

import aiohttp
import orjson

from trunkline.errors import (
    Broken,
    Conflict,
    FieldError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteFailed,
    TooMany,
    TrunklineError,
    Unauthenticated,
    Unavailable,
)

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 660.0  # a call may retry for ten minutes; see TRUNKLINE_RETRY_BUDGET_SECONDS
_INTEGRATION_PAGE = 100  # the largest `limit` the routes take
_API_KEY_PAGE = 20

_PLAIN: dict[int, type[TrunklineError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    503: Unavailable,
}


class Trunkline:
    """One hub and one API key.

        async with Trunkline("http://127.0.0.1:8700", "tl_…") as hub:
            answer = await hub.call("now", "list_incidents", {"limit": 10})

    Every method raises the errors of `trunkline.errors`; a hub that cannot be reached is `Unavailable`.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        workspace_id: str | None = None,
        total_seconds: float = _TOTAL_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = _origin(url)
        self._api_key = api_key
        self._workspace_id = workspace_id
        self._total_seconds = total_seconds
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.integrations = Integrations(self)
        self.api_keys = ApiKeys(self)

    async def __aenter__(self) -> Self:
        if not self._api_key.isascii() or not self._api_key.isprintable():
            raise Unauthenticated("The API key holds characters that no key has; copy it again")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._api_key}"},
            timeout=aiohttp.ClientTimeout(total=self._total_seconds, sock_connect=_CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(ssl=self._tls or True, limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def me(self) -> dict[str, Any]:
        """Say who the key is: workspace, name, role, permissions, expiry."""
        return _object(await self.request("GET", "/v1/auth/me"))

    async def workspace_id(self) -> str:
        """Return the workspace that calls go to: the one given, else the key's own, asked once."""
        if self._workspace_id is None:
            self._workspace_id = str((await self.me())["workspace_id"])
        return self._workspace_id

    async def ready(self) -> bool:
        """Tell whether the hub says it can serve."""
        try:
            await self.request("GET", "/readyz")
        except Unavailable:
            return False
        return True

    async def description(self) -> dict[str, Any]:
        """Return the hub's OpenAPI document; `info.version` is the hub's version."""
        return _object(await self.request("GET", "/openapi.json"))

    async def connectors(self) -> dict[str, Any]:
        """List the catalogue: `items`, and `problems` of files that were refused."""
        return _object(await self.request("GET", "/v1/connectors"))

    async def connector(self, connector_id: str) -> dict[str, Any]:
        """Describe one connector: config fields, auth methods, endpoints, streams."""
        return _object(await self.request("GET", f"/v1/connectors/{_segment(connector_id)}"))

    async def call(
        self,
        integration: str,
        endpoint: str,
        params: Mapping[str, Any] | None = None,
        *,
        trace: bool = False,
    ) -> dict[str, Any]:
        """Call an endpoint for real; `integration` is an id or a name.

        Raises:
            RemoteFailed: the service on the other side failed; with `trace` it carries `.trace`.
        """
        return await self._run(integration, endpoint, "call", params, {"trace": "true"} if trace else {})

    async def test(
        self, integration: str, endpoint: str, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Call an endpoint for real and return every stage; an upstream failure is the answer's `error`."""
        return await self._run(integration, endpoint, "test", params, {})

    async def _run(
        self,
        integration: str,
        endpoint: str,
        verb: str,
        params: Mapping[str, Any] | None,
        query: dict[str, str],
    ) -> dict[str, Any]:
        path = await self.integrations.path(integration)
        route = f"{path}/endpoints/{_segment(endpoint)}/{verb}"
        return _object(await self.request("POST", route, body={"params": dict(params or {})}, query=query))

    async def request(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """Send one request and return the decoded answer, or None where it has no body.

        Raises:
            TrunklineError: what the hub's error answer says, as the class it stands for.
        """
        if self._session is None:
            raise Broken("Use the client with `async with`")
        data = None if body is None else _encode(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self.url + path, params=query, data=data, headers=kind, allow_redirects=False
            ) as answer:
                raw, status, headers = await answer.read(), answer.status, answer.headers
        except TimeoutError as error:
            raise Unavailable(f"The hub at {self.url} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"Cannot reach the hub at {self.url}: {_reason(error)}") from error
        if status < 300:
            return _decode(raw, self.url) if raw else None
        raise error_from(status, raw, headers)


class Integrations:
    """The integrations of the workspace. Each method takes an id or a name."""

    def __init__(self, hub: Trunkline) -> None:
        self._hub = hub
        self._ids: dict[str, str] = {}

    async def root(self) -> str:
        return f"/v1/{_segment(await self._hub.workspace_id())}/integrations"

    async def path(self, integration: str) -> str:
        """Return the path of one integration, looking its name up once.

        Raises:
            NotFound: no integration has that name.
        """
        if integration not in self._ids:
            self._ids[integration] = await self._find(integration)
        return f"{await self.root()}/{self._ids[integration]}"

    async def _find(self, integration: str) -> str:
        if _is_uuid(integration):
            return integration
        if 0 < len(integration) <= 200:
            async for item in self.all(search=integration):
                if item["name"] == integration:
                    return str(item["id"])
        raise NotFound(f"No integration is named {integration!r}")

    async def page(self, **query: str | int | bool | None) -> dict[str, Any]:
        """Fetch one page. Query: enabled, protocol, search, sort_by, limit (≤ 100), continuation_token."""
        return _object(await self._hub.request("GET", await self.root(), query=_query(query)))

    async def all(self, **query: str | int | bool | None) -> AsyncIterator[dict[str, Any]]:
        """Go through every integration that matches, following continuation tokens."""
        async for item in _follow(self._hub, await self.root(), {"limit": _INTEGRATION_PAGE} | query):
            yield item

    async def create(self, **body: Any) -> dict[str, Any]:
        """Create an integration from the fields of the native contract and its connector extension."""
        return _object(await self._hub.request("POST", await self.root(), body=body))

    async def get(self, integration: str) -> dict[str, Any]:
        return _object(await self._hub.request("GET", await self.path(integration)))

    async def update(self, integration: str, **body: Any) -> dict[str, Any]:
        """Change what is given and leave the rest, secrets too, as it is."""
        return _object(await self._hub.request("PUT", await self.path(integration), body=body))

    async def delete(self, integration: str) -> None:
        await self._hub.request("DELETE", await self.path(integration))
        self._ids.pop(integration, None)

    async def test_connection(self, integration: str) -> dict[str, Any]:
        """Resolve the credentials and knock on the service's door; the answer's `status` is the verdict."""
        return _object(await self._hub.request("POST", f"{await self.path(integration)}/test-connection"))

    async def health(self) -> dict[str, Any]:
        """Knock at every enabled integration (the 50 newest) and return how each is."""
        return _object(await self._hub.request("GET", f"{await self.root()}/health-check"))


class ApiKeys:
    """The workspace's API keys. A key's text is in the answer that makes it, and never again."""

    def __init__(self, hub: Trunkline) -> None:
        self._hub = hub

    async def root(self) -> str:
        return f"/v1/{_segment(await self._hub.workspace_id())}/api-keys"

    async def all(self, *, mine_only: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Go through every key, following continuation tokens."""
        query = {"limit": _API_KEY_PAGE, "mine_only": mine_only}
        async for item in _follow(self._hub, await self.root(), query):
            yield item

    async def create(
        self,
        *,
        duration_days: int | None,
        name: str | None = None,
        role: str = "member",
        permissions: list[str] | None = None,
    ) -> dict[str, Any]:
        """Make a key for 1 to 90 days, or without expiry when `duration_days` is None."""
        body = {"name": name, "role": role, "duration_days": duration_days, "permissions": permissions or []}
        return _object(await self._hub.request("POST", await self.root(), body=body))

    async def rotate(self, key_id: str, *, duration_days: int | None) -> dict[str, Any]:
        """Give a key a new text; the old one stops working at once."""
        route = f"{await self.root()}/{_segment(key_id)}/rotate"
        return _object(await self._hub.request("POST", route, body={"duration_days": duration_days}))

    async def revoke(self, key_id: str) -> None:
        await self._hub.request("DELETE", f"{await self.root()}/{_segment(key_id)}")


def error_from(status: int, raw: bytes, headers: Mapping[str, str]) -> TrunklineError:
    """Translate a native error answer into the error it stands for. Pure."""
    body = _lenient(raw)
    detail = body.get("detail")
    text = detail if isinstance(detail, str) else None
    if status == 422:
        return Invalid(text, _field_errors(detail))
    if status == 429:
        return TooMany(text, _seconds(headers.get("Retry-After")))
    if status == 502 and body.get("error_code") == RemoteFailed.code:
        return _remote_failed(text, body)
    if status in _PLAIN:
        return _PLAIN[status](text)
    if status >= 500:
        return Unavailable(_with_request(text or f"The hub answered HTTP {status}", body))
    if status < 400:
        return Unavailable(f"The hub answered with a redirect (HTTP {status}); is its address right?")
    return Invalid(text or f"The hub refused the request: HTTP {status}")


def _remote_failed(text: str | None, body: Mapping[str, Any]) -> RemoteFailed:
    status, retries, trace = body.get("status"), body.get("retries"), body.get("trace")
    return RemoteFailed(
        _with_request(text or "The remote service failed", body),
        service=str(body.get("service") or "") or None,
        status=status if isinstance(status, int) else None,
        retryable=body.get("retryable") is True,
        retries=retries if isinstance(retries, int) else 0,
        trace=trace if isinstance(trace, dict) else None,
    )


def _with_request(text: str, body: Mapping[str, Any]) -> str:
    request_id = body.get("request_id")
    return f"{text} (request {request_id})" if isinstance(request_id, str) else text


def _field_errors(detail: Any) -> list[FieldError]:
    if not isinstance(detail, list):
        return []
    return [
        FieldError(
            tuple(item.get("loc") or ()), str(item.get("msg", "")), str(item.get("type", "value_error"))
        )
        for item in detail
        if isinstance(item, dict)
    ]


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 1))
    except ValueError:
        return 1.0


async def _follow(
    hub: Trunkline, route: str, query: Mapping[str, str | int | bool | None]
) -> AsyncIterator[dict[str, Any]]:
    token = 0
    while True:
        page = _object(
            await hub.request("GET", route, query=_query({**query, "continuation_token": token or None}))
        )
        for item in page.get("items", []):
            yield _object(item)
        following = page.get("continuation_token")
        if not page.get("has_more") or following is None:
            return
        if not isinstance(following, int) or following <= token:
            raise Unavailable("The hub's continuation token does not advance; are both of one version?")
        token = following


def _query(values: Mapping[str, str | int | bool | None]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # parsed, and refused, only when asked for
    except ValueError as error:
        raise Invalid.field(("url",), f"{url!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Invalid.field(("url",), f"{url!r} is no http(s) address, such as http://127.0.0.1:8700")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid.field(("url",), "give only scheme, host, port and path prefix")
    return url.strip().rstrip("/")


def _segment(text: str) -> str:
    if text in {"", ".", ".."}:
        raise NotFound(f"{text!r} names nothing")
    return quote(_utf8(text), safe="")


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{text!r} is not valid UTF-8") from error
    return text


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _encode(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson's own error is one; so are surrogates and numbers over 64 bits
        raise Invalid(f"Not a JSON value: {error}") from error


def _decode(raw: bytes, url: str) -> Any:
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise Unavailable(f"What answers at {url} does not speak JSON; is it a Trunkline hub?") from error


def _lenient(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unavailable("The answer is not what a Trunkline hub sends; is the address right?")
    return value


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    return os.strerror(number) if number and number > 0 else str(inner) or type(inner).__name__
