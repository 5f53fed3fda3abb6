"""What Telegram sends by itself: updates, with the secret of setWebhook in a header."""

import secrets
from datetime import datetime
from typing import Any

import orjson

from trunkline.sandbox.service import Outgoing

PEOPLE = {1001: "Alice", 1002: "Bob"}


def update(kind: str, at: datetime, chat: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Make an update; options are `update_id`, `from`, `text`, `message_id`, `data`."""
    update_id = options.get("update_id", secrets.randbelow(2**31))
    who = options.get("from", 1001)
    person = {"id": who, "is_bot": False, "first_name": PEOPLE.get(who, "Somebody"), "language_code": "en"}
    message = {
        "message_id": options.get("message_id", update_id % 100_000),
        "from": person,
        "chat": chat,
        "date": int(at.timestamp()),
        "text": options.get("text", "Hello"),
    }
    if kind == "edited_message":
        message["edit_date"] = message["date"]
    if kind == "callback_query":
        button = {"id": secrets.token_hex(9), "from": person, "message": message, "chat_instance": "1"}
        return {"update_id": update_id, kind: {**button, "data": options.get("data", "acknowledge")}}
    return {"update_id": update_id, kind: message}


def carrying(secret: str, document: dict[str, Any]) -> Outgoing:
    """Send an update with the secret that proves it."""
    proof = {"X-Telegram-Bot-Api-Secret-Token": secret}
    return Outgoing(orjson.dumps(document), {"Content-Type": "application/json"}, proof)
