"""A call's trace, small enough to be kept with every attempt, and storable whatever came from outside. Pure."""

from typing import Any

import orjson

from trunkline.rest.trace import Exchange, Trace

MAX_BYTES = 8 * 1024
_MAX_BODY, _MAX_HEADER, _MAX_HEADERS, _MAX_EXCHANGES, _MAX_TEXT = 1000, 200, 20, 3, 2000


def small_trace(trace: Trace) -> dict[str, Any] | None:
    """Return the last exchanges of a call, cut; None when nothing was sent."""
    if not trace.exchanges:
        return None
    exchanges = [_small(exchange) for exchange in trace.exchanges[-_MAX_EXCHANGES:]]
    shown = {
        "exchanges": exchanges,
        "error_kind": trace.error_kind,
        "bytes": {"sent": trace.bytes_sent, "received": trace.bytes_received},
    }
    if len(orjson.dumps(shown)) > MAX_BYTES:
        for exchange in exchanges:
            exchange["request"].update(headers={}, body=None)
            if exchange["response"]:
                exchange["response"].update(headers={})
    return shown if len(orjson.dumps(shown)) <= MAX_BYTES else {"error_kind": trace.error_kind}


def plain_text(text: str | None) -> str | None:
    """Return a text that every database takes, of bearable length."""
    if text is None:
        return None
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "")


def _small(exchange: Exchange) -> dict[str, Any]:
    shown = exchange.to_wire()
    shown["error"] = plain_text(shown["error"])
    for side in (shown["request"], shown["response"]):
        if side is not None:
            headers = list(side["headers"].items())[:_MAX_HEADERS]
            side["headers"] = {_cut(name, 100): _cut(value, _MAX_HEADER) for name, value in headers}
            side["body"] = _cut(side["body"], _MAX_BODY)
    shown["request"]["url"] = _cut(shown["request"]["url"], _MAX_BODY)
    return shown


def _cut(text: str | None, length: int) -> str | None:
    if text is None or len(text) <= length:
        return plain_text(text)
    return f"{plain_text(text[:length])}… (cut here; {len(text)} characters in all)"
