"""Files of records: kept, checked, mapped, taken in as a version by a run. What is in a file is `upload_files.py`'s.

An upload that nobody takes in is deleted after a week; one that was taken in keeps its report, not its rows. How far it
has come is what became of its run: nothing is written when that ends.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App, Context, own_context
from trunkline.errors import Conflict, NotFound
from trunkline.ids import new_id
from trunkline.rest.json_text import compact_json
from trunkline.services import datasets, integrations, knowledge, progress, upload_rows
from trunkline.services.datasets import Dataset
from trunkline.services.progress import Run
from trunkline.services.pulling import Batch
from trunkline.services.upload_files import File, Row, read_all
from trunkline.services.upload_rows import Checked, Fields
from trunkline.services.versions import to_row
from trunkline.tables import datasets as dataset_rows
from trunkline.tables import plain, runs, uploads

KEPT = timedelta(days=7)
MOST_WAITING = 50
"""Uploads of a workspace that wait to be taken in; the oldest give way."""
ROWS_AT_ONCE = 1_000
_COLUMNS = [column for column in uploads.c if column.name not in {"content", "dataset"}]


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload as it is stored, without its rows. `report` is what checking found."""

    id: str
    workspace_id: str
    status: str
    files: list[dict[str, Any]]
    mapping: dict[str, str]
    report: dict[str, Any] | None
    made_by: str | None
    created_at: datetime
    run_id: str | None = None
    dataset_id: str | None = None


_SELECT = (
    sa.select(*_COLUMNS, dataset_rows.c.id.label("dataset_id"), runs.c.state)
    .outerjoin(dataset_rows, dataset_rows.c.number == uploads.c.dataset)
    .outerjoin(runs, runs.c.id == uploads.c.run_id)
)
_FAILED = ("failed", "cancelled")


async def create(
    ctx: Context, files: Sequence[File], dataset_id: str | None = None
) -> tuple[Upload, Checked]:
    """Read files and keep their rows; return the upload, and what checking would find.

    Raises:
        Invalid: naming each file that cannot be read.
        NotFound: no such dataset.
    """
    dataset = await datasets.get(ctx, dataset_id) if dataset_id else None
    wanted = await fields_of(ctx, dataset)
    rows, described = await asyncio.to_thread(read_all, list(files))
    checked = await asyncio.to_thread(upload_rows.check, rows, {}, wanted)
    values: dict[str, Any] = {
        "id": new_id(),
        "workspace_id": ctx.workspace_id,
        "dataset": dataset.number if dataset else None,
        "status": "uploaded",
        "files": described,
        "mapping": {},
        "content": await asyncio.to_thread(_pack, rows),
        "made_by": ctx.caller.name,
        "created_at": ctx.now,
    }

    def write(conn: Connection) -> None:
        _prune(conn, ctx)
        conn.execute(sa.insert(uploads), values)

    await ctx.app.db.write(write)
    return await get(ctx, str(values["id"])), checked


def _prune(conn: Connection, ctx: Context) -> None:
    """Make room: drop what nobody took in, and the rows of what was taken in long ago."""
    own, waiting = uploads.c.workspace_id == ctx.workspace_id, uploads.c.run_id.is_(None)
    newest = sa.select(uploads.c.id).where(own, waiting).order_by(uploads.c.created_at.desc())
    is_old = uploads.c.created_at < ctx.now - KEPT
    gone = sa.or_(is_old, uploads.c.id.not_in(newest.limit(MOST_WAITING - 1)))
    conn.execute(sa.delete(uploads).where(own, waiting, gone))
    conn.execute(sa.update(uploads).where(own, is_old, uploads.c.content != b"").values(content=b""))


def _pack(rows: Sequence[Row]) -> bytes:
    return zlib.compress(orjson.dumps([tuple(row) for row in rows]), 1)


def _unpack(content: bytes) -> list[Row]:
    return [Row(*row) for row in orjson.loads(zlib.decompress(content))]


async def fields_of(ctx: Context, dataset: Dataset | None) -> Fields:
    """Say what records of a dataset must have: what those of a knowledge base have, unless it is told otherwise.

    Records of a stream have the stream's key; a dataset that only uploads fill may name its own as `params.key`.
    """
    key = None
    if dataset is not None and dataset.integration_id is None:
        key = dataset.params.get("key")
    elif dataset is not None:
        key = await _key_of_stream(ctx, dataset)
    return Fields(key, (key,), ()) if isinstance(key, str) and key else Fields()


async def _key_of_stream(ctx: Context, dataset: Dataset) -> str | None:
    try:
        integration = await integrations.get(ctx, dataset.integration_id or "")
    except NotFound:
        return None
    manifest = integrations.manifest_of(ctx, integration)
    stream = manifest.streams.get(dataset.stream or "") if manifest else None
    return stream.key if stream is not None and stream.record_mapping is None else None


async def get(ctx: Context, upload_id: str) -> Upload:
    """Return one upload.

    Raises:
        NotFound: absent, another workspace's, or too old.
    """
    row = await ctx.app.db.read(
        lambda conn: conn.execute(_SELECT.where(*_own(ctx, upload_id))).mappings().one_or_none()
    )
    if row is None:
        raise NotFound("Upload not found")
    values = plain(row)
    state = values.pop("state")
    if values["run_id"] is not None and state not in _FAILED:
        values["status"] = "ingesting" if state in progress.UNFINISHED else "ingested"
    return Upload(**values)


