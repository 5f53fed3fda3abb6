"""`trunkline integration …`: the workspace's integrations, over the native API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.params import given, read_object, read_secrets, split_pair
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline
from trunkline.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="List, make, change, test and delete integrations.")

Named = Annotated[str, typer.Argument(metavar="INTEGRATION", help="Name or id of the integration.")]
Config = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A field of the connector's form; may be repeated."),
]
Credential = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A credential; NAME=- asks without echo or reads stdin, NAME=@FILE reads a file.",
    ),
]
Method = Annotated[str | None, typer.Option(help="Which way in of the connector the credentials are for.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="Another address for the service, such as a fake or a proxy.")
]
DisplayName = Annotated[str | None, typer.Option(help="Name for people.")]
FromFile = Annotated[
    Path | None,
    typer.Option(help="The whole body as JSON or YAML, - is stdin; options win over it.", allow_dash=True),
]


@app.command("list")
@with_hub
async def list_integrations(
    hub: Trunkline,
    search: Annotated[str | None, typer.Option(help="Only names that contain this.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only these.")] = None,
    sort_by: Annotated[str | None, typer.Option(help="[+|-]name|display_name|created_at|updated_at")] = None,
    as_json: AsJson = False,
) -> None:
    """List the integrations of the workspace."""
    items = [item async for item in hub.integrations.all(search=search, enabled=enabled, sort_by=sort_by)]
    columns = {
        "name": "name",
        "display name": "display_name",
        "connector": "connector",
        "enabled": "enabled",
        "last test": "last_test_status",
        "id": "id",
    }
    empty = "No integrations yet. Make one with `trunkline integration create`."
    output.show_items(items, columns, empty, as_json=as_json)


@app.command()
@with_hub
async def show(hub: Trunkline, integration: Named, as_json: AsJson = False) -> None:
    """Show one integration: address, config, credentials that are set (never their values), endpoints."""
    _show_one(await hub.integrations.get(integration), as_json)


@app.command()
@with_hub
async def create(
    hub: Trunkline,
    *,
    name: Annotated[str | None, typer.Option(help="Slug: lower-case letters, digits, - and _.")] = None,
    connector: Annotated[str | None, typer.Option(help="Connector from the catalogue.")] = None,
    display_name: DisplayName = None,
    config: Config = None,
    method: Method = None,
    credential: Credential = None,
    base_url: BaseUrl = None,
    from_file: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an integration, of a connector or from a file."""
    body = read_object(from_file) if from_file else {}
    body |= given(name=name, connector=connector, display_name=display_name, base_url=base_url)
    _merge_extension(body, config, method, credential)
    if not body.get("name"):
        raise Invalid("Give --name, and --connector or --from-file")
    body.setdefault("display_name", body["name"])
    _show_one(await hub.integrations.create(**body), as_json)


@app.command()
@with_hub
async def update(
    hub: Trunkline,
    integration: Named,
    *,
    display_name: DisplayName = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    config: Config = None,
    method: Method = None,
    credential: Credential = None,
    base_url: BaseUrl = None,
    from_file: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest, secrets too, stays as it is."""
    body = read_object(from_file) if from_file else {}
    body |= given(display_name=display_name, enabled=enabled, base_url=base_url)
    _merge_extension(body, config, method, credential)
    if not body:
        raise Invalid("Nothing to change: give at least one option")
    _show_one(await hub.integrations.update(integration, **body), as_json)


@app.command()
@with_hub
async def delete(
    hub: Trunkline,
    integration: Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an integration and its credentials."""
    if not yes:
        typer.confirm(f"Delete {output.clean(integration)} and its credentials?", abort=True, err=True)
    await hub.integrations.delete(integration)
    output.note(f"Deleted {integration}.")


@app.command("test")
@with_hub
async def check_connection(hub: Trunkline, integration: Named, as_json: AsJson = False) -> None:
    """Try the credentials against the service; exit code 1 unless it is healthy."""
    verdict = await hub.integrations.test_connection(integration)
    if as_json:
        output.show_json(verdict)
    else:
        healthy = verdict["status"] == "healthy"
        output.say(f"{verdict['status']}: {verdict.get('message', '')}", "green" if healthy else "red")
    if verdict["status"] != "healthy":
        raise typer.Exit(output.ExitCode.FAILED)


@app.command()
@with_hub
async def health(hub: Trunkline, as_json: AsJson = False) -> None:
    """Knock at every enabled integration (the 50 newest) and show how each is."""
    answer = await hub.integrations.health()
    if as_json:
        output.show_json(answer)
        return
    rows = [
        (item.get("name"), item.get("status"), f"{item.get('latency_ms') or 0:.1f}")
        for item in answer.get("checks", [])
    ]
    output.show_table(("name", "status", "ms"), rows, "No integrations yet.")
    output.note(f"Overall: {answer.get('overall_status', 'unknown')}")


def _merge_extension(
    body: dict[str, Any], config: list[str] | None, method: str | None, credential: list[str] | None
) -> None:
    """Add config fields and credentials from options to what a file may have given."""
    if config:
        pairs = (split_pair(word) for word in config)
        body["config"] = {**_mapping(body, "config"), **{name: value for name, value, _ in pairs}}
    if method or credential:
        stated = _mapping(body, "credentials")
        values = {**_mapping(stated, "values"), **read_secrets(credential or [])}
        body["credentials"] = {**stated, **given(method=method), "values": values}


def _mapping(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise Invalid.field((name,), "must be an object")
    return value


def _show_one(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(item)
        return
    credentials = item.get("credentials") or {}
    output.show_fields(
        {
            "name": item["name"],
            "display name": item["display_name"],
            "id": item["id"],
            "connector": item.get("connector"),
            "address": item.get("base_url") or None,
            "config": [f"{name}={value}" for name, value in (item.get("config") or {}).items()] or None,
            "credentials": credentials.get("configured") or None,
            "enabled": item["enabled"],
            "last test": item.get("last_test_status"),
            "endpoints": [endpoint["name"] for endpoint in item.get("endpoints") or []],
        }
    )
