"""The paging style `keyset`: read on from the last record's cursor value, so that edits meanwhile lose no record.

Offset paging skips rows when records before them change their place. Here the next page asks for `cursor >= last
value`, in the order of cursor and key; what `>=` brings twice is left out. A run of records that share one value
is walked by offset within that value, each page beginning with a record that is known: if it is not, records left
the run meanwhile, and the offset is taken back until it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trunkline.catalog.manifest import Paging
from trunkline.rest.paging import Answer, Page, PageRequest, Source, Step, refused
from trunkline.rest.paths import Path

MAX_RETREATS = 20
Value = str | int | float


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the reading is."""

    cursor: Value
    offset: int = 0
    overlaps: bool = False
    """Whether the next page should begin with a record that is known."""
    seen: frozenset[Value] = frozenset()
    """Keys already given out that have this cursor value."""
    passed: frozenset[Value] = frozenset()
    """Cursor values left behind."""
    largest: int = 0
    """The most records a page had: a service may send fewer than asked for."""
    retreats: int = 0
    last: Value | None = None
    """Key of the last record seen: the next page begins with it when it overlaps."""


@dataclass(frozen=True, slots=True)
class _Row:
    key: Value
    cursor: Value
    record: Any


class KeysetPager:
    """Read a stream in the order of its cursor and key, from a start value on.

    `query_of` renders the stream's `cursor.query` for a cursor value; it must ask for `>=` that value, in the order
    of cursor, then key. `paging` must have `limit` and `offset_param`; a missing word raises ValueError.
    """

    def __init__(
        self,
        paging: Paging,
        records: str | None,
        *,
        key: str,
        cursor: str,
        start: Value,
        query_of: Callable[[Value], Mapping[str, Any]],
    ) -> None:
        if paging.limit is None or not paging.offset_param:
            raise ValueError("paging of type keyset needs limit and offset_param")
        self._source = Source(paging, Path.compile(records) if records else None)
        self._size = paging.limit.size
        self._offset_param = paging.offset_param
        self._key, self._cursor = Path.compile(key), Path.compile(cursor)
        self._start, self._query_of = start, query_of

    def first(self) -> Step:
        """Return the first request."""
        place = _Place(self._start)
        return Step(self._request(place), memory=place)

    def read(self, step: Step, answer: Answer) -> Page:
        """Return the records that are new; raise RemoteFailed (kind `paging`) if reading cannot go on."""
        place: _Place = step.memory
        found = self._source.records(answer)
        rows, strays = self._rows(found)
        _check_order(rows, place)
        if place.overlaps and not (rows and _known(rows[0], place)):
            return self._go(step, [], self._retreat(place))
        fresh = [row.record for row in rows if not _known(row, place)]
        place = replace(place, largest=max(place.largest, len(found)))
        if not rows or (not fresh and len(found) < place.largest):
            return Page(fresh + strays, step.number, None)
        going = _advance(place, rows, len(found), retreats=0 if fresh else place.retreats)
        return self._go(step, fresh + strays, going)

    def pack(self, memory: _Place) -> list[Any]:
        """Leave out which records and values were seen, but for the last: they may be many."""
        return [memory.cursor, memory.offset, memory.overlaps, memory.largest, memory.retreats, memory.last]

    def unpack(self, value: Any) -> _Place:
        cursor, offset, overlaps, largest, retreats, last = value
        seen = frozenset() if last is None else frozenset({last})
        return _Place(cursor, offset, overlaps, seen, frozenset(), largest, retreats, last)

    def _go(self, step: Step, records: list[Any], place: _Place) -> Page:
        following = self._source.follow(step, records, self._request(place), place)
        return Page(records, step.number, following)

    def _request(self, place: _Place) -> PageRequest:
        query = {**self._query_of(place.cursor), **self._source.limit}
        if place.offset:
            query[self._offset_param] = place.offset
        return PageRequest(query)

    def _rows(self, records: list[Any]) -> tuple[list[_Row], list[Any]]:
        """Tell records that have a key and a cursor value from others; raise if none has."""
        rows, strays = [], []
        for record in records:
            key, cursor = _value(record, self._key), _value(record, self._cursor)
            if key is None or cursor is None:
                strays.append(record)
            else:
                rows.append(_Row(key, cursor, record))
        if strays and not rows:
            path = self._key if _value(strays[0], self._key) is None else self._cursor
            raise refused(f"a record has no text or number at {path}")
        return rows, strays

    def _retreat(self, place: _Place) -> _Place:
        if place.retreats >= MAX_RETREATS:
            raise refused(
                f"the records at {place.cursor} change faster than they can be read, "
                f"or {self._offset_param} is not heeded"
            )
        offset = max(0, place.offset - self._size * 2**place.retreats)
        return replace(place, offset=offset, overlaps=offset > 0, retreats=place.retreats + 1)


def _known(row: _Row, place: _Place) -> bool:
    return row.cursor == place.cursor and row.key in place.seen


def _advance(place: _Place, rows: list[_Row], count: int, retreats: int) -> _Place:
    """Choose where to read on: at the last record's value, or further inside the value all records share."""
    last, key = rows[-1].cursor, rows[-1].key
    tail = frozenset(row.key for row in rows if row.cursor == last)
    if last == place.cursor:
        overlap = 1 if len(rows) == count > 1 else 0
        return replace(
            place,
            offset=place.offset + count - overlap,
            overlaps=bool(overlap),
            seen=place.seen | tail,
            retreats=retreats,
            last=key,
        )
    return _Place(last, seen=tail, passed=place.passed | {place.cursor}, largest=place.largest, last=key)


def _check_order(rows: list[_Row], place: _Place) -> None:
    """Raise unless equal cursor values stand together, and none is before the one that was asked for."""
    runs = [
        row.cursor for number, row in enumerate(rows) if not number or row.cursor != rows[number - 1].cursor
    ]
    strays = place.passed.intersection(runs) or place.cursor in runs[1:] or len(set(runs)) < len(runs)
    if strays:
        raise refused("the records are not in the order of the cursor: does the query sort by it?")


def _value(record: Any, path: Path) -> Value | None:
    found = path.get(record)
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None
