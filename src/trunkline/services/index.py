"""Filling the search index: rows of records become documents, in small batches beside whatever writes them.

Each row is a document, of whatever version it is; which rows a version has, the search looks up (`search.py`). How far
the rows of a version are in the index is its place. Whoever deletes rows of records calls `forget` first.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.services.words import MOST_WORD, WORD, indexed
from trunkline.tables import RECORD_WORDS

BATCH = 1_000
_BATCH_BYTES = 4 * 1024 * 1024
_AT_ONCE = 8
_IN_A_ROW = 8  # of one version, before others have their turn
_MOST_UNMERGED = 200  # batches: each is a segment of its own, and a search opens all of them
_MERGED_PAGES = 40
_MISSES = 3  # in a row: another worker fills the same
_WRITING_SECONDS = 0.25  # so long after rows have come, more are expected
_REST = 30.0
_QUIET_SECONDS = 1.0  # without news, before what is there is merged
_REMEMBERED = 1_000
ROWS = 1 << 40
"""SQLite names a document by its dataset times this, plus its row: so a dataset's documents stand together."""
BLOCK_BITS = 13
"""PostgreSQL's documents also hold the number of their row without these bits: so the newest can be asked for."""
Document = tuple[int, str]


class _Work(NamedTuple):
    """A version with rows that are not in the index."""

    dataset: int
    version: int
    position: int | None
    turn: int | None
    newest: int | None

    def after(self, batch: "_Batch") -> "_Work":
        """Return what is left once a batch is stored."""
        last = batch.documents[-1][0] if batch.documents else self.position
        return self._replace(position=last, turn=(self.turn or 0) + 1)


class _Batch(NamedTuple):
    """Rows as documents, and whether no more were there."""

    documents: list[Document]
    is_last: bool


@dataclass(slots=True)
class _Filler:
    """What one process knows of its filling."""

    is_checked: bool = False
    batches: int = 1
    """Since all was merged; an earlier process may have left some."""
    filled_at: float = -math.inf
    newest: dict[tuple[int, int], tuple[int | None, float]] = field(default_factory=dict)

    def is_written(self, work: _Work, now: float) -> bool:
        """Tell whether rows are coming into a version just now."""
        known = self.newest.get(work[:2])
        if known is None or known[0] != work.newest:
            if len(self.newest) > _REMEMBERED:
                self.newest.clear()
            grown_at = -math.inf if known is None else now
            known = self.newest[work[:2]] = (work.newest, grown_at)
        return now - known[1] < _WRITING_SECONDS


_BEYOND = "r.dataset = {0} AND r.valid_from = {1} AND r.position > {2}"
_MISSING = _BEYOND.format("v.dataset", "v.number", "COALESCE(p.position, 0)")
_NEWEST = "SELECT max(r.position) FROM records r WHERE r.dataset = {0} AND r.valid_from = {1}"
_WAITING = sa.text(
    f"SELECT v.dataset, v.number, p.position, p.turn, ({_NEWEST.format('v.dataset', 'v.number')}) "  # noqa: S608
    "FROM versions v LEFT JOIN index_places p ON p.dataset = v.dataset AND p.version = v.number "
    f"WHERE v.status IN ('ingesting', 'waiting', 'active') AND EXISTS (SELECT 1 FROM records r WHERE {_MISSING}) "
    "UNION SELECT p.dataset, p.version, p.position, p.turn, "
    f"({_NEWEST.format('p.dataset', 'p.version')}) FROM index_places p WHERE NOT p.is_filled LIMIT {_AT_ONCE}"
)
_BEGIN = sa.text(
    "INSERT INTO index_places (dataset, version, position, turn, is_filled) "
    "VALUES (:dataset, :version, 0, 0, :no) ON CONFLICT (dataset, version) DO NOTHING"
)
_ROWS = sa.text(
    f"SELECT r.position, r.data FROM records r WHERE {_BEYOND.format(':dataset', ':version', ':position')} "  # noqa: S608
    f"ORDER BY r.position LIMIT {BATCH}"
)
_MOVE = sa.text(
    "UPDATE index_places SET position = :position, turn = turn + 1, is_filled = :is_filled "
    "WHERE dataset = :dataset AND version = :version AND turn = :turn"
)
_STREAMED = {"stream_results": True, "max_row_buffer": 50}


