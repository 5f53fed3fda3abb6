"""The closed path language: `a.b`, `a[].b`, `a[0].b`, `[].b`, `a["x.y"]`. Look-ups only, never expressions.

A path is compiled once; every use is linear in the value and never recurses deeper than the path is long, so
neither a hostile path nor a hostile value can run away. What a value looks like afterwards (`Shape`) and how a
list continues (`paging`) are not decided here.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

MAX_LENGTH = 512
MAX_STEPS = 32
MAX_ARRAYS = 4
MAX_COPIES = 8
MAX_MERGED = 10_000
_MAX_INDEX_DIGITS = 9


@final
class _Missing:
    """The type of `MISSING`: the path leads nowhere (a null that is there is `None`)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


@final
class _Each:
    """The type of the step `[]`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[]"


MISSING: Final = _Missing()
EACH: Final = _Each()
Step = str | int | _Each

_STEP = re.compile(
    r"""
    (?P<dot>\.)?
    (?:
        (?P<key>[^\s.\[\]{}"\x00-\x1f\x7f](?:[^.\[\]{}"\x00-\x1f\x7f]*[^\s.\[\]{}"\x00-\x1f\x7f])?)
      | \[(?P<each>)\]
      | \[(?P<index>[0-9]+)\]
      | \["(?P<quoted>[^"\x00-\x1f\x7f]*)"\]
    )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Path:
    """One compiled path. Make it with `Path.compile`."""

    text: str
    steps: tuple[Step, ...]

    @classmethod
    def compile(cls, text: str) -> "Path":
        """Compile a path of at most 512 characters, 32 steps and 4 `[]`; raise ValueError saying what is wrong."""
        if not text:
            raise ValueError("a path cannot be empty")
        if len(text) > MAX_LENGTH:
            raise ValueError(f"a path has at most {MAX_LENGTH} characters")
        steps = _parse(text)
        if len(steps) > MAX_STEPS:
            raise ValueError(f"a path has at most {MAX_STEPS} steps")
        if sum(step is EACH for step in steps) > MAX_ARRAYS:
            raise ValueError(f"a path has at most {MAX_ARRAYS} times `[]`")
        return cls(text, steps)

    def get(self, value: Any) -> Any:
        """Look the path up: MISSING if it leads nowhere, a flat list of all found when it has a `[]`."""
        if len(self.steps) == 1 and isinstance(value, dict) and isinstance(self.steps[0], str):
            return value.get(self.steps[0], MISSING)  # most paths, asked of every record of a sync
        for position, step in enumerate(self.steps):
            if step is EACH:
                return _collect(value, self.steps[position:])
            value = _descend(value, step)
            if value is MISSING:
                return MISSING
        return value

    @property
    def plural(self) -> bool:
        """Whether the path has a `[]` and so gives a list."""
        return EACH in self.steps

    def __str__(self) -> str:
        return self.text


def _parse(text: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or (match["dot"] is not None) != (match["key"] is not None and bool(steps)):
            raise ValueError(_complaint(text, position))
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["key"] is not None:
        return match["key"]
    if match["quoted"] is not None:
        return match["quoted"]
    if match["index"] is None:
        return EACH
    if len(match["index"]) > _MAX_INDEX_DIGITS:
        raise ValueError("an index has at most 9 digits")
    return int(match["index"])


def _complaint(text: str, position: int) -> str:
    return (
        f"{text!r} is not a path at character {position + 1}: "
        'write keys joined by dots, with [] or [0] for arrays and ["…"] for keys with dots'
    )


def _descend(value: Any, step: Step) -> Any:
    if isinstance(step, str):
        return value.get(step, MISSING) if isinstance(value, dict) else MISSING
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and step < len(value) else MISSING
    return MISSING


def _collect(value: Any, steps: tuple[Step, ...]) -> Any:
    """Look up steps that begin with `[]`, one step for all values at a time."""
    if not isinstance(value, list):
        return MISSING
    found = value
    for step in steps[1:]:
        if step is EACH:
            found = [item for inner in found if isinstance(inner, list) for item in inner]
        else:
            found = [item for inner in found if (item := _descend(inner, step)) is not MISSING]
    return list(found) if found is value else found


@dataclass(slots=True)
class _Node:
    """A point of the prefix tree of several paths; `ends` names the paths that end here."""

    ends: list[str] = field(default_factory=list)
    keys: dict[str, "_Node"] = field(default_factory=dict)
    indices: dict[int, "_Node"] = field(default_factory=dict)
    each: "_Node | None" = None
    reach: int = 0
    """One more than the largest index; only a settled tree has it."""

    def child(self, step: Step) -> "_Node":
        if isinstance(step, str):
            return self.keys.setdefault(step, _Node())
        if isinstance(step, int):
            return self.indices.setdefault(step, _Node())
        self.each = self.each or _Node()
        return self.each

    def children(self) -> list["_Node"]:
        each = [self.each] if self.each else []
        return [*self.keys.values(), *self.indices.values(), *each]


def _tree(paths: Mapping[str, Path]) -> _Node:
    root = _Node()
    for name, path in paths.items():
        node = root
        for step in path.steps:
            node = node.child(step)
        node.ends.append(name)
    return root


class Selection:
    """Several paths to keep of a value, merged into one pass. Raises ValueError if they entangle too much."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._root = _tree({path.text: path for path in paths})
        _settle(self._root, MAX_MERGED)

    def of(self, value: Any) -> Any:
        """Keep what the paths lead to, in its structure and order; parts are shared with the value, not copied.

        An array walked by `[]` keeps its length: elements without the key become `{}`, elements of another kind
        null. An array picked by `[i]` keeps positions: what is skipped before it becomes null. A value of another
        kind than every path expects becomes null.
        """
        kept = _keep(value, self._root)
        return None if kept is MISSING else kept


def select(value: Any, paths: Iterable[Path]) -> Any:
    """Keep the given paths of a value. Use a `Selection` to compile them once."""
    return Selection(paths).of(value)


def _settle(node: _Node, budget: int) -> int:
    """Fold `[]` into the indices beside it, so that every array element has exactly one node to follow.

    Returns what is left of the budget of merged nodes; raises ValueError when it is used up.
    """
    if node.ends:
        node.keys, node.indices, node.each = {}, {}, None
    node.reach = max(node.indices, default=-1) + 1
    if node.each is not None:
        for inner in node.indices.values():
            budget = _merge(inner, node.each, budget)
    for child in node.children():
        budget = _settle(child, budget)
    return budget


def _merge(into: _Node, other: _Node, budget: int) -> int:
    if budget <= 0:
        raise ValueError("too many paths use [] and [0] in the same place")
    budget -= 1
    into.ends.extend(other.ends)
    for key, child in other.keys.items():
        budget = _merge(into.keys.setdefault(key, _Node()), child, budget)
    for index, child in other.indices.items():
        budget = _merge(into.indices.setdefault(index, _Node()), child, budget)
    return budget if other.each is None else _merge(into.child(EACH), other.each, budget)


def _keep(value: Any, node: _Node) -> Any:
    if node.ends:
        return value
    if isinstance(value, dict) and node.keys:
        return _keep_keys(value, node.keys)
    if isinstance(value, list) and (node.each is not None or node.reach):
        return _keep_items(value, node)
    return MISSING


def _keep_keys(value: dict[str, Any], keys: dict[str, _Node]) -> dict[str, Any]:
    kept = {}
    for key, item in value.items():
        node = keys.get(key)
        if node is not None:
            part = item if node.ends else _keep(item, node)
            if part is not MISSING:
                kept[key] = part
    return kept


def _keep_items(value: list[Any], node: _Node) -> list[Any]:
    indices, each = node.indices, node.each
    kept = []
    for position in range(len(value) if each is not None else min(len(value), node.reach)):
        inner = indices.get(position, each)
        part = MISSING if inner is None else _keep(value[position], inner)
        kept.append(None if part is MISSING else part)
    return kept


class Gathering:
    """Several named paths to look up in a value, merged into one pass over its arrays.

    Raises ValueError when more than 8 of the paths can lead to one and the same part of a value: that bounds both
    the time and the size of what is found by a small multiple of the value's own size.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        if _copies(_tree(paths)) > MAX_COPIES:
            raise ValueError(f"more than {MAX_COPIES} paths lead to the same part of a value")
        self._missing = dict.fromkeys(paths, MISSING)
        plural = {name: path for name, path in paths.items() if path.plural}
        self._single = {name: path for name, path in paths.items() if len(plural) < 2 or name not in plural}
        self._root = _tree(plural) if len(plural) > 1 else None

    def of(self, value: Any) -> dict[str, Any]:
        """Look every path up, as `Path.get` would; MISSING for those that lead nowhere."""
        found: dict[str, Any] = self._missing.copy()
        for name, path in self._single.items():
            found[name] = path.get(value)
        if self._root is not None:
            _gather(value, self._root, found, inside=False)
        return found


def _copies(node: _Node) -> int:
    """Count the paths that can lead to one and the same part of a value, at most."""
    each = _copies(node.each) if node.each is not None else 0
    other = [_copies(child) for child in (*node.keys.values(), *node.indices.values())]
    return len(node.ends) + each + max(other, default=0)


def _gather(value: Any, node: _Node, found: dict[str, Any], *, inside: bool) -> None:
    for name in node.ends:
        found[name].append(value)
    if isinstance(value, dict):
        for key in _shared(value, node.keys):
            _gather(value[key], node.keys[key], found, inside=inside)
    elif isinstance(value, list):
        for index in _shared(range(len(value)), node.indices):
            _gather(value[index], node.indices[index], found, inside=inside)
        if node.each is not None:
            if not inside:
                _open(node.each, found)
            for item in value:
                _gather(item, node.each, found, inside=True)


def _shared(one: Collection[Any], other: Collection[Any]) -> list[Any]:
    """Return what is in both, in time of the smaller: a hostile side cannot make the other one expensive."""
    few, many = (one, other) if len(one) < len(other) else (other, one)
    return [item for item in few if item in many]


def _open(node: _Node, found: dict[str, Any]) -> None:
    """Give every path below an array that is there its list, even if nothing is found in it."""
    for name in node.ends:
        found[name] = []
    for child in node.children():
        _open(child, found)
