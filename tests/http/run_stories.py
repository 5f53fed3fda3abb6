"""What tests of runs share: a shop whose records can be pulled, and running the jobs by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from aiohttp import web

from http_asgi import Client
from trunkline.context import App, Context, own_context
from trunkline.services import datasets, index, sync, versions
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.progress import Run
from trunkline.tables import records, run_events

KEY = "shop-key-1234"
CONNECTOR = """\
name: Shop
base_url: "{config.url}"
config: {url: {label: Address}}
auth:
  key: {type: api_key_header, header_name: X-Key}
endpoints:
  orders:
    description: Orders.
    path: /orders
    input_schema: {type: object, properties: {shop: {type: string}, since: {type: string}}}
    records: items
    retry_config: {max_retries: 1}
  items:
    description: Items.
    path: /items
    records: items
    paging: {type: page, page_param: page, limit: {param: limit, size: 10}}
    retry_config: {max_retries: 0}
  notes:
    description: Notes.
    path: "/customers/{customer}/notes"
    input_schema: {type: object, required: [customer], properties: {customer: {type: string}}}
    records: items
    paging: {type: page, page_param: page, limit: {param: limit, size: 3}}
streams:
  orders:
    endpoint: orders
    key: id
    cursor: {field: at, start: "2020-01-01 00:00:00", query: {since: "{cursor}"}, lag_seconds: 5}
    paging: {type: keyset, limit: {param: limit, size: 10}, offset_param: offset}
  items: {endpoint: items, key: id}
  changed_items:
    endpoint: items
    key: id
    cursor: {field: at, start: "2020-01-01T00:00:00Z", query: {since: "{cursor}"}}
  customers: {endpoint: items, key: id}
  notes: {endpoint: notes, key: id, for_each: {stream: customers, params: {customer: "{parent.id}"}}}
