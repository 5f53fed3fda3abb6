"""The one record of a call: its exchanges, timing, and the value after each stage. Nothing secret gets in.

The same for a console test, a production call, a sync page and an agent's tool. Redaction happens while the record
is made, so that a Trace may be shown, logged and stored as it is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import orjson

from trunkline.redact import MASK, Redactor, is_secret_name

MAX_BODY_CHARACTERS = 64 * 1024
_SHOWN_OF_A_TOKEN = frozenset(
    [
        "error",
        "error_description",
        "error_uri",
        "token_type",
        "expires_in",
        "expires_at",
        "scope",
        "grant_type",
        "message",
        "detail",
        "code",
        "status",
    ]
)


@dataclass(slots=True)
class Exchange:
    """One HTTP exchange, redacted; bodies are text, cut at 64 Ki characters with a note."""

    purpose: Literal["token", "call"]
    method: str
    url: str
    started_at: datetime
    duration_ms: float
    error: str | None = None
    request_headers: dict[str, str] = field(default_factory=dict)
    request_body: str | None = None
    status: int | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the exchange as a JSON object."""
        return {
            "purpose": self.purpose,
            "request": {
                "method": self.method,
                "url": self.url,
                "headers": self.request_headers,
                "body": self.request_body,
            },
            "response": None
            if self.status is None
            else {"status": self.status, "headers": self.response_headers, "body": self.response_body},
            "started_at": self.started_at.isoformat().replace("+00:00", "Z"),
            "duration_ms": round(self.duration_ms, 3),
            "error": self.error,
        }


@dataclass(slots=True)
class Trace:
    """What happened in one call. `error` is None exactly when the call succeeded."""

    exchanges: list[Exchange] = field(default_factory=list)
    """Every exchange in order, token calls included; empty without `detail`."""
    status_code: int | None = None
    """Of the last answer; None when the last attempt got none."""
    duration_ms: float = 0.0
    retries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    raw_response: Any = None
    after_filter: Any = None
    after_mapping: Any = None
    value: Any = None
    """After `result_key`."""
    final_result: str | None = None
    error: str | None = None
    error_kind: str | None = None
    """`status`, `refused` (no inside a 2xx), `rate_limited`, `auth`, `misconfigured`, `shape`, or egress's kind."""
    retryable: bool = False
    """Whether the same call may succeed later."""
    retry_after: float | None = None
    """Seconds until it may, when the service said so."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the last answer, as they came: for paging only, never shown."""
    url: str = field(default="", repr=False)
    """Of the last answer, as it came: for paging only, never shown."""

    def to_wire(self) -> dict[str, Any]:
        """Return the trace as the JSON object of `?trace=true`."""
        calls = [exchange for exchange in self.exchanges if exchange.purpose == "call"]
        return {
            "request": calls[-1].to_wire()["request"] if calls else None,
            "exchanges": [exchange.to_wire() for exchange in self.exchanges],
            "stages": {
                "raw_response": self.raw_response,
                "after_filter": self.after_filter,
                "after_mapping": self.after_mapping,
                "value": self.value,
                "final_result": self.final_result,
            },
            "status_code": self.status_code,
            "timing": {"duration_ms": round(self.duration_ms, 3)},
            "retries": self.retries,
            "bytes": {"sent": self.bytes_sent, "received": self.bytes_received},
            "error": self.error,
            "error_kind": self.error_kind,
            "retryable": self.retryable,
            "retry_after": self.retry_after,
        }


def body_text(body: bytes | None, redactor: Redactor) -> str | None:
    """Show a body: text, redacted as a whole and then cut; binary only as its size."""
    if not body:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"({len(body)} bytes that are no text)"
    text = redactor.text(text)
    if len(text) <= MAX_BODY_CHARACTERS:
        return text
    return f"{text[:MAX_BODY_CHARACTERS]}… (cut here; {len(body)} bytes in all)"


def token_body_text(body: bytes | None, redactor: Redactor) -> str | None:
    """Show the body of a token exchange: every value masked that is not known to be harmless."""
    if not body:
        return None
    try:
        value = orjson.loads(body)
        orjson.dumps(value)  # refuses what is nested too deeply to walk
        shown = redactor.text(orjson.dumps(_masked(value)).decode())
    except (ValueError, TypeError):
        shown = _masked_form(body, redactor)
    return shown[:MAX_BODY_CHARACTERS]


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, name) for item in value]
    return MASK if isinstance(value, str) and name not in _SHOWN_OF_A_TOKEN else value


def _masked_form(body: bytes, redactor: Redactor) -> str:
    fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=None)
    if not fields or not all(name.isidentifier() for name, _ in fields):
        return f"({len(body)} bytes, not shown)"
    shown = [(name, value if name in _SHOWN_OF_A_TOKEN else MASK) for name, value in fields]
    return redactor.text(urlencode(shown, safe="[]:"))


def shown_headers(
    headers: Mapping[str, str], redactor: Redactor, masked: Collection[str] = ()
) -> dict[str, str]:
    """Show headers: credentials, by their usual names or those in `masked` (lower case), and known secrets hidden."""
    shown: dict[str, str] = {}
    for name, value in headers.items():
        secret = name.lower() in masked or is_secret_name(name)
        text = MASK if secret else redactor.text(value)
        plain = str(name)  # orjson takes no subclass of str as a key
        shown[plain] = f"{shown[plain]}, {text}" if plain in shown else text
    return shown
