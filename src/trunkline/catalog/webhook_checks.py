"""Checks of what a service sends and is sent, at load: `webhook`, `events`, `notify`. Look-ups are `lookup_checks`'."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.catalog.lookup_checks import Finding, lookups_of, properties, required
from trunkline.catalog.manifest import Challenge, EventRule, Manifest, Notify, Verify, Webhook, Window
from trunkline.catalog.part_checks import HEADER, NAME, fitting
from trunkline.catalog.strict_yaml import Loc
from trunkline.catalog.template import ANY, Lookup, TemplateError, parse_lookups
from trunkline.catalog.vocabulary import did_you_mean

_SIGNATURE = frozenset({"prefix", "signed", "timestamp", "tolerance_seconds"})
VERIFY_WORDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "hmac": (frozenset({"secret", "header"}), _SIGNATURE),
    "token": (frozenset({"secret", "header"}), frozenset({"prefix"})),
    "ed25519": (frozenset({"secret", "header"}), _SIGNATURE),
    "standard": (frozenset({"secret"}), frozenset({"tolerance_seconds"})),
    "none": (frozenset(), frozenset()),
}
"""For each type of verification: the words it needs, and those it may have."""
SEVERITIES = ("critical", "high", "medium", "low", "info")
ACTIONS = ("trigger", "acknowledge", "resolve")
ALWAYS = ("text", "title", "type", "id", "delivery_id", "nonce", "time", "source", "data")
"""What every event has when a message is made of it."""
SOMETIMES = ("severity", "project", "subject", "url")
"""What an event may lack, so that a message must look it up with `?`."""

_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+", re.ASCII)
_LOOKUP = re.compile(r"\{[^{}]*\}")
_TIMES = ("{header.", "{payload.")


def check_webhooks(manifest: Manifest) -> Iterator[Finding]:
    """Check what is received and what is sent as a message."""
    if manifest.webhook:
        yield from _webhook(("webhook",), manifest, manifest.webhook)
    elif manifest.events:
        yield ("events",), "are read from what a webhook brings; add `webhook`"
    for index, rule in enumerate(manifest.events):
        yield from _rule(("events", index), manifest, rule)
        if index < len(manifest.events) - 1 and not rule.when and not rule.each:
            yield ("events", index + 1), "is never reached: the rule before it takes everything"
    if manifest.notify:
        yield from _notify(("notify",), manifest, manifest.notify)


def _webhook(loc: Loc, manifest: Manifest, webhook: Webhook) -> Iterator[Finding]:
    if not webhook.verify:
        yield (*loc, "verify"), "must name a way, be it one of type 'none'"
    for name, way in webhook.verify.items():
        yield from _verify((*loc, "verify", name), webhook, name, way)
    if webhook.challenge:
        yield from _challenge((*loc, "challenge"), webhook, webhook.challenge)
    used = {way.secret for way in webhook.verify.values()}
    used |= {webhook.challenge.secret} if webhook.challenge else set()
    signs_in = {name for method in manifest.auth.values() for name in method.secrets} | {
        *("username", "password", "api_key", "bearer_token", "client_id", "client_secret"),
        *("private_key", "exchange_secret"),
    }
    for name in webhook.secrets:
        at = (*loc, "secrets", name)
        if not NAME.fullmatch(name):
            yield at, "a name is lower-case letters, digits and '_', 64 at most, a letter first"
        if name not in used:
            yield at, "is never used; remove it, or name it as the `secret` of a way to verify"
        if name in signs_in:
            yield at, "is the name of a credential; entered together, the two must differ"


def _verify(loc: Loc, webhook: Webhook, name: str, way: Verify) -> Iterator[Finding]:
    if not NAME.fullmatch(name):
        yield loc, "a name is lower-case letters, digits and '_', 64 at most, a letter first"
    needed, allowed = VERIFY_WORDS[way.type]
    given = way.model_fields_set - {"type"}
    yield from fitting(loc, way.type, given, needed, allowed)
    if way.type == "none" and len(webhook.verify) > 1:
        yield loc, "stands alone: beside other ways, a forgotten secret would let anybody in"
    yield from _secret((*loc, "secret"), webhook, way.secret)
    if way.header is not None and "{" not in way.header and not HEADER.fullmatch(way.header):
        yield (*loc, "header"), "is no header name"
    yield from _signed(loc, way)


def _secret(loc: Loc, webhook: Webhook, name: str | None) -> Iterator[Finding]:
    if name is not None and name not in webhook.secrets:
        yield loc, f"no secret '{name}' under webhook.secrets{did_you_mean(name, webhook.secrets)}"


def _signed(loc: Loc, way: Verify) -> Iterator[Finding]:
    looked_up = [lookup.name for lookup in _lookups(way.signed)]
    if "body" not in looked_up:
        yield (*loc, "signed"), "must look up {body}, or the body could be changed"
    dated = way.timestamp is not None
    if "timestamp" in looked_up and not dated:
        yield loc, "`signed` looks up {timestamp}: say where it stands, under `timestamp`"
    if way.type == "standard":
        return
    if "tolerance_seconds" in way.model_fields_set and not dated:
        yield (*loc, "tolerance_seconds"), "needs `timestamp`"
    if way.timestamp is None:
        return
    if len(_lookups(way.timestamp)) != 1 or not way.timestamp.startswith(_TIMES) or way.timestamp[-1] != "}":
        yield (*loc, "timestamp"), "must be one look-up, {header.x} or {payload.x}"
    elif way.timestamp.startswith("{header.") and "timestamp" not in looked_up:
        yield (*loc, "timestamp"), "is not signed, so it proves nothing: look up {timestamp} in `signed`"


def _challenge(loc: Loc, webhook: Webhook, challenge: Challenge) -> Iterator[Finding]:
    if not challenge.when:
        yield (*loc, "when"), "must say by what a challenge is known"
    yield from _when((*loc, "when"), challenge.when)
    yield from _secret((*loc, "secret"), webhook, challenge.secret)
    if (challenge.token is None) != (challenge.secret is None):
        yield loc, "`token` and `secret` belong together: the first must equal the second"


def _when(loc: Loc, when: Mapping[str, Any]) -> Iterator[Finding]:
    for key, wanted in when.items():
        if "{" in key or "}" in key:
            yield (*loc, key), "is written without braces, as payload.x"
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values or any(isinstance(value, dict | list) for value in values):
            yield (*loc, key), "must be a text, number, boolean or null, or a list of these"


def _rule(loc: Loc, manifest: Manifest, rule: EventRule) -> Iterator[Finding]:
    yield from _when((*loc, "when"), rule.when)
    if not _TYPE.fullmatch(_flat(rule.type)):
        yield (*loc, "type"), "must look like word.word: lower-case letters, digits and '_'"
    for word, known in (("severity", SEVERITIES), ("action", ACTIONS)):
        given = getattr(rule, word)
        for text in given if isinstance(given, list) else [given]:
            yield from _known((*loc, word), manifest, text, known)


def _flat(text: str) -> str:
    """Put an `x` for each look-up."""
    return _LOOKUP.sub("x", text)


def _known(loc: Loc, manifest: Manifest, text: str | None, known: tuple[str, ...]) -> Iterator[Finding]:
    """Check what a word can become as far as the file says it: its constant, or the values of its table."""
    if text is None:
        return
    found = _lookups(text)
    if not found and text not in known:
        yield loc, f"must be one of {', '.join(known)}{did_you_mean(text, known) if len(text) > 2 else ''}"
    for lookup in found:
        values = manifest.maps.get(lookup.table or "", {}).values()
        if _flat(text) == "x" and (odd := [value for value in values if value not in (*known, None)]):
            yield ("maps", str(lookup.table)), f"'{odd[0]}' is none of {', '.join(known)}"


def _notify(loc: Loc, manifest: Manifest, notify: Notify) -> Iterator[Finding]:
    yield from _message(loc, manifest, notify)
    if "" in notify.escape:
        yield (*loc, "escape"), "must not replace nothing"
    window = notify.window
    if window is None:
        return
    yield from _message((*loc, "window"), manifest, window)
    if not any(window.event == kind or "*" in kind for kind in event_types(manifest)):
        found = did_you_mean(window.event, event_types(manifest))
        yield (*loc, "window", "event"), f"no rule of `events` makes '{window.event}'{found}"


def _message(loc: Loc, manifest: Manifest, part: Notify | Window) -> Iterator[Finding]:
    """Check the call that sends a message: it gives the endpoint what it takes, and reaches the channel."""
    endpoint = manifest.endpoints.get(part.endpoint)
    if endpoint is None:
        found = did_you_mean(part.endpoint, manifest.endpoints)
        yield (*loc, "endpoint"), f"no endpoint '{part.endpoint}'{found}"
        return
    known = properties(endpoint)
    for param in part.params:
        if param not in known:
            yield (*loc, "params", param), f"is no parameter of '{part.endpoint}'{did_you_mean(param, known)}"
    for param in required(endpoint):
        given = part.params.get(param)
        if param not in part.params:
            yield (*loc, "params"), f"'{part.endpoint}' needs '{param}'"
        elif (
            isinstance(given, str) and _flat(given) == "x" and any(item.optional for item in _lookups(given))
        ):
            yield (*loc, "params", param), f"may be absent, but '{part.endpoint}' needs it"
    looked_up = [lookup for param in part.params.values() for lookup in _all_lookups(param)]
    if not any(lookup.name == "channel" for lookup in looked_up):
        yield (*loc, "params"), "must look up {channel} somewhere"
    for lookup in looked_up:
        if problem := _event_problem(lookup):
            yield (*loc, "params"), f"'{{{lookup.name}}}' {problem}"


def _event_problem(lookup: Lookup) -> str | None:
    space, _, name = lookup.name.partition(".")
    first, _, inner = name.partition(".")
    if space != "event" or not name:
        return None
    if first not in ALWAYS + SOMETIMES:
        return f"is nothing an event has{did_you_mean(first, ALWAYS + SOMETIMES)}"
    if inner and first != "data":
        return f"leads nowhere: write '{{event.{first}}}'"
    if not lookup.optional and (first in SOMETIMES or inner):
        return f"may be absent; write '{{{lookup.name}?}}'"
    return None


def _lookups(text: str) -> list[Lookup]:
    try:
        return parse_lookups(text)
    except TemplateError:
        return []


def _all_lookups(value: Any) -> list[Lookup]:
    try:
        return lookups_of(value)
    except TemplateError:
        return []


def event_types(manifest: Manifest) -> list[str]:
    """List the types of events a connector makes, `*` standing for what only the webhook tells."""
    return list(dict.fromkeys(kind for rule in manifest.events for kind in _types_of(manifest, rule)))


def _types_of(manifest: Manifest, rule: EventRule) -> Iterator[str]:
    """Write a type out for each of the values that `when` allows what it looks up."""
    found = _lookups(rule.type)
    wanted = rule.when.get(found[0].name) if len(found) == 1 else None
    values = wanted if isinstance(wanted, list) else [wanted]
    table = manifest.maps.get(found[0].table or "") if found else None
    if table is not None:
        values = [table.get(str(value), table.get(ANY)) for value in values]
    if not found or not all(isinstance(value, str) and value != ANY for value in values):
        values = [ANY]
    for value in values:
        yield _LOOKUP.sub(str(value), rule.type)
