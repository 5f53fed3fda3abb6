"""Reading and writing: what is promised of a transaction, on both databases."""

from trunkline.db import Database
from trunkline.tables import workspaces


async def test_a_written_row_is_read_back(database: Database, clock) -> None:
    await database.write(
        lambda c: c.execute(workspaces.insert().values(id="w", name="Alice", created_at=clock.now()))
    )
    assert await database.read(lambda c: c.execute(workspaces.select()).one().name) == "Alice"


async def test_the_database_starts_empty(database: Database, clock) -> None:
    await database.write(
        lambda c: c.execute(workspaces.insert().values(id="w", name="Alice", created_at=clock.now()))
    )
