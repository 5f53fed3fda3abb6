"""What supportbot's tests share: an instance of ServiceNow with a few incidents, and a sync that somebody watches."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from http_asgi import Client, Reply
from trunkline.services import index, sync

MASK = "********"
KB = "/api/knowledge-base"


def incident(number: int, updated: str = "2025-03-31 08:00:00", **more: str) -> dict[str, str]:
    """Make an incident as the Table API shows it."""
    return {
        "number": f"INC{number}",
        "sys_id": f"{number:032x}",
        "short_description": f"Printer {number} is on fire",
        "description": "It burns.",
        "close_notes": "Poured water on it.",
        "state": "1",
        "sys_updated_on": updated,
        "opened_at": "2025-03-30 07:00:00",
        **more,
    }


@dataclass
class Instance:
    """Incidents since a time, in its order, page by page; `says` is an answer to give instead."""

    url: str = ""
    incidents: list[dict[str, str]] = field(default_factory=list)
    says: tuple[int, dict[str, Any]] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        self.credentials.append(request.headers.get("Authorization", ""))
        if self.says is not None:
            return web.json_response(self.says[1], status=self.says[0])
        assert request.path == "/api/now/table/incident"
        since = query["sysparm_query"].partition(">=")[2].partition("^")[0]
        found = sorted(
            (row for row in self.incidents if row["sys_updated_on"] >= since),
            key=lambda row: (row["sys_updated_on"], row["sys_id"]),
        )
        start = int(query.get("sysparm_offset", 0))
        return web.json_response({"result": found[start : start + int(query["sysparm_limit"])]})

    def config(self, **more: Any) -> dict[str, Any]:
        return {"url": self.url, "username": "svc_sync", "password": "hunter2", **more}


def written(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make a body that creates or replaces an integration."""
    return {
        "service_name": "ServiceNow",
        "auth_type": "basic_auth",
        "config": config,
        "is_active": True,
        **changes,
    }


async def made(caller: Client, config: dict[str, Any], **changes: Any) -> str:
    """Make an integration and return its id."""
    reply = await caller.post("/integrations/create", written(config, **changes))
    assert (reply.status, reply.json["success"]) == (200, True), reply.text
    return str(reply.json["integration"]["id"])


async def watch(caller: Client, path: str, body: Any = None) -> Reply:
    """Ask for a stream and read it to its end, while this process works."""
    app = caller.hub.app
    reading = asyncio.create_task(caller.send("POST", path, body, stays=True))
    while not reading.done():
        await sync.run_due(app)
        await index.fill_due(app)
        await asyncio.sleep(0.01)
    return reading.result()


async def synced(caller: Client, integration_id: str, query: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Sync an integration and return the frames."""
    reply = await watch(caller, f"/integrations/sync/{integration_id}{query}")
    assert reply.status == 200, reply.text
    return frames(reply)


def frames(reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    """Read the frames of a stream; the last is `complete` or `error`, and no other is."""
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.endswith("\n\n")
    found = []
    for block in reply.text.removesuffix("\n\n").split("\n\n"):
        event, data = block.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    endings = [name for name, _ in found if name in {"complete", "error"}]
    assert [found[-1][0]] == endings
    return found
