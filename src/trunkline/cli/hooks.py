"""`trunkline hook …`: the addresses that services post their webhooks to, over the native API."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.reach import AsJson, with_hub
from trunkline.client import Trunkline

app = typer.Typer(no_args_is_help=True, help="Where services post their webhooks.")

Named = Annotated[str, typer.Argument(metavar="INTEGRATION", help="Name or id of the integration.")]


@app.command("url")
@with_hub
async def show_url(hub: Trunkline, integration: Named, as_json: AsJson = False) -> None:
    """Print the address to enter at the service, and what is missing before its webhooks are accepted."""
    _show(hub, await hub.integrations.hook(integration), as_json)


@app.command()
@with_hub
async def rotate(hub: Trunkline, integration: Named, as_json: AsJson = False) -> None:
    """Make another address; the one before works for 24 hours more."""
    _show(hub, await hub.integrations.rotate_hook(integration), as_json)


def _show(hub: Trunkline, hook: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(hook)
        return
    output.say(hook["url"] or f"{hub.url}{hook['path']}", "bold")
    if hook["description"]:
        output.note(hook["description"])
    if hook["previous_until"]:
        output.note(f"The address before this one works until {hook['previous_until']}.")
    if hook["missing"]:
        output.note(
            f"Missing: {', '.join(hook['missing'])}. Store it with the integration's credentials.", "yellow"
        )
    if hook["warning"]:
        output.note(hook["warning"], "yellow")
