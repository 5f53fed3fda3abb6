"""What became of attempts: written down, counted for the schedule and for the destination's circuit, told as events.

Functions of a connection. Only the worker that holds a claim may finish it; what a worker left behind is taken back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from trunkline.services import events, schedule
from trunkline.services.claims import LEASE, Claimed
from trunkline.services.deliveries import call_up
from trunkline.services.events import NewEvent
from trunkline.services.matching import OWN_TYPES
from trunkline.tables import Time, deliveries, delivery_attempts, destinations, routes
from trunkline.tables import events as event_rows

_LAPSED_AT_ONCE = 200
_LOST = "The hub stopped while this was being sent, or lost its hold on it; it may have arrived."
_GONE = "It answered 410 (gone)."
_FAILED_FOR_LONG = f"Every attempt failed for {schedule.GIVE_UP_AFTER.days} days."

Verdict = Literal["delivered", "failed", "put_off", "gone", "cancelled", "lost"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt: `failed` counts, `put_off` (not now) does not; `lost`: nobody knows."""

    claimed: Claimed
    verdict: Verdict
    started_at: datetime
    duration_ms: float | None = None
    status: int | None = None
    error: str | None = None
    trace: Any = None
    wait_seconds: float | None = None
    """How long the service wants to be left alone."""


