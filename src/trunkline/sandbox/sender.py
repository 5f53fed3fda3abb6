"""Send a fake's webhook to an address, as the real service would or tampered with on purpose.

What is sent, and how it is signed, is each fake's own (`Service.webhooks`), written apart from what verifies it in
the hub, so that the two check each other.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from trunkline.clock import Clock
from trunkline.errors import Invalid, Unavailable
from trunkline.sandbox.service import Outgoing, Service

STALE = timedelta(hours=1)
ANSWER_KEPT = 64 * 1024
_SECONDS = 30
_OURS = {"url", "event", "secret", "tamper", "times", "anywhere"}
_MAX_TIMES = 1_000
_SIGNATURE = re.compile(r"[0-9A-Za-z+/]{20,}")


def _corrupt(value: str) -> str:
    """Change one character in the middle of every signature, but not the form of the header."""
    changed = _SIGNATURE.sub(lambda found: _flip(found[0], len(found[0]) // 2), value)
    return changed if changed != value else _flip(value, len(value) - 1)


def _flip(text: str, place: int) -> str:
    return text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :]


TAMPER: dict[str, Callable[[Outgoing], Outgoing]] = {
    "unsigned": lambda sent: replace(sent, proof={}),
    "signature": lambda sent: replace(
        sent, proof={name: _corrupt(value) for name, value in sent.proof.items()}
    ),
    "body": lambda sent: replace(sent, body=sent.body + b" "),
    "stale": lambda sent: sent,
}
"""What can be wrong with a webhook. `stale` is signed rightly, an hour ago."""


async def deliver(service: Service, order: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Send what was ordered and return how it was answered: `{"status", "headers", "body", "sent"}`.

    `order` has `url` and `event`, and may have `secret`, `tamper`, `times` (send the very same again: a replay),
    `anywhere` (true: not only to this machine); everything else are options of the event.

    Raises:
        Invalid: naming the field of the order.
        Unavailable: when nobody answers there.
    """
    url = _target(order)
    tamper = order.get("tamper")
    if tamper is not None and tamper not in list(TAMPER):
        raise Invalid.field(("tamper",), f"must be one of: {', '.join(TAMPER)}")
    times = order.get("times", 1)
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= _MAX_TIMES:
        raise Invalid.field(("times",), f"must be a whole number from 1 to {_MAX_TIMES}")
    sent = _build(service, order, clock.now() - (STALE if tamper == "stale" else timedelta()))
    if tamper is not None:
        sent = TAMPER[tamper](sent)
    answers = [await _send(url, sent) for _ in range(times)]
    return {**answers[-1], "statuses": [answer["status"] for answer in answers]}


def _build(service: Service, order: dict[str, Any], at: datetime) -> Outgoing:
    events = service.webhooks()
    event, secret = order.get("event"), order.get("secret")
    if not isinstance(event, str) or event not in events:
        raise Invalid.field(("event",), f"must be one of: {', '.join(events) or 'nothing: it sends none'}")
    if secret is not None and not (isinstance(secret, str) and secret):
        raise Invalid.field(("secret",), "must be a text")
    options = {name: value for name, value in order.items() if name not in _OURS}
    return events[event](options, at, secret)


def _target(order: dict[str, Any]) -> str:
    url = order.get("url")
    try:
        parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        host = ""
    if not isinstance(url, str) or not host or parts.scheme not in {"http", "https"}:
        raise Invalid.field(("url",), "must be an http or https address")
    if order.get("anywhere") is not True and not is_loopback(host):
        raise Invalid.field(("url",), 'is not on this machine; send "anywhere": true if it is meant')
    return url


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def _send(url: str, sent: Outgoing) -> dict[str, Any]:
    headers = {"User-Agent": "Trunkline-Sandbox", **sent.headers, **sent.proof}
    limit = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, auto_decompress=False) as session,
            session.request(
                sent.method,
                url,
                params=sent.query or None,
                data=sent.body or None,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            raw = await answer.content.read(ANSWER_KEPT)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"no answer from {url}: {str(error) or type(error).__name__}") from error
    return {
        "status": answer.status,
        "headers": {str(name): value for name, value in answer.headers.items()},
        "body": raw.decode(errors="replace"),
        "sent": {"headers": headers, "body": sent.body.decode(errors="replace")},
    }
