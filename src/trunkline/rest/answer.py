"""Read an answer: bytes to a JSON value that can always be written again, and whether the service said no.

Nothing an upstream sends raises here: what is no JSON is text, what is no text is described, not shown.
"""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from trunkline.catalog.manifest import Endpoint, ErrorRule, Manifest
from trunkline.errors import Invalid
from trunkline.rest.json_text import loose_json
from trunkline.rest.paths import MISSING, Path

_MAX_MESSAGE = 300
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSETS = frozenset(
    [
        "utf-8",
        "ascii",
        "iso8859-1",
        "iso8859-2",
        "iso8859-5",
        "iso8859-7",
        "iso8859-9",
        "iso8859-15",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "koi8-r",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "shift_jis",
        "euc_jp",
        "euc_kr",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
    ]
)
"""Character sets that are decoded; some of Python's other codecs are slow on purpose-made input, or no text."""
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
"""Services that cut texts by length cut emoji in half: one such text must not cost the whole answer."""
_TEXT_TYPES = ("text/", "application/xml", "application/javascript", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Answer:
    """A body as a JSON value, and the same value as orjson writes it."""

    value: Any
    encoded: bytes


_EMPTY = Answer(None, b"null")


def read(body: bytes, content_type: str) -> Answer:
    """Read a body: empty is null; JSON by its type or its look; else text; else `{"content_type", "bytes"}`.

    Integers beyond 64 bits become floats, half a surrogate pair U+FFFD. JSON that is deeper than can be written again stays text.
    """
    if not body or body.isspace():
        return _EMPTY
    kind = content_type.lower()
    if "json" in kind or body.lstrip()[:1] in {b"{", b"["} or body[:1] in {b"\xef", b"\xff", b"\xfe"}:
        answer = _json(body, _charset(kind))
        if answer is not None:
            return answer
    text = _text(body, kind)
    return _written({"content_type": content_type[:200], "bytes": len(body)} if text is None else text)


def parse(body: bytes, content_type: str) -> Any:
    """Read a body as `read` does, without writing it again: it may hold what is nested too deeply for that."""
    try:
        return _loaded(body, _charset(content_type.lower()))
    except ValueError:
        return read(body, content_type).value


def _json(body: bytes, charset: str | None) -> Answer | None:
    try:
        return _written(_loaded(body, charset))
    except (ValueError, TypeError):
        return None


def _loaded(body: bytes, charset: str | None) -> Any:
    text = body.decode(charset) if charset and charset != "utf-8" else _utf8(body)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if _HALF_PAIR.search(body) is None:
            raise
        return loose_json(text)


def _written(value: Any) -> Answer:
    return Answer(value, orjson.dumps(value))


def _utf8(body: bytes) -> bytes | str:
    for mark, charset in _BOMS:
        if body.startswith(mark):
            rest = body[len(mark) :]
            return rest if charset == "utf-8" else rest.decode(charset)
    return body


def _text(body: bytes, kind: str) -> str | None:
    for mark, charset in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(charset, "replace")
    given = _charset(kind)
    if given is not None:
        return body.decode(given, "replace")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace") if kind.startswith(_TEXT_TYPES) else None
    return text if kind.startswith(_TEXT_TYPES) or "\0" not in text else None


def _charset(kind: str) -> str | None:
    _, found, rest = kind.partition("charset=")
    if not found:
        return None
    try:
        name = codecs.lookup(rest.split(";")[0].strip(" \"'")).name
    except (LookupError, ValueError):
        return None
    return name if name in _CHARSETS else None


@dataclass(frozen=True, slots=True)
class ErrorCheck:
    """A compiled `errors` rule."""

    message: Path | None
    ok: Path | None
    present: Path | None

    @classmethod
    def of(cls, endpoint: Endpoint | None, manifest: Manifest | None) -> "ErrorCheck | None":
        """Compile the endpoint's own rule, else its connector's. Raises Invalid, loc ("errors", word)."""
        rule = endpoint.errors if endpoint and endpoint.errors else manifest.errors if manifest else None
        if rule is None:
            return None
        return cls(_path(rule, "message"), _path(rule, "ok"), _path(rule, "present"))

    def refuses(self, value: Any) -> bool:
        """Tell whether the answer says no, whatever its status."""
        if self.ok is not None and self.ok.get(value) not in (True, "true"):
            return True
        if self.present is None:
            return False
        found = self.present.get(value)
        return found is not MISSING and found not in (None, False, "", [], {})


def _path(rule: ErrorRule, word: str) -> Path | None:
    text = getattr(rule, word)
    if text is None:
        return None
    try:
        return Path.compile(text)
    except ValueError as error:
        raise Invalid.field(("errors", word), str(error)) from None


def complaint(check: ErrorCheck | None, value: Any) -> str:
    """Return the service's own words, uncut: at the rule's `message`, else the whole body."""
    found = check.message.get(value) if check and check.message else MISSING
    if isinstance(found, list) and found and all(isinstance(item, str) for item in found):
        found = "; ".join(found[:10])
    if found is MISSING or found is None or found in ("", [], {}):
        found = value
    if found is None:
        return ""
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def shorten(text: str, limit: int = _MAX_MESSAGE) -> str:
    """Put a text on one line of at most `limit` characters."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def content_type(headers: Mapping[str, str]) -> str:
    """Return the media type header, empty when absent."""
    return headers.get("Content-Type", "")
