"""The command line. This file only names the commands; each one's module is imported when it is used."""

import gc
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from trunkline import __version__
from trunkline.cli.output import report
from trunkline.errors import TrunklineError


class _Lazy(NamedTuple):
    module: str
    attribute: str
    help: str
    panel: str


_RUN, _USE, _KEEP = "Run a hub", "Use a hub", "Look after a hub"

COMMANDS: dict[str, _Lazy] = {
    "up": _Lazy("hub", "up", "Start the hub.", _RUN),
    "demo": _Lazy(
        "demo", "demo", "Start the hub and the sandbox, call both services for real, stay up.", _RUN
    ),
    "init": _Lazy(
        "hub", "init", "Make the data directory, the first workspace and key, without listening.", _RUN
    ),
    "sandbox": _Lazy("sandbox", "sandbox", "Run only the fake services, until Ctrl-C.", _RUN),
    "integration": _Lazy("integrations", "app", "List, make, change, test and delete integrations.", _USE),
    "call": _Lazy("calls", "call", "Call an endpoint of an integration for real.", _USE),
    "hook": _Lazy("hooks", "app", "Where services post their webhooks.", _USE),
    "event": _Lazy("events", "app", "Read the log of events, live too; read one again.", _USE),
    "route": _Lazy("routes", "app", "Say which events go where; try it on recent ones.", _USE),
    "delivery": _Lazy("deliveries", "app", "See what was sent, attempt by attempt; send it again.", _USE),
    "dataset": _Lazy("datasets", "app", "Make datasets; read, compare, roll back and export versions.", _USE),
    "sync": _Lazy("syncing", "sync", "Fetch what is new in a dataset's source, and watch it arrive.", _USE),
    "run": _Lazy("syncing", "app", "See what filled a dataset; stop what fills it now.", _USE),
    "upload": _Lazy(
        "syncing",
        "upload",
        "Take records from files into a dataset; rows at fault go to its quarantine.",
        _USE,
    ),
    "search": _Lazy("datasets", "search", "Search the records of a dataset, best first.", _USE),
    "quarantine": _Lazy("datasets", "quarantine", "Rows that could not be taken in; try them again.", _USE),
    "connector": _Lazy(
        "connectors", "app", "Read the catalogue; check, try and start connector files.", _USE
    ),
    "key": _Lazy("keys", "app", "API keys of the workspace, and the master key's rotation.", _KEEP),
    "doctor": _Lazy("doctor", "doctor", "Check this machine, the data directory and the hub.", _KEEP),
}


class LazyGroup(TyperGroup):
    """Shows every command without importing one; imports the one that is used."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = load(name)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TrunklineError as error:
            raise typer.Exit(report(error)) from error


def load(name: str) -> Any:
    """Import a command and return it as what the command line runs."""
    lazy = COMMANDS[name]
    target = getattr(_imported(f"trunkline.cli.{lazy.module}"), lazy.attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name, help=target.__doc__)(target)
        target = single
    command = typer.main.get_command(target)
    command.name = name
    return command


def _imported(module: str) -> Any:
    """Import without collecting garbage, which imports make none of: a fifth of the hub's start."""
    gc.disable()
    found = import_module(module)
    gc.freeze()
    gc.enable()
    return found


app = typer.Typer(
    name="trunkline",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trunkline: a self-hosted integration hub.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _listed_only() -> None:
    """Stand for a command in the list; `LazyGroup` runs the real one instead."""


for _name, _lazy in COMMANDS.items():
    app.command(_name, help=_lazy.help, rich_help_panel=_lazy.panel)(_listed_only)


def main() -> None:
    """Run the command line."""
    app()
