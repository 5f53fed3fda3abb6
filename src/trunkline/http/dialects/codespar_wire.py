"""Codespar's spellings: pure functions between its JSON and ours, its error table, and each guess its page leaves open.

Its documents: docs/codespar.md.
"""

import re
from datetime import UTC, datetime
from typing import Any

from trunkline.errors import (
    Broken,
    Conflict,
    FieldError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteFailed,
    TooMany,
    TrunklineError,
    Unauthenticated,
    Unavailable,
)
from trunkline.http.dialects.dialect import NoSuchMethod
from trunkline.http.wire import Answer, TooLarge, encode
from trunkline.redact import redact_keys

_MAX_TEXT = 2000


class NotConfigured(Invalid):
    """The integration is not configured"""

    code = "integration_not_configured"


class IncidentNotFound(NotFound):
    """Incident not found"""

    code = "incident_not_found"


class RouteNotFound(NotFound):
    """Channel route not found"""

    code = "route_not_found"


_ERRORS: dict[type[TrunklineError], tuple[int, str]] = {
    NotConfigured: (400, "INTEGRATION_NOT_CONFIGURED"),
    TooLarge: (413, "PAYLOAD_TOO_LARGE"),
    Invalid: (400, "VALIDATION_ERROR"),
    Unauthenticated: (401, "UNAUTHORIZED"),
    Forbidden: (403, "FORBIDDEN"),
    IncidentNotFound: (404, "INCIDENT_NOT_FOUND"),
    RouteNotFound: (404, "ROUTE_NOT_FOUND"),
    NoSuchMethod: (405, "METHOD_NOT_ALLOWED"),
    NotFound: (404, "NOT_FOUND"),
    Conflict: (409, "CONFLICT"),
    Gone: (404, "NOT_FOUND"),
    TooMany: (429, "RATE_LIMITED"),
    RemoteFailed: (502, "UPSTREAM_ERROR"),
    Unavailable: (503, "SERVICE_UNAVAILABLE"),
    Broken: (500, "INTERNAL_ERROR"),
}
"""The page names the first of the 400s, the two 404s of a noun, and UPSTREAM_ERROR; the other codes are choices."""


def to_answer(error: TrunklineError, request_id: str) -> Answer:
    """Write an error in the one shape of this format."""
    del request_id  # it is a header
    status, code = next(_ERRORS[kind] for kind in type(error).__mro__ if kind in _ERRORS)
    text = "Internal error" if isinstance(error, Broken) else _text(error)
    body: dict[str, Any] = {"error": redact_keys(text), "code": code, "status": status}
    if isinstance(error, RemoteFailed) and error.trace is not None:
        body |= error.trace
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, TooMany):
        headers = ((b"retry-after", b"%d" % -(-error.retry_after // 1)),)
    if isinstance(error, NoSuchMethod):
        headers = ((b"allow", error.allowed.encode()),)
    return Answer(status, encode(body), headers=headers)


def _text(error: TrunklineError) -> str:
    if isinstance(error, Invalid) and error.fields:
        return "; ".join(_fault(field) for field in error.fields)[:_MAX_TEXT]
    return error.message


def _fault(field: FieldError) -> str:
    """Name a field as this format's client knows it, without the place that our own list of faults begins with."""
    place = [str(part)[:200] for part in field.loc if part not in {"body", "query", "path"}]
    return f"{'.'.join(place) or 'body'}: {field.msg}"


def camel(name: str) -> str:
    """Spell `created_at` as `createdAt`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def snake(name: str) -> str:
    """Spell `createdAt` as `created_at`."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: "_" + found[0], name).lower()


def utc(text: Any) -> Any:
    """Write a service's time as this format does: ISO 8601, UTC, `Z`, no empty fraction; what is no time stays."""
    if isinstance(text, datetime):
        when = text
    else:
        try:
            when = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            return text
    try:
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except OverflowError:
        return text
    return when.isoformat().replace("+00:00", "Z")
