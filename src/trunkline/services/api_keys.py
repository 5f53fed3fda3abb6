"""API keys: made, shown once, checked on every request, rotated, revoked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Caller, Context
from trunkline.errors import Forbidden, NotFound, Unauthenticated
from trunkline.ids import hash_api_key, is_api_key, new_api_key, new_id, new_key_id
from trunkline.services import permissions, workspaces
from trunkline.tables import api_keys, plain

FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the only moment its text exists."""

    api_key: str
    row: dict[str, Any]


async def authenticate(app: App, token: str) -> Caller:
    """Return who holds this key, and note that it was used.

    Raises:
        Unauthenticated: unknown, revoked or expired.
    """
    digest = hash_api_key(token)
    caller = app.keys.get(digest)
    if caller is None:
        if not is_api_key(token):
            raise Unauthenticated
        caller = await app.keys.fetch(digest, lambda: _load(app, digest))
    now = app.clock.now()
    if caller.expires_at is not None and caller.expires_at <= now:
        raise Unauthenticated("This API key has expired; create or rotate one.")
    app.key_uses[caller.credential_id] = now
    return caller


async def _load(app: App, digest: bytes) -> Caller:
    query = sa.select(api_keys).where(api_keys.c.secret_hash == digest)
    row = await app.db.read(lambda conn: conn.execute(query).one_or_none())
    if row is None:
        raise Unauthenticated
    return Caller(
        workspace_id=row.workspace_id,
        credential_id=row.id,
        key_id=row.key_id,
        person_id=row.person_id,
        name=row.name,
        role=row.role,
        explicit=tuple(row.permissions),
        permissions=permissions.effective(row.role, row.permissions),
        expires_at=row.expires_at,
    )


def insert_key(
    conn: Connection,
    *,
    workspace_id: str,
    name: str | None,
    role: str,
    explicit: list[str],
    expires_at: datetime | None,
    now: datetime,
    caller: Caller | None = None,
    person_id: str | None = None,
) -> NewKey:
    """Add a key; only its SHA-256 is stored."""
    secret = new_api_key()
    row = {
        "id": new_id(),
        "workspace_id": workspace_id,
        "key_id": new_key_id(),
        "name": name,
        "role": role,
        "permissions": explicit,
        "person_id": person_id,
        "created_by_credential_id": caller.credential_id if caller else None,
        "created_by_entity_id": caller.person_id if caller else None,
        "created_at": now,
        "updated_at": now,
        "expires_at": expires_at,
    }
    conn.execute(sa.insert(api_keys).values(**row, secret_hash=hash_api_key(secret)))
    return NewKey(secret, {**row, "last_used_at": None})


async def create(
    ctx: Context,
    *,
    name: str | None,
    role: str,
    explicit: list[str],
    duration_days: int | None,
    person_id: str | None = None,
) -> NewKey:
    """Make a key that holds at most what the caller holds.

    Args:
        duration_days: 1 to 90, or None for a key without end.

    Raises:
        Forbidden: the role or a permission is more than the caller has.
    """
    role = permissions.check_role(role)
    explicit = permissions.check_permissions(explicit)
    permissions.check_grant(ctx.caller.role, ctx.caller.permissions, role, explicit)

    def write(conn: Connection) -> NewKey:
        if person_id is not None:
            held = workspaces.check_person(conn, ctx.workspace_id, person_id)
            permissions.check_grant(held, permissions.effective(held, []), role, explicit)
        return insert_key(
            conn,
            workspace_id=ctx.workspace_id,
            name=name,
            role=role,
            explicit=explicit,
            expires_at=_expiry(ctx.now, duration_days),
            now=ctx.now,
            caller=ctx.caller,
            person_id=person_id,
        )

    return await ctx.app.db.write(write)


def _expiry(now: datetime, days: int | None) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


async def list_keys(
    ctx: Context, *, mine_only: bool, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """List keys, newest first, and count them. Their secrets are gone for good."""
    mine = sa.or_(
        api_keys.c.id == ctx.caller.credential_id,
        api_keys.c.created_by_credential_id == ctx.caller.credential_id,
        api_keys.c.person_id == ctx.caller.person_id if ctx.caller.person_id else sa.false(),
    )
    wanted = api_keys.c.workspace_id == ctx.workspace_id
    if mine_only:
        wanted = sa.and_(wanted, mine)

    def read(conn: Connection) -> tuple[list[dict[str, Any]], int]:
        query = sa.select(*_shown()).where(wanted)
        query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id).limit(limit).offset(offset)
        total = conn.scalar(sa.select(sa.func.count()).select_from(api_keys).where(wanted))
        return [plain(row) for row in conn.execute(query).mappings()], int(total or 0)

    rows, total = await ctx.app.db.read(read)
    for row in rows:
        row["last_used_at"] = ctx.app.key_uses.get(row["id"], row["last_used_at"])
    return rows, total


def _shown() -> list[sa.Column[Any]]:
    return [column for column in api_keys.c if column.name != "secret_hash"]


