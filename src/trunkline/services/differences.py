"""What differs between two versions of a dataset, by key; and the feed of changes for whoever keeps a copy.

The cost is that of the difference: only rows that began or ended between the two are looked at.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.errors import Gone, Invalid
from trunkline.services import datasets, records
from trunkline.services.history import both, listed

_AT_ONCE = 8  # pairs of records read together, as each may be large


class Difference(NamedTuple):
    """One key whose record differs: as it was, as it is; None where it is not there."""

    key: str
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        """Say what happened: added, changed or removed."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    @property
    def fields(self) -> list[str]:
        """Name the fields that differ, of a record that changed."""
        if not isinstance(self.before, dict) or not isinstance(self.after, dict):
            return []
        names = sorted(self.before.keys() | self.after.keys())
        absent = object()
        return [name for name in names if self.before.get(name, absent) != self.after.get(name, absent)]


@dataclass(frozen=True, slots=True)
class Page:
    """Differences in the order of their keys, and the key after which they go on; None at the end."""

    items: list[Difference]
    after: str | None


@dataclass(frozen=True, slots=True)
class Feed:
    """What changed, and the position that the next request goes on from; `more` tells whether to ask at once."""

    items: list[Difference]
    version: int
    position: str
    more: bool


# Rows of the earlier version that the later has no more, and rows of the later that the earlier had not yet.
_DIFFERING = sa.text(
    "SELECT key, 0 AS is_later, position, hash FROM records WHERE dataset = :dataset "
    "AND valid_to > :low AND valid_to <= :high AND valid_from <= :low AND key > :after "
    "UNION ALL "
    "SELECT key, 1, position, hash FROM records WHERE dataset = :dataset "
    "AND valid_from > :low AND valid_from <= :high AND (valid_to IS NULL OR valid_to > :high) AND key > :after "
    "ORDER BY key, is_later LIMIT :most"
)
_DATA = both("SELECT position, data FROM records WHERE <positions>")


class _Pair(NamedTuple):
    key: str
    positions: tuple[int | None, int | None]
    """Of the earlier version, of the later."""


def between(
    conn: Connection, dataset: int, before: int, after: int, after_key: str = "", *, limit: int = 100
) -> Page:
    """Return what differs between two versions, of which either may be the later one.

    A page may hold fewer than `limit` and still be followed by others, when its records are large.
    """
    low, high = sorted((before, after))
    pairs: list[_Pair] = []
    place: str | None = after_key
    while place is not None and len(pairs) < limit:
        given = {"dataset": dataset, "low": low, "high": high, "after": place, "most": 2 * limit + 1}
        rows = conn.execute(_DIFFERING, given).all()
        place = None
        if len(rows) > 2 * limit:  # what there is of the last key may be cut off
            rows = [row for row in rows if row.key != rows[-1].key]
            place = rows[-1].key
        for pair, is_same in _pairs(rows):
            if len(pairs) == limit:
                place = pairs[-1].key
                break
            if not is_same:
                pairs.append(pair)
    items = _read(conn, pairs, is_backward=before > after)
    return Page(items, place if len(items) == len(pairs) else items[-1].key)


def _pairs(rows: Sequence[Any]) -> Iterator[tuple[_Pair, bool]]:
    """Bring together what there is of one key, and tell whether it comes to the same."""
    for key, group in groupby(rows, key=lambda row: row.key):
        sides: list[Any] = [None, None]
        for row in group:
            sides[row.is_later] = row
        first, second = sides
        is_same = first is not None and second is not None and bytes(first.hash) == bytes(second.hash)
        yield _Pair(key, (first and first.position, second and second.position)), is_same


def _read(conn: Connection, pairs: Sequence[_Pair], *, is_backward: bool) -> list[Difference]:
    found: list[Difference] = []
    size = 0
    for start in range(0, len(pairs), _AT_ONCE):
        part = pairs[start : start + _AT_ONCE]
        positions = [each for pair in part for each in pair.positions if each is not None]
        rows = conn.execute(_DATA[conn.dialect.name], {"positions": listed(conn, positions)}).all()
        data: dict[int, str] = {row.position: row.data for row in rows}
        size += sum(map(len, data.values()))
        for pair in part:
            sides = [None if each is None else orjson.loads(data[each]) for each in pair.positions]
            found.append(Difference(pair.key, *(reversed(sides) if is_backward else sides)))
        if size > records.PAGE_BYTES:
            break
    return found


async def diff(
    ctx: Context, dataset_id: str, before: int, after: int, after_key: str = "", *, limit: int = 100
) -> Page:
    """Compare two versions of a dataset, as `between` does.

    Raises:
        NotFound, Gone, Conflict: as `records.version_to_read`.
    """

    def read(conn: Connection) -> Page:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        for number in (before, after):
            records.version_to_read(conn, found, number)
        return between(conn, found.number, before, after, after_key, limit=limit)

    return await ctx.app.db.read(read)


_POSITION = re.compile(r"(\d{1,9})(?:\.(\d{1,9})\.([\w-]*))?", re.ASCII)


async def changes(ctx: Context, dataset_id: str, position: str | None = None, limit: int = 100) -> Feed:
    """Tell a copy what changed since a position; from the beginning, all records are additions.

    It goes from the version that the copy has to the active one, which after a roll back is an earlier one.

    Args:
        position: what the last answer gave, or the number of the version that the copy has.

    Raises:
        Invalid: naming `since`, when it is no position.
        NotFound, Conflict
        Gone: the copy's version is not kept any more; it must begin anew.
    """
    since, until, key = _read_position(position)

    def read(conn: Connection) -> Feed:
        found = datasets.find(conn, ctx.workspace_id, dataset_id)
        try:
            target = records.version_to_read(conn, found, until).number
            if since:
                records.version_to_read(conn, found, since)
        except Gone:
            raise Gone("That position is too old; begin anew, without `since`.") from None
        if since:
            page = between(conn, found.number, since, target, key, limit=limit)
        else:
            rows, after = records.read_page(conn, found.number, target, key, limit)
            page = Page([Difference(row.key, None, orjson.loads(row.data)) for row in rows], after)
        is_newest = target == found.active_version
        if page.after is None:
            return Feed(page.items, target, str(target), not is_newest)
        encoded = base64.urlsafe_b64encode(page.after.encode()).decode().rstrip("=")
        return Feed(page.items, target, f"{since}.{target}.{encoded}", more=True)

    return await ctx.app.db.read(read)


def _read_position(position: str | None) -> tuple[int, int | None, str]:
    wrong = Invalid.field(("query", "since"), "must be a position that a former answer gave")
    match = _POSITION.fullmatch(position or "0")
    if match is None:
        raise wrong
    encoded = match[3] or ""
    try:
        key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        raise wrong from None
    return int(match[1]), None if match[2] is None else int(match[2]), key
