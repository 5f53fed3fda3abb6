"""`trunkline key …`: API keys of the workspace over the native API, and the rotation of the master key."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trunkline.cli import output
from trunkline.cli.reach import AsJson, with_hub
from trunkline.cli.rotation import rotate_master_key
from trunkline.client import Trunkline
from trunkline.errors import Invalid

_DEFAULT_DAYS = 90

app = typer.Typer(no_args_is_help=True, help="API keys of the workspace, and the master key's rotation.")

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The public id, ak_…")]
Days = Annotated[int | None, typer.Option(min=1, max=90, help="Days until it expires; 90 by default.")]
NoExpiry = Annotated[bool, typer.Option("--no-expiry", help="Never expires.")]


def _term(days: int | None, no_expiry: bool) -> int | None:
    if no_expiry and days is not None:
        raise Invalid("Give either --days or --no-expiry, not both.")
    return None if no_expiry else days or _DEFAULT_DAYS


@app.command("list")
@with_hub
async def list_keys(
    hub: Trunkline,
    mine: Annotated[bool, typer.Option("--mine", help="Only keys that this key made.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the workspace's API keys; their text is shown only when they are made."""
    items = [item async for item in hub.api_keys.all(mine_only=mine)]
    columns = {
        "key id": "key_id",
        "name": "name",
        "role": "role",
        "expires": "expires_at",
        "last used": "last_used_at",
        "permissions": "permissions",
    }
    output.show_items(items, columns, "No keys.", as_json=as_json)


@app.command()
@with_hub
async def create(
    hub: Trunkline,
    *,
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    role: Annotated[str, typer.Option(help="owner, admin, member or viewer.")] = "member",
    days: Days = None,
    no_expiry: NoExpiry = False,
    permission: Annotated[
        list[str] | None, typer.Option(help="Exactly this, such as Integration.view; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key; its text is shown once."""
    made = await hub.api_keys.create(
        name=name, role=role, duration_days=_term(days, no_expiry), permissions=permission
    )
    _show_once(made, as_json)


@app.command()
@with_hub
async def renew(
    hub: Trunkline,
    key_id: KeyId,
    days: Days = None,
    no_expiry: NoExpiry = False,
    as_json: AsJson = False,
) -> None:
    """Give an API key a new text and a new term; the old text stops working at once."""
    _show_once(await hub.api_keys.rotate(key_id, duration_days=_term(days, no_expiry)), as_json)


@app.command()
@with_hub
async def revoke(hub: Trunkline, key_id: KeyId) -> None:
    """Revoke an API key at once."""
    await hub.api_keys.revoke(key_id)
    output.note(f"Revoked {key_id}.")


app.command("rotate")(rotate_master_key)


def _show_once(made: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(made)
        return
    output.note(
        f"{made['key_id']} ({made['role']}), expires {made.get('expires_at') or 'never'}. Shown once:"
    )
    output.say(str(made["api_key"]), "bold")
