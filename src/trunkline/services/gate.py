"""May a version go live? Limits on deletes, rows, empty fields and schema. Pure: no storage.

A field is empty in a record that lacks it, or has null or an empty text there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from trunkline.errors import Invalid

_MOST_FIELDS = 500
_NOTABLE = 0.1
"""A field that fewer records have may come and go."""
_KINDS: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a version may differ from its base by; None lets everything through."""

    deletes: float | None = 0.3
    """Share of the base's records that may be gone."""
    rows: float | None = 0.5
    """Share of the base's number of records that there must be."""
    empty: float | None = 0.5
    """By how much of all records a field may be empty more often."""
    schema: bool = True
    """Whether to hold when a field vanishes or all its values become of another type."""

    def to_json(self) -> dict[str, Any]:
        """Write them as they are stored and shown."""
        return asdict(self)


@dataclass(slots=True)
class Fields:
    """What was found in a sample of records: of each field its types and how often it has a value."""

    sampled: int = 0
    names: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one record in."""
        self.sampled += 1
        for name, value in record.items():
            found = self.names.get(name)
            if found is None:
                if len(self.names) == _MOST_FIELDS:
                    continue
                found = self.names[name] = {}
            kind = "empty" if value is None or value == "" else _KINDS.get(type(value), "object")
            found[kind] = found.get(kind, 0) + 1

    def filled(self, name: str) -> float:
        """Return the share of records that have a value there."""
        found = self.names.get(name, {})
        return sum(count for kind, count in found.items() if kind != "empty") / max(self.sampled, 1)

    def kinds(self, name: str) -> set[str]:
        """Return the types a field has, but for being empty."""
        return self.names.get(name, {}).keys() - {"empty"}

    def to_json(self) -> dict[str, Any]:
        """Write it as it is stored with a version."""
        return {"sampled": self.sampled, "names": self.names}


@dataclass(frozen=True, slots=True)
class Stats:
    """A version in figures."""

    total: int
    removed: int = 0
    fields: Fields = field(default_factory=Fields)


def read_limits(given: Mapping[str, Any]) -> Limits:
    """Read limits as stored or sent; what is absent is as by default.

    Raises:
        Invalid: naming the field below `gate`.
    """
    unknown = given.keys() - {each.name for each in fields(Limits)}
    if unknown:
        name = min(unknown)
        raise Invalid.field(("body", "gate", name), "is no limit: deletes, rows, empty or schema")
    for name, value in given.items():
        if name == "schema":
            if not isinstance(value, bool):
                raise Invalid.field(("body", "gate", name), "must be true or false")
        elif value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
        ):
            raise Invalid.field(("body", "gate", name), "must be a share from 0 to 1, or null for no limit")
    return Limits(**given)


def judge(before: Stats | None, after: Stats, limits: Limits) -> str | None:
    """Return why a version must wait for a person, or None when it may go live; a first one always may."""
    if before is None or not before.total:
        return None
    reasons = [*_of_rows(before, after, limits), *_of_fields(before.fields, after.fields, limits)]
    return " ".join(reasons) or None


def _of_rows(before: Stats, after: Stats, limits: Limits) -> Iterable[str]:
    if limits.rows is not None and after.total < limits.rows * before.total:
        yield f"{after.total:,} records are left of {before.total:,}; at least {limits.rows:.0%} must be."
    if limits.deletes is not None and after.removed > limits.deletes * before.total:
        yield f"{after.removed:,} of {before.total:,} records are gone; at most {limits.deletes:.0%} may be."


def _of_fields(before: Fields, after: Fields, limits: Limits) -> Iterable[str]:
    if not before.sampled or not after.sampled:
        return
    for name in before.names:
        was, now = before.filled(name), after.filled(name)
        if limits.schema and name not in after.names and len(after.names) < _MOST_FIELDS and was >= _NOTABLE:
            yield f"The field {name!r} has vanished."
        elif limits.empty is not None and was - now > limits.empty:
            yield f"The field {name!r} is empty in {1 - now:.0%} of the records, it was in {1 - was:.0%}."
        elif limits.schema and min(was, now) >= _NOTABLE and before.kinds(name).isdisjoint(after.kinds(name)):
            kinds = [" or ".join(sorted(each.kinds(name))) for each in (before, after)]
            yield f"The field {name!r} was {kinds[0]} and is {kinds[1]} now."
