"""The fake Telegram: the Bot API with the token in its paths, and the limits per chat and per bot."""

import hmac
import math
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import Invalid
from trunkline.sandbox.limits import SteadyRate
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
from trunkline.sandbox.telegram.webhooks import PEOPLE, carrying, update

MAX_BODY = 1024 * 1024
MAX_TEXT = 4_096
CHAT_BURST = 3
GROUP = -100200300
KINDS = ("message", "edited_message", "channel_post", "callback_query")
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,80}")
Args = dict[str, Any]


def _bad(problem: str) -> RefusedError:
    return RefusedError(400, f"Bad Request: {problem}")


class Telegram(Service):
    """One bot and the chats that it is in."""

    name = "telegram"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token", lambda: f"123456789:{secrets.token_urlsafe(26)}")
        self._secret = self.credential("webhook_secret")
        self.reset()

    def reset(self) -> None:
        self._per_chat = SteadyRate(self._clock, 1.0, CHAT_BURST)
        self._per_group = SteadyRate(self._clock, 3.0, 20)
        self._per_bot = SteadyRate(self._clock, 1 / 30, 30)
        self._chats = _chats()
        self._closed: dict[int, str] = {}
        self._messages: dict[tuple[int, int], dict[str, Any]] = {}
        self._updates: list[dict[str, Any]] = []
        self._next_update = 700_000_001
        self._callbacks: set[str] = set()
        self._hook: dict[str, Any] = {"url": ""}

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": base_url,
            "token": self._token,
            "webhook_secret": self._secret,
            "chat_id": str(GROUP),
            "person_id": "1001",
        }

    def routes(self) -> list[BaseRoute]:
        return [Route("/bot{token}/{method}", self._call, methods=["GET", "POST"])]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        body: dict[str, Any] = {"ok": False, "error_code": refused.status, "description": refused.message}
        if refused.status == 429:
            seconds = int(refused.headers["Retry-After"])
            body["description"] = f"Too Many Requests: retry after {seconds}"
            body["parameters"] = {"retry_after": seconds}
        return json_response(body, refused.status, refused.headers)

    def controls(self) -> dict[str, Control]:
        return {"message": self._say, "chat": self._add_chat, "leave": self._leave}

    def webhooks(self) -> dict[str, Build]:
        return {kind: partial(self._send, kind) for kind in KINDS}

    def _send(self, kind: str, options: Args, at: datetime, secret: str | None) -> Outgoing:
        """Make an update; options are those of `update`, and `chat_id`."""
        return carrying(secret or self._secret, self._update(kind, options, at))

    def _update(self, kind: str, options: Args, at: datetime) -> dict[str, Any]:
        chat = self._find(
            {"chat_id": options.get("chat_id", "@trunkline_news" if kind == KINDS[2] else 1001)}
        )
        made = update(kind, at, chat, {"update_id": self._next_update, **options})
        self._next_update += 1
        if kind == "callback_query":
            self._callbacks.add(made[kind]["id"])
        return made

    async def _call(self, request: Request) -> Response:
        token, method = request.path_params["token"], request.path_params["method"]
        if not _TOKEN.fullmatch(token):
            raise RefusedError(404, "Not Found")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise RefusedError(401, "Unauthorized")
        handler = self._methods().get(method.lower())
        if handler is None:
            raise RefusedError(404, "Not Found: method not found")
        return json_response({"ok": True, "result": handler(await _arguments(request))})

    def _methods(self) -> dict[str, Callable[[Args], Any]]:
        return {
            "getme": self._me,
            "sendmessage": self._send_message,
            "editmessagetext": self._edit,
            "deletemessage": self._delete,
            "answercallbackquery": self._answer,
            "getchat": self._find,
            "getchatadministrators": self._administrators,
            "getupdates": self._get_updates,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": lambda _args: {**self._hook, "pending_update_count": len(self._updates)},
        }

    def _me(self, args: Args) -> dict[str, Any]:
        del args
        bot = {"id": int(self._token.partition(":")[0]), "is_bot": True, "first_name": "Trunkline"}
        return {**bot, "username": "trunkline_bot"}

    def _find(self, args: Args) -> dict[str, Any]:
        wanted = str(args.get("chat_id", ""))
        if not wanted:
            raise _bad("chat_id is empty")
        for chat in self._chats:
            if wanted in (str(chat["id"]), f"@{chat.get('username')}"):
                if chat["id"] in self._closed:
                    raise RefusedError(403, f"Forbidden: {self._closed[chat['id']]}")
                return chat
        raise _bad("chat not found")

    def _send_message(self, args: Args) -> dict[str, Any]:
        text = _text(args)
        chat = self._find(args)
        self._take_turn(chat)
        message_id = len(self._messages) + 1
        message = {
            "message_id": message_id,
            "from": self._me({}),
            "chat": chat,
            "date": int(self._clock.now().timestamp()),
            "text": text,
        }
        replied = _object(args, "reply_parameters").get("message_id")
        if replied is not None:
            if not isinstance(replied, int) or (chat["id"], replied) not in self._messages:
                raise _bad("message to be replied not found")
            message["reply_to_message"] = self._messages[chat["id"], replied]
        for name in ("link_preview_options", "reply_markup", "message_thread_id"):
            if args.get(name) is not None:
                message[name] = args[name]
        self._messages[chat["id"], message_id] = message
        return message

    def _take_turn(self, chat: dict[str, Any]) -> None:
        limits = [(self._per_bot, "bot"), (self._per_chat, str(chat["id"]))]
        if chat["type"] != "private":
            limits.append((self._per_group, str(chat["id"])))
        wait = max(limit.wait(key) for limit, key in limits)
        if wait:
            raise RefusedError(429, headers=self.rate_limit_headers(math.ceil(wait)))
        for limit, key in limits:
            limit.count(key)

    def _message(self, args: Args, problem: str) -> dict[str, Any]:
        chat = self._find(args)
        found = str(args.get("message_id", ""))
        message = self._messages.get((chat["id"], int(found))) if found.isdecimal() else None
        if message is None:
            raise _bad(problem)
        return message

    def _edit(self, args: Args) -> dict[str, Any]:
        text = _text(args)
        message = self._message(args, "message to edit not found")
        if not message["from"]["is_bot"]:
            raise _bad("message can't be edited")
        if message["text"] == text:
            same = "specified new message content and reply markup are exactly the same as a current content"
            raise _bad(f"message is not modified: {same} and reply markup of the message")
        message.update(text=text, edit_date=int(self._clock.now().timestamp()))
        return message

    def _delete(self, args: Args) -> bool:
        message = self._message(args, "message to delete not found")
        del self._messages[message["chat"]["id"], message["message_id"]]
        return True

    def _answer(self, args: Args) -> bool:
        if str(args.get("callback_query_id")) not in self._callbacks:
            raise _bad("query is too old and response timeout expired or query ID is invalid")
        return True

    def _administrators(self, args: Args) -> list[dict[str, Any]]:
        if self._find(args)["type"] == "private":
            raise _bad("there are no administrators in the private chat")
        return [{"user": {"id": 1001, "is_bot": False, "first_name": "Alice"}, "status": "creator"}]

    def _get_updates(self, args: Args) -> list[dict[str, Any]]:
        if self._hook["url"]:
            text = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            raise RefusedError(409, f"Conflict: {text}")
        try:
            offset, limit = int(args.get("offset", 0)), int(args.get("limit", 100))
        except (TypeError, ValueError):
            offset, limit = 0, 100
        self._updates = [one for one in self._updates if one["update_id"] >= offset]
        return self._updates[: max(1, min(limit, 100))]

    def _set_webhook(self, args: Args) -> bool:
        url, secret = str(args.get("url", "")), str(args.get("secret_token", ""))
        if not url.startswith("https://"):
            raise _bad("bad webhook: An HTTPS URL must be provided for webhook")
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,256}", secret):
            raise _bad("secret token contains unallowed characters")
        self._hook = {"url": url, "has_custom_certificate": False}
        self._secret = secret or self._secret
        return True

    def _delete_webhook(self, args: Args) -> bool:
        del args
        self._hook = {"url": ""}
        return True

    def _say(self, order: Args) -> dict[str, Any]:
        """Have somebody write to the bot, as getUpdates and the `message` webhook tell it."""
        made = self._update("message", order, self._clock.now())
        self._updates.append(made)
        return made

    def _add_chat(self, order: Args) -> dict[str, Any]:
        """Put the bot into another chat: `chat_id`, `type` (private)."""
        chat_id = order.get("chat_id")
        if not isinstance(chat_id, int):
            raise Invalid.field(("chat_id",), "must be a whole number")
        self._chats.append({"id": chat_id, "type": str(order.get("type", "private")), "title": "New"})
        return self._chats[-1]

    def _leave(self, order: Args) -> dict[str, Any]:
        """Put the bot out of a chat: whoever is alone with it blocks it, a group throws it out."""
        chat = self._find(order)
        private = chat["type"] == "private"
        self._closed[chat["id"]] = (
            "bot was blocked by the user" if private else f"bot was kicked from the {chat['type']} chat"
        )
        return chat


