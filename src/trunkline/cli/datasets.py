"""`trunkline dataset …`, `quarantine …`, `search`: what was synced, its versions and records, over the native API."""

import sys
from collections.abc import Mapping
from contextlib import aclosing
from html import unescape
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.events import Limit, first
from trunkline.cli.params import given, parse_params, read_object
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline
from trunkline.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="Make datasets; read, compare, roll back and export versions.")
quarantine = typer.Typer(no_args_is_help=True, help="Rows that could not be taken in; try them again.")

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Name or id of the dataset.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Number of the version.")]
AtVersion = Annotated[int | None, typer.Option("--version", min=1, help="This version, not the active one.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_LONG = 60


@app.command("list")
@with_hub
async def list_datasets(hub: Trunkline, *, as_json: AsJson = False) -> None:
    """List the datasets, newest first."""
    items = [item async for item in hub.datasets.all()]
    if as_json:
        output.show_json({"items": items})
        return
    columns = ("name", "stream", "active_version", "last_status", "last_synced_at", "next_run_at", "id")
    rows = [[item.get(name) for name in columns] for item in items]
    shown = ("name", "stream", "version", "last run", "synced", "next", "id")
    output.show_table(shown, rows, "No datasets. Make one with `trunkline dataset create`.")


@app.command()
@with_hub
async def show(hub: Trunkline, dataset: Dataset, as_json: AsJson = False) -> None:
    """Show one dataset."""
    _show(await hub.datasets.get(dataset), as_json)


@app.command()
@with_hub
async def create(
    hub: Trunkline,
    name: Annotated[str, typer.Argument(help="What it is to be called.")],
    *,
    integration: Annotated[
        str | None, typer.Option(help="Where its records come from; without it, uploads fill it.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Which stream of the integration.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the stream's endpoint.")
    ] = None,
    every: Annotated[int | None, typer.Option(metavar="SECONDS", help="Sync so often.")] = None,
    cron: Annotated[str | None, typer.Option(help='Sync then, such as "*/5 * * * *".')] = None,
    timezone: Annotated[str, typer.Option(help="Of the cron line.")] = "UTC",
    from_file: Annotated[
        Path | None, typer.Option(help="Body as JSON or YAML; options win over it.", allow_dash=True)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset."""
    if every is not None and cron is not None:
        raise Invalid("Give --every or --cron, not both")
    body = read_object(from_file) if from_file else {}
    body |= {"name": name} | given(stream=stream, params=parse_params(param or [], {}) or None)
    if integration is not None:
        body["integration_id"] = await hub.integrations.id(integration)
    if every is not None or cron is not None:
        body["schedule"] = {"every_seconds": every} if cron is None else {"cron": cron, "timezone": timezone}
    _show(await hub.datasets.create(**body), as_json)
    if not as_json:
        output.note(f"Fill it with `trunkline {'sync' if integration else 'upload'} …`.")


@app.command()
@with_hub
async def delete(hub: Trunkline, dataset: Dataset, yes: Yes = False) -> None:
    """Delete a dataset and all its versions."""
    if not yes:
        typer.confirm(f"Delete {dataset} and everything in it?", abort=True, err=True)
    await hub.datasets.delete(dataset)
    output.say(f"{dataset} is deleted.")


@app.command("versions")
@with_hub
async def list_versions(
    hub: Trunkline, dataset: Dataset, *, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """List the versions, newest first."""
    items = await first(hub.datasets.versions(dataset), limit)
    if as_json:
        output.show_json({"items": items})
        return
    columns = ("number", "status", "added", "changed", "removed", "total", "created_at", "reason")
    output.show_table(columns, [[item.get(name) for name in columns] for item in items], "No versions yet.")


@app.command()
@with_hub
async def diff(
    hub: Trunkline,
    dataset: Dataset,
    before: Annotated[int, typer.Argument(metavar="FROM", min=1, help="Number of a version.")],
    after: Annotated[int, typer.Argument(metavar="TO", min=1, help="Number of another.")],
    *,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Show which records were added, changed (and in which fields) and removed between two versions."""
    items = await first(hub.datasets.diff(dataset, before, after), limit)
    if as_json:
        output.show_json({"items": items})
        return
    rows = [(item["change"], item["key"], item["fields"]) for item in items]
    output.show_table(("change", "key", "fields"), rows, "These versions are the same.")


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else output.dumps(value, indent=False)).split())
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


@app.command()
@with_hub
async def rollback(hub: Trunkline, dataset: Dataset, version: Number, yes: Yes = False) -> None:
    """Make an earlier version the active one: records and cursor together, at once."""
    if not yes:
        typer.confirm(f"Roll {dataset} back to version {version}?", abort=True, err=True)
    await hub.datasets.rollback(dataset, version)
    output.say(f"{dataset} is at version {version}.")


@app.command()
@with_hub
async def approve(hub: Trunkline, dataset: Dataset, version: Number) -> None:
    """Let a version go live that the gate holds back."""
    await hub.datasets.decide(dataset, version, "activate")
    output.say(f"{dataset} is at version {version}.")


@app.command()
@with_hub
async def reject(hub: Trunkline, dataset: Dataset, version: Number) -> None:
    """Give a version up that the gate holds back."""
    await hub.datasets.decide(dataset, version, "reject")
    output.say(f"Version {version} is given up; {dataset} stays as it is.")


@app.command()
@with_hub
async def records(
    hub: Trunkline,
    dataset: Dataset,
    key: Annotated[str | None, typer.Argument(help="Only the record with this key, whole.")] = None,
    *,
    where: Annotated[
        list[str] | None, typer.Option(metavar="PATH=VALUE", help="Only records with this value there.")
    ] = None,
    version: AtVersion = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Show records in the order of their keys."""
    if key is not None:
        found = await hub.datasets.record(dataset, key, version=version)
        output.show_json(found if as_json else found.get("record"))
        return
    filters = {name: str(value) for name, value in parse_params(where or [], {}).items()}
    items = await first(hub.datasets.records(dataset, version=version, filters=filters), limit)
    if as_json:
        output.show_json({"items": items})
        return
    rows = [(item["key"], item.get("since"), _short(item.get("record"))) for item in items]
    output.show_table(("key", "since", "record"), rows, "No such records.")


@app.command()
@with_hub
async def export(
    hub: Trunkline,
    dataset: Dataset,
    *,
    format: Annotated[str, typer.Option(help="jsonl, csv or parquet.")] = "jsonl",
    version: AtVersion = None,
    out: Annotated[Path | None, typer.Option(help="File to write, else stdout.")] = None,
) -> None:
    """Write the records of a version to a file."""
    partial = None if out is None else out.with_name(f".{out.name}.part")
    try:
        file = sys.stdout.buffer if partial is None else partial.open("wb")
    except OSError as error:
        raise Invalid(f"{out}: {error.strerror}") from error
    async with aclosing(hub.datasets.export(dataset, format=format, version=version)) as chunks:
        try:
            async for chunk in chunks:
                file.write(chunk)
            file.flush()
            if partial is not None and out is not None:
                file.close()
                partial.replace(out)
        finally:
            if partial is not None:
                file.close()
                partial.unlink(missing_ok=True)  # whatever broke off, or nothing


@with_hub
async def search(
    hub: Trunkline,
    dataset: Dataset,
    words: Annotated[
        list[str], typer.Argument(help='All of these; "in quotes" a phrase, word* a beginning.')
    ],
    *,
    any_word: Annotated[bool, typer.Option("--any", help="One of the words is enough.")] = False,
    mode: Annotated[str | None, typer.Option(help="words, meaning or both.")] = None,
    version: AtVersion = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Search the records of a dataset, best first."""
    query = " ".join(words)
    more = {"version": version, "limit": limit, "any": any_word or None, "mode": mode}
    found = await hub.datasets.search(dataset, query, **more)
    if as_json:
        output.show_json(found)
        return
    rows = [
        (item["key"], f"{item['score']:.3g}", _highlights(item) or _short(item["record"]))
        for item in found["items"]
    ]
    output.show_table(("key", "score", "found in"), rows, "Nothing found; --any asks for one of the words.")
    if (covered := found.get("covered")) and covered["records"] < covered["of"]:
        output.note(f"By meaning, {covered['records']:,} of {covered['of']:,} records are found so far.")


def _highlights(item: Mapping[str, Any]) -> str:
    """Show what was found as plain text: the hub marks it in HTML."""
    return "; ".join(f"{one['field']}: {_short(_text(one['text']))}" for one in item["highlights"])


def _text(html: str) -> str:
    return unescape(html.replace("<mark>", "").replace("</mark>", ""))


@quarantine.command("list")
@with_hub
async def list_quarantine(
    hub: Trunkline, dataset: Dataset, *, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """List rows that could not be taken in, newest first, and why."""
    items = await first(hub.datasets.quarantine(dataset), limit)
    if as_json:
        output.show_json({"items": items})
        return
    rows = [
        (item["version"], item["reason"], _short(item["data"]), item["created_at"], item["id"])
        for item in items
    ]
    output.show_table(("version", "reason", "row", "since", "id"), rows, "Nothing is in quarantine.")


@quarantine.command()
@with_hub
async def replay(
    hub: Trunkline,
    dataset: Dataset,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Only these.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try rows again, all or some."""
    answer = await hub.datasets.replay(dataset, ids or None)
    if as_json:
        output.show_json(answer)
    else:
        output.show_fields(answer)


def _show(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(item)
        return
    plain = {
        name: output.dumps(value, indent=False) if isinstance(value, dict) else value
        for name, value in item.items()
    }
    output.show_fields(plain)
