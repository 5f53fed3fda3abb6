"""The nouns of alerts: events and their stream, routes, deliveries."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from trunkline.client.following import Tell, follow_stream
from trunkline.client.pages import Noun
from trunkline.client.wire import Plain, as_object, decode, is_uuid
from trunkline.errors import Invalid, NotFound


class Events(Noun):
    """The event log of the workspace; events are CloudEvents, as objects."""

    _name = "events"

    def all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through the events, newest first. Query: type (a pattern), integration_id, project, severity, subject, dedup_key, since, until, errors."""
        return self._all(**query)

    async def get(self, event_id: str) -> dict[str, Any]:
        return await self._ask("GET", event_id)

    async def replay(self, event_id: str) -> dict[str, Any]:
        """Read the event's request again by today's rules, and return the new event."""
        return await self._ask("POST", event_id, "replay")

    async def follow(
        self, *, after: int | None = None, type: str | None = None, tell: Tell = lambda _: None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield events as they come, without end; a connection that breaks is made again, and nothing is missed.

        Args:
            after: begin after this number; without it, with what comes from now on.
            type: only types that fit this pattern.
            tell: is told of broken connections, and of events that were gone before they could be read.

        Raises:
            Unavailable: the hub cannot be reached at the beginning; later on it is tried again.
        """
        newest = await self._newest()
        place = str(newest if after is None else after)
        route = f"{await self._hub.workspace_path('events')}/stream"
        async with aclosing(follow_stream(self._hub, route, {"type": type}, place, tell)) as messages:
            async for message in messages:
                if message.id is not None:
                    yield as_object(decode(message.data.encode(), "the address"))
                elif message.type == "gap":
                    tell(f"Events are missing, for they are not kept any more: {message.data}")

    async def _newest(self) -> int:
        page = await self._ask("GET", query={"limit": "1"})
        return int(page["items"][0]["sequence"]) if page.get("items") else 0


class Routes(Noun):
    """The routes of the workspace. Each method takes an id, or a name that only one route has."""

    _name = "routes"

    def all(self, *, enabled: bool | None = None) -> AsyncIterator[dict[str, Any]]:
        """Go through every route, newest first."""
        return self._all(enabled=enabled)

    async def find(self, route: str) -> str:
        """Return the id of a route.

        Raises:
            NotFound: no route has that name.
            Invalid: several have it.
        """
        if is_uuid(route):
            return route
        found = [str(item["id"]) async for item in self.all() if item["name"] == route]
        if not found:
            raise NotFound(f"No route is named {route!r}")
        if len(found) > 1:
            raise Invalid(f"{len(found)} routes are named {route!r}; give one's id: {', '.join(found[:10])}")
        return found[0]

    async def get(self, route: str) -> dict[str, Any]:
        return await self._ask("GET", await self.find(route))

    async def create(self, **body: Any) -> dict[str, Any]:
        """Make a route; the answer has `warning`, and this once `signing_secret`."""
        return await self._ask("POST", body=body)

    async def try_out(self, **body: Any) -> dict[str, Any]:
        """Show which of the newest events a route like this would have taken; stores nothing."""
        return await self._ask("POST", body=body, query={"dry_run": "true"})

    async def update(self, route: str, **body: Any) -> dict[str, Any]:
        """Change what is given and leave the rest as it is."""
        return await self._ask("PUT", await self.find(route), body=body)

    async def delete(self, route: str) -> None:
        """Delete a route, and cancel what it has not sent yet."""
        await self._hub.request("DELETE", await self.path(await self.find(route)))

    async def rotate_secret(self, route: str) -> dict[str, Any]:
        """Give a signed webhook a new secret; the old one signs too for 24 hours."""
        return await self._ask("POST", await self.find(route), "rotate-secret")


class Deliveries(Noun):
    """What was sent, is being sent, or was given up."""

    _name = "deliveries"

    def all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through deliveries, newest first. Query: state, route_id, event_id, since."""
        return self._all(**query)

    async def get(self, delivery_id: str) -> dict[str, Any]:
        """Show a delivery with its `attempts`."""
        return await self._ask("GET", delivery_id)

    async def resend(self, delivery_id: str) -> dict[str, Any]:
        """Send a delivery again now, whatever became of it."""
        return await self._ask("POST", delivery_id, "resend")

    async def recover(self, since: datetime, route_id: str | None = None) -> int:
        """Send again everything that was given up since a time, and return how much that is."""
        body = {"since": since.isoformat(), "route_id": route_id}
        return int((await self._ask("POST", "recover", body=body))["count"])
