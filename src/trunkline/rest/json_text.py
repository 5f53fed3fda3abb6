"""JSON that is odd: compact text of whatever an upstream sent, and a reader of what orjson refuses."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def compact_json(value: Any) -> str:
    """Write a JSON value without spaces.

    What JSON or UTF-8 cannot hold is replaced, never refused: NaN and infinities become null, a lone surrogate
    becomes U+FFFD. Any depth and any integer works.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return "".join(_pieces(value))


def json_size(value: Any, max_depth: int) -> int | None:
    """Return the length of a value as compact JSON, about in bytes; None if it nests deeper than `max_depth`."""
    try:
        return len(orjson.dumps(value))  # refuses more than 254 levels
    except TypeError:
        return None if depth_exceeds(value, max_depth) else len(compact_json(value))


def depth_exceeds(value: Any, levels: int) -> bool:
    """Tell whether a JSON value nests deeper than so many levels, without recursion."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for item in layer for inner in _inner(item)]
        if not layer:
            return False
    return True


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def clean_text(text: str) -> str:
    """Replace lone surrogates, which no encoding can carry, with U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def loose_json(body: bytes | str) -> Any:
    """Read JSON that orjson refuses for its spelling: a byte order mark, UTF-16, NaN, a lone surrogate.

    Raises:
        ValueError: it is no JSON all the same, or nests too deep to be read.
    """
    try:
        value = json.loads(body, parse_constant=lambda _: None)
        return orjson.loads(clean_text(json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise ValueError("nests too deep") from None


def _pieces(value: Any) -> Iterator[str]:
    """Write a value without recursion: a thousand levels are no reason to fail."""
    stack: list[Any] = [iter([("", value)])]
    closers = [""]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            yield closers.pop()
            continue
        prefix, item = pair
        yield prefix
        if isinstance(item, dict):
            yield "{"
            stack.append(_members(item))
            closers.append("}")
        elif isinstance(item, list | tuple):
            yield "["
            stack.append(zip(_separators(), item, strict=False))
            closers.append("]")
        else:
            yield _scalar(item)


def _members(value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for separator, (key, item) in zip(_separators(), value.items(), strict=False):
        yield f"{separator}{_scalar(str(key))}:", item


def _separators() -> Iterator[str]:
    yield ""
    while True:
        yield ","


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return orjson.dumps(clean_text(value)).decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return _integer(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    return orjson.dumps(value, default=str).decode()


def _integer(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # beyond the interpreter's limit of digits, so quadratic to write
        return "null"