_IS_SENDING = deliveries.c.state == sa.literal_column("'sending'")
_LAPSED = (
    sa.select(deliveries)
    .where(_IS_SENDING, deliveries.c.claimed_until <= sa.bindparam("now", type_=Time))
    .order_by(deliveries.c.claimed_until)
    .limit(_LAPSED_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_OURS = (
    sa.select(deliveries.c.id, deliveries.c.attempts)
    .where(
        deliveries.c.id.in_(sa.bindparam("ids", expanding=True)),
        _IS_SENDING,
        deliveries.c.claimed_by == sa.bindparam("worker"),
    )
    .order_by(deliveries.c.id)
    .with_for_update()
)
_FINISH = (
    sa.update(deliveries)
    .where(deliveries.c.id == sa.bindparam("delivery"))
    .values(
        state=sa.bindparam("new_state"),
        due_at=sa.bindparam("due"),
        failures=sa.bindparam("failed"),
        last_status=sa.bindparam("status"),
        last_error=sa.bindparam("error"),
        finished_at=sa.bindparam("finished"),
        claimed_by=None,
        claimed_until=None,
    )
)
_ATTEMPT = sa.insert(delivery_attempts)
_DESTINATIONS = (
    sa.select(destinations)
    .where(destinations.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(destinations.c.id)
    .with_for_update()
)
_SET_HEALTH = (
    sa.update(destinations)
    .where(destinations.c.id == sa.bindparam("destination"))
    .values(
        failures=sa.bindparam("failed"),
        failing_since=sa.bindparam("since"),
        open_at=sa.bindparam("open"),
        disabled_at=sa.bindparam("disabled"),
    )
)


def finish(conn: Connection, worker: str, outcomes: Sequence[Outcome], now: datetime) -> bool:
    """Write down what became of this worker's attempts; tell whether that appended events.

    One whose lease ended, so that another worker has it now, is left to that worker.
    """
    ids = [outcome.claimed.id for outcome in outcomes]
    found = conn.execute(_OURS, {"ids": ids, "worker": worker}) if ids else ()
    held = {(row.id, row.attempts) for row in found}
    return _settle(conn, [each for each in outcomes if (each.claimed.id, each.claimed.number) in held], now)


def take_back(conn: Connection, now: datetime) -> bool:
    """Make due again what a worker that is gone had claimed; the attempt counts. Tell whether events were appended."""
    lost = [
        Outcome(
            Claimed.of(row, row.attempts, row.claimed_until),
            "lost",
            row.claimed_until - LEASE,
            error=_LOST,
        )
        for row in conn.execute(_LAPSED, {"now": now})
    ]
    return _settle(conn, lost, now)


def _settle(conn: Connection, outcomes: Sequence[Outcome], now: datetime) -> bool:
    if not outcomes:
        return False
    rows = {outcome.claimed.id: _after(outcome, now) for outcome in outcomes}
    conn.execute(_FINISH, [rows[key] for key in sorted(rows)])
    tried = [_attempt(outcome) for outcome in outcomes if outcome.verdict != "cancelled"]
    if tried:
        conn.execute(_ATTEMPT, tried)
    off = _note_health(conn, outcomes, rows, now)
    exhausted = [
        each.claimed.id
        for each in outcomes
        if rows[each.claimed.id]["new_state"] == "failed" and each.verdict != "gone"
    ]
    told = _tell_failed(conn, exhausted, now) if exhausted else False
    return (_switch_off(conn, off, now) if off else False) or told


def _after(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Decide what a delivery is after an attempt, and when it is due again."""
    claimed = outcome.claimed
    failures = claimed.failures + (outcome.verdict in ("failed", "lost", "gone"))
    wait: timedelta | None = None
    if outcome.verdict == "failed":
        wait = schedule.retry_wait(failures)
    elif outcome.verdict == "put_off":
        wait = schedule.put_off_wait(claimed.queued_at, now, outcome.wait_seconds)
    elif outcome.verdict == "lost":
        wait = schedule.retry_wait(failures) and timedelta(0)
    ended = {"delivered": "delivered", "cancelled": "cancelled"}.get(outcome.verdict, "failed")
    return {
        "delivery": claimed.id,
        "new_state": ended if wait is None else "pending",
        "due": now + (wait or timedelta(0)),
        "failed": failures,
        "status": outcome.status,
        "error": outcome.error,
        "finished": now if wait is None else None,
    }


def _attempt(outcome: Outcome) -> dict[str, Any]:
    return {
        "delivery_id": outcome.claimed.id,
        "number": outcome.claimed.number,
        "workspace_id": outcome.claimed.workspace_id,
        "started_at": outcome.started_at,
        "duration_ms": outcome.duration_ms,
        "status": outcome.status,
        "error": outcome.error,
        "trace": outcome.trace,
    }


@dataclass(slots=True)
class _Health:
    """How a destination does: failures in a row, since when, and until when it is left alone."""

    failures: int
    failing_since: datetime | None
    open_at: datetime | None
    off: str | None = None
    """Why it is switched off now."""

    def note(self, outcome: Outcome, due: datetime, now: datetime) -> None:
        is_probe = outcome.claimed.is_probe
        if outcome.verdict == "delivered":
            if self.failures >= schedule.CIRCUIT_FAILURES:
                self.open_at = None
            self.failures, self.failing_since = 0, None
            self._wait(outcome, now)
        elif outcome.verdict == "failed":
            # Attempts that began before the circuit opened say nothing new.
            if is_probe or self.failures < schedule.CIRCUIT_FAILURES:
                self._fail(outcome, now)
        elif outcome.verdict == "put_off":
            self.open_at = None if is_probe else self.open_at
            self._wait(outcome, now, unless_told=due)
        elif outcome.verdict == "gone":
            self.off = _GONE
        elif is_probe:
            self.open_at = None  # nothing was learnt: the next one tries

    def _fail(self, outcome: Outcome, now: datetime) -> None:
        self.failures += 1
        self.failing_since = self.failing_since or outcome.started_at
        wait = schedule.circuit_wait(self.failures)
        if wait is not None:
            self.open_at = now + wait
            if now - self.failing_since >= schedule.GIVE_UP_AFTER:
                self.off = _FAILED_FOR_LONG

    def _wait(self, outcome: Outcome, now: datetime, unless_told: datetime | None = None) -> None:
        until = unless_told
        if outcome.wait_seconds is not None:
            until = now + min(timedelta(seconds=outcome.wait_seconds), schedule.LONGEST_WAIT)
        if until is not None and (self.open_at is None or until > self.open_at):
            self.open_at = until


def _note_health(
    conn: Connection, outcomes: Sequence[Outcome], rows: Mapping[str, Mapping[str, Any]], now: datetime
) -> dict[str, str]:
    """Update destinations and give them their next turns; return those to be switched off, with the reason."""
    by_destination: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_destination[outcome.claimed.destination_id].append(outcome)
    changed: list[dict[str, Any]] = []
    turns: dict[str, datetime] = {}
    off: dict[str, str] = {}
    for row in conn.execute(_DESTINATIONS, {"ids": list(by_destination)}):
        health = _Health(row.failures, row.failing_since, row.open_at)
        for outcome in by_destination[row.id]:
            health.note(outcome, rows[outcome.claimed.id]["due"], now)
        again = [rows[each.claimed.id] for each in by_destination[row.id]]
        dues = [each["due"] for each in again if each["new_state"] == "pending"]
        if _is_changed(row, health):
            changed.append(_health_row(row, health, now))
            dues.append(now)  # what waits for it may go earlier, or must wait longer, than it was told
        if dues:
            turns[row.id] = min(dues)
        if health.off and row.disabled_at is None:
            off[row.id] = health.off
    if changed:
        conn.execute(_SET_HEALTH, changed)
    call_up(conn, turns)
    return off


def _is_changed(row: Row[Any], health: _Health) -> bool:
    now_is = (health.failures, health.failing_since, health.open_at)
    return health.off is not None or now_is != (row.failures, row.failing_since, row.open_at)


def _health_row(row: Row[Any], health: _Health, now: datetime) -> dict[str, Any]:
    return {
        "destination": row.id,
        "failed": health.failures,
        "since": health.failing_since,
        "open": None if health.off else health.open_at,
        "disabled": now if health.off else row.disabled_at,
    }


def _switch_off(conn: Connection, off: Mapping[str, str], now: datetime) -> bool:
    """Switch off every route to these destinations, and tell; what waits for them is swept in their turns."""
    is_on = sa.and_(routes.c.destination_id.in_(off), routes.c.enabled)
    query = sa.select(routes.c.id, routes.c.workspace_id, routes.c.name, routes.c.destination_id).where(is_on)
    found = conn.execute(query.with_for_update()).all()
    news: defaultdict[str, list[NewEvent]] = defaultdict(list)
    for row in found:
        reason = off[row.destination_id]
        values = {"enabled": False, "disabled_reason": reason, "updated_at": now}
        conn.execute(sa.update(routes).where(routes.c.id == row.id).values(**values))
        news[row.workspace_id].append(
            NewEvent(
                type="delivery.route_disabled",
                time=now,
                subject=row.id,
                title=f"The route {row.name} was switched off: {reason}",
                severity="high",
                data={"route_id": row.id, "route": row.name, "reason": reason},
            )
        )
    return _append(conn, news, now)


def _tell_failed(conn: Connection, ids: Iterable[str], now: datetime) -> bool:
    """Append an event for each delivery that was given up, but not for those that told of deliveries themselves."""
    query = (
        sa.select(
            deliveries,
            routes.c.name.label("route"),
            event_rows.c.type.label("event_type"),
            event_rows.c.project,
            destinations.c.label.label("destination"),
        )
        .join_from(deliveries, routes, routes.c.id == deliveries.c.route_id, isouter=True)
        .join(event_rows, event_rows.c.id == deliveries.c.event_id, isouter=True)
        .join(destinations, destinations.c.id == deliveries.c.destination_id, isouter=True)
        .where(deliveries.c.id.in_(ids))
        .order_by(deliveries.c.id)
    )
    news: defaultdict[str, list[NewEvent]] = defaultdict(list)
    for row in conn.execute(query):
        if (row.event_type or "").startswith(OWN_TYPES):
            continue
        news[row.workspace_id].append(
            NewEvent(
                type="delivery.failed",
                time=now,
                subject=row.id,
                title=f"A message to {row.destination or 'its destination'} was given up: {row.last_error}",
                project=row.project,
                severity="medium",
                data={
                    "delivery_id": row.id,
                    "event_id": row.event_id,
                    "event_type": row.event_type,
                    "route_id": row.route_id,
                    "route": row.route,
                    "attempts": row.attempts,
                    "last_status": row.last_status,
                    "last_error": row.last_error,
                },
            )
        )
    return _append(conn, news, now)


def _append(conn: Connection, news: Mapping[str, Sequence[NewEvent]], now: datetime) -> bool:
    events.append_all(conn, news, now)
    return bool(news)
