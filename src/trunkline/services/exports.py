"""A version written out: JSON Lines, CSV, Parquet; page by page, whatever its size.

CSV and Parquet must know all fields before the first record: they read the version twice.
"""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from importlib import import_module
from typing import Any

import orjson
from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Invalid
from trunkline.services import datasets, records
from trunkline.services.datasets import Dataset
from trunkline.services.records import Record

CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_AT_ONCE = 1_000
_GROUP = 10_000  # records of one row group of Parquet
_LARGEST = 2**63
Kinds = dict[str, set[type]]


async def export(
    ctx: Context, dataset_id: str, number: int | None, format: str
) -> tuple[int, AsyncGenerator[bytes, None]]:
    """Begin to write a version out, the active one unless told otherwise; return its number and the bytes as they come.

    The iterator raises Gone when the version is deleted meanwhile.

    Raises:
        Invalid: naming `format`: unknown, or what it needs is not installed.
        NotFound, Gone, Conflict: as `records.version_to_read`.
    """
    if format not in CONTENT_TYPES:
        raise Invalid.field(("query", "format"), f"must be one of {', '.join(CONTENT_TYPES)}")
    write = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet}[format]
    if format == "parquet":
        _pyarrow()

    def read(conn: Connection) -> tuple[Dataset, int]:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        return found, records.version_to_read(conn, found, number).number

    dataset, version = await ctx.app.db.read(read)
    return version, write(ctx.app, dataset, version)


async def pages(app: App, dataset: Dataset, version: int) -> AsyncIterator[list[Record]]:
    """Read a whole version, page by page, as long as it is kept.

    Raises:
        Gone: it was deleted meanwhile.
    """
    after: str | None = ""
    while after is not None:

        def read(conn: Connection, place: str = after) -> tuple[list[Record], str | None]:
            records.version_to_read(conn, dataset, version)
            return records.read_page(conn, dataset.number, version, place, _AT_ONCE)

        page, after = await app.db.read(read)
        if page:
            yield page


async def _json_lines(app: App, dataset: Dataset, version: int) -> AsyncGenerator[bytes, None]:
    async for page in pages(app, dataset, version):
        yield "".join(f"{record.data}\n" for record in page).encode()


async def _kinds(app: App, dataset: Dataset, version: int) -> Kinds:
    """Find the fields of all records and the types of their values, nulls aside."""
    found: Kinds = {}
    async for page in pages(app, dataset, version):
        for record in page:
            for name, value in orjson.loads(record.data).items():
                kinds = found.setdefault(name, set())
                if type(value) is int and not -_LARGEST <= value < _LARGEST:
                    kinds.add(float)
                elif value is not None:
                    kinds.add(type(value))
    return found


async def _csv(app: App, dataset: Dataset, version: int) -> AsyncGenerator[bytes, None]:
    names = list(await _kinds(app, dataset, version))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    async for page in pages(app, dataset, version):
        for record in page:
            values = orjson.loads(record.data)
            writer.writerow([_cell(values.get(name)) for name in names])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    if rest := text.getvalue():
        yield rest.encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def _parquet(app: App, dataset: Dataset, version: int) -> AsyncGenerator[bytes, None]:
    arrow, parquet = _pyarrow()
    kinds = await _kinds(app, dataset, version)
    plain = {name: _column(arrow, found) for name, found in kinds.items()}
    schema = arrow.schema([(name, column or arrow.string()) for name, column in plain.items()])
    sink = _Sink()
    writer = parquet.ParquetWriter(sink, schema)

    def write(rows: list[Mapping[str, Any]]) -> bytes:
        columns = [
            arrow.array([_value(row.get(name), column) for row in rows], type=column or arrow.string())
            for name, column in plain.items()
        ]
        writer.write_table(arrow.table(columns, schema=schema))
        return sink.take()

    waiting: list[Mapping[str, Any]] = []
    async for page in pages(app, dataset, version):
        waiting += [orjson.loads(record.data) for record in page]
        if len(waiting) >= _GROUP:
            yield await asyncio.to_thread(write, waiting)
            waiting = []
    if waiting:
        yield await asyncio.to_thread(write, waiting)
    writer.close()
    yield sink.take()


class _Sink(io.RawIOBase):
    """What Parquet is written to: bytes that are taken away as they come."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        return len(self._written[-1])

    def take(self) -> bytes:
        """Return what was written since the last time."""
        written, self._written = self._written, []
        return b"".join(written)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        text = "needs pyarrow, which is not installed here: pip install 'trunkline[parquet]'"
        raise Invalid.field(("query", "format"), text) from None


def _column(arrow: Any, kinds: set[type]) -> Any:
    """Return the type of a column; None: it is of several, and holds JSON."""
    if not kinds or kinds == {str}:
        return arrow.string()
    if kinds == {bool}:
        return arrow.bool_()
    if kinds == {int}:
        return arrow.int64()
    return arrow.float64() if kinds <= {int, float} else None


def _value(value: Any, column: Any) -> Any:
    if value is None:
        return None
    if column is None:
        return orjson.dumps(value).decode()
    return float(value) if str(column) == "double" else value
