"""The fake Discord: the HTTP API v10 for a bot, its form errors, and rate limits by bucket, told in headers."""

import hmac
import math
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import Invalid
from trunkline.sandbox.discord.webhooks import GUILD, interaction, public_key, signed
from trunkline.sandbox.limits import Place, Window
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Build,
    Control,
    Outgoing,
    RefusedError,
    Service,
    json_response,
    media_type,
    parse_object,
    read_body,
)

MAX_BODY = 1024 * 1024
MAX_TEXT = 2_000
MAX_NONCE = 25
NONCE_LIVES = timedelta(minutes=5)
PER_CHANNEL, PER_CHANNEL_SECONDS = 5, 5.0
_EPOCH_MS = 1_420_070_400_000
_TEXT, _VOICE, _CATEGORY = 0, 2, 4
_BOT = {"id": "845027738276462632", "username": "trunkline", "discriminator": "0000", "bot": True}
_TOO_LARGE = "Must be {} or fewer in length."
Handler = Callable[[Request], Any]


def _form_error(field: str, code: str, message: str) -> RefusedError:
    errors = {field: {"_errors": [{"code": code, "message": message}]}}
    return RefusedError(400, "Invalid Form Body", code=50035, detail={"errors": errors})


class Discord(Service):
    """One bot in one server."""

    name = "discord"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token")
        self._private_key = self.credential("private_key", lambda: secrets.token_hex(32))
        self.reset()

    def reset(self) -> None:
        self._global = Window(self._clock, 50, 1.0)
        self._buckets = Window(self._clock, PER_CHANNEL, PER_CHANNEL_SECONDS)
        self._made = 0
        self._messages: dict[str, dict[str, dict[str, Any]]] = {}
        self._nonces: dict[str, tuple[datetime, dict[str, Any]]] = {}
        self._channels = {
            channel_id: {"id": channel_id, "type": kind, "name": name, "guild_id": GUILD, "topic": None}
            for channel_id, kind, name in (
                ("41771983423143937", _TEXT, "alerts"),
                ("41771983423143938", _TEXT, "pager"),
                ("41771983423143939", _TEXT, "private"),
                ("41771983423143940", _VOICE, "war-room"),
                ("41771983423143941", _CATEGORY, "Operations"),
            )
        }

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": f"{base_url}/api/v10",
            "token": self._token,
            "public_key": public_key(self._private_key),
            "channel_id": "41771983423143937",
            "guild_id": GUILD,
        }

    def routes(self) -> list[BaseRoute]:
        message = "/channels/{channel_id}/messages/{message_id}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/users/@me", lambda _request: _BOT),
            ("GET", "/users/@me/guilds", lambda _request: [self._guild()]),
            ("GET", "/guilds/{guild_id}/channels", self._list_channels),
            ("GET", "/channels/{channel_id}", self._get_channel),
            ("GET", "/channels/{channel_id}/messages", self._list_messages),
            ("POST", "/channels/{channel_id}/messages", self._create),
            ("GET", message, self._get_message),
            ("PATCH", message, self._edit),
            ("DELETE", message, self._delete),
            ("PUT", message + "/reactions/{emoji}/@me", self._react),
        ]
        return [Route(f"/api/v10{path}", self._guarded(run, path), methods=[how]) for how, path, run in table]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        body: dict[str, Any] = {
            "message": refused.message,
            "code": refused.code or 0,
            **(refused.detail or {}),
        }
        if refused.status == 429 and "retry_after" not in body:
            body = {"message": "You are being rate limited.", "global": False}
            body["retry_after"] = float(refused.headers["Retry-After"])
        elif refused.status in {401, 404, 405} and refused.code is None:
            body["message"] = f"{refused.status}: {refused.message}"
        return json_response(body, refused.status, refused.headers)

    def controls(self) -> dict[str, Control]:
        return {"message": self._say}

    def webhooks(self) -> dict[str, Build]:
        return {
            name: partial(self._send, kind) for name, kind in (("ping", 1), ("command", 2), ("button", 3))
        }

    def _send(self, kind: int, options: dict[str, Any], at: datetime, secret: str | None) -> Outgoing:
        """Sign an interaction; the secret is a private key of 64 hexadecimal digits."""
        key = secret or self._private_key
        try:
            options = {"channel_id": "41771983423143937", **options}
            return signed(key, at, interaction(kind, options.get("id") or self._new_id(), options))
        except ValueError as error:
            raise Invalid.field(("secret",), "must be a private key of 64 hexadecimal digits") from error

    def _guarded(self, run: Handler, route: str) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bot" or not hmac.compare_digest(given.encode(), self._token.encode()):
                raise RefusedError(401)
            if not request.headers.get("user-agent"):
                raise RefusedError(403, "internal network error", code=40333)
            for name, value in request.path_params.items():
                if name != "emoji" and not (value.isdecimal() and len(value) <= 20):
                    raise _form_error(name, "NUMBER_TYPE_COERCE", f'Value "{value[:50]}" is not snowflake.')
            headers = self._count(request, route)
            request.state.document = await _document(request) if request.method in {"POST", "PATCH"} else {}
            answer = run(request)
            response = Response(status_code=204) if answer is None else json_response(answer)
            response.headers.update(headers)
            return response

        return guarded

    def _count(self, request: Request, route: str) -> dict[str, str]:
        """Count the request in its bucket, and all of them together; reading has no bucket of its own."""
        everything = self._global.take("bot")
        if not everything.admitted:
            headers = {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}
            raise _limited(everything, headers, is_global=True)
        if request.method == "GET":
            return {}
        bucket = f"{request.method} {route}"
        place = self._buckets.take(f"{bucket} {request.path_params['channel_id']}")
        reset = self._clock.now().timestamp() + place.reset_after
        headers = {
            "X-RateLimit-Limit": str(PER_CHANNEL),
            "X-RateLimit-Remaining": str(place.remaining),
            "X-RateLimit-Reset": f"{reset:.3f}",
            "X-RateLimit-Reset-After": f"{place.reset_after:.3f}",
            "X-RateLimit-Bucket": f"{abs(hash(bucket)):016x}"[:16],
        }
        if not place.admitted:
            raise _limited(place, {**headers, "X-RateLimit-Scope": "user"}, is_global=False)
        return headers

    def _guild(self) -> dict[str, Any]:
        return {"id": GUILD, "name": "Trunkline", "owner": False, "permissions": "68608"}

    def _list_channels(self, request: Request) -> list[dict[str, Any]]:
        if request.path_params["guild_id"] != GUILD:
            raise RefusedError(404, "Unknown Guild", code=10004)
        return list(self._channels.values())

    def _get_channel(self, request: Request) -> dict[str, Any]:
        channel = self._channels.get(request.path_params["channel_id"])
        if channel is None:
            raise RefusedError(404, "Unknown Channel", code=10003)
        if channel["name"] == "private":
            raise RefusedError(403, "Missing Access", code=50001)
        return channel

    def _list_messages(self, request: Request) -> list[dict[str, Any]]:
        channel = self._get_channel(request)
        query = request.query_params
        limit = query.get("limit", "50")
        if not (limit.isdecimal() and 1 <= int(limit) <= 100):
            raise _form_error("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 100.")
        low, high = query.get("after", "0"), query.get("before", str(2**64))
        if not (low.isdecimal() and high.isdecimal()):
            raise _form_error("after", "NUMBER_TYPE_COERCE", "Value is not snowflake.")
        kept = list(self._messages.get(channel["id"], {}).values())
        found = [one for one in kept if int(low) < int(one["id"]) < int(high)]
        return (found[: int(limit)] if "after" in query else found[-int(limit) :])[::-1]

    def _get_message(self, request: Request) -> dict[str, Any]:
        channel = self._get_channel(request)
        found = self._messages.get(channel["id"], {}).get(request.path_params["message_id"])
        if found is None:
            raise RefusedError(404, "Unknown Message", code=10008)
        return found

    def _create(self, request: Request) -> dict[str, Any]:
        channel, document = self._get_channel(request), request.state.document
        if channel["type"] == _CATEGORY:
            raise RefusedError(400, "Cannot send messages in a non-text channel", code=50008)
        content, nonce = _content(document), document.get("nonce")
        if nonce is not None and len(str(nonce)) > MAX_NONCE:
            raise _form_error("nonce", "BASE_TYPE_MAX_LENGTH", _TOO_LARGE.format(MAX_NONCE))
        known = (
            self._nonces.get(f"{channel['id']} {nonce}") if document.get("enforce_nonce") and nonce else None
        )
        if known is not None and self._clock.now() - known[0] < NONCE_LIVES:
            return known[1]
        replied = (document.get("message_reference") or {}).get("message_id")
        if replied is not None and str(replied) not in self._messages.get(channel["id"], {}):
            raise _form_error("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
        message = self._keep(channel["id"], content, _BOT, document)
        if nonce is not None:
            message["nonce"] = nonce
            self._nonces[f"{channel['id']} {nonce}"] = (self._clock.now(), message)
        return message

    def _keep(
        self, channel_id: str, content: str, author: dict[str, Any], document: dict[str, Any]
    ) -> dict[str, Any]:
        allowed = document.get("allowed_mentions")
        everyone = allowed is None or "everyone" in str(allowed.get("parse"))
        message = {
            "id": self._new_id(),
            "channel_id": channel_id,
            "author": author,
            "content": content,
            "timestamp": self._clock.now().isoformat(),
            "edited_timestamp": None,
            "mention_everyone": everyone and ("@everyone" in content or "@here" in content),
            "flags": document.get("flags", 0),
            "reactions": [],
        }
        self._messages.setdefault(channel_id, {})[message["id"]] = message
        return message

    def _new_id(self) -> str:
        self._made += 1
        return str((int(self._clock.now().timestamp() * 1_000) - _EPOCH_MS << 22) + self._made)

    def _edit(self, request: Request) -> dict[str, Any]:
        message = self._get_message(request)
        if message["author"] is not _BOT:
            raise RefusedError(403, "Cannot edit a message authored by another user", code=50005)
        message.update(
            content=_content(request.state.document), edited_timestamp=self._clock.now().isoformat()
        )
        return message

    def _delete(self, request: Request) -> None:
        message = self._get_message(request)
        if message["author"] is not _BOT:
            raise RefusedError(403, "Missing Permissions", code=50013)
        del self._messages[message["channel_id"]][message["id"]]

    def _react(self, request: Request) -> None:
        emoji = request.path_params["emoji"]
        if emoji.isascii() and ":" not in emoji:
            raise RefusedError(400, "Unknown Emoji", code=10014)
        self._get_message(request)["reactions"].append({"count": 1, "me": True, "emoji": {"name": emoji}})

    def _say(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have somebody write in a channel."""
        author = {"id": "53908232506183680", "username": str(order.get("user", "alice"))}
        channel_id = order.get("channel_id", "41771983423143937")
        if channel_id not in self._channels:
            raise Invalid.field(("channel_id",), f"must be one of: {', '.join(self._channels)}")
        return self._keep(channel_id, str(order.get("content", "Hello")), author, {})


def _limited(place: Place, headers: dict[str, str], *, is_global: bool) -> RefusedError:
    detail = {"retry_after": round(place.reset_after, 3), "global": is_global}
    headers = {**headers, "Retry-After": str(math.ceil(place.reset_after))}
    return RefusedError(429, "You are being rate limited.", detail=detail, headers=headers)


def _content(document: dict[str, Any]) -> str:
    content = document.get("content", "")
    if not isinstance(content, str):
        raise _form_error("content", "STRING_TYPE_CONVERT", "Could not interpret as a string.")
    if not content.strip():
        raise RefusedError(400, "Cannot send an empty message", code=50006)
    if len(content) > MAX_TEXT:
        raise _form_error("content", "BASE_TYPE_MAX_LENGTH", _TOO_LARGE.format(MAX_TEXT))
    return content


async def _document(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) != "application/json":
        text = "Expected \"Content-Type\" header to be one of {'application/json'}."
        raise RefusedError(400, text, code=50035)
    document = parse_object(raw, RefusedError(400, "The request body contains invalid JSON.", code=50109))
    for name in ("allowed_mentions", "message_reference"):
        if not isinstance(document.get(name, {}), dict):
            raise _form_error(name, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
    return document
