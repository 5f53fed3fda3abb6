"""A receiver of webhooks: records what it is sent under an id, checks Standard Webhooks signatures, fails on demand.

Written from the specification, apart from what signs in the hub, so that the two check each other.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import Invalid
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import Control, RefusedError, Service, json_response, read_body

MAX_BODY = 1024 * 1024
MAX_TARGETS = 1_000
KEPT = 10_000
TOLERANCE_SECONDS = 300
PREFIX = "whsec_"
MAX_ID = 100


@dataclass
class Target:
    """One address: what must sign for it, what it answers, what it got."""

    secrets: list[str] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = None
    """How often it answers so, before it answers 200 again; None: always."""
    hangs: bool = False
    received: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))
    seen: set[str | None] = field(default_factory=set)


class Receiver(Service):
    """Addresses `/{id}`; any id will do. Without secrets of its own a target takes those unsigned or by our secret."""

    name = "receiver"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._secret = self.credential("secret", _new_secret)
        self.reset()

    def reset(self) -> None:
        self._targets: dict[str, Target] = {}

    def ready(self, base_url: str) -> dict[str, str]:
        return {"url": base_url, "secret": self._secret}

    def routes(self) -> list[BaseRoute]:
        return [Route("/{id}", self._receive, methods=["POST", "PUT", "GET"])]

    def refusal(self, refused: RefusedError, path: str) -> Response:
        del path
        return json_response({"error": refused.message}, refused.status, refused.headers)

    def controls(self) -> dict[str, Control]:
        return {"expect": self._expect, "received": self._read, "forget": self._forget}

    def _target(self, name: str) -> Target:
        if name not in self._targets:
            if len(self._targets) >= MAX_TARGETS or len(name) > MAX_ID:
                raise RefusedError(404, f"at most {MAX_TARGETS} ids, of at most {MAX_ID} characters")
            self._targets[name] = Target()
        return self._targets[name]

    async def _receive(self, request: Request) -> Response:
        target = self._target(request.path_params["id"])
        body = await read_body(request, MAX_BODY)
        problem = self._problem(target, request, body)
        message_id = request.headers.get("webhook-id")
        entry: dict[str, Any] = {
            "at": self._clock.now().isoformat(),
            "method": request.method,
            "headers": dict(request.headers),
            "body": body.decode(errors="replace"),
            "verified": None if problem is None and message_id is None else problem is None,
            "problem": problem,
            "repeated": message_id in target.seen,
            "status": None,
        }
        target.seen |= {message_id} - {None}
        target.received.append(entry)
        status, headers = (401, {}) if problem else self._answer(target)
        if target.hangs and not problem:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        entry["status"] = status
        return json_response({"received": problem is None, "error": problem}, status, headers)

    def _problem(self, target: Target, request: Request, body: bytes) -> str | None:
        """Say what is wrong with the signature; nothing when there is none and none is asked for."""
        if not target.secrets and "webhook-signature" not in request.headers:
            return None
        return signature_problem(
            target.secrets or [self._secret], dict(request.headers), body, self._clock.now().timestamp()
        )

    @staticmethod
    def _answer(target: Target) -> tuple[int, dict[str, str]]:
        status, headers = target.status, target.headers
        if target.times is not None:
            target.times -= 1
            if target.times <= 0:
                target.status, target.headers, target.times = 200, {}, None
        return status, headers

    def _expect(self, order: dict[str, Any]) -> dict[str, Any]:
        """Set what an id wants signed by, and what it answers: `secrets`, `status`, `headers`, `times`, `hang`."""
        known = {"id", "secrets", "status", "headers", "times", "hang"}
        for name in set(order) - known:
            raise Invalid.field((name,), f"unknown field; there are: {', '.join(sorted(known))}")
        target = self._target(_id(order))
        wanted, status, times = (
            order.get("secrets", target.secrets),
            order.get("status", 200),
            order.get("times"),
        )
        if not isinstance(wanted, list) or any(_key(secret) is None for secret in wanted):
            raise Invalid.field(("secrets",), f"must be a list of {PREFIX}…, base64 of 24 to 64 bytes")
        if type(status) is not int or not 200 <= status <= 599:
            raise Invalid.field(("status",), "must be a whole number between 200 and 599")
        if times is not None and (type(times) is not int or times < 1):
            raise Invalid.field(("times",), "must be a whole number from 1, or null for always")
        headers = order.get("headers") or {}
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise Invalid.field(("headers",), "must map names to texts")
        target.secrets, target.status, target.times = wanted, status, times
        target.headers, target.hangs = headers, order.get("hang") is True
        return {
            "id": order["id"],
            "secrets": len(wanted),
            "status": status,
            "times": times,
            "hang": target.hangs,
        }

    def _read(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return what an id received, oldest first; with `last`, only so many."""
        found = list(self._target(_id(order)).received)
        last = order.get("last", KEPT)
        if type(last) is not int or last < 0:
            raise Invalid.field(("last",), "must be a whole number from 0")
        return {"count": len(found), "received": found[max(0, len(found) - last) :]}

    def _forget(self, order: dict[str, Any]) -> dict[str, Any]:
        """Drop an id: what it received, and what it was told."""
        return {"forgotten": self._targets.pop(_id(order), None) is not None}


def _id(order: dict[str, Any]) -> str:
    name = order.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ID:
        raise Invalid.field(("id",), f"must be a text of 1 to {MAX_ID} characters")
    return name


def _new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _key(secret: Any) -> bytes | None:
    if not isinstance(secret, str) or not secret.startswith(PREFIX):
        return None
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return None
    return key if 24 <= len(key) <= 64 else None


def signature_problem(wanted: list[str], headers: dict[str, str], body: bytes, now: float) -> str | None:
    """Check a Standard Webhooks signature by any of the secrets; return what is wrong with it, None when it holds."""
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or "." in message_id or not stamp or "webhook-signature" not in headers:
        return "webhook-id, webhook-timestamp and webhook-signature are needed"
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
        return "webhook-timestamp is no whole number of seconds"
    if abs(now - int(stamp)) > TOLERANCE_SECONDS:
        return "webhook-timestamp is more than five minutes off"
    signed = f"{message_id}.{stamp}.".encode() + body
    given = [part[3:].encode() for part in headers["webhook-signature"].split(" ") if part.startswith("v1,")]
    for key in filter(None, map(_key, wanted)):
        right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        if any(hmac.compare_digest(right, one) for one in given):
            return None
    return "no signature of version v1 matches"
