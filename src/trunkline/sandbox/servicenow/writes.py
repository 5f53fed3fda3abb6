"""What happens when a client writes: which fields it may set, what the instance sets by itself, what it refuses."""

import re
import secrets
from typing import Any

import orjson

from trunkline.clock import Clock
from trunkline.sandbox.service import RefusedError
from trunkline.sandbox.servicenow.generate import FORMAT, priority_of
from trunkline.sandbox.servicenow.instance import Instance
from trunkline.sandbox.servicenow.query import as_datetime
from trunkline.sandbox.servicenow.schema import Column
from trunkline.sandbox.servicenow.table import Record, Table, stable_id

_ID = re.compile(r"[0-9a-f]{32}")
_RESOLVED, _CLOSED, _CANCELED = "6", "7", "8"


class Writer:
    """Inserts, updates and deletes records as one user of the instance."""

    def __init__(self, instance: Instance, clock: Clock, user: str) -> None:
        self._instance = instance
        self._clock = clock
        self._user = user

    def insert(self, table: Table, body: dict[str, Any]) -> Record:
        """Add a record; unknown fields are ignored, as the real service does."""
        given = _given(table, body)
        wanted_id = body.get("sys_id")
        now = self._now()
        values = {column.name: column.default for column in table.schema.columns}
        values.update(given)
        values["sys_id"] = self._new_id(table, wanted_id)
        values.update(sys_created_on=now, sys_created_by=self._user, sys_mod_count="0")
        values.update(sys_updated_on=now, sys_updated_by=self._user)
        if "number" in values and not values["number"]:
            values["number"] = table.next_number()
        if "opened_at" in values:
            values["opened_at"] = values["opened_at"] or now
        if table.name == "incident":
            self._incident_rules(table, values, {})
        return self._store(table, values)

    def update(self, table: Table, record: Record, body: dict[str, Any]) -> Record:
        """Change a record; one that stays as it was is not touched at all."""
        before = table.as_dict(record)
        given = _given(table, body)
        if all(before[name] == value for name, value in given.items()):
            return record
        now = self._now()
        values = {**before, **given}
        values.update(sys_updated_on=now, sys_updated_by=self._user)
        values["sys_mod_count"] = str(int(before["sys_mod_count"] or 0) + 1)
        if table.name == "incident":
            self._incident_rules(table, values, before)
        return self._store(table, values)

    def _now(self) -> str:
        return self._clock.now().strftime(FORMAT)

    def _store(self, table: Table, values: dict[str, str]) -> Record:
        for column in table.schema.columns:
            if column.kind == "journal" and values[column.name]:
                self._note(table.name, column.name, values)
                values[column.name] = ""
        return table.put(values)

    def _note(self, table_name: str, element: str, values: dict[str, str]) -> None:
        """Keep a work note or comment as a row of sys_journal_field, where the real service keeps them."""
        now = self._now()
        self._instance.tables["sys_journal_field"].put(
            {
                "sys_id": secrets.token_hex(16),
                "name": table_name,
                "element": element,
                "element_id": values["sys_id"],
                "value": values[element],
                "sys_created_on": now,
                "sys_created_by": self._user,
                "sys_updated_on": now,
                "sys_updated_by": self._user,
                "sys_mod_count": "0",
            }
        )

    @staticmethod
    def _new_id(table: Table, wanted: Any) -> str:
        if isinstance(wanted, str) and _ID.fullmatch(wanted) and wanted not in table.rows:
            return wanted
        return secrets.token_hex(16)

    def _incident_rules(self, table: Table, values: dict[str, str], before: dict[str, str]) -> None:
        """Apply the business rules of incidents: priority look-up, data policy, resolution and closure."""
        if any(values[name] != before.get(name) for name in ("impact", "urgency")):
            values["priority"] = priority_of(values["impact"], values["urgency"])
        if before and values["assignment_group"] != before["assignment_group"]:
            values["reassignment_count"] = str(int(before["reassignment_count"] or 0) + 1)
        if "sys_updated_at" in values:
            values["sys_updated_at"] = values["sys_updated_on"]
        if values["state"] == before.get("state"):
            return
        values["incident_state"] = table.columns["state"].choices.get(values["state"], values["state"])
        values["active"] = "false" if values["state"] in {_CLOSED, _CANCELED} else "true"
        if values["state"] in {_RESOLVED, _CLOSED}:
            self._resolve(values)
        elif before.get("state") in {_RESOLVED, _CLOSED}:
            values["reopen_count"] = str(int(before["reopen_count"] or 0) + 1)
            values.update(resolved_at="", resolved_by="", closed_at="")

    def _resolve(self, values: dict[str, str]) -> None:
        labels = {"close_code": "Resolution code", "close_notes": "Resolution notes"}
        missing = [label for name, label in labels.items() if not values[name]]
        if missing:
            detail = f"Data Policy Exception: The following fields are mandatory: {', '.join(missing)}"
            raise RefusedError(403, "Operation Failed", detail=detail)
        values["resolved_at"] = values["resolved_at"] or values["sys_updated_on"]
        values["resolved_by"] = values["resolved_by"] or stable_id("sys_user", self._user)
        if values["state"] == _CLOSED:
            values["closed_at"] = values["closed_at"] or values["sys_updated_on"]


def parse_body(raw: bytes) -> dict[str, Any]:
    """Read the JSON object a client sent (raises RefusedError 400, worded as the real service does)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RefusedError(
            400, "Exception while reading request", detail="Cannot decode the body as JSON"
        ) from error
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise RefusedError(400, "Exception while reading request", detail="The body must be a JSON object")
    return body


def _given(table: Table, body: dict[str, Any]) -> dict[str, str]:
    """Return the fields a client may set, as texts."""
    given = {}
    for name, value in body.items():
        column = table.columns.get(name)
        if column is not None and not column.read_only:
            given[name] = _value(column, value)
    return given


def _value(column: Column, value: Any) -> str:
    """Turn a JSON value into what the column keeps (raises RefusedError 400 for a list)."""
    if isinstance(value, dict):
        value = value.get("value")
    if value is None:
        return ""
    if isinstance(value, list | dict):
        raise RefusedError(400, "Invalid value", detail=f"Field {column.name} takes a single value")
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if column.kind == "datetime":
        return as_datetime(text) or ""
    if column.kind == "boolean":
        return "true" if text.lower() in {"true", "1"} else "false"
    return text[: column.length] if column.length else text
