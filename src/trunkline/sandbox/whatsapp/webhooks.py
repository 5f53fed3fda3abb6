"""What Meta sends by itself: messages and receipts, signed with the app secret, and the handshake by GET."""

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from trunkline.sandbox.service import Outgoing

PHONE_NUMBER_ID, ACCOUNT_ID = "106540352242922", "102290129340398"
DISPLAY_NUMBER = "15550783881"


def signed(secret: str, document: dict[str, Any]) -> Outgoing:
    """Sign as Meta does: HMAC-SHA256 over the body, in which letters and slashes are escaped."""
    body = json.dumps(document, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Outgoing(body, {"Content-Type": "application/json"}, {"X-Hub-Signature-256": f"sha256={digest}"})


def notice(**value: Any) -> dict[str, Any]:
    """Wrap what happened to the number."""
    metadata = {"display_phone_number": DISPLAY_NUMBER, "phone_number_id": PHONE_NUMBER_ID}
    inside = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    entry = {"id": ACCOUNT_ID, "changes": [{"value": inside, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def message(message_id: str, at: datetime, options: dict[str, Any]) -> dict[str, Any]:
    """Make the notice of a text that somebody wrote; options are `from`, `text`, `name`."""
    wa_id = options["from"]
    contact = {"profile": {"name": options.get("name", "Alice")}, "wa_id": wa_id}
    said = {
        "from": wa_id,
        "id": message_id,
        "timestamp": str(int(at.timestamp())),
        "text": {"body": options.get("text", "Hello")},
        "type": "text",
    }
    return notice(contacts=[contact], messages=[said])


def status(message_id: str, at: datetime, options: dict[str, Any]) -> dict[str, Any]:
    """Make the notice of what became of a message; options are `to`, `status`, `code` of a failure."""
    state = options.get("status", "delivered")
    receipt: dict[str, Any] = {
        "id": message_id,
        "status": state,
        "timestamp": str(int(at.timestamp())),
        "recipient_id": options["to"],
    }
    if state == "failed":
        receipt["errors"] = [{"code": options.get("code", 131026), "title": "Message undeliverable"}]
    return notice(statuses=[receipt])


def handshake(verify_token: str, challenge: str) -> Outgoing:
    """Ask, as the dashboard does, whether the address is ours; the answer must be the challenge."""
    query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
    return Outgoing(b"", {}, {}, method="GET", query=query)
