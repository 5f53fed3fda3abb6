"""One hub and one API key: the connection, and what belongs to no noun."""

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp

from trunkline.client.alerts import Deliveries, Events, Routes
from trunkline.client.data import Datasets, Runs, Uploads
from trunkline.client.nouns import ApiKeys, Integrations
from trunkline.client.wire import as_object, decode, encode, error_from, origin_of, reason_of, segment
from trunkline.errors import Broken, Unauthenticated, Unavailable

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 660.0  # a call may retry for ten minutes; see TRUNKLINE_RETRY_BUDGET_SECONDS
_SILENT_SECONDS = 45.0  # a stream says something every 15 seconds


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
        self.url = origin_of(url)
        self._api_key = api_key
        self._workspace_id = workspace_id
        self._total_seconds = total_seconds
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self.integrations = Integrations(self)
        self.api_keys = ApiKeys(self)
        self.events = Events(self)
        self.routes = Routes(self)
        self.deliveries = Deliveries(self)
        self.datasets = Datasets(self)
        self.runs = Runs(self, self.datasets)
        self.uploads = Uploads(self)

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
        return as_object(await self.request("GET", "/v1/auth/me"))

    async def workspace_id(self) -> str:
        """Return the workspace that calls go to: the one given, else the key's own, asked once."""
        if self._workspace_id is None:
            self._workspace_id = str((await self.me())["workspace_id"])
        return self._workspace_id

    async def workspace_path(self, noun: str) -> str:
        """Return the path of a list of the workspace, such as `integrations`."""
        return f"/v1/{segment(await self.workspace_id())}/{noun}"

    async def ready(self) -> bool:
        """Tell whether the hub says it can serve."""
        try:
            await self.request("GET", "/readyz")
        except Unavailable:
            return False
        return True

    async def description(self) -> dict[str, Any]:
        """Return the hub's OpenAPI document; `info.version` is the hub's version."""
        return as_object(await self.request("GET", "/openapi.json"))

    async def connectors(self) -> dict[str, Any]:
        """List the catalogue: `items`, and `problems` of files that were refused."""
        return as_object(await self.request("GET", "/v1/connectors"))

    async def connector(self, connector_id: str) -> dict[str, Any]:
        """Describe one connector: config fields, auth methods, endpoints, streams."""
        return as_object(await self.request("GET", f"/v1/connectors/{segment(connector_id)}"))

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
        found = await self.integrations.id(integration)
        route = await self.integrations.path(found, "endpoints", endpoint, verb)
        return as_object(await self.request("POST", route, body={"params": dict(params or {})}, query=query))

    async def request(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """Send one request and return the decoded answer, or None where it has no body.

        Raises:
            TrunklineError: what the hub's error answer says, as the class it stands for.
        """
        data = None if body is None else encode(body)
        kind = {} if body is None else {"Content-Type": "application/json"}
        with self._reached():
            async with self._open().request(
                method, self.url + path, params=query, data=data, headers=kind, allow_redirects=False
            ) as answer:
                raw, status, headers = await answer.read(), answer.status, answer.headers
        if status < 300:
            return decode(raw, self.url) if raw else None
        raise error_from(status, raw, headers)

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that goes on, and give its bytes as they come.

        Raises:
            TrunklineError: as `request` does; Unavailable also when the hub falls silent.
        """
        limits = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        with self._reached():
            async with self._open().get(
                self.url + path, params=query, headers=headers, timeout=limits, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise error_from(answer.status, await answer.read(), answer.headers)
                yield answer.content.iter_any()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Broken("Use the client with `async with`")
        return self._session

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise Unavailable(f"The hub at {self.url} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"Cannot reach the hub at {self.url}: {reason_of(error)}") from error
