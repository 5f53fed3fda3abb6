"""The Aggregate API: counts, sums, averages, lowest and highest, over all selected records or per group."""

from collections.abc import Iterable, Mapping
from typing import Any

from trunkline.sandbox.service import RefusedError
from trunkline.sandbox.servicenow.query import as_number
from trunkline.sandbox.servicenow.table import Record, Table

_NUMERIC = ("sum", "avg", "min", "max")


def aggregate(table: Table, records: Iterable[Record], params: Mapping[str, str]) -> Any:
    """Return the `result` of a stats request (raises RefusedError 400 when nothing is asked for)."""
    wanted = {name: _fields(table, params.get(f"sysparm_{name}_fields", "")) for name in _NUMERIC}
    count = params.get("sysparm_count", "").lower() == "true"
    if not count and not any(wanted.values()):
        raise RefusedError(
            400, "Invalid request", detail="ask for sysparm_count or one of the aggregate fields"
        )
    groups = _fields(table, params.get("sysparm_group_by", ""))
    if not groups:
        return {"stats": _stats(table, list(records), wanted, count=count)}
    return [
        {
            "stats": _stats(table, members, wanted, count=count),
            "groupby_fields": [
                {"field": name, "value": value} for name, value in zip(groups, key, strict=True)
            ],
        }
        for key, members in sorted(_grouped(table, records, groups).items())
    ]


def _fields(table: Table, text: str) -> list[str]:
    return [name for name in text.split(",") if name in table.columns]


def _grouped(
    table: Table, records: Iterable[Record], groups: list[str]
) -> dict[tuple[str, ...], list[Record]]:
    positions = [table.positions[name] for name in groups]
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record.values[position] for position in positions), []).append(record)
    return found


def _stats(
    table: Table, records: list[Record], wanted: Mapping[str, list[str]], *, count: bool
) -> dict[str, Any]:
    stats: dict[str, Any] = {"count": str(len(records))} if count else {}
    for kind, names in wanted.items():
        if names:
            stats[kind] = {
                name: _one(kind, [table.value(record, name) for record in records]) for name in names
            }
    return stats


def _one(kind: str, values: list[str]) -> str:
    if kind in {"min", "max"}:
        present = [value for value in values if value]
        return (min if kind == "min" else max)(present, default="")
    numbers = [number for value in values if (number := as_number(value)) is not None]
    total = sum(numbers)
    if kind == "avg":
        return f"{total / len(numbers):.4f}" if numbers else ""
    return f"{total:g}"
