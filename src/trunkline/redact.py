"""The one redactor: nothing secret leaves in a log, an error, a trace or a response."""

import html
import json
import re
from binascii import b2a_base64
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
_MIN_LENGTH = 4  # shorter values would blank out ordinary text
_MIN_INNER_LENGTH = (
    9  # bytes; what base64 shows of a shorter value inside a longer one could be ordinary text
)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_HEX_PAIR = re.compile(r"%[0-9A-F]{2}")
_KEY_PATTERN = re.compile(r"tl_[0-9A-Za-z]{46}")
_KEY_BYTES = re.compile(_KEY_PATTERN.pattern.encode())
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token"}
)
_SECRET_NAME = re.compile(
    r"secret|password|passwd|token|api[-_]?key|private[-_]?key|assertion|credential", re.IGNORECASE
)


class Redactor:
    """Blank out known secret values, in every spelling they travel in, anywhere in a JSON value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: tuple[str, ...] = ()
        self._encoded: tuple[bytes, ...] = ()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Learn more secret values, such as a token that was just fetched."""
        found = set(self._spellings)
        for secret in secrets:
            if len(secret) >= _MIN_LENGTH:
                found.update(_spellings(secret))
        if len(found) == len(self._spellings):
            return
        self._spellings = tuple(sorted(found, key=len, reverse=True))
        self._encoded = tuple(_encoded(text) for text in self._spellings)

    def add_pair(self, username: str, password: str) -> None:
        """Learn a Basic pair: its base64 shows both."""
        pair = f"{username}:{password}"
        if len(password) >= _MIN_LENGTH:
            self.add(password, pair)

    def text(self, text: str) -> str:
        """Redact a string."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, MASK)
        return redact_keys(text)

    def value(self, value: Any) -> Any:
        """Redact every string, and every object key, in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def headers(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Redact headers: those that carry credentials by name, and known values in any other."""
        return {name: MASK if is_secret_name(name) else self.text(value) for name, value in headers}

    def found_in(self, encoded: bytes) -> bool:
        """Tell whether orjson's output holds a known secret: cheap enough to ask of every answer."""
        if any(secret in encoded for secret in self._encoded):
            return True
        return b"tl_" in encoded and _KEY_BYTES.search(encoded) is not None  # `html_url` is no key


def _encoded(text: str) -> bytes:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text.encode()
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")


def _spellings(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {secret, raw.hex(), raw.hex().upper(), *_base64_forms(raw)}
    if not _UNRESERVED.fullmatch(secret):
        forms |= _escaped_forms(secret, raw)
    forms.update(line for line in secret.splitlines() if len(line) >= 16 and not line.startswith("-----"))
    return forms


def _base64_forms(raw: bytes) -> set[str]:
    """Write in base64, alone and as a later part of something longer, such as Basic's `user:password`."""
    text = b2a_base64(raw, newline=False)
    standard = [text.rstrip(b"=")]
    if len(raw) >= _MIN_INNER_LENGTH:
        standard.append(text[: len(raw) // 3 * 4])
        for before in (1, 2):
            shifted = b"\0" * before + raw
            standard.append(b2a_base64(shifted, newline=False)[4 : len(shifted) // 3 * 4])
    urlsafe = [form.translate(_URLSAFE) for form in standard]
    return {form.decode() for form in (*standard, *urlsafe)}


def _escaped_forms(secret: str, raw: bytes) -> set[str]:
    """Write as URLs, forms, JSON (with and without escaped slashes and letters) and HTML write it."""
    urls = {quote(raw, safe=""), quote(raw), quote_plus(raw), quote_plus(raw, safe="/")}
    forms = urls | {_HEX_PAIR.sub(lambda pair: pair[0].lower(), url) for url in urls}
    for ascii_only in (False, True):
        text = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        forms |= {text, text.replace("/", "\\/")}
    return forms | {html.escape(secret), html.escape(secret, quote=False)}


def redact_keys(text: str) -> str:
    """Blank out anything that looks like one of our own API keys."""
    return _KEY_PATTERN.sub(MASK, text) if "tl_" in text else text


def is_secret_name(name: str) -> bool:
    """Tell whether a header or field of this name carries a credential."""
    return name.lower() in _SECRET_HEADERS or _SECRET_NAME.search(name) is not None
