"""Apply the revisions of `trunkline.migrations` with Alembic. Imported only when a database is behind."""

import os

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from trunkline import migrations
from trunkline.errors import Unavailable


def upgrade(connection: sa.Connection) -> None:
    """Apply the missing revisions inside the caller's transaction.

    Raises:
        Unavailable: the database is at a revision this version does not know.
    """
    config = Config()
    config.set_main_option("script_location", os.path.dirname(migrations.__file__).replace("%", "%%"))  # noqa: PTH120 - Alembic wants text
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_heads()
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(current) - known)
    if unknown:
        raise Unavailable(
            f"The database was made by a newer Trunkline (revision {', '.join(unknown)}): "
            "install that version, or restore a backup made before the upgrade."
        )
    if current != (script.get_current_head(),):
        command.upgrade(config, "head")
