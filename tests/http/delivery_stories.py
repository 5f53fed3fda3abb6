"""What tests of deliveries share: a receiver with a script, events that happen, and running the jobs by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa
from aiohttp import web

from http_asgi import Client
from trunkline.context import App
from trunkline.services import events, routing, sending
from trunkline.services.events import NewEvent
from trunkline.tables import destinations

Step = int | tuple[int, dict[str, str]]


@dataclass
class Receiver:
    """Answers by a script, its last line for ever, and remembers what came."""

    script: list[Step] = field(default_factory=lambda: [200])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((headers, await request.read()))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        status, extra = (step, {}) if isinstance(step, int) else step
        return web.Response(
            status=status, headers=extra, text='{"ok": true}', content_type="application/json"
        )

    def answers(self, *script: Step) -> None:
        self.script = list(script)

    @property
    def bodies(self) -> list[Any]:
        return [orjson.loads(body) for _, body in self.got]

    @property
    def count(self) -> int:
        return len(self.got)


async def receiver(upstream: Callable[..., Any], *script: Step) -> Receiver:
    """Start a receiver; with no script it takes everything."""
    made = Receiver(list(script) or [200])
    made.url = await upstream(made.handle)
    return made


async def webhook(alice: Client, url: str, event_type: str = "alert.*", **fields: Any) -> dict[str, Any]:
    """Make a route to a signed webhook."""
    target = {"type": "webhook", "url": url}
    reply = await alice.post("/v1/{ws}/routes", {"event_type": event_type, "target": target, **fields})
    assert reply.status == 201, reply.text
    return reply.json


async def happen(alice: Client, *types: str, **fields: Any) -> list[str]:
    """Append events and plan their deliveries; return the events' ids."""
    app = alice.hub.app
    new = [NewEvent(type=name, time=app.clock.now(), **({"data": {}} | fields)) for name in types]
    await app.db.write(lambda conn: events.append(conn, alice.workspace_id, new, app.clock.now()))
    await plan(app)
    return [event.id for event in new]


async def plan(app: App) -> None:
    while await routing.route_due(app):
        pass


async def deliver(app: App) -> None:
    """Send whatever is due now, to the end."""
    is_busy = True
    while is_busy:
        more = await sending.send_due(app)
        is_busy = more or bool(app.outbox.tasks) or bool(app.outbox.outcomes)
        await sending.settle(app)


async def listed(alice: Client, query: str = "") -> list[dict[str, Any]]:
    reply = await alice.get(f"/v1/{{ws}}/deliveries?limit=100&{query}")
    assert reply.status == 200, reply.text
    return reply.json["items"]


async def shown(alice: Client, delivery_id: str) -> dict[str, Any]:
    reply = await alice.get(f"/v1/{{ws}}/deliveries/{delivery_id}")
    assert reply.status == 200, reply.text
    return reply.json


async def only(alice: Client) -> dict[str, Any]:
    """Return the one delivery there is, with its attempts."""
    (item,) = await listed(alice)
    return await shown(alice, item["id"])


async def log_types(alice: Client) -> list[str]:
    app = alice.hub.app
    found = await app.db.read(lambda conn: events.read_after(conn, alice.workspace_id, 0, 1000))
    return [event.type for event in found]


async def destination(app: App) -> Any:
    """Return the row of the one destination there is."""
    return await app.db.read(lambda conn: conn.execute(sa.select(destinations)).one())
