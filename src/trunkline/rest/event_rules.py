"""Event rules of a connector, compiled: from a webhook's payload and headers to events.

Owns reading a request's body, choosing the rule, filling it in, and making the outcome fit to be stored. Total: whatever
came, something comes out. Ids, numbers and storing are not decided here.
"""

import contextlib
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson

from trunkline.catalog.manifest import EventRule, Manifest
from trunkline.catalog.template import EVENT, Template
from trunkline.rest.json_text import depth_exceeds, loose_json
from trunkline.rest.paths import Path

MAX_ENTRIES = 1000
"""Most events that one request makes by `each`."""
MAX_DEPTH = 64
MAX_TITLE = 1024
_MAX_TYPE = 256
_MAX_KEY = 512
_MAX_PROJECT = 256
_MAX_URL = 2048
_MAX_FIELDS = 10_000
# Characters that one request's entries may fill in together: each may repeat a large part of the payload.
_BUDGET = 8_000_000
_REMEMBERED = 512

_SEVERITY = {
    word: severity
    for severity, words in {
        "critical": "critical fatal emergency emerg urgent sev0 sev1 p0 p1",
        "high": "high error err major sev2 p2",
        "medium": "medium moderate warning warn sev3 p3",
        "low": "low minor sev4 p4",
        "info": "info informational information notice debug sev5 p5",
    }.items()
    for word in words.split()
}
_ACTIONS = frozenset({"trigger", "acknowledge", "resolve"})
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_HEADER = re.compile(r"\bheader\.([\w-]+)")
_DIGITS = re.compile(r"\d{1,16}(?:\.\d{1,9})?", re.ASCII)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_MAX_TIME = 64
_MILLISECONDS_FROM = 10**11  # as seconds that is the year 5138
_MICROSECONDS_FROM = 10**14
_TEXTS = ("title", "subject", "project", "severity", "dedup_key", "action", "url", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What one entry of a request says, fit to be stored."""

    type: str
    data: Any
    time: datetime | None = None
    subject: str | None = None
    title: str | None = None
    project: str | None = None
    severity: str | None = None
    dedup_key: str | None = None
    action: str | None = None
    url: str | None = None
    error: str | None = None


def parse_payload(body: bytes, content_type: str = "") -> Any:
    """Read a request's body: JSON, a form (its field `payload` alone when that is JSON), else `{"text": …}`."""
    return _parse(body, content_type)[0]


def _parse(body: bytes, content_type: str) -> tuple[Any, str | None]:
    """Return the payload, and what is wrong with a body that is not what it says it is."""
    kind = content_type.partition(";")[0].strip().lower()
    if not body.strip():
        return {}, None
    is_form = kind == "application/x-www-form-urlencoded"
    if is_form and not body.lstrip().startswith((b"{", b"[")):  # many a sender of JSON calls it a form
        return _form(body)
    value, fault = _json(body)
    if fault is None:
        return value, None
    if is_form:
        return _form(body)
    declared = kind.endswith(("/json", "+json"))
    return {"text": body.decode("utf-8", "replace")}, fault if declared else None


def _json(body: bytes) -> tuple[Any, str | None]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            value = loose_json(body)
        except ValueError:
            return None, f"the body is no JSON: {error.msg}"
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and depth_exceeds(value, MAX_DEPTH):
        return None, f"the body is nested more than {MAX_DEPTH} levels deep"
    return ({} if value is None else value), None


def _form(body: bytes) -> tuple[Any, str | None]:
    text = body.decode("utf-8", "replace")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {"text": text}, f"the form has more than {_MAX_FIELDS} fields"
    fields: dict[str, Any] = dict(pairs)
    if isinstance(inner := fields.get("payload"), str):
        value, fault = _json(inner.encode("utf-8", "replace"))
        if fault is None and isinstance(value, dict):
            return value, None
    return fields, None


class Rules:
    """A connector's event rules."""

    def __init__(self, manifest: Manifest) -> None:
        """Compile them. Raises ValueError naming the rule at fault; rules of a manifest that was checked have none."""
        self._received = f"{manifest.id}.received"
        self._unreadable = f"{manifest.id}.unreadable"
        lookups: dict[str, int] = {}
        self._rules = [
            _Rule(number, rule, manifest.maps, lookups) for number, rule in enumerate(manifest.events, 1)
        ]
        self._lookups = [_template("{" + key + "?}", {}) for key in lookups]

    def read_request(
        self, body: bytes, headers: Mapping[str, str], config: Mapping[str, str]
    ) -> list[Parsed]:
        """Read a request as it came into at least one event.

        Args:
            headers: by lower-case name.
        """
        payload, fault = _parse(body, headers.get("content-type", ""))
        if fault is not None:
            return [Parsed(type=self._unreadable, data=payload, error=fault)]
        return self.read(payload, headers, config)

    def read(self, payload: Any, headers: Mapping[str, str], config: Mapping[str, str]) -> list[Parsed]:
        """Read a payload by the first rule that holds: its `when` does, and its `each` finds an entry.

        Without such a rule the event is `<connector>.received`. What a rule cannot fill in is
        `<connector>.unreadable`, with the reason in `error`.
        """
        scope = {"payload": payload, "header": headers, "config": config}
        found = [lookup.render(scope) for lookup in self._lookups]
        for rule in self._rules:
            if not rule.holds(found):
                continue
            if rule.each is None:
                return [self._one(rule, scope, payload)[0]]
            entries = rule.entries(payload)
            if entries:
                return list(self._all(rule, scope, entries))
        return [Parsed(type=self._received, data={} if payload is None else payload)]

    def _one(self, rule: "_Rule", scope: Mapping[str, Any], data: Any) -> tuple[Parsed, int]:
        """Fill a rule in; also tell how many characters that took."""
        data = {} if data is None else data
        try:
            return rule.fill(scope, data)
        except (LookupError, ValueError) as error:
            text = f"rule {rule.number} ({rule.type}): {error}"
            return Parsed(type=self._unreadable, data=data, error=_text(text, MAX_TITLE)), 0

    def _all(self, rule: "_Rule", scope: Mapping[str, Any], entries: list[Any]) -> Iterator[Parsed]:
        budget = _BUDGET
        read = 0
        for entry in entries[:MAX_ENTRIES]:
            if budget < 0:
                break
            event, size = self._one(rule, {**scope, "item": entry}, entry)
            budget -= size
            read += 1
            yield event
        if read < len(entries):
            text = f"rule {rule.number} ({rule.type}): {len(entries)} entries in one request; read the first {read}"
            yield Parsed(type=self._unreadable, data={"entries": len(entries), "read": read}, error=text)


class _Rule:
    def __init__(
        self,
        number: int,
        rule: EventRule,
        maps: Mapping[str, Mapping[str, Any]],
        lookups: dict[str, int],
    ) -> None:
        self.number = number
        self.type = rule.type
        try:
            self._when = [
                (lookups.setdefault(_lower_header(key), len(lookups)), _Wanted(key, value))
                for key, value in rule.when.items()
            ]
            self.each = Path.compile(rule.each) if rule.each else None
            self._type = _template(rule.type, maps)
            self._texts = [
                (name, [_template(text, maps) for text in (given if isinstance(given, list) else [given])])
                for name in _TEXTS
                if (given := getattr(rule, name)) is not None
            ]
        except ValueError as error:
            raise ValueError(f"rule {number} ({rule.type}): {error}") from None

    def holds(self, found: list[Any]) -> bool:
        """Tell whether the `when` holds, given what all look-ups found."""
        for index, wanted in self._when:  # noqa: SIM110 - `all` costs twice as much
            if not wanted.fits(found[index]):
                return False
        return True

    def entries(self, payload: Any) -> list[Any]:
        """Return the entries of `each`: none when it leads to no list."""
        found = self.each.get(payload) if self.each else None
        return found if isinstance(found, list) else []

    def fill(self, scope: Mapping[str, Any], data: Any) -> tuple[Parsed, int]:
        """Fill in every text. Raises LookupError or ValueError saying what is missing."""
        kind = _plain(self._type.render(scope), "type")
        if not kind or len(kind) > _MAX_TYPE:
            raise ValueError(f"'type' must have 1 to {_MAX_TYPE} characters")
        values: dict[str, Any] = {"type": _text(kind, _MAX_TYPE), "data": data}
        size = len(kind)
        for name, templates in self._texts:
            if len(templates) == 1:
                text = _plain(templates[0].render(scope), name)
                values[name] = _FIT[name](text) if text else None
            else:
                text, values[name] = _first(name, templates, scope)
            size += len(text or "")
        return Parsed(**values), size


def _first(name: str, templates: list[Template], scope: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the first text that can be filled in and means something here, and what it means."""
    for template in templates:
        with contextlib.suppress(LookupError, ValueError):
            text = _plain(template.render(scope), name)
            if text and (value := _FIT[name](text)) is not None:
                return text, value
    return "", None


class _Wanted:
    """What a look-up of `when` must find."""

    __slots__ = ("anything", "nothing", "others", "texts")

    def __init__(self, key: str, value: Any) -> None:
        values = value if isinstance(value, list) else [value]
        if _lower_header(key).startswith("header."):  # of headers there are only texts
            values = [str(item) if isinstance(item, int | float) else item for item in values]
        self.anything = "*" in values
        self.nothing = None in values
        self.texts = frozenset(item for item in values if isinstance(item, str))
        self.others = [item for item in values if item is not None and not isinstance(item, str)]

    def fits(self, found: Any) -> bool:
        if found is None:
            return self.nothing
        if self.anything:
            return True
        if isinstance(found, str):
            return found in self.texts
        return any(
            found == item and isinstance(found, bool) == isinstance(item, bool) for item in self.others
        )


def _template(text: str, maps: Mapping[str, Mapping[str, Any]]) -> Template:
    return Template.compile(_lower_header(text), namespaces=EVENT, maps=maps)


def _lower_header(text: str) -> str:
    """Write header names as requests are stored."""
    return _HEADER.sub(lambda found: found[0].lower(), text) if "header." in text else text


def _plain(value: Any, name: str) -> str | None:
    """Return a filled-in value as text. Raises ValueError for a list or an object."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"'{name}' is a list or an object; it must be a text")


def _text(text: str, limit: int) -> str:
    """Make one line of text that every database takes, of at most so many characters."""
    cut = text[:limit]
    return cut if cut.isprintable() else _UNPRINTABLE.sub("\ufffd", cut)


def _title(text: str) -> str | None:
    """Make one line; an end that is cut off shows."""
    line = text[: MAX_TITLE * 4]
    if not line.isprintable():
        line = _UNPRINTABLE.sub("\ufffd", " ".join(line.split()))
    return line[: MAX_TITLE - 1] + "…" if len(line) > MAX_TITLE else line or None


def _key(text: str) -> str:
    """Keep different keys different, however long."""
    if len(text) <= _MAX_KEY:
        return _text(text, _MAX_KEY)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return f"{_text(text, _MAX_KEY - len(digest) - 1)}~{digest}"


def _url(text: str) -> str | None:
    """A link that is cut leads elsewhere, so a longer one is left out."""
    return _text(text, _MAX_URL) if len(text) <= _MAX_URL else None


def _severity(text: str) -> str | None:
    return _SEVERITY.get(text[:32].strip().lower())


def _action(text: str) -> str | None:
    return text if text in _ACTIONS else None


def read_time(text: str) -> datetime | None:
    """Read epoch seconds, milliseconds or microseconds, or ISO 8601 (UTC when it names no zone); None when it is none."""
    try:
        if _DIGITS.fullmatch(text):
            number = float(text)
            scale = 1e6 if number >= _MICROSECONDS_FROM else 1e3 if number >= _MILLISECONDS_FROM else 1
            found = datetime.fromtimestamp(number / scale, UTC)
        else:
            found = datetime.fromisoformat(text[:_MAX_TIME])
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return found if _EARLIEST <= found < _LATEST else None


_FIT: Mapping[str, Any] = {
    "title": _title,
    "subject": lambda text: _text(text, _MAX_KEY),
    "project": lambda text: _text(text, _MAX_PROJECT),
    "severity": _severity,
    "dedup_key": _key,
    "action": _action,
    "url": _url,
    "time": read_time,
}

_COMPILED: OrderedDict[int, tuple[Manifest, Rules]] = OrderedDict()


def compile_rules(manifest: Manifest) -> Rules:
    """Return a manifest's rules, compiled once as long as it is in use.

    Raises:
        ValueError: naming the rule at fault.
    """
    known = _COMPILED.get(id(manifest))
    if known is not None:  # it holds the manifest, so that no other can have this id
        return known[1]
    rules = Rules(manifest)
    _COMPILED[id(manifest)] = (manifest, rules)
    if len(_COMPILED) > _REMEMBERED:
        _COMPILED.popitem(last=False)
    return rules
