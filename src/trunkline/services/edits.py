"""Versions that a person makes: records taken out or put in between two runs, live once their words are in the index."""

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from trunkline.context import App, Context
from trunkline.errors import Conflict, TrunklineError
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

    It is one transaction, but after a roll back of much: then its rows are moved first, in batches. If the process
    dies amid it, or indexing takes minutes, the version waits for a person, or is given up by the next.

    Args:
        change: writes to the version; what it raises undoes everything.

    Raises:
        NotFound
        Conflict: a run is under way, or another version was begun or went live meanwhile.
    """
    made_by = ctx.caller.name or ctx.caller.key_id

    def write(conn: Connection, begun: Version | None = None) -> Version:
        found = datasets.find(conn, ctx.workspace_id, dataset_id, lock=True)
        if found.run_id is not None:
            raise Conflict("A run of this dataset is under way; wait for it, or cancel it.")
        about = {"made_by": made_by, "notes": notes}
        version = begun or versions.begin(conn, found.number, ctx.now, source=source, **about)
        if begun is None and not version.is_ready:
            return version
        change(conn, found, version)
        is_found = index.is_complete(conn, found.number, version.number)
        hold = None if is_found else _INDEXING
        return versions.finish(conn, found.number, version.number, ctx.now, gated=False, hold=hold)

    version = await ctx.app.db.write(write)
    if not version.is_ready:
        try:
            await versions.prepare(ctx.app, version.dataset, version.number)
            version = await ctx.app.db.write(partial(write, begun=version))
        except TrunklineError as error:
            await versions.undo(ctx.app, version.dataset, version.number, error.message)
            raise
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
