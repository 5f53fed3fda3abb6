"""Datasets: made, listed, changed, deleted. What is in them is `versions.py`'s and `records.py`'s.

Whoever holds `run_id` may make a version; what begins, ends and schedules runs is `sync.py`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.ids import new_id
from trunkline.services import gate, history, integrations
from trunkline.tables import (
    datasets,
    index_places,
    plain,
    quarantine,
    run_events,
    run_keys,
    runs,
    uploads,
    versions,
)

MAX_DATASETS = 1_000
_NOT_FOUND = "Dataset not found"
_TICK = timedelta(microseconds=1)
_COLUMNS = tuple(column.name for column in datasets.c)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset as it is stored; other tables name it by its number."""

    number: int
    id: str
    workspace_id: str
    name: str
    integration_id: str | None
    stream: str | None
    params: dict[str, Any]
    active_version: int | None
    newest_version: int
    cursor: Any
    gate: dict[str, Any]
    schedule: dict[str, Any] | None
    next_run_at: datetime | None
    run_id: str | None
    last_synced_at: datetime | None
    last_status: str | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A dataset somebody asks for. Without an integration it is filled by uploads alone."""

    name: str
    integration_id: str | None = None
    stream: str | None = None
    params: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    next_run_at: datetime | None = None
    """When its schedule runs first: whoever checked the schedule knows."""
    cursor: Any = None
    """Where the first run begins."""


@dataclass(frozen=True, slots=True)
class Change:
    """A partial update: None leaves a part as it is, an empty schedule means none."""

    name: str | None = None
    params: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None
    next_run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list and the size of the whole."""

    items: list[Dataset]
    total: int
    offset: int = 0


def from_row(row: sa.RowMapping) -> Dataset:
    """Read a dataset as it is stored."""
    return Dataset(**plain(row))


_BY_NUMBER = sa.select(datasets).where(datasets.c.number == sa.bindparam("number"))
_BY_ID = sa.select(datasets).where(
    datasets.c.workspace_id == sa.bindparam("workspace"), datasets.c.id == sa.bindparam("dataset")
)


def by_number(conn: Connection, number: int, *, lock: bool = False) -> Dataset:
    """Return a dataset by its number, held until the transaction ends if so wanted.

    Raises:
        NotFound
    """
    query = _BY_NUMBER.with_for_update() if lock else _BY_NUMBER
    row = conn.execute(query, {"number": number}).mappings().one_or_none()
    if row is None:
        raise NotFound(_NOT_FOUND)
    return from_row(row)


