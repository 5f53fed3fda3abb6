"""The incident log: audit rows of a real instance (day-first times, `?` for unknown), replayed in time order."""

import csv
import re
from datetime import datetime
from pathlib import Path
from typing import Protocol, TextIO

from trunkline.errors import Invalid
from trunkline.sandbox.servicenow.schema import LEVELS, LOG_STATES, PRIORITIES
from trunkline.sandbox.servicenow.table import Table, stable_id

TIMES = ("opened_at", "sys_created_at", "sys_updated_at", "resolved_at", "closed_at")
FLAGS = ("active", "made_sla", "knowledge", "u_priority_confirmation")
NUMBERS = ("reassignment_count", "reopen_count", "sys_mod_count")
REFERENCES = {
    "caller_id": "sys_user",
    "opened_by": "sys_user",
    "assigned_to": "sys_user",
    "resolved_by": "sys_user",
    "assignment_group": "sys_user_group",
    "location": "cmn_location",
    "cmdb_ci": "cmdb_ci",
    "problem_id": "problem",
    "rfc": "change_request",
    "caused_by": "change_request",
}
CHOICES = {"impact": LEVELS, "urgency": LEVELS, "priority": PRIORITIES}
TEXTS = (
    "number",
    "incident_state",
    "sys_created_by",
    "sys_updated_by",
    "contact_type",
    "category",
    "subcategory",
    "u_symptom",
    "notify",
    "vendor",
    "closed_code",
)
COLUMNS = (*TIMES, *FLAGS, *NUMBERS, *REFERENCES, *CHOICES, *TEXTS)
_NEEDED = ("number", "incident_state", "sys_updated_at", "opened_at")
_NUMBER = re.compile(r"\d{1,9}")
_CODES = {label: code for code, label in LOG_STATES.items()}


class Filled(Protocol):
    """What the log is replayed into."""

    tables: dict[str, Table]

    def named(self, table_name: str, name: str, more: dict[str, str] | None = None) -> str: ...


class IncidentLog:
    """The rows of one file, checked and in the order of `sys_updated_at`; `position` is how many are applied.

    Raises Invalid naming file, line and column for a file it cannot use.
    """

    def __init__(self, path: Path) -> None:
        self._rows = sorted(_read(path), key=lambda row: row["sys_updated_at"])
        self.position = 0

    def __len__(self) -> int:
        return len(self._rows)

    def apply(self, instance: Filled, rows: int) -> int:
        """Apply the next `rows` updates and return how many there were."""
        due = self._rows[self.position : self.position + rows]
        self.position += len(due)
        latest = {row["number"]: row for row in due}
        for row in latest.values():
            instance.tables["incident"].put(_incident(instance, row))
        return len(due)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _checked(path, file)
    except OSError as error:
        raise Invalid.field(("incidents_csv",), f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid.field(("incidents_csv",), f"{path}: is no UTF-8 text (byte {error.start})") from error


def _checked(path: Path, file: TextIO) -> list[dict[str, str]]:
    rows = []
    reader = csv.reader(file)
    try:
        header: list[str] = next(reader, [])
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise _bad(path, 1, missing[0], "the column is missing")
        for cells in reader:
            if len(cells) != len(header) and cells:
                text = f"the row has {len(cells)} of {len(header)} columns"
                raise _bad(path, reader.line_num, header[min(len(cells), len(header) - 1)], text)
            if cells:
                rows.append(_row(path, reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise _bad(path, reader.line_num, "?", str(error)) from error
    return rows


def _bad(path: Path, line: int, column: str, text: str) -> Invalid:
    return Invalid.field(("incidents_csv",), f"{path}:{line}: column {column}: {text}")


def _row(path: Path, line: int, cells: dict[str, str]) -> dict[str, str]:
    """Turn one row into texts as the instance keeps them: `?` is empty, times are UTC, flags lower case."""
    row = {name: "" if cells[name].strip() == "?" else cells[name].strip() for name in COLUMNS}
    for name in _NEEDED:
        if not row[name]:
            raise _bad(path, line, name, "is empty")
    for name in TIMES:
        row[name] = _time(path, line, name, row[name])
    for name in FLAGS:
        row[name] = row[name].lower()
        if row[name] not in {"true", "false", ""}:
            raise _bad(path, line, name, f"{row[name][:40]!r} is neither TRUE nor FALSE")
    for name in NUMBERS:
        if row[name] and not _NUMBER.fullmatch(row[name]):
            raise _bad(path, line, name, f"{row[name][:40]!r} is no whole number")
    return row


def _time(path: Path, line: int, name: str, text: str) -> str:
    if not text:
        return ""
    try:
        return f"{datetime.strptime(text, '%d-%m-%Y %H:%M'):%Y-%m-%d %H:%M:%S}"  # noqa: DTZ007 - the log is UTC
    except ValueError as error:
        raise _bad(path, line, name, f"{text[:40]!r} is no time (DD-MM-YYYY HH:MM)") from error


def _incident(instance: Filled, row: dict[str, str]) -> dict[str, str]:
    """Return an incident as the service names its fields, the log's own names beside them."""
    values = dict(row)
    for name, target in REFERENCES.items():
        values[name] = instance.named(target, row[name])
    for name, choices in CHOICES.items():
        values[name] = next((code for code, label in choices.items() if label == row[name]), row[name])
    parts = [part for part in (row["category"], row["subcategory"], row["u_symptom"]) if part]
    values.update(
        sys_id=stable_id("incident", row["number"]),
        state=_CODES.get(row["incident_state"], row["incident_state"]),
        close_code=row["closed_code"],
        sys_created_on=row["sys_created_at"] or row["opened_at"],
        sys_updated_on=row["sys_updated_at"],
        short_description=" / ".join(parts) or row["number"],
    )
    return values
