"""Rows of records as intervals of versions: what one version writes, takes over, gives back. Which version is which, `versions.py` says.

A row holds from its `valid_from` until its `valid_to`; a row without an end is open. What a version has is what holds at
its number, whatever came after it, so that nothing is copied to be kept. A row's data never changes: what is written
twice in one version is replaced by another row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.services import index

BATCH = 5_000
"""Rows that are moved at a time, so that other writes wait for no more than these."""
DELETED = 1_000
"""The same of rows that are deleted: they are taken out of the search index too."""


class Row(NamedTuple):
    """One record as it is stored: `data` is JSON text, `hash` tells whether it changed."""

    key: str
    hash: bytes
    data: str


class Counts(NamedTuple):
    """By how much a version's numbers changed against its base; they go down when a change is taken back."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0


@dataclass(slots=True)
class _State:
    """What there is of one key: in the base, of this version itself, and before it in the rows."""

    base: bytes | None = None
    own: bytes | None = None
    own_position: int = 0
    previous: bytes | None = None
    previous_position: int = 0
    is_open: bool = False
    """The previous row still holds."""

    @property
    def now(self) -> bytes | None:
        return self.own or (self.previous if self.is_open else None)


def to_row(key: str, record: Any) -> Row:
    """Write a record as it is stored; the order of its keys makes no difference."""
    data = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    return Row(key, blake2b(data, digest_size=16).digest(), data.decode())


def holds(version: str = "version", table: str = "") -> str:
    """Return the SQL condition that a row holds at the version of a parameter."""
    return f"{table}valid_from <= :{version} AND ({table}valid_to IS NULL OR {table}valid_to > :{version})"


def _in(column: str, kind: str, dialect: str) -> str:
    if dialect == "sqlite":
        return f"{column} IN (SELECT value FROM json_each(:{column}s))"  # noqa: S608 - constants
    return f"{column} = ANY(CAST(:{column}s AS {kind}[]))"


def listed(conn: Connection, values: Sequence[Any]) -> Any:
    return orjson.dumps(values).decode() if conn.dialect.name == "sqlite" else values


def both(text: str) -> dict[str, sa.TextClause]:
    """Prepare a statement for both databases; `<keys>` and `<positions>` are lists of values."""
    return {
        dialect: sa.text(
            text.replace("<keys>", _in("key", "text", dialect)).replace(
                "<positions>", _in("position", "bigint", dialect)
            )
        )
        for dialect in ("sqlite", "postgresql")
    }


_FIND = both(
    "SELECT position, key, valid_from, valid_to, hash FROM records WHERE dataset = :dataset AND <keys> "
    "AND (valid_to IS NULL OR valid_to = :version OR (valid_from <= :base AND valid_to > :base))"
)
_END = both("UPDATE records SET valid_to = :version WHERE <positions>")
_REOPEN = both("UPDATE records SET valid_to = NULL WHERE <positions>")
_DELETE = both("DELETE FROM records WHERE <positions>")
_DELETE_VECTORS = both("DELETE FROM record_vectors WHERE dataset = :dataset AND <positions>")
# In the drivers' own words: at tens of thousands of rows a second each conversion counts.
_INSERT = "INSERT INTO records (dataset, key, valid_from, hash, data) VALUES (?, ?, ?, ?, ?)"
_COPY_IN = "COPY records (dataset, key, valid_from, hash, data) FROM STDIN"


def apply(
    conn: Connection, dataset: int, version: int, base: int, wanted: Mapping[str, Row | None]
) -> Counts:
    """Let records be as wanted from a version on, None being gone, and count what that changes against its base.

    What comes to the same as before the version leaves no trace, however often it changed in between.

    Args:
        version: the newest; all that is open continues its base.
        base: 0 when there is none.
    """
    states = _states(conn, dataset, version, base, list(wanted))
    inserted: list[Row] = []
    moved: dict[str, list[int]] = {"end": [], "reopen": [], "delete": []}
    added = changed = removed = unchanged = 0
    for key, row in wanted.items():
        state = states.get(key)
        target = None if row is None else row.hash
        if state is None:
            if row is not None:
                inserted.append(row)
                added += 1
            continue
        if target == state.now:
            unchanged += 1
            continue
        for hash_, sign in ((target, 1), (state.now, -1)):
            if state.base is None:
                added += sign * (hash_ is not None)
            elif hash_ is None:
                removed += sign
            else:
                changed += sign * (hash_ != state.base)
        _plan(state, target, moved)
        if row is not None and target != state.previous:
            inserted.append(row)
    _write(conn, dataset, version, inserted, moved)
    return Counts(added, changed, removed, unchanged)


