"""The immutable states of a dataset: begun, written page by page, finished, made active, undone, rolled back, pruned.

Only who holds the dataset's `run_id` begins and writes one. Which rows that comes to is `history.py`'s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Broken, Conflict, NotFound
from trunkline.ids import new_id
from trunkline.services import datasets, events, gate, history
from trunkline.services.datasets import Dataset
from trunkline.services.events import NewEvent
from trunkline.services.history import Counts, Place, Row, to_row
from trunkline.tables import datasets as dataset_rows
from trunkline.tables import plain, quarantine, versions

__all__ = ["Counts", "Row", "to_row"]

KEPT = 7
"""Versions that stay beside the active one."""
LOGGED = 1_000
"""Numbers whose version is remembered, even if its records are not."""
_SAMPLE, _SAMPLE_BYTES = 500, 4 * 1024 * 1024  # from either end of the keys
_STREAMED = {"stream_results": True, "max_row_buffer": 8}  # else the driver would fetch all of it
_KEPT_STATES = ("ingesting", "waiting", "active", "inactive")
_PAUSE_SECONDS = 0.02  # between batches, so that moving much at once holds up nobody


@dataclass(frozen=True, slots=True)
class Version:
    """One version; `added`, `changed` and `removed` are against its base."""

    dataset: int
    number: int
    id: str
    workspace_id: str
    base: int | None
    status: str
    is_ready: bool
    source: str
    run_id: str | None
    added: int
    changed: int
    removed: int
    total: int
    quarantined: int
    fields: dict[str, Any] | None
    cursor: Any
    reason: str | None
    notes: str | None
    made_by: str | None
    created_at: datetime
    finished_at: datetime | None
    activated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list and the size of the whole."""

    items: list[Version]
    total: int
    offset: int = 0


def from_row(row: sa.RowMapping) -> Version:
    """Read a version as it is stored."""
    return Version(**plain(row))


_OF_DATASET = versions.c.dataset == sa.bindparam("of")
_ONE = sa.and_(_OF_DATASET, versions.c.number == sa.bindparam("at"))
_GET = sa.select(versions).where(_ONE)
_STATE = sa.select(versions.c.base, versions.c.status, versions.c.is_ready).where(_ONE).with_for_update()
_COUNT = (
    sa.update(versions)
    .where(_ONE)
    .values(
        added=versions.c.added + sa.bindparam("more_added"),
        changed=versions.c.changed + sa.bindparam("more_changed"),
        removed=versions.c.removed + sa.bindparam("more_removed"),
        total=versions.c.total + sa.bindparam("more_added") - sa.bindparam("more_removed"),
    )
)


def find(conn: Connection, dataset: int, number: int, *, lock: bool = False) -> Version:
    """Return a version, held until the transaction ends if so wanted.

    Raises:
        NotFound
    """
    query = _GET.with_for_update() if lock else _GET
    row = conn.execute(query, {"of": dataset, "at": number}).mappings().one_or_none()
    if row is None:
        raise NotFound("Version not found")
    return from_row(row)


def _set(conn: Connection, dataset: int, number: int, **values: Any) -> None:
    conn.execute(sa.update(versions).where(_ONE), {"of": dataset, "at": number, **values})


def begin(
    conn: Connection,
    dataset: int,
    now: datetime,
    *,
    source: str,
    run_id: str | None = None,
    made_by: str | None = None,
    notes: str | None = None,
) -> Version:
    """Begin the next version, on the records of the active one; whoever calls holds the dataset's `run_id`.

    After a roll back of much it is not ready: `prepare` it before its first page. A version that somebody else left
    unfinished is given up.

    Raises:
        NotFound
    """
    found = datasets.by_number(conn, dataset, lock=True)
    left = sa.update(versions).where(_OF_DATASET, versions.c.status == "ingesting")
    given_up = {"status": "failed", "reason": "Given up: another version was begun.", "finished_at": now}
    conn.execute(left, {"of": dataset, **given_up})
    base = find(conn, dataset, found.active_version) if found.active_version else None
    number = found.newest_version + 1
    values = {
        "dataset": dataset,
        "number": number,
        "id": new_id(),
        "workspace_id": found.workspace_id,
        "base": found.active_version,
        "status": "ingesting",
        "is_ready": False,
        "source": source,
        "run_id": run_id,
        "added": 0,
        "changed": 0,
        "removed": 0,
        "total": base.total if base else 0,
        "quarantined": 0,
        "cursor": found.cursor,
        "notes": notes,
        "made_by": made_by,
        "created_at": now,
    }
    conn.execute(sa.insert(versions), values)
    _set_dataset(conn, dataset, newest_version=number)
    continue_base(conn, dataset, number)
    return find(conn, dataset, number)


