"""Workspaces, and who has which role in them. The people themselves are `people.py`'s."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Invalid
from trunkline.ids import new_id
from trunkline.tables import memberships, plain, workspaces


def insert_workspace(conn: Connection, name: str, now: datetime) -> str:
    """Add a workspace and return its id."""
    workspace_id = new_id()
    conn.execute(sa.insert(workspaces).values(id=workspace_id, name=name, created_at=now))
    return workspace_id


def first_workspace(conn: Connection) -> str | None:
    """Return the id of the oldest workspace."""
    return conn.scalar(sa.select(workspaces.c.id).order_by(workspaces.c.created_at, workspaces.c.id).limit(1))


async def get(ctx: Context) -> dict[str, Any]:
    """Describe the caller's workspace."""

    def read(conn: Connection) -> dict[str, Any]:
        query = sa.select(workspaces).where(workspaces.c.id == ctx.workspace_id)
        return plain(conn.execute(query).mappings().one())

    return await ctx.app.db.read(read)


async def name_of(app: App, workspace_id: str) -> str:
    """Return a workspace's name."""
    query = sa.select(workspaces.c.name).where(workspaces.c.id == workspace_id)
    return await app.db.read(lambda conn: str(conn.scalar(query)))


async def find_named(app: App, wanted: str) -> str | None:
    """Return the id of the workspace of this id, or of this name when only one has it, in whatever case."""
    if "\0" in wanted:  # one of our databases cannot even compare with it
        return None
    by_id = sa.select(workspaces.c.id).where(workspaces.c.id == wanted.lower())
    same = sa.func.lower(workspaces.c.name) == sa.func.lower(sa.bindparam("name", wanted))
    by_name = sa.select(workspaces.c.id).where(same).limit(2)

    def read(conn: Connection) -> str | None:
        found = conn.scalars(by_id).all() or conn.scalars(by_name).all()
        return found[0] if len(found) == 1 else None

    return await app.db.read(read)


async def rename(ctx: Context, name: str) -> dict[str, Any]:
    """Change the name of the caller's workspace."""
    change = sa.update(workspaces).where(workspaces.c.id == ctx.workspace_id).values(name=name)
    await ctx.app.db.write(lambda conn: conn.execute(change).rowcount)
    return await get(ctx)


def role_of(conn: Connection, workspace_id: str, person_id: str) -> str | None:
    """Return a person's role in a workspace, or None."""
    return conn.scalar(
        sa.select(memberships.c.role).where(
            memberships.c.workspace_id == workspace_id, memberships.c.person_id == person_id
        )
    )


def check_person(conn: Connection, workspace_id: str, person_id: str) -> str:
    """Return the role of a person a key is made for.

    Raises:
        Invalid: nobody of that id is in the workspace.
    """
    role = role_of(conn, workspace_id, person_id)
    if role is None:
        raise Invalid.field(("body", "person_id"), "nobody of this id is in the workspace")
    return role
