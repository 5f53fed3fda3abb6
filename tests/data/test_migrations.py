"""Migrations make exactly the tables of tables.py, once, whoever starts first."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from trunkline import migrations
from trunkline.db import open_database, upgrade
from trunkline.errors import Unavailable
from trunkline.settings import Settings, environment_for_child
from trunkline.tables import RECORD_WORDS, metadata

_OPEN_AND_CLOSE = """
import asyncio
from trunkline.db import open_database
from trunkline.settings import Settings
async def main():
    input()
    await (await open_database(Settings.load())).close()
print("ready", flush=True)
asyncio.run(main())
"""


def engine_of(settings: Settings) -> sa.Engine:
    url = sa.make_url(settings.database_url or f"sqlite:///{settings.sqlite_path}")
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg") if settings.database_url else url, poolclass=sa.pool.NullPool
    )


def tables_of(settings: Settings) -> set[str]:
    return set(filter(is_plain, sa.inspect(engine_of(settings)).get_table_names()))


def is_plain(name: str | None, *_: object) -> bool:
    """Leave out the search index: on SQLite it is a module's, with tables of its own (tables.RECORD_WORDS)."""
    return not (name or "").startswith("record_words")


async def test_the_migrations_make_what_the_code_expects(database_settings: Settings) -> None:
    with engine_of(database_settings).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": is_plain}
        )
        assert compare_metadata(context, metadata) == []
    assert tables_of(database_settings) == {*metadata.tables, "alembic_version"}


async def test_the_search_index_is_what_the_code_would_make_anew(database_settings: Settings) -> None:
    with engine_of(database_settings).connect() as connection:
        of_migrations = _index_as_made(connection)
        connection.exec_driver_sql("DROP TABLE record_words")
        for statement in RECORD_WORDS[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        assert _index_as_made(connection) == of_migrations


def _index_as_made(connection: sa.Connection) -> list[object]:
    if connection.dialect.name == "sqlite":
        sql = "SELECT sql FROM sqlite_master WHERE name = 'record_words' UNION SELECT k || v FROM record_words_config"
    else:
        sql = (
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'record_words' UNION SELECT column_name || data_type "
            "FROM information_schema.columns WHERE table_name = 'record_words'"
        )
    return sorted(connection.scalars(sa.text(sql)))


async def test_names_of_constraints_agree_too(database_settings: Settings) -> None:
    inspector = sa.inspect(engine_of(database_settings))
    for table in metadata.sorted_tables:
        is_counted = engine_of(database_settings).dialect.name == "sqlite" and table.name == "records"
        wanted = None if is_counted else table.primary_key.name  # SQLite counts up only a key without a name
        assert inspector.get_pk_constraint(table.name)["name"] == wanted
        found = {key["name"] for key in inspector.get_foreign_keys(table.name)}
        assert found == {key.name for key in table.foreign_key_constraints}


async def test_opening_again_changes_nothing(blank_settings: Settings) -> None:
    for _ in range(2):
        await (await open_database(blank_settings)).close()
    with engine_of(blank_settings).connect() as connection:
        assert len(connection.execute(sa.text("SELECT * FROM alembic_version")).all()) == 1


async def test_two_processes_that_start_together_both_succeed(blank_settings: Settings) -> None:
    environment = environment_for_child(
        data_dir=str(blank_settings.data_dir), database_url=blank_settings.database_url
    )
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            _OPEN_AND_CLOSE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        assert await child.stdout.readline() == b"ready\n"
    await asyncio.gather(*[child.communicate(b"\n") for child in children])
    assert [child.returncode for child in children] == [0, 0]
    assert set(metadata.tables) <= tables_of(blank_settings)


async def test_a_database_from_a_newer_version_is_refused(blank_settings: Settings) -> None:
    await (await open_database(blank_settings)).close()
    with engine_of(blank_settings).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'from_tomorrow'"))
    with pytest.raises(Unavailable, match=r"newer Trunkline \(revision from_tomorrow\)"):
        await open_database(blank_settings)


async def test_a_migration_that_fails_leaves_nothing_behind(blank_settings: Settings, monkeypatch) -> None:
    def half(config, _: str) -> None:
        connection: sa.Connection = config.attributes["connection"]
        connection.execute(sa.text("CREATE TABLE half_done (id INTEGER)"))
        connection.execute(sa.text("CREATE NONSENSE"))

    with monkeypatch.context() as patch:
        patch.setattr(upgrade.command, "upgrade", half)
        with pytest.raises(Unavailable):
            await open_database(blank_settings)
    assert "half_done" not in tables_of(blank_settings)
    await (await open_database(blank_settings)).close()
    assert set(metadata.tables) <= tables_of(blank_settings)


def test_the_newest_revision_is_known_without_alembic():
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_current_head() == migrations.NEWEST
