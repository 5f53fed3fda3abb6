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
    sa.Column("aside", Json),  # what a wire format keeps of it that no connector knows
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

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("number", _POSITION, primary_key=True),  # what records name it by: short, as there are millions
    sa.Column("id", _ID, nullable=False, unique=True),
    _workspace(),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("integration_id", _ID),  # null: filled by uploads alone
    sa.Column("stream", sa.String(64)),
    sa.Column("params", Json, nullable=False),  # of the stream, beyond what the connector says
    sa.Column("active_version", sa.Integer),
    sa.Column("newest_version", sa.Integer, nullable=False),
    sa.Column("cursor", Json),  # where the next incremental run begins; of the active version
    sa.Column("gate", Json, nullable=False),
    sa.Column("schedule", Json),
    sa.Column("next_run_at", Time, index=True),
    sa.Column("run_id", _ID),  # the run under way: one at a time
    sa.Column("last_synced_at", Time),
    sa.Column("last_status", sa.String(16)),
    sa.Column("last_error", sa.Text),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.UniqueConstraint("workspace_id", "name"),
    sa.Index("ix_datasets_workspace_id_created_at_id", "workspace_id", "created_at", "id"),
    sa.Index("ix_datasets_integration_id", "integration_id"),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column(
        "dataset", sa.BigInteger, sa.ForeignKey("datasets.number"), primary_key=True, autoincrement=False
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", _ID, nullable=False, unique=True),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("base", sa.Integer),
    sa.Column(
        "status", sa.String(16), nullable=False
    ),  # ingesting, waiting, active, inactive, failed, archived
    sa.Column("is_ready", sa.Boolean, nullable=False),  # its open rows continue its base: pages may come
    sa.Column("source", sa.String(64), nullable=False),  # a connector's id, upload, edit
    sa.Column("run_id", _ID),
    sa.Column("added", sa.Integer, nullable=False),
    sa.Column("changed", sa.Integer, nullable=False),
    sa.Column("removed", sa.Integer, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("quarantined", sa.Integer, nullable=False),
    sa.Column("fields", Json),  # of each field: its types, how often it is null
    sa.Column("cursor", Json),
    sa.Column("reason", sa.Text),  # why it waits or failed
    sa.Column("notes", sa.Text),
    sa.Column("made_by", sa.String(256)),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("finished_at", Time),
    sa.Column("activated_at", Time),
)

_SEEN = versions.c.status.in_(
    [sa.literal_column(f"'{status}'") for status in ("ingesting", "waiting", "active")]
)
sa.Index(
    "ix_versions_seen", versions.c.dataset, versions.c.number, sqlite_where=_SEEN, postgresql_where=_SEEN
)

records = sa.Table(  # each row is a record as it was from one version on, until another
    "records",
    metadata,
    sa.Column("position", _POSITION, primary_key=True),
    sa.Column("dataset", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(512), nullable=False),
    sa.Column("valid_from", sa.Integer, nullable=False),
    sa.Column("valid_to", sa.Integer),
    sa.Column("hash", sa.LargeBinary(16), nullable=False),
    sa.Column("data", sa.Text, nullable=False),  # JSON as it came, shaped
    sa.UniqueConstraint("dataset", "key", "valid_from"),
    sa.Index("ix_records_dataset_valid_from_position", "dataset", "valid_from", "position"),
    sqlite_autoincrement=True,  # what is found by a position must never be another row's
)
sa.Index(
    "ix_records_ended",
    records.c.dataset,
    records.c.valid_to,
    sqlite_where=records.c.valid_to.is_not(None),
    postgresql_where=records.c.valid_to.is_not(None),
)

index_places = sa.Table(  # how far the rows of each version are in the search index
    "index_places",
    metadata,
    sa.Column("dataset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),  # up to here
    sa.Column("turn", sa.Integer, nullable=False),  # moves with every change of rows that are in it
    sa.Column(
        "is_filled", sa.Boolean, nullable=False
    ),  # false: there may be more, whatever the version's status
)
_UNFILLED = sa.not_(index_places.c.is_filled)
sa.Index(
    "ix_index_places_unfilled",
    index_places.c.dataset,
    sqlite_where=_UNFILLED,
    postgresql_where=_UNFILLED,
)

RECORD_WORDS = {  # the search index, which is no table like others
    "sqlite": (
        "CREATE VIRTUAL TABLE record_words USING fts5(words, content='', tokenize='ascii')",
        # Segments are merged in small steps by services/index.py; a merge of its own would hold up all writers.
        "INSERT INTO record_words (record_words, rank) VALUES ('automerge', 0)",
        "INSERT INTO record_words (record_words, rank) VALUES ('usermerge', 8)",
        "INSERT INTO record_words (record_words, rank) VALUES ('crisismerge', 400)",
        "INSERT INTO record_words (record_words, rank) VALUES ('hashsize', 4194304)",
    ),
    "postgresql": (
        "CREATE TABLE record_words (position BIGINT CONSTRAINT pk_record_words PRIMARY KEY, words TSVECTOR NOT NULL)",
        "CREATE INDEX ix_record_words_words ON record_words USING gin (words)",
    ),
}

record_vectors = sa.Table(  # what records mean, for searching by it
    "record_vectors",
    metadata,
    sa.Column("dataset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),  # a byte a number
    sqlite_with_rowid=False,  # those of a dataset stand together
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("dataset", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("replayed_at", Time),
    sa.Index("ix_quarantine_dataset_created_at_id", "dataset", "created_at", "id"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("workspace_id", _ID, nullable=False),
    sa.Column("dataset", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("mode", sa.String(16), nullable=False),  # full, incremental, upload
    sa.Column(
        "state", sa.String(16), nullable=False
    ),  # queued, running, succeeded, failed, cancelled, waiting
    sa.Column("due_at", Time, nullable=False),
    sa.Column("claimed_by", sa.String(64)),
    sa.Column("claimed_until", Time),
    sa.Column("cancel_asked", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("place", Json),  # where the next page begins: what resuming needs
    sa.Column("fetched", sa.Integer, nullable=False),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("last_event", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("made_by", sa.String(256)),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("started_at", Time),
    sa.Column("finished_at", Time),
    sa.Index("ix_runs_dataset_created_at_id", "dataset", "created_at", "id"),
)
_UNFINISHED = runs.c.state.in_([sa.literal_column("'queued'"), sa.literal_column("'running'")])
sa.Index("ix_runs_unfinished", runs.c.due_at, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED)

run_events = sa.Table(  # progress, complete, error: what watchers of a run are told
    "run_events",
    metadata,
    sa.Column("run_id", _ID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.Column("at", Time, nullable=False),
)

run_keys = sa.Table(  # which keys a full run has seen, page by page, so that it knows which are gone
    "run_keys",
    metadata,
    sa.Column("run_id", _ID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # of the event that told of it
    sa.Column("hashes", sa.LargeBinary, nullable=False),  # of its keys, 8 bytes each
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    _workspace(),
    sa.Column("dataset", sa.BigInteger),
    sa.Column("status", sa.String(16), nullable=False),  # uploaded, validated, has_errors, ingested
    sa.Column("files", Json, nullable=False),
    sa.Column("mapping", Json),
    sa.Column("report", Json),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("run_id", _ID, index=True),  # what took it in
    sa.Column("made_by", sa.String(256)),
    sa.Column("created_at", Time, nullable=False),
)