"""
Answer = web.Response | None


def write_connectors(folder: Path) -> Path:
    folder.mkdir()
    (folder / "shop.yaml").write_text(CONNECTOR)
    return folder


def order(number: int, at: str | None = None, **fields: Any) -> dict[str, Any]:
    """Make an order; without a time its number is the minute it changed."""
    stamp = at or f"2025-06-{1 + number // 1440:02} {number // 60 % 24:02}:{number % 60:02}:00"
    return {"id": f"o{number:05}", "at": stamp, "text": f"order {number}", **fields}


@dataclass
class Shop:
    """Orders in the order of their time, items by page, notes by customer; what comes before the nth request on demand."""

    rows: list[Any] = field(default_factory=list)
    notes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: dict[int, Callable[[], Answer]] = field(default_factory=dict)
    held: dict[int, asyncio.Event] = field(default_factory=dict)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        number = len(self.asked)
        if number in self.held:
            await self.held[number].wait()
        answer = self.before.pop(number, lambda: None)()
        if answer is not None:
            return answer
        if request.headers.get("X-Key") != KEY:
            return web.json_response({"error": f"bad key {request.headers.get('X-Key')}"}, status=401)
        if request.path == "/orders":
            return self._orders(request.query)
        if request.path == "/items":
            return self._page(self.rows, request.query)
        return self._page(self.notes.get(request.path.split("/")[2], []), request.query)

    def _orders(self, query: Any) -> web.Response:
        found = [
            row for row in self.rows if not isinstance(row, dict) or row.get("at", "9") >= query["since"]
        ]
        found.sort(key=lambda row: (row.get("at", ""), str(row.get("id"))))
        start = int(query.get("offset", 0))
        items = found[start : start + int(query["limit"])]
        return web.json_response({"items": items}, headers={"X-Total-Count": str(len(found))})

    def _page(self, rows: list[Any], query: Any) -> web.Response:
        size = int(query["limit"])
        start = (int(query["page"]) - 1) * size
        return web.json_response({"items": rows[start : start + size]})

    def put(self, *rows: dict[str, Any]) -> None:
        """Add records, or change those of the same id."""
        known = {row["id"]: row for row in self.rows}
        self.rows = list((known | {row["id"]: row for row in rows}).values())


@dataclass
class Synced:
    """A dataset of the shop, in Alice's workspace."""

    alice: Client
    shop: Shop
    integration: dict[str, Any]
    dataset: Dataset
    lists: int = 0
    """How many requests bring lists of parents."""

    @property
    def app(self) -> App:
        return self.alice.hub.app

    @property
    def ctx(self) -> Context:
        return own_context(self.app, self.alice.workspace_id)

    @property
    def path(self) -> str:
        return f"/v1/{{ws}}/datasets/{self.dataset.id}/runs"

    async def start(self, mode: str | None = None, **more: Any) -> Run:
        return await sync.start(self.ctx, self.dataset.id, mode, **more)

    async def run(self, mode: str | None = None, **more: Any) -> Run:
        """Run to the end and return what became of it."""
        run = await self.start(mode, **more)
        await settle(self.app)
        return await self.found(run)

    async def found(self, run: Run) -> Run:
        return await self.app.db.read(lambda conn: sync.progress.find(conn, run.id))

    async def now(self) -> Dataset:
        return await self.app.db.read(lambda conn: datasets.by_number(conn, self.dataset.number))

    async def keys(self, version: int | None = None) -> list[str]:
        return sorted(await self.read(version))

    async def read(self, version: int | None = None) -> dict[str, Any]:
        """Return the records at a version, the active one unless told otherwise, by key."""
        at = version or (await self.now()).active_version or 0
        holds = sa.or_(records.c.valid_to.is_(None), records.c.valid_to > at)
        query = sa.select(records.c.key, records.c.data).where(
            records.c.dataset == self.dataset.number, records.c.valid_from <= at, holds
        )
        return {
            key: orjson.loads(data)
            for key, data in await self.app.db.read(lambda conn: conn.execute(query).all())
        }

    async def versions(self) -> list[tuple[int, str]]:
        page = await versions.list_page(self.ctx, self.dataset.id, 100)
        return [(version.number, version.status) for version in page.items]

    async def told(self, run: Run) -> list[tuple[int, str, dict[str, Any]]]:
        query = sa.select(run_events.c.number, run_events.c.type, run_events.c.data)
        query = query.where(run_events.c.run_id == run.id).order_by(run_events.c.number)
        return [tuple(row) for row in await self.app.db.read(lambda conn: conn.execute(query).all())]


async def synced(alice: Client, shop: Shop, stream: str = "orders", **draft: Any) -> Synced:
    """Connect Alice's workspace with the shop, and make a dataset of one of its streams."""
    made = await alice.integration(
        name=f"shop-{stream}",
        connector="shop",
        base_url="",
        config={"url": shop.url},
        credentials={"method": "key", "values": {"api_key": KEY}},
    )
    ctx = own_context(alice.hub.app, alice.workspace_id)
    dataset = await datasets.create(ctx, Draft(stream, made["id"], stream, **draft))
    return Synced(alice, shop, made, dataset, lists=2 if stream == "notes" else 0)


async def step(app: App) -> None:
    """Let the jobs look once."""
    await sync.run_due(app)
    await index.fill_due(app)


async def settle(app: App) -> None:
    """Let the jobs run until nothing is under way or due."""
    while True:
        more = await sync.run_due(app)
        working = [each.task for each in app.crew.working.values()]
        if not more and not working:
            return
        await index.fill_due(app)
        if working:
            await asyncio.wait(working, timeout=0.02)


async def reached(dataset: Synced, run: Run, request: int) -> None:
    """Work on until the shop is asked for the nth time, and every page before it is stored."""
    shop, app = dataset.shop, dataset.app
    while len(shop.asked) < request or (await dataset.found(run)).pages < request - 1 - dataset.lists:
        await sync.run_due(app)
        await app.bells.progress.wait(0.01)
