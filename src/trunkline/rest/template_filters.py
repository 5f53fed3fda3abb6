"""The filters of result templates that could grow a value or take long: written here, against the meter.

What the engine's own filters cannot do harm with stays the engine's (`NATIVE`).
"""

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from trunkline.rest.json_text import clean_text, compact_json
from trunkline.rest.paths import MISSING, Path

MAX_TEXT = 1_048_576
MAX_WRITTEN = 8_388_608
MAX_SECONDS = 0.5
_TICKS_A_LOOK = 8

NATIVE = frozenset(
    {
        *("abs", "bool", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items"),
        *("last", "length", "lower", "max", "min", "reverse", "round", "sort", "title", "trim", "upper"),
    }
)


class StoppedError(Exception):
    """The template used up what it may use; the text says of what."""


class Meter:
    """What one rendering has used: processor time, and characters its filters and look-ups wrote."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._ticks = 0
        self._written = 0
        self._output = 0

    def tick(self) -> str:
        """Pass by the meter; raises StoppedError when the time is used up."""
        self._ticks += 1
        if self._ticks % _TICKS_A_LOOK == 0:
            worked = time.thread_time()  # no date or wait: what this thread has worked
            self._until = self._until or worked + MAX_SECONDS
            if worked > self._until:
                raise StoppedError(f"it takes longer than {MAX_SECONDS:g} s")
        return ""

    def write(self, size: int) -> None:
        """Count characters a filter is about to make."""
        self.tick()
        self._written += size
        if size > MAX_TEXT or self._written > MAX_WRITTEN:
            raise StoppedError("its filters make too much text")

    def emit(self, size: int) -> None:
        """Count characters of the result."""
        self.tick()
        self._output += size
        if self._output > MAX_TEXT:
            raise StoppedError(f"the text is longer than {MAX_TEXT} characters")


def text_of(value: Any) -> str:
    """Write a value as the result shows it: null and what is missing are empty, all but text is compact JSON."""
    if isinstance(value, str):
        return clean_text(value)
    if value is None or not isinstance(value, int | float | list | tuple | dict):
        return ""
    return compact_json(value)


def metered(meter: Callable[[], Meter]) -> dict[str, Callable[..., Any]]:
    """Return our filters by name; `meter` gives the meter of the rendering that is under way."""
    filters = _Filters(meter)
    return {
        "join": filters.join,
        "map": filters.map,
        "rejectattr": filters.rejectattr,
        "replace": filters.replace,
        "selectattr": filters.selectattr,
        "split": filters.split,
        "string": filters.string,
        "sum": filters.sum,
        "tojson": filters.string_of_json,
        "truncate": filters.truncate,
        "unique": filters.unique,
        "urlencode": filters.urlencode,
    }


class _Filters:
    def __init__(self, meter: Callable[[], Meter]) -> None:
        self._meter = meter

    def _wrote(self, text: str) -> str:
        self._meter().write(len(text))
        return text

    def join(self, value: Any, separator: str = "") -> str:
        parts = [text_of(item) for item in _list(value)]
        self._meter().write(sum(map(len, parts)) + len(separator) * len(parts))
        return separator.join(parts)

    def map(self, value: Any, *, attribute: str) -> list[Any]:
        path = Path.compile(attribute)
        return [None if (found := path.get(item)) is MISSING else found for item in _list(value)]

    def selectattr(self, value: Any, attribute: str, test: str = "", expected: Any = None) -> list[Any]:
        path = Path.compile(attribute)
        return [item for item in _list(value) if _passes(path.get(item), test, expected)]

    def rejectattr(self, value: Any, attribute: str, test: str = "", expected: Any = None) -> list[Any]:
        path = Path.compile(attribute)
        return [item for item in _list(value) if not _passes(path.get(item), test, expected)]

    def replace(self, value: Any, old: str, new: str) -> str:
        text, found = text_of(value), 0
        if old:
            found = text.count(old)
        self._meter().write(len(text) + found * len(new))
        return text.replace(old, new) if old else text

    def split(self, value: Any, separator: str | None = None) -> list[str]:
        text = self._wrote(text_of(value))
        return text.split(separator) if separator else text.split()

    def string(self, value: Any) -> str:
        return self._wrote(text_of(value))

    def string_of_json(self, value: Any) -> str:
        return self._wrote(compact_json(value) if isinstance(value, str) else text_of(value) or "null")

    def sum(self, value: Any, *, attribute: str | None = None) -> int | float:
        items = _list(value) if attribute is None else self.map(value, attribute=attribute)
        return sum(item for item in items if isinstance(item, int | float))

    def truncate(self, value: Any, length: int = 255, end: str = "…") -> str:
        text = text_of(value)
        return self._wrote(text if len(text) <= length else text[: max(0, length)] + end)

    def unique(self, value: Any) -> list[Any]:
        items = {compact_json(item): item for item in reversed(_list(value))}
        return list(reversed(items.values()))

    def urlencode(self, value: Any) -> str:
        return self._wrote(quote(text_of(value), safe=""))


def _list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else re.findall(r"(?s).", value) if isinstance(value, str) else _members(value)


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    raise ValueError("a filter for lists was given something else")


def _passes(found: Any, test: str, expected: Any) -> bool:
    if test in {"eq", "==", "equalto"}:
        return bool(found == expected)
    if test in {"ne", "!="}:
        return bool(found != expected)
    if test:
        raise ValueError(f"there is no test '{test[:40]}' here; there are eq and ne")
    return found is not MISSING and bool(found)