_KNOWN = both("SELECT key FROM records WHERE dataset = :dataset AND <keys> AND valid_to IS NULL")


def known_keys(conn: Connection, dataset: int, keys: Sequence[str]) -> set[str]:
    """Return those of some keys that the newest version has."""
    given = {"dataset": dataset, "keys": listed(conn, keys)}
    return set(conn.scalars(_KNOWN[conn.dialect.name], given))


def _states(
    conn: Connection, dataset: int, version: int, base: int, keys: Sequence[str]
) -> dict[str, _State]:
    given = {"dataset": dataset, "version": version, "base": base, "keys": listed(conn, keys)}
    states: dict[str, _State] = {}
    for position, key, first, end, hash_ in conn.execute(_FIND[conn.dialect.name], given):
        state = states.setdefault(key, _State())
        if first <= base and (end is None or end > base):
            state.base = bytes(hash_)
        if first == version:
            state.own, state.own_position = bytes(hash_), position
        elif end is None or (end == version and first <= base):  # any other may be forgotten at any moment
            state.previous, state.previous_position, state.is_open = bytes(hash_), position, end is None
    return states


def _plan(state: _State, target: bytes | None, moved: dict[str, list[int]]) -> None:
    if state.own is not None:
        moved["delete"].append(state.own_position)
    if state.previous is not None:
        if target == state.previous:
            moved["reopen"] += [] if state.is_open else [state.previous_position]
        elif state.is_open:
            moved["end"].append(state.previous_position)


def _write(
    conn: Connection, dataset: int, version: int, inserted: Iterable[Row], moved: Mapping[str, list[int]]
) -> None:
    dialect = conn.dialect.name
    _delete(conn, dataset, moved["delete"])
    for name, statement in (("end", _END), ("reopen", _REOPEN)):
        if moved[name]:
            given: dict[str, Any] = {"positions": listed(conn, moved[name])}
            conn.execute(statement[dialect], given | ({"version": version} if name == "end" else {}))
    rows = [(dataset, row.key, version, row.hash, row.data) for row in inserted]
    if rows and dialect == "sqlite":
        conn.exec_driver_sql(_INSERT, rows)
    elif rows:
        with cast("Any", conn.connection).cursor() as cursor, cursor.copy(_COPY_IN) as copy:
            for each in rows:
                copy.write_row(each)


_OPEN_KEYS = sa.text(
    "SELECT key FROM records WHERE dataset = :dataset AND valid_to IS NULL AND key > :after ORDER BY key LIMIT :most"
)


def open_keys(conn: Connection, dataset: int, after: str | None, most: int) -> list[str]:
    """Return keys that the newest version has, after one of them, in their order."""
    return list(conn.scalars(_OPEN_KEYS, {"dataset": dataset, "after": after or "", "most": most}))


# After a roll back, or a version given up, open rows do not continue the base: those from after it end, those that it
# has and that have ended since go on as copies. Both are found by index, at the cost of the difference.
_LATER = sa.text(
    "SELECT valid_from, position FROM records WHERE dataset = :dataset AND (valid_from, position) > (:at, :after) "
    "AND valid_from < :version AND valid_to IS NULL ORDER BY valid_from, position LIMIT :most"
)
_ENDED = sa.text(
    "SELECT valid_to, position FROM records WHERE dataset = :dataset AND (valid_to, position) > (:at, :after) "
    "AND valid_to IS NOT NULL AND +valid_from <= :base ORDER BY valid_to, position LIMIT :most"  # + : not by its index
)
_COPY = both(
    "INSERT INTO records (dataset, key, valid_from, hash, data) "
    "SELECT dataset, key, :version, hash, data FROM records WHERE <positions> "
    "ON CONFLICT (dataset, key, valid_from) DO NOTHING"
)
_LAST_POSITION = 2**62


