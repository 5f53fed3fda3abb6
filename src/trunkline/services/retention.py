"""Forgetting what is older than the operator keeps: events, the requests they were read from, finished deliveries.

Owns what is old, and what is needed all the same: an event that some part of Trunkline has not read yet, or that is still
to be delivered, is kept with everything after it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.services import inbox
from trunkline.tables import deliveries, delivery_attempts, event_logs, event_readers, events

EVERY_SECONDS = 600.0
_MOST_DAYS = 36_500
_BATCH = 500
_PAUSE_SECONDS = 0.05  # between batches, so that forgetting much at once holds up nobody
_WORKSPACE: sa.BindParameter[str] = sa.bindparam("workspace")
_UNFINISHED = deliveries.c.state.in_(("pending", "sending"))
_OLDEST = (
    sa.select(events.c.sequence, events.c.id, events.c.received_at)
    .where(events.c.workspace_id == _WORKSPACE)
    .order_by(events.c.sequence)
    .limit(_BATCH)
)
_READ_UP_TO = sa.select(sa.func.min(event_readers.c.sequence)).where(
    event_readers.c.workspace_id == _WORKSPACE
)
_NEEDED = sa.select(sa.func.min(deliveries.c.event_sequence)).where(
    deliveries.c.event_id.in_(sa.bindparam("ids", expanding=True)), _UNFINISHED
)
_OLD_DELIVERIES = (
    sa.select(deliveries.c.id)
    .where(
        deliveries.c.workspace_id == _WORKSPACE,
        deliveries.c.created_at < sa.bindparam("before"),
        deliveries.c.state.not_in(("pending", "sending")),
    )
    .order_by(deliveries.c.created_at)
    .limit(_BATCH)
)


async def prune_due(app: App) -> None:
    """Forget what is older than the setting `event_retention_days`, in small batches."""
    if app.stopping:  # it can wait until the next start
        return
    before = app.clock.now() - timedelta(days=min(app.settings.event_retention_days, _MOST_DAYS))
    query = sa.select(event_logs.c.workspace_id)
    for workspace_id in await app.db.read(lambda conn: list(conn.scalars(query))):
        await _repeat(app, partial(_prune_deliveries, workspace_id=workspace_id, before=before))
        await _repeat(app, partial(_prune_events, workspace_id=workspace_id, before=before))
    await _repeat(app, partial(inbox.prune, before=before, limit=_BATCH))


async def _repeat(app: App, prune: Callable[[Connection], int]) -> None:
    while await app.db.write(prune) == _BATCH and not app.stopping:
        await app.clock.sleep(_PAUSE_SECONDS)


def _prune_events(conn: Connection, workspace_id: str, before: datetime) -> int:
    """Delete the oldest events of a log as far as they are old and done with; return how many."""
    given = {"workspace": workspace_id}
    read_up_to = conn.scalar(_READ_UP_TO, given) or 0
    old = []
    for row in conn.execute(_OLDEST, given):
        if row.received_at >= before or row.sequence > read_up_to:
            break
        old.append(row)
    if not old:
        return 0
    needed = conn.scalar(_NEEDED, {"ids": [row.id for row in old]})
    end = old[-1].sequence + 1 if needed is None else needed
    gone = sa.delete(events).where(events.c.workspace_id == workspace_id, events.c.sequence < end)
    return conn.execute(gone).rowcount


def _prune_deliveries(conn: Connection, workspace_id: str, before: datetime) -> int:
    """Delete finished deliveries that were planned before, with their attempts; return how many."""
    ids = list(conn.scalars(_OLD_DELIVERIES, {"workspace": workspace_id, "before": before}))
    if ids:
        conn.execute(sa.delete(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(ids)))
        conn.execute(sa.delete(deliveries).where(deliveries.c.id.in_(ids)))
    return len(ids)
