"""`trunkline event …`: the event log of the workspace, over the native API."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from itertools import count
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.params import given, parse_time
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline

app = typer.Typer(no_args_is_help=True, help="Read the log of events, live too; read one again.")

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="Id of the event.")]
Type = Annotated[
    str | None, typer.Option(help="Only these types; * is any run of characters, such as 'alert.*'.")
]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="From then on: 30m, 2h, 7d, or a time such as 2026-05-03T10:00:00Z."),
]
_COLUMNS = {"number": "sequence"} | {
    name: name for name in ("time", "type", "severity", "project", "title", "id")
}


@app.command("list")
@with_hub
async def list_events(
    hub: Trunkline,
    *,
    type: Type = None,
    integration: Annotated[str | None, typer.Option(help="Only from this integration.")] = None,
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    severity: Annotated[str | None, typer.Option(help="critical, high, medium, low or info.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this subject.")] = None,
    dedup_key: Annotated[str | None, typer.Option(help="Only with this key.")] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then.")] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Only what could not be read as it should.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List events, newest first."""
    query = given(type=type, project=project, severity=severity, subject=subject, dedup_key=dedup_key)
    query |= given(since=parse_time("since", since), until=parse_time("until", until), errors=errors or None)
    if integration is not None:
        query["integration_id"] = await hub.integrations.id(integration)
    items = await first(hub.events.all(**query), limit)
    empty = "No such events. `trunkline hook url` tells where services post theirs."
    output.show_items(items, _COLUMNS, empty, as_json=as_json)


async def first(items: AsyncIterator[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Take so many items of a list, and fetch no page beyond them."""
    found: list[dict[str, Any]] = []
    async for item in items:
        found.append(item)
        if len(found) == limit:
            break
    return found


@app.command()
@with_hub
async def show(hub: Trunkline, event: EventId, as_json: AsJson = False) -> None:
    """Show one event with its data."""
    _show_one(await hub.events.get(event), as_json)


@app.command()
@with_hub
async def tail(
    hub: Trunkline,
    *,
    type: Type = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after this number, not with what comes.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show events as they come, until Ctrl-C; a connection that breaks is made again, and nothing is missed."""
    numbers = count(1)
    async with aclosing(hub.events.follow(after=after, type=type, tell=output.note)) as events:
        async for event in events:
            if as_json:
                output.show_line(event)
            else:
                output.say("  ".join(_text(event.get(name)) for name in _COLUMNS.values()))
            if next(numbers) == limit:
                return


@app.command()
@with_hub
async def replay(hub: Trunkline, event: EventId, as_json: AsJson = False) -> None:
    """Read an event's request again by today's rules, into a new event that is routed like any other."""
    _show_one(await hub.events.replay(event), as_json)


def _text(cell: Any) -> str:
    return "-" if cell is None else " ".join(str(cell).split())


def _show_one(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(event)
        return
    plain = {
        name: value for name, value in event.items() if name not in {"specversion", "datacontenttype", "data"}
    }
    output.show_fields(plain)
    output.say(output.dumps(event.get("data")))
