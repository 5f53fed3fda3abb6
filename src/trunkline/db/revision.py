"""Tell how far a database is migrated, without changing it: what `trunkline doctor` asks."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from trunkline import migrations
from trunkline.db import postgresql
from trunkline.db.faults import translate
from trunkline.errors import Unavailable
from trunkline.settings import Settings

_QUESTION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True)
class Revision:
    """The database's revision (None: no tables yet), the newest one known here, and whether `current` is known."""

    current: str | None
    newest: str
    known: bool


def revision(settings: Settings) -> Revision:
    """Look the database's revision up.

    Raises:
        Unavailable: the database cannot be read.
        Invalid: its address is none.
    """
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    known = {item.revision for item in script.walk_revisions()}
    current = _postgresql(settings.database_url) if settings.database_url else _sqlite(settings.sqlite_path)
    return Revision(current, script.get_current_head() or "", current is None or current in known)


def _sqlite(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            ).fetchone():
                return None
            row = connection.execute(_QUESTION).fetchone()
    except sqlite3.Error as error:
        raise Unavailable(f"The database {path} cannot be read: {error}") from None
    return None if row is None else str(row[0])


def _postgresql(address: str) -> str | None:
    url = postgresql.parse(address)
    engine = postgresql.engine(url)
    try:
        with engine.connect() as connection:
            found = connection.scalar(sa.text(_QUESTION))
    except OperationalError as error:
        raise postgresql.unreachable(url, error) from None
    except ProgrammingError:  # no such table: nothing was migrated yet
        return None
    except SQLAlchemyError as error:
        raise Unavailable(f"The database cannot be read: {translate(error)}") from None
    finally:
        engine.dispose()
    return None if found is None else str(found)
