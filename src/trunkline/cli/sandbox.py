"""`trunkline sandbox`: run only the fake services."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.ready import forget_ready, write_ready
from trunkline.sandbox import SandboxOptions, serve_sandbox

Incidents = Annotated[
    Path | None,
    typer.Option(metavar="CSV", exists=True, dir_okay=False, help="Load the incidents of this log."),
]
Count = Annotated[int | None, typer.Option(min=0, help="Or make this many incidents; 1000 by default.")]


def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ready_file: Annotated[
        Path | None, typer.Option(help="Write addresses and credentials here (mode 600) once they answer.")
    ] = None,
    incidents: Incidents = None,
    count: Count = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve https with a throw-away certificate; see ca_file.")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="NAME", help="Run only this fake.")] = None,
) -> None:
    """Run only the fake services, until Ctrl-C."""
    if ready_file is not None:
        forget_ready([ready_file])
    options = SandboxOptions(port=port, host=host, tls=tls, only=only, incidents_csv=incidents, count=count)

    def announce(ready: dict[str, Any]) -> None:
        if ready_file is not None:
            write_ready(ready_file, ready)
        show_services(ready)
        output.note("Ctrl-C stops it.", "dim")

    asyncio.run(serve_sandbox(options, ready=announce))


def show_services(ready: dict[str, Any]) -> None:
    """Print each fake, where it answers, and the credentials it takes."""
    rows = [
        (name, service["url"], "  ".join(f"{key}={value}" for key, value in service.items() if key != "url"))
        for name, service in ready.items()
        if isinstance(service, dict) and "url" in service
    ]
    output.show_table(("service", "url", "credentials"), rows, "No services.")
