"""How a record looks on the wire: which fields, values or what they show, links to what they refer to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from trunkline.sandbox.servicenow.selection import Selector
from trunkline.sandbox.servicenow.table import Record, Table

MAX_LINKS = 50_000


@dataclass(frozen=True)
class View:
    """The parameters that decide the look of a record."""

    base_url: str
    fields: tuple[str, ...] = ()
    display: str = "false"
    links: bool = True
    made: dict[tuple[str, str], orjson.Fragment] = field(default_factory=dict, compare=False, repr=False)


class Renderer:
    """Turns records into JSON bytes; plain views are kept with the record until it changes."""

    def __init__(self, tables: Mapping[str, Table], selector: Selector) -> None:
        self._tables = tables
        self._selector = selector
        self._views: dict[View, View] = {}
        self._notes: dict[tuple[str, str], list[str]] = {}
        self._notes_version = -1

    def page(self, table: Table, records: Iterable[Record], view: View) -> bytes:
        """Return `{"result": [...]}`."""
        view = self._intern(view)
        return b'{"result":[' + b",".join([self._bytes(table, record, view) for record in records]) + b"]}"

    def one(self, table: Table, record: Record, view: View) -> bytes:
        """Return `{"result": {...}}`."""
        return b'{"result":' + self._bytes(table, record, self._intern(view)) + b"}"

    def _intern(self, view: View) -> View:
        """Return the one instance of this view, so that comparing is by identity."""
        if len(self._views) > 64:
            self._views.clear()
        return self._views.setdefault(view, view)

    def _bytes(self, table: Table, record: Record, view: View) -> bytes:
        if record.rendered_for is view:
            return record.rendered
        rendered = orjson.dumps(self._document(table, record, view))
        if view.display == "false" and not any("." in name for name in view.fields):
            # A copy of the right size: the serialiser's own buffer holds several times as much memory.
            rendered = bytes(memoryview(rendered))
            record.rendered, record.rendered_for = rendered, view
        return rendered

    def _document(self, table: Table, record: Record, view: View) -> dict[str, Any]:
        if view.display == "false" and not view.fields:
            return self._plain(table, record, view)
        names = view.fields or table.names
        find = self._selector.finder(table)
        document = {}
        for name in names:
            found = find(name)
            if found is not None:
                get, show, column = found
                document[name] = self._field(
                    get(record.values),
                    self._journal(table, record, name) if column.kind == "journal" else show(record.values),
                    column.target,
                    view,
                )
        return document

    def _plain(self, table: Table, record: Record, view: View) -> dict[str, Any]:
        values = record.values
        document: dict[str, Any] = dict(zip(table.names, values, strict=True))
        if view.links:
            for position, name, target in table.references:
                value = values[position]
                if value:
                    document[name] = view.made.get((target, value)) or _made_link(view, target, value)
        return document

    @staticmethod
    def _field(value: str, shown: str, target: str, view: View) -> Any:
        if view.display == "all":
            field = {"display_value": shown, "value": value}
            if target and value and view.links:
                field["link"] = _link(view, target, value)
            return field
        if target and value and view.links:
            link = _link(view, target, value)
            return (
                {"display_value": shown, "link": link}
                if view.display == "true"
                else {"link": link, "value": value}
            )
        return shown if view.display == "true" else value

    def _journal(self, table: Table, record: Record, name: str) -> str:
        """Return the notes of a record as the real service shows them: newest first, each with its author."""
        table_of_notes = self._tables["sys_journal_field"]
        if self._notes_version != table_of_notes.version:
            self._notes_version = table_of_notes.version
            self._notes = _notes_by_record(table_of_notes)
        return "".join(reversed(self._notes.get((table.value(record, "sys_id"), name), [])))


def _notes_by_record(table: Table) -> dict[tuple[str, str], list[str]]:
    notes: dict[tuple[str, str], list[str]] = {}
    for record in table:
        note = table.as_dict(record)
        label = note["element"].replace("_", " ").capitalize()
        text = f"{note['sys_created_on']} - {note['sys_created_by']} ({label})\n{note['value']}\n\n"
        notes.setdefault((note["element_id"], note["element"]), []).append(text)
    return notes


def _link(view: View, target: str, value: str) -> str:
    return f"{view.base_url}/api/now/table/{target}/{value}"


def _made_link(view: View, target: str, value: str) -> orjson.Fragment:
    """Return a reference as ready JSON; few records are referred to by many, so each is made once a view."""
    if len(view.made) > MAX_LINKS:
        view.made.clear()
    made = orjson.Fragment(orjson.dumps({"link": _link(view, target, value), "value": value}))
    view.made[target, value] = made
    return made
