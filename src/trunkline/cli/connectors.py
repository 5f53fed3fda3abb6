"""`trunkline connector …`: read a hub's catalogue; check, try and start connector files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.catalog.authoring import AUTH_CHOICES, json_schema, new_manifest_text
from trunkline.catalog.part_checks import NAME
from trunkline.catalog.propose import propose
from trunkline.catalog.registry import BUILT_IN
from trunkline.cli import output
from trunkline.cli.calls import input_schema
from trunkline.cli.checking import Checked, check_file, connector_files
from trunkline.cli.params import parse_params
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline
from trunkline.errors import Conflict, Invalid, NotFound, RemoteFailed
from trunkline.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Read the catalogue; check, try and start connector files.")


@app.command("list")
@with_hub
async def list_connectors(hub: Trunkline, as_json: AsJson = False) -> None:
    """List the hub's catalogue, and files it could not read."""
    catalogue = await hub.connectors()
    if as_json:
        output.show_json(catalogue)
        return
    rows = [
        (
            item["id"],
            item["name"],
            item["category"],
            item["endpoints"],
            item["streams"],
            f"{item['depth']['score']} %",
        )
        for item in catalogue["items"]
    ]
    output.show_table(("id", "name", "category", "endpoints", "streams", "depth"), rows, "No connectors.")
    for problem in catalogue["problems"]:
        output.note(str(problem), "yellow")


@app.command()
@with_hub
async def show(
    hub: Trunkline,
    connector: Annotated[str, typer.Argument(help="Id of the connector.")],
    as_json: AsJson = False,
) -> None:
    """Show what a connector needs and what it can do."""
    found = await hub.connector(connector)
    if as_json:
        output.show_json(found)
        return
    output.say(f"{found['name']}: {found['description']}", "bold")
    for name, field in found["config"].items():
        output.say(f"--config {name}=…  {field['label']}{_remark(field)}")
    for name, way in found["auth"].items():
        for field in way["fields"]:
            output.say(f"--method {name} --credential {field['name']}=…  {field['label']}{_remark(field)}")
    if hook := found["webhook"]:
        output.say(f"Webhooks: {hook['description']}")
        for field in hook["secrets"]:
            output.say(f"--credential {field['name']}=…  {field['label']} (optional; verifies webhooks)")
        output.say(f"Events: {', '.join(found['event_types'])}")
    if notify := found["notify"]:
        output.say(f"Messages go to a channel: {notify['channel']['label']}{_remark(notify['channel'])}")
    rows = [(item["name"], item["method"], item["description"]) for item in found["endpoints"]]
    output.show_table(("endpoint", "method", "description"), rows, "No endpoints.")
    output.note(f"Depth: {found['depth']['score']} %")


def _remark(field: Mapping[str, Any]) -> str:
    if field.get("default"):
        return f" (default {field['default']})"
    such = f", such as {field['example']}" if field.get("example") else ""
    return such + (" (optional)" if field.get("optional") else "")


@app.command()
def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files or folders; the built-in ones and TRUNKLINE_CONNECTORS_DIR if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check connector files; every problem as file:line: path: text. No hub is needed."""
    checked = [check_file(path) for path in connector_files(paths or _default_folders())]
    if as_json:
        output.show_json({"files": [_as_json(item) for item in checked]})
    else:
        for item in checked:
            _show_checked(item)
    if any(item.problems for item in checked):
        raise typer.Exit(output.ExitCode.FAILED)


def _default_folders() -> list[Path]:
    extra = Settings.load().connectors_dir
    return [BUILT_IN] if extra is None else [BUILT_IN, extra]


def _show_checked(item: Checked) -> None:
    for problem in item.problems:
        output.say(f"{item.path.parent / problem.file}:{problem.line}: {problem.text}", "red")
    if item.score is not None:
        lacks = f"; lacks {'; '.join(item.missing)}" if item.missing else ""
        output.say(f"{item.path}: ok, depth {item.score} %{lacks}")


def _as_json(item: Checked) -> dict[str, Any]:
    problems = [{"line": problem.line, "text": problem.text} for problem in item.problems]
    return {"path": str(item.path), "problems": problems, "depth": item.score, "missing": list(item.missing)}


@app.command("try")
@with_hub
async def try_endpoint(
    hub: Trunkline,
    integration: Annotated[str, typer.Argument(help="An integration, or a connector with one integration.")],
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help="Parameters, as with `trunkline call`."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Call an endpoint for real, and propose lines for the connector's file from the answer."""
    name = await _integration_of(hub, integration)
    params = parse_params(values or [], await input_schema(hub, name, endpoint))
    trace, refusal = await _trace(hub, name, endpoint, params)
    answer, headers, status = _last_answer(trace)
    found = propose(answer, headers, status)
    if as_json:
        lines = [{"part": item.part, "line": item.line, "reason": item.reason} for item in found]
        output.show_json({"status": status, "answer": answer, "proposals": lines})
    else:
        output.say(output.dumps(answer))
        rows = [(item.part, item.line, item.reason) for item in found]
        output.show_table(("part", "line to paste", "because"), rows, "Nothing to propose from this answer.")
    if refusal is not None:
        raise refusal


async def _integration_of(hub: Trunkline, name: str) -> str:
    """Return the integration of this name, or the only one of the connector of this name."""
    try:
        return str((await hub.integrations.get(name))["name"])
    except NotFound:
        found = [item["name"] async for item in hub.integrations.all(connector=name)]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise Invalid(f"{name} has several integrations; name one: {', '.join(found)}")
    raise NotFound(f"No integration, and no connector with an integration, is named {name!r}")


async def _trace(
    hub: Trunkline, integration: str, endpoint: str, params: dict[str, Any]
) -> tuple[Mapping[str, Any], RemoteFailed | None]:
    try:
        return (await hub.call(integration, endpoint, params, trace=True)).get("trace") or {}, None
    except RemoteFailed as error:
        return error.trace or {}, error


def _last_answer(trace: Mapping[str, Any]) -> tuple[Any, Mapping[str, str], int]:
    exchanges = trace.get("exchanges") or [{}]
    response = exchanges[-1].get("response") or {}
    answer = (trace.get("stages") or {}).get("raw_response")
    return answer, response.get("headers") or {}, int(response.get("status") or 200)


@app.command()
def new(
    connector: Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits and _.")],
    base_url: Annotated[str, typer.Option(help="Address of the service's API.")] = "https://api.example.com",
    name: Annotated[str | None, typer.Option(help="The service's name.")] = None,
    auth: Annotated[str, typer.Option(help=f"One of: {', '.join(AUTH_CHOICES)}.")] = AUTH_CHOICES[0],
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to write it: TRUNKLINE_CONNECTORS_DIR, else here.")
    ] = None,
) -> None:
    """Write a first connector file, valid as it is. No hub is needed."""
    if not NAME.fullmatch(connector):
        raise Invalid(f"{connector!r} is no connector id: lower-case letters, digits and '_', a letter first")
    if auth not in AUTH_CHOICES:
        raise Invalid(f"--auth takes one of: {', '.join(AUTH_CHOICES)}")
    text = new_manifest_text(name or connector.replace("_", " ").title(), base_url, auth)
    path = (folder or Settings.load().connectors_dir or Path()) / f"{connector}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path} exists; it is left as it is") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error
    output.say(str(path))
    output.note(f"Check it with `trunkline connector check {path}`.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of connector files, for editors."""
    output.show_json(json_schema())
