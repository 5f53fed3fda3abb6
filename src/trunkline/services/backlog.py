"""How far behind each step from a webhook to a message is: what operators watch. Reads only, each by an index."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.services import inbox, routing
from trunkline.tables import destinations, event_logs, event_readers


class Backlog(NamedTuple):
    """Zero everywhere: nothing waits that could go on now."""

    unread_seconds: float
    """How long the oldest request has waited to be read."""
    unrouted_events: int
    """How many events no route was looked up for yet."""
    overdue_seconds: float
    """How long the delivery has waited that is due for longest."""


_UNROUTED = sa.select(
    sa.func.coalesce(
        sa.func.sum(event_logs.c.last_sequence - sa.func.coalesce(event_readers.c.sequence, 0)), 0
    )
).select_from(
    event_logs.outerjoin(
        event_readers,
        sa.and_(
            event_readers.c.workspace_id == event_logs.c.workspace_id,
            event_readers.c.reader == routing.READER,
        ),
    )
)
_FIRST_TURN = sa.select(sa.func.min(destinations.c.next_turn_at))


async def measure(app: App) -> Backlog:
    """Return how far behind this database's workers are, all of them together."""
    now = app.clock.now()

    def read(conn: Connection) -> Backlog:
        oldest = inbox.waiting(conn, 1)
        return Backlog(
            _seconds(oldest[0].received_at if oldest else None, now),
            int(conn.scalar(_UNROUTED) or 0),
            _seconds(conn.scalar(_FIRST_TURN), now),
        )

    return await app.db.read(read)


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
