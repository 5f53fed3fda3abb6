"""Lists over all their pages, and what the nouns need of a hub."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from trunkline.client.wire import Plain, as_object, query_text
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


async def follow(hub: Hub, route: str, query: Mapping[str, Plain]) -> AsyncIterator[dict[str, Any]]:
    """Go through every item of a list, following continuation tokens."""
    token = 0
    seen = {token}
    while True:
        page = as_object(
            await hub.request("GET", route, query=query_text({**query, "continuation_token": token or None}))
        )
        for item in page.get("items", []):
            yield as_object(item)
        following = page.get("continuation_token")
        if not page.get("has_more") or following is None:
            return
        if not isinstance(following, int) or following in seen:
            raise Unavailable("The hub's continuation token does not advance; are both of one version?")
        token = following
        seen.add(token)
