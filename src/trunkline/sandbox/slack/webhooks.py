"""What Slack sends by itself, signed: events, interactions, slash commands, the question about the address."""

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from trunkline.sandbox.service import Outgoing

TEAM, APP = "T0TRUNKLINE", "A0TRUNKLINE"
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"


def signed(secret: str, at: datetime, body: bytes, content_type: str) -> Outgoing:
    """Sign a body as Slack does: HMAC-SHA256 over `v0:{timestamp}:{body}`."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": content_type, "X-Slack-Request-Timestamp": timestamp}
    return Outgoing(body, headers, {"X-Slack-Signature": f"v0={digest}"})


def event(secret: str, at: datetime, inner: dict[str, Any], options: dict[str, Any]) -> Outgoing:
    """Wrap an event; options are `event_id` and `retry` (this is the n-th try)."""
    outer = {
        "token": "deprecated",
        "team_id": TEAM,
        "api_app_id": APP,
        "event": {**inner, "event_ts": ts(at)},
        "type": "event_callback",
        "event_id": options.get("event_id") or "Ev" + secrets.token_hex(5).upper(),
        "event_time": int(at.timestamp()),
        "is_ext_shared_channel": False,
    }
    sent = signed(secret, at, orjson.dumps(outer), _JSON)
    if options.get("retry"):
        sent.headers.update(
            {"X-Slack-Retry-Num": str(options["retry"]), "X-Slack-Retry-Reason": "http_timeout"}
        )
    return sent


def message(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Somebody wrote; options are `channel`, `user`, `text`, `bot_id` and those of `event`."""
    inner = {"type": "message", **_said(at, options), "channel_type": "channel"}
    if options.get("bot_id"):
        inner["bot_id"] = options["bot_id"]
    return event(secret, at, inner, options)


def app_mention(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Somebody named the app; options as for `message`."""
    return event(secret, at, {"type": "app_mention", **_said(at, options)}, options)


def reaction(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Somebody reacted; options are `channel`, `user`, `name`, `ts` and those of `event`."""
    item = {"type": "message", "channel": options.get("channel"), "ts": options.get("ts") or ts(at)}
    inner = {
        "type": "reaction_added",
        "user": options.get("user"),
        "reaction": options.get("name", "eyes"),
        "item": item,
    }
    return event(secret, at, inner, options)


def interaction(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Somebody pressed a button; options are `channel`, `user`, `action_id`, `value`, `trigger_id`."""
    action = {
        "type": "button",
        "action_id": options.get("action_id", "acknowledge"),
        "value": options.get("value", ""),
        "action_ts": ts(at),
    }
    payload = {
        "type": "block_actions",
        "user": {"id": options.get("user"), "username": "alice", "name": "alice", "team_id": TEAM},
        "api_app_id": APP,
        "team": {"id": TEAM, "domain": "trunkline"},
        "channel": {"id": options.get("channel"), "name": "pager"},
        "trigger_id": options.get("trigger_id") or _trigger(),
        "actions": [action],
    }
    return signed(secret, at, urlencode({"payload": orjson.dumps(payload).decode()}).encode(), _FORM)


def command(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Somebody gave a slash command; options are `channel`, `user`, `command`, `text`, `trigger_id`."""
    fields = {
        "team_id": TEAM,
        "channel_id": options.get("channel"),
        "user_id": options.get("user"),
        "user_name": "alice",
        "command": options.get("command", "/oncall"),
        "text": options.get("text", ""),
        "api_app_id": APP,
        "trigger_id": options.get("trigger_id") or _trigger(),
    }
    return signed(secret, at, urlencode(fields).encode(), _FORM)


def url_verification(secret: str, at: datetime, options: dict[str, Any]) -> Outgoing:
    """Ask whether the address answers; the answer must be the option `challenge`."""
    challenge = options.get("challenge") or secrets.token_urlsafe(24)
    body = {"token": "deprecated", "challenge": challenge, "type": "url_verification"}
    return signed(secret, at, orjson.dumps(body), _JSON)


EVENTS = {
    "message": message,
    "app_mention": app_mention,
    "reaction": reaction,
    "interaction": interaction,
    "command": command,
    "url_verification": url_verification,
}


def ts(at: datetime) -> str:
    """Write a time as Slack writes a message's."""
    return f"{int(at.timestamp())}.{at.microsecond:06d}"


def _said(at: datetime, options: dict[str, Any]) -> dict[str, Any]:
    text = options.get("text", "Hello")
    return {
        "user": options.get("user"),
        "text": text,
        "ts": options.get("ts") or ts(at),
        "channel": options.get("channel"),
        "team": TEAM,
    }


def _trigger() -> str:
    return f"{secrets.randbelow(10**13)}.{secrets.token_hex(16)}"
