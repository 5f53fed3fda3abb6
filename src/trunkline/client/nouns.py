"""The nouns of connecting: integrations and API keys."""

from collections.abc import AsyncIterator
from typing import Any

from trunkline.client.pages import Hub, Noun
from trunkline.client.wire import Plain, is_uuid
from trunkline.errors import NotFound


class Integrations(Noun):
    """The integrations of the workspace. Each method takes an id or a name."""

    _name = "integrations"

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._ids: dict[str, str] = {}

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

    def all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through every integration that matches. Query: enabled, protocol, search, sort_by, connector."""
        return self._all(**query)

    async def create(self, **body: Any) -> dict[str, Any]:
        """Create an integration from the fields of the native contract and its connector extension."""
        return await self._ask("POST", body=body)

    async def get(self, integration: str) -> dict[str, Any]:
        return await self._ask("GET", await self.id(integration))

    async def update(self, integration: str, **body: Any) -> dict[str, Any]:
        """Change what is given and leave the rest, secrets too, as it is."""
        return await self._ask("PUT", await self.id(integration), body=body)

    async def delete(self, integration: str) -> None:
        await self._hub.request("DELETE", await self.path(await self.id(integration)))
        self._ids.pop(integration, None)

    async def test_connection(self, integration: str) -> dict[str, Any]:
        """Resolve the credentials and knock on the service's door; the answer's `status` is the verdict."""
        return await self._ask("POST", await self.id(integration), "test-connection")

    async def hook(self, integration: str) -> dict[str, Any]:
        """Show the address that the service posts its webhooks to, and what is missing before they are accepted."""
        return await self._ask("GET", await self.id(integration), "hook")

    async def rotate_hook(self, integration: str) -> dict[str, Any]:
        """Make another address; the one before works for 24 hours more."""
        return await self._ask("POST", await self.id(integration), "hook")

    async def health(self) -> dict[str, Any]:
        """Knock at every enabled integration (the 50 newest) and return how each is."""
        return await self._ask("GET", "health-check")


class ApiKeys(Noun):
    """The workspace's API keys. A key's text is in the answer that makes it, and never again."""

    _name = "api-keys"
    _page = 20

    def all(self, *, mine_only: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Go through every key."""
        return self._all(mine_only=mine_only)

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
        return await self._ask("POST", body=body)

    async def rotate(self, key_id: str, *, duration_days: int | None) -> dict[str, Any]:
        """Give a key a new text; the old one stops working at once."""
        return await self._ask("POST", key_id, "rotate", body={"duration_days": duration_days})

    async def revoke(self, key_id: str) -> None:
        await self._hub.request("DELETE", await self.path(key_id))