def _chats() -> list[dict[str, Any]]:
    private = [{"id": key, "type": "private", "first_name": name} for key, name in PEOPLE.items()]
    channel = {"id": -1001234567890, "type": "channel", "title": "News", "username": "trunkline_news"}
    return [*private, {"id": GROUP, "type": "supergroup", "title": "Alerts"}, channel]


def _text(args: Args) -> str:
    text = args.get("text", "")
    if not isinstance(text, str) or not text.strip():
        raise _bad("message text is empty")
    if str(args.get("parse_mode") or "") not in {"", "HTML", "Markdown", "MarkdownV2"}:
        raise _bad("unsupported parse_mode")
    if len(text.strip()) > MAX_TEXT:
        raise _bad("message is too long")
    return text.strip()


def _object(args: Args, name: str) -> Args:
    """Return an argument that is an object; a form has it as JSON."""
    value, refusal = args.get(name) or {}, _bad(f"can't parse {name} JSON object")
    if isinstance(value, str):
        return parse_object(value.encode(errors="replace"), refusal)
    if not isinstance(value, dict):
        raise refusal
    return value


async def _arguments(request: Request) -> Args:
    raw = await read_body(request, MAX_BODY)
    args: Args = dict(request.query_params)
    if media_type(request) != "application/json":
        return args | dict(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    return args | parse_object(raw or b"{}", _bad("can't parse request: JSON object is expected"))