def _set_dataset(conn: Connection, dataset: int, **values: Any) -> None:
    conn.execute(sa.update(dataset_rows).where(dataset_rows.c.number == dataset), values)


def continue_base(conn: Connection, dataset: int, number: int, place: Place | None = None) -> Place | None:
    """Make a begun version ready, some of the way; return where to go on, or None when it is ready."""
    version = find(conn, dataset, number, lock=True)
    if version.is_ready:
        return None
    _check_ingesting(version.status, number)
    place = history.rebase(conn, dataset, number, version.base or 0, place)
    if place is None:
        _set(conn, dataset, number, is_ready=True)
    return place


async def prepare(app: App, dataset: int, number: int) -> None:
    """Make a begun version ready for its pages, in batches; one that is ready costs nothing but a look.

    Raises:
        NotFound
        Conflict: the version was given up.
    """
    place = await app.db.write(partial(continue_base, dataset=dataset, number=number))
    while place is not None:
        step = partial(continue_base, dataset=dataset, number=number, place=place)
        place = await app.db.write(step)


def _check_ingesting(status: str, number: int) -> None:
    if status != "ingesting":
        raise Conflict(f"Version {number} takes no more records: it is {status}.")


def write_page(conn: Connection, dataset: int, number: int, rows: Collection[Row]) -> Counts:
    """Take records into a version that was begun; of several with one key the last counts.

    Raises:
        Conflict: the version is finished or was given up.
    """
    return _apply(conn, dataset, number, {row[0]: Row._make(row) for row in rows})


def remove(conn: Connection, dataset: int, number: int, keys: Collection[str]) -> Counts:
    """Take records out of a version that was begun; keys that it does not have are ignored.

    Raises:
        Conflict: the version is finished or was given up.
    """
    return _apply(conn, dataset, number, dict.fromkeys(keys))


def _apply(conn: Connection, dataset: int, number: int, wanted: Mapping[str, Row | None]) -> Counts:
    state = conn.execute(_STATE, {"of": dataset, "at": number}).one()
    _check_ingesting(state.status, number)
    if not state.is_ready:
        raise Broken("A version was written before it was prepared.")
    if not wanted:
        return Counts()
    counts = history.apply(conn, dataset, number, state.base or 0, wanted)
    if counts[:3] != (0, 0, 0):
        more = {
            "more_added": counts.added,
            "more_changed": counts.changed,
            "more_removed": counts.removed,
        }
        conn.execute(_COUNT, {"of": dataset, "at": number, **more})
    return counts