def find(conn: Connection, workspace_id: str, dataset_id: str, *, lock: bool = False) -> Dataset:
    """Return a workspace's dataset, held until the transaction ends if so wanted.

    Raises:
        NotFound: absent, or another workspace's.
    """
    query = _BY_ID.with_for_update() if lock else _BY_ID
    row = conn.execute(query, {"workspace": workspace_id, "dataset": dataset_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(_NOT_FOUND)
    return from_row(row)


async def get(ctx: Context, dataset_id: str) -> Dataset:
    """Return one dataset of the caller's workspace, as `find` does."""
    return await ctx.app.db.read(partial(find, workspace_id=ctx.workspace_id, dataset_id=dataset_id))


async def list_page(ctx: Context, limit: int, offset: int = 0, integration_id: str | None = None) -> Page:
    """List datasets, newest first: all, or those of one integration."""
    where = datasets.c.workspace_id == ctx.workspace_id
    if integration_id is not None:
        where = sa.and_(where, datasets.c.integration_id == integration_id)
    query = sa.select(datasets).where(where).order_by(datasets.c.created_at.desc(), datasets.c.id.desc())
    count = sa.select(sa.func.count()).select_from(datasets).where(where)

    def read(conn: Connection) -> Page:
        found = conn.execute(query.slice(offset, offset + limit)).mappings()
        return Page([from_row(row) for row in found], int(conn.scalar(count) or 0), offset)

    return await ctx.app.db.read(read)


async def create(ctx: Context, draft: Draft) -> Dataset:
    """Store a new dataset, empty and without a version.

    Raises:
        Invalid: naming `integration_id`, `stream` or `gate`.
        Conflict: the name is taken, or there are too many.
    """
    await _check_source(ctx, draft)
    values = {
        "id": new_id(),
        "workspace_id": ctx.workspace_id,
        "name": draft.name,
        "integration_id": draft.integration_id,
        "stream": draft.stream,
        "params": dict(draft.params or {}),
        "newest_version": 0,
        "cursor": draft.cursor,
        "gate": gate.read_limits(draft.gate or {}).to_json(),
        "schedule": dict(draft.schedule) if draft.schedule else None,
        "next_run_at": draft.next_run_at,
        "created_at": ctx.now,
        "updated_at": ctx.now,
    }

    def write(conn: Connection) -> Dataset:
        count = sa.select(sa.func.count()).where(datasets.c.workspace_id == ctx.workspace_id)
        if int(conn.scalar(count) or 0) >= MAX_DATASETS:
            raise Conflict(f"A workspace has at most {MAX_DATASETS:,} datasets; delete some.")
        _check_name(conn, ctx.workspace_id, draft.name)
        conn.execute(sa.insert(datasets), values)
        return find(conn, ctx.workspace_id, values["id"])

    return await ctx.app.db.write(write)


async def _check_source(ctx: Context, draft: Draft) -> None:
    if draft.integration_id is None:
        if draft.stream is not None:
            raise Invalid.field(("body", "integration_id"), "is needed with a stream", "missing")
        return
    try:
        integration = await integrations.get(ctx, draft.integration_id)
    except NotFound:
        raise Invalid.field(("body", "integration_id"), "no such integration in this workspace") from None
    manifest = integrations.manifest_of(ctx, integration)
    known = sorted(manifest.streams) if manifest else []
    if draft.stream not in known:
        text = f"must be one of {', '.join(known)}" if known else "its integration has no streams"
        raise Invalid.field(("body", "stream"), text)


def _check_name(conn: Connection, workspace_id: str, name: str) -> None:
    query = sa.select(datasets.c.id).where(datasets.c.workspace_id == workspace_id, datasets.c.name == name)
    if conn.scalar(query) is not None:
        raise Conflict(f"There is a dataset named {name!r} already.")


async def update(ctx: Context, dataset_id: str, change: Change) -> Dataset:
    """Change parts of a dataset.

    Raises:
        Invalid, NotFound
        Conflict: the name is taken, or a run is under way with other params.
    """
    values: dict[str, Any] = {}
    if change.params is not None:
        values["params"] = dict(change.params)
    if change.schedule is not None:
        values["schedule"] = dict(change.schedule) or None
        values["next_run_at"] = change.next_run_at if change.schedule else None

    def write(conn: Connection) -> Dataset:
        before = find(conn, ctx.workspace_id, dataset_id, lock=True)
        if before.run_id is not None and change.params not in (None, before.params):
            raise Conflict("A run is under way with the params as they are; wait for it, or cancel it.")
        stored = values | {"updated_at": max(ctx.now, before.updated_at + _TICK)}
        if change.name is not None and change.name != before.name:
            _check_name(conn, ctx.workspace_id, change.name)
            stored["name"] = change.name
        if change.gate is not None:
            stored["gate"] = gate.read_limits({**before.gate, **change.gate}).to_json()
        conn.execute(sa.update(datasets).where(datasets.c.number == before.number), stored)
        return find(conn, ctx.workspace_id, dataset_id)

    return await ctx.app.db.write(write)


async def delete(ctx: Context, dataset_id: str) -> None:
    """Delete a dataset and all that is in it: its records first, some at a time.

    Broken off, it is there still, empty, and can be deleted again.

    Raises:
        NotFound
        Conflict: a run is under way.
    """

    def begin(conn: Connection) -> int:
        found = find(conn, ctx.workspace_id, dataset_id, lock=True)
        if found.run_id not in {None, found.id}:
            raise Conflict("A run of this dataset is under way; cancel it first.")
        emptied = {"run_id": found.id, "active_version": None, "next_run_at": None, "schedule": None}
        conn.execute(sa.update(datasets).where(datasets.c.number == found.number), emptied)
        conn.execute(sa.update(versions).where(versions.c.dataset == found.number), {"status": "archived"})
        return found.number

    number = await ctx.app.db.write(begin)
    while await ctx.app.db.write(partial(history.forget, dataset=number, kept=())):
        pass
    await ctx.app.db.write(partial(_delete, number=number))


def _delete(conn: Connection, number: int) -> None:
    of_runs = sa.select(runs.c.id).where(runs.c.dataset == number)
    for table in (run_events, run_keys):
        conn.execute(sa.delete(table).where(table.c.run_id.in_(of_runs)))
    for table in (runs, quarantine, uploads, index_places, versions):
        conn.execute(sa.delete(table).where(table.c.dataset == number))
    conn.execute(sa.delete(datasets).where(datasets.c.number == number))