async def rotate(ctx: Context, key_id: str, duration_days: int | None) -> NewKey:
    """Give a key a new secret; the old one stops at once.

    Raises:
        Forbidden: the key may do more than the caller, who would gain it by this.
        NotFound: no such key in this workspace.
    """
    secret = new_api_key()

    def write(conn: Connection) -> tuple[dict[str, Any], bytes]:
        row = _find(conn, ctx, key_id)
        permissions.check_grant(ctx.caller.role, ctx.caller.permissions, row["role"], row["permissions"])
        change = {"updated_at": ctx.now, "expires_at": _expiry(ctx.now, duration_days)}
        conn.execute(
            sa.update(api_keys)
            .where(api_keys.c.id == row["id"])
            .values(secret_hash=hash_api_key(secret), **change)
        )
        return {**row, **change}, row["secret_hash"]

    row, old = await ctx.app.db.write(write)
    ctx.app.keys.drop(old)
    return NewKey(secret, row)


async def revoke(ctx: Context, key_id: str) -> None:
    """Delete a key; it stops at once.

    Raises:
        Forbidden: the key's role outranks the caller's.
        NotFound: no such key in this workspace.
    """

    def write(conn: Connection) -> bytes:
        row = _find(conn, ctx, key_id)
        if permissions.ROLES.index(row["role"]) > permissions.ROLES.index(ctx.caller.role):
            raise Forbidden(f"Insufficient permissions: this key has role {row['role']}.")
        conn.execute(sa.delete(api_keys).where(api_keys.c.id == row["id"]))
        return bytes(row["secret_hash"])

    ctx.app.keys.drop(await ctx.app.db.write(write))


def delete_beyond(conn: Connection, workspace_id: str, person_id: str, role: str | None) -> list[bytes]:
    """Delete a person's keys that hold more than `role` gives, all of them for None; return their hashes."""
    own = sa.and_(api_keys.c.workspace_id == workspace_id, api_keys.c.person_id == person_id)
    rows = conn.execute(sa.select(api_keys).where(own)).all()
    beyond = [row for row in rows if role is None or not _fits(row, role)]
    conn.execute(sa.delete(api_keys).where(api_keys.c.id.in_([row.id for row in beyond])))
    return [bytes(row.secret_hash) for row in beyond]


def _fits(row: Any, role: str) -> bool:
    try:
        permissions.check_grant(role, permissions.effective(role, []), row.role, row.permissions)
    except Forbidden:
        return False
    return True


def forget(app: App, hashes: list[bytes]) -> None:
    """Drop keys from memory, so that they stop at once."""
    for digest in hashes:
        app.keys.drop(digest)


def _find(conn: Connection, ctx: Context, key_id: str) -> dict[str, Any]:
    """Look a key up by its `ak_…` id or its UUID: the contract names both `key_id` and `id`."""
    found = conn.execute(
        sa.select(api_keys).where(
            api_keys.c.workspace_id == ctx.workspace_id,
            sa.or_(api_keys.c.key_id == key_id, api_keys.c.id == key_id),
        )
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("API key not found")
    return plain(row)


def changed_at(conn: Connection, credential_id: str) -> datetime | None:
    """Tell when a key was changed last, None once it is revoked: for what goes on longer than a request."""
    return conn.scalar(sa.select(api_keys.c.updated_at).where(api_keys.c.id == credential_id))


async def flush_uses_due(app: App) -> int:
    """Write down when keys were last used; return how many. Batched: a use must not cost a write."""
    uses, app.key_uses = app.key_uses, {}
    if not uses:
        return 0
    change = (
        sa.update(api_keys)
        .where(api_keys.c.id == sa.bindparam("key"))
        .values(last_used_at=sa.bindparam("used"))
    )
    rows = [{"key": key, "used": used} for key, used in uses.items()]
    await app.db.write(lambda conn: conn.execute(change, rows).rowcount)
    return len(rows)


def find_holder(conn: Connection, token: str, now: datetime) -> str | None:
    """Return the workspace a still valid key belongs to; used when the hub starts with a ready file."""
    if not is_api_key(token):
        return None
    row = conn.execute(
        sa.select(api_keys.c.workspace_id, api_keys.c.expires_at).where(
            api_keys.c.secret_hash == hash_api_key(token)
        )
    ).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return str(row.workspace_id)


def effective_permissions(caller: Caller) -> list[str]:
    """List what a caller may do, in canonical spelling."""
    return [name for name in permissions.KNOWN if permissions.allows(caller.permissions, name)]


async def create_workspace(app: App, name: str) -> dict[str, Any]:
    """Make a workspace with an owner's key that never ends; the key's text is in the result, this once."""
    now = app.clock.now()

    def write(conn: Connection) -> dict[str, Any]:
        workspace_id = workspaces.insert_workspace(conn, name, now)
        key = _insert_owner_key(conn, workspace_id, "owner", now)
        return {"id": workspace_id, "name": name, "created_at": now, "api_key": key.api_key}

    return await app.db.write(write)


async def create_owner_key(app: App, workspace_id: str) -> str:
    """Make another owner's key for the operator of this machine, who has the database anyway."""
    now = app.clock.now()
    key = await app.db.write(lambda conn: _insert_owner_key(conn, workspace_id, "operator", now))
    return key.api_key


def _insert_owner_key(conn: Connection, workspace_id: str, name: str, now: datetime) -> NewKey:
    return insert_key(
        conn, workspace_id=workspace_id, name=name, role="owner", explicit=[], expires_at=None, now=now
    )
