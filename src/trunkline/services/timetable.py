"""When a dataset is due again: every so many seconds, or as a cron line says in its time zone. Pure: the rows are elsewhere's.

Cron follows Debian where clocks change: what falls into the hour that is skipped runs right after it, what falls into
the hour that comes twice runs once; lines with `*` in minute or hour go by real time.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from trunkline.errors import Invalid

LEAST_SECONDS = 10
_MOST_SECONDS = 366 * 86_400
_EXAMPLE = '{"every_seconds": 300} or {"cron": "*/5 * * * *", "timezone": "Europe/Vienna"}'


def check(schedule: Any) -> dict[str, Any]:
    """Return a schedule as it is stored.

    Raises:
        Invalid: naming what is wrong, at ("body", "schedule", …).
    """
    match schedule:
        case {"every_seconds": int(seconds), **rest} if not rest and not isinstance(seconds, bool):
            if not LEAST_SECONDS <= seconds <= _MOST_SECONDS:
                raise _wrong(f"must be between {LEAST_SECONDS} and {_MOST_SECONDS}", "every_seconds")
            return {"every_seconds": seconds}
        case {"cron": str(line), **rest} if rest.keys() <= {"timezone"}:
            zone = rest.get("timezone", "UTC")
            _check_cron(line, _zone(zone))
            return {"cron": line, "timezone": zone}
    raise _wrong(f"must be {_EXAMPLE}")


def next_after(schedule: dict[str, Any], now: datetime, planned: datetime | None = None) -> datetime:
    """Return when it is due next, after now; turns that were missed are not made up for.

    Args:
        planned: the turn that was due: an interval keeps its pace from there.
    """
    if "every_seconds" in schedule:
        every = timedelta(seconds=schedule["every_seconds"])
        start = now if planned is None or planned > now else planned
        return start + every * ((now - start) // every + 1)
    zone = _zone(schedule["timezone"])
    found: datetime = next(CronSim(schedule["cron"], now.astimezone(zone)))
    return found.astimezone(UTC)


def _check_cron(line: str, zone: ZoneInfo) -> None:
    if len(line) > 200 or len(line.split()) != 5:
        raise _wrong("must have five fields: minute, hour, day, month, weekday", "cron")
    try:
        next(CronSim(line, datetime(2026, 1, 1, tzinfo=zone)))
    except CronSimError as error:
        raise _wrong(f"is no cron line: {error}", "cron") from None
    except StopIteration:
        raise _wrong("names no day that ever comes", "cron") from None


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise _wrong("is no time zone; an example is Europe/Vienna", "timezone") from None


def _wrong(text: str, *at: str) -> Invalid:
    return Invalid.field(("body", "schedule", *at), text)
