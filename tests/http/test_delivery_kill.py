"""A hub that is killed while it sends: nothing it accepted is lost, and what it had begun is sent again."""

import asyncio
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from delivery_stories import deliver
from trunkline.clock import ManualClock
from trunkline.context import own_context
from trunkline.http.server import open_app
from trunkline.services import api_keys, deliveries
from trunkline.services.deliveries import Filter
from trunkline.settings import Settings, environment_for_child

_SEND = """
import asyncio, sys
from trunkline.http.server import open_app
from trunkline.services import api_keys, events, routes, routing, sending
from trunkline.services.events import NewEvent
from trunkline.services.routes import Draft
from trunkline.services.targets import SignedWebhook
from trunkline.context import own_context
from trunkline.settings import Settings

async def main(url, workspace_id):
    async with open_app(Settings.load()) as app:
        await routes.create(own_context(app, workspace_id), Draft("alert.*", SignedWebhook(url)))
        new = [NewEvent(type="alert.opened", time=app.clock.now(), data={}) for _ in range(12)]
        await app.db.write(lambda conn: events.append(conn, workspace_id, new, app.clock.now()))
        await routing.route_due(app)
        await sending.send_due(app)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_hub_had_begun_is_sent_again_and_the_rest_too(
    database_settings: Settings, upstream
):
    ids: list[str] = []
    arrived = asyncio.Event()
    is_dead = False

    async def hold(request: web.Request) -> web.Response:
        ids.append(request.headers["webhook-id"])
        if len(ids) == 8:
            arrived.set()
        if not is_dead:
            await asyncio.Event().wait()
        return web.Response()

    settings = replace(database_settings, egress_allow="127.0.0.1")
    url = await upstream(hold)
    async with open_app(settings) as app:
        workspace_id = (await api_keys.create_workspace(app, "Alice's"))["id"]
    environment = environment_for_child(
        data_dir=str(settings.data_dir), database_url=settings.database_url, egress_allow="127.0.0.1"
    )
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SEND, url, workspace_id, env=environment, cwd=Path.cwd()
    )
    async with asyncio.timeout(30):
        await arrived.wait()
    hub.send_signal(signal.SIGKILL)
    await hub.wait()
    is_dead = True
    begun = set(ids)

    soon = ManualClock(datetime.now(UTC) + timedelta(seconds=10))
    async with open_app(settings, soon) as app:
        ctx = own_context(app, workspace_id)
        await deliver(app)
        assert len(set(ids) - begun) == 4
        assert (await deliveries.list_page(ctx, Filter(state="sending"), 100, 0)).total == 8
        soon.advance(90)
        await deliver(app)
        page = await deliveries.list_page(ctx, Filter(state="delivered"), 100, 0)
        assert {item.id for item in page.items} == set(ids)
        assert sorted(item.attempt_count for item in page.items) == [1] * 4 + [2] * 8
