"""Look-ups in requests: `{name}`, `{name?}`, `{name|table}`, `{config.x}`. Never expressions.

Owns compiling and rendering. Which names exist is checked by `load.py`; quoting for a URL path is the caller's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACES = frozenset(
    {"config", "connection", "secret", "cursor", "parent", "payload", "header", "incident", "base_url"}
)
"""The first words of a look-up that do not mean a call parameter."""

ENDPOINT = frozenset({"params", "config", "secret", "base_url"})
"""What an endpoint's request may look up: query, body, headers."""
AUTH = frozenset({"config", "base_url"})
"""What the URLs and names of an auth method may look up; its secrets are placed by type, not by look-up."""
ADDRESS = frozenset({"config"})
"""What a base URL may look up."""
CURSOR = frozenset({"cursor", "config"})
"""What the query of a stream's cursor may look up."""
CHILD = frozenset({"parent", "config"})
"""What the parameters of `for_each` may look up."""
SIGNED = frozenset({"body", "timestamp"})
"""What a signature may be made over."""
REQUEST = frozenset({"payload", "header", "query"})
"""What a webhook's `delivery_id`, `timestamp` and `challenge` may look up."""
EVENT = frozenset({"payload", "header", "config", "item"})
"""What an event rule may look up; never a secret."""
MESSAGE = frozenset({"channel", "event", "config"})
"""What `notify` may look up; never a secret."""
ROUTE = frozenset({"event"})
"""What the params of a route's endpoint target may look up."""

ANY = "*"
"""The key of a table that stands for every text it does not name."""

# Namespaces of one place only, such as `{channel}`: elsewhere the word is a call parameter like any other.
_PLAIN = frozenset({"cursor", "base_url", "channel", "body", "timestamp"})
_ELSEWHERE = frozenset({"channel", "event", "item", "query"})
_FLAT = frozenset({"config", "secret", "header"})
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LOOKUP = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*)(\?)?(?:\|([A-Za-z_]\w*))?", re.ASCII)
_MAX_DEPTH = 32
_MAX_NODES = 10_000

Scope = Mapping[str, Any]
Build = Callable[[Scope], Any]


class _Absent:
    __slots__ = ()


_ABSENT: Any = _Absent()


class TemplateError(ValueError):
    """A template that says something outside the vocabulary; `loc` leads to it inside the value."""

    def __init__(self, message: str, loc: tuple[str | int, ...] = ()) -> None:
        self.loc = loc
        super().__init__(message)


