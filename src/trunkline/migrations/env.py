"""Run by Alembic: applies revisions on the connection, and in the transaction, it was handed."""

from alembic import context

from trunkline.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by rebuilding it
)
with context.begin_transaction():
    context.run_migrations()
