"""One run from beginning to end: pull, take out what is gone, wait for the index, go live; or give up and undo.

Each step ends in one transaction that holds its records, its counts, the run's place and what watchers are told, and
that fails when the run is another worker's meanwhile. So whoever takes the run up goes on at its place. Who does is
`sync.py`'s.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.errors import Broken, Conflict, RemoteFailed, TrunklineError, Unavailable
from trunkline.services import datasets, history, index, progress, quarantine, versions
from trunkline.services.progress import Run, RunEvent
from trunkline.services.pulling import Batch
from trunkline.services.versions import Row
from trunkline.tables import run_keys, runs

LEASE = timedelta(seconds=15)
"""How long a run stays with a worker that says nothing."""
MOST_BAD = 10_000
"""A run with more records that cannot be stored fails: it is not they that are at fault."""
MOST_ATTEMPTS = 5
_ROWS_AT_ONCE, _CHARACTERS_AT_ONCE = 2_000, 4 * 1024 * 1024
_KEYS_AT_ONCE = 5_000
_INDEX_SECONDS = 0.25


CANCELLED = "Cancelled."


class LostError(Conflict):
    """The run is another worker's."""


class _CancelledError(Conflict):
    """Somebody cancelled the run."""


class Source(Protocol):
    """Where a run's records come from."""

    name: str
    """What its versions say that they are from."""

    def mode(self, wanted: str, cursor: Any) -> str:
        """Settle how the run goes, `full` when what it does not find is to be taken out."""
        ...

    def start_at(self, cursor: Any) -> None:
        """Say where to begin: after a cursor, or at the start."""
        ...

    def reached(self, newest: Any, started: datetime, now: datetime) -> Any:
        """Return the cursor at which the next run begins, None for where this one did."""
        ...

    def batches(self, place: Mapping[str, Any] | None) -> AsyncGenerator[Batch, None]:
        """Give what there is to store from a place on."""
        ...


class _Held(NamedTuple):
    number: int
    fetched: int
    pages: int
    cancel_asked: bool


_MINE = (
    runs.c.id == sa.bindparam("run"),
    runs.c.claimed_by == sa.bindparam("worker"),
    runs.c.state == sa.literal_column("'running'"),
)
_IS_MINE = sa.select(runs.c.id).where(*_MINE).with_for_update()
_HOLD = (
    sa.update(runs)
    .where(*_MINE)
    .values(
        attempts=0,
        claimed_until=sa.bindparam("until"),
        due_at=sa.bindparam("until"),
        place=sa.bindparam("now_at", type_=runs.c.place.type),
        version=sa.bindparam("of_version"),
        fetched=runs.c.fetched + sa.bindparam("more"),
        pages=runs.c.pages + sa.bindparam("more_pages"),
        last_event=runs.c.last_event + sa.bindparam("events"),
    )
    .returning(runs.c.last_event, runs.c.fetched, runs.c.pages, runs.c.cancel_asked)
)
_SEEN = sa.select(run_keys.c.hashes).where(run_keys.c.run_id == sa.bindparam("run"))


