"""What a tenant's JSON Schema may cost: measured before it is compiled, so that no schema can run away.

`measure` bounds how many times one part of the parameters can be evaluated. It follows local `$ref`s as evaluation
would, refuses words that lead elsewhere, and recursion that doubles or never descends. Compiling and checking
belong to `schema`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs

from trunkline.errors import Invalid
from trunkline.rest.json_text import compact_json, depth_exceeds

MAX_SIZE = 65_536
MAX_DEPTH = 32
MAX_NESTING = 64
MAX_VISITS = 20_000
MAX_REFS = 200
MAX_PATTERNS = 64
MAX_WEIGHT = 10_000
_RECURSION_ALLOWANCE = 16
_PATTERN_SIZES = (4_096, 16_384, 65_536, 262_144, 1_048_576)
_PATTERN_BYTES_PER_WEIGHT = 250  # measured: a regex compiled to n bytes costs at worst n/10 ns a character

_REFUSED = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$anchor")
_BRANCHING = frozenset({"anyOf", "oneOf", "not", "if", "contains", "propertyNames"})
_Loc = tuple[str | int, ...]


class Cost(NamedTuple):
    """How often one value can be evaluated, and how often that comes back to which unfinished `$ref`."""

    weight: int
    loops: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a schema before it is compiled."""

    weight: int
    branching: bool
    """Whether an error can drag along the errors of alternatives."""


def pattern_options(size: int = _PATTERN_SIZES[-1]) -> jsonschema_rs.RegexOptions:
    """Return the linear-time regex engine, with a ceiling on the compiled size in bytes."""
    return jsonschema_rs.RegexOptions(size_limit=size, dfa_size_limit=size)


def measure(schema: dict[str, Any]) -> Measured:
    """Bound the cost of a schema; raise Invalid (loc `input_schema.…`) for one that is too large or too costly."""
    if depth_exceeds(schema, MAX_DEPTH):
        raise _invalid((), f"is nested deeper than {MAX_DEPTH} levels")
    if len(compact_json(schema)) > MAX_SIZE:
        raise _invalid((), f"is larger than {MAX_SIZE} bytes")
    walk = _Walk(schema)
    weight = walk.target("#", (), 0, 0).weight
    if weight > MAX_WEIGHT:
        raise _invalid((), "is too costly to check: its references and alternatives multiply")
    return Measured(weight, walk.branching)


def _invalid(loc: _Loc, message: str) -> Invalid:
    return Invalid.field(("input_schema", *loc), message)


