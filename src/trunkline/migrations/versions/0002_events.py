"""Hooks and their inbox, the event log, routes, destinations and deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.String(36)
_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _create_inbox()
    _create_log()
    _create_routes()
    _create_deliveries()
    _create_attempts()


def _create_inbox() -> None:
    op.create_table(
        "hooks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("integration_id", _ID, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_hooks"),
        sa.UniqueConstraint("token_hash", name="uq_hooks_token_hash"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="fk_hooks_workspace_id_workspaces"),
    )
    op.create_index("ix_hooks_integration_id", "hooks", ["integration_id"])
    op.create_table(
        "inbox",
        sa.Column("position", _POSITION, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("integration_id", _ID, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("read_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("position", name="pk_inbox"),
        sa.UniqueConstraint("id", name="uq_inbox_id"),
    )
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"])
    waiting = sa.text("read_at IS NULL")
    op.create_index(
        "ix_inbox_waiting",
        "inbox",
        ["integration_id", "position"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )


def _create_log() -> None:
    op.create_table(
        "event_logs",
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name="pk_event_logs"),
    )
    op.create_table(
        "event_readers",
        sa.Column("reader", sa.String(32), nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("reader", "workspace_id", name="pk_event_readers"),
    )
    op.create_table(
        "events",
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("sequence", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("type", sa.String(256), nullable=False),
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.String(512)),
        sa.Column("title", sa.Text),
        sa.Column("project", sa.String(256)),
        sa.Column("severity", sa.String(16)),
        sa.Column("dedup_key", sa.String(512)),
        sa.Column("action", sa.String(16)),
        sa.Column("url", sa.Text),
        sa.Column("integration_id", _ID),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("inbox_id", _ID),
        sa.Column("replay_of", _ID),
        sa.PrimaryKeyConstraint("workspace_id", "sequence", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_received_at", "events", ["received_at"])
    op.create_index("ix_events_workspace_id_type_sequence", "events", ["workspace_id", "type", "sequence"])


def _create_routes() -> None:
    op.create_table(
        "routes",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("event_type", sa.String(256), nullable=False),
        sa.Column("project_id", sa.String(256)),
        sa.Column("conditions", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("destination_id", sa.String(64), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("after_sequence", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_routes"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_routes_workspace_id_workspaces"
        ),
    )
    op.create_index("ix_routes_destination_id", "routes", ["destination_id"])
    op.create_index("ix_routes_workspace_id_created_at_id", "routes", ["workspace_id", "created_at", "id"])
    op.create_table(
        "destinations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("integration_id", _ID),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("next_turn_at", sa.BigInteger),
        sa.Column("open_at", sa.BigInteger),
        sa.Column("seconds_between", sa.Float, nullable=False),
        sa.Column("pace_id", sa.String(64)),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("disabled_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_destinations"),
    )
    op.create_index("ix_destinations_next_turn_at", "destinations", ["next_turn_at"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("event_sequence", sa.BigInteger, nullable=False),
        sa.Column("route_id", _ID, nullable=False),
        sa.Column("destination_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("route_id", "event_id", name="uq_deliveries_route_id_event_id"),
    )
    waiting = sa.text("state = 'pending'")
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["destination_id", "due_at", "id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    waiting = sa.text("state = 'sending'")
    op.create_index(
        "ix_deliveries_sending",
        "deliveries",
        ["claimed_until"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    failed = sa.text("state = 'failed'")
    op.create_index(
        "ix_deliveries_failed",
        "deliveries",
        ["workspace_id", "created_at", "id"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"])
    op.create_index(
        "ix_deliveries_workspace_id_created_at_id", "deliveries", ["workspace_id", "created_at", "id"]
    )


def _create_attempts() -> None:
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.Float),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("trace", sa.Text),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_delivery_attempts"),
    )
