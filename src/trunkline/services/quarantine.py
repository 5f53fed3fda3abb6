"""Rows that could not be taken in: kept with the reason, listed, tried again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.db import insert
from trunkline.services import datasets, edits, history, versions
from trunkline.services.datasets import Dataset
from trunkline.services.versions import Row, Version
from trunkline.tables import plain, quarantine
from trunkline.tables import versions as version_rows

MOST_REPLAYED = 1_000
_SHOWN = 2_000
"""Characters of a row that a list shows."""


@dataclass(frozen=True, slots=True)
class Bad:
    """One row that a version could not take in; `data` is its text, in lists only the beginning."""

    id: str
    version: int
    reason: str
    data: str
    created_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list and the size of the whole."""

    items: list[Bad]
    total: int
    offset: int = 0


class Replay(NamedTuple):
    """How many rows were tried again, how many of them fit now, and the version that has these."""

    tried: int
    taken: int
    version: Version | None


def add(conn: Connection, dataset: int, number: int, bad: Sequence[tuple[str, str]], now: datetime) -> None:
    """Keep rows that a version could not take in, each with its reason and its text, and count them there.

    A row that waits here already, from an earlier version, stays as it is: sources send the same again with every run.
    """
    version = versions.find(conn, dataset, number)
    rows = {}
    for reason, text in bad:
        known_as = _id(dataset, text)
        rows[known_as] = {
            "id": known_as,
            "workspace_id": version.workspace_id,
            "dataset": dataset,
            "version": number,
            "reason": reason,
            "data": text.replace("\0", "\\u0000"),
            "created_at": now,
        }
    if rows:
        insertion = insert(conn.dialect.name, quarantine)
        anew = {name: insertion.excluded[name] for name in ("version", "reason", "created_at")}
        was_taken = quarantine.c.replayed_at.is_not(None)
        again = insertion.on_conflict_do_update(
            index_elements=["id"], set_={**anew, "replayed_at": None}, where=was_taken
        )
        conn.execute(again, list(rows.values()))
        counted = sa.update(version_rows).where(
            version_rows.c.dataset == dataset, version_rows.c.number == number
        )
        conn.execute(counted.values(quarantined=version_rows.c.quarantined + len(bad)))


def _id(dataset: int, text: str) -> str:
    digest = blake2b(f"{dataset} {text}".encode(errors="surrogatepass"), digest_size=16).digest()
    return str(UUID(bytes=digest))


async def list_page(
    ctx: Context, dataset_id: str, limit: int, offset: int = 0, *, version: int | None = None
) -> Page:
    """List the rows of a dataset that wait in quarantine, newest first: all, or those of one version.

    Raises:
        NotFound
    """
    shown = [quarantine.c[name] for name in Bad.__slots__ if name != "data"]

    def read(conn: Connection) -> Page:
        where = _waiting(datasets.find(conn, ctx.workspace_id, dataset_id).number)
        if version is not None:
            where = sa.and_(where, quarantine.c.version == version)
        query = sa.select(*shown, sa.func.substr(quarantine.c.data, 1, _SHOWN).label("data")).where(where)
        query = query.order_by(quarantine.c.created_at.desc(), quarantine.c.id.desc())
        items = [Bad(**plain(row)) for row in conn.execute(query.slice(offset, offset + limit)).mappings()]
        total = conn.scalar(sa.select(sa.func.count()).select_from(quarantine).where(where))
        return Page(items, int(total or 0), offset)

    return await ctx.app.db.read(read)


def _waiting(dataset: int) -> sa.ColumnElement[bool]:
    return sa.and_(quarantine.c.dataset == dataset, quarantine.c.replayed_at.is_(None))


async def replay(
    ctx: Context,
    dataset_id: str,
    read_row: Callable[[Any], Row | str],
    ids: Sequence[str] | None = None,
) -> Replay:
    """Try rows again, the oldest first: those that fit now become a version; the others stay, with the reason of today.

    A record that came in under the same key meanwhile is newer, and stays as it is.

    Args:
        read_row: makes a row of a value, or says why it cannot.
        ids: only these; None: all, as many as go at once.

    Raises:
        NotFound
        Conflict: a run is under way.
    """

    def look(conn: Connection) -> list[tuple[str, str]]:
        where = _waiting(datasets.find(conn, ctx.workspace_id, dataset_id).number)
        if ids is not None:
            where = sa.and_(where, quarantine.c.id.in_(ids))
        query = sa.select(quarantine.c.id, quarantine.c.data).where(where)
        query = query.order_by(quarantine.c.created_at, quarantine.c.id).limit(MOST_REPLAYED)
        return [(row.id, row.data) for row in conn.execute(query)]

    found = [(each, read_row(_parse(text))) for each, text in await ctx.app.db.read(look)]
    good = {each: row for each, row in found if isinstance(row, Row)}

    def change(conn: Connection, dataset: Dataset, version: Version) -> None:
        known = history.known_keys(conn, dataset.number, [row.key for row in good.values()])
        rows = [row for row in good.values() if row.key not in known]
        versions.write_page(conn, dataset.number, version.number, rows)
        done = sa.update(quarantine).where(quarantine.c.id.in_(good))
        conn.execute(done, {"replayed_at": ctx.now})

    version = await edits.edit(ctx, dataset_id, "replay", change) if good else None
    bad = [{"one": each, "reason": reason} for each, reason in found if isinstance(reason, str)]
    if bad:
        noted = sa.update(quarantine).where(quarantine.c.id == sa.bindparam("one"))
        await ctx.app.db.write(lambda conn: conn.execute(noted, bad).close())
    return Replay(len(found), len(good), version)


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
