"""Lists as the API gives them: filters, order, and pages by the record they begin behind. Pure."""

import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from trunkline.sandbox.linear.refused import bad_input
from trunkline.sandbox.linear.workspace import Record, iso

DEFAULT_PAGE, MAX_PAGE = 50, 250
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}")


def living(records: list[Record], arguments: Record) -> list[Record]:
    """Leave out what is archived, unless it is asked for."""
    if arguments.get("includeArchived"):
        return records
    return [one for one in records if one["archivedAt"] is None]


def connection(records: list[Record], arguments: Record) -> Record:
    """Return one page; newest first unless sorted otherwise. A cursor is the id of the record it stands behind."""
    found = [one for one in living(records, arguments) if matches(one, arguments.get("filter") or {})]
    _sort(found, arguments)
    backwards = "last" in arguments or "before" in arguments
    size = arguments.get("last" if backwards else "first")
    size = DEFAULT_PAGE if size is None else size
    if not 1 <= size <= MAX_PAGE:
        word = "last" if backwards else "first"
        raise bad_input(f"{word} must be between 1 and {MAX_PAGE}")
    start, end = (
        _place(found, arguments.get("after"), -1) + 1,
        _place(found, arguments.get("before"), len(found)),
    )
    if backwards:
        start = max(start, end - size)
    else:
        end = min(end, start + size)
    page = found[start:end]
    info = {
        "hasNextPage": end < len(found),
        "hasPreviousPage": start > 0,
        "startCursor": page[0]["id"] if page else None,
        "endCursor": page[-1]["id"] if page else None,
    }
    return {"nodes": page, "edges": [{"cursor": one["id"], "node": one} for one in page], "pageInfo": info}


def _place(found: list[Record], cursor: str | None, default: int) -> int:
    if cursor is None:
        return default
    for place, one in enumerate(found):
        if one["id"] == cursor:
            return place
    raise bad_input("The cursor does not stand in this list")


def _sort(found: list[Record], arguments: Record) -> None:
    wanted = arguments.get("sort") or [{arguments.get("orderBy") or "createdAt": {"order": "Descending"}}]
    found.sort(key=operator.itemgetter("id"))
    for rule in reversed(wanted):
        for name, how in rule.items():
            found.sort(key=operator.itemgetter(name), reverse=how.get("order") == "Descending")


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "in": lambda value, wanted: value in wanted,
    "nin": lambda value, wanted: value not in wanted,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "eqIgnoreCase": lambda value, wanted: value.casefold() == wanted.casefold(),
    "neqIgnoreCase": lambda value, wanted: value.casefold() != wanted.casefold(),
    "startsWith": lambda value, wanted: value.startswith(wanted),
    "notStartsWith": lambda value, wanted: not value.startswith(wanted),
    "endsWith": lambda value, wanted: value.endswith(wanted),
    "notEndsWith": lambda value, wanted: not value.endswith(wanted),
    "contains": lambda value, wanted: wanted in value,
    "notContains": lambda value, wanted: wanted not in value,
    "containsIgnoreCase": lambda value, wanted: wanted.casefold() in value.casefold(),
    "notContainsIgnoreCase": lambda value, wanted: wanted.casefold() not in value.casefold(),
}


def matches(record: Record | None, wanted: Record) -> bool:
    """Tell whether a record satisfies a filter of the schema."""
    return all(_satisfies(record, name, condition) for name, condition in wanted.items())


def _satisfies(record: Record | None, name: str, condition: Any) -> bool:
    if name == "null":
        return (record is None) is bool(condition)
    if record is None:
        return False
    if name in {"and", "or"}:
        found = [matches(record, one) for one in condition]
        return all(found) if name == "and" else any(found)
    value = record[name]
    if isinstance(value, list):
        return _some(value, condition)
    if value is None or isinstance(value, dict):
        return matches(value, condition)
    return _compare(value, condition)


def _some(values: list[Record], condition: Record) -> bool:
    direct = {name: one for name, one in condition.items() if name not in {"some", "every"}}
    if "every" in condition and not all(matches(one, condition["every"]) for one in values):
        return False
    some = {**direct, **condition.get("some", {})}
    return not some or any(matches(one, some) for one in values)


def _compare(value: Any, condition: Record) -> bool:
    return all(
        not wanted if name == "null" else _COMPARE[name](value, _moment(wanted))
        for name, wanted in condition.items()
    )


def _moment(wanted: Any) -> Any:
    """Write a point in time as the records have it; anything else stays."""
    if not isinstance(wanted, str) or not _MOMENT.match(wanted):
        return wanted
    try:
        return iso(datetime.fromisoformat(wanted))
    except ValueError:
        return wanted
