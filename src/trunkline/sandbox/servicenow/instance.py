"""The state of one fake instance: its tables, how they are filled, and where the log stands."""

from typing import Any

from trunkline.sandbox.options import DEFAULT_COUNT, SandboxOptions
from trunkline.sandbox.servicenow.generate import generate_incidents
from trunkline.sandbox.servicenow.log import IncidentLog
from trunkline.sandbox.servicenow.render import Renderer
from trunkline.sandbox.servicenow.schema import OTHER_TABLES, incident_schema
from trunkline.sandbox.servicenow.selection import Selector
from trunkline.sandbox.servicenow.table import Table, stable_id

BORN = "2016-01-01 00:00:00"


class Instance:
    """Tables with data: replayed from the log when there is one, generated otherwise."""

    def __init__(self, options: SandboxOptions, users: list[str]) -> None:
        from_log = options.incidents_csv is not None
        schemas = (incident_schema(from_log=from_log), *OTHER_TABLES)
        self.tables = {schema.name: Table(schema) for schema in schemas}
        self.selector = Selector(
            self.tables, returns_no_rows=options.servicenow_invalid_query_returns_no_rows
        )
        self.renderer = Renderer(self.tables, self.selector)
        self._log: IncidentLog | None = None
        for name in users:
            self.named("sys_user", name, {"user_name": name})
        if options.incidents_csv is not None:
            self._log = IncidentLog(options.incidents_csv)
            self.replay(round(len(self._log) * options.log_share))
        else:
            count = DEFAULT_COUNT if options.count is None else options.count
            generate_incidents(self, count, options.seed)

    def named(self, table_name: str, name: str, more: dict[str, str] | None = None) -> str:
        """Return the sys_id of the record with this display value, made on first use; empty for no name."""
        if not name:
            return ""
        table = self.tables[table_name]
        sys_id = stable_id(table_name, name)
        if sys_id not in table.rows:
            values = {column.name: column.default for column in table.schema.columns}
            values.update(sys_created_on=BORN, sys_updated_on=BORN, sys_created_by="system")
            values.update(sys_updated_by="system", sys_mod_count="0", sys_id=sys_id)
            values[table.schema.display] = name
            values.update(more or {})
            table.put(values)
        return sys_id

    def replay(self, rows: int) -> dict[str, Any]:
        """Apply the next updates of the log and say where it stands."""
        applied = self._log.apply(self, rows) if self._log is not None else 0
        position = self._log.position if self._log is not None else 0
        total = len(self._log) if self._log is not None else 0
        return {"applied": applied, "position": position, "total": total, "remaining": total - position}
