"""Workspaces, people, API keys, sealed secrets and integrations.

A revision is history: it spells its tables out and imports nothing that may change later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(36)


def upgrade() -> None:
    _create_people()
    _create_api_keys()
    _create_vault()
    _create_integrations()


def _create_people() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
    )
    op.create_table(
        "people",
        sa.Column("id", _ID, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("email", name="uq_people_email"),
    )
    op.create_table(
        "memberships",
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "person_id", name="pk_memberships"),
        _of_workspace("memberships"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_memberships_person_id_people"),
    )


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.String(256)),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("permissions", sa.Text, nullable=False),
        sa.Column("person_id", _ID),
        sa.Column("created_by_credential_id", _ID),
        sa.Column("created_by_entity_id", _ID),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_id", name="uq_api_keys_key_id"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
        _of_workspace("api_keys"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_api_keys_person_id_people"),
    )
    op.create_index("ix_api_keys_workspace_id_created_at", "api_keys", ["workspace_id", "created_at"])


def _create_vault() -> None:
    op.create_table(
        "data_keys",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("master_key_id", sa.String(32), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("retired_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
        _of_workspace("data_keys"),
    )
    op.create_index("ix_data_keys_workspace_id", "data_keys", ["workspace_id"])
    op.create_table(
        "secrets",
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("data_key_id", _ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "owner_id", "name", name="pk_secrets"),
        _of_workspace("secrets"),
        sa.ForeignKeyConstraint(["data_key_id"], ["data_keys.id"], name="fk_secrets_data_key_id_data_keys"),
    )
    op.create_index("ix_secrets_data_key_id", "secrets", ["data_key_id"])


def _create_integrations() -> None:
    op.create_table(
        "integrations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("display_name", sa.String(256), nullable=False),
        sa.Column("connector", sa.String(64)),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("base_url", sa.String(2048), nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("auth", sa.Text),
        sa.Column("endpoints", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("builtin", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("last_tested_at", sa.BigInteger),
        sa.Column("last_test_status", sa.String(32)),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_integrations"),
        sa.UniqueConstraint("workspace_id", "name", name="uq_integrations_workspace_id_name"),
        _of_workspace("integrations"),
    )
    op.create_index(
        "ix_integrations_workspace_id_created_at_id", "integrations", ["workspace_id", "created_at", "id"]
    )


def _of_workspace(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["workspace_id"], ["workspaces.id"], name=f"fk_{table}_workspace_id_workspaces"
    )
