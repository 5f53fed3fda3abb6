"""Every table, as SQLAlchemy Core sees it. Migrations make them; the owning module reads and writes them.

Ids are canonical UUID text, times are UTC, JSON columns hold plain values.
"""

from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Time(TypeDecorator[datetime]):
    """A UTC time as integer microseconds since 1970: exact, sortable, the same on both databases."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value.timestamp() * 1_000_000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value / 1_000_000, UTC)


class Json(TypeDecorator[Any]):
    """A JSON value as text, written and read by orjson."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def plain(row: sa.RowMapping) -> dict[str, Any]:
    """Return a row under plain names: SQLAlchemy's own are of a kind that orjson does not write."""
    return {str(name): value for name, value in row.items()}


_ID = sa.String(36)


def _workspace(**options: Any) -> sa.Column[str]:
    return sa.Column("workspace_id", _ID, sa.ForeignKey("workspaces.id"), nullable=False, **options)


workspaces = sa.Table(
    "workspaces",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("created_at", Time, nullable=False),
)

people = sa.Table(
    "people",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("email", sa.String(320), nullable=False, unique=True),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("created_at", Time, nullable=False),
)

memberships = sa.Table(
    "memberships",
    metadata,
    _workspace(primary_key=True),
    sa.Column("person_id", _ID, sa.ForeignKey("people.id"), primary_key=True),
    sa.Column("role", sa.String(64), nullable=False),
    sa.Column("created_at", Time, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("key_id", sa.String(32), nullable=False, unique=True),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("name", sa.String(256)),
    sa.Column("role", sa.String(64), nullable=False),
    sa.Column("permissions", Json, nullable=False),
    sa.Column("person_id", _ID, sa.ForeignKey("people.id")),
    sa.Column("created_by_credential_id", _ID),
    sa.Column("created_by_entity_id", _ID),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Column("expires_at", Time),
    sa.Column("last_used_at", Time),
    sa.Index("ix_api_keys_workspace_id_created_at", "workspace_id", "created_at"),
)

data_keys = sa.Table(
    "data_keys",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("master_key_id", sa.String(32), nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("retired_at", Time),
    sa.Index("ix_data_keys_workspace_id", "workspace_id"),
)

secrets = sa.Table(
    "secrets",
    metadata,
    _workspace(primary_key=True),
    sa.Column("owner_id", _ID, primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("data_key_id", _ID, sa.ForeignKey("data_keys.id"), nullable=False, index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

integrations = sa.Table(
    "integrations",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("display_name", sa.String(256), nullable=False),
    sa.Column("connector", sa.String(64)),
    sa.Column("protocol", sa.String(16), nullable=False),
    sa.Column("base_url", sa.String(2048), nullable=False),
    sa.Column("config", Json, nullable=False),
    sa.Column("auth", Json),
    sa.Column("endpoints", Json, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("builtin", sa.Boolean, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Column("last_tested_at", Time),
    sa.Column("last_test_status", sa.String(32)),
    sa.Column("search_text", sa.Text, nullable=False),  # case-folded names: the same search on both databases
    sa.UniqueConstraint("workspace_id", "name"),
    sa.Index("ix_integrations_workspace_id_created_at_id", "workspace_id", "created_at", "id"),
)
