"""Find the running hub a command talks to, and hand the command a client of it."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from trunkline.cli import output
from trunkline.client import Trunkline
from trunkline.errors import TrunklineError, Unauthenticated, Unavailable
from trunkline.ready import read_ready
from trunkline.settings import ClientSettings, Settings

P = ParamSpec("P")

_PANEL = "The hub"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_OPTIONS: dict[str, Any] = {
    "url": Annotated[
        str | None, typer.Option(help="Address of the hub, else TRUNKLINE_URL.", rich_help_panel=_PANEL)
    ],
    "api_key": Annotated[
        str | None,
        typer.Option(
            help="API key, else TRUNKLINE_API_KEY, which keeps it out of the process list.",
            rich_help_panel=_PANEL,
        ),
    ],
    "workspace": Annotated[
        str | None,
        typer.Option(help="Workspace id; the key's own if left out.", rich_help_panel=_PANEL),
    ],
    "data_dir": Annotated[
        Path | None,
        typer.Option(
            help="Else both come from ready.json in here; ./trunkline-data if left out.",
            rich_help_panel=_PANEL,
        ),
    ],
}


@dataclass(frozen=True)
class Address:
    """Where the hub is and which key to show it."""

    url: str
    api_key: str
    workspace: str | None


def find_hub(url: str | None, api_key: str | None, workspace: str | None, data_dir: Path | None) -> Address:
    """Take the options, else the environment, else `DATA_DIR/ready.json`.

    Raises:
        Unavailable: no address was given and no hub left one.
        Unauthenticated: there is an address but no key for it.
        Invalid: the ready file is not what a hub writes.
    """
    client = ClientSettings.load()
    url, api_key = url or client.url, api_key or client.api_key
    workspace = workspace or client.workspace or None
    if not (url and api_key):
        ready_file = Settings.load(data_dir=data_dir).ready_file
        ready = read_ready(ready_file)
        if ready is None and not url:
            raise Unavailable(f"No hub address was given and {ready_file} does not exist")
        if ready is not None and url in {"", None, ready["url"]}:
            url, api_key = ready["url"], api_key or ready["api_key"]
    if not api_key:
        raise Unauthenticated(f"No API key was given for {url}")
    return Address(url or "", api_key, workspace)


def with_hub(
    command: Callable[Concatenate[Trunkline, P], Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Turn a coroutine of a client into a command that also takes the options which find the hub."""

    def run(*args: Any, **given: Any) -> None:
        place = [given.pop(name) for name in _OPTIONS]
        try:
            asyncio.run(_open_and_run(find_hub(*place), command, args, given))
        except TrunklineError as error:
            raise typer.Exit(output.report_from_hub(error)) from error

    own = list(inspect.signature(command).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]
    parameters = [*(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own), *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


async def _open_and_run(
    address: Address,
    command: Callable[..., Coroutine[Any, Any, None]],
    args: tuple[Any, ...],
    given: dict[str, Any],
) -> None:
    async with Trunkline(address.url, address.api_key, workspace_id=address.workspace) as hub:
        await command(hub, *args, **given)
