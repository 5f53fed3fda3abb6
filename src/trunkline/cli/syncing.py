"""`trunkline sync`, `run …`, `upload`: fill a dataset and watch it being filled, over the native API."""

import asyncio
import base64
import itertools
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from trunkline.cli import output
from trunkline.cli.datasets import Dataset
from trunkline.cli.events import Limit, first
from trunkline.cli.params import parse_params
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline
from trunkline.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="See what filled a dataset; stop what fills it now.")
_MAX_FILE_BYTES = 24 * 1024 * 1024  # the hub takes 32 MiB, and base64 makes a third more

RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="Id of the run; the newest if left out.")]
AsLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
NoFollow = Annotated[bool, typer.Option("--no-follow", help="Print the run's id and do not wait for it.")]


@with_hub
async def sync(
    hub: Trunkline,
    dataset: Dataset,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read everything, and find what is gone.")] = False,
    no_follow: NoFollow = False,
    as_json: AsLines = False,
) -> None:
    """Fetch what is new in a dataset's source, and watch it arrive."""
    run = await hub.runs.start(dataset, "full" if full else None)
    if no_follow:
        output.show_json(run) if as_json else output.say(run["id"])
        return
    await _follow(hub, dataset, run["id"], as_json)


@app.command("list")
@with_hub
async def list_runs(hub: Trunkline, dataset: Dataset, *, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the runs of a dataset, newest first."""
    items = await first(hub.runs.all(dataset), limit)
    if as_json:
        output.show_json({"items": items})
        return
    columns = (
        "state",
        "mode",
        "version",
        "fetched",
        "added",
        "changed",
        "removed",
        "created_at",
        "error",
        "id",
    )
    rows = [[item.get(name) for name in columns] for item in items]
    output.show_table(columns, rows, "No runs yet. `trunkline sync` begins one.")


@app.command()
@with_hub
async def show(hub: Trunkline, dataset: Dataset, run: RunId = None, as_json: AsJson = False) -> None:
    """Show one run."""
    found = await hub.runs.get(dataset, await _run_id(hub, dataset, run))
    output.show_json(found) if as_json else output.show_fields(found)


@app.command()
@with_hub
async def watch(hub: Trunkline, dataset: Dataset, run: RunId = None, as_json: AsLines = False) -> None:
    """Watch a run that is under way, whoever began it."""
    await _follow(hub, dataset, await _run_id(hub, dataset, run), as_json)


@app.command()
@with_hub
async def cancel(hub: Trunkline, dataset: Dataset, run: RunId = None) -> None:
    """Stop a run; the dataset stays as it was."""
    await hub.runs.cancel(dataset, await _run_id(hub, dataset, run))
    output.say("It ends at its next page; nothing of it stays.")


async def _run_id(hub: Trunkline, dataset: str, run: str | None) -> str:
    if run is not None:
        return run
    newest = await first(hub.runs.all(dataset), 1)
    if not newest:
        raise Invalid(f"{dataset} has had no run yet")
    return str(newest[0]["id"])


@with_hub
async def upload(
    hub: Trunkline,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON, JSON Lines or CSV.")],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Name or id of the dataset; the knowledge base if left out.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="Which field a column of the files is."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what is wrong with them.")] = False,
    notes: Annotated[str | None, typer.Option(help="What to remember of the version.")] = None,
    no_follow: NoFollow = False,
    as_json: AsLines = False,
) -> None:
    """Take records from files into a dataset; rows at fault go to its quarantine."""
    mapping = {name: str(value) for name, value in parse_params(rename or [], {}).items()}
    wanted = None if dataset is None else await hub.datasets.id(dataset)
    made = await hub.uploads.create([_read(path) for path in files], wanted)
    report = (await hub.uploads.validate(made["id"], mapping or None))["report"]
    _show_report(report, as_json=as_json and check)
    if check or not report["valid_count"]:
        raise typer.Exit(output.ExitCode.FAILED if report["error_count"] else output.ExitCode.OK)
    run = await hub.uploads.ingest(made["id"], notes)
    if no_follow:
        output.show_json(run) if as_json else output.say(run["run_id"])
        return
    await _follow(hub, run["dataset_id"], run["run_id"], as_json)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise Invalid(f"{path}: larger than {_MAX_FILE_BYTES:,} bytes; split it")
        raw = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    return {"filename": path.name, "content": base64.b64encode(raw).decode(), "encoding": "base64"}


def _show_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.show_json(report)
        return
    output.note(
        f"{report['total_records']:,} rows: {report['valid_count']:,} good, {report['error_count']:,} not"
    )
    for one in itertools.islice(report["errors"], 10):
        where = ":".join(str(one[name]) for name in ("file", "row", "field") if one.get(name) is not None)
        output.note(f"  {where}: {one['message']}")


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class _Count(ProgressColumn):
    """Rows so far, of how many where that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total else " rows"))


def _bar() -> Progress:
    terminal = output.console(error=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Count(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=terminal, disable=not terminal.is_terminal, transient=True)


async def _follow(hub: Trunkline, dataset: str, run_id: str, as_json: bool) -> None:
    """Show a run until it ends; Ctrl-C leaves it going."""
    told: dict[str, Any] = {}
    try:
        with _bar() as display:
            task = display.add_task("waiting", total=None)
            async with aclosing(hub.runs.follow(dataset, run_id, tell=output.note)) as events:
                async for told in events:
                    if as_json:
                        output.show_line(told)
                    fetched, total = told.get("fetched"), told.get("total")
                    display.update(task, description=told["type"], completed=fetched, total=total)
    except asyncio.CancelledError:
        output.note(f"The run goes on: `trunkline run watch {dataset} {run_id}`.")
        raise
    await _conclude(hub, dataset, run_id, told, as_json)


async def _conclude(
    hub: Trunkline, dataset: str, run_id: str, told: Mapping[str, Any], as_json: bool
) -> None:
    run = await hub.runs.get(dataset, run_id)
    if not as_json:
        counts = ", ".join(f"{run[name]:,} {name}" for name in ("added", "changed", "removed", "quarantined"))
        output.say(f"{run['state']}: {run['fetched']:,} rows read; {counts}")
    if run["state"] == "waiting":
        output.note(f"Version {run['version']} waits for you: {run['error']}")
        output.note(
            f"Let it go live with `trunkline dataset approve {dataset} {run['version']}`, or `reject` it."
        )
    if told.get("type") == "error" or run["state"] in {"failed", "cancelled"}:
        output.note(f"error: {run['error'] or told.get('message') or run['state']}", "bold red")
        raise typer.Exit(output.ExitCode.FAILED)
