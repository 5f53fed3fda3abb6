"""A connector's `webhook` for one integration: verified over the bytes as they came, challenges answered.

Owns which way counts, what tells one delivery from another, and one answer for all that does not hold: `Unauthenticated`
with the same text. And signs what Trunkline sends, as Standard Webhooks. Fetching secrets and storing are not done here.
"""

import os
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from trunkline.catalog.manifest import Challenge, Verify, Webhook
from trunkline.catalog.template import ADDRESS, REQUEST, MissingLookupError, Template, parse_lookups
from trunkline.errors import Unauthenticated
from trunkline.rest import proofs
from trunkline.rest.proofs import KEY_BYTES, STANDARD_HEADERS, STANDARD_PREFIX, Refused, Request, Way

REFUSED = "No such address, or the request does not prove where it comes from."
MAX_SECRETS = 5
"""How many of the secrets in one stored value count: each costs a pass over the body."""
_SIGNED = re.compile(r"\{(body|timestamp)\}")
_HEADER_LOOKUP = re.compile(r"(?<![\w.-])header\.([\w-]+)")

Reply = str | dict[str, Any]
"""The answer to a challenge: a text, or an object to be written as JSON."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that holds: what tells it from others, if anything does, and the reply when it was a question."""

    dedup: str | None = None
    reply: Reply | None = None


class CompiledWebhook:
    """A connector's `webhook` for one integration. Make it with `compile_webhook`."""

    def __init__(self, webhook: Webhook, config: Mapping[str, str]) -> None:
        self._ways = {name: _compile_way(verify, config) for name, verify in webhook.verify.items()}
        self._delivery_id = _template(webhook.delivery_id)
        self._challenge = _CompiledChallenge(webhook.challenge) if webhook.challenge else None
        self.answer: Reply | None = webhook.answer
        """What the service must hear, with status 200, once a request is stored; None: any 2xx will do."""
        self.header_names = frozenset(self._headers(webhook))
        """Headers that are looked at, in lower case."""
        self.secret_headers = frozenset(
            way.header for way in self._ways.values() if way.type == "token" and way.header
        )
        """Headers whose value is a secret itself."""

    def _headers(self, webhook: Webhook) -> Iterator[str]:
        yield "content-type"
        for way in self._ways.values():
            if way.header:
                yield way.header
            if way.type == "standard":
                yield from (
                    start + end for start in STANDARD_HEADERS for end in ("id", "timestamp", "signature")
                )
        yield from headers_in(webhook.model_dump(mode="json"))

    def way(self, stored: Collection[str]) -> str | None:
        """Name the way that counts when these secrets are stored; None: whatever comes is refused."""
        open_way = None
        for name, way in self._ways.items():
            if way.type == "none":
                open_way = name
            elif way.secret in stored:
                return name
        return open_way

    def type_of(self, way: str) -> str:
        """Return what kind of proof a way is."""
        return self._ways[way].type

    def missing(self, stored: Collection[str]) -> list[str]:
        """Name the secrets without which requests are refused: those of the ways, and the handshake's."""
        found = [] if self.way(stored) else [way.secret for way in self._ways.values() if way.secret]
        asked = self._challenge.secret if self._challenge else None
        return found + ([asked] if asked and asked not in stored and asked not in found else [])

    def needed(self, stored: Collection[str]) -> set[str]:
        """Name the stored secrets that a request is checked with."""
        way = self.way(stored)
        names = {self._ways[way].secret if way else None, self._challenge.secret if self._challenge else None}
        return {name for name in names if name in stored and name is not None}

    def verify(
        self,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str],
        secrets: Mapping[str, str],
        now: datetime,
    ) -> Verified:
        """Check a request by the first way whose secret is at hand.

        Args:
            headers: by lower-case name, as latin-1 text; several of one name joined by commas.
            secrets: by name; one value may hold several, separated by white space, of which any may hold.

        Raises:
            Unauthenticated: always with the same text.
        """
        name = self.way(secrets)
        if name is None:
            raise refusal(body)
        way = self._ways[name]
        request = Request(headers, body, query)
        try:
            proof = proofs.CHECKS[way.type](way, request, _alternatives(secrets, way.secret), now)
        except Refused:
            raise Unauthenticated(REFUSED) from None
        asks = self._challenge is not None and self._challenge.token is None
        reply = self._challenge.reply(request) if self._challenge and asks else None
        delivery_id = None if way.type == "standard" else request.text(self._delivery_id)
        return Verified(delivery_id or proof, reply)

    def handshake(self, query: Mapping[str, str], secrets: Mapping[str, str]) -> Reply:
        """Answer the GET request by which a service tries the address out.

        Raises:
            Unauthenticated: it is none, or its token is not the secret.
        """
        challenge = self._challenge
        if challenge is not None and challenge.token is not None:
            request = Request({}, b"", query)
            token = (request.text(challenge.token) or "").encode("utf-8", "replace")
            if proofs.is_one_of(token, _alternatives(secrets, challenge.secret)):
                reply = challenge.reply(request)
                if reply is not None:
                    return reply
        raise Unauthenticated(REFUSED)


