"""The nouns of calling services: integrations with their hooks, and API keys."""

from collections.abc import AsyncIterator
from typing import Any

from trunkline.client.pages import Hub, follow
from trunkline.client.wire import Plain, as_object, is_uuid, query_text, segment
from trunkline.errors import NotFound

_INTEGRATION_PAGE = 100  # the largest `limit` the routes take
_API_KEY_PAGE = 20


class Integrations:
    """The integrations of the workspace. Each method takes an id or a name."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ids: dict[str, str] = {}

    async def root(self) -> str:
        return await self._hub.workspace_path("integrations")

    async def path(self, integration: str) -> str:
        """Return the path of one integration, looking its name up once.

        Raises:
            NotFound: no integration has that name.
        """
        return f"{await self.root()}/{await self.id(integration)}"

    async def id(self, integration: str) -> str:
        """Return the id of an integration, looking its name up once.

        Raises:
            NotFound: no integration has that name.
        """
        if integration not in self._ids:
            self._ids[integration] = await self._find(integration)
        return self._ids[integration]

    async def _find(self, integration: str) -> str:
        if is_uuid(integration):
            return integration
        if 0 < len(integration) <= 200:
            async for item in self.all(search=integration):
                if item["name"] == integration:
                    return str(item["id"])
        raise NotFound(f"No integration is named {integration!r}")

    async def page(self, **query: Plain) -> dict[str, Any]:
        """Fetch one page. Query: enabled, protocol, search, sort_by, limit (≤ 100), continuation_token."""
        return as_object(await self._hub.request("GET", await self.root(), query=query_text(query)))

    async def all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through every integration that matches, following continuation tokens."""
        async for item in follow(self._hub, await self.root(), {"limit": _INTEGRATION_PAGE} | query):
            yield item

    async def create(self, **body: Any) -> dict[str, Any]:
        """Create an integration from the fields of the native contract and its connector extension."""
        return as_object(await self._hub.request("POST", await self.root(), body=body))

    async def get(self, integration: str) -> dict[str, Any]:
        return as_object(await self._hub.request("GET", await self.path(integration)))

    async def update(self, integration: str, **body: Any) -> dict[str, Any]:
        """Change what is given and leave the rest, secrets too, as it is."""
        return as_object(await self._hub.request("PUT", await self.path(integration), body=body))

    async def delete(self, integration: str) -> None:
        await self._hub.request("DELETE", await self.path(integration))
        self._ids.pop(integration, None)

    async def test_connection(self, integration: str) -> dict[str, Any]:
        """Resolve the credentials and knock on the service's door; the answer's `status` is the verdict."""
        return as_object(await self._hub.request("POST", f"{await self.path(integration)}/test-connection"))

    async def hook(self, integration: str) -> dict[str, Any]:
        """Show the address that the service posts its webhooks to, and what is missing before they are accepted."""
        return as_object(await self._hub.request("GET", f"{await self.path(integration)}/hook"))

    async def rotate_hook(self, integration: str) -> dict[str, Any]:
        """Make another address; the one before works for 24 hours more."""
        return as_object(await self._hub.request("POST", f"{await self.path(integration)}/hook"))

    async def health(self) -> dict[str, Any]:
        """Knock at every enabled integration (the 50 newest) and return how each is."""
        return as_object(await self._hub.request("GET", f"{await self.root()}/health-check"))


class ApiKeys:
    """The workspace's API keys. A key's text is in the answer that makes it, and never again."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def root(self) -> str:
        return await self._hub.workspace_path("api-keys")

    async def all(self, *, mine_only: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Go through every key, following continuation tokens."""
        query = {"limit": _API_KEY_PAGE, "mine_only": mine_only}
        async for item in follow(self._hub, await self.root(), query):
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
        return as_object(await self._hub.request("POST", await self.root(), body=body))

    async def rotate(self, key_id: str, *, duration_days: int | None) -> dict[str, Any]:
        """Give a key a new text; the old one stops working at once."""
        route = f"{await self.root()}/{segment(key_id)}/rotate"
        return as_object(await self._hub.request("POST", route, body={"duration_days": duration_days}))

    async def revoke(self, key_id: str) -> None:
        await self._hub.request("DELETE", f"{await self.root()}/{segment(key_id)}")
