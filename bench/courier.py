"""A hub's background jobs without its doors: events go straight into the log, and it routes and sends them.

One command is one line of JSON on stdin, its answer one line on stdout.
"""

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvloop

from trunkline import jobs, log
from trunkline.context import App, own_context
from trunkline.http.server import _GARBAGE, open_app
from trunkline.services import api_keys, events, routes
from trunkline.services.events import NewEvent
from trunkline.services.routes import Draft
from trunkline.services.targets import SignedWebhook
from trunkline.settings import Settings
from trunkline.tables import deliveries

_CHUNK = 100
_DATA = {"service": "db-03", "detail": "Free space falls. " * 20}


class Courier:
    """Does what it is told, in one workspace, while the jobs run."""

    def __init__(self, app: App, workspace_id: str) -> None:
        self.app = app
        self.workspace_id = workspace_id

    async def route(self, event_type: str, url: str) -> dict[str, Any]:
        """Make a route to a webhook."""
        draft = Draft(event_type=event_type, target=SignedWebhook(url))
        made = await routes.create(own_context(self.app, self.workspace_id), draft)
        return {"id": made.route.id}

    async def append(
        self, event_type: str, count: int, per_second: float, chunk: int = _CHUNK
    ) -> dict[str, Any]:
        """Append events at a pace, as hooks would bring them, and tell how long that took."""
        started = time.monotonic()
        for done in range(0, count, chunk):
            now = self.app.clock.now()
            new = [
                NewEvent(type=event_type, time=now, title="Disk full", data=_DATA | {"at": time.time()})
                for _ in range(min(chunk, count - done))
            ]
            await self.app.db.write(
                lambda conn, new=new, now=now: events.append(conn, self.workspace_id, new, now)
            )
            self.app.bells.events.ring()
            wait = started + (done + chunk) / per_second - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
        return {"seconds": time.monotonic() - started}

    async def storm(self, count: int, per_second: float, after_seconds: float) -> dict[str, Any]:
        """Append a storm of `storm.…` and meanwhile, and for a while after it, 20 `calm.…` a second."""
        calm = int((count / per_second + after_seconds) * 20)
        _, storm = await asyncio.gather(
            self.append("calm.one", calm, 20, chunk=1), self.append("storm.one", count, per_second)
        )
        return storm | {"calm": calm}

    async def states(self) -> dict[str, Any]:
        """Count deliveries by state."""
        query = sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)
        return dict(await self.app.db.read(lambda conn: [tuple(row) for row in conn.execute(query)]))


async def main(folder: Path) -> None:
    """Serve commands until stdin ends."""
    log.configure("error", "json")
    gc.set_threshold(*_GARBAGE)
    async with open_app(Settings(data_dir=folder, egress_allow="127.0.0.1")) as app:
        made = await api_keys.create_workspace(app, "Bench")
        courier = Courier(app, made["id"])
        background = asyncio.create_task(jobs.run_forever(app))
        print(json.dumps({"port": 0}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            answer = await getattr(courier, command.pop("do"))(**command)
            print(json.dumps(answer), flush=True)
        background.cancel()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(Path(sys.argv[1]))))