def finish(
    conn: Connection,
    dataset: int,
    number: int,
    now: datetime,
    *,
    cursor: Any = None,
    gated: bool = True,
    hold: str | None = None,
) -> Version:
    """End a version: it is active at once, or waits for a person because of the gate or because of a roll back meanwhile.

    The caller rings `app.bells.events` once the transaction is committed.

    Args:
        cursor: where the next incremental run begins; None: where this one did.
        gated: what a person edits is not held.
        hold: why it waits all the same, if only until the caller lets it go live; nobody is told.

    Raises:
        Conflict: the version is finished or was given up.
    """
    found = datasets.by_number(conn, dataset, lock=True)
    version = find(conn, dataset, number, lock=True)
    _check_ingesting(version.status, number)
    sample = _sample(conn, dataset, version.total)
    values = {"finished_at": now, "fields": sample.to_json()}
    if cursor is not None:
        values["cursor"] = cursor
    reason = _reason_to_wait(conn, found, version, sample) if gated else None
    if version.base != found.active_version:
        reason = f"Version {found.active_version} went live while this one was made."
    reason = reason or hold
    _set(conn, dataset, number, status="waiting", reason=reason, **values)
    finished = find(conn, dataset, number)
    if reason is None:
        _put_live(conn, found, finished, now)
    elif reason != hold:
        _overtake(conn, finished, f"Version {number} waits instead.")
        _tell(conn, found, "dataset.version_waiting", finished, now, severity="medium")
    return find(conn, dataset, number)


_HAS_BAD = sa.select(sa.literal(1)).where(
    quarantine.c.dataset == sa.bindparam("of"), quarantine.c.version == sa.bindparam("at")
)


def forgo(conn: Connection, dataset: int, number: int, cursor: Any) -> bool:
    """Drop a version that was begun and changes nothing: only the cursor moves on. Tell whether it was one.

    After a roll back of much it is none: its copies save the next versions making them again.
    """
    found = datasets.by_number(conn, dataset, lock=True)
    version = find(conn, dataset, number, lock=True)
    changes = version.added + version.changed + version.removed
    if changes or version.base is None or version.base != found.active_version:
        return False
    if conn.scalar(_HAS_BAD, {"of": dataset, "at": number}) or history.has_own(conn, dataset, number):
        return False
    _check_ingesting(version.status, number)
    _overtake(conn, version, "A later run found what is active to be right.")
    conn.execute(sa.delete(versions).where(_ONE), {"of": dataset, "at": number})
    if version.base == number - 1:  # else rows that went on as copies have this number
        _set_dataset(conn, dataset, newest_version=version.base)
    if cursor is not None:
        _set(conn, dataset, version.base, cursor=cursor)
        _set_dataset(conn, dataset, cursor=cursor)
    return True


_FIRST = sa.text(
    "SELECT data FROM records WHERE dataset = :dataset AND valid_to IS NULL ORDER BY key LIMIT :most"
)
_LAST = sa.text(
    "SELECT data FROM records WHERE dataset = :dataset AND valid_to IS NULL ORDER BY key DESC LIMIT :most"
)


def _sample(conn: Connection, dataset: int, total: int) -> gate.Fields:
    """Look at some records of the newest version, the same few every time: the cost is the same for any size."""
    fields = gate.Fields()
    for query, most in ((_FIRST, _SAMPLE), (_LAST, min(total - _SAMPLE, _SAMPLE))):
        if most <= 0:
            continue
        size = 0
        given = {"dataset": dataset, "most": most}
        with conn.execute(query, given, execution_options=_STREAMED) as found:
            for (data,) in found:
                fields.add(orjson.loads(data))
                size += len(data)
                if size > _SAMPLE_BYTES:
                    break
    return fields


def _reason_to_wait(conn: Connection, dataset: Dataset, version: Version, sample: gate.Fields) -> str | None:
    if version.base is None:
        return None
    base = find(conn, dataset.number, version.base)
    before = gate.Stats(base.total, fields=gate.Fields(**(base.fields or {})))
    after = gate.Stats(version.total, version.removed, sample)
    return gate.judge(before, after, gate.read_limits(dataset.gate))


def _put_live(conn: Connection, dataset: Dataset, version: Version, now: datetime) -> None:
    """Exchange the active version for another, with its cursor: what waits from before is overtaken by it."""
    if dataset.active_version is not None:
        _set(conn, dataset.number, dataset.active_version, status="inactive")
    _overtake(conn, version, f"Version {version.number} went live instead.")
    _set(conn, dataset.number, version.number, status="active", activated_at=now, reason=None)
    _set_dataset(conn, dataset.number, active_version=version.number, cursor=version.cursor, updated_at=now)
    _tell(conn, dataset, "dataset.version_activated", version, now)


