"""Where a stream's last run ended, as its next request says it: `{cursor}` in `cursor.query`."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline.catalog.manifest import Cursor
from trunkline.catalog.template import CURSOR, Template

Value = str | int | float


def cursor_query(cursor: Cursor, config: Mapping[str, str]) -> Callable[[Value], dict[str, Any]]:
    """Compile a stream's `cursor.query` into what it adds to a request, given a cursor value."""
    template = Template.compile(cursor.query, namespaces=CURSOR)

    def query(value: Value) -> dict[str, Any]:
        found: dict[str, Any] = template.render({"cursor": written(value, cursor.format), "config": config})
        return found

    return query


def written(value: Value, form: str) -> Value:
    """Write a cursor value as the query wants it; what is no time in ISO 8601 stays as it is."""
    at = time_of(value) if form != "as_it_is" and isinstance(value, str) else None
    if at is None:
        return value
    return int(at.timestamp() * (1_000 if form == "epoch_ms" else 1))


def time_of(text: str) -> datetime | None:
    """Read a time in ISO 8601, in UTC unless it says otherwise; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_LAYOUT = re.compile(r"\d{4}-\d\d-\d\d(?:([T ])\d\d:\d\d(:\d\d)?(?:[.,](\d+))?(.*))?", re.DOTALL)


def like(text: str, moment: datetime) -> str:
    """Write a moment as a time is written in ISO 8601, cut to as many digits as that has."""
    layout, zone = _LAYOUT.fullmatch(text), (time_of(text) or moment).tzinfo
    if layout is None:
        return text
    at = moment.astimezone(zone)
    separator, seconds, fraction, suffix = layout.groups()
    if separator is None:
        return f"{at:%Y-%m-%d}"
    written_fraction = f".{at:%f}000"[: len(fraction) + 1] if fraction else ""
    return (
        f"{at:%Y-%m-%d}{separator}{at:%H:%M}{at.strftime(':%S') if seconds else ''}{written_fraction}{suffix}"
    )


def earlier(value: Value, seconds: float) -> Value:
    """Go back in time from a value; what is no time stays as it is."""
    at = _moment(value)
    if at is None:
        return value
    try:
        return like(str(value), at - timedelta(seconds=seconds))
    except OverflowError:
        return value


def capped(value: Value, most: datetime) -> Value:
    """Cut a value that lies after a moment down to it; what is no time stays as it is."""
    at = _moment(value)
    return value if at is None or at <= most else like(str(value), most)


def rank(value: Value) -> tuple[int, Any]:
    """Return what values compare by: times by what they mean, numbers before texts before times."""
    at = _moment(value)
    return (2, at) if at is not None else (1, value) if isinstance(value, str) else (0, value)


def _moment(value: Value) -> datetime | None:
    is_time = isinstance(value, str) and _LAYOUT.fullmatch(value) is not None
    return time_of(str(value)) if is_time else None
