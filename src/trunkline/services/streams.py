"""Following a workspace's event log as it grows, for clients that stay: where they left off, what they missed, how many."""

from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.errors import TooMany
from trunkline.services import api_keys, events
from trunkline.services.events import Event
from trunkline.tables import events as table

MAX_STREAMS = 50
"""Most streams of one workspace at a time, in one process."""
KEEP_ALIVE_SECONDS = 15.0
LOOK_SECONDS = 1.0
"""How long an event that another process appended may stay unseen."""
_AT_ONCE = 100
_BYTES_AT_ONCE = 1024 * 1024
_WINDOW = 5_000

_open: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class News:
    """What there is since the last time: nothing at all, when it is only to show that the stream is alive."""

    events: list[Event]
    position: int
    """Every event up to this number was looked at."""
    gap: tuple[int, int] | None = None
    """Two numbers between which events are lost to the reader; those in `events` come after them."""
    more: bool = False


async def follow(ctx: Context, after: int | None, pattern: str | None) -> AsyncGenerator[News, None]:
    """Begin to follow the log, for as long as the caller's key holds and the process runs.

    Args:
        after: go on after this number; None: with what comes from now on.
        pattern: only events whose type fits, `*` for any run of characters.

    Raises:
        TooMany: the workspace has as many streams as it may.
    """
    _check_room(ctx.workspace_id)

    def begin(conn: Connection) -> tuple[int, datetime | None]:
        start = events.last_sequence(conn, ctx.workspace_id) if after is None else after
        return start, api_keys.changed_at(conn, ctx.caller.credential_id)

    position, key_changed_at = await ctx.app.db.read(begin)
    return _follow(ctx, position, _query(ctx, pattern), key_changed_at)


def _check_room(workspace_id: str) -> None:
    if _open[workspace_id] >= MAX_STREAMS:
        raise TooMany(
            f"This workspace has {MAX_STREAMS} streams open already; close one, or try again.", retry_after=15
        )


async def _follow(
    ctx: Context, position: int, query: sa.Select[Any], key_changed_at: datetime | None
) -> AsyncGenerator[News, None]:
    app, bell = ctx.app, ctx.app.bells.events
    if _open[ctx.workspace_id] >= MAX_STREAMS:  # many came at once, all of which found room
        return
    _open[ctx.workspace_id] += 1
    try:
        told_at = checked_at = app.clock.monotonic()
        while not app.stopping:
            rung = bell.rung
            news = await app.db.read(partial(_look, ctx.workspace_id, position, query))
            position = news.position
            now = app.clock.monotonic()
            if now - checked_at >= KEEP_ALIVE_SECONDS:
                if not await _key_holds(ctx, key_changed_at):
                    return
                checked_at = now
            if news.events or news.gap or now - told_at >= KEEP_ALIVE_SECONDS:
                yield news
                told_at = app.clock.monotonic()
            if not news.more:
                await bell.wait(LOOK_SECONDS, since=rung)
    finally:
        _open[ctx.workspace_id] -= 1
        if not _open[ctx.workspace_id]:
            del _open[ctx.workspace_id]


async def _key_holds(ctx: Context, key_changed_at: datetime | None) -> bool:
    """Tell whether the caller's key is still what it was when the stream began."""
    caller = ctx.caller
    if caller.expires_at is not None and caller.expires_at <= ctx.now:
        return False
    changed_at = await ctx.app.db.read(lambda conn: api_keys.changed_at(conn, caller.credential_id))
    return changed_at is not None and changed_at == key_changed_at


def _query(ctx: Context, pattern: str | None) -> sa.Select[Any]:
    query = sa.select(*events.SHOWN).where(
        table.c.workspace_id == ctx.workspace_id,
        table.c.sequence >= sa.bindparam("low"),
        table.c.sequence <= sa.bindparam("high"),
    )
    if pattern is not None:
        query = query.where(events.type_fits(pattern, ctx.app.db.dialect))
    return query.order_by(table.c.sequence)


def _look(workspace_id: str, position: int, query: sa.Select[Any], conn: Connection) -> News:
    """Read on after a number. Numbers have no gaps, so one that is not there was pruned."""
    last = events.last_sequence(conn, workspace_id)
    if position == last:
        return News([], position)
    if position > last:  # of another log: the database was restored, or the client asks for what never was
        return News([], last, gap=(position, last + 1))
    low = events.oldest(conn, workspace_id, position + 1) or last + 1
    high = min(last, low + _WINDOW - 1)
    found, more = events.take(conn, query, {"low": low, "high": high}, _AT_ONCE, _BYTES_AT_ONCE)
    reached = found[-1].sequence if more else high
    gap = (position, low) if low > position + 1 else None
    return News(found, reached, gap, more=reached < last)