class _Walk:
    """One pass over a schema along its references."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.branching = False
        self._visits = 0
        self._refs = 0
        self._known: dict[str, Cost] = {}
        self._active: dict[str, int] = {}
        self._patterns: dict[str, int] = {}

    def target(self, ref: str, loc: _Loc, depth: int, level: int) -> Cost:
        """Measure what a `$ref` leads to; `level` counts the steps down into the parameters so far."""
        place = _pointer(ref, loc)
        if ref in self._known:
            return self._known[ref]
        if ref in self._active:
            if self._active[ref] == level:
                raise _invalid(loc, "refers to itself without end")
            return Cost(1, {ref: 1})
        self._active[ref] = level
        cost = self.schema(_resolve(self.root, place, loc), place, depth, level)
        del self._active[ref]
        loops = dict(cost.loops)
        own = loops.pop(ref, 0)
        if own > 1:
            raise _invalid(
                loc, "refers to itself in more than one place: checking it could double at each level"
            )
        cost = Cost(cost.weight * (_RECURSION_ALLOWANCE if own else 1), loops)
        if not loops:
            self._known[ref] = cost
        return cost

    def schema(self, schema: Any, loc: _Loc, depth: int, level: int) -> Cost:
        """Measure one schema and all below it."""
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise _invalid(loc, "is too costly to check: its references multiply")
        if depth > MAX_NESTING:
            raise _invalid(loc, f"is nested deeper than {MAX_NESTING} levels, references included")
        if not isinstance(schema, dict):
            return Cost(1)
        self._refuse(schema, loc)
        self.branching = self.branching or not _BRANCHING.isdisjoint(schema)
        here = self._here(schema, loc, depth, level)
        if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
            here = _sum([here, here])
        below = self._below(schema, loc, depth + 1, level + 1)
        return _sum([Cost(1 + self._own(schema, loc)), here, below])

    def _refuse(self, schema: dict[str, Any], loc: _Loc) -> None:
        for word in _REFUSED:
            if word in schema:
                raise _invalid((*loc, word), "is not supported; use $ref to #/$defs/…")
        if loc and isinstance(schema.get("$id", schema.get("id")), str):
            raise _invalid((*loc, "$id"), "is supported at the top only")

    def _here(self, schema: dict[str, Any], loc: _Loc, depth: int, level: int) -> Cost:
        """Measure what applies to the very value the schema applies to."""
        costs = [self.schema(sub, (*loc, *at), depth + 1, level) for at, sub in _in_place(schema)]
        if "$ref" in schema:
            self._refs += 1
            if self._refs > MAX_REFS:
                raise _invalid((*loc, "$ref"), f"is one of more than {MAX_REFS} references")
            costs.append(self.target(schema["$ref"], (*loc, "$ref"), depth + 1, level))
        return _sum(costs)

    def _below(self, schema: dict[str, Any], loc: _Loc, depth: int, level: int) -> Cost:
        """Measure what applies to the members of the value: one property or item meets one of each group."""
        costs = [
            _max(self.schema(sub, (*loc, *at), depth, level) for at, sub in group)
            for group in _groups(schema)
        ]
        for word in ("$defs", "definitions"):
            for name, sub in _mapping(schema, word):
                self.schema(sub, (*loc, word, name), depth, level)
        return _sum(costs)

    def _own(self, schema: dict[str, Any], loc: _Loc) -> int:
        """Weigh the words that are no subschemas but cost more than a glance."""
        weight = 0
        options = schema.get("enum")
        if isinstance(options, list) and any(isinstance(option, dict | list) for option in options):
            weight += len(options)
        if isinstance(schema.get("pattern"), str):
            weight += self._pattern(schema["pattern"], (*loc, "pattern"))
        for text, _ in _mapping(schema, "patternProperties"):
            weight += self._pattern(text, (*loc, "patternProperties", text))
        return weight

    def _pattern(self, text: str, loc: _Loc) -> int:
        if text not in self._patterns:
            if len(self._patterns) >= MAX_PATTERNS:
                raise _invalid(loc, f"is one of more than {MAX_PATTERNS} patterns")
            self._patterns[text] = _pattern_size(text, loc) // _PATTERN_BYTES_PER_WEIGHT
        return self._patterns[text]


def _pattern_size(text: str, loc: _Loc) -> int:
    for size in _PATTERN_SIZES:
        try:
            jsonschema_rs.Draft202012Validator({"pattern": text}, pattern_options=pattern_options(size))
        except ValueError:
            continue
        return size
    raise _invalid(loc, "is no regular expression, or too large a one, for an engine without look-around")


def _in_place(schema: dict[str, Any]) -> Iterator[tuple[_Loc, Any]]:
    for word in ("allOf", "anyOf", "oneOf"):
        options = schema.get(word)
        for number, sub in enumerate(options if isinstance(options, list) else []):
            yield (word, number), sub
    for word in ("not", "if", "then", "else", "contentSchema"):
        if word in schema:
            yield (word,), schema[word]
    for word in ("dependentSchemas", "dependencies"):
        for name, sub in _mapping(schema, word):
            yield (word, name), sub


def _groups(schema: dict[str, Any]) -> Iterator[list[tuple[_Loc, Any]]]:
    yield [(("properties", name), sub) for name, sub in _mapping(schema, "properties")]
    for name, sub in _mapping(schema, "patternProperties"):
        yield [(("patternProperties", name), sub)]
    for word in ("prefixItems", "items"):
        subs = schema.get(word)
        if isinstance(subs, list):
            yield [((word, number), sub) for number, sub in enumerate(subs)]
        elif isinstance(subs, dict):
            yield [((word,), subs)]
    for word in ("additionalProperties", "propertyNames", "contains", "additionalItems"):
        if word in schema:
            yield [((word,), schema[word])]
    for word in ("unevaluatedItems", "unevaluatedProperties"):
        if word in schema:
            yield [((word,), schema[word])]


def _mapping(schema: dict[str, Any], word: str) -> list[tuple[str, Any]]:
    subs = schema.get(word)
    return list(subs.items()) if isinstance(subs, dict) else []


def _sum(costs: Iterable[Cost]) -> Cost:
    weight, loops = 0, Counter[str]()
    for cost in costs:
        weight += cost.weight
        loops.update(cost.loops)
    return Cost(weight, loops)


def _max(costs: Iterable[Cost]) -> Cost:
    weight, loops = 0, Counter[str]()
    for cost in costs:
        weight = max(weight, cost.weight)
        loops |= Counter(cost.loops)
    return Cost(weight, loops)


def _pointer(ref: Any, loc: _Loc) -> _Loc:
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise _invalid(loc, "only references inside the schema, such as #/$defs/name, are followed")
    return tuple(unquote(part).replace("~1", "/").replace("~0", "~") for part in ref.split("/")[1:])


def _resolve(root: Any, place: _Loc, loc: _Loc) -> Any:
    value = root
    for part in place:
        if isinstance(value, dict) and part in value:
            value = value[str(part)]
        elif (
            isinstance(value, list)
            and str(part).isdecimal()
            and len(str(part)) < 6
            and int(part) < len(value)
        ):
            value = value[int(part)]
        else:
            raise _invalid(loc, "leads nowhere")
    return value