def _overtake(conn: Connection, version: Version, reason: str) -> None:
    """Give up the versions that wait from before another: so there is never more than one to decide on."""
    older = sa.update(versions).where(
        _OF_DATASET, versions.c.status == "waiting", versions.c.number < version.number
    )
    conn.execute(older, {"of": version.dataset, "status": "failed", "reason": reason})


def _tell(
    conn: Connection,
    dataset: Dataset,
    type: str,
    version: Version,
    now: datetime,
    *,
    severity: str | None = None,
) -> None:
    data = {
        "dataset_id": dataset.id,
        "dataset": dataset.name,
        "version": version.number,
        "previous_version": dataset.active_version,
        "source": version.source,
        "added": version.added,
        "changed": version.changed,
        "removed": version.removed,
        "total": version.total,
        "reason": version.reason,
        "notes": version.notes,
    }
    what = {"dataset.version_waiting": "waits", "dataset.rolled_back": "is back"}.get(type, "is live")
    event = NewEvent(
        type=type,
        time=now,
        data=data,
        subject=dataset.id,
        title=f"{dataset.name}: version {version.number} {what}",
        severity=severity,
        integration_id=dataset.integration_id,
    )
    events.append(conn, dataset.workspace_id, [event], now)


async def get(ctx: Context, dataset_id: str, number: int) -> Version:
    """Return one version of a dataset.

    Raises:
        NotFound
    """

    def read(conn: Connection) -> Version:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        return find(conn, found.number, number)

    return await ctx.app.db.read(read)


async def list_page(
    ctx: Context, dataset_id: str, limit: int, offset: int = 0, statuses: Sequence[str] = ()
) -> Page:
    """List the versions of a dataset, newest first.

    Raises:
        NotFound
    """

    def read(conn: Connection) -> Page:
        where = versions.c.dataset == datasets.find(conn, ctx.workspace_id, dataset_id).number
        if statuses:
            where = sa.and_(where, versions.c.status.in_(statuses))
        query = sa.select(versions).where(where).order_by(versions.c.number.desc())
        items = [from_row(row) for row in conn.execute(query.slice(offset, offset + limit)).mappings()]
        total = conn.scalar(sa.select(sa.func.count()).select_from(versions).where(where))
        return Page(items, int(total or 0), offset)

    return await ctx.app.db.read(read)


async def roll_back(ctx: Context, dataset_id: str, number: int, notes: str | None = None) -> Version:
    """Let an earlier or later version be the active one again, with its cursor: the next run goes on from there.

    A version that is being made meanwhile waits for a person when it is finished.

    Raises:
        NotFound
        Conflict: it is active already, or its records are not all there.
    """

    def write(conn: Connection) -> Version:
        found = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True)
        version = find(conn, found.number, number, lock=True)
        if version.status != "inactive":
            raise Conflict(f"Version {number} is {version.status}: only an inactive one can be gone back to.")
        _set(conn, found.number, found.active_version or 0, status="inactive")
        kept_notes = {} if notes is None else {"notes": notes}
        _set(conn, found.number, number, status="active", activated_at=ctx.now, **kept_notes)
        changed = {"active_version": number, "cursor": version.cursor, "updated_at": ctx.now}
        _set_dataset(conn, found.number, **changed)
        version = find(conn, found.number, number)
        _tell(conn, found, "dataset.rolled_back", version, ctx.now, severity="medium")
        return version

    version = await ctx.app.db.write(write)
    ctx.app.bells.events.ring()
    return version


async def activate(ctx: Context, dataset_id: str, number: int) -> Version:
    """Let a version that waits go live.

    Raises:
        NotFound
        Conflict: it does not wait.
    """

    def write(conn: Connection) -> Version:
        found = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True)
        version = find(conn, found.number, number, lock=True)
        _check_waiting(version)
        _put_live(conn, found, version, ctx.now)
        return find(conn, found.number, number)

    version = await ctx.app.db.write(write)
    ctx.app.bells.events.ring()
    await prune(ctx.app, version.dataset)
    return version


