"""Runs as rows: opened one at a time for a dataset, what their watchers are told, closed. What a run does is `sync.py`'s.

Each thing told has the next number of its run and is stored, so that any number of watchers, of any process, see
the same and go on where they left off. The last is `complete` or `error`.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Conflict, NotFound, TooMany
from trunkline.ids import new_id
from trunkline.services import datasets, events
from trunkline.services.datasets import Dataset
from trunkline.services.events import NewEvent
from trunkline.tables import datasets as dataset_rows
from trunkline.tables import plain, run_events, run_keys, runs, versions

BUSY = "A sync is already in progress for this dataset; wait for it to end, or cancel it."
LOOK_SECONDS = 0.5
"""How long what another process told may stay unseen."""
KEEP_ALIVE_SECONDS = 15.0
MAX_WATCHERS = 100
"""Most streams of runs of one workspace at a time, in one process."""
ENDINGS = frozenset({"complete", "error"})
UNFINISHED = frozenset({"queued", "running"})
KEPT_RUNS, KEPT_EVENTS = 1_000, 20
"""How many of a dataset's runs are remembered, and of how many what their watchers were told."""
_AT_ONCE = 500

_watching: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class Run:
    """One run; its counts are of its version, which is gone when nothing had changed."""

    id: str
    workspace_id: str
    dataset: int
    version: int | None
    mode: str
    state: str
    due_at: datetime
    claimed_by: str | None
    claimed_until: datetime | None
    cancel_asked: bool
    attempts: int
    place: Any
    fetched: int
    pages: int
    last_event: int
    error: str | None
    made_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    added: int = 0
    changed: int = 0
    removed: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that watchers are told: `progress`, `complete` or `error`."""

    number: int
    type: str
    data: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list and the size of the whole."""

    items: list[Run]
    total: int


_COUNTS = [
    sa.func.coalesce(versions.c[name], 0).label(name)
    for name in ("added", "changed", "removed", "quarantined")
]
_SHOWN = sa.select(runs, *_COUNTS).outerjoin(
    versions, sa.and_(versions.c.dataset == runs.c.dataset, versions.c.number == runs.c.version)
)
_ONE = _SHOWN.where(runs.c.id == sa.bindparam("run"))


def find(conn: Connection, run_id: str, dataset: int | None = None) -> Run:
    """Return a run, of one dataset if so wanted.

    Raises:
        NotFound
    """
    row = conn.execute(_ONE, {"run": run_id}).mappings().one_or_none()
    if row is None or dataset not in {None, row["dataset"]}:
        raise NotFound("Run not found")
    return Run(**plain(row))


async def get(ctx: Context, dataset_id: str, run_id: str) -> Run:
    """Return a run of a dataset of the caller's workspace.

    Raises:
        NotFound
    """

    def read(conn: Connection) -> Run:
        return find(conn, run_id, datasets.find(conn, ctx.workspace_id, dataset_id).number)

    return await ctx.app.db.read(read)


async def list_page(ctx: Context, dataset_id: str, limit: int, offset: int = 0) -> Page:
    """List the runs of a dataset, newest first.

    Raises:
        NotFound
    """

    def read(conn: Connection) -> Page:
        where = runs.c.dataset == datasets.find(conn, ctx.workspace_id, dataset_id).number
        query = _SHOWN.where(where).order_by(runs.c.created_at.desc(), runs.c.id.desc())
        found = conn.execute(query.slice(offset, offset + limit)).mappings()
        total = conn.scalar(sa.select(sa.func.count()).select_from(runs).where(where))
        return Page([Run(**plain(row)) for row in found], int(total or 0))

    return await ctx.app.db.read(read)


def open_run(
    conn: Connection,
    dataset: Dataset,
    mode: str,
    now: datetime,
    *,
    made_by: str | None = None,
    place: Any = None,
    state: str = "queued",
) -> Run:
    """Begin a run, which holds its dataset until it is closed; the caller rings `app.bells.runs` once that is committed.

    Raises:
        Conflict: another run holds the dataset.
    """
    run_id = new_id()
    free = sa.and_(dataset_rows.c.number == dataset.number, dataset_rows.c.run_id.is_(None))
    if not conn.execute(sa.update(dataset_rows).where(free).values(run_id=run_id)).rowcount:
        raise Conflict(BUSY)
    values = {
        "id": run_id,
        "workspace_id": dataset.workspace_id,
        "dataset": dataset.number,
        "mode": mode,
        "state": state,
        "due_at": now,
        "cancel_asked": False,
        "attempts": 0,
        "place": place,
        "fetched": 0,
        "pages": 0,
        "last_event": 0,
        "made_by": made_by,
        "created_at": now,
        "started_at": None if state == "queued" else now,
    }
    conn.execute(sa.insert(runs), values)
    return find(conn, run_id)


_NUMBER = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("run"))
    .values(last_event=runs.c.last_event + 1)
    .returning(runs.c.last_event)
)
_TELL = sa.insert(run_events)


def tell(conn: Connection, run_id: str, type: str, data: Mapping[str, Any], now: datetime) -> int:
    """Tell watchers something and return its number; the caller rings `app.bells.progress` once that is committed."""
    number = int(conn.scalar(_NUMBER, {"run": run_id}) or 0)
    told(conn, run_id, RunEvent(number, type, dict(data), now))
    return number


