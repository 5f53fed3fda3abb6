"""Rows of an upload, checked and mapped to the fields of a dataset. Pure: no storage."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from trunkline.errors import FieldError, Invalid
from trunkline.rest.json_text import compact_json, depth_exceeds
from trunkline.services.upload_files import Row

MAX_KEY = 512
MAX_VALUE = 1_000_000
MAX_RECORD = 2_000_000
MAX_DEPTH = 32
PREVIEW = 10
_MAX_ERRORS = 1_000
_MAX_FIELDS = 10_000
_SHOWN = 200
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

REQUIRED = ("incident_id", "title", "description")
OPTIONAL = (
    *("source_id", "action_taken", "state", "category", "subcategory", "priority", "impact", "urgency"),
    *("assigned_to", "assignment_group", "resolution_code"),
    *("opened_at", "resolved_at", "closed_at", "updated_at"),
)


@dataclass(frozen=True, slots=True)
class Fields:
    """What records of a dataset have: which field is the key, which must be there, which else are known."""

    key: str = REQUIRED[0]
    required: Sequence[str] = REQUIRED
    known: Sequence[str] = (*REQUIRED, *OPTIONAL)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where."""

    file: str
    row: int | None
    field: str | None
    message: str
    value: Any = None


@dataclass(slots=True)
class Checked:
    """What came of the rows: records by key in their order, problems, and what the mapping really was."""

    fields: list[str]
    mapping: dict[str, str]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    bad: list[tuple[Row, str]] = field(default_factory=list)
    repeated: int = 0

    def report(self, total: int) -> dict[str, Any]:
        """Describe it for those who are to mend the files."""
        shown = [
            {name: getattr(problem, name) for name in Problem.__slots__}
            for problem in self.problems[:_MAX_ERRORS]
        ]
        return {
            "status": "has_errors" if self.problems else "validated",
            "total_records": total,
            "valid_count": len(self.records),
            "error_count": len(self.bad),
            "duplicate_count": self.repeated,
            "errors": shown,
            "preview": list(self.records.values())[:PREVIEW],
            "file_fields": self.fields,
            "mapping": self.mapping,
        }


def fields_of(rows: Sequence[Row]) -> list[str]:
    """List the fields that any row has, in the order in which they turn up; of more than 10,000 the first ones."""
    found: dict[str, None] = {}
    for row in rows:
        if row.problem is None:
            found.update(dict.fromkeys(row.data))
        if len(found) > _MAX_FIELDS:
            break
    return list(found)[:_MAX_FIELDS]


def check_mapping(mapping: Mapping[str, str], file_fields: Sequence[str], wanted: Fields) -> None:
    """Check what a person maps to what.

    Raises:
        Invalid: naming a source that no file has, or two sources of one target.
    """
    faults = []
    used: dict[str, str] = {}
    there = set(file_fields)
    for source, target in mapping.items():
        place = ("body", "mapping", source[:_SHOWN])
        if source not in there:
            faults.append(FieldError(place, f"no file has this field; they have {_some(file_fields)}"))
        elif target not in wanted.known and wanted.known:
            faults.append(FieldError(place, f"'{target[:64]}' is no field; there are {_some(wanted.known)}"))
        elif target in used:
            faults.append(FieldError(place, f"'{used[target]}' is mapped to '{target}' too"))
        used[target] = source
    if faults:
        raise Invalid(fields=faults[:20])


def check(rows: Sequence[Row], mapping: Mapping[str, str], wanted: Fields) -> Checked:
    """Map and check every row; of several with one key the first counts."""
    named = fields_of(rows)
    checked = Checked(named, effective(mapping, named, wanted))
    absent = [name for name in wanted.required if name not in checked.mapping.values()]
    if absent and named:
        text = f"no field of the files is mapped to it; they have {_some(named)}"
        first = rows[0].file
        checked.problems += [Problem(first, None, name, text) for name in absent]
    for row in rows:
        problems = [Problem(row.file, row.row, None, row.problem, _shown(row.data))] if row.problem else []
        record = {} if problems else _mapped(row.data, checked.mapping)
        problems = problems or list(_faults(row, record, wanted, absent))
        if problems or absent:
            checked.problems += problems
            why = "; ".join(_said(problem) for problem in problems) or f"no {', '.join(absent)}"
            checked.bad.append((row, why))
            continue
        key = record[wanted.key] = str(record[wanted.key]).strip()
        if key in checked.records:
            checked.repeated += 1
        else:
            checked.records[key] = record
    return checked


def _said(problem: Problem) -> str:
    return f"{problem.field}: {problem.message}" if problem.field else problem.message


def effective(mapping: Mapping[str, str], named: Sequence[str], wanted: Fields) -> dict[str, str]:
    """Complete a mapping by what names tell by themselves: `Incident ID` is `incident_id`."""
    found = dict(mapping)
    taken = set(found.values())
    known = {*wanted.known, *wanted.required}
    for name in named:
        target = name if name in known else "_".join(name.replace("-", " ").lower().split())
        if name not in found and target in known and target not in taken:
            found[name] = target
            taken.add(target)
    return found


def _mapped(data: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """Spell a row's fields as the dataset does; those that nobody maps stay, unless a mapped one has their name."""
    record = {name: value for name, value in data.items() if name not in mapping}
    return record | {target: data[name] for name, target in mapping.items() if name in data}


def _faults(row: Row, record: Mapping[str, Any], wanted: Fields, absent: Sequence[str]) -> Iterator[Problem]:
    for name in wanted.required:
        value = record.get(name)
        if name in absent:
            continue
        if value is None or (isinstance(value, str) and not value.strip()):
            yield Problem(row.file, row.row, name, "must not be empty", _shown(value))
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            yield Problem(row.file, row.row, name, "must be a text or a number", _shown(value))
        elif name == wanted.key and len(str(value)) > MAX_KEY:
            yield Problem(row.file, row.row, name, f"has more than {MAX_KEY} characters", _shown(value))
    size = 0
    for name, value in record.items():
        fault = _value_fault(name, value)
        size += len(value) if isinstance(value, str) and fault is None else 0
        if fault is not None:
            yield Problem(row.file, row.row, _shown(name), fault, _shown(value))
    if size > MAX_RECORD:
        yield Problem(row.file, row.row, None, f"has more than {MAX_RECORD} characters in all")


def _value_fault(name: str, value: Any) -> str | None:
    if "\0" in name or len(name) > _SHOWN:
        return f"a field's name has at most {_SHOWN} characters, and none of them U+0000"
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict | list):
        if depth_exceeds(value, MAX_DEPTH):
            return f"is nested more than {MAX_DEPTH} levels deep"
        text = orjson.dumps(value).decode()
        if _ESCAPED_NUL.search(text):
            return "must not hold the character U+0000"
    else:
        return None
    if len(text) > MAX_VALUE:
        return f"has {len(text)} characters; at most {MAX_VALUE}"
    return "must not hold the character U+0000" if "\0" in text else None


def _shown(value: Any) -> Any:
    """Cut a value to what fits into a report."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else compact_json(value)
    text = text.replace("\0", "\\0")  # one of our databases cannot keep it
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _some(names: Sequence[str]) -> str:
    return ", ".join(name[:64] for name in names[:20]) + (", …" if len(names) > 20 else "")
