"""The fake Slack: methods of the Web API, which say no inside a 200, as Slack does."""

import hmac
import itertools
import math
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.sandbox.limits import SteadyRate
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import (
    Build,
    Control,
    RefusedError,
    Service,
    json_response,
    media_type,
    parse_object,
    read_body,
)
from trunkline.sandbox.slack import webhooks
from trunkline.sandbox.slack.webhooks import TEAM, ts

MAX_BODY = 1024 * 1024
MAX_TEXT = 40_000
BURST = 4
_BOT = {"id": "U0TRUNKLINE", "bot_id": "B0TRUNKLINE", "name": "trunkline"}
_TYPES = frozenset({"public_channel", "private_channel", "mpim", "im"})
# These read a form only, as the real ones do; a JSON body is as good as none to them.
_FORM_ONLY = ("conversations.", "users.")
Args = dict[str, Any]


def _no(error: str, **more: Any) -> RefusedError:
    return RefusedError(200, error, detail=more)


class Slack(Service):
    """One workspace with a bot that is in some of its channels."""

    name = "slack"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token")
        self._secret = self.credential("signing_secret")
        self.reset()

    def reset(self) -> None:
        self._rate = SteadyRate(self._clock, 1.0, BURST)
        self._numbers = itertools.count(100)
        self._messages: dict[str, list[dict[str, Any]]] = {}
        self._channels = {
            channel_id: _channel(channel_id, name, **more)
            for channel_id, name, more in (
                ("C0PAGER", "pager", {}),
                ("C0ALERTS", "alerts", {}),
                ("C0OLD", "old", {"is_archived": True}),
                ("C0OTHER", "other-team", {"is_member": False}),
                ("G0SECRET", "war-room", {"is_private": True}),
            )
        }
        self._users = [_user(*who) for who in _PEOPLE]

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": f"{base_url}/api",
            "token": self._token,
            "signing_secret": self._secret,
            "channel": "C0PAGER",
            "user": "U0ALICE",
        }

    def routes(self) -> list[BaseRoute]:
        return [Route("/api/{method}", self._call, methods=["GET", "POST"])]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        said = {429: "ratelimited", 404: "unknown_method"}.get(refused.status, refused.message)
        error = said if refused.status < 500 else "internal_error"
        return json_response(
            {"ok": False, "error": error, **(refused.detail or {})}, refused.status, refused.headers
        )

    def controls(self) -> dict[str, Control]:
        return {"message": self._say, "archive": self._archive}

    def webhooks(self) -> dict[str, Build]:
        return {name: partial(self._send, build) for name, build in webhooks.EVENTS.items()}

    def _send(self, build: Callable[..., Any], options: Args, at: datetime, secret: str | None) -> Any:
        return build(secret or self._secret, at, {"channel": "C0PAGER", "user": "U0ALICE", **options})

    async def _call(self, request: Request) -> Response:
        method = request.path_params["method"]
        handler = self._methods().get(method)
        if handler is None:
            raise _no("unknown_method", req_method=method)
        args = await _arguments(request, method)
        self._check_token(request, args)
        answer = {"ok": True, **handler(args)}
        if media_type(request) == "application/json" and "charset" not in request.headers["content-type"]:
            answer["warning"] = "missing_charset"
            answer["response_metadata"] = {"warnings": ["missing_charset"]}
        return json_response(answer)

    def _methods(self) -> dict[str, Callable[[Args], dict[str, Any]]]:
        return {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.delete": self._delete,
            "reactions.add": self._react,
            "conversations.list": self._list_channels,
            "conversations.info": lambda args: {"channel": self._find(args)},
            "conversations.history": self._history,
            "users.list": lambda args: _page("members", self._users, args, most=1_000),
            "users.lookupByEmail": self._lookup,
        }

    def _check_token(self, request: Request, args: Args) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else args.get("token", "")
        if not token:
            raise _no("not_authed")
        if not hmac.compare_digest(str(token).encode(), self._token.encode()):
            raise _no("invalid_auth")

    def _auth_test(self, args: Args) -> dict[str, Any]:
        del args
        who = {"user": _BOT["name"], "user_id": _BOT["id"], "bot_id": _BOT["bot_id"]}
        return {"url": "https://trunkline.slack.com/", "team": "Trunkline", "team_id": TEAM, **who}

    def _find(self, args: Args) -> dict[str, Any]:
        """Return the channel that is meant: by id, by name, or the direct messages with a person."""
        wanted = args.get("channel")
        if not wanted:
            raise _invalid("missing required field: channel")
        if any(user["id"] == wanted for user in self._users):
            wanted = "D" + wanted[1:]
            self._channels.setdefault(wanted, _channel(wanted, None, is_im=True))
        for channel in self._channels.values():
            if wanted in (channel["id"], channel["name"], f"#{channel['name']}"):
                return channel
        raise _no("channel_not_found")

    def _open_channel(self, args: Args) -> dict[str, Any]:
        channel = self._find(args)
        if channel["is_archived"]:
            raise _no("is_archived")
        if not channel["is_member"]:
            raise _no("not_in_channel")
        return channel

    def _post(self, args: Args) -> dict[str, Any]:
        channel = self._open_channel(args)
        text = _text(args)
        if wait := self._rate.wait(channel["id"]):
            raise RefusedError(429, headers=self.rate_limit_headers(math.ceil(wait)))
        self._rate.count(channel["id"])
        message = self._keep(channel["id"], text, _BOT["id"], bot_id=_BOT["bot_id"])
        for name in ("thread_ts", "blocks", "mrkdwn", "link_names", "parse", "unfurl_links"):
            if args.get(name) is not None:
                message[name] = args[name]
        return {"channel": channel["id"], "ts": message["ts"], "message": message}

    def _keep(self, channel_id: str, text: str, user: str, **more: Any) -> dict[str, Any]:
        stamp = f"{int(self._clock.now().timestamp())}.{next(self._numbers):06d}"
        message = {"type": "message", "user": user, "text": text, "ts": stamp, "team": TEAM, **more}
        self._messages.setdefault(channel_id, []).append(message)
        return message

    def _own(self, args: Args, field: str, refusal: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        channel = self._find(args)
        messages = self._messages.get(channel["id"], [])
        found = next((one for one in messages if one["ts"] == args.get(field)), None)
        if found is None:
            raise _no("message_not_found")
        if refusal and found.get("bot_id") != _BOT["bot_id"]:
            raise _no(refusal)
        return found, messages

    def _update(self, args: Args) -> dict[str, Any]:
        message, _ = self._own(args, "ts", "cant_update_message")
        message["text"] = _text(args)
        message["edited"] = {"user": _BOT["id"], "ts": ts(self._clock.now())}
        return {"channel": args["channel"], "ts": message["ts"], "text": message["text"]}

    def _delete(self, args: Args) -> dict[str, Any]:
        message, messages = self._own(args, "ts", "cant_delete_message")
        messages.remove(message)
        return {"channel": args["channel"], "ts": message["ts"]}

    def _react(self, args: Args) -> dict[str, Any]:
        name = args.get("name")
        if not isinstance(name, str) or not name or ":" in name:
            raise _no("invalid_name")
        message, _ = self._own(args, "timestamp", "")
        reactions = message.setdefault("reactions", [])
        if any(one["name"] == name for one in reactions):
            raise _no("already_reacted")
        reactions.append({"name": name, "users": [_BOT["id"]], "count": 1})
        return {}

    def _list_channels(self, args: Args) -> dict[str, Any]:
        types = {part.strip() for part in args.get("types", "public_channel").split(",")}
        if not types <= _TYPES:
            raise _no("invalid_types")
        without = args.get("exclude_archived") in {"true", "1"}
        found = [
            channel
            for channel in self._channels.values()
            if _type_of(channel) in types and not (without and channel["is_archived"])
        ]
        return _page("channels", found, args)

    def _history(self, args: Args) -> dict[str, Any]:
        channel = self._open_channel(args)
        oldest, latest = args.get("oldest", "0"), args.get("latest", "9999999999")
        try:
            low, high = float(oldest), float(latest)
        except ValueError:
            raise _no("invalid_ts_oldest") from None
        kept = [one for one in self._messages.get(channel["id"], []) if low < float(one["ts"]) < high]
        page = _page("messages", kept[::-1], args)
        return {**page, "has_more": bool(page["response_metadata"]["next_cursor"])}

    def _lookup(self, args: Args) -> dict[str, Any]:
        for user in self._users:
            if user["profile"]["email"] == args.get("email"):
                return {"user": user}
        raise _no("users_not_found")

    def _say(self, order: Args) -> dict[str, Any]:
        channel = self._find(order)
        return self._keep(channel["id"], str(order.get("text", "Hello")), str(order.get("user", "U0ALICE")))

    def _archive(self, order: Args) -> dict[str, Any]:
        channel = self._find(order)
        channel["is_archived"] = True
        return channel


_PEOPLE = (
    ("U0ALICE", "alice", "Alice Archer"),
    ("U0BOB", "bob", "Bob Baker"),
    ("U0CAROL", "carol", "Carol Cook"),
)


def _user(user_id: str, name: str, real_name: str) -> dict[str, Any]:
    profile = {"email": f"{name}@example.com", "real_name": real_name}
    return {
        "id": user_id,
        "team_id": TEAM,
        "name": name,
        "real_name": real_name,
        "tz": "Europe/London",
        "is_bot": False,
        "deleted": False,
        "profile": profile,
    }


def _channel(channel_id: str, name: str | None, **more: bool) -> dict[str, Any]:
    flags = {"is_archived": False, "is_private": False, "is_member": True, "is_im": False, **more}
    return {"id": channel_id, "name": name, "is_channel": not flags["is_im"], **flags}


def _type_of(channel: dict[str, Any]) -> str:
    if channel["is_im"]:
        return "im"
    return "private_channel" if channel["is_private"] else "public_channel"


def _invalid(problem: str) -> RefusedError:
    return _no("invalid_arguments", response_metadata={"messages": [f"[ERROR] {problem}"]})


def _text(args: Args) -> str:
    text = args.get("text", "")
    if not isinstance(text, str):
        raise _invalid("must be a string [json-pointer:/text]")
    if not text.strip() and not args.get("blocks"):
        raise _no("no_text")
    if len(text) > MAX_TEXT:
        raise _no("msg_too_long")
    return text


async def _arguments(request: Request, method: str) -> Args:
    """Read the arguments: of a form, the query, or JSON where the method takes it."""
    args: Args = dict(request.query_params)
    raw = await read_body(request, MAX_BODY)
    kind = media_type(request)
    if kind == "application/json":
        document = parse_object(raw or b"{}", _no("invalid_json"), _no("json_not_object"))
        return args | ({} if method.startswith(_FORM_ONLY) else document)
    if raw and kind != "application/x-www-form-urlencoded":
        raise _no("invalid_post_type" if kind else "missing_post_type")
    return args | dict(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))


def _page(name: str, items: list[Any], args: Args, *, most: int = 100) -> dict[str, Any]:
    """Return one page with the cursor of the next, which is empty at the end."""
    limit, cursor = str(args.get("limit", most)), str(args.get("cursor", ""))
    if not (limit.isdecimal() and 1 <= int(limit) <= 1_000):
        raise _no("invalid_limit")
    start = cursor.removeprefix("next:") or "0"
    if (cursor and not cursor.startswith("next:")) or not start.isdecimal():
        raise _no("invalid_cursor")
    end = int(start) + int(limit)
    following = f"next:{end}" if end < len(items) else ""
    return {name: items[int(start) : end], "response_metadata": {"next_cursor": following}}