class Place(NamedTuple):
    """How far a rebase has come: rows are ended first, then copied, each in the order of an index."""

    is_copying: bool
    at: int
    after: int = _LAST_POSITION


def rebase(
    conn: Connection, dataset: int, version: int, base: int, place: Place | None = None
) -> Place | None:
    """Let the open rows continue a version's base, some of them; return where to go on, or None when it is done.

    Beginning anew after a crash is harmless.
    """
    place = place or Place(is_copying=False, at=base)
    given = {"dataset": dataset, "version": version, "base": base, "most": BATCH, **place._asdict()}
    del given["is_copying"]
    found = conn.execute(_ENDED if place.is_copying else _LATER, given).all()
    if found:
        positions = listed(conn, [row.position for row in found])
        statement = _COPY if place.is_copying else _END
        conn.execute(statement[conn.dialect.name], {"version": version, "positions": positions})
    if len(found) == BATCH:
        return Place(place.is_copying, *found[-1])
    return None if place.is_copying else rebase(conn, dataset, version, base, Place(True, base))


_OWN = sa.text("SELECT position FROM records WHERE dataset = :dataset AND valid_from = :version LIMIT :most")
_HAS_OWN = sa.text("SELECT 1 FROM records WHERE dataset = :dataset AND valid_from = :version LIMIT 1")
_ENDED_BY = sa.text(
    "SELECT position FROM records WHERE dataset = :dataset AND valid_to = :version LIMIT :most"
)


def has_own(conn: Connection, dataset: int, version: int) -> bool:
    """Tell whether a version has rows of its own: records that changed, or copies after a roll back."""
    return conn.scalar(_HAS_OWN, {"dataset": dataset, "version": version}) is not None


def take_back(conn: Connection, dataset: int, version: int) -> bool:
    """Undo some of what the newest version wrote; tell whether there may be more."""
    given = {"dataset": dataset, "version": version}
    if _delete(conn, dataset, list(conn.scalars(_OWN, given | {"most": DELETED}))) == DELETED:
        return True
    positions = list(conn.scalars(_ENDED_BY, given | {"most": BATCH}))
    if positions:
        conn.execute(_REOPEN[conn.dialect.name], {"positions": listed(conn, positions)})
    return len(positions) == BATCH


_UNSEEN = sa.text(
    "SELECT position FROM records WHERE dataset = :dataset AND valid_to > :low AND valid_to <= :high "
    "AND valid_from > :low LIMIT :most"
)
_BEYOND = sa.text("SELECT position FROM records WHERE dataset = :dataset AND valid_from > :low LIMIT :most")


def forget(conn: Connection, dataset: int, kept: Sequence[int]) -> bool:
    """Delete some of the rows that none of the versions to keep has; tell whether there may be more.

    Args:
        kept: ascending. Rows lie between two of them, before the first, or after the last.
    """
    bounds = [0, *kept]
    for low, high in zip(bounds, kept, strict=False):
        if high - low < (2 if low else 1):  # nothing can both begin and end between neighbours
            continue
        given = {"dataset": dataset, "low": low, "high": high, "most": DELETED}
        if _delete(conn, dataset, list(conn.scalars(_UNSEEN, given))) == DELETED:
            return True
    given = {"dataset": dataset, "low": bounds[-1], "most": DELETED}
    return _delete(conn, dataset, list(conn.scalars(_BEYOND, given))) == DELETED


def _delete(conn: Connection, dataset: int, positions: list[int]) -> int:
    if positions:
        index.forget(conn, dataset, positions)
        given = {"positions": listed(conn, positions)}
        conn.execute(_DELETE[conn.dialect.name], given)
        conn.execute(_DELETE_VECTORS[conn.dialect.name], given | {"dataset": dataset})  # after their rows
    return len(positions)
