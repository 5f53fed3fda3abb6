"""The fake WhatsApp: the Cloud API of one number, the 24 hours in which people take free text, its templates and limits."""

import base64
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

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
    base_url,
    json_response,
    media_type,
    parse_object,
    read_body,
)
from trunkline.sandbox.whatsapp.webhooks import (
    ACCOUNT_ID,
    DISPLAY_NUMBER,
    PHONE_NUMBER_ID,
    handshake,
    message,
    signed,
    status,
)

MAX_BODY = 1024 * 1024
MAX_TEXT, MAX_TEMPLATE = 4_096, 1_024
WINDOW = timedelta(hours=24)
PAIR_SECONDS, PAIR_BURST = 6.0, 45
PERSON = "16505551234"
_NUMBER = re.compile(r"\+?[0-9][0-9 ()-]{6,20}")
_VARIABLE = re.compile(r"\{\{[0-9]+\}\}")
_NO_VARIABLE = re.compile(r"[\n\t]| {5}")
_DETAILS = {
    131026: "Message Undeliverable.",
    131047: "More than 24 hours have passed since the recipient last replied to the sender number.",
    131056: "Too many messages sent from the sender phone number to the same recipient phone number in a short time.",
}


def _no(code: int, message: str, *, status: int = 400, details: str = "") -> RefusedError:
    said = details or _DETAILS.get(code, message)
    error_data = {"messaging_product": "whatsapp", "details": said}
    return RefusedError(status, f"(#{code}) {message}", code=code, detail={"error_data": error_data})


