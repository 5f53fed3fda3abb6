"""Read an API's answer and propose lines for a connector file. Guessing happens here only, never at run time."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 4
_MAX_SEEN = 2_000
_SAMPLE = 200
_KEYS = ("id", "sys_id", "uuid", "guid", "key", "gid", "number", "name")
_CURSORS = re.compile(
    r"(?i)^(?:sys_)?(?:last_?)?(?:updated|modified|changed|created)(?:_?(?:at|on|date|time))?$"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_NEXT = re.compile(
    r"(?i)^(?:next_?cursor|end_?cursor|next_?page_?token|next_?token|continuation_?token|cursor)$"
)
_MESSAGES = (
    "error.message",
    "message",
    "error_description",
    "errors[0].message",
    "errors[0]",
    "error",
    "detail",
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One line to paste, and the reason for it. `part` says under which part of the file it goes."""

    part: str
    line: str
    reason: str


def propose(answer: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> list[Proposal]:
    """Propose `records`, `paging`, a stream's `key` and `cursor`, `rate_limit` and `errors` from one answer."""
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    found = [*_rate_limit(lowered)]
    if status >= 400:
        return [*found, *_errors(answer)]
    path, records = _records(answer)
    if path:
        found.append(
            Proposal("endpoint", f"records: {_quoted(path)}", f"a list of {len(records)} objects is there")
        )
    found += _paging(answer, lowered, is_list=records is not None)
    if records:
        found += _stream(records[:_SAMPLE])
    return found


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """List the values inside objects with their paths, outer ones first, a bounded number of them."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    for count, (path, item, level) in enumerate(waiting):
        if count > _MAX_SEEN:
            return
        yield path, item
        if isinstance(item, dict) and level < _MAX_DEPTH and len(waiting) < _MAX_SEEN:
            for key, inner in item.items():
                waiting.append((_join(path, key), inner, level + 1))


def _join(path: str, key: str) -> str:
    plain = re.fullmatch(r"[\w$@-]+", key) is not None
    if plain:
        return f"{path}.{key}" if path else key
    return f'{path}["{key}"]'


def _quoted(path: str) -> str:
    """Quote a path that YAML would not read as plain text."""
    return path if re.fullmatch(r"[A-Za-z_][\w.-]*", path) else json.dumps(path)


def _records(answer: Any) -> tuple[str, Any]:
    lists = [(path, item) for path, item in _walk(answer) if _is_records(item)]
    if not lists:
        return "", None
    shallow = min(path.count(".") for path, _ in lists)
    return max((pair for pair in lists if pair[0].count(".") == shallow), key=lambda pair: len(pair[1]))


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value[:_SAMPLE])


def _paging(answer: Any, headers: Mapping[str, str], *, is_list: bool) -> Iterator[Proposal]:
    if 'rel="next"' in headers.get("link", "").replace("rel=next", 'rel="next"'):
        yield Proposal("endpoint", "paging: {type: link}", "the Link header has rel=next")
        return
    for path, value in _walk(answer):
        if _NEXT.match(path.rpartition(".")[2]) and (isinstance(value, str) or value is None):
            line = f"paging: {{type: cursor, cursor_path: {_quoted(path)}, cursor_param: cursor}}"
            yield Proposal(
                "endpoint", line, f"'{path}' looks like the next cursor; check the parameter's name"
            )
            return
    if is_list and isinstance(answer, dict):
        yield from _counted_paging(answer)


def _counted_paging(answer: Mapping[str, Any]) -> Iterator[Proposal]:
    numbers = {name for name, value in answer.items() if type(value) is int}
    more = "".join(
        f", more_path: {name}"
        for name in ("more", "has_more", "hasMore")
        if isinstance(answer.get(name), bool)
    )
    total = "".join(f", total_path: {name}" for name in ("total", "total_count") if name in numbers)
    if "offset" in numbers:
        line = f"paging: {{type: offset, offset_param: offset, limit: {{param: limit, size: 100}}{more or total}}}"
        yield Proposal("endpoint", line, "the answer tells an offset")
    elif "page" in numbers:
        yield Proposal(
            "endpoint", f"paging: {{type: page, page_param: page{more or total}}}", "the answer tells a page"
        )


def _stream(records: list[dict[str, Any]]) -> Iterator[Proposal]:
    shared = [name for name in records[0] if all(name in record for record in records)]
    unique = [name for name in shared if _is_unique([record[name] for record in records])]
    preferred = [name for name in _KEYS if name in unique] or [
        name for name in unique if name.endswith("_id")
    ]
    if preferred:
        yield Proposal("stream", f"key: {preferred[0]}", f"different in each of {len(records)} records")
    times = [name for name in shared if _CURSORS.match(name) and _TIME.match(str(records[0][name]))]
    times.sort(key=lambda name: "creat" in name.lower())
    if times:
        start = '"1970-01-01 00:00:00"' if " " in str(records[0][times[0]]) else '"1970-01-01T00:00:00Z"'
        line = f'cursor: {{field: {times[0]}, start: {start}, query: {{since: "{{cursor}}"}}}}'
        yield Proposal("stream", line, "a time in every record; check the parameter that filters by it")


def _is_unique(values: list[Any]) -> bool:
    return all(isinstance(value, str | int) for value in values) and len(set(values)) == len(values)


def _rate_limit(headers: Mapping[str, str]) -> Iterator[Proposal]:
    remaining = next((name for name in headers if name.endswith("ratelimit-remaining")), None)
    reset = next((name for name in headers if name.endswith("ratelimit-reset")), None)
    if reset is None or not re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", headers[reset].strip()):
        return
    kind = "epoch_seconds" if float(headers[reset]) > 1_000_000_000 else "delta_seconds"
    first = f"remaining: {remaining}, " if remaining else ""
    line = f"rate_limit: {{{first}reset: {reset}, reset_format: {kind}}}"
    yield Proposal("connector", line, f"{reset} was {headers[reset].strip()}")


def _errors(answer: Any) -> Iterator[Proposal]:
    for path in _MESSAGES:
        value = answer
        for step in re.split(r"\.|\[0\]\.?", path):
            if step:
                value = value.get(step) if isinstance(value, dict) else None
            if isinstance(value, list) and "[0]" in path:
                value = value[0] if value else None
        if isinstance(value, str) and value:
            yield Proposal("connector", f"errors: {{message: {_quoted(path)}}}", f"it says {value[:80]!r}")
            return
