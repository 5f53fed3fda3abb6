"""Which rules an event matches: patterns, conditions, and an index over many of them. Pure: no storage.

Time is linear in what is matched, however hostile the pattern: look-ups and searches, never an expression.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from trunkline.errors import FieldError, Invalid
from trunkline.rest.paths import MISSING, Path

MAX_PATTERN = 256
MAX_CONDITIONS = 20
MAX_TEXT = 1024
MAX_CHOICES = 100
OWN_TYPES = "delivery."
"""What tells of deliveries goes only where somebody asked for it by name: else a failing route would feed itself."""

_MOST_PLANS = 5_000
T = TypeVar("T")
Key = tuple[type, Any]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of event types: `*` stands for any run of characters, dots too; everything else for itself."""

    text: str
    pieces: tuple[str, ...]

    @classmethod
    def compile(cls, text: str) -> "Pattern":
        """Compile a pattern of 1 to 256 characters.

        Raises:
            ValueError: with a text for people.
        """
        if not 1 <= len(text) <= MAX_PATTERN:
            raise ValueError(f"must have 1 to {MAX_PATTERN} characters")
        if not text.isprintable() or text != text.strip():
            raise ValueError("must have no control characters, and no white space at its ends")
        first, *rest = text.split("*")
        inner = (piece for piece in rest[:-1] if piece)
        return cls(text, (first, *inner, rest[-1]) if rest else (first,))

    def matches(self, name: str) -> bool:
        """Tell whether an event type fits."""
        if name.startswith(OWN_TYPES) and not self.text.startswith(OWN_TYPES):
            return False
        if len(self.pieces) == 1:
            return name == self.text
        first, last = self.pieces[0], self.pieces[-1]
        at, end = len(first), len(name) - len(last)
        if at > end or not name.startswith(first) or not name.endswith(last):
            return False
        for piece in self.pieces[1:-1]:
            at = name.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