async def fill_due(app: App) -> None:
    """Put into the index what is not in it yet, until nothing is left; then rings `app.bells.index`."""
    filler = app.filler = app.filler or _Filler()
    if not filler.is_checked:
        if await app.db.read(_is_lost):
            await rebuild(app)
        filler.is_checked = True
    filled, misses = False, 0
    while not app.stopping and misses < _MISSES and (waiting := await app.db.read(_waiting)):
        moved = any([await _fill_some(app, filler, work) for work in waiting])
        filled, misses = filled or moved, 0 if moved else misses + 1
    now = app.clock.monotonic()
    if filled:
        filler.filled_at = now
        app.bells.index.ring()
    if filler.batches and now - filler.filled_at >= _QUIET_SECONDS:
        await _merge(app, filler)


def _waiting(conn: Connection) -> list[_Work]:
    return [_Work._make(row) for row in conn.execute(_WAITING)]


async def _fill_some(app: App, filler: _Filler, work: _Work) -> bool:
    """Fill in some batches of one version; tell whether there was any use in it."""
    if work.turn is None:  # from here on a deletion of its rows is noticed
        await app.db.write(partial(_begin, work=work))
        work = work._replace(position=0, turn=0)
    started = app.clock.monotonic()
    batch = await app.db.read(partial(_read, work=work))
    for stored in range(_IN_A_ROW):
        following = work.after(batch)
        store = app.db.write(partial(_store, work=work, batch=batch))
        is_stored, batch = await asyncio.gather(store, app.db.read(partial(_read, work=following)))
        if not is_stored:
            return stored > 0
        filler.batches += 1
        work = following
        now = app.clock.monotonic()
        if filler.is_written(work, now):
            await app.clock.sleep((now - started) * _REST)
            return True
        if not batch.documents:
            break
        started = now
    if filler.batches > _MOST_UNMERGED:
        await _merge(app, filler)
    return True


def _begin(conn: Connection, work: _Work) -> None:
    conn.execute(_BEGIN, {"dataset": work.dataset, "version": work.version, "no": False})


def _read(conn: Connection, work: _Work) -> _Batch:
    given = {"dataset": work.dataset, "version": work.version, "position": work.position}
    found: list[Document] = []
    size = 0
    with conn.execute(_ROWS, given, execution_options=_STREAMED) as rows:
        for position, data in rows:
            found.append((position, indexed(data)))
            size += len(data)
            if size > _BATCH_BYTES:
                return _Batch(found, is_last=False)
    return _Batch(found, len(found) < BATCH)


def _store(conn: Connection, work: _Work, batch: _Batch) -> bool:
    """Add documents, unless another worker was faster or rows were deleted meanwhile; tell whether they were."""
    place = work.after(batch)._asdict() | {"turn": work.turn, "is_filled": batch.is_last}
    if not conn.execute(_MOVE, place).rowcount:
        return False
    if batch.documents:
        add = _add_sqlite if conn.dialect.name == "sqlite" else _add_postgresql
        add(conn, work.dataset, batch.documents)
    return True


def _add_sqlite(conn: Connection, dataset: int, documents: Sequence[Document]) -> None:
    rows = [(dataset * ROWS + position, text) for position, text in documents]
    conn.exec_driver_sql("INSERT INTO record_words (rowid, words) VALUES (?, ?)", rows)


_ADD = sa.text(
    "INSERT INTO record_words (position, words) SELECT * FROM "
    "unnest(CAST(:positions AS bigint[]), CAST(CAST(:words AS text[]) AS tsvector[])) "
    "ON CONFLICT (position) DO NOTHING"
)


def _add_postgresql(conn: Connection, dataset: int, documents: Sequence[Document]) -> None:
    vectors = [_vector(dataset, position, text) for position, text in documents]
    conn.execute(_ADD, {"positions": [position for position, _ in documents], "words": vectors})


def _vector(dataset: int, position: int, text: str) -> str:
    """Write a tsvector: its words with their places, and without one where it belongs."""
    body = [f"{word[:MOST_WORD]}:{place}" for place, word in enumerate(_split(text), 1)]
    return " ".join([f"'#{dataset}' '@{position >> BLOCK_BITS}'", *body])


def _split(text: str) -> list[str]:
    return WORD.findall(text.lower()) if text.isascii() else text.split(" ")


def is_complete(conn: Connection, dataset: int, version: int) -> bool:
    """Tell whether every row that a version wrote is in the index."""
    return not conn.scalar(_IS_BEHIND, {"dataset": dataset, "version": version})


