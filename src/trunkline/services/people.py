"""People: added to a workspace, given a role, taken out; their keys never outlive or outrank them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import Context
from trunkline.errors import Conflict, Forbidden, Invalid, NotFound
from trunkline.ids import new_id
from trunkline.services import api_keys, permissions
from trunkline.services.workspaces import role_of
from trunkline.tables import memberships, people, plain

_MAX_EMAIL = 320


def _select_people(workspace_id: str) -> sa.Select[Any]:
    return (
        sa.select(people, memberships.c.role)
        .join(memberships, memberships.c.person_id == people.c.id)
        .where(memberships.c.workspace_id == workspace_id)
    )


async def list_people(ctx: Context, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """List the workspace's people by e-mail address, and count them."""

    def read(conn: Connection) -> tuple[list[dict[str, Any]], int]:
        query = _select_people(ctx.workspace_id).order_by(people.c.email).limit(limit).offset(offset)
        rows = [plain(row) for row in conn.execute(query).mappings()]
        total = conn.scalar(sa.select(sa.func.count()).where(memberships.c.workspace_id == ctx.workspace_id))
        return rows, int(total or 0)

    return await ctx.app.db.read(read)


async def add_person(ctx: Context, email: str, name: str, role: str) -> dict[str, Any]:
    """Add a person to the workspace; somebody known by that address elsewhere stays one person.

    Raises:
        Forbidden: the role outranks the caller's, or may do what the caller may not.
        Conflict: the person is in the workspace already.
    """
    role = _grantable_role(ctx, role)
    address = email.strip().lower()
    if len(address) > _MAX_EMAIL:  # a few letters are longer in lower case
        raise Invalid.field(("body", "email"), f"has at most {_MAX_EMAIL} characters", "string_too_long")

    def write(conn: Connection) -> str:
        person_id = conn.scalar(sa.select(people.c.id).where(people.c.email == address))
        if person_id is None:
            person_id = new_id()
            row = {"id": person_id, "email": address, "name": name, "created_at": ctx.now}
            conn.execute(sa.insert(people).values(row))
        elif role_of(conn, ctx.workspace_id, person_id) is not None:
            raise Conflict("This person is in the workspace already.")
        conn.execute(
            sa.insert(memberships).values(
                workspace_id=ctx.workspace_id, person_id=person_id, role=role, created_at=ctx.now
            )
        )
        return str(person_id)

    return await get_person(ctx, await ctx.app.db.write(write))


async def get_person(ctx: Context, person_id: str) -> dict[str, Any]:
    """Describe one person of the workspace.

    Raises:
        NotFound: nobody of that id is in this workspace.
    """
    query = _select_people(ctx.workspace_id).where(people.c.id == person_id)
    row = await ctx.app.db.read(lambda conn: conn.execute(query).mappings().one_or_none())
    if row is None:
        raise NotFound("Person not found")
    return plain(row)


async def change_role(ctx: Context, person_id: str, role: str) -> dict[str, Any]:
    """Give a person another role, and revoke those of their keys that hold more than it.

    Raises:
        Forbidden: the person's present role, or the new one, outranks the caller's.
    """
    role = _grantable_role(ctx, role)

    def write(conn: Connection) -> list[bytes]:
        _check_outranked(ctx, role_of(conn, ctx.workspace_id, person_id))
        conn.execute(sa.update(memberships).where(_membership(ctx, person_id)).values(role=role))
        return api_keys.delete_beyond(conn, ctx.workspace_id, person_id, role)

    api_keys.forget(ctx.app, await ctx.app.db.write(write))
    return await get_person(ctx, person_id)


async def remove_person(ctx: Context, person_id: str) -> None:
    """Take a person out of the workspace, and revoke their keys to it."""

    def write(conn: Connection) -> list[bytes]:
        _check_outranked(ctx, role_of(conn, ctx.workspace_id, person_id))
        conn.execute(sa.delete(memberships).where(_membership(ctx, person_id)))
        return api_keys.delete_beyond(conn, ctx.workspace_id, person_id, None)

    api_keys.forget(ctx.app, await ctx.app.db.write(write))


def _membership(ctx: Context, person_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(memberships.c.workspace_id == ctx.workspace_id, memberships.c.person_id == person_id)


def _grantable_role(ctx: Context, role: str) -> str:
    name = permissions.check_role(role)
    permissions.check_grant(ctx.caller.role, ctx.caller.permissions, name, [])
    return name


def _check_outranked(ctx: Context, role: str | None) -> None:
    if role is None:
        raise NotFound("Person not found")
    if permissions.ROLES.index(role) > permissions.ROLES.index(ctx.caller.role):
        raise Forbidden(f"Insufficient permissions: this person has role {role}.")
