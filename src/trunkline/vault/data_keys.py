"""Data keys as rows: one in use per workspace, wrapped by a master key, the retired ones kept until unused."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from trunkline.tables import data_keys, secrets, workspaces

_COLUMNS = (data_keys.c.id, data_keys.c.workspace_id, data_keys.c.master_key_id, data_keys.c.wrapped)
_IN_USE = (
    sa.select(*_COLUMNS)
    .where(data_keys.c.workspace_id == sa.bindparam("workspace_id"), data_keys.c.retired_at.is_(None))
    .order_by(data_keys.c.created_at.desc(), data_keys.c.id.desc())
    .limit(1)
)


class WrappedKey(NamedTuple):
    """A data key as it is stored; its first three fields are what the wrapping binds."""

    id: str
    workspace_id: str
    master_key_id: str
    wrapped: bytes


def find(conn: sa.Connection, workspace_id: str, ids: Collection[str]) -> list[WrappedKey]:
    """Fetch data keys of one workspace by id."""
    statement = sa.select(*_COLUMNS).where(data_keys.c.workspace_id == workspace_id, data_keys.c.id.in_(ids))
    return [WrappedKey(*row) for row in conn.execute(statement)]


def in_use(conn: sa.Connection, workspace_id: str) -> WrappedKey | None:
    """Fetch the data key that seals a workspace's new secrets, if it has one."""
    row = conn.execute(_IN_USE, {"workspace_id": workspace_id}).one_or_none()
    return None if row is None else WrappedKey(*row)


def master_key_ids(conn: sa.Connection) -> list[str]:
    """List the ids of the master keys that any data key is wrapped by."""
    return list(conn.execute(sa.select(data_keys.c.master_key_id).distinct()).scalars())


def add_first(conn: sa.Connection, key: WrappedKey, now: datetime) -> WrappedKey:
    """Store a workspace's first data key; when somebody else was faster, return theirs instead."""
    _hold(conn, [key.workspace_id])
    found = in_use(conn, key.workspace_id)
    if found is None:
        _insert(conn, [key], now)
    return found or key


def replace(conn: sa.Connection, keys: Sequence[WrappedKey], now: datetime) -> None:
    """Store a new data key for each of several workspaces and retire the ones they used."""
    owners = [key.workspace_id for key in keys]
    _hold(conn, owners)
    conn.execute(
        sa.update(data_keys)
        .where(data_keys.c.workspace_id.in_(owners), data_keys.c.retired_at.is_(None))
        .values(retired_at=now)
    )
    _insert(conn, keys, now)


def workspaces_with_keys(conn: sa.Connection, after: str, limit: int) -> list[str]:
    """List workspaces that have a data key, in order of id."""
    statement = (
        sa.select(data_keys.c.workspace_id)
        .where(data_keys.c.workspace_id > after)
        .distinct()
        .order_by(data_keys.c.workspace_id)
        .limit(limit)
    )
    return list(conn.execute(statement).scalars())


def not_wrapped_by(conn: sa.Connection, master_key_id: str, after: str, limit: int) -> list[WrappedKey]:
    """Fetch data keys, retired ones too, that another master key wraps, in order of id."""
    statement = (
        sa.select(*_COLUMNS)
        .where(data_keys.c.master_key_id != master_key_id, data_keys.c.id > after)
        .order_by(data_keys.c.id)
        .limit(limit)
    )
    return [WrappedKey(*row) for row in conn.execute(statement)]


def rewrap(conn: sa.Connection, pairs: Sequence[tuple[WrappedKey, WrappedKey]]) -> int:
    """Exchange each old wrapping for the new one where it is still there; return how many were."""
    done = 0
    for old, new in pairs:
        changed = conn.execute(
            sa.update(data_keys)
            .where(data_keys.c.id == old.id, data_keys.c.wrapped == old.wrapped)
            .values(master_key_id=new.master_key_id, wrapped=new.wrapped)
        )
        done += changed.rowcount
    return done


def delete_unused(conn: sa.Connection, retired_before: datetime) -> int:
    """Delete data keys that were retired before a moment and seal no secret."""
    used = sa.exists().where(secrets.c.data_key_id == data_keys.c.id)
    return conn.execute(sa.delete(data_keys).where(data_keys.c.retired_at < retired_before, ~used)).rowcount


def _hold(conn: sa.Connection, workspace_ids: Collection[str]) -> None:
    """Make other makers of data keys for these workspaces wait; a no-op on SQLite, where one writes at a time."""
    conn.execute(
        sa.select(workspaces.c.id)
        .where(workspaces.c.id.in_(workspace_ids))
        .order_by(workspaces.c.id)
        .with_for_update(key_share=True)
    ).all()


def _insert(conn: sa.Connection, keys: Sequence[WrappedKey], now: datetime) -> None:
    conn.execute(sa.insert(data_keys), [key._asdict() | {"created_at": now} for key in keys])