class WhatsApp(Service):
    """One business number, the people that wrote to it, and the account's templates."""

    name = "whatsapp"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token")
        self._app_secret = self.credential("app_secret", lambda: secrets.token_hex(16))
        self._verify_token = self.credential("verify_token")
        self.reset()

    def reset(self) -> None:
        self._pair = SteadyRate(self._clock, PAIR_SECONDS, PAIR_BURST)
        self._all = SteadyRate(self._clock, 1 / 80, 80)
        self._wrote: dict[str, datetime] = {}
        self._sent: list[dict[str, Any]] = []
        self._received: set[str] = set()
        self._templates: list[dict[str, Any]] = []
        self._add_template({"name": "trunkline_alert", "body": "Alert: {{1}}. Sent by Trunkline."})
        self._add_template({"name": "hello_world", "body": "Welcome and congratulations!"})
        self._add_template({"name": "old_alert", "body": "Alert: {{1}}.", "status": "PAUSED"})

    def ready(self, base_url: str) -> dict[str, str]:
        return {
            "url": f"{base_url}/v23.0",
            "token": self._token,
            "app_secret": self._app_secret,
            "verify_token": self._verify_token,
            "phone_number_id": PHONE_NUMBER_ID,
            "business_account_id": ACCOUNT_ID,
            "wa_id": PERSON,
        }

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v{version:float}/{id}/messages", self._guarded(self._messages), methods=["POST"]),
            Route("/v{version:float}/{id}/message_templates", self._guarded(self._list), methods=["GET"]),
            Route("/v{version:float}/{id}", self._guarded(self._number), methods=["GET"]),
        ]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        status, code, message = refused.status, refused.code, refused.message
        if code is None and status == 404:
            status, code, message = 400, 2500, f"Unknown path components: {path[:100]}"
        if code is None and status == 429:
            code, message = 130429, "(#130429) Rate limit hit"
        error = {"message": message, "type": "OAuthException", "code": code or 1, **(refused.detail or {})}
        body = {"error": {**error, "fbtrace_id": secrets.token_urlsafe(17)}}
        return json_response(body, status, refused.headers)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        """Meta tells nobody when to come back."""
        del seconds
        return {}

    def controls(self) -> dict[str, Control]:
        return {
            "message": self._say,
            "messages": lambda _order: {"messages": self._sent},
            "template": self._add_template,
        }

    def webhooks(self) -> dict[str, Build]:
        return {"message": self._send_message, "status": self._send_status, "handshake": self._send_handshake}

    def _send_message(self, options: dict[str, Any], at: datetime, secret: str | None) -> Outgoing:
        """Have somebody write, which opens the window; options are those of `message`, and `id`."""
        return signed(secret or self._app_secret, self._say(options, at))

    def _send_status(self, options: dict[str, Any], at: datetime, secret: str | None) -> Outgoing:
        """Tell what became of a message: of the latest one, or the option `id`."""
        latest = self._sent[-1] if self._sent else {"id": _message_id(), "to": PERSON}
        document = status(options.get("id", latest["id"]), at, {"to": latest["to"], **options})
        return signed(secret or self._app_secret, document)

    def _send_handshake(self, options: dict[str, Any], at: datetime, secret: str | None) -> Outgoing:
        del at
        return handshake(
            secret or self._verify_token, str(options.get("challenge", secrets.randbelow(10**9)))
        )

    def _guarded(self, run: Callable[[Request, dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            token = given if scheme.lower() == "bearer" else request.query_params.get("access_token", "")
            if not token:
                text = "An access token is required to request this resource."
                raise RefusedError(401, text, code=104)
            if not hmac.compare_digest(token.strip().encode(), self._token.encode()):
                text = "Invalid OAuth access token - Cannot parse access token"
                raise RefusedError(401, text, code=190)
            document = await _document(request) if request.method == "POST" else {}
            return json_response(run(request, document))

        return guarded

    def _number(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        del document
        _check_id(request, PHONE_NUMBER_ID)
        known = {
            "id": PHONE_NUMBER_ID,
            "display_phone_number": DISPLAY_NUMBER,
            "verified_name": "Trunkline",
            "quality_rating": "GREEN",
            "code_verification_status": "VERIFIED",
        }
        fields = request.query_params.get("fields")
        wanted = fields.split(",") if fields else list(known)
        for name in wanted:
            if name not in known:
                raise _no(100, f"Tried accessing nonexisting field ({name[:50]})")
        return {name: known[name] for name in dict.fromkeys(("id", *wanted))}

    def _messages(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        _check_id(request, PHONE_NUMBER_ID)
        if document.get("messaging_product") != "whatsapp":
            raise _no(100, "The parameter messaging_product is required.")
        if document.get("status") == "read":
            if str(document.get("message_id")) not in self._received:
                raise _no(131009, "Parameter value is not valid", details="Message ID is invalid.")
            return {"success": True}
        to, kind = document.get("to"), document.get("type", "text")
        if not to:
            raise _no(100, "The parameter to is required.")
        if not isinstance(to, str) or not _NUMBER.fullmatch(to):
            raise _no(131009, "Parameter value is not valid", details="Recipient is no phone number.")
        wa_id = re.sub(r"\D", "", to)
        if kind not in ("text", "template"):
            raise _no(100, "Param type must be one of {TEXT, TEMPLATE}: the sandbox has no others")
        text = self._free_text(document) if kind == "text" else self._filled(document)
        self._take_turn(wa_id)
        if kind == "text" and not self._is_open(wa_id):
            raise _no(131047, "Re-engagement message")
        return self._keep(document, to, wa_id, kind, text)

    def _keep(self, document: dict[str, Any], to: str, wa_id: str, kind: str, text: str) -> dict[str, Any]:
        sent = {"id": _message_id(), "to": wa_id, "type": kind, "text": text, "request": document}
        self._sent.append(sent)
        told = {"id": sent["id"]} | ({"message_status": "accepted"} if kind == "template" else {})
        contacts = [{"input": to, "wa_id": wa_id}]
        return {"messaging_product": "whatsapp", "contacts": contacts, "messages": [told]}

    def _is_open(self, wa_id: str) -> bool:
        wrote = self._wrote.get(wa_id)
        return wrote is not None and self._clock.now() - wrote < WINDOW

    def _take_turn(self, wa_id: str) -> None:
        if self._all.wait(""):
            raise _no(130429, "Rate limit hit", status=429)
        if self._pair.wait(wa_id):
            raise _no(131056, "(Business Account, Consumer Account) pair rate limit hit")
        self._all.count("")
        self._pair.count(wa_id)

    @staticmethod
    def _free_text(document: dict[str, Any]) -> str:
        body = (document.get("text") or {}).get("body")
        if not isinstance(body, str) or not body.strip():
            raise _no(100, "The parameter text['body'] is required.")
        if len(body) > MAX_TEXT:
            raise _no(100, f"Param text['body'] must be at most {MAX_TEXT} characters long.")
        return body

    def _filled(self, document: dict[str, Any]) -> str:
        """Return the text that a template makes with its variables, or refuse as the real service does."""
        asked = document.get("template") or {}
        language = asked.get("language")
        name, language = asked.get("name"), language.get("code") if isinstance(language, dict) else None
        if not name or not language:
            raise _no(131008, "Required parameter is missing", details="template name and language")
        found = [one for one in self._templates if (one["name"], one["language"]) == (name, language)]
        if not found:
            details = f"template name ({name}) does not exist in {language}"
            raise _no(132001, "Template name does not exist in the translation", status=404, details=details)
        if found[0]["status"] != "APPROVED":
            raise _no(132015, "Template is Paused")
        values = _variables(asked)
        text = found[0]["components"][0]["text"]
        slots = _VARIABLE.findall(text)
        if len(slots) != len(values):
            details = f"body: number of localizable_params ({len(values)}) does not match the expected number of params ({len(slots)})"
            raise _no(
                132000, "Number of parameters does not match the expected number of params", details=details
            )
        for slot, value in zip(slots, values, strict=True):
            text = text.replace(slot, value, 1)
        if len(text) > MAX_TEMPLATE:
            raise _no(132005, "Translated text too long")
        return str(text)

    def _list(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        del document
        _check_id(request, ACCOUNT_ID)
        query = request.query_params
        found = [
            one
            for one in self._templates
            if query.get("name") in {None, one["name"]} and query.get("status") in {None, one["status"]}
        ]
        try:
            limit = int(query.get("limit", 25))
            start = int(base64.urlsafe_b64decode(query.get("after", "") or "MA=="))
        except ValueError as error:
            raise _no(100, "Param limit or after is not valid") from error
        end = start + max(1, limit)
        page: dict[str, Any] = {"data": found[start:end]}
        if page["data"]:
            cursors = {
                name: base64.urlsafe_b64encode(str(at).encode()).decode()
                for name, at in (("before", start), ("after", end))
            }
            page["paging"] = {"cursors": cursors}
            if end < len(found):
                page["paging"]["next"] = f"{base_url(request)}{request.url.path}?after={cursors['after']}"
        return page

    def _say(self, order: dict[str, Any], at: datetime | None = None) -> dict[str, Any]:
        """Have somebody write to the number: for 24 hours it may answer freely."""
        at = at or self._clock.now()
        wa_id = order.get("from", PERSON)
        if not isinstance(wa_id, str) or not wa_id.isdecimal():
            raise Invalid.field(("from",), "must be a number, digits only")
        message_id = order.get("id") or _message_id()
        self._wrote[wa_id] = max(at, self._wrote.get(wa_id, at))
        self._received.add(message_id)
        return message(message_id, at, {**order, "from": wa_id})

    def _add_template(self, order: dict[str, Any]) -> dict[str, Any]:
        """Add a template: `name`, `body` with `{{1}}`, `language` (en_US), `status` (APPROVED)."""
        made = {
            "id": str(594425479261596 + len(self._templates)),
            "name": str(order.get("name", "")),
            "language": order.get("language", "en_US"),
            "status": order.get("status", "APPROVED"),
            "category": "UTILITY",
            "components": [{"type": "BODY", "text": str(order.get("body", ""))}],
        }
        self._templates.append(made)
        return made


def _message_id() -> str:
    return "wamid." + base64.b64encode(secrets.token_bytes(24)).decode()


def _check_id(request: Request, known: str) -> None:
    wanted = request.path_params["id"]
    if wanted != known:
        text = f"Unsupported {request.method.lower()} request. Object with ID '{wanted[:64]}' does not exist"
        raise RefusedError(400, text, code=100, detail={"type": "GraphMethodException", "error_subcode": 33})


def _variables(asked: dict[str, Any]) -> list[str]:
    """Return the values for the body's variables."""
    found: list[str] = []
    components = asked.get("components") or []
    for component in components if isinstance(components, list) else [components]:
        if not isinstance(component, dict) or component.get("type") != "body":
            raise _no(132000, "Number of parameters does not match the expected number of params")
        parameters = component.get("parameters") or []
        for parameter in parameters if isinstance(parameters, list) else [parameters]:
            value = parameter.get("text") if isinstance(parameter, dict) else None
            if not isinstance(value, str) or parameter.get("type") != "text" or not value:
                raise _no(131008, "Required parameter is missing", details="parameter text")
            if _NO_VARIABLE.search(value):
                text = "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
                raise _no(132018, text)
            found.append(value)
    return found


async def _document(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    details = "the body must be a JSON object, sent as application/json"
    refusal = _no(100, "Invalid parameter", details=details)
    if media_type(request) != "application/json":
        raise refusal
    document = parse_object(raw, refusal)
    for name in ("text", "template"):
        if not isinstance(document.get(name, {}), dict):
            raise _no(100, f"Param {name} must be a JSON object.")
    return document
