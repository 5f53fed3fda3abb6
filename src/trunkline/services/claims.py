"""Whose turn it is: claim due deliveries in fair turns over destinations, within their limits.

For any number of workers: a destination's turn, its limits and its circuit are one row, locked while it is decided
about. What became of an attempt is `outcomes.py`'s, sending is `sending.py`'s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from trunkline.services import schedule
from trunkline.services.deliveries import BURST_SECONDS, IS_PENDING
from trunkline.tables import Time, deliveries, destinations

LEASE = timedelta(seconds=90)
"""How long a claim holds: longer than the longest attempt, so that nobody else takes it up meanwhile."""
PER_DESTINATION = 8
"""Most attempts at once of one worker to one destination; to one that fails it is one."""
_CLOCK_MARGIN = timedelta(milliseconds=50)  # of two sends that must lie apart: the second may be quicker
_LOOK_AGAIN = timedelta(seconds=1)
_SWEPT_AT_ONCE = 500
_OFF = "Not sent: the route was switched off."
_OF_DELIVERY = ("id", "workspace_id", "event_id", "route_id", "destination_id", "failures", "queued_at")


@dataclass(frozen=True, slots=True)
class Claimed:
    """One attempt that this worker alone makes, until its lease ends."""

    id: str
    workspace_id: str
    event_id: str
    route_id: str
    destination_id: str
    number: int
    failures: int
    queued_at: datetime
    until: datetime
    is_suspect: bool = False
    """The destination's last attempt failed or was slow."""
    is_probe: bool = False
    """Its circuit is open: this one attempt tells whether it closes."""

    @classmethod
    def of(cls, row: Row[Any], number: int, until: datetime, **marks: Any) -> "Claimed":
        """Read an attempt from the row of its delivery."""
        shared = {name: getattr(row, name) for name in _OF_DELIVERY}
        return cls(**shared, number=number, until=until, **marks)


@dataclass(slots=True)
class Turn:
    """What one look at the destinations came to."""

    claimed: list[Claimed] = field(default_factory=list)
    more: bool = False
    """Something is left that is due now."""
    next_at: datetime | None = None
    """When the next destination has its turn."""