def _own(ctx: Context, upload_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (uploads.c.workspace_id == ctx.workspace_id, uploads.c.id == upload_id)


async def validate(ctx: Context, upload_id: str, mapping: Mapping[str, str] | None = None) -> Upload:
    """Check every row, with another mapping if one is given; what is wrong is in the report.

    Raises:
        NotFound
        Invalid: naming the part of the mapping at fault.
        Conflict: it was taken in already.
    """
    upload = await get(ctx, upload_id)
    wanted = await fields_of(ctx, await datasets.get(ctx, upload.dataset_id) if upload.dataset_id else None)
    rows = await _rows(ctx, upload)
    if mapping is not None:
        named = await asyncio.to_thread(upload_rows.fields_of, rows)
        upload_rows.check_mapping(mapping, named, wanted)
    chosen = dict(upload.mapping if mapping is None else mapping)
    report = (await asyncio.to_thread(upload_rows.check, rows, chosen, wanted)).report(len(rows))
    values = {"status": report["status"], "mapping": chosen, "report": report}
    change = sa.update(uploads).where(*_as_seen(ctx, upload)).values(values)
    if not await ctx.app.db.write(lambda conn: conn.execute(change).rowcount):
        raise Conflict(_ALREADY)
    return await get(ctx, upload_id)


def _as_seen(ctx: Context, upload: Upload) -> tuple[sa.ColumnElement[bool], ...]:
    """Name an upload for a change, unless a run has taken it since it was looked at."""
    return (*_own(ctx, upload.id), uploads.c.run_id.is_not_distinct_from(upload.run_id))


_TAKEN = ("ingesting", "ingested")
_ALREADY = "This upload was taken in already; upload the files again."
_CONTENT = sa.select(uploads.c.content)


async def _rows(ctx: Context, upload: Upload) -> list[Row]:
    if upload.status in _TAKEN:
        raise Conflict(_ALREADY)
    content = await ctx.app.db.read(lambda conn: conn.scalar(_CONTENT.where(*_own(ctx, upload.id))))
    if not content:
        raise Conflict("This upload is too old; upload the files again.")
    return await asyncio.to_thread(_unpack, content)


async def ingest(ctx: Context, upload_id: str, notes: str | None = None) -> Run:
    """Begin the run that takes the valid rows in as a version; the others go to the quarantine.

    An upload without a dataset goes into the workspace's knowledge base.

    Raises:
        NotFound
        Conflict: it was not checked, has no valid rows, was taken in already, or another run is under way.
    """
    upload = await get(ctx, upload_id)
    if upload.status in _TAKEN:
        raise Conflict(_ALREADY)
    if upload.report is None:
        raise Conflict("Validate this upload first.")
    if not upload.report["valid_count"]:
        raise Conflict("None of the rows is valid; map the fields, or mend the files and upload them again.")
    dataset = await (datasets.get(ctx, upload.dataset_id) if upload.dataset_id else knowledge.ensure(ctx))
    made_by = ctx.caller.name or ctx.caller.key_id

    def write(conn: Connection) -> Run:
        place = {"phase": "pull", "notes": notes}
        run = progress.open_run(conn, dataset, "upload", ctx.now, made_by=made_by, place=place)
        values = {"run_id": run.id, "dataset": dataset.number}
        if not conn.execute(sa.update(uploads).where(*_as_seen(ctx, upload)).values(values)).rowcount:
            raise Conflict(_ALREADY)
        return run

    run = await ctx.app.db.write(write)
    ctx.app.bells.runs.ring()
    return run


class Reading:
    """The rows of an upload as a run takes them in."""

    name = "upload"

    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def mode(self, wanted: str, cursor: Any) -> str:
        """Leave the run as it is: what it does not have stays."""
        del cursor
        return wanted

    def start_at(self, cursor: Any) -> None:
        """Begin at the beginning: an upload has no cursor."""

    def reached(self, newest: Any, started: datetime, now: datetime) -> None:
        """Leave the cursor of the dataset where it was."""

    async def batches(self, place: Mapping[str, Any] | None) -> AsyncGenerator[Batch, None]:
        """Give the valid rows, and with the last of them those that are not."""
        records = list(self._checked.records.items())
        for at in range((place or {}).get("next", 0), len(records), ROWS_AT_ONCE):
            rows = [to_row(*record) for record in records[at : at + ROWS_AT_ONCE]]
            is_last = at + ROWS_AT_ONCE >= len(records)
            bad = [(why, compact_json(row.data)) for row, why in self._checked.bad] if is_last else []
            onward = None if is_last else {"next": at + ROWS_AT_ONCE}
            yield Batch(rows, bad, [], len(rows), None, onward, len(records))


async def reading(app: App, run: Run) -> Reading:
    """Return what a run of mode `upload` reads.

    Raises:
        Conflict: the upload is gone, or has no valid row any more.
    """
    query = sa.select(uploads.c.content, uploads.c.mapping).where(uploads.c.run_id == run.id)

    def read(conn: Connection) -> tuple[Dataset, Any]:
        return datasets.by_number(conn, run.dataset), conn.execute(query).one_or_none()

    dataset, found = await app.db.read(read)
    if found is None or not found.content:
        raise Conflict("The upload of this run is gone; upload the files again.")
    wanted = await fields_of(own_context(app, run.workspace_id), dataset)
    rows = await asyncio.to_thread(_unpack, found.content)
    checked = await asyncio.to_thread(upload_rows.check, rows, found.mapping or {}, wanted)
    if not checked.records:
        raise Conflict("None of the rows is valid any more.")
    return Reading(checked)
