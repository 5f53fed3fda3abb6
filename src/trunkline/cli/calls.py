"""`trunkline call`: call an endpoint of an integration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.params import parse_params, read_object
from trunkline.cli.reach import AsJson, with_hub
from trunkline.cli.stages import show_exchanges, show_result, show_stages
from trunkline.client import Trunkline
from trunkline.errors import NotFound, RemoteFailed


@with_hub
async def call(
    hub: Trunkline,
    integration: Annotated[str, typer.Argument(help="Name or id of the integration.")],
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help="Parameters: NAME=VALUE, or NAME:=JSON to be exact."),
    ] = None,
    *,
    params: Annotated[
        Path | None, typer.Option(help="JSON or YAML file with parameters; - is stdin.", allow_dash=True)
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Also show what was sent and received.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Show the value after each stage instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Call an endpoint of an integration for real."""
    given = read_object(params) if params else {}
    given |= parse_params(values or [], await input_schema(hub, integration, endpoint))
    if test:
        await _test(hub, integration, endpoint, given, as_json)
        return
    try:
        answer = await hub.call(integration, endpoint, given, trace=trace)
    except RemoteFailed as error:
        _show_failure(error, as_json)
        raise
    _show(answer, as_json)


async def input_schema(hub: Trunkline, integration: str, endpoint: str) -> Mapping[str, Any]:
    """Return the input schema of an endpoint, of the integration itself or of its connector.

    Raises:
        NotFound: listing the endpoints there are.
    """
    found = await hub.integrations.get(integration)
    endpoints = list(found.get("endpoints") or [])
    if found.get("connector") and endpoint not in {item["name"] for item in endpoints}:
        endpoints += (await hub.connector(found["connector"])).get("endpoints") or []
    for item in endpoints:
        if item["name"] == endpoint:
            return item.get("input_schema") or {}
    names = ", ".join(sorted({item["name"] for item in endpoints})) or "none"
    raise NotFound(f"{integration} has no endpoint {endpoint!r}; it has: {names}")


async def _test(
    hub: Trunkline, integration: str, endpoint: str, params: dict[str, Any], as_json: bool
) -> None:
    answer = await hub.test(integration, endpoint, params)
    if as_json:
        output.show_json(answer)
    else:
        show_stages(answer)
    if answer.get("error"):
        raise typer.Exit(output.ExitCode.FAILED)


def _show(answer: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(answer)
        return
    show_result(answer)
    if answer.get("trace"):
        show_exchanges(answer["trace"])


def _show_failure(error: RemoteFailed, as_json: bool) -> None:
    if as_json:
        output.show_json(
            {
                "error": error.message,
                "service": error.service,
                "status": error.status,
                "retryable": error.retryable,
                "retries": error.retries,
                "trace": error.trace,
            }
        )
    elif error.trace:
        show_exchanges(error.trace)
