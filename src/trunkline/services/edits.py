"""Versions that a person makes: records taken out or put in between two runs, live once their words are in the index."""

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Conflict
from trunkline.services import datasets, index, versions
from trunkline.services.datasets import Dataset
from trunkline.services.versions import Version

_INDEXING = "Its records are being put into the search index."
_LOOKS, _LOOK_SECONDS = 120, 0.5


async def edit(
    ctx: Context,
    dataset_id: str,
    source: str,
    change: Callable[[Connection, Dataset, Version], None],
    notes: str | None = None,
) -> Version:
    """Make a version by a few changes; no gate holds it.

    If the process dies amid it, or indexing takes minutes, the version waits for a person.

    Args:
        change: writes to the version, inside one transaction with all else; what it raises undoes everything.

    Raises:
        NotFound
        Conflict: a run is under way, or another version went live meanwhile.
    """
    made_by = ctx.caller.name or ctx.caller.key_id

    def write(conn: Connection) -> Version:
        found = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True)
        if found.run_id is not None:
            raise Conflict("A run of this dataset is under way; wait for it, or cancel it.")
        version = versions.begin(conn, found.number, ctx.now, source=source, made_by=made_by, notes=notes)
        place = versions.continue_base(conn, found.number, version.number)
        while place is not None:
            place = versions.continue_base(conn, found.number, version.number, place)
        change(conn, found, version)
        is_found = index.is_complete(conn, found.number, version.number)
        hold = None if is_found else _INDEXING
        return versions.finish(conn, found.number, version.number, ctx.now, gated=False, hold=hold)

    version = await ctx.app.db.write(write)
    if version.status == "waiting" and await _is_indexed(ctx.app, version):
        version = await versions.activate(ctx, dataset_id, version.number)
    ctx.app.bells.events.ring()
    await versions.prune(ctx.app, version.dataset)
    return version


async def _is_indexed(app: App, version: Version) -> bool:
    is_complete = partial(index.is_complete, dataset=version.dataset, version=version.number)
    for _ in range(_LOOKS):
        rung = app.bells.index.rung
        await index.fill_due(app)
        if await app.db.read(is_complete):
            return True
        await app.bells.index.wait(_LOOK_SECONDS, since=rung)
    return False
