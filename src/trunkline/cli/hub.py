"""`trunkline up` and `trunkline init`: run a hub on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from trunkline.cli import output
from trunkline.http import server
from trunkline.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the database and the key file live, else TRUNKLINE_DATA_DIR."),
]


def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, else TRUNKLINE_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 picks a free one, else TRUNKLINE_PORT.")
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write url, workspace_id and api_key here (mode 600) once the hub answers."),
    ] = None,
) -> None:
    """Start the hub."""
    settings = Settings.load(data_dir=data_dir, host=host, port=port)
    raise typer.Exit(server.run(settings, ready_file))


def init(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Make the data directory, the first workspace and key, without listening."""
    settings = Settings.load(data_dir=data_dir)
    ready, is_new = asyncio.run(server.initialise(settings))
    values = {
        "workspace_id": ready.workspace_id,
        "api_key": ready.api_key,
        "data_dir": str(settings.data_dir),
    }
    if as_json:
        output.show_json({**values, "new": is_new})
        return
    output.show_fields(values)
    output.note("The key is also in ready.json there, mode 600. Start the hub with `trunkline up`.")
