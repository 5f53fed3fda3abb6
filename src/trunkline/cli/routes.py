"""`trunkline route …`: which events go where, over the native API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from trunkline.cli import output
from trunkline.cli.params import given, parse_params, read_object, split_pair
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline
from trunkline.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="Say which events go where; try it on recent ones.")

Named = Annotated[str, typer.Argument(metavar="ROUTE", help="Id of the route, or its name.")]
EventType = Annotated[
    str | None, typer.Option(help="Types of events; * is any run of characters, such as 'alert.*'.")
]
Name = Annotated[str | None, typer.Option(help="Name for people.")]
Project = Annotated[str | None, typer.Option(help="Only events of this project; '' for any.")]
ConditionWords = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="CONDITION",
        help="PATH=VALUE, PATH:=JSON, or 'PATH OPERATOR VALUE' such as 'data.count greater_than 5'; may be repeated.",
    ),
]
Channel = Annotated[str | None, typer.Option(help="Send a message into this channel.")]
Connector = Annotated[
    str | None, typer.Option(help="With --channel: through the oldest enabled integration of this connector.")
]
Through = Annotated[
    str | None, typer.Option("--integration", help="With --channel or --endpoint: through this integration.")
]
Endpoint = Annotated[str | None, typer.Option(help="Call this endpoint of --integration.")]
Param = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A parameter of the endpoint, such as title={event.title}; may be repeated.",
    ),
]
Webhook = Annotated[str | None, typer.Option(metavar="URL", help="Post the event here, signed.")]
FromFile = Annotated[
    Path | None,
    typer.Option(help="The whole body as JSON or YAML, - is stdin; options win over it.", allow_dash=True),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
@with_hub
async def list_routes(
    hub: Trunkline,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only these.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the routes of the workspace."""
    items = [item async for item in hub.routes.all(enabled=enabled)]
    columns: dict[str, output.Column] = {
        "name": "name",
        "events": "event_type",
        "project": "project_id",
        "to": _place,
        "enabled": _state,
        "id": "id",
    }
    empty = (
        "No such routes." if enabled is not None else "No routes yet. Make one with `trunkline route create`."
    )
    output.show_items(items, columns, empty, as_json=as_json)


@app.command()
@with_hub
async def show(hub: Trunkline, route: Named, as_json: AsJson = False) -> None:
    """Show one route: what it looks for, and where that goes."""
    _show_one(await hub.routes.get(route), as_json)


