"""Alembic revisions: what makes and changes the tables. Applied by `trunkline.db.schema`."""
