"""Full-text search over the records of a dataset: one function over SQLite's FTS5 and PostgreSQL's tsvector.

Of very many matches only the newest are ranked, so that no search takes long whatever is searched for. What is searched
for is read by `search_query.py`, the index is filled by `index.py`. By meaning, `meaning.py` ranks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log1p
from typing import Any, Literal, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.services import datasets, meaning
from trunkline.services.highlights import Highlighter
from trunkline.services.history import holds
from trunkline.services.index import BLOCK_BITS, ROWS
from trunkline.services.records import PAGE_BYTES, Filters, version_to_read
from trunkline.services.search_query import Term, loose, parse

MOST_RANKED = 1_000
"""Matches that are ranked: of more, the newest."""
MOST_FILTERED = 4_000
"""The same, when only some of them fit a filter."""
MOST_COUNTED = 200
"""Of more matches nobody is told how many they are."""
MOST_SKIPPED = 1_000
_FEWEST_OF_A_TERM = 100
_MOST_WITH_PHRASE = 20_000
_LOOKED_AT = 100  # records at a time
_MOST_BYTES = 64 * 1024 * 1024
_FUSED_FROM = 61  # the first place of a ranking when two are fused: customary
Mode = Literal["words", "meaning", "both"]


@dataclass(frozen=True, slots=True)
class Search:
    """What to search for, and where."""

    text: str
    version: int | None = None
    """None: the active one."""
    filters: Filters | None = None
    any_word: bool = False
    mode: Mode = "words"
    limit: int = 10
    offset: int = 0


class Hit(NamedTuple):
    """A record with all that was searched for, as it is at `version` and has been from `since`."""

    key: str
    version: int
    since: int
    score: float
    highlights: list[dict[str, str]]
    record: Any


@dataclass(frozen=True, slots=True)
class Found:
    """Some hits, best first."""

    version: int
    items: list[Hit]
    more: bool
    total: int | None
    """How many match; None when there are too many to know, when a filter leaves some out, or by meaning."""
    covered: int | None = None
    """By meaning: how many records of the version were compared, those that have a vector."""
    records: int = 0
    """How many the version has."""


class _Scope(NamedTuple):
    """Where one search looks: the rows of a dataset up to one, and of them those that hold at a version."""

    dataset: int
    version: int
    newest: int


class _Ranked(NamedTuple):
    """Rows that match with their scores, the more the better, and whether these are all."""

    scores: dict[int, float]
    is_all: bool


async def search(ctx: Context, dataset_id: str, wanted: Search) -> Found:
    """Search the records of a version: all words are required, unless told otherwise.

    Raises:
        Invalid: naming `q`, or `mode` when there is no searching by meaning.
        NotFound, Gone, Conflict: as `records.version_to_read`.
    """
    terms = loose(wanted.text) if wanted.mode == "meaning" else parse(wanted.text)
    direction = None if wanted.mode == "words" else await meaning.point(ctx.app, wanted.text)

    def read(conn: Connection) -> Found:
        dataset = datasets.find(conn, ctx.workspace_id, dataset_id)
        version = version_to_read(conn, dataset, wanted.version)
        at = {"dataset": dataset.number, "version": version.number}
        ranked, covered = _Ranked({}, is_all=True), None
        if wanted.mode != "meaning":
            scope = _Scope(**at, newest=conn.scalar(_INDEXED, at) or 0)
            ranked = _rank(conn, scope, terms, wanted)
        if direction is not None:
            near = meaning.nearest(conn, **at, direction=direction, most=_most(wanted))
            ranked = _Ranked(
                _fuse(ranked.scores, near.scores) if wanted.mode == "both" else near.scores, is_all=False
            )
            covered = near.compared
        found = _page(conn, version.number, ranked, wanted, Highlighter(terms))
        return replace(found, covered=covered, records=version.total)

    return await ctx.app.db.read(read)


_INDEXED = sa.text("SELECT max(position) FROM index_places WHERE dataset = :dataset AND version <= :version")


def _most(wanted: Search) -> int:
    return MOST_FILTERED if wanted.filters else MOST_RANKED


def _best_first(scores: Mapping[int, float]) -> list[int]:
    return sorted(scores, key=lambda position: (-scores[position], -position))


def _fuse(*rankings: Mapping[int, float]) -> dict[int, float]:
    """Rank by the places in several rankings, whose scores cannot be compared: reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, position in enumerate(_best_first(ranking), _FUSED_FROM):
            scores[position] = scores.get(position, 0.0) + 1 / place
    return scores


