"""The schemes by which a webhook proves where it comes from: each a function of the raw bytes, the secrets and the time.

Total: whatever a stranger sends, the outcome is `Refused` or what the proof tells of the request. Which scheme counts,
and what a refusal looks like, is decided in `signatures.py`.
"""

import hashlib
import hmac
import os
import re
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from trunkline.catalog.template import MissingLookupError, Template
from trunkline.rest.event_rules import parse_payload, read_time

STANDARD_PREFIX = "whsec_"
STANDARD_HEADERS = ("webhook-", "svix-")
KEY_BYTES = 32
_MAX_HEADER = 4096
_MAX_TIMESTAMP = 40
_DIGEST_BYTES = 32
_ED25519_BYTES = 64
_DUMMY_KEY = os.urandom(KEY_BYTES)
_ALPHABET = str.maketrans("-_", "+/")
_SEPARATORS = re.compile(r"[,\s]+")


class Refused(Exception):  # noqa: N818 - becomes Unauthenticated in signatures.py
    """The request does not hold."""


class Request(dict[str, Any]):
    """What look-ups see of a request; the body is parsed only when one of them asks."""

    def __init__(self, headers: Mapping[str, str], body: bytes, query: Mapping[str, str]) -> None:
        super().__init__(header=headers, query=query)
        self.headers = headers
        self.body = body

    def __missing__(self, key: str) -> Any:
        if key != "payload":
            raise KeyError(key)
        self[key] = value = parse_payload(self.body, self.headers.get("content-type", ""))
        return value

    def text(self, template: Template | None) -> str | None:
        """Look a text or a number up; anything else is as good as absent."""
        if template is None:
            return None
        try:
            value = template.render(self)
        except MissingLookupError:
            return None
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None

    def needed(self, name: str | None) -> str:
        """Return a header of a length that a signature may have; raise Refused without it."""
        text = self.headers.get(name) if name else None
        if not text or len(text) > _MAX_HEADER:
            raise Refused
        return text


@dataclass(frozen=True, slots=True)
class Way:
    """One `verify` of a connector, its look-ups of config filled in. Without a header nothing holds.

    `signed` is literal text and, at every second place, `body` or `timestamp`.
    """

    type: str
    secret: str | None
    header: str | None
    prefix: str
    signed: tuple[str, ...]
    timestamp: Template | None
    tolerance: int

    @property
    def is_timed(self) -> bool:
        """Whether the signature covers a time."""
        return "timestamp" in self.signed[1::2]

    def signed_bytes(self, body: bytes, moment: str | None) -> bytes:
        if self.signed == ("", "body", ""):
            return body
        values = {"body": body, "timestamp": (moment or "").encode("latin-1", "replace")}
        return b"".join(
            values[part] if index % 2 else part.encode() for index, part in enumerate(self.signed)
        )

    def once(self, digest: bytes) -> str | None:
        """Tell a request from every other where its time is signed: the same one again is a replay."""
        return "\0" + digest.hex() if self.is_timed else None


Check = Callable[[Way, Request, Sequence[str], datetime], str | None]
"""Returns what tells the request from others, if the proof does; raises Refused."""


def waste(body: bytes) -> None:
    """Take the time of one wrong signature."""
    hmac.digest(_DUMMY_KEY, body, "sha256")


def is_one_of(token: bytes, known: Sequence[str]) -> bool:
    """Compare in constant time; digests, so that lengths do not show either."""
    given = hashlib.sha256(token).digest()
    return any(hmac.compare_digest(given, hashlib.sha256(secret.encode()).digest()) for secret in known)


def _check_none(_way: Way, _request: Request, _secrets: Sequence[str], _now: datetime) -> str | None:
    return None


def _check_token(way: Way, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    given = request.needed(way.header)
    token = given[len(way.prefix) :].strip().encode("latin-1", "replace")
    if not given.startswith(way.prefix) or not is_one_of(token, secrets):
        raise Refused
    _check_time(way, request, now)
    return None


def _check_hmac(way: Way, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    given = request.needed(way.header)
    candidates = list(_signatures([given, *_SEPARATORS.split(given)], way.prefix))
    signed = way.signed_bytes(request.body, _check_time(way, request, now))
    for secret in secrets:
        digest = hmac.digest(secret.encode(), signed, "sha256")
        if any(hmac.compare_digest(candidate, digest) for candidate in candidates):
            return way.once(digest)
    raise Refused


def _signatures(parts: Sequence[str], prefix: str) -> Iterator[bytes]:
    for part in parts:
        if part.startswith(prefix) and (decoded := _decoded(part[len(prefix) :].strip(), _DIGEST_BYTES)):
            yield decoded


def _decoded(text: str, size: int) -> bytes | None:
    """Read so many bytes written in hex or in base64 of either alphabet, padded or not."""
    try:
        found = bytes.fromhex(text) if len(text) == size * 2 else _base64(text)
    except ValueError:
        return None
    return found if len(found) == size else None


def _base64(text: str) -> bytes:
    bare = text.rstrip("=").translate(_ALPHABET)
    return a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)


def _check_ed25519(way: Way, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    signature = _decoded(request.needed(way.header).removeprefix(way.prefix), _ED25519_BYTES)
    signed = way.signed_bytes(request.body, _check_time(way, request, now))
    for secret in secrets:
        key = _decoded(secret, KEY_BYTES)
        if signature is None or key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
        except (InvalidSignature, ValueError):
            continue
        return way.once(hashlib.sha256(signed).digest())
    raise Refused


def _check_standard(way: Way, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    start = next((name for name in STANDARD_HEADERS if name + "id" in request.headers), STANDARD_HEADERS[0])
    message_id = request.needed(start + "id")
    moment = request.needed(start + "timestamp")
    candidates = list(_signatures(request.needed(start + "signature").split(), "v1,"))
    _check_window(moment, way.tolerance, now)
    signed = f"{message_id}.{moment}.".encode("latin-1", "replace") + request.body
    for secret in secrets:
        digest = standard_digest(secret, signed)
        if any(hmac.compare_digest(candidate, digest) for candidate in candidates):
            return message_id
    raise Refused


def standard_digest(secret: str, signed: bytes) -> bytes:
    """Sign as Standard Webhooks do; with a secret that is no base64, or nothing, the result matches nothing."""
    try:
        key = _base64(secret.removeprefix(STANDARD_PREFIX)) or _DUMMY_KEY
    except ValueError:
        key = _DUMMY_KEY
    return hmac.digest(key, signed, "sha256")


def _check_time(way: Way, request: Request, now: datetime) -> str | None:
    """Return the time of the request as it was written, when it is within the window; None when none is asked for."""
    if way.timestamp is None:
        if way.is_timed:
            raise Refused
        return None
    text = request.text(way.timestamp)
    _check_window(text, way.tolerance, now)
    return text


def _check_window(text: str | None, tolerance: int, now: datetime) -> None:
    moment = read_time(text) if text and len(text) <= _MAX_TIMESTAMP else None
    if moment is None or abs((now - moment).total_seconds()) > tolerance:
        raise Refused


CHECKS: Mapping[str, Check] = {
    "none": _check_none,
    "token": _check_token,
    "hmac": _check_hmac,
    "ed25519": _check_ed25519,
    "standard": _check_standard,
}