_NOW: sa.BindParameter[datetime] = sa.bindparam("now", type_=Time)
_DUE_DESTINATIONS = (
    sa.select(destinations)
    .where(
        destinations.c.next_turn_at <= _NOW,
        destinations.c.id.not_in(sa.bindparam("full", expanding=True)),
    )
    .order_by(destinations.c.next_turn_at)
    .limit(sa.bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_NEXT_TURN = sa.select(sa.func.min(destinations.c.next_turn_at)).where(destinations.c.next_turn_at > _NOW)
_PACES = (
    sa.select(destinations.c.id, destinations.c.open_at, destinations.c.seconds_between)
    .where(destinations.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(destinations.c.id)
    .with_for_update()
)
_WAITING = (
    sa.select(deliveries)
    .where(deliveries.c.destination_id == sa.bindparam("destination"), IS_PENDING)
    .order_by(deliveries.c.due_at, deliveries.c.id)
    .limit(sa.bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    sa.update(deliveries)
    .where(deliveries.c.id == sa.bindparam("delivery"), IS_PENDING)
    .values(
        state="sending",
        attempts=deliveries.c.attempts + 1,
        claimed_by=sa.bindparam("worker"),
        claimed_until=sa.bindparam("until"),
    )
)
_SET_TURN = (
    sa.update(destinations)
    .where(destinations.c.id == sa.bindparam("destination"))
    .values(next_turn_at=sa.bindparam("turn"), open_at=sa.bindparam("open"))
)
_SET_PACE = (
    sa.update(destinations)
    .where(destinations.c.id == sa.bindparam("destination"))
    .values(open_at=sa.bindparam("open"))
)
_SWEEP = (
    sa.update(deliveries)
    .where(deliveries.c.id == sa.bindparam("delivery"), IS_PENDING)
    .values(state="failed", last_error=_OFF, finished_at=_NOW)
)
_STRANDED = (
    sa.update(destinations)
    .where(
        destinations.c.next_turn_at.is_(None),
        sa.exists().where(deliveries.c.destination_id == destinations.c.id, IS_PENDING),
    )
    .values(next_turn_at=sa.bindparam("now"))
)


def claim(
    conn: Connection,
    now: datetime,
    worker: str,
    room: int,
    *,
    busy: Mapping[str, int],
    suspects: int,
    slow: Collection[str] = (),
) -> Turn:
    """Take up to `room` due deliveries, a few of each destination, those whose turn is longest due first.

    Args:
        busy: how many attempts this worker has under way, by destination.
        suspects: how many more attempts may go to destinations that fail, for they tend to hang, or are slow.
        slow: the destinations that are.
    """
    turn = Turn()
    full = [each for each, count in busy.items() if count >= PER_DESTINATION]
    due = conn.execute(_DUE_DESTINATIONS, {"now": now, "full": full, "limit": room}).all()
    look = _Look(conn, now, room, busy, suspects, slow, _paces(conn, due, now))
    for row in due:
        if look.room <= 0:
            turn.more = True
            break
        look.at(row)
    turn.claimed = look.taken
    if look.taken:
        taken = [{"delivery": each.id, "worker": worker, "until": each.until} for each in look.taken]
        conn.execute(_TAKE, taken)
    if look.turns:
        conn.execute(_SET_TURN, look.turns)
    if look.paces:
        conn.execute(
            _SET_PACE, [{"destination": key, "open": pace.open_at} for key, pace in look.paces.items()]
        )
    turn.more = turn.more or len(due) == room or any(each["turn"] == now for each in look.turns)
    turn.next_at = now if turn.more else conn.scalar(_NEXT_TURN, {"now": now})
    return turn


@dataclass(slots=True)
class _Pace:
    """The limit of one integration: when its next message may leave if all of them leave evenly."""

    open_at: datetime
    between: timedelta
    pushed: int = 0

    def slots(self, now: datetime) -> int:
        """Return how many may leave now."""
        left = now + timedelta(seconds=BURST_SECONDS) - self.open_at
        return max(0, left // self.between + 1)

    def push(self) -> datetime:
        """Return when one that may not leave now shall look again: each a slot later than the one before."""
        at = self.open_at + self.pushed * self.between - timedelta(seconds=BURST_SECONDS)
        self.pushed += 1
        return at


def _paces(conn: Connection, due: Sequence[Row[Any]], now: datetime) -> dict[str, _Pace]:
    """Lock the limits that these destinations share with others, and read them."""
    ids = sorted({row.pace_id for row in due if row.pace_id is not None})
    found = conn.execute(_PACES, {"ids": ids}).all() if ids else []
    return {
        row.id: _Pace(max(row.open_at or now, now), timedelta(seconds=max(row.seconds_between, 0.001)))
        for row in found
    }


@dataclass(slots=True)
class _Look:
    """One walk over due destinations, each locked: what is taken, and when each has its next turn."""

    conn: Connection
    now: datetime
    room: int
    busy: Mapping[str, int]
    suspects: int
    slow: Collection[str]
    paces: dict[str, _Pace]
    taken: list[Claimed] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    def at(self, row: Row[Any]) -> None:
        """Take what this destination may send now, and set its next turn."""
        if row.disabled_at is not None:
            self._sweep(row)
            return
        if row.open_at is not None and row.open_at > self.now:
            self._set(row, row.open_at, row.open_at)
            return
        quota = self._quota(row)
        if quota <= 0:
            self._set(row, self.now + _LOOK_AGAIN, row.open_at)
            return
        pace = self.paces.get(row.pace_id)
        slots = pace.slots(self.now) if pace else quota
        if pace and slots <= 0:
            self._set(row, pace.push(), row.open_at)
            return
        self._take(row, min(quota, slots, self.room), pace)

    def _sweep(self, row: Row[Any]) -> None:
        """Give up what waits for a destination that was switched off, some of it at a time."""
        waiting = self.conn.execute(_WAITING, {"destination": row.id, "limit": _SWEPT_AT_ONCE}).all()
        if waiting:
            self.conn.execute(_SWEEP, [{"delivery": each.id, "now": self.now} for each in waiting])
        self._set(row, self.now if waiting else None, None)

    def _quota(self, row: Row[Any]) -> int:
        busy = self.busy.get(row.id, 0)
        if row.failures >= schedule.CIRCUIT_FAILURES:
            return min(1, self.suspects)
        if row.failures > 0:
            return min(1 - busy, self.suspects)
        quota = 1 if row.seconds_between > 0 else PER_DESTINATION - busy
        return min(quota, self.suspects) if row.id in self.slow else quota

    def _take(self, row: Row[Any], count: int, pace: _Pace | None) -> None:
        waiting = self.conn.execute(_WAITING, {"destination": row.id, "limit": count + 1}).all()
        ready = [each for each in waiting[:count] if each.due_at <= self.now]
        is_probe = row.failures >= schedule.CIRCUIT_FAILURES
        is_suspect = row.failures > 0 or row.id in self.slow
        until = self.now + LEASE
        self.taken += [
            Claimed.of(each, each.attempts + 1, until, is_suspect=is_suspect, is_probe=is_probe)
            for each in ready
        ]
        self.room -= len(ready)
        self.suspects -= len(ready) if is_suspect else 0
        if pace:
            pace.open_at += len(ready) * pace.between
        open_at = None
        if ready and is_probe:
            open_at = until  # nobody else tries before this one's outcome is known
        elif ready and row.seconds_between > 0:
            open_at = self.now + timedelta(seconds=row.seconds_between) + _CLOCK_MARGIN
        rest = waiting[len(ready) :]
        turn = max(rest[0].due_at, open_at or self.now) if rest else None
        self._set(row, turn, open_at)

    def _set(self, row: Row[Any], turn: datetime | None, open_at: datetime | None) -> None:
        self.turns.append({"destination": row.id, "turn": turn, "open": open_at})


def call_up_stranded(conn: Connection, now: datetime) -> int:
    """Give a turn to destinations that have none although something waits, whatever went wrong; return how many."""
    return conn.execute(_STRANDED, {"now": now}).rowcount
