"""Runs of datasets: asked for or due by schedule, claimed by one worker, taken up by another when that dies, cancelled.

Owns which runs this process works; a run's steps are `driving.py`'s, its row and its watchers `progress.py`'s.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import log
from trunkline.context import App, Context, own_context
from trunkline.errors import Conflict, Invalid, NotFound, TrunklineError, Unavailable
from trunkline.rest.cursors import like
from trunkline.services import datasets, knowledge, progress, pulling, timetable, uploads
from trunkline.services.driving import CANCELLED, LEASE, Drive, LostError, Source
from trunkline.services.progress import UNFINISHED, Run, watch
from trunkline.tables import Time, runs
from trunkline.tables import datasets as dataset_rows

__all__ = ["cancel", "run_due", "start", "stop", "watch"]

AT_ONCE, PER_WORKSPACE = 16, 4
"""Most runs under way in this process, and of one workspace."""
_SCHEDULED_AT_ONCE = 100
_LOG = log.get("trunkline.sync")


@dataclass(slots=True)
class _Working:
    """One run of this process."""

    run: Run
    drive: Drive
    task: asyncio.Task[None]
    held_until: datetime
    is_cancelled: bool = False


@dataclass(slots=True)
class _Crew:
    """The runs of this process, by id."""

    working: dict[str, _Working] = field(default_factory=dict)

    def busy(self) -> Counter[str]:
        """Count the runs of each workspace."""
        return Counter(each.run.workspace_id for each in self.working.values())

    def full(self) -> list[str]:
        """Name the workspaces that have as many as they may."""
        return [each for each, count in self.busy().items() if count >= PER_WORKSPACE]


def _crew(app: App) -> _Crew:
    if app.crew is None:
        app.crew = _Crew()
    found: _Crew = app.crew
    return found


async def start(
    ctx: Context, dataset_id: str, mode: str | None = None, *, since: datetime | None = None
) -> Run:
    """Begin a run of a dataset's stream; a job works it.

    Args:
        mode: `full` also finds what is gone; `incremental` takes what is new; None: incremental if it can be.
        since: take what is new since then, instead of since the last run.

    Raises:
        NotFound
        Invalid: naming `mode` or `since`, or a param that the stream does not take; `full` of a knowledge base.
        Conflict: a run is under way, the dataset has no stream, or its integration cannot be called.
    """
    dataset = await datasets.get(ctx, dataset_id)
    pull = await _pull(ctx, dataset)
    cursor = pull.stream.cursor
    if cursor is None and mode == "incremental":
        raise Invalid.field(("body", "mode"), "this stream cannot tell what is new; it has only full runs")
    if since is not None and cursor is None:
        raise Invalid.field(("body", "since"), "this stream cannot tell what is new")
    if mode == "full" and dataset.name == knowledge.NAME:
        text = "a knowledge base has records of several sources, and a full run would take out all but one's"
        raise Invalid.field(("body", "mode"), text)
    place = None
    if since is not None and cursor is not None:
        place = {"phase": "pull", "since": like(cursor.start, since)}
        mode = "incremental"

    def write(conn: Connection) -> Run:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        made_by = ctx.caller.name or ctx.caller.key_id or None
        return progress.open_run(conn, found, mode or _usual(found), ctx.now, made_by=made_by, place=place)

    run = await ctx.app.db.write(write)
    ctx.app.bells.runs.ring()
    return run


def _usual(dataset: datasets.Dataset) -> str:
    """Say how a run goes that nobody has said it of: a knowledge base has records that its source does not know."""
    return "incremental" if dataset.name == knowledge.NAME else "auto"


async def _pull(ctx: Context, dataset: datasets.Dataset) -> pulling.Pull:
    if dataset.integration_id is None or dataset.stream is None:
        raise Conflict("This dataset has no stream: it is filled by uploads.")
    try:
        return await pulling.prepare(ctx, dataset.integration_id, dataset.stream, dataset.params)
    except NotFound:
        raise Conflict("The integration of this dataset is gone.") from None


async def cancel(ctx: Context, dataset_id: str, run_id: str) -> Run:
    """End a run before its time: what it wrote is undone. One that is under way ends within a page.

    Raises:
        NotFound
        Conflict: it is over.
    """
    now = ctx.now

    def write(conn: Connection) -> Run:
        number = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True).number
        conn.execute(sa.select(runs.c.id).where(runs.c.id == run_id).with_for_update())
        run = progress.find(conn, run_id, number)
        if run.state not in UNFINISHED:
            raise Conflict(f"This run is over: it {run.state if run.state != 'waiting' else 'succeeded'}.")
        conn.execute(sa.update(runs).where(runs.c.id == run_id).values(cancel_asked=True))
        if run.state == "queued":
            progress.close(conn, run, "cancelled", now, error=CANCELLED)
        return progress.find(conn, run_id)

    run = await ctx.app.db.write(write)
    ctx.app.bells.runs.ring()
    ctx.app.bells.progress.ring()
    return run


Prepare = Callable[[App, Run], Awaitable[Source]]


async def _source_of_stream(app: App, run: Run) -> Source:
    dataset = await app.db.read(partial(datasets.by_number, number=run.dataset))
    return await _pull(own_context(app, run.workspace_id), dataset)


SOURCES: dict[str, Prepare] = {
    "auto": _source_of_stream,
    "full": _source_of_stream,
    "incremental": _source_of_stream,
    "upload": uploads.reading,
}
"""Where the records of a run come from, by its mode."""


@dataclass(slots=True)
class _Turn:
    """What a look at the runs came to."""

    claimed: list[Run] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    more: bool = False


async def run_due(app: App) -> bool:
    """Begin what is due by schedule, claim runs that nobody works, keep the claims of those under way; tell whether more is due."""
    crew = _crew(app)
    await _collect(app, crew)
    now = app.clock.now()
    if app.stopping or not await app.db.read(partial(_has_news, crew, now)):
        return False
    turn = await app.db.write(partial(_take_turn, app, crew, now))
    for working in crew.working.values():
        working.held_until = now + LEASE
    for run in turn.claimed:
        _begin(app, crew, run)
    for run_id in turn.cancelled:
        working = crew.working[run_id]
        working.is_cancelled = True
        working.task.cancel()
    return turn.more


_NOW: sa.BindParameter[datetime] = sa.bindparam("now", type_=Time)
_MINE = runs.c.id.in_(sa.bindparam("mine", expanding=True))
_ASKED = sa.select(runs.c.id).where(_MINE, runs.c.cancel_asked)
_DUE = (
    sa.select(runs.c.id, runs.c.workspace_id)
    .where(
        runs.c.state.in_([sa.literal_column("'queued'"), sa.literal_column("'running'")]),
        runs.c.due_at <= _NOW,
        runs.c.mode.in_(sa.bindparam("modes", expanding=True)),
        sa.not_(_MINE),
        runs.c.workspace_id.not_in(sa.bindparam("full", expanding=True)),
    )
    .order_by(runs.c.due_at)
    .limit(sa.bindparam("room"))
)
_TAKEN = _DUE.with_for_update(skip_locked=True)
_CLAIM = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("run"))
    .values(
        state="running",
        claimed_by=sa.bindparam("worker"),
        claimed_until=sa.bindparam("until"),
        due_at=sa.bindparam("until"),
        attempts=runs.c.attempts + 1,
        started_at=sa.func.coalesce(runs.c.started_at, _NOW),
    )
)
_KEEP = (
    sa.update(runs)
    .where(_MINE, runs.c.claimed_by == sa.bindparam("worker"), runs.c.state == "running")
    .values(claimed_until=sa.bindparam("until"), due_at=sa.bindparam("until"))
)
_SOONEST = sa.select(sa.func.min(dataset_rows.c.next_run_at))
_SCHEDULED = (
    sa.select(dataset_rows)
    .where(dataset_rows.c.next_run_at <= _NOW)
    .order_by(dataset_rows.c.next_run_at)
    .limit(_SCHEDULED_AT_ONCE)
    .with_for_update(skip_locked=True)
)


def _given(crew: _Crew, now: datetime) -> dict[str, Any]:
    mine = list(crew.working)
    room = AT_ONCE - len(mine)
    return {"now": now, "mine": mine, "full": crew.full(), "room": room, "modes": list(SOURCES)}


def _has_news(crew: _Crew, now: datetime, conn: Connection) -> bool:
    """Tell whether there is anything to write: most looks find nothing."""
    given = _given(crew, now)
    if any(each.held_until - now < LEASE * 2 / 3 for each in crew.working.values()):
        return True
    if any(run_id for run_id in conn.scalars(_ASKED, given) if not crew.working[run_id].is_cancelled):
        return True
    soonest = conn.scalar(_SOONEST)
    if soonest is not None and soonest <= now:
        return True
    return given["room"] > 0 and conn.scalar(_DUE, given) is not None


def _take_turn(app: App, crew: _Crew, now: datetime, conn: Connection) -> _Turn:
    turn = _Turn()
    turn.more = _begin_scheduled(conn, now)
    given = _given(crew, now) | {"worker": app.worker, "until": now + LEASE}
    if crew.working:
        conn.execute(_KEEP, given)
        asked = conn.scalars(_ASKED, given)
        turn.cancelled = [run_id for run_id in asked if not crew.working[run_id].is_cancelled]
    if given["room"] > 0:
        due, busy = conn.execute(_TAKEN, given).all(), crew.busy()
        for row in due:
            busy[row.workspace_id] += 1
            if busy[row.workspace_id] > PER_WORKSPACE:
                turn.more = True
                continue
            conn.execute(_CLAIM, given | {"run": row.id})
            turn.claimed.append(progress.find(conn, row.id))
    return turn


def _begin_scheduled(conn: Connection, now: datetime) -> bool:
    """Begin the runs that are due by schedule, and say when each dataset is due next; a busy one is left out this time."""
    due = [datasets.from_row(row) for row in conn.execute(_SCHEDULED, {"now": now}).mappings()]
    for dataset in due:
        following = dataset.schedule and timetable.next_after(dataset.schedule, now, dataset.next_run_at)
        change = sa.update(dataset_rows).where(dataset_rows.c.number == dataset.number)
        conn.execute(change.values(next_run_at=following or None))
        if dataset.run_id is None and dataset.integration_id is not None and following:
            progress.open_run(conn, dataset, _usual(dataset), now, made_by="schedule")
    return len(due) == _SCHEDULED_AT_ONCE


def _begin(app: App, crew: _Crew, run: Run) -> None:
    drive = Drive(app, run, partial(SOURCES[run.mode], app))
    task = asyncio.ensure_future(_work(crew, run, drive))
    crew.working[run.id] = _Working(run, drive, task, app.clock.now() + LEASE)
    task.add_done_callback(lambda _: app.bells.runs.ring())


async def _work(crew: _Crew, run: Run, drive: Drive) -> None:
    try:
        await drive.work()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not crew.working[run.id].is_cancelled:
            raise
        task.uncancel()
        await drive.give_up("cancelled", CANCELLED)


async def _collect(app: App, crew: _Crew) -> None:
    """Forget runs that have ended; of one that broke, say so and end it."""
    for run_id, working in [each for each in crew.working.items() if each[1].task.done()]:
        error = None if working.task.cancelled() else working.task.exception()
        if error is None or isinstance(error, LostError | Unavailable):
            del crew.working[run_id]
        elif working.task.get_name() == "ending":
            del crew.working[run_id]
            _LOG.error("a run could not be ended", run_id=run_id, exc_info=error)
        else:
            _LOG.error("a run broke", run_id=run_id, exc_info=error)
            text = (
                error.message if isinstance(error, TrunklineError) else "Internal error; the log says more."
            )
            working.task = asyncio.create_task(working.drive.give_up("failed", text), name="ending")
            working.task.add_done_callback(lambda _: app.bells.runs.ring())


async def stop(app: App) -> None:
    """Let go of the runs under way: another worker, or the next start, takes them up where they are."""
    crew = _crew(app)
    tasks = [each.task for each in crew.working.values()]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
        held = sa.update(runs).where(runs.c.claimed_by == app.worker, runs.c.state == "running")
        now = app.clock.now()
        free = held.values(claimed_by=None, claimed_until=None, due_at=now, attempts=0)
        await app.db.write(lambda conn: conn.execute(free).rowcount)
    crew.working.clear()
