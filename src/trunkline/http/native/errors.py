"""The native wire format's error table: contract section 7."""

import math
from typing import Any

import orjson
from pydantic import ValidationError

from trunkline import errors
from trunkline.http.wire import Answer, TooLarge, encode
from trunkline.redact import is_secret_name, redact_keys

_STATUS: dict[type[errors.TrunklineError], int] = {
    TooLarge: 413,
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.TooMany: 429,
    errors.RemoteFailed: 502,
    errors.Unavailable: 503,
    errors.Broken: 500,
}

_MAX_TEXT = 200
MAX_FAULTS = 100
"""Most faults that one answer names."""

_SAFE_CONTEXT = frozenset(
    {"max_length", "min_length", "gt", "ge", "lt", "le", "pattern", "expected", "error"}
)


def status_of(error: errors.TrunklineError) -> int:
    """Return the status of the nearest class in the table."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def to_answer(error: errors.TrunklineError, request_id: str) -> Answer:
    """Write an error as `{"detail": …}`; validation faults as FastAPI's list."""
    status = status_of(error)
    if isinstance(error, errors.Invalid):
        items = [_item(field) for field in error.fields[:MAX_FAULTS]]
        body: dict[str, Any] = {"detail": items or redact_keys(error.message)}
    elif isinstance(error, errors.Broken):
        body = {"detail": "Internal error", "error_code": error.code, "request_id": request_id}
    else:
        body = {"detail": redact_keys(error.message), "error_code": error.code, "request_id": request_id}
    if isinstance(error, errors.RemoteFailed):
        body |= {"service": error.service, "status": error.status, "retryable": error.retryable}
    return Answer(status, encode(body), headers=_headers(error))


def _headers(error: errors.TrunklineError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, errors.TooMany):
        return ((b"retry-after", b"%d" % math.ceil(error.retry_after)),)
    if isinstance(error, errors.Unauthenticated):
        return ((b"www-authenticate", b"Bearer"),)
    return ()


def _item(field: errors.FieldError) -> dict[str, Any]:
    loc = [part[:_MAX_TEXT] if isinstance(part, str) else part for part in field.loc]
    item: dict[str, Any] = {"loc": loc, "msg": redact_keys(field.msg), "type": field.type}
    if field.input is not None:
        item["input"] = field.input
    if field.ctx:
        item["ctx"] = field.ctx
    return item


def from_pydantic(error: ValidationError, *place: str) -> errors.Invalid:
    """Turn pydantic's faults into ours.

    The input is shown for path and query alone, and never under a name that suggests a secret: a body
    may hold secrets anywhere.
    """
    fields = []
    for fault in error.errors(include_url=False)[:MAX_FAULTS]:
        loc = (*place, *fault["loc"])
        shown = place[0] != "body" and not any(is_secret_name(str(part)) for part in loc)
        raw = {key: value for key, value in fault.get("ctx", {}).items() if key in _SAFE_CONTEXT}
        context = orjson.loads(orjson.dumps(raw, default=str)) if raw else None
        given = str(fault["input"])[:_MAX_TEXT] if shown else None
        fields.append(errors.FieldError(loc, fault["msg"], fault["type"], given, context))
    return errors.Invalid(fields=fields)