class MissingLookupError(LookupError):
    """A look-up that found nothing usable; `name` is the look-up as written."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One placeholder: the name as written, whether it may be absent, the table it is translated by."""

    name: str
    optional: bool = False
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled value: a string, or a nested object or list of them.

    `scope` holds the call's parameters under `params`, every other namespace under its own name:
    `{"params": {"title": …}, "config": {"url": …}, "cursor": …, "parent": {…}, "base_url": …}`.
    """

    lookups: tuple[Lookup, ...]
    _build: Build

    @classmethod
    def compile(
        cls,
        value: Any,
        *,
        namespaces: frozenset[str],
        maps: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "Template":
        """Check the value and compile it once. Raises TemplateError (a ValueError)."""
        compiler = _Compiler(namespaces, maps or {})
        build, _ = compiler.node(value, (), outermost=True)
        return cls(tuple(compiler.lookups), build)

    def render(self, scope: Scope) -> Any:
        """Fill in the look-ups. Raises MissingLookupError (a LookupError) for a required one that is missing.

        A value that is exactly one placeholder keeps its type. A missing optional one drops its key or list item
        (None when it is the whole value), and so does an inner object or list that found none of its look-ups;
        inside longer text it is empty.
        """
        value = self._build(scope)
        return None if value is _ABSENT else value

    def names(self) -> frozenset[str]:
        """Name the look-ups used, as written, without `?` and `|table`."""
        return frozenset(lookup.name for lookup in self.lookups)


def parse_lookups(text: str) -> list[Lookup]:
    """List the placeholders of one string. Raises TemplateError for a stray brace or a malformed look-up."""
    return [part for part in _parts(text) if isinstance(part, Lookup)]


def _parts(text: str) -> list[str | Lookup]:
    parts: list[str | Lookup] = []
    end = 0
    for token in _TOKEN.finditer(text):
        parts.append(text[end : token.start()])
        end = token.end()
        if token[0] in {"{{", "}}"}:
            parts.append(token[0][0])
        elif token[1] is None:
            raise TemplateError(f"stray '{token[0]}'; write '{token[0] * 2}' for a brace that is no look-up")
        else:
            parts.append(_lookup(token[1]))
    parts.append(text[end:])
    return [part for part in parts if part]


def _lookup(inside: str) -> Lookup:
    match = _LOOKUP.fullmatch(inside)
    if match is None:
        shown = inside if len(inside) <= 60 else inside[:57] + "..."
        raise TemplateError(
            f"'{{{shown}}}' is no look-up; a look-up is {{name}}, {{name?}}, {{name|table}} or {{config.name}}"
        )
    return Lookup(match[1], match[2] is not None, match[3])


class _Compiler:
    def __init__(self, namespaces: frozenset[str], maps: Mapping[str, Mapping[str, Any]]) -> None:
        self.namespaces = namespaces
        self.maps = maps
        self.lookups: list[Lookup] = []
        self.nodes = 0

    def node(self, value: Any, loc: tuple[str | int, ...], *, outermost: bool = False) -> tuple[Build, bool]:
        """Compile one value; the second answer says whether it looks anything up."""
        self.nodes += 1
        if len(loc) > _MAX_DEPTH or self.nodes > _MAX_NODES:
            raise TemplateError(f"deeper than {_MAX_DEPTH} levels or larger than {_MAX_NODES} values", loc)
        if isinstance(value, str):
            return self._text(value, loc)
        if isinstance(value, Mapping):
            return self._object(value, loc, outermost)
        if isinstance(value, list | tuple):
            return self._list(value, loc, outermost)
        return (lambda _scope: value), False

    def _text(self, text: str, loc: tuple[str | int, ...]) -> tuple[Build, bool]:
        try:
            parts = _parts(text)
            getters = [self._getter(part) if isinstance(part, Lookup) else part for part in parts]
        except TemplateError as error:
            raise TemplateError(str(error), loc) from None
        used = [part for part in parts if isinstance(part, Lookup)]
        self.lookups.extend(used)
        if not used:
            plain = "".join(str(part) for part in parts)
            return (lambda _scope: plain), False
        if len(parts) == 1 and callable(getters[0]):
            return getters[0], True
        pieces = [
            piece if isinstance(piece, str) else _as_text(part, piece)
            for part, piece in zip(parts, getters, strict=True)
            if isinstance(piece, str) or isinstance(part, Lookup)
        ]
        return _joined(pieces), True

    def _object(
        self, value: Mapping[Any, Any], loc: tuple[str | int, ...], outermost: bool
    ) -> tuple[Build, bool]:
        fixed: list[tuple[str, Build, bool]] = []
        for key, item in value.items():
            if "{" in str(key) or "}" in str(key):
                raise TemplateError("a look-up belongs in a value, not in a key", (*loc, str(key)))
            fixed.append((str(key), *self.node(item, (*loc, str(key)))))
        dynamic = any(looks for _, _, looks in fixed)
        droppable = dynamic and not outermost

        def build(scope: Scope) -> Any:
            out: dict[str, Any] = {}
            found = False
            for key, make, looks in fixed:
                made = make(scope)
                if made is not _ABSENT:
                    out[key] = made
                    found = found or looks
            return out if found or not droppable else _ABSENT

        return build, dynamic

    def _list(
        self, value: list[Any] | tuple[Any, ...], loc: tuple[str | int, ...], outermost: bool
    ) -> tuple[Build, bool]:
        items = [self.node(item, (*loc, index)) for index, item in enumerate(value)]
        dynamic = any(looks for _, looks in items)
        droppable = dynamic and not outermost

        def build(scope: Scope) -> Any:
            made = [(make(scope), looks) for make, looks in items]
            found = any(looks and item is not _ABSENT for item, looks in made)
            return [item for item, _ in made if item is not _ABSENT] if found or not droppable else _ABSENT

        return build, dynamic

    def _getter(self, lookup: Lookup) -> Build:
        steps = self._steps(lookup)
        get = _required(lookup, steps) if not lookup.optional else _optional(steps)
        if lookup.table is None:
            return get
        if lookup.table not in self.maps:
            raise TemplateError(f"'{{{lookup.name}|{lookup.table}}}' names no table of `maps`")
        return _translated(lookup, get, self.maps[lookup.table])

    def _steps(self, lookup: Lookup) -> tuple[str, ...]:
        steps = tuple(lookup.name.split("."))
        space = steps[0] if steps[0] in NAMESPACES | self.namespaces else "params"
        if space == "query" and len(steps) > 1:  # names of a query may have dots
            steps = (space, lookup.name.removeprefix("query."))
        if space not in self.namespaces:
            what = "call parameters" if space == "params" and steps[0] not in _ELSEWHERE else f"`{steps[0]}`"
            raise TemplateError(f"'{{{lookup.name}}}': {what} cannot be looked up here")
        if space in _PLAIN and len(steps) > 1:
            raise TemplateError(f"'{{{lookup.name}}}': write '{{{space}}}'")
        if space not in _PLAIN and space != "params" and len(steps) == 1:
            raise TemplateError(f"'{{{lookup.name}}}': write '{{{space}.name}}'")
        if space in _FLAT and len(steps) > 2:
            raise TemplateError(f"'{{{lookup.name}}}': `{space}` has no inner names")
        return ("params", *steps) if space == "params" else steps


def _optional(steps: tuple[str, ...]) -> Build:
    def get(scope: Scope) -> Any:
        value: Any = scope
        try:
            for step in steps:
                value = value[step]
        except KeyError:
            return _ABSENT
        except TypeError:
            return _through_lists(scope, steps)
        return value

    return get


def _through_lists(scope: Scope, steps: tuple[str, ...]) -> Any:
    """Follow the steps where one of them may be the place of an item in a list."""
    value: Any = scope
    try:
        for step in steps:
            value = value[int(step)] if isinstance(value, list) and step.isdecimal() else value[step]
    except (KeyError, TypeError, ValueError, IndexError):
        return _ABSENT
    return value


def _required(lookup: Lookup, steps: tuple[str, ...]) -> Build:
    find = _optional(steps)

    def get(scope: Scope) -> Any:
        value = find(scope)
        if value is _ABSENT:
            raise MissingLookupError(lookup.name, f"'{lookup.name}' is missing")
        return value

    return get


def _translated(lookup: Lookup, get: Build, table: Mapping[str, Any]) -> Build:
    def translate(scope: Scope) -> Any:
        value = get(scope)
        if value is _ABSENT or (value is None and lookup.optional):
            return _ABSENT
        key = _scalar(lookup, value)
        if key not in table and ANY in table:
            return table[ANY]
        if key not in table:
            known = ", ".join(list(table)[:20])
            raise MissingLookupError(lookup.name, f"'{lookup.name}' must be one of: {known}")
        return table[key]

    return translate


def _scalar(lookup: Lookup, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    what = "null" if value is None else "a list" if isinstance(value, list | tuple) else "an object"
    raise MissingLookupError(
        lookup.name, f"'{lookup.name}' is {what}; text takes a string, a number or a boolean"
    )


def _as_text(lookup: Lookup | str, get: Build) -> Build:
    held = lookup if isinstance(lookup, Lookup) else Lookup(lookup)

    def text(scope: Scope) -> str:
        value = get(scope)
        if value is _ABSENT or (value is None and held.optional):
            return ""
        return _scalar(held, value)

    return text


def _joined(pieces: list[str | Build]) -> Build:
    def join(scope: Scope) -> str:
        return "".join([piece if isinstance(piece, str) else piece(scope) for piece in pieces])

    return join
