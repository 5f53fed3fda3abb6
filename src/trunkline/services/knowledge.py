"""The knowledge base of a workspace: one dataset that several integrations and uploads fill, one after the other.

A run fills it from one integration at a time; what it has from others stays. Runs are `sync.py`'s, versions
`versions.py`'s.
"""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Conflict, NotFound
from trunkline.services import datasets, progress, versions
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.progress import Run
from trunkline.services.versions import Version
from trunkline.tables import datasets as dataset_rows
from trunkline.tables import runs, uploads
from trunkline.tables import versions as version_rows

NAME = "knowledge-base"
_GATE = {"empty": None, "schema": False}  # sources differ in what they fill in
_KEYS_AT_ONCE = 5_000
KEY_FIELD = "incident_id"
"""A stream whose records have it can fill a knowledge base."""


async def find(ctx: Context) -> Dataset | None:
    """Return the workspace's knowledge base, if there is one yet."""
    query = sa.select(dataset_rows).where(
        dataset_rows.c.workspace_id == ctx.workspace_id, dataset_rows.c.name == NAME
    )
    row = await ctx.app.db.read(lambda conn: conn.execute(query).mappings().one_or_none())
    return None if row is None else datasets.from_row(row)


async def need(ctx: Context) -> Dataset:
    """Return the workspace's knowledge base. Raises NotFound."""
    found = await find(ctx)
    if found is None:
        raise NotFound("There is no knowledge base yet")
    return found


async def ensure(ctx: Context) -> Dataset:
    """Return the workspace's knowledge base; make it when there is none."""
    found = await find(ctx)
    if found is not None:
        return found
    try:
        return await datasets.create(ctx, Draft(NAME, gate=_GATE))
    except Conflict:
        found = await find(ctx)
        if found is None:
            raise
        return found


def begin_run(
    conn: Connection, ctx: Context, dataset: Dataset, source: "Source", *, since: int | None, start: Any
) -> tuple[Run, int]:
    """Begin a run that fills the knowledge base from an integration; the caller rings `app.bells.runs` afterwards.

    Args:
        since: what this function returned beside the integration's last run.
        start: a cursor to begin at, an empty one at the beginning; None: where the integration's last run ended, or at the beginning when the active
            version is older than that or another's.

    Raises:
        Conflict: another run is under way.
    """
    found = datasets.by_number(conn, dataset.number, lock=True)
    is_own = since is not None and (found.integration_id, found.stream) == source
    began = since if is_own and since is not None else found.newest_version
    values: dict[str, Any] = {"integration_id": source.integration_id, "stream": source.stream}
    if start is not None or (found.active_version or 0) <= began:
        values["cursor"] = start or None
    run = progress.open_run(conn, found, "incremental", ctx.now, made_by=ctx.caller.name)
    conn.execute(sa.update(dataset_rows).where(dataset_rows.c.number == found.number).values(values))
    return run, began


class Source(NamedTuple):
    """Where a run reads."""

    integration_id: str
    stream: str


class Busy(NamedTuple):
    """A run that fills the knowledge base, and where it reads; an upload's reads nowhere."""

    run_id: str
    source: Source | None


def under_way(conn: Connection, dataset: Dataset) -> Busy | None:
    """Return the run that fills a knowledge base right now, if there is one; no other begins before it can be asked again."""
    found = datasets.by_number(conn, dataset.number, lock=True)
    if found.run_id is None:
        return None
    is_upload = progress.find(conn, found.run_id).mode == "upload"
    source = Source(found.integration_id or "", found.stream or "")
    return Busy(found.run_id, None if is_upload else source)


def outcome(conn: Connection, run_id: str | None) -> dict[str, Any] | None:
    """Return what became of a run: its state, when it ended, what went wrong; None when nobody knows."""
    return outcomes(conn, [run_id]).get(run_id) if run_id else None


