"""`trunkline key rotate`: change the master key and seal every secret anew, while the hub runs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import output
from trunkline.cli.reach import AsJson
from trunkline.clock import SystemClock
from trunkline.db import open_database
from trunkline.errors import Invalid
from trunkline.settings import Settings
from trunkline.vault import RotationReport, rotate
from trunkline.vault.rotation import Progress


def rotate_master_key(
    data_dir: Annotated[
        Path | None, typer.Option(help="The hub's data directory, else TRUNKLINE_DATA_DIR.")
    ] = None,
    new_master: Annotated[
        bool,
        typer.Option("--new-master/--same-master", help="Make a new master key, or only new data keys."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Change the master key and seal every secret anew; the hub may go on running."""
    settings = Settings.load(data_dir=data_dir)
    if not settings.database_url and not settings.sqlite_path.exists():
        raise Invalid(f"{settings.data_dir} holds no database; say where the hub's data is with --data-dir")
    with _shown() as progress:
        report = asyncio.run(_rotate(settings, new_master, progress))
    if as_json:
        output.show_json(asdict(report))
    else:
        _show(report, new_master and bool(settings.master_key))
    if report.secrets_unreadable:
        raise typer.Exit(output.ExitCode.FAILED)


async def _rotate(settings: Settings, new_master: bool, progress: Progress) -> RotationReport:
    db = await open_database(settings)
    try:
        return await rotate(db, settings, SystemClock(), new_master=new_master, progress=progress)
    finally:
        await db.close()


@contextmanager
def _shown() -> Iterator[Progress]:
    with output.progress() as display:
        task = display.add_task("sealing anew", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def _show(report: RotationReport, kept_by_setting: bool) -> None:
    output.show_fields(
        {
            "master key": f"{report.master_key_id} ({'new' if report.new_master_key else 'as before'})",
            "secrets sealed anew": report.secrets_resealed,
            "data keys wrapped anew": report.data_keys_rewrapped,
            "data keys made": report.data_keys_made,
            "data keys deleted": report.data_keys_deleted,
            "secrets unreadable": report.secrets_unreadable,
        }
    )
    if kept_by_setting:
        output.note(
            "The master keys come from TRUNKLINE_MASTER_KEY, so no new one was made: put the new key first "
            "there, restart the hub, and rotate again."
        )
