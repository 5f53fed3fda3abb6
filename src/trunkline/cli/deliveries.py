"""`trunkline delivery …`: what was sent, and sending it again, over the native API."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.events import Limit, Since, first
from trunkline.cli.params import given, parse_time
from trunkline.cli.reach import AsJson, with_hub
from trunkline.cli.stages import show_exchanges
from trunkline.client import Trunkline
from trunkline.errors import Forbidden, Invalid, NotFound

app = typer.Typer(no_args_is_help=True, help="See what was sent, attempt by attempt; send it again.")

DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery.")]
OfRoute = Annotated[str | None, typer.Option(help="Only of this route, by id or name.")]


@app.command("list")
@with_hub
async def list_deliveries(
    hub: Trunkline,
    *,
    state: Annotated[
        str | None, typer.Option(help="pending, sending, delivered, failed or cancelled.")
    ] = None,
    route: OfRoute = None,
    event: Annotated[str | None, typer.Option(help="Only of this event.")] = None,
    since: Since = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    query = given(state=state, event_id=event, since=parse_time("since", since))
    if route is not None:
        query["route_id"] = await hub.routes.find(route)
    items = await first(hub.deliveries.all(**query), limit)
    names = {} if as_json or route else await _route_names(hub, items)
    columns: dict[str, output.Column] = {
        "state": "state",
        "route": lambda item: names.get(item["route_id"], route),
        "attempts": "attempt_count",
        "next": _next,
        "status": "last_status",
        "error": _error,
        "created": "created_at",
        "id": "id",
    }
    empty = "No such deliveries. Which routes are there? `trunkline route list`"
    output.show_items(items, columns, empty, as_json=as_json)


async def _route_names(hub: Trunkline, items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name the routes of deliveries; a deleted one, or one the key may not see, by its id."""
    names: dict[str, str] = {}
    for route_id in {str(item["route_id"]) for item in items}:
        try:
            names[route_id] = (await hub.routes.get(route_id))["name"]
        except (NotFound, Forbidden):
            names[route_id] = route_id
    return names


def _next(item: Mapping[str, Any]) -> object:
    return item["due_at"] if item["state"] == "pending" else None


def _error(item: Mapping[str, Any]) -> str | None:
    text: str | None = item["last_error"]
    return text if text is None or len(text) <= 60 else text[:59] + "…"


@app.command()
@with_hub
async def show(
    hub: Trunkline,
    delivery: DeliveryId,
    trace: Annotated[bool, typer.Option("--trace", help="Also show what was sent and received.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a delivery and its attempts."""
    found = await hub.deliveries.get(delivery)
    if as_json:
        output.show_json(found)
        return
    attempts = found.pop("attempts")
    output.show_fields({name.replace("_", " "): value for name, value in found.items()})
    columns = ("number", "started_at", "duration_ms", "status", "error")
    rows = [[item[name] for name in columns] for item in attempts]
    output.show_table(("attempt", "started", "ms", "status", "error"), rows, "Not tried yet.")
    for item in attempts if trace else ():
        if item["trace"]:
            output.note(f"Attempt {item['number']}")
            show_exchanges(item["trace"])


@app.command()
@with_hub
async def resend(hub: Trunkline, delivery: DeliveryId) -> None:
    """Send a delivery again now, whatever became of it before."""
    await hub.deliveries.resend(delivery)
    output.note(f"On its way. See what becomes of it with `trunkline delivery show {delivery}`.")


@app.command()
@with_hub
async def recover(
    hub: Trunkline,
    since: Since = None,
    route: OfRoute = None,
    as_json: AsJson = False,
) -> None:
    """Send again everything that was given up since a time."""
    time = parse_time("since", since)
    if time is None:
        raise Invalid("Give --since, such as --since 2h")
    recovered = await hub.deliveries.recover(time, None if route is None else await hub.routes.find(route))
    if as_json:
        output.show_json({"count": recovered})
    else:
        output.say(
            "1 delivery is sent again." if recovered == 1 else f"{recovered} deliveries are sent again."
        )
    if recovered:
        output.note("Follow them with `trunkline delivery list --state pending`.")