def outcomes(conn: Connection, run_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what became of each run, as `outcome` does."""
    names = ("id", "state", "finished_at", "error")
    query = sa.select(*(runs.c[name] for name in names)).where(runs.c.id.in_(run_ids))
    return {row["id"]: dict(row) for row in conn.execute(query).mappings()} if run_ids else {}


def active(conn: Connection, dataset: int) -> Version:
    """Return the active version of a dataset. Raises NotFound."""
    return versions.find(conn, dataset, datasets.by_number(conn, dataset).active_version or 0)


async def version(ctx: Context, version_id: str) -> Version:
    """Return a version of the knowledge base by its id.

    Raises:
        NotFound
    """
    query = sa.select(version_rows).join(dataset_rows, dataset_rows.c.number == version_rows.c.dataset)
    query = query.where(
        dataset_rows.c.workspace_id == ctx.workspace_id,
        dataset_rows.c.name == NAME,
        version_rows.c.id == version_id,
    )
    row = await ctx.app.db.read(lambda conn: conn.execute(query).mappings().one_or_none())
    if row is None:
        raise NotFound("Version not found")
    return versions.from_row(row)


async def sent_files(ctx: Context, run_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return for each run that took an upload in the upload's id and its files."""
    query = sa.select(uploads.c.run_id, uploads.c.id, uploads.c.files).where(
        uploads.c.workspace_id == ctx.workspace_id, uploads.c.run_id.in_(run_ids)
    )
    found = await ctx.app.db.read(lambda conn: conn.execute(query).all())
    return {row.run_id: {"id": row.id, "files": row.files} for row in found}


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, and the version that it came with."""

    position: int
    data: dict[str, Any]
    version: Version


_ENTRIES = (
    "SELECT r.position, r.data, r.valid_from FROM records r WHERE r.dataset = :dataset "
    "AND r.valid_from <= :version AND (r.valid_to IS NULL OR r.valid_to > :version) "
)
_BY_KEY = sa.text(_ENTRIES + "ORDER BY r.key LIMIT :limit OFFSET :offset")
_NEWEST = sa.text(_ENTRIES + "ORDER BY r.valid_from DESC, r.position DESC LIMIT :limit OFFSET :offset")


async def entries(ctx: Context, limit: int, offset: int = 0, *, newest_first: bool = False) -> list[Entry]:
    """List records of the active version by key, or those that came last first; none when nothing is active."""
    dataset = await find(ctx)
    if dataset is None or dataset.active_version is None:
        return []
    given = {
        "dataset": dataset.number,
        "version": dataset.active_version,
        "limit": limit,
        "offset": offset,
    }

    def read(conn: Connection) -> list[Entry]:
        rows = conn.execute(_NEWEST if newest_first else _BY_KEY, given).all()
        origins = {number: versions.find(conn, dataset.number, number) for number in {row[2] for row in rows}}
        return [Entry(row[0], orjson.loads(row[1]), origins[row[2]]) for row in rows]

    return await ctx.app.db.read(read)


_WRITTEN = sa.text(
    "SELECT r.position, r.key FROM records r WHERE r.dataset = :dataset AND r.valid_from = :version "
    "AND r.position > :after AND NOT EXISTS (SELECT 1 FROM records b WHERE b.dataset = r.dataset AND b.key = r.key "
    "AND b.valid_from <= :base AND (b.valid_to IS NULL OR b.valid_to > :base) AND b.hash = r.hash) "
    "ORDER BY r.position LIMIT :most"
)


async def written(app: App, version: Version) -> AsyncGenerator[list[str], None]:
    """Yield the keys of the records that a version added or changed, in the order in which they came."""
    after = 0
    while True:
        given = {
            "dataset": version.dataset,
            "version": version.number,
            "base": version.base or 0,
            "after": after,
            "most": _KEYS_AT_ONCE,
        }
        rows = await app.db.read(partial(_fetch, given=given))
        if rows:
            yield [row.key for row in rows]
            after = rows[-1].position
        if len(rows) < _KEYS_AT_ONCE:
            return


def _fetch(conn: Connection, given: dict[str, Any]) -> list[Any]:
    return list(conn.execute(_WRITTEN, given).all())
