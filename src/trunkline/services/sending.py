"""Send claimed deliveries: a message through a connector, a call of an endpoint, a signed webhook.

Owns what this process has under way, and turns what happened into outcomes. Whose turn it is, is `claims.py`'s; what
follows from an outcome is `outcomes.py`'s. A delivery is a task only while it is being sent, never while it waits.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from trunkline import log
from trunkline.context import App
from trunkline.errors import TrunklineError
from trunkline.rest.trace import Trace
from trunkline.services import claims, messengers, outcomes
from trunkline.services.claims import Claimed, Turn
from trunkline.services.messengers import Message
from trunkline.services.outcomes import Outcome, Verdict
from trunkline.services.traces import plain_text, small_trace

AT_ONCE = 64
"""Most attempts under way in this process, but for those that take long."""
SUSPECTS_AT_ONCE = 32
"""Most to destinations whose last attempt failed or took long: however many hang, the others have room."""
SLOW_SECONDS = 1.0
MOST_AT_ONCE = 256
"""Most attempts under way, however many take long."""
SEND_SECONDS = 60.0
"""Longest attempt, all told; shorter than the lease of a claim."""
_STOP_SECONDS = 10.0
_LOOK_FOR_STRANDED_SECONDS = 60.0
_MOST_REMEMBERED = 10_000
_LOG = log.get("trunkline.sending")


class _UnderWay(NamedTuple):
    """An attempt, and when it began as the monotonic clock says."""

    claimed: Claimed
    began: float


@dataclass(slots=True)
class _Outbox:
    """What this process has under way, and what came of it but is not written down yet."""

    tasks: dict[asyncio.Task[Outcome], _UnderWay] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    round: asyncio.Task[bool] | None = None
    alarm: asyncio.TimerHandle | None = None
    looked_at: float | None = None
    """When destinations without a turn were last looked for, as the monotonic clock says."""
    slow: set[str] = field(default_factory=set)
    """Destinations whose last attempt took long."""

    def busy(self) -> Counter[str]:
        return Counter(each.claimed.destination_id for each in self.tasks.values())

    def late(self, ticks: float) -> list[_UnderWay]:
        """Return the attempts that take long."""
        return [each for each in self.tasks.values() if ticks - each.began >= SLOW_SECONDS]

    def room(self, ticks: float) -> int:
        """Return how many more attempts may begin."""
        quick = len(self.tasks) - len(self.late(ticks))
        return min(AT_ONCE - quick, MOST_AT_ONCE - len(self.tasks))

    def suspects(self, ticks: float) -> int:
        """Return how many attempts go to destinations that fail or are slow."""
        return sum(
            each.claimed.is_suspect or ticks - each.began >= SLOW_SECONDS for each in self.tasks.values()
        )

    def note_pace(self, attempt: _UnderWay, ticks: float) -> None:
        """Remember whether a destination is slow."""
        if ticks - attempt.began < SLOW_SECONDS:
            self.slow.discard(attempt.claimed.destination_id)
        elif len(self.slow) < _MOST_REMEMBERED:
            self.slow.add(attempt.claimed.destination_id)


def _outbox(app: App) -> _Outbox:
    if app.outbox is None:
        app.outbox = _Outbox()
    found: _Outbox = app.outbox
    return found


async def send_due(app: App) -> bool:
    """Write down what came of attempts, claim what is due and begin to send it; tell whether more is due now.

    Returns while the attempts are under way; each rings the bell when it ends.
    """
    outbox = _outbox(app)
    # To the end, whoever stops waiting for it: what was claimed and not begun would wait for its lease to end.
    outbox.round = asyncio.ensure_future(_round(app, outbox))
    return await asyncio.shield(outbox.round)


async def settle(app: App, seconds: float = SEND_SECONDS) -> None:
    """Let what is under way end, at most so long, and write down what came of it; claim nothing.

    What has to be given up may have arrived; it is sent again.
    """
    outbox = _outbox(app)
    if outbox.round is not None:
        await asyncio.wait([outbox.round])
    if outbox.tasks:
        await asyncio.wait(outbox.tasks, timeout=seconds)
    for task in outbox.tasks:
        task.cancel()
    if outbox.tasks:
        await asyncio.wait(outbox.tasks)
        await asyncio.sleep(0)  # their endings are noted by callbacks
    await _step(app, outbox, room=0)


async def stop(app: App) -> None:
    """End in order: what is under way has some seconds left."""
    await settle(app, min(_STOP_SECONDS, app.settings.shutdown_seconds))


async def _round(app: App, outbox: _Outbox) -> bool:
    room = 0 if app.stopping else outbox.room(app.clock.monotonic())
    turn = await _step(app, outbox, room)
    if turn.claimed:
        await _begin(app, outbox, turn.claimed)
    if outbox.alarm is not None:
        outbox.alarm.cancel()
    if turn.next_at is not None and not turn.more:
        wait = (turn.next_at - app.clock.now()).total_seconds()
        outbox.alarm = asyncio.get_running_loop().call_later(max(wait, 0.001), app.bells.deliveries.ring)
    return turn.more and outbox.room(app.clock.monotonic()) > 0


async def _step(app: App, outbox: _Outbox, room: int) -> Turn:
    """Write down outcomes and claim, in one transaction."""
    done, outbox.outcomes = outbox.outcomes, []
    now, ticks, busy = app.clock.now(), app.clock.monotonic(), outbox.busy()
    suspects = SUSPECTS_AT_ONCE - outbox.suspects(ticks)
    slow = outbox.slow.union(each.claimed.destination_id for each in outbox.late(ticks))
    is_time = outbox.looked_at is None or ticks - outbox.looked_at >= _LOOK_FOR_STRANDED_SECONDS

    def write(conn: Connection) -> tuple[bool, Turn]:
        told = outcomes.finish(conn, app.worker, done, now)
        told = outcomes.take_back(conn, now) or told
        if is_time:
            claims.call_up_stranded(conn, now)
        if room <= 0:
            return told, Turn()
        return told, claims.claim(conn, now, app.worker, room, busy=busy, suspects=suspects, slow=slow)

    try:
        told, turn = await app.db.write(write)
    except TrunklineError:
        outbox.outcomes[:0] = done  # they are written next time
        raise
    if is_time:
        outbox.looked_at = ticks
    if told:
        app.bells.events.ring()
    return turn


async def _begin(app: App, outbox: _Outbox, claimed: Sequence[Claimed]) -> None:
    try:
        found = await app.db.read(lambda conn: messengers.read(conn, claimed))
    except TrunklineError as error:
        now = app.clock.now()
        outbox.outcomes += [Outcome(each, "put_off", now, error=error.message) for each in claimed]
        return
    for each in claimed:
        message = found[each.id]
        if isinstance(message, str):
            outbox.outcomes.append(Outcome(each, "cancelled", app.clock.now(), error=message))
            app.bells.deliveries.ring()
        else:
            _start(app, outbox, message)


def _start(app: App, outbox: _Outbox, message: Message) -> None:
    started_at = app.clock.now()

    def note(task: asyncio.Task[Outcome]) -> None:
        outbox.note_pace(outbox.tasks.pop(task), app.clock.monotonic())
        outbox.outcomes.append(_outcome_of(task, message.claimed, started_at))
        app.bells.deliveries.ring()

    task = asyncio.create_task(_attempt(app, message, started_at))
    outbox.tasks[task] = _UnderWay(message.claimed, app.clock.monotonic())
    task.add_done_callback(note)


def _outcome_of(task: asyncio.Task[Outcome], claimed: Claimed, started_at: datetime) -> Outcome:
    if task.cancelled():
        return Outcome(claimed, "lost", started_at, error="The hub stopped while this was being sent.")
    fault = task.exception()
    if fault is None:
        return task.result()
    _LOG.error("delivery met a fault", delivery_id=claimed.id, exc_info=fault)
    return Outcome(
        claimed, "failed", started_at, error=f"A fault of Trunkline's; the log has it: {claimed.id}"
    )


async def _attempt(app: App, message: Message, started_at: datetime) -> Outcome:
    """Make one attempt, and say what became of it."""
    claimed = message.claimed
    if (claimed.until - started_at).total_seconds() < SEND_SECONDS:
        return Outcome(claimed, "put_off", started_at, error="The hub was too slow to begin with this.")
    started = app.clock.monotonic()
    trace = Trace()
    try:
        async with asyncio.timeout(SEND_SECONDS):
            trace = await messengers.send(app, message)
    except TimeoutError:
        trace.error = f"It took longer than {SEND_SECONDS:.0f} s."
    except TrunklineError as error:
        trace.error = error.message
    took_ms = (app.clock.monotonic() - started) * 1000
    verdict, wait = _judged(app, claimed, trace)
    return Outcome(
        claimed,
        verdict,
        started_at,
        round(took_ms, 3),
        trace.status_code,
        plain_text(trace.error),
        small_trace(trace),
        wait,
    )


def _judged(app: App, claimed: Claimed, trace: Trace) -> tuple[Verdict, float | None]:
    """Say what an answer means, and how long its service wants to be left alone."""
    gate = app.rest.gate
    wait = trace.retry_after or gate.wait_seconds(claimed.destination_id) or None
    gate.forget(claimed.destination_id)  # from now on the destination's row knows
    if trace.error is None:
        return "delivered", wait
    if trace.status_code == 410:
        return "gone", None
    is_later = trace.status_code == 503 and trace.retry_after is not None
    if trace.status_code == 429 or trace.error_kind == "rate_limited" or is_later:
        return "put_off", wait
    return "failed", wait
