"""Records of a dataset at a version: listed, read, deleted. Comparing versions is `differences.py`'s, writing them out `exports.py`'s.

A version is looked up in the snapshot that its records are read in, so that a list is never of two versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.errors import Conflict, Gone, Invalid, NotFound
from trunkline.rest.paths import Path
from trunkline.services import datasets, edits, versions
from trunkline.services.datasets import Dataset
from trunkline.services.history import holds
from trunkline.services.versions import Version

MAX_KEY = 512
PAGE_BYTES = 4 * 1024 * 1024
"""Data after which a page ends, however few its records."""
_MOST_LOOKED_AT = 20_000
_MOST_FILTERS = 10
_READABLE = frozenset({"active", "inactive", "waiting"})
_STREAMED = {"stream_results": True, "max_row_buffer": 8}


class Record(NamedTuple):
    """One record at a version; `since` is the version it has been like this from."""

    key: str
    since: int
    data: str


@dataclass(frozen=True, slots=True)
class Page:
    """Records of one version in the order of their keys, and the key after which they go on; None at the end."""

    version: Version
    items: list[Record]
    after: str | None


class Filters:
    """Records to keep: at each path a value that reads as told."""

    def __init__(self, given: Mapping[str, str]) -> None:
        if len(given) > _MOST_FILTERS:
            raise Invalid.field(("query", "filters"), f"has more than {_MOST_FILTERS} entries")
        self._wanted: list[tuple[Path, str]] = []
        for text, value in given.items():
            try:
                self._wanted.append((Path.compile(text), value))
            except ValueError as error:
                raise Invalid.field(("query", "filters", text), str(error)) from None

    @classmethod
    def parse(cls, text: str | None) -> "Filters | None":
        """Read filters as they are sent: a JSON object of paths and values; None when there are none.

        Raises:
            Invalid: naming `filters`.
        """
        try:
            given = orjson.loads(text or "{}")
        except orjson.JSONDecodeError as error:
            raise Invalid.field(("query", "filters"), f"is no JSON: {error}") from None
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            example = 'must be a JSON object of texts, such as {"state":"Closed"}'
            raise Invalid.field(("query", "filters"), example)
        return cls(given) if given else None

    def fit(self, record: Any) -> bool:
        """Tell whether a record has every value, or lists with it."""
        return all(_reads_as(path.get(record), wanted) for path, wanted in self._wanted)


def _reads_as(value: Any, wanted: str) -> bool:
    if isinstance(value, list):
        return any(_reads_as(each, wanted) for each in value)
    if isinstance(value, str):
        return value == wanted
    is_plain = value is None or isinstance(value, bool | int | float)
    return is_plain and orjson.dumps(value).decode() == wanted


def version_to_read(conn: Connection, dataset: Dataset, number: int | None = None) -> Version:
    """Return the version to read from: the active one unless told otherwise.

    Raises:
        NotFound: no such version, or none is active yet.
        Gone: its records were deleted.
        Conflict: it is being made.
    """
    if number is None:
        number = dataset.active_version
        if number is None:
            raise NotFound("This dataset has no active version yet: run a sync or upload a file.")
    version = versions.find(conn, dataset.number, number)
    if version.status in {"archived", "failed"}:
        raise Gone(f"Version {number} is {version.status}: its records are not kept.")
    if version.status not in _READABLE:
        raise Conflict(f"Version {number} is {version.status}: it cannot be read yet.")
    return version


_LIST = sa.text(
    "SELECT key, valid_from, data FROM records WHERE dataset = :dataset AND key > :after "  # noqa: S608 - constants
    f"AND {holds()} ORDER BY key LIMIT :most"
)
_ONE = sa.text(
    f"SELECT key, valid_from, data FROM records WHERE dataset = :dataset AND key = :key AND {holds()}"  # noqa: S608
)


def read_page(
    conn: Connection,
    dataset: int,
    version: int,
    after: str = "",
    limit: int = 100,
    *,
    filters: Filters | None = None,
) -> tuple[list[Record], str | None]:
    """Return records in the order of their keys, and the key after which they go on; None at the end.

    A page may hold fewer than `limit` and still be followed by others: when its records are large, or few fit.
    """
    most = _MOST_LOOKED_AT if filters else limit
    given = {"dataset": dataset, "version": version, "after": after, "most": most + 1}
    found: list[Record] = []
    last, size, looked_at = after, 0, 0
    with conn.execute(_LIST, given, execution_options=_STREAMED) as rows:
        for row in rows:
            if len(found) == limit or size > PAGE_BYTES or looked_at == most:
                return found, last
            looked_at, last = looked_at + 1, row[0]
            if filters is None or filters.fit(orjson.loads(row[2])):
                size += len(row[2])
                found.append(Record._make(row))
    return found, None


def find(conn: Connection, dataset: int, version: int, key: str) -> Record:
    """Return one record as it is at a version.

    Raises:
        NotFound
    """
    row = conn.execute(_ONE, {"dataset": dataset, "version": version, "key": key}).one_or_none()
    if row is None:
        raise NotFound(f"Version {version} has no such record.")
    return Record._make(row)


async def list_page(
    ctx: Context,
    dataset_id: str,
    number: int | None = None,
    after: str = "",
    limit: int = 100,
    *,
    filters: Filters | None = None,
) -> Page:
    """List records of a version in the order of their keys, as `read_page` does.

    Raises:
        NotFound, Gone, Conflict: as `version_to_read`.
    """

    def read(conn: Connection) -> Page:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        version = version_to_read(conn, found, number)
        return Page(version, *read_page(conn, found.number, version.number, after, limit, filters=filters))

    return await ctx.app.db.read(read)


async def get(ctx: Context, dataset_id: str, key: str, number: int | None = None) -> tuple[Version, Record]:
    """Return a record, and the version it is read from.

    Raises:
        NotFound, Gone, Conflict
    """

    def read(conn: Connection) -> tuple[Version, Record]:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        version = version_to_read(conn, found, number)
        return version, find(conn, found.number, version.number, key)

    return await ctx.app.db.read(read)


async def delete(ctx: Context, dataset_id: str, keys: Sequence[str], notes: str | None = None) -> Version:
    """Delete records by making a version without them, which is active at once.

    A source that still has them brings them back with its next full run.

    Raises:
        NotFound: no record of these is there.
        Conflict: a run is under way.
    """

    def change(conn: Connection, dataset: Dataset, version: Version) -> None:
        if not versions.remove(conn, dataset.number, version.number, keys).removed:
            raise NotFound("Record not found")

    return await edits.edit(ctx, dataset_id, "edit", change, notes)
