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


# SQLite counts up only a column of exactly this type.
_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


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

hooks = sa.Table(
    "hooks",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("integration_id", _ID, nullable=False, index=True),
    sa.Column("token_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time),  # set when a newer one took its place
)

inbox = sa.Table(  # requests accepted by hooks, as they came
    "inbox",
    metadata,
    sa.Column("position", _POSITION, primary_key=True),
    sa.Column("id", _ID, nullable=False, unique=True),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("integration_id", _ID, nullable=False),
    sa.Column("headers", Json, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("received_at", Time, nullable=False),
    sa.Column("read_at", Time),
)
sa.Index(
    "ix_inbox_waiting",
    inbox.c.integration_id,
    inbox.c.position,
    sqlite_where=inbox.c.read_at.is_(None),
    postgresql_where=inbox.c.read_at.is_(None),
)
sa.Index("ix_inbox_received_at", inbox.c.received_at)

event_logs = sa.Table(
    "event_logs",
    metadata,
    sa.Column("workspace_id", _ID, primary_key=True),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
)

event_readers = sa.Table(  # how far a part of Trunkline has read a workspace's log
    "event_readers",
    metadata,
    sa.Column("reader", sa.String(32), primary_key=True),
    sa.Column("workspace_id", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("workspace_id", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", _ID, nullable=False, unique=True),
    sa.Column("type", sa.String(256), nullable=False),
    sa.Column("source", sa.String(512), nullable=False),
    sa.Column("time", Time, nullable=False),
    sa.Column("received_at", Time, nullable=False),
    sa.Column("subject", sa.String(512)),
    sa.Column("title", sa.Text),
    sa.Column("project", sa.String(256)),
    sa.Column("severity", sa.String(16)),
    sa.Column("dedup_key", sa.String(512)),
    sa.Column("action", sa.String(16)),
    sa.Column("url", sa.Text),
    sa.Column("integration_id", _ID),
    sa.Column("data", Json, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("inbox_id", _ID),  # the request it was read from
    sa.Column("replay_of", _ID),
    sa.Index("ix_events_workspace_id_type_sequence", "workspace_id", "type", "sequence"),
    sa.Index("ix_events_received_at", "received_at"),
)

routes = sa.Table(
    "routes",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("event_type", sa.String(256), nullable=False),
    sa.Column("project_id", sa.String(256)),
    sa.Column("conditions", Json, nullable=False),
    sa.Column("target", Json, nullable=False),
    sa.Column("destination_id", sa.String(64), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("after_sequence", sa.BigInteger, nullable=False, default=0),  # events up to here are not for it
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Index("ix_routes_workspace_id_created_at_id", "workspace_id", "created_at", "id"),
    sa.Index("ix_routes_destination_id", "destination_id"),
)

destinations = sa.Table(  # where deliveries go: fair turns, rate limits and circuits are per row
    "destinations",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of the workspace and the target, in hex
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("integration_id", _ID),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("next_turn_at", Time, index=True),  # null: nothing waits
    sa.Column("open_at", Time),  # nothing is sent before: a rate limit or an open circuit
    sa.Column("seconds_between", sa.Float, nullable=False),  # two messages
    sa.Column("pace_id", sa.String(64)),  # the row that counts for all destinations of one integration
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("failing_since", Time),
    sa.Column("disabled_at", Time),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("event_id", _ID, nullable=False),
    sa.Column("event_sequence", sa.BigInteger, nullable=False),
    sa.Column("route_id", _ID, nullable=False),
    sa.Column("destination_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # pending, sending, delivered, failed, cancelled
    sa.Column("due_at", Time, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),  # of these attempts, since it was queued
    sa.Column("queued_at", Time, nullable=False),  # planned, or sent again by somebody
    sa.Column("claimed_until", Time),
    sa.Column("claimed_by", sa.String(64)),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("finished_at", Time),
    sa.UniqueConstraint("route_id", "event_id"),
    sa.Index("ix_deliveries_event_id", "event_id"),
    sa.Index("ix_deliveries_workspace_id_created_at_id", "workspace_id", "created_at", "id"),
)
_FAILED = deliveries.c.state == sa.literal_column("'failed'")
_PENDING = deliveries.c.state == sa.literal_column("'pending'")
_SENDING = deliveries.c.state == sa.literal_column("'sending'")
sa.Index(
    "ix_deliveries_pending",
    deliveries.c.destination_id,
    deliveries.c.due_at,
    deliveries.c.id,
    sqlite_where=_PENDING,
    postgresql_where=_PENDING,
)
sa.Index(
    "ix_deliveries_sending", deliveries.c.claimed_until, sqlite_where=_SENDING, postgresql_where=_SENDING
)
sa.Index(
    "ix_deliveries_failed",
    deliveries.c.workspace_id,
    deliveries.c.created_at,
    deliveries.c.id,
    sqlite_where=_FAILED,
    postgresql_where=_FAILED,
)

delivery_attempts = sa.Table(
    "delivery_attempts",
    metadata,
    sa.Column("delivery_id", _ID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("duration_ms", sa.Float),
    sa.Column("status", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("trace", Json),
)
