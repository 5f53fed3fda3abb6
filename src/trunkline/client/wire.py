"""What goes over the wire of the native API and back: JSON, queries, path segments, errors. Sends nothing."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import orjson

from trunkline import errors

Plain = str | int | bool | datetime | None
"""What a query parameter may be."""

_PLAIN: dict[int, type[errors.TrunklineError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    503: errors.Unavailable,
}


def error_from(status: int, raw: bytes, headers: Mapping[str, str]) -> errors.TrunklineError:
    """Translate a native error answer into the error it stands for. Pure."""
    body = _lenient(raw)
    detail = body.get("detail")
    text = detail if isinstance(detail, str) else None
    if status == 422:
        return errors.Invalid(text, _field_errors(detail))
    if status == 429:
        return errors.TooMany(text, _seconds(headers.get("Retry-After")))
    if status == 502 and body.get("error_code") == errors.RemoteFailed.code:
        return _remote_failed(text, body)
    if status in _PLAIN:
        return _PLAIN[status](text)
    if status >= 500:
        return errors.Unavailable(_with_request(text or f"The hub answered HTTP {status}", body))
    if status < 400:
        return errors.Unavailable(f"The hub answered with a redirect (HTTP {status}); is its address right?")
    return errors.Invalid(text or f"The hub refused the request: HTTP {status}")


def _remote_failed(text: str | None, body: Mapping[str, Any]) -> errors.RemoteFailed:
    status, retries, trace = body.get("status"), body.get("retries"), body.get("trace")
    return errors.RemoteFailed(
        _with_request(text or "The remote service failed", body),
        service=str(body.get("service") or "") or None,
        status=status if isinstance(status, int) else None,
        retryable=body.get("retryable") is True,
        retries=retries if isinstance(retries, int) else 0,
        trace=trace if isinstance(trace, dict) else None,
    )


def _with_request(text: str, body: Mapping[str, Any]) -> str:
    request_id = body.get("request_id")
    return f"{text} (request {request_id})" if isinstance(request_id, str) else text


def _field_errors(detail: Any) -> list[errors.FieldError]:
    if not isinstance(detail, list):
        return []
    return [
        errors.FieldError(
            tuple(item.get("loc") or ()), str(item.get("msg", "")), str(item.get("type", "value_error"))
        )
        for item in detail
        if isinstance(item, dict)
    ]


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 1))
    except ValueError:
        return 1.0


def query_text(values: Mapping[str, Plain]) -> dict[str, str]:
    """Write query parameters as text; what is None is left out."""
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: Plain) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def origin_of(url: str) -> str:
    """Check the address of a hub, and return it without a final slash."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # parsed, and refused, only when asked for
    except ValueError as error:
        raise errors.Invalid.field(("url",), f"{url!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise errors.Invalid.field(("url",), f"{url!r} is no http(s) address, such as http://127.0.0.1:8700")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise errors.Invalid.field(("url",), "give only scheme, host, port and path prefix")
    return url.strip().rstrip("/")


def segment(text: str) -> str:
    """Quote one segment of a path."""
    if text in {"", ".", ".."}:
        raise errors.NotFound(f"{text!r} names nothing")
    return quote(_utf8(text), safe="")


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise errors.Invalid(f"{text!r} is not valid UTF-8") from error
    return text


def is_uuid(text: str) -> bool:
    """Tell whether a text is an id."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def encode(body: Any) -> bytes:
    """Write JSON."""
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson's own error is one; so are surrogates and numbers over 64 bits
        raise errors.Invalid(f"Not a JSON value: {error}") from error


def decode(raw: bytes, url: str) -> Any:
    """Read JSON."""
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise errors.Unavailable(
            f"What answers at {url} does not speak JSON; is it a Trunkline hub?"
        ) from error


def _lenient(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def as_object(value: Any) -> dict[str, Any]:
    """Return what must be a JSON object."""
    if not isinstance(value, dict):
        raise errors.Unavailable("The answer is not what a Trunkline hub sends; is the address right?")
    return value


def reason_of(error: BaseException) -> str:
    """Say in words what kept us from the hub."""
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    return os.strerror(number) if number and number > 0 else str(inner) or type(inner).__name__