_IS_BEHIND = sa.text(
    "SELECT EXISTS (SELECT 1 FROM records r WHERE r.dataset = :dataset AND r.valid_from = :version AND r.position > "
    "COALESCE((SELECT position FROM index_places WHERE dataset = :dataset AND version = :version), 0))"
)
_CHOSEN = {
    "sqlite": "IN (SELECT value FROM json_each(:positions))",
    "postgresql": "= ANY(CAST(:positions AS bigint[]))",
}
_TURN = sa.text("UPDATE index_places SET turn = turn + 1 WHERE dataset = :dataset")
_OLD_DOCUMENTS = sa.text(
    "SELECT r.position, r.data FROM records r JOIN index_places p "  # noqa: S608 - a constant
    "ON p.dataset = r.dataset AND p.version = r.valid_from AND p.position >= r.position "
    f"WHERE +r.dataset = :dataset AND r.position {_CHOSEN['sqlite']}"
)
_TAKE_OUT = "INSERT INTO record_words (record_words, rowid, words) VALUES ('delete', ?, ?)"
_DELETE = sa.text(f"DELETE FROM record_words WHERE position {_CHOSEN['postgresql']}")  # noqa: S608


def forget(conn: Connection, dataset: int, positions: Sequence[int]) -> None:
    """Take rows out of the index that are about to be deleted in the same transaction."""
    conn.execute(_TURN, {"dataset": dataset})
    if conn.dialect.name == "postgresql":
        conn.execute(_DELETE, {"positions": list(positions)})
        return
    chosen = {"dataset": dataset, "positions": orjson.dumps(positions).decode()}
    rows = [(dataset * ROWS + row[0], indexed(row[1])) for row in conn.execute(_OLD_DOCUMENTS, chosen)]
    if rows:
        conn.exec_driver_sql(_TAKE_OUT, rows)


async def _merge(app: App, filler: _Filler) -> None:
    """Bring the index into a form that is quick to search, in small steps; but what is to be filled in goes first.

    Unless that has gone first for long.
    """
    is_due = filler.batches > _MOST_UNMERGED
    rung = app.bells.index.rung
    step = _clean if app.db.dialect == "postgresql" else _merge_some
    while await app.db.write(step):
        if app.stopping or (app.bells.index.rung != rung and not is_due):
            return  # goes on later
    filler.batches = 0


def _clean(conn: Connection) -> bool:
    conn.execute(sa.text("SELECT gin_clean_pending_list('ix_record_words_words')"))
    return False


def _merge_some(conn: Connection) -> bool:
    before = _changes(conn)
    conn.exec_driver_sql(
        "INSERT INTO record_words (record_words, rank) VALUES ('merge', ?)", (_MERGED_PAGES,)
    )
    return _changes(conn) - before > 1  # the command itself counts as one


def _changes(conn: Connection) -> int:
    return int(conn.exec_driver_sql("SELECT total_changes()").scalar_one())


_TABLE = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE name = 'record_words'",
    "postgresql": "SELECT 1 WHERE to_regclass('record_words') IS NOT NULL",
}
_LAST_PLACE = sa.text(
    "SELECT p.dataset, p.position FROM index_places p JOIN records r ON r.position = p.position "
    "ORDER BY p.position DESC LIMIT 1"
)
_HAS = {
    "sqlite": sa.text("SELECT 1 FROM record_words WHERE rowid = :dataset * :rows + :position"),
    "postgresql": sa.text("SELECT 1 FROM record_words WHERE position = :position"),
}


def _is_lost(conn: Connection) -> bool:
    """Tell whether the index is gone, or does not hold the row it should hold last."""
    dialect = conn.dialect.name
    if conn.exec_driver_sql(_TABLE[dialect]).first() is None:
        return True
    last = conn.execute(_LAST_PLACE).first()
    if last is None:
        return False
    given: dict[str, Any] = {"position": last.position}
    if dialect == "sqlite":
        given |= {"dataset": last.dataset, "rows": ROWS}
    return conn.execute(_HAS[dialect], given).first() is None


async def rebuild(app: App) -> None:
    """Make the index anew, empty; the job fills it, and until it has, a search finds only part."""
    await app.db.write(_make_anew)
    app.bells.index.ring()


def _make_anew(conn: Connection) -> None:
    conn.exec_driver_sql("DROP TABLE IF EXISTS record_words")
    for statement in RECORD_WORDS[conn.dialect.name]:
        conn.exec_driver_sql(statement)
    anew = sa.text("UPDATE index_places SET position = 0, turn = turn + 1, is_filled = :no")
    conn.execute(anew, {"no": False})