def _rank(conn: Connection, scope: _Scope, terms: Sequence[Term], wanted: Search) -> _Ranked:
    most = _most(wanted)
    match = _match_sqlite if conn.dialect.name == "sqlite" else _match_postgresql
    if len(terms) == 1 or not wanted.any_word:
        return match(conn, scope, terms, most)
    # Each by itself: a rare word is not to be lost among the newest rows that have a common one.
    share = max(most // len(terms), _FEWEST_OF_A_TERM)
    scores: dict[int, float] = {}
    is_all = True
    for term in terms:
        found = match(conn, scope, [term], share)
        is_all = is_all and found.is_all
        weight = 1.0 if conn.dialect.name == "sqlite" else 1 / log1p(1 + len(found.scores))
        for position, score in found.scores.items():
            scores[position] = scores.get(position, 0.0) + score * weight
    return _Ranked(scores, is_all)


_MATCH_SQLITE = sa.text(
    "SELECT rowid - :base, -bm25(record_words) FROM record_words WHERE record_words MATCH :match "
    "AND rowid BETWEEN :base AND :last ORDER BY rowid DESC LIMIT :most"
)


def _match_sqlite(conn: Connection, scope: _Scope, terms: Sequence[Term], most: int) -> _Ranked:
    """Rank the newest rows that match, also those that do not hold: looking each up would take longer than this."""
    base = scope.dataset * ROWS
    match = " AND ".join([term.to_fts5() for term in terms])
    given = {"match": match, "base": base, "last": base + scope.newest, "most": most}
    rows = conn.execute(_MATCH_SQLITE, given).all()
    return _Ranked(dict(map(tuple, rows)), len(rows) < most)


# What is found by the index alone is looked up row by row, until there is enough: nothing else is quick for all. The
# places of words are not in the index: rows are read for a phrase, and there may be very many with its words.
_MATCH_POSTGRESQL = (
    "SELECT position, ts_rank(words, CAST(:terms AS tsquery), 1) FROM (SELECT f.position, f.words FROM "  # noqa: S608
    "(SELECT position, words FROM record_words WHERE words @@ CAST(:match AS tsquery) AND position <= :last {limit}) f "
    "CROSS JOIN LATERAL (SELECT 1 FROM records r WHERE r.position = f.position "
    f"AND {holds(table='r.')} OFFSET 0) held {{condition}} LIMIT :most) looked_at"
)
_WORDS_POSTGRESQL = sa.text(_MATCH_POSTGRESQL.format(limit="OFFSET 0", condition=""))
_PHRASES_POSTGRESQL = sa.text(
    _MATCH_POSTGRESQL.format(
        limit=f"LIMIT {_MOST_WITH_PHRASE}", condition="WHERE f.words @@ CAST(:terms AS tsquery)"
    )
)


def _match_postgresql(conn: Connection, scope: _Scope, terms: Sequence[Term], most: int) -> _Ranked:
    has_phrase = any(len(term.words) > 1 for term in terms)
    query = _PHRASES_POSTGRESQL if has_phrase else _WORDS_POSTGRESQL
    words = " & ".join([term.to_tsquery(" & ") for term in terms])
    exact = " & ".join([term.to_tsquery() for term in terms])
    given = {"terms": exact, "last": scope.newest, "version": scope.version, "most": most}
    scores: dict[int, float] = {}
    is_all = True
    for newest in _newest_first(scope.newest):
        rows = conn.execute(query, given | {"match": f"'#{scope.dataset}' & {newest}{words}"}).all()
        scores |= dict(map(tuple, rows))
        is_all = len(rows) < most
        if not is_all:
            break
    return _Ranked(scores, is_all)


def _newest_first(newest: int) -> Iterator[str]:
    """Yield conditions for the newest rows, and then for all: common words need not be looked up in all."""
    last = newest >> BLOCK_BITS
    if last > 1:
        yield f"('@{last}' | '@{last - 1}') & "
    yield ""


_LOOK = {
    "sqlite": "IN (SELECT value FROM json_each(:positions))",
    "postgresql": "= ANY(CAST(:positions AS bigint[]))",
}
_HOLDING = {
    dialect: sa.text(f"SELECT position FROM records WHERE position {chosen} AND {holds()}")  # noqa: S608
    for dialect, chosen in _LOOK.items()
}
_RECORDS = {
    dialect: sa.text(
        f"SELECT position, key, valid_from, data FROM records WHERE position {chosen} AND {holds()}"  # noqa: S608
    )
    for dialect, chosen in _LOOK.items()
}


def _page(conn: Connection, version: int, ranked: _Ranked, wanted: Search, highlighter: Highlighter) -> Found:
    order = _best_first(ranked.scores)
    total = None
    if wanted.filters is None and ranked.is_all and len(order) <= MOST_COUNTED:
        holding = set(conn.scalars(_HOLDING[conn.dialect.name], _given(conn, version, order)))
        order = [position for position in order if position in holding]
        total = len(order)
    items: list[Hit] = []
    skipped = size = 0
    for row, record in _look_up(conn, version, order, wanted):
        if skipped < wanted.offset:
            skipped += 1
        elif len(items) == wanted.limit or size > PAGE_BYTES:
            return Found(version, items, more=True, total=total)
        else:
            size += len(row.data)
            score = round(ranked.scores[row.position], 4)
            items.append(Hit(row.key, version, row.valid_from, score, highlighter.of(record), record))
    return Found(version, items, more=False, total=total)


def _look_up(
    conn: Connection, version: int, order: Sequence[int], wanted: Search
) -> Iterator[tuple[Any, Any]]:
    """Yield records that hold and fit the filter, in this order, until they come to too many bytes."""
    start, count, size = 0, wanted.offset + wanted.limit + 1, 0
    while start < len(order) and size < _MOST_BYTES:
        some = order[start : start + count]
        found = conn.execute(_RECORDS[conn.dialect.name], _given(conn, version, some))
        rows = {row.position: row for row in found}
        for position in some:
            if (row := rows.get(position)) is not None:
                record = orjson.loads(row.data)
                if wanted.filters is None or wanted.filters.fit(record):
                    yield row, record
        size += sum(len(row.data) for row in rows.values())
        start, count = start + count, _LOOKED_AT


def _given(conn: Connection, version: int, positions: Sequence[int]) -> dict[str, Any]:
    ids = orjson.dumps(positions).decode() if conn.dialect.name == "sqlite" else positions
    return {"positions": ids, "version": version}
