"""The tables of the fake instance: columns with their kinds, choices and references."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["string", "integer", "boolean", "datetime", "choice", "reference", "journal", "id"]


@dataclass(frozen=True)
class Column:
    """One column. `read_only` ones are set by the instance alone; longer texts are cut, as the real one does."""

    name: str
    kind: Kind = "string"
    target: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    length: int = 0
    read_only: bool = False
    default: str = ""


@dataclass(frozen=True)
class Schema:
    """One table: its columns, the one shown for a reference to it, and the prefix of its numbers."""

    name: str
    columns: tuple[Column, ...]
    display: str = "name"
    prefix: str = ""


STATES = {
    "1": "New",
    "2": "In Progress",
    "3": "On Hold",
    "6": "Resolved",
    "7": "Closed",
    "8": "Canceled",
}
# The labels of the 2016 instance the incident log was taken from.
LOG_STATES = {
    "1": "New",
    "2": "Active",
    "3": "Awaiting Problem",
    "4": "Awaiting User Info",
    "5": "Awaiting Evidence",
    "9": "Awaiting Vendor",
    "6": "Resolved",
    "7": "Closed",
    "8": "Canceled",
}
LEVELS = {"1": "1 - High", "2": "2 - Medium", "3": "3 - Low"}
PRIORITIES = {"1": "1 - Critical", "2": "2 - High", "3": "3 - Moderate", "4": "4 - Low", "5": "5 - Planning"}

SYSTEM = (
    Column("sys_id", "id", read_only=True),
    Column("sys_created_on", "datetime", read_only=True),
    Column("sys_created_by", read_only=True),
    Column("sys_updated_on", "datetime", read_only=True),
    Column("sys_updated_by", read_only=True),
    Column("sys_mod_count", "integer", read_only=True),
)


def _reference(name: str, target: str) -> Column:
    return Column(name, "reference", target)


def _user(name: str) -> Column:
    return _reference(name, "sys_user")


def incident_schema(*, from_log: bool) -> Schema:
    """Return the incident table; one loaded from the log has the log's own columns and state labels as well."""
    columns = (
        Column("number", length=40),
        Column("short_description", length=160),
        Column("description", length=4_000),
        Column("state", "choice", choices=LOG_STATES if from_log else STATES, default="1"),
        Column("incident_state", read_only=True),
        Column("active", "boolean", default="true"),
        Column("priority", "choice", choices=PRIORITIES, read_only=True, default="5"),
        Column("impact", "choice", choices=LEVELS, default="3"),
        Column("urgency", "choice", choices=LEVELS, default="3"),
        Column("category", length=40, default="inquiry"),
        Column("subcategory", length=40),
        Column("contact_type", length=40),
        _user("caller_id"),
        _user("opened_by"),
        _user("assigned_to"),
        _reference("assignment_group", "sys_user_group"),
        _reference("cmdb_ci", "cmdb_ci"),
        _reference("problem_id", "problem"),
        Column("opened_at", "datetime"),
        Column("resolved_at", "datetime"),
        _user("resolved_by"),
        Column("closed_at", "datetime"),
        Column("close_code", length=40),
        Column("close_notes", length=4_000),
        Column("reassignment_count", "integer", default="0", read_only=True),
        Column("reopen_count", "integer", default="0", read_only=True),
        Column("made_sla", "boolean", default="true"),
        Column("correlation_id", length=100),
        Column("comments", "journal"),
        Column("work_notes", "journal"),
        *SYSTEM,
    )
    return Schema("incident", columns + (LOG_COLUMNS if from_log else ()), "number", "INC")


LOG_COLUMNS = (
    _reference("location", "cmn_location"),
    _reference("rfc", "change_request"),
    _reference("caused_by", "change_request"),
    Column("knowledge", "boolean", default="false"),
    Column("notify", length=40),
    Column("sys_created_at", "datetime", read_only=True),
    Column("sys_updated_at", "datetime", read_only=True),
    Column("u_symptom"),
    Column("u_priority_confirmation", "boolean"),
    Column("vendor"),
    Column("closed_code", length=40),
)

_TASK = (
    Column("number", length=40),
    Column("short_description", length=160),
    Column("description", length=4_000),
    Column("state", "choice", choices={"1": "New", "2": "In Progress", "3": "Closed"}, default="1"),
    Column("priority", "choice", choices=PRIORITIES, default="4"),
    Column("active", "boolean", default="true"),
    _user("assigned_to"),
    _reference("assignment_group", "sys_user_group"),
    Column("opened_at", "datetime"),
    Column("work_notes", "journal"),
    *SYSTEM,
)

OTHER_TABLES = (
    Schema(
        "sys_user",
        (
            Column("user_name", length=40),
            Column("name", length=151),
            Column("first_name", length=50),
            Column("last_name", length=50),
            Column("email", length=100),
            Column("title", length=60),
            Column("active", "boolean", default="true"),
            *SYSTEM,
        ),
    ),
    Schema(
        "sys_user_group",
        (
            Column("name", length=80),
            Column("description", length=1_000),
            _user("manager"),
            Column("active", "boolean", default="true"),
            *SYSTEM,
        ),
    ),
    Schema("problem", _TASK, "number", "PRB"),
    Schema("change_request", (*_TASK, Column("type", default="normal")), "number", "CHG"),
    Schema(
        "cmdb_ci",
        (
            Column("name", length=255),
            Column("short_description", length=1_000),
            Column("sys_class_name", default="cmdb_ci"),
            Column("operational_status", default="1"),
            *SYSTEM,
        ),
    ),
    Schema("cmn_location", (Column("name", length=100), *SYSTEM)),
    Schema(
        "sys_journal_field",
        (
            Column("name", length=80),
            Column("element", length=80),
            Column("element_id", length=32),
            Column("value", length=4_000),
            *SYSTEM,
        ),
        "element",
    ),
)
