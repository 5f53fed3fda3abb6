"""Alembic revisions: what makes and changes the tables. Applied by `trunkline.db.schema`."""

NEWEST = "0003"
"""The last revision. A test holds it to the files in `versions`."""