def _key(value: Any) -> Key:
    """Return what equals exactly the same JSON value: Python's true is 1."""
    kind = type(value)
    return (float if kind is int else kind, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equals(found: list[Any], wanted: Any) -> bool:
    key = _key(wanted)
    return any(_key(value) == key for value in found)


def _one_of(found: list[Any], wanted: Any) -> bool:
    return any(_equals(found, choice) for choice in wanted)


def _contains(found: list[Any], wanted: Any) -> bool:
    for value in found:
        if isinstance(value, str):
            if isinstance(wanted, str) and wanted in value:
                return True
        elif isinstance(value, list) and _equals(value, wanted):
            return True
    return False


def _starts_with(found: list[Any], wanted: Any) -> bool:
    return any(isinstance(value, str) and value.startswith(wanted) for value in found)


def _exists(found: list[Any], wanted: Any) -> bool:
    return bool(found) is wanted


def _greater_than(found: list[Any], wanted: Any) -> bool:
    return any(_is_number(value) and value > wanted for value in found)


def _less_than(found: list[Any], wanted: Any) -> bool:
    return any(_is_number(value) and value < wanted for value in found)


# The most selective first: a rule is filed under the first of its conditions.
_HOLDS: dict[str, Callable[[list[Any], Any], bool]] = {
    "equals": _equals,
    "one_of": _one_of,
    "starts_with": _starts_with,
    "contains": _contains,
    "greater_than": _greater_than,
    "less_than": _less_than,
    "exists": _exists,
    "not_contains": lambda found, wanted: not _contains(found, wanted),
    "not_equals": lambda found, wanted: not _equals(found, wanted),
}
OPERATORS = tuple(_HOLDS)
_LOOKED_UP = {"equals", "one_of"}
_RANK = {operator: rank for rank, operator in enumerate(OPERATORS)}


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One thing that must hold of an event; with a path that has `[]`, of any of the values found."""

    path: Path
    operator: str
    value: Any

    @classmethod
    def compile(cls, path: str, operator: str, value: Any) -> "Condition":
        """Check and compile a condition.

        Raises:
            Invalid: naming `path`, `operator` or `value`.
        """
        try:
            compiled = Path.compile(path)
        except ValueError as error:
            raise Invalid.field(("path",), str(error)) from None
        if operator not in _HOLDS:
            raise Invalid.field(("operator",), f"must be one of {', '.join(OPERATORS)}")
        problem = _value_problem(operator, value)
        if problem:
            raise Invalid.field(("value",), problem)
        return cls(compiled, operator, value)

    @property
    def same(self) -> tuple[str, str, Any]:
        """What two conditions that say the same have in common."""
        value = tuple(map(_key, self.value)) if self.operator == "one_of" else _key(self.value)
        return (self.path.text, self.operator, value)


def _value_problem(operator: str, value: Any) -> str | None:
    if operator == "exists":
        return None if isinstance(value, bool) else "must be true or false"
    if operator in {"greater_than", "less_than"}:
        return None if _is_number(value) else "must be a number"
    if operator == "starts_with":
        return None if _is_short_text(value) else f"must be a text of at most {MAX_TEXT:,} characters"
    if operator == "one_of":
        fits = isinstance(value, list) and 1 <= len(value) <= MAX_CHOICES and all(map(_is_plain, value))
        return None if fits else f"must be a list of 1 to {MAX_CHOICES} texts, numbers, true or false"
    if value is None:
        return 'must not be null; ask for what is absent with "operator": "exists", "value": false'
    fits = _is_plain(value)
    return None if fits else f"must be a text of at most {MAX_TEXT:,} characters, a number, true or false"


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool) or _is_number(value) or _is_short_text(value)


class _Sight:
    """One event as conditions see it: each path is looked up once, each condition judged once."""

    __slots__ = ("_document", "_found", "_held")

    def __init__(self, document: Any) -> None:
        self._document = document
        self._found: dict[str, list[Any]] = {}
        self._held: dict[Condition, bool] = {}

    def found(self, path: Path) -> list[Any]:
        """Return what stands at a path: nulls count as absent."""
        known = self._found.get(path.text)
        if known is None:
            value = path.get(self._document)
            values = value if path.plural and isinstance(value, list) else [value]
            known = self._found[path.text] = [
                item for item in values if item is not None and item is not MISSING
            ]
        return known

    def holds(self, condition: Condition) -> bool:
        known = self._held.get(condition)
        if known is None:
            judge = _HOLDS[condition.operator]
            known = self._held[condition] = judge(self.found(condition.path), condition.value)
        return known


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """What somebody asks for; `item` is what is handed back."""

    item: T
    pattern: Pattern
    project: str | None = None
    conditions: tuple[Condition, ...] = ()


Rest = tuple[Condition, ...]
Filed = list[tuple[T, Rest]]


@dataclass(slots=True)
class _Group(Generic[T]):
    """Rules filed under a condition of one path and operator, by the value it wants."""

    path: Path
    operator: str
    table: dict[Any, tuple[Any, Filed[T]]] = field(default_factory=dict)

    def add(self, value: Any, entry: tuple[T, Rest]) -> None:
        for choice in value if self.operator == "one_of" else [value]:
            self.table.setdefault(_key(choice), (choice, []))[1].append(entry)

    def fitting(self, sight: _Sight) -> Iterable[Filed[T]]:
        found = sight.found(self.path)
        if self.operator in _LOOKED_UP:
            keys = {_key(value) for value in found if not isinstance(value, dict | list)}
            return [self.table[key][1] for key in keys if key in self.table]
        judge = _HOLDS[self.operator]
        return [filed for wanted, filed in self.table.values() if judge(found, wanted)]


@dataclass(slots=True)
class _Bucket(Generic[T]):
    """The rules for one event type and one project: those that always match, and those that look closer."""

    always: list[T] = field(default_factory=list)
    groups: dict[tuple[str, str], _Group[T]] = field(default_factory=dict)

    def add(self, item: T, conditions: Rest) -> None:
        if not conditions:
            self.always.append(item)
            return
        first = conditions[0]
        place = (first.path.text, first.operator)
        group = self.groups.get(place)
        if group is None:
            group = self.groups[place] = _Group(first.path, first.operator)
        group.add(first.value, (item, conditions[1:]))

    def match(self, sight: _Sight) -> list[T]:
        found: dict[int, T] = {}  # one rule may be filed under several values that an event has
        for group in self.groups.values():
            for filed in group.fitting(sight):
                for item, rest in filed:
                    if not rest or all(map(sight.holds, rest)):
                        found[id(item)] = item
        return [*self.always, *found.values()]


class _Shelf(Generic[T]):
    """The rules of one project, or of none, by how their patterns begin."""

    def __init__(self) -> None:
        self._exact: defaultdict[str, list[Rule[T]]] = defaultdict(list)
        self._wild: defaultdict[str, list[Rule[T]]] = defaultdict(list)
        self._lengths: list[int] = []
        self.of_all: _Bucket[T] = _Bucket()

    def add(self, rule: Rule[T]) -> None:
        first = rule.pattern.pieces[0]
        if rule.pattern.text == "*":
            self.of_all.add(rule.item, rule.conditions)
        elif len(rule.pattern.pieces) == 1:
            self._exact[first].append(rule)
        else:
            self._wild[first].append(rule)
            self._lengths = sorted({len(prefix) for prefix in self._wild})

    def plan(self, type: str) -> _Bucket[T]:
        """Gather what fits a type, but for the rules that fit every type."""
        bucket: _Bucket[T] = _Bucket()
        for rule in self._exact.get(type, ()):
            bucket.add(rule.item, rule.conditions)
        for length in self._lengths:
            for rule in self._wild.get(type[:length], ()):
                if rule.pattern.matches(type):
                    bucket.add(rule.item, rule.conditions)
        return bucket


class Matcher(Generic[T]):
    """Many rules, compiled once. What fits a type is remembered, so that patterns are tried once for each type."""

    def __init__(self, rules: Iterable[Rule[T]]) -> None:
        self._shelves: dict[str | None, _Shelf[T]] = {}
        self._same: dict[Any, Condition] = {}
        self._plans: dict[tuple[str, str | None], _Bucket[T]] = {}
        for rule in rules:
            shelf = self._shelves.setdefault(rule.project, _Shelf())
            shelf.add(replace(rule, conditions=self._sorted(rule.conditions)))

    def _sorted(self, conditions: Rest) -> Rest:
        """Put the most selective first, and take those that say the same as one: it is judged once an event."""
        ordered = sorted(conditions, key=lambda condition: _RANK[condition.operator])
        return tuple(self._same.setdefault(condition.same, condition) for condition in ordered)

    def __bool__(self) -> bool:
        """Tell whether there is any rule."""
        return bool(self._shelves)

    def looks_closer(self, type: str, project: str | None) -> bool:
        """Tell whether the event itself is needed, and not only its type and project."""
        return any(bucket.groups for bucket in self._buckets(type, project))

    def match(self, type: str, project: str | None, document: Callable[[], Any]) -> list[T]:
        """Return the items of the rules that an event fits; `document` is asked for only if conditions need it."""
        found: list[T] = []
        sight: _Sight | None = None
        for bucket in self._buckets(type, project):
            if not bucket.groups:
                found += bucket.always
                continue
            sight = sight or _Sight(document())
            found += bucket.match(sight)
        return found

    def _buckets(self, type: str, project: str | None) -> list[_Bucket[T]]:
        buckets = []
        for name in (None,) if project is None else (None, project):
            shelf = self._shelves.get(name)
            if shelf is None:
                continue
            bucket = self._plans.get((type, name))
            if bucket is None:
                if len(self._plans) >= _MOST_PLANS:
                    self._plans.clear()
                bucket = self._plans[type, name] = shelf.plan(type)
            buckets.append(bucket)
            if not type.startswith(OWN_TYPES):
                buckets.append(shelf.of_all)
        return buckets


def compile_conditions(given: Sequence[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Compile conditions as they are stored: `path`, `operator`, `value`.

    Raises:
        Invalid: naming each fault by the condition's number and field.
    """
    if len(given) > MAX_CONDITIONS:
        raise Invalid.field((), f"has at most {MAX_CONDITIONS} conditions")
    compiled: list[Condition] = []
    faults: list[FieldError] = []
    for index, entry in enumerate(given):
        try:
            compiled.append(Condition.compile(entry["path"], entry["operator"], entry["value"]))
        except Invalid as error:
            faults += [FieldError((index, *fault.loc), fault.msg, fault.type) for fault in error.fields]
    if faults:
        raise Invalid(fields=faults)
    return tuple(compiled)