def compile_webhook(webhook: Webhook, config: Mapping[str, str]) -> CompiledWebhook:
    """Compile a connector's `webhook` once for an integration's config (defaults included)."""
    return CompiledWebhook(webhook, config)


def refusal(body: bytes) -> Unauthenticated:
    """Return the error for what cannot be verified at all, at the price of a wrong signature."""
    proofs.waste(body)
    return Unauthenticated(REFUSED)


def headers_in(value: Any) -> set[str]:
    """Name the headers that the look-ups anywhere in a JSON value ask for."""
    return set(_HEADER_LOOKUP.findall(orjson.dumps(value).decode()))


def _template(text: str | None) -> Template | None:
    return Template.compile(text, namespaces=REQUEST) if text else None


def _compile_way(verify: Verify, config: Mapping[str, str]) -> Way:
    header = _configured(verify.header, config)
    prefix = _configured(verify.prefix, config)
    return Way(
        type=verify.type,
        secret=verify.secret,
        header=header.lower() if header and prefix is not None else None,
        prefix=prefix or "",
        signed=tuple(
            part if index % 2 else part.replace("{{", "{").replace("}}", "}")
            for index, part in enumerate(_SIGNED.split(verify.signed))
        ),
        timestamp=_template(verify.timestamp),
        tolerance=verify.tolerance_seconds,
    )


def _configured(text: str | None, config: Mapping[str, str]) -> str | None:
    if not text or not parse_lookups(text):
        return text
    try:
        value = Template.compile(text, namespaces=ADDRESS).render({"config": config})
    except MissingLookupError:
        return None
    return "" if value is None else str(value)


def _alternatives(secrets: Mapping[str, str], name: str | None) -> list[str]:
    """List the secrets that one stored value may be: its parts, and the whole, since a secret may have spaces."""
    stored = secrets.get(name, "") if name else ""
    parts = stored.split()
    return parts if parts == [stored] else [stored, *parts[:MAX_SECRETS]] if parts else []


class _CompiledChallenge:
    def __init__(self, challenge: Challenge) -> None:
        self._when = [(_template("{" + name + "?}"), wanted) for name, wanted in challenge.when.items()]
        self._reply = Template.compile(challenge.answer, namespaces=REQUEST)
        self.token = _template(challenge.token)
        self.secret = challenge.secret

    def reply(self, request: Request) -> Reply | None:
        """Return the reply when the request is the question."""
        for template, wanted in self._when:
            found = template.render(request) if template else None
            if not _fits(found, wanted):
                return None
        try:
            made = self._reply.render(request)
        except MissingLookupError:
            return None
        return made if isinstance(made, dict) else "" if made is None else str(made)


def _fits(found: Any, wanted: Any) -> bool:
    """Tell whether a look-up found what it must: one value or one of several, `"*"` for anything."""
    values = wanted if isinstance(wanted, list) else [wanted]
    if "*" in values and found is not None:
        return True
    return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values)


def sign_standard(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that sign a body as Standard Webhooks say, with one signature for each secret."""
    moment = str(int(at.timestamp()))
    signed = f"{message_id}.{moment}.".encode() + body
    made = [b64encode(proofs.standard_digest(secret, signed)).decode() for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(f"v1,{text}" for text in made),
    }


def new_signing_secret() -> str:
    """Return a fresh secret for `sign_standard`: `whsec_` and 32 random bytes in base64."""
    return STANDARD_PREFIX + b64encode(os.urandom(KEY_BYTES)).decode()