class Drive:
    """A run that this worker has claimed."""

    def __init__(self, app: App, run: Run, prepare: Callable[[Run], Awaitable[Source]]) -> None:
        self._app = app
        self._run = run
        self._prepare = prepare
        self._place: dict[str, Any] = run.place or {"phase": "pull"}
        self._version = run.version
        self._base: int | None = None
        self._totals = {name: getattr(run, name) for name in ("added", "changed", "removed", "quarantined")}

    async def work(self) -> None:
        """Go on where the run is, to its end; what goes wrong with it is its end as well.

        Raises:
            Unavailable: the database; the run stays as it is, to be taken up again.
        """
        steps = {"pull": self._pull, "sweep": self._sweep, "end": self._end}
        try:
            if self._run.cancel_asked:
                raise _CancelledError(CANCELLED)
            if self._run.attempts > MOST_ATTEMPTS:
                raise Conflict(f"The run was taken up {MOST_ATTEMPTS} times and never got any further.")
            while (step := steps.get(self._place["phase"])) is not None:
                await step()
        except (LostError, Unavailable):
            raise
        except TrunklineError as error:
            internal = isinstance(error, Broken)
            state = "cancelled" if isinstance(error, _CancelledError) else "failed"
            await self.give_up(state, "Internal error; the log says more." if internal else error.message)
        else:
            if self._place["phase"] == "undo":
                await self.give_up(self._place["state"], self._place["error"])

    async def give_up(self, state: str, error: str) -> None:
        """End the run as failed or cancelled; what it wrote is undone first, the cursor stays where it was."""
        app, run = self._app, self._run
        await self._write(partial(self._hold, place={"phase": "undo", "state": state, "error": error}))
        if self._version is not None:
            await versions.undo(app, run.dataset, self._version, error)

        def end(conn: Connection) -> None:
            self._hold_with_dataset(conn)
            progress.close(conn, run, state, app.clock.now(), error=error, data=self._counts())

        await self._write(end)
        app.bells.events.ring()

    async def _write(self, write: Any) -> Any:
        result = await self._app.db.write(write)
        self._app.bells.progress.ring()
        return result

    def _hold(self, conn: Connection, place: Any, more: int = 0, pages: int = 0, events: int = 0) -> _Held:
        """Put the run at a place, if it is still this worker's."""
        given = {
            "run": self._run.id,
            "worker": self._app.worker,
            "until": self._app.clock.now() + LEASE,
            "now_at": place,
            "of_version": self._version,
            "more": more,
            "more_pages": pages,
            "events": events,
        }
        row = conn.execute(_HOLD, given).one_or_none()
        if row is None:
            raise LostError
        return _Held(*row)

    def _hold_with_dataset(self, conn: Connection) -> _Held:
        """Keep the run where it is, for a step that changes its dataset: that is locked first, as by whoever cancels."""
        datasets.by_number(conn, self._run.dataset, lock=True)
        return self._hold(conn, self._place)

    def _counts(self) -> dict[str, Any]:
        return {"version": self._version, **self._totals}

    async def _pull(self) -> None:
        source = await self._prepare(self._run)
        source.start_at(await self._begin(source))
        is_tracked = self._run.mode == "full" and self._base is not None
        storing: asyncio.Task[None] | None = None
        batches = source.batches(self._place.get("at"))
        try:
            async for batch in batches:
                if storing is not None:
                    await storing
                place = self._after(source, batch, is_tracked=is_tracked)
                storing = asyncio.ensure_future(self._store(batch, place, is_tracked=is_tracked))
            if storing is not None:
                await storing
        finally:
            await batches.aclose()
            if storing is not None:  # what comes after must not overtake it
                await asyncio.wait([storing])
                if not storing.cancelled():
                    storing.exception()  # looked at: when the run is cancelled, nobody else does

    async def _begin(self, source: Source) -> Any:
        """Begin a version, or find the one that was begun; return the cursor to start from."""
        app, run, place = self._app, self._run, self._place

        def begin(conn: Connection) -> tuple[versions.Version, Run]:
            if self._version is not None:
                return versions.find(conn, run.dataset, self._version), run
            datasets.by_number(conn, run.dataset, lock=True)
            if conn.execute(_IS_MINE, {"run": run.id, "worker": app.worker}).first() is None:
                raise LostError
            about = {"run_id": run.id, "made_by": run.made_by, "notes": place.get("notes")}
            version = versions.begin(conn, run.dataset, app.clock.now(), source=source.name, **about)
            mode = source.mode(run.mode, version.cursor)
            begun = sa.update(runs).where(runs.c.id == run.id)
            conn.execute(begun.values(version=version.number, mode=mode))
            return version, progress.find(conn, run.id)

        version, self._run = await app.db.write(begin)
        self._version, self._base = version.number, version.base
        await versions.prepare(app, run.dataset, version.number)
        return None if self._run.mode == "full" else place.get("since") or version.cursor

    def _after(self, source: Source, batch: Batch, *, is_tracked: bool) -> dict[str, Any]:
        """Say where the run is when a batch is stored."""
        if batch.place is not None:
            return {**self._place, "phase": "pull", "at": batch.place}
        now = self._app.clock.now()
        cursor = source.reached(batch.newest, self._run.started_at or now, now)
        return {"phase": "sweep" if is_tracked else "end", "cursor": cursor}

    async def _store(self, batch: Batch, place: dict[str, Any], *, is_tracked: bool) -> None:
        """Take a page in, in parts that hold up nobody; the place moves on with the last."""
        *most, last = parts(batch.rows)
        for part in most:
            await self._store_part(
                Batch(part, [], [], 0, None, None, batch.total), None, is_tracked=is_tracked
            )
        batch.rows = last
        await self._store_part(batch, place, is_tracked=is_tracked)

    async def _store_part(self, batch: Batch, place: dict[str, Any] | None, *, is_tracked: bool) -> None:
        app, run, version = self._app, self._run, self._version or 0
        now, totals, before = app.clock.now(), self._totals, self._place

        def store(conn: Connection) -> tuple[_Held, dict[str, int]]:
            held = self._hold(conn, place or before, batch.fetched, 0 if place is None else 1, 1)
            counts = versions.write_page(conn, run.dataset, version, batch.rows)
            gone = versions.remove(conn, run.dataset, version, batch.gone) if batch.gone else None
            if batch.bad:
                quarantine.add(conn, run.dataset, version, batch.bad, now)
            if is_tracked:
                keys = [row.key for row in batch.rows] + batch.kept
                hashes = array("q", map(key_hash, keys)).tobytes()
                conn.execute(sa.insert(run_keys).values(run_id=run.id, number=held.number, hashes=hashes))
            new = {
                "added": totals["added"] + counts.added,
                "changed": totals["changed"] + counts.changed,
                "removed": totals["removed"] + counts.removed + (gone.removed if gone else 0),
                "quarantined": totals["quarantined"] + len(batch.bad),
            }
            about = {"run_id": run.id, "version": version, "fetched": held.fetched, "pages": held.pages}
            event = RunEvent(held.number, "progress", {**about, **new, "total": batch.total}, now)
            progress.told(conn, run.id, event)
            return held, new

        held, self._totals = await self._write(store)
        self._place = place or before
        app.bells.index.ring()
        if held.cancel_asked:
            raise _CancelledError(CANCELLED)
        if self._totals["quarantined"] > MOST_BAD:
            raise RemoteFailed(f"More than {MOST_BAD:,} records cannot be stored; the quarantine says why.")

    async def _sweep(self) -> None:
        """Take out the records that a full run did not find."""
        run, version = self._run, self._version or 0
        blobs = await self._app.db.read(lambda conn: list(conn.scalars(_SEEN, {"run": run.id})))
        seen = await asyncio.to_thread(Seen, blobs)
        after: str | None = self._place.get("after")
        while True:
            read = partial(history.open_keys, dataset=run.dataset, after=after, most=_KEYS_AT_ONCE)
            keys = await self._app.db.read(read)
            gone = await asyncio.to_thread(seen.without, keys)
            after = keys[-1] if keys else after
            is_last = len(keys) < _KEYS_AT_ONCE
            cursor = self._place["cursor"]
            place = (
                {"phase": "end", "cursor": cursor}
                if is_last
                else {"phase": "sweep", "cursor": cursor, "after": after}
            )

            def take_out(
                conn: Connection, gone: Sequence[str] = gone, place: dict[str, Any] = place
            ) -> tuple[_Held, int]:
                return self._hold(conn, place), versions.remove(conn, run.dataset, version, gone).removed

            if gone or is_last:
                held, removed = await self._write(take_out)
                self._place = place
                self._totals = {**self._totals, "removed": self._totals["removed"] + removed}
                if held.cancel_asked:
                    raise _CancelledError(CANCELLED)
            if is_last:
                return

    async def _end(self) -> None:
        """Go live, or wait for a person, once everything can be found by search."""
        app, run, number = self._app, self._run, self._version or 0
        while True:
            rung = app.bells.index.rung
            if await app.db.read(partial(index.is_complete, dataset=run.dataset, version=number)):
                break
            await app.bells.index.wait(_INDEX_SECONDS, since=rung)

        def end(conn: Connection) -> None:
            now, cursor = app.clock.now(), self._place["cursor"]
            held = self._hold_with_dataset(conn)
            unchanged = versions.forgo(conn, run.dataset, number, cursor)
            about = {"fetched": held.fetched, "pages": held.pages, "unchanged": unchanged}
            if unchanged:
                conn.execute(sa.update(runs).where(runs.c.id == run.id).values(version=None))
                live = datasets.by_number(conn, run.dataset).active_version
                data = {**self._counts(), **about, "version": live}
                progress.close(conn, run, "succeeded", now, data=data)
                return
            version = versions.finish(conn, run.dataset, number, now, cursor=cursor)
            state = "waiting" if version.status == "waiting" else "succeeded"
            data = {**self._counts(), **about}
            progress.close(conn, run, state, now, data=data, error=version.reason)

        await self._write(end)
        self._place = {"phase": "over"}
        app.bells.events.ring()
        await versions.prune(app, run.dataset)


def parts(rows: list[Row]) -> Iterator[list[Row]]:
    """Cut rows into parts that can be written at once, at least one."""
    part: list[Row] = []
    size = 0
    for row in rows:
        if part and (len(part) == _ROWS_AT_ONCE or size > _CHARACTERS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.data)
    yield part


def key_hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little", signed=True)


class Seen:
    """Which keys there were: 8 bytes for each, however many."""

    def __init__(self, blobs: Collection[bytes]) -> None:
        self._shelves = [array("q") for _ in range(256)]
        for blob in blobs:
            for hash_ in array("q", bytes(blob)):
                self._shelves[hash_ & 255].append(hash_)
        self._shelves = [array("q", sorted(shelf)) for shelf in self._shelves]

    def without(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that there were not."""
        return [key for key in keys if not self._has(key_hash(key))]

    def _has(self, hash_: int) -> bool:
        shelf = self._shelves[hash_ & 255]
        at = bisect_left(shelf, hash_)
        return at < len(shelf) and shelf[at] == hash_
