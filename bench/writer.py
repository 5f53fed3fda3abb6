"""The bare writers: handlers that store one row durably, with group commit written by hand.

`/integrations` parses a body; `/hooks` verifies one, and nothing else. `sqlite3` shows what the file can do at all; `core` runs the same statement through SQLAlchemy Core.
"""

import asyncio
import hashlib
import hmac
import queue
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa
import uvloop
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.serving import serve

_BATCH = 256
_TABLE = sa.Table(
    "integrations",
    sa.MetaData(),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("body", sa.String, nullable=False),
    sa.Column("created_at", sa.Integer, nullable=False),
)
_INBOX = sa.Table(
    "inbox",
    sa.MetaData(),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("received_at", sa.Integer, nullable=False),
)

Row = dict[str, Any]
Waiting = tuple[Row, asyncio.AbstractEventLoop, asyncio.Future[None]]


class Writer(threading.Thread):
    """One thread, one connection: what waits shares a commit, and is answered after it."""

    def __init__(self, path: str, kind: str, table: sa.Table) -> None:
        super().__init__(daemon=True)
        self._waiting: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._raw.execute("PRAGMA journal_mode=WAL")
        self._raw.execute("PRAGMA synchronous=FULL")
        engine = sa.create_engine("sqlite://", creator=lambda: self._raw, poolclass=NullPool)
        self._connection = engine.connect()
        table.create(self._connection)
        self._connection.commit()
        names = [column.name for column in table.columns]
        self._sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES (:{', :'.join(names)})"
        self._core = sa.insert(table)
        self._insert: Callable[[Row], object] = self._by_hand if kind == "sqlite3" else self._by_core
        self.start()

    def _by_hand(self, row: Row) -> None:
        self._raw.execute(self._sql, row)

    def _by_core(self, row: Row) -> None:
        self._connection.execute(self._core, row)

    async def write(self, row: Row) -> None:
        """Store a row; returns once it is durable."""
        loop = asyncio.get_running_loop()
        stored = loop.create_future()
        self._waiting.put((row, loop, stored))
        await stored

    def run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._raw.execute("BEGIN IMMEDIATE")
            outcomes = [(stored, self._store(row)) for row, _, stored in batch]
            self._raw.execute("COMMIT")
            batch[0][1].call_soon_threadsafe(_settle, outcomes)

    def _store(self, row: Row) -> Exception | None:
        try:
            self._insert(row)
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            return error
        return None


def _settle(outcomes: list[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for stored, error in outcomes:
        if stored.done():
            continue
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)


def _integrations(path: str, kind: str) -> Route:
    writer = Writer(path, kind, _TABLE)

    async def create(request: Request) -> Response:
        value = orjson.loads(await request.body())
        row = {"id": str(uuid.uuid4()), "name": value["name"], "created_at": time.time_ns() // 1000}
        await writer.write({**row, "body": orjson.dumps(value).decode()})
        return Response(orjson.dumps({**row, **value}), 201, media_type="application/json")

    return Route("/integrations", create, methods=["POST"])


def _hooks(path: str, kind: str, secret: str) -> Route:
    writer = Writer(path, kind, _INBOX)

    async def take(request: Request) -> Response:
        body = await request.body()
        wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(request.headers["x-bench-signature"], wanted):
            return Response(status_code=401)
        row = {"id": str(uuid.uuid4()), "body": body, "received_at": time.time_ns() // 1000}
        await writer.write(row)
        return Response(orjson.dumps({"id": row["id"]}), 202, media_type="application/json")

    return Route("/hooks/{token}", take, methods=["POST"])


async def main(path: str, kind: str, secret: str = "") -> None:
    """Serve until stdin ends: hooks when there is a secret."""
    route = _hooks(path, kind, secret) if secret else _integrations(path, kind)
    await serve(Starlette(routes=[route]))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
