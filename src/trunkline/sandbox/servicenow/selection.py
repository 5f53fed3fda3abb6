"""Which records a query selects, in which order: cached per query, and by bisection where paging goes by key."""

import bisect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.sandbox.servicenow.query import (
    Condition,
    FindField,
    Getter,
    Query,
    as_datetime,
    as_number,
    compile_sets,
    parse_query,
)
from trunkline.sandbox.servicenow.schema import Column
from trunkline.sandbox.servicenow.table import Record, Table

KEPT = 16
_RANGE = frozenset({">=", ">", "<=", "<"})


class Selection:
    """Some of a sorted list: from `start` up to `stop`."""

    __slots__ = ("records", "start", "stop")

    def __init__(self, records: Sequence[Record], start: int = 0, stop: int | None = None) -> None:
        self.records = records
        self.start = start
        self.stop = max(start, len(records) if stop is None else stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def page(self, offset: int, limit: int) -> Sequence[Record]:
        start = min(self.start + offset, self.stop)
        return self.records[start : min(start + limit, self.stop)]


class Selector:
    """Answers queries over the tables of one instance, remembering the latest sixteen."""

    def __init__(self, tables: Mapping[str, Table], *, returns_no_rows: bool = False) -> None:
        self._tables = tables
        self._returns_no_rows = returns_no_rows
        self._kept: OrderedDict[tuple[Any, ...], tuple[int, list[Record]]] = OrderedDict()
        self._parsed: OrderedDict[str, Query] = OrderedDict()

    def select(self, table: Table, text: str) -> Selection:
        """Run a query (raises RefusedError 400 for one that cannot be done)."""
        query = self._parse(text)
        split = _split_by_key(query, table)
        if split is None:
            return Selection(self._sorted(table, query))
        rest, name, ranges = split
        position = table.positions[name]
        start, stop = 0, None
        records = self._sorted(table, rest)
        for condition in ranges:
            place = _place(records, position, condition)
            if condition.operator in {">=", ">"}:
                start = max(start, place)
            else:
                stop = place if stop is None else min(stop, place)
        return Selection(records, start, stop)

    def _parse(self, text: str) -> Query:
        query = self._parsed.get(text)
        if query is None:
            query = parse_query(text)
            self._parsed[text] = query
            if len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        return query

    def _sorted(self, table: Table, query: Query) -> list[Record]:
        """Return the matching records in order; the plain order by update time is the table's own index."""
        by_updated = query.order in (
            [("sys_updated_on", False)],
            [("sys_updated_on", False), ("sys_id", False)],
        )
        if by_updated and query.sets == [[]]:
            return table.by_updated
        key = (table.name, repr(query))
        kept = self._kept.get(key)
        if kept is not None and kept[0] == table.version:
            self._kept.move_to_end(key)
            return kept[1]
        records = self._run(table, query, by_updated=by_updated)
        self._kept[key] = (table.version, records)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return records

    def _run(self, table: Table, query: Query, *, by_updated: bool) -> list[Record]:
        find = self.finder(table)
        test = compile_sets(query, find, returns_no_rows=self._returns_no_rows)
        source = table.by_updated if by_updated else table
        records = [record for record in source if test is None or test(record.values)]
        for name, descending in [] if by_updated else reversed(query.order):
            found = find(name)
            if found is not None:
                get, column = found[1] if found[2].kind == "reference" else found[0], found[2]
                records.sort(key=_sort_key(get, column), reverse=descending)
        return records

    def finder(self, table: Table) -> FindField:
        """Return what finds a field of `table` by its name, through references where it has dots."""

        def find(name: str) -> tuple[Getter, Getter, Column] | None:
            head, _, tail = name.partition(".")
            column = table.columns.get(head)
            if column is None:
                return None
            position = table.positions[head]
            if tail:
                return self._walk(column, position, tail)
            return _reader(position), self._shower(column, position), column

        return find

    def _walk(self, column: Column, position: int, tail: str) -> tuple[Getter, Getter, Column] | None:
        target = self._tables.get(column.target)
        inner = self.finder(target)(tail) if target is not None else None
        if target is None or inner is None:
            return None
        get, show, last = inner

        def step(read: Getter) -> Getter:
            def walk(values: tuple[str, ...]) -> str:
                record = target.rows.get(values[position])
                return read(record.values) if record is not None else ""

            return walk

        return step(get), step(show), last

    def _shower(self, column: Column, position: int) -> Getter:
        target = self._tables.get(column.target)
        if target is not None:
            return lambda values: (
                target.display(found) if (found := target.rows.get(values[position])) is not None else ""
            )
        return lambda values: column.choices.get(values[position], values[position])


def _reader(position: int) -> Getter:
    return lambda values: values[position]


def _sort_key(get: Getter, column: Column) -> Any:
    if column.kind in {"integer", "choice"}:
        return lambda record: as_number(get(record.values)) or 0.0
    if column.kind in {"datetime", "id"}:
        return lambda record: get(record.values)
    return lambda record: get(record.values).casefold()


def _split_by_key(query: Query, table: Table) -> tuple[Query, str, list[Condition]] | None:
    """Take the ranges on the first sort field out of a query, so that one sorted list serves every page."""
    if len(query.sets) != 1 or not query.order or query.order[0][1]:
        return None
    name = query.order[0][0]
    column = table.columns.get(name)
    if column is None or column.kind not in {"datetime", "id"}:
        return None
    ranges, rest = [], []
    for choice in query.sets[0]:
        condition = choice[0]
        if len(choice) == 1 and condition.name == name and condition.operator in _RANGE:
            value = as_datetime(condition.value) if column.kind == "datetime" else condition.value
            if not value:
                return None
            ranges.append(Condition(name, condition.operator, value))
        else:
            rest.append(choice)
    if not ranges:
        return None
    if not any(condition.operator in {">", ">="} for condition in ranges):
        ranges.append(Condition(name, ">", ""))
    return Query([rest], query.order), name, ranges


def _place(records: Sequence[Record], position: int, condition: Condition) -> int:
    find = bisect.bisect_right if condition.operator in {">", "<="} else bisect.bisect_left
    return find(records, condition.value, key=lambda record: record.values[position])