def told(conn: Connection, run_id: str, event: RunEvent) -> None:
    """Tell watchers something under a number that the caller has taken."""
    given = {"run_id": run_id, "number": event.number, "type": event.type, "data": event.data, "at": event.at}
    conn.execute(_TELL, given)


def close(
    conn: Connection,
    run: Run,
    state: str,
    now: datetime,
    *,
    data: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> None:
    """End a run as succeeded, waiting, failed or cancelled: it lets go of its dataset, and its watchers and the log are told.

    The caller rings `app.bells.progress` and `app.bells.events` once that is committed.

    Args:
        data: what `complete` tells beside the run's id and state.
        error: why it failed or waits.
    """
    dataset = datasets.by_number(conn, run.dataset, lock=True)
    is_good = state in {"succeeded", "waiting"}
    ended = {"state": state, "error": error, "finished_at": now, "claimed_by": None, "claimed_until": None}
    conn.execute(sa.update(runs).where(runs.c.id == run.id).values(place=None, **ended))
    synced = {"last_synced_at": now} if is_good else {}
    freed = {"run_id": None, "last_status": state, "last_error": error, **synced}
    held = sa.and_(dataset_rows.c.number == run.dataset, dataset_rows.c.run_id == run.id)
    conn.execute(sa.update(dataset_rows).where(held).values(freed))
    about = {"run_id": run.id, "state": state, "message": error} | dict(data or {})
    tell(conn, run.id, "complete" if is_good else "error", about, now)
    conn.execute(sa.delete(run_keys).where(run_keys.c.run_id == run.id))
    _forget(conn, run.dataset)
    if state != "cancelled":
        events.append(conn, run.workspace_id, [_fact(dataset, run, state, about, now)], now)


def _forget(conn: Connection, dataset: int) -> None:
    of_dataset = sa.select(runs.c.id).where(runs.c.dataset == dataset)
    newest_first = of_dataset.order_by(runs.c.created_at.desc(), runs.c.id.desc())
    untold = list(conn.scalars(newest_first.offset(KEPT_EVENTS).limit(5)))
    gone = list(conn.scalars(newest_first.offset(KEPT_RUNS).limit(100)))
    conn.execute(sa.delete(run_events).where(run_events.c.run_id.in_(untold + gone)))
    if gone:
        conn.execute(sa.delete(runs).where(runs.c.id.in_(gone)))


def _fact(dataset: Dataset, run: Run, state: str, about: Mapping[str, Any], now: datetime) -> NewEvent:
    return NewEvent(
        type=f"sync.{state}",
        time=now,
        subject=dataset.id,
        title=f"{dataset.name}: {run.mode} run {state}",
        severity="medium" if state == "failed" else None,
        integration_id=dataset.integration_id,
        data={"dataset_id": dataset.id, "dataset": dataset.name, "mode": run.mode, **about},
    )


_AFTER = (
    sa.select(run_events.c.number, run_events.c.type, run_events.c.data, run_events.c.at)
    .where(run_events.c.run_id == sa.bindparam("run"), run_events.c.number > sa.bindparam("after"))
    .order_by(run_events.c.number)
    .limit(_AT_ONCE)
)
_STATE = sa.select(runs.c.state).where(runs.c.id == sa.bindparam("run"))


async def watch(
    app: App, run_id: str, after: int = 0, *, keep_alive: float | None = None
) -> AsyncGenerator[RunEvent | None, None]:
    """Follow what a run's watchers are told, after a number, until it has ended or this process stops.

    Args:
        keep_alive: yield None when there was nothing for so many seconds.
    """
    bell, heard_at = app.bells.progress, app.clock.monotonic()

    def look(conn: Connection) -> tuple[list[RunEvent], bool]:
        # The state first: what is told with the end must not come between the two.
        is_over = conn.scalar(_STATE, {"run": run_id}) not in UNFINISHED
        found = conn.execute(_AFTER, {"run": run_id, "after": after})
        return [RunEvent(*row) for row in found], is_over

    while not app.stopping:
        rung = bell.rung
        news, is_over = await app.db.read(look)
        for event in news:
            after = event.number
            yield event
            if event.type in ENDINGS:
                return
        if is_over and not news:
            return
        now = app.clock.monotonic()
        if news:
            heard_at = now
        elif keep_alive is not None and now - heard_at >= keep_alive:
            heard_at = now
            yield None
        if len(news) < _AT_ONCE:
            await bell.wait(LOOK_SECONDS, since=rung)


async def follow(
    ctx: Context, dataset_id: str, run_id: str, after: int
) -> AsyncGenerator[RunEvent | None, None]:
    """Begin to watch a run of the caller's workspace, with a None now and then.

    Raises:
        NotFound
        TooMany: the workspace has as many such streams as it may.
    """
    await get(ctx, dataset_id, run_id)
    if _watching[ctx.workspace_id] >= MAX_WATCHERS:
        raise TooMany(f"This workspace watches {MAX_WATCHERS} runs already; close a stream.", retry_after=15)
    return _counted(ctx.workspace_id, watch(ctx.app, run_id, after, keep_alive=KEEP_ALIVE_SECONDS))


async def _counted(
    workspace_id: str, watching: AsyncGenerator[RunEvent | None, None]
) -> AsyncGenerator[RunEvent | None, None]:
    _watching[workspace_id] += 1
    try:
        async for event in watching:
            yield event
    finally:
        await watching.aclose()
        _watching[workspace_id] -= 1
        if not _watching[workspace_id]:
            del _watching[workspace_id]