def _check_waiting(version: Version) -> None:
    if version.status != "waiting":
        raise Conflict(f"Version {version.number} is {version.status}: it does not wait.")


async def reject(ctx: Context, dataset_id: str, number: int) -> Version:
    """Give up a version that waits; what it changed is undone.

    Raises:
        NotFound
        Conflict: it does not wait.
    """
    version = await get(ctx, dataset_id, number)
    await undo(ctx.app, version.dataset, number, "Rejected.", only="waiting")
    return await get(ctx, dataset_id, number)


async def undo(app: App, dataset: int, number: int, reason: str, *, only: str | None = None) -> None:
    """Give up a version that is not live, and take back what it wrote, in batches.

    Broken off, nothing is wrong: the next version sets right what is left. One that is not the newest any more
    leaves its rows to `prune`.

    Args:
        only: the status it must have.

    Raises:
        NotFound
        Conflict: it is live, or was.
    """
    now = app.clock.now()

    def give_up(conn: Connection) -> None:
        datasets.by_number(conn, dataset, lock=True)
        version = find(conn, dataset, number, lock=True)
        if only == "waiting":
            _check_waiting(version)
        if version.status not in {"ingesting", "waiting", "failed"}:
            raise Conflict(f"Version {number} is {version.status}: it can be gone back from, but not undone.")
        if version.status != "failed":
            _set(conn, dataset, number, status="failed", reason=reason, finished_at=now)

    def take_back(conn: Connection) -> bool:
        found = datasets.by_number(conn, dataset, lock=True)
        return found.newest_version == number and history.take_back(conn, dataset, number)

    await app.db.write(give_up)
    while await app.db.write(take_back):
        await app.clock.sleep(_PAUSE_SECONDS)
    await prune(app, dataset)


async def archive(ctx: Context, dataset_id: str, number: int) -> None:
    """Delete the records of an inactive or given up version that no other has; what it did stays known.

    Raises:
        NotFound
        Conflict: it is active, waits, or is being made.
    """

    def write(conn: Connection) -> int:
        found = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True)
        version = find(conn, found.number, number, lock=True)
        if version.status not in {"inactive", "failed", "archived"}:
            raise Conflict(
                f"Version {number} is {version.status}: only one that is out of use can be deleted."
            )
        if version.status == "inactive":
            _set(conn, found.number, number, status="archived")
        return found.number

    await prune(ctx.app, await ctx.app.db.write(write))


async def prune(app: App, dataset: int) -> None:
    """Archive all versions but the active and the newest others, and delete the rows that nobody can see any more.

    Raises:
        NotFound
    """
    while await app.db.write(partial(_prune, dataset=dataset)):
        await app.clock.sleep(_PAUSE_SECONDS)


_STATES = (
    sa.select(versions.c.number, versions.c.base, versions.c.status)
    .where(_OF_DATASET)
    .order_by(versions.c.number.desc())
)


def _prune(conn: Connection, dataset: int) -> bool:
    newest = datasets.by_number(conn, dataset, lock=True).newest_version
    known = conn.execute(_STATES, {"of": dataset}).all()
    inactive = [row.number for row in known if row.status == "inactive"]
    if old := inactive[KEPT:]:
        archived = sa.update(versions).where(_OF_DATASET, versions.c.number.in_(old))
        conn.execute(archived, {"of": dataset, "status": "archived"})
    kept = {row.number for row in known if row.status in _KEPT_STATES and row.number not in old}
    kept |= {row.base for row in known if row.status == "ingesting" and row.base is not None}
    if history.forget(conn, dataset, sorted(kept)):
        return True
    if len(known) > LOGGED:
        gone = sa.delete(versions).where(
            _OF_DATASET, versions.c.number <= newest - LOGGED, versions.c.status.in_(("archived", "failed"))
        )
        conn.execute(gone, {"of": dataset})
    return False
