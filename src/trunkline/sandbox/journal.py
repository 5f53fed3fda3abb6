"""The journal: the latest requests each fake received, bounded, credentials blacked out when read."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 500
BODY_KEPT = 4_096
BLACK = "[redacted]"
_SECRET_HEADERS = frozenset(
    {"authorization", "authentication", "cookie", "proxy-authorization", "x-api-key", "x-routing-key"}
)
_GUARDED = (
    "password|client_secret|refresh_token|access_token|token|routing_key|secret|assertion|code_verifier"
)
_FORM = re.compile(rf"(?i)(\b(?:{_GUARDED})=)[^&\s]*")
_JSON = re.compile(rf'(?i)("(?:{_GUARDED})"\s*:\s*)"(?:[^"\\]|\\.)*("|$)')


@dataclass
class Entry:
    """One request as it came in; formatted only when somebody asks."""

    at: str
    service: str
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    fault: str | None = None
    status: int | None = None
    duration_ms: float = 0.0
    body: bytearray = field(default_factory=bytearray)


class Journal:
    """The last 500 requests."""

    def __init__(self, secrets: list[str]) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        longest_first = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def clear(self) -> None:
        self._entries.clear()

    def read(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return the requests, oldest first, without any credential."""
        return [self._show(entry) for entry in self._entries if service in {None, entry.service}]

    def _show(self, entry: Entry) -> dict[str, Any]:
        return {
            "at": entry.at,
            "service": entry.service,
            "method": entry.method,
            "path": self._black(entry.path),
            "query": self._black(entry.query.decode("latin-1")),
            "headers": [self._header(name, value) for name, value in entry.headers],
            "body": self._black(entry.body.decode(errors="replace")),
            "status": entry.status,
            "fault": entry.fault,
            "duration_ms": round(entry.duration_ms, 3),
        }

    def _header(self, name: bytes, value: bytes) -> list[str]:
        text = name.decode("latin-1")
        if text in _SECRET_HEADERS:
            return [text, BLACK]
        return [text, self._black(value.decode("latin-1"))]

    def _black(self, text: str) -> str:
        text = self._secrets.sub(BLACK, text)
        return _JSON.sub(rf'\1"{BLACK}"', _FORM.sub(rf"\1{BLACK}", text))
