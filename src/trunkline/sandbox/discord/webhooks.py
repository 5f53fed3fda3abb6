"""What Discord sends by itself: interactions, signed with the application's Ed25519 key."""

from datetime import datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trunkline.sandbox.service import Outgoing

APPLICATION, GUILD = "845027738276462632", "197038439483310086"


def public_key(private_key: str) -> str:
    """Return the public half of a key, as the developer portal shows it: 64 hexadecimal digits."""
    return _key(private_key).public_key().public_bytes_raw().hex()


def signed(private_key: str, at: datetime, document: dict[str, Any]) -> Outgoing:
    """Sign as Discord does: Ed25519 over the timestamp and the body."""
    body = orjson.dumps(document)
    timestamp = str(int(at.timestamp()))
    signature = _key(private_key).sign(timestamp.encode() + body).hex()
    headers = {"Content-Type": "application/json", "X-Signature-Timestamp": timestamp}
    return Outgoing(body, headers, {"X-Signature-Ed25519": signature})


def interaction(kind: int, interaction_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make an interaction: 1 is a ping, 2 a command, 3 a button.

    Options are `name` of the command, `custom_id` of the button, `channel_id`, `user`.
    """
    shared = {
        "id": interaction_id,
        "application_id": APPLICATION,
        "type": kind,
        "version": 1,
        "token": "t" * 32,
    }
    if kind == 1:
        return shared
    data = (
        {"id": "771825006014889984", "type": 1, "name": options.get("name", "oncall")}
        if kind == 2
        else {"component_type": 2, "custom_id": options.get("custom_id", "acknowledge")}
    )
    user = {"id": "53908232506183680", "username": options.get("user", "alice")}
    where = {"guild_id": GUILD, "channel_id": options.get("channel_id")}
    return {**shared, **where, "member": {"user": user, "permissions": "0"}, "locale": "en-US", "data": data}


def _key(private_key: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private_key))
