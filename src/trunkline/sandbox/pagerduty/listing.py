"""Lists as the REST API gives them: limit, offset, total, more; and the filters of incidents."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from starlette.requests import Request

from trunkline.sandbox.pagerduty.errors import BAD_RANGE, invalid
from trunkline.sandbox.pagerduty.incidents import STATUSES, URGENCIES, Incident
from trunkline.sandbox.service import RefusedError

T = TypeVar("T")
MAX_RECORDS = 10_000
DEFAULT_LIMIT = 25
DEFAULT_RANGE = timedelta(days=30)
LONGEST_RANGE = timedelta(days=183)
INCIDENT_PARTS = (
    "acknowledgers",
    "agents",
    "assignees",
    "conference_bridge",
    "escalation_policies",
    "first_trigger_log_entries",
    "priorities",
    "services",
    "teams",
    "users",
)
ONCALL_PARTS = ("escalation_policies", "schedules", "users")
"""What `include[]` may name."""
_SORTABLE: dict[str, Callable[[Incident], Any]] = {
    "incident_number": lambda incident: incident.number,
    "created_at": lambda incident: incident.created_at,
    "resolved_at": lambda incident: incident.resolved_at or datetime.max.replace(tzinfo=UTC),
    "urgency": lambda incident: incident.urgency,
}


def page(
    request: Request, name: str, items: Sequence[T], show: Callable[[T], Any], *, cap: int = 100
) -> dict[str, Any]:
    """Return one page of `items`; limits beyond the cap are cut to it, as the real service does."""
    limit = min(_whole(request, "limit", DEFAULT_LIMIT), cap)
    offset = _whole(request, "offset", 0)
    if limit < 1:
        raise invalid("Limit must be greater than 0")
    if offset + limit > MAX_RECORDS:
        raise invalid(f"Offset and limit together must not exceed {MAX_RECORDS}")
    return {
        name: [show(item) for item in items[offset : offset + limit]],
        "limit": limit,
        "offset": offset,
        "total": len(items) if request.query_params.get("total") == "true" else None,
        "more": offset + limit < len(items),
    }


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise invalid(f"{name.capitalize()} must be a whole number")
    return int(text)


def choices(request: Request, name: str, allowed: Sequence[str]) -> list[str]:
    """Return the values of a repeated `name[]` filter; without brackets it is refused, as the real one does."""
    if name in request.query_params:
        raise invalid(f"{name} must be a list: send {name}[]=…")
    values = request.query_params.getlist(f"{name}[]")
    for value in values:
        if allowed and value not in allowed:
            raise invalid(f"{name} must be a list of {', '.join(allowed)}")
    return values


def select_incidents(request: Request, incidents: Sequence[Incident], now: datetime) -> list[Incident]:
    """Filter and sort incidents: statuses, urgencies, services, key, and a range that is a month by default."""
    statuses = choices(request, "statuses", STATUSES)
    urgencies = choices(request, "urgencies", URGENCIES)
    services = choices(request, "service_ids", ())
    key = request.query_params.get("incident_key")
    since, until = time_range(request, now)
    found = [
        incident
        for incident in incidents
        if (not statuses or incident.status in statuses)
        and (not urgencies or incident.urgency in urgencies)
        and (not services or incident.service_id in services)
        and (key is None or incident.key == key)
        and since <= incident.created_at <= until
    ]
    for field in reversed(request.query_params.get("sort_by", "").split(",")):
        _sort(found, field)
    return found


def _sort(incidents: list[Incident], field: str) -> None:
    if not field:
        return
    name, _, direction = field.partition(":")
    if name not in _SORTABLE or direction not in {"", "asc", "desc"}:
        raise invalid(f"sort_by must be one of {', '.join(_SORTABLE)}, with :asc or :desc")
    incidents.sort(key=_SORTABLE[name], reverse=direction == "desc")


def time_range(request: Request, now: datetime) -> tuple[datetime, datetime]:
    """Return since and until (raises RefusedError for a range the real service refuses)."""
    if request.query_params.get("date_range") == "all":
        return datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    until = _moment(request, "until") or now + timedelta(seconds=1)
    since = _moment(request, "since") or until - DEFAULT_RANGE
    if since > until or until - since > LONGEST_RANGE:
        raise RefusedError(
            400,
            "Invalid 'since' or 'until' Parameter Values",
            code=BAD_RANGE,
            detail=["The range is at most 6 months"],
        )
    return since, until


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(
            400,
            "Invalid 'since' or 'until' Parameter Values",
            code=BAD_RANGE,
            detail=[f"{name} is no ISO 8601 time"],
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
