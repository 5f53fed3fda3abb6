"""What every noun of the workspace is to a client: a path, requests below it, a list over all its pages."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol

from trunkline.client.wire import Plain, as_object, query_text, segment
from trunkline.errors import Unavailable


class Hub(Protocol):
    """What the nouns ask of a hub."""

    async def workspace_path(self, noun: str) -> str: ...
    async def request(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Any: ...
    def stream(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class Noun:
    """One list of the workspace, and what is in it."""

    _name: ClassVar[str]
    _page: ClassVar[int] = 100  # the largest `limit` the route takes

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def path(self, *parts: str) -> str:
        """Return the path of the list, or of what is below it."""
        return "/".join([await self._hub.workspace_path(self._name), *map(segment, parts)])

    async def _ask(
        self, method: str, *parts: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a request to the list or to what is below it, and return the object that is answered."""
        return as_object(await self._hub.request(method, await self.path(*parts), body=body, query=query))

    async def _all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through every item of the list."""
        async for item in follow(self._hub, await self.path(), {"limit": self._page, **query}):
            yield item


async def follow(hub: Hub, route: str, query: Mapping[str, Plain]) -> AsyncIterator[dict[str, Any]]:
    """Go through every item of a list, following continuation tokens."""
    token = 0
    seen = {token}
    while True:
        asked = query_text({**query, "continuation_token": token or None})
        page = as_object(await hub.request("GET", route, query=asked))
        for item in page.get("items", []):
            yield as_object(item)
        next_token = page.get("continuation_token")
        if not page.get("has_more") or next_token is None:
            return
        if not isinstance(next_token, int) or next_token in seen:
            raise Unavailable("The hub's continuation token does not advance; are both of one version?")
        token = next_token
        seen.add(token)
