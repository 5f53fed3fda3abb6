"""Datasets, their versions and records, runs and uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.String(36)
_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("integrations", sa.Column("aside", sa.Text))
    _create_datasets()
    _create_versions()
    _create_records()
    _create_index()
    _create_runs()
    _create_uploads()


def _create_datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("number", _POSITION, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("integration_id", _ID),
        sa.Column("stream", sa.String(64)),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("active_version", sa.Integer),
        sa.Column("newest_version", sa.Integer, nullable=False),
        sa.Column("cursor", sa.Text),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("schedule", sa.Text),
        sa.Column("next_run_at", sa.BigInteger),
        sa.Column("run_id", _ID),
        sa.Column("last_synced_at", sa.BigInteger),
        sa.Column("last_status", sa.String(16)),
        sa.Column("last_error", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_datasets"),
        sa.UniqueConstraint("id", name="uq_datasets_id"),
        sa.UniqueConstraint("workspace_id", "name", name="uq_datasets_workspace_id_name"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_datasets_workspace_id_workspaces"
        ),
    )
    op.create_index("ix_datasets_integration_id", "datasets", ["integration_id"])
    op.create_index("ix_datasets_next_run_at", "datasets", ["next_run_at"])
    op.create_index(
        "ix_datasets_workspace_id_created_at_id", "datasets", ["workspace_id", "created_at", "id"]
    )


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("dataset", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("base", sa.Integer),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("is_ready", sa.Boolean, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("run_id", _ID),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
        sa.Column("removed", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("quarantined", sa.Integer, nullable=False),
        sa.Column("fields", sa.Text),
        sa.Column("cursor", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("notes", sa.Text),
        sa.Column("made_by", sa.String(256)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("activated_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("dataset", "number", name="pk_versions"),
        sa.UniqueConstraint("id", name="uq_versions_id"),
        sa.ForeignKeyConstraint(["dataset"], ["datasets.number"], name="fk_versions_dataset_datasets"),
    )
    seen = sa.text("status IN ('ingesting', 'waiting', 'active')")
    op.create_index(
        "ix_versions_seen", "versions", ["dataset", "number"], sqlite_where=seen, postgresql_where=seen
    )


def _create_records() -> None:
    op.create_table(
        "records",
        sa.Column("position", _POSITION, nullable=False),
        sa.Column("dataset", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("valid_from", sa.Integer, nullable=False),
        sa.Column("valid_to", sa.Integer),
        sa.Column("hash", sa.LargeBinary(16), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_records"),
        sa.UniqueConstraint("dataset", "key", "valid_from", name="uq_records_dataset_key_valid_from"),
        sqlite_autoincrement=True,
    )
    place = ["dataset", "valid_from", "position"]
    op.create_index("ix_records_dataset_valid_from_position", "records", place)
    waiting = sa.text("valid_to IS NOT NULL")
    op.create_index(
        "ix_records_ended", "records", ["dataset", "valid_to"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "quarantine",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("dataset", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("replayed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_dataset_created_at_id", "quarantine", ["dataset", "created_at", "id"])


def _create_index() -> None:
    op.create_table(
        "index_places",
        sa.Column("dataset", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("is_filled", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("dataset", "version", name="pk_index_places"),
    )
    unfilled = sa.text("NOT is_filled")
    op.create_index(
        "ix_index_places_unfilled",
        "index_places",
        ["dataset"],
        sqlite_where=unfilled,
        postgresql_where=unfilled,
    )
    op.create_table(
        "record_vectors",
        sa.Column("dataset", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("dataset", "position", name="pk_record_vectors"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE record_words USING fts5(words, content='', tokenize='ascii')")
        for name, value in (("automerge", 0), ("usermerge", 8), ("crisismerge", 400), ("hashsize", 4194304)):
            op.execute(f"INSERT INTO record_words (record_words, rank) VALUES ('{name}', {value})")  # noqa: S608
        return
    op.execute(
        "CREATE TABLE record_words "
        "(position BIGINT CONSTRAINT pk_record_words PRIMARY KEY, words TSVECTOR NOT NULL)"
    )
    op.execute("CREATE INDEX ix_record_words_words ON record_words USING gin (words)")


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("dataset", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("place", sa.Text),
        sa.Column("fetched", sa.Integer, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("made_by", sa.String(256)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_dataset_created_at_id", "runs", ["dataset", "created_at", "id"])
    waiting = sa.text("state IN ('queued', 'running')")
    op.create_index("ix_runs_unfinished", "runs", ["due_at"], sqlite_where=waiting, postgresql_where=waiting)


def _create_uploads() -> None:
    op.create_table(
        "run_events",
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_run_events"),
    )
    op.create_table(
        "run_keys",
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_run_keys"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("dataset", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("mapping", sa.Text),
        sa.Column("report", sa.Text),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("run_id", _ID),
        sa.Column("made_by", sa.String(256)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_uploads_workspace_id_workspaces"
        ),
    )
    op.create_index("ix_uploads_run_id", "uploads", ["run_id"])
