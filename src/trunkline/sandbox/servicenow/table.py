"""One table in memory: records as tuples, an index on (sys_updated_on, sys_id), one cached rendering each."""

import bisect
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trunkline.sandbox.servicenow.schema import Column, Schema

_NUMBER = re.compile(r"^[A-Z]+(\d+)$")


class Record:
    """The values of one record in column order, and the last rendering made of them."""

    __slots__ = ("rendered", "rendered_for", "values")

    def __init__(self, values: tuple[str, ...]) -> None:
        self.values = values
        self.rendered: bytes = b""
        self.rendered_for: Any = None


class Table:
    """Records of one schema. `version` goes up with every change, so that cached selections know."""

    def __init__(self, schema: Schema) -> None:
        self.name = schema.name
        self.schema = schema
        self.columns: dict[str, Column] = {column.name: column for column in schema.columns}
        self.positions: dict[str, int] = {name: place for place, name in enumerate(self.columns)}
        self.names: tuple[str, ...] = tuple(self.columns)
        self.references: tuple[tuple[int, str, str], ...] = tuple(
            (self.positions[column.name], column.name, column.target)
            for column in schema.columns
            if column.kind == "reference"
        )
        self.rows: dict[str, Record] = {}
        self.by_updated: list[Record] = []
        self.version = 0
        self._id = self.positions["sys_id"]
        self._updated = self.positions["sys_updated_on"]
        self._next_number = 10_001

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.rows.values())

    def value(self, record: Record, name: str) -> str:
        return record.values[self.positions[name]]

    def as_dict(self, record: Record) -> dict[str, str]:
        return dict(zip(self.names, record.values, strict=True))

    def display(self, record: Record) -> str:
        """Return what stands for this record where another one refers to it."""
        return self.value(record, self.schema.display)

    def load(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Add many records at once, each in column order; the index is built once at the end."""
        for values in rows:
            self.rows[values[self._id]] = Record(values)
            self._count_number(values)
        self.by_updated = sorted(self.rows.values(), key=self._key)
        self.version += 1

    def put(self, values: Mapping[str, str]) -> Record:
        """Add or replace one record by its sys_id, keeping the index sorted."""
        row = tuple(values.get(name, "") for name in self.names)
        record = self.rows.get(row[self._id])
        if record is None:
            record = self.rows[row[self._id]] = Record(row)
        else:
            self._drop_from_index(record)
            record.values = row
            record.rendered_for = None
        bisect.insort(self.by_updated, record, key=self._key)
        self._count_number(row)
        self.version += 1
        return record

    def remove(self, sys_id: str) -> None:
        record = self.rows.pop(sys_id)
        self._drop_from_index(record)
        self.version += 1

    def next_number(self) -> str:
        """Return the number the next record gets, or nothing for a table without numbers."""
        return f"{self.schema.prefix}{self._next_number:07d}" if self.schema.prefix else ""

    def _key(self, record: Record) -> tuple[str, str]:
        return record.values[self._updated], record.values[self._id]

    def _drop_from_index(self, record: Record) -> None:
        place = bisect.bisect_left(self.by_updated, self._key(record), key=self._key)
        del self.by_updated[place]

    def _count_number(self, row: tuple[str, ...]) -> None:
        if self.schema.prefix:
            found = _NUMBER.match(row[self.positions["number"]])
            if found:
                self._next_number = max(self._next_number, int(found[1]) + 1)


def stable_id(table: str, name: str) -> str:
    """Return a sys_id that is the same at every start for the same name."""
    return hashlib.blake2b(f"{table}:{name}".encode(), digest_size=16).hexdigest()