@app.command()
@with_hub
async def create(
    hub: Trunkline,
    *,
    event_type: EventType = None,
    name: Name = None,
    project: Project = None,
    condition: ConditionWords = None,
    channel: Channel = None,
    connector: Connector = None,
    integration: Through = None,
    endpoint: Endpoint = None,
    param: Param = None,
    webhook: Webhook = None,
    from_file: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a route; the secret of a signed webhook is shown once."""
    body = read_object(from_file) if from_file else {}
    body |= given(event_type=event_type, name=name, project_id=project, conditions=_conditions(condition))
    words = {"channel": channel, "connector": connector, "integration": integration}
    target = await _target(hub, **words, endpoint=endpoint, param=param, webhook=webhook)
    body |= given(target=target)
    if not body.get("event_type"):
        raise Invalid("Give --event-type, such as --event-type 'alert.*', or --from-file")
    if not body.get("target"):
        raise Invalid("Say where to: --channel with --connector, --endpoint with --integration, or --webhook")
    _show_made(await hub.routes.create(**body), as_json)


@app.command()
@with_hub
async def update(
    hub: Trunkline,
    route: Named,
    *,
    event_type: EventType = None,
    name: Name = None,
    project: Project = None,
    condition: ConditionWords = None,
    channel: Channel = None,
    connector: Connector = None,
    integration: Through = None,
    endpoint: Endpoint = None,
    param: Param = None,
    webhook: Webhook = None,
    from_file: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; conditions that are given replace those there are."""
    body = read_object(from_file) if from_file else {}
    body |= given(event_type=event_type, name=name, project_id=project, conditions=_conditions(condition))
    words = {"channel": channel, "connector": connector, "integration": integration}
    target = await _target(hub, **words, endpoint=endpoint, param=param, webhook=webhook)
    body |= given(target=target)
    if not body:
        raise Invalid("Nothing to change: give at least one option")
    _show_made(await hub.routes.update(route, **body), as_json)


@app.command()
@with_hub
async def enable(hub: Trunkline, route: Named) -> None:
    """Switch a route on; why it was off, and what failed there, is forgotten."""
    changed = await hub.routes.update(route, enabled=True)
    output.note(
        f"{changed['name']} is on. It takes what comes from now on; `trunkline delivery recover` sends what failed."
    )


@app.command()
@with_hub
async def disable(hub: Trunkline, route: Named) -> None:
    """Switch a route off; what it has not sent yet is cancelled."""
    changed = await hub.routes.update(route, enabled=False)
    output.note(f"{changed['name']} is off.")


@app.command()
@with_hub
async def delete(hub: Trunkline, route: Named, yes: Yes = False) -> None:
    """Delete a route, and cancel what it has not sent yet."""
    if not yes:
        typer.confirm(f"Delete {output.clean(route)} and cancel what it has not sent?", abort=True, err=True)
    await hub.routes.delete(route)
    output.note(f"Deleted {route}.")


@app.command()
@with_hub
async def rotate(hub: Trunkline, route: Named, as_json: AsJson = False) -> None:
    """Give a signed webhook a new secret, shown once; the old one signs too for 24 hours."""
    _show_made(await hub.routes.rotate_secret(route), as_json)


@app.command("test")
@with_hub
async def try_out(
    hub: Trunkline,
    route: Annotated[str | None, typer.Argument(metavar="[ROUTE]", help="A route that is there.")] = None,
    *,
    event_type: EventType = None,
    project: Project = None,
    condition: ConditionWords = None,
    as_json: AsJson = False,
) -> None:
    """Show which of the newest 1,000 events match, and store nothing; exit code 1 if none does."""
    body: dict[str, Any] = {}
    if route is not None:
        there = await hub.routes.get(route)
        body = {name: there[name] for name in ("event_type", "project_id", "conditions")}
    body |= given(event_type=event_type, project_id=project, conditions=_conditions(condition))
    if not body.get("event_type"):
        raise Invalid("Give a route, or --event-type such as --event-type 'alert.*'")
    found = await hub.routes.try_out(**body)
    if as_json:
        output.show_json(found)
    else:
        _show_matches(found)
    if not found["matched"]:
        raise typer.Exit(output.ExitCode.FAILED)


def _show_matches(found: Mapping[str, Any]) -> None:
    if found["warning"]:
        output.note(found["warning"], "yellow")
        return
    fields = ("sequence", "time", "type", "severity", "project", "title", "id")
    output.show_table(fields, [[item[name] for name in fields] for item in found["events"]], "")
    output.note(f"{found['matched']} of the newest {found['looked_at']} events match.")


def _conditions(words: list[str] | None) -> list[dict[str, Any]] | None:
    return None if words is None else [_condition(word) for word in words]


def _condition(word: str) -> dict[str, Any]:
    path, *rest = word.split(" ", 2)
    if rest and "=" not in path:
        operator, text = rest[0], rest[1] if len(rest) > 1 else ""
        return {"path": path, "operator": operator, "value": _value(operator, text)}
    if "=" not in path:
        raise Invalid(f"{word!r} is not PATH=VALUE, PATH:=JSON or 'PATH OPERATOR VALUE'")
    path, text, is_json = split_pair(word)
    return {"path": path, "operator": "equals", "value": _json(word, text) if is_json else text}


def _value(operator: str, text: str) -> Any:
    if operator == "exists" and not text:
        return True
    if operator in {"exists", "greater_than", "less_than"} or text.startswith("["):
        return _json(operator, text)
    return text.split(",") if operator == "one_of" else text


def _json(place: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise Invalid(f'{place}: {text!r} is not JSON, such as 5, true or ["a", "b"]') from None


async def _target(
    hub: Trunkline,
    *,
    channel: str | None,
    connector: str | None,
    integration: str | None,
    endpoint: str | None,
    param: list[str] | None,
    webhook: str | None,
) -> dict[str, Any] | None:
    kinds = [
        name
        for name, value in (("--channel", channel), ("--endpoint", endpoint), ("--webhook", webhook))
        if value
    ]
    if len(kinds) > 1:
        raise Invalid(f"Give only one of {', '.join(kinds)}: a route has one target")
    if webhook:
        return {"type": "webhook", "url": webhook}
    through = await hub.integrations.id(integration) if integration and kinds else None
    if channel:
        if not (connector or through):
            raise Invalid("--channel needs --connector or --integration")
        return {"type": "notify", "channel": channel} | given(connector=connector, integration_id=through)
    if endpoint:
        if through is None:
            raise Invalid("--endpoint needs --integration")
        params = parse_params(param or [], {})
        return {"type": "endpoint", "integration_id": through, "endpoint": endpoint, "params": params}
    if connector or integration or param:
        raise Invalid("Say where to: add --channel or --endpoint")
    return None


def _place(item: Mapping[str, Any]) -> str:
    target = item["target"]
    if target["type"] == "webhook":
        return str(target["url"])
    if target["type"] == "endpoint":
        return f"endpoint {target['endpoint']}"
    return f"{target.get('connector') or 'channel'} {target['channel']}"


def _state(item: Mapping[str, Any]) -> str:
    return "yes" if item["enabled"] else f"no: {item['disabled_reason']}" if item["disabled_reason"] else "no"


def _show_made(made: Mapping[str, Any], as_json: bool) -> None:
    _show_one(made, as_json)
    if not as_json and made.get("warning"):
        output.note(f"Note: {made['warning']}", "yellow")
    if not as_json and made.get("signing_secret"):
        output.note("The signing secret, shown once:")
        output.say(made["signing_secret"], "bold")


def _show_one(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(item)
        return
    target, conditions = item["target"], map(_condition_text, item["conditions"])
    params = output.dumps(target["params"], indent=False) if target.get("params") else None
    output.show_fields(
        {
            "name": item["name"],
            "id": item["id"],
            "events": item["event_type"],
            "project": item["project_id"],
            "conditions": list(conditions) or None,
            "to": _place(item),
        }
        | given(integration=target.get("integration_id"), params=params)
        | given(**{"old secret until": target.get("previous_secret_until")})
        | {"enabled": _state(item)}
    )


def _condition_text(condition: Mapping[str, Any]) -> str:
    return f"{condition['path']} {condition['operator']} {output.dumps(condition['value'], indent=False)}"
