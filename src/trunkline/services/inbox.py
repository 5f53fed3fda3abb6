"""Webhooks as they came, stored before they are read: what arrives together shares a commit, what repeats adds nothing.

Reading them into events is `ingest.py`'s.
"""

import asyncio
import hashlib
import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.errors import TooMany
from trunkline.ids import new_id
from trunkline.services.hooks import Source
from trunkline.tables import inbox

MOST_WAITING = 5_000
MOST_BYTES = 64 * 1024 * 1024
"""What may wait in memory for its commit; beyond either, the service is told to come back."""
MOST_READ = 8 * 1024 * 1024
"""Bytes of bodies that are read at a time."""
_STREAMED = {"stream_results": True, "max_row_buffer": 50}  # else the driver would fetch all of it
_RETRY_SECONDS = 1.0
_STORED_AT_ONCE = 500  # other writes of the process wait for no more than these
_BUSY = 100
_BURST_TURN = 50
_REST_RATE = 300
_MOST_REST = 9
_LONGEST_REST = 1.0


class Row(NamedTuple):
    """One stored request."""

    id: str
    workspace_id: str
    integration_id: str
    headers: dict[str, str]
    body: bytes
    received_at: datetime


class _Intake:
    """What of one process waits for its commit."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._storing: asyncio.Task[None] | None = None
        self._requests = 0
        self._bytes = 0
        self._second = 0
        self._counts = [0, 0]  # the second before, this second

    async def store(self, row: dict[str, Any]) -> None:
        """Return once the row is durable."""
        size = len(row["body"])
        if self._requests >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            raise TooMany("Too much is coming in at once.", retry_after=_RETRY_SECONDS)
        self._requests += 1
        self._bytes += size
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, stored))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        try:
            await stored
        finally:
            self._requests -= 1
            self._bytes -= size

    async def _store_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_STORED_AT_ONCE], self._waiting[_STORED_AT_ONCE:]
            rows = [row for row, _ in batch]
            self._count(len(rows))
            write = asyncio.ensure_future(self._app.db.write(partial(_insert, rows=rows)))
            await asyncio.wait([write])
            error = write.exception()
            for _, stored in batch:
                if stored.done():
                    continue
                if error is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(error)
            if error is None:
                self._app.bells.inbox.ring()
        self._storing = None

    def _count(self, arrived: int) -> None:
        self.rate()
        self._counts[1] += arrived

    def rate(self) -> int:
        """Return how many came in within the last second or the one begun, whichever was busier."""
        second = int(self._app.clock.monotonic())
        if second != self._second:
            self._counts = [self._counts[1] if second == self._second + 1 else 0, 0]
            self._second = second
        return max(self._counts)


async def receive(
    app: App, source: Source, headers: Mapping[str, str], body: bytes, dedup: str | None = None
) -> str:
    """Store a verified request and return its id once it is durable; a repeat has the id of the first and adds nothing.

    Args:
        headers: only those that reading it takes.
        dedup: what the service, or the signature, tells one delivery from another by.

    Raises:
        TooMany: too much waits in memory.
        Unavailable: the database failed; nothing was stored.
    """
    if app.intake is None:
        app.intake = _Intake(app)
    inbox_id = new_id() if dedup is None else _id_of(source.integration_id, dedup)
    row = {
        "id": inbox_id,
        "workspace_id": source.workspace_id,
        "integration_id": source.integration_id,
        "headers": orjson.dumps(headers).decode(),
        "body": body,
        "received_at": int(app.clock.now().timestamp() * 1_000_000),
    }
    await app.intake.store(row)
    return inbox_id


def _id_of(integration_id: str, dedup: str) -> str:
    digest = hashlib.sha256(f"{integration_id}\0{dedup}".encode("utf-8", "surrogatepass")).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def pressure(app: App) -> int:
    """Return how many requests a second come in now."""
    return app.intake.rate() if app.intake is not None else 0


def rest_seconds(app: App, worked: float) -> float:
    """Return how long a reader that worked for so long should rest: the longer, the more comes in, up to nine times.

    So storing, which a service waits for, goes first, and reading goes on all the same.
    """
    rate = pressure(app)
    return min(worked * min(rate / _REST_RATE, _MOST_REST), _LONGEST_REST) if rate > _BUSY else 0.0


def turn(app: App, most: int) -> int:
    """Return how many requests a reader should take at once: few in a burst, for what is stored waits meanwhile."""
    return min(most, _BURST_TURN) if pressure(app) > _BUSY else most


# As text, with values ready for the driver: at thousands a second each conversion counts.
_INSERT = sa.text(
    "INSERT INTO inbox (id, workspace_id, integration_id, headers, body, received_at) "
    "VALUES (:id, :workspace_id, :integration_id, :headers, :body, :received_at) ON CONFLICT (id) DO NOTHING"
)


def _insert(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    conn.execute(_INSERT, rows)


# The integrations with something unread, found by hopping over the index, whoever has waited longest first.
_NEXT = "SELECT min(integration_id) FROM inbox WHERE read_at IS NULL"
_SOURCES = sa.text(
    f"WITH RECURSIVE waiting(integration_id) AS ({_NEXT} UNION ALL "  # noqa: S608 - a constant
    f"SELECT ({_NEXT} AND integration_id > waiting.integration_id) FROM waiting "
    "WHERE waiting.integration_id IS NOT NULL) "
    "SELECT integration_id FROM waiting WHERE integration_id IS NOT NULL "
    "ORDER BY (SELECT min(position) FROM inbox "
    "WHERE read_at IS NULL AND inbox.integration_id = waiting.integration_id) LIMIT :limit"
)
_ROW = (
    inbox.c.id,
    inbox.c.workspace_id,
    inbox.c.integration_id,
    inbox.c.headers,
    inbox.c.body,
    inbox.c.received_at,
)
_UNREAD = (
    sa.select(*_ROW)
    .where(inbox.c.integration_id == sa.bindparam("integration_id"), inbox.c.read_at.is_(None))
    .order_by(inbox.c.position)
    .limit(sa.bindparam("limit"))
)
_MARK = (
    sa.update(inbox)
    .where(inbox.c.id.in_(sa.bindparam("ids", expanding=True)), inbox.c.read_at.is_(None))
    .values(read_at=sa.bindparam("now"))
    .returning(inbox.c.id)
)
_ONE = sa.select(*_ROW).where(
    inbox.c.workspace_id == sa.bindparam("workspace_id"), inbox.c.id == sa.bindparam("inbox_id")
)


def waiting(conn: Connection, limit: int, most_bytes: int = MOST_READ) -> list[Row]:
    """Return at most so many unread requests, as many of each integration; of each, the oldest first.

    Large ones are fewer: of each integration as many bodies as fit into its share of the bytes, or one.
    """
    found: list[Row] = []
    sources = list(conn.scalars(_SOURCES, {"limit": limit}))
    for index, integration_id in enumerate(sources):
        if most_bytes <= 0:
            break
        left = len(sources) - index
        share, bytes_left = math.ceil((limit - len(found)) / left), most_bytes / left
        given = {"integration_id": integration_id, "limit": share}
        with conn.execute(_UNREAD, given, execution_options=_STREAMED) as rows:
            for row in rows:
                found.append(Row(*row))
                bytes_left -= len(row.body)
                most_bytes -= len(row.body)
                if bytes_left <= 0:
                    break
    return found


def mark_read(conn: Connection, ids: Collection[str], now: datetime) -> set[str]:
    """Mark requests as read and return those that were not before: another worker may have been faster."""
    if not ids:
        return set()
    return set(conn.scalars(_MARK, {"ids": list(ids), "now": now}))


def body_of(conn: Connection, workspace_id: str, inbox_id: str) -> Row | None:
    """Return a stored request, unless its time was over."""
    row = conn.execute(_ONE, {"workspace_id": workspace_id, "inbox_id": inbox_id}).one_or_none()
    return None if row is None else Row(*row)


def prune(conn: Connection, before: datetime, limit: int = 500) -> int:
    """Delete at most so many of the requests that came before and were read; return how many."""
    old = sa.select(inbox.c.position).where(inbox.c.received_at < before, inbox.c.read_at.is_not(None))
    old = old.order_by(inbox.c.received_at).limit(limit)
    return conn.execute(sa.delete(inbox).where(inbox.c.position.in_(old))).rowcount
