"""Sealed secrets as rows: kept, fetched, named and dropped inside the caller's transaction. Opens nothing."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from trunkline.db import insert
from trunkline.tables import secrets

_KEY = ("workspace_id", "owner_id", "name")
_OF_OWNER = sa.and_(
    secrets.c.workspace_id == sa.bindparam("workspace_id"), secrets.c.owner_id == sa.bindparam("owner_id")
)
_ROWS = sa.select(secrets.c.name, secrets.c.data_key_id, secrets.c.sealed).where(_OF_OWNER)


class SealedRow(NamedTuple):
    """One secret as it is stored."""

    name: str
    data_key_id: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """Secrets of one owner, sealed and ready to be stored."""

    workspace_id: str
    owner_id: str
    rows: tuple[SealedRow, ...]
    at: datetime


def rows(conn: sa.Connection, workspace_id: str, owner_id: str) -> list[SealedRow]:
    """Fetch all secrets of one owner, still sealed."""
    found = conn.execute(_ROWS, {"workspace_id": workspace_id, "owner_id": owner_id})
    return [SealedRow(*row) for row in found]


def store(conn: sa.Connection, sealed: SealedSecrets) -> None:
    """Keep sealed secrets; one of the same name is replaced, others of the owner stay."""
    if not sealed.rows:
        return
    values = [
        {"workspace_id": sealed.workspace_id, "owner_id": sealed.owner_id, "updated_at": sealed.at}
        | row._asdict()
        for row in sorted(
            sealed.rows
        )  # as rotation goes through them: who locks several never waits in a circle
    ]
    statement = insert(conn.dialect.name, secrets)
    changed = {name: statement.excluded[name] for name in ("data_key_id", "sealed", "updated_at")}
    conn.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=changed), values)


def forget(
    conn: sa.Connection, workspace_id: str, owner_id: str, names: Collection[str] | None = None
) -> None:
    """Drop the secrets of one owner: those named, or all."""
    statement = sa.delete(secrets).where(
        secrets.c.workspace_id == workspace_id, secrets.c.owner_id == owner_id
    )
    if names is not None:
        statement = statement.where(secrets.c.name.in_(names))
    conn.execute(statement)


def names(conn: sa.Connection, workspace_id: str, owner_ids: Iterable[str]) -> dict[str, list[str]]:
    """List the names of each owner's secrets, sorted; an owner without any has an empty list."""
    found: dict[str, list[str]] = {owner_id: [] for owner_id in owner_ids}
    statement = (
        sa.select(secrets.c.owner_id, secrets.c.name)
        .where(secrets.c.workspace_id == workspace_id, secrets.c.owner_id.in_(found))
        .order_by(secrets.c.owner_id, secrets.c.name)
    )
    for owner_id, name in conn.execute(statement):
        found[owner_id].append(name)
    return {owner_id: sorted(own) for owner_id, own in found.items()}
