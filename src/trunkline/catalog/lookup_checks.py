"""Checks of a connector's look-ups at load: every name exists, may be looked up there, and is required rightly."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trunkline.catalog.manifest import Endpoint, EventRule, Manifest, Webhook, credential_fields
from trunkline.catalog.strict_yaml import Loc
from trunkline.catalog.template import (
    ADDRESS,
    AUTH,
    CHILD,
    CURSOR,
    ENDPOINT,
    EVENT,
    MESSAGE,
    NAMESPACES,
    REQUEST,
    SIGNED,
    Lookup,
    Template,
    TemplateError,
    parse_lookups,
)
from trunkline.catalog.vocabulary import did_you_mean

Finding = tuple[Loc, str]

AUTH_TEMPLATES = {
    "token_url": AUTH,
    "exchange_url": AUTH,
    "header_name": ADDRESS,
    "client_id": ADDRESS,
    "assertion_issuer": ADDRESS,
    "assertion_subject": ADDRESS,
    "assertion_audience": ADDRESS,
}
"""Words of an auth method that may hold look-ups, and which."""
_SHARED_HEADERS = ENDPOINT - {"params"}
_STREAM_PARAMS = frozenset({"config"})
_NEEDED = frozenset({"base_url", "headers", "webhook", "events", "notify"})
"""Parts that every call, webhook or message needs: what they look up must not be left out."""


@dataclass(frozen=True, slots=True)
class Place:
    """One templated value of a manifest: where it is and what it may look up."""

    loc: Loc
    value: Any
    namespaces: frozenset[str]
    endpoint: str | None = None


def places(manifest: Manifest) -> Iterator[Place]:
    """List every templated value."""
    yield Place(("base_url",), manifest.base_url, ADDRESS)
    yield Place(("headers",), manifest.headers, _SHARED_HEADERS)
    for name, method in manifest.auth.items():
        for word, namespaces in AUTH_TEMPLATES.items():
            if isinstance(text := getattr(method, word), str):
                yield Place(("auth", name, word), text, namespaces)
    for name, endpoint in manifest.endpoints.items():
        yield from _endpoint_places(name, endpoint)
    for name, stream in manifest.streams.items():
        yield Place(("streams", name, "params"), stream.params, _STREAM_PARAMS)
        if stream.cursor:
            yield Place(("streams", name, "cursor", "query"), stream.cursor.query, CURSOR)
        if stream.for_each:
            yield Place(("streams", name, "for_each", "params"), stream.for_each.params, CHILD)
    if manifest.webhook:
        yield from _webhook_places(manifest.webhook)
    for index, rule in enumerate(manifest.events):
        yield from _event_places(("events", index), rule)
    if manifest.notify:
        yield Place(("notify", "params"), manifest.notify.params, MESSAGE)
        if manifest.notify.window:
            yield Place(("notify", "window", "params"), manifest.notify.window.params, MESSAGE)


def _webhook_places(webhook: Webhook) -> Iterator[Place]:
    templates = {"header": ADDRESS, "prefix": ADDRESS, "signed": SIGNED, "timestamp": REQUEST}
    for name, way in webhook.verify.items():
        for word, namespaces in templates.items():
            if (text := getattr(way, word)) is not None:
                yield Place(("webhook", "verify", name, word), text, namespaces)
    if webhook.delivery_id is not None:
        yield Place(("webhook", "delivery_id"), webhook.delivery_id, REQUEST)
    if challenge := webhook.challenge:
        loc = ("webhook", "challenge")
        yield from _when_places((*loc, "when"), challenge.when, REQUEST)
        yield Place((*loc, "answer"), challenge.answer, REQUEST)
        if challenge.token is not None:
            yield Place((*loc, "token"), challenge.token, REQUEST)


def _event_places(loc: Loc, rule: EventRule) -> Iterator[Place]:
    namespaces = EVENT if rule.each else EVENT - {"item"}
    yield from _when_places((*loc, "when"), rule.when, namespaces)
    for word in EventRule.model_fields:
        if word not in {"when", "each"} and (text := getattr(rule, word)) is not None:
            yield Place((*loc, word), text, namespaces)


def _when_places(loc: Loc, when: dict[str, Any], namespaces: frozenset[str]) -> Iterator[Place]:
    """Read the keys of a `when` as the look-ups they are."""
    for key in when:
        if "{" not in key and "}" not in key:
            yield Place((*loc, key), "{" + key + "?}", namespaces)


def _endpoint_places(name: str, endpoint: Endpoint) -> Iterator[Place]:
    loc = ("endpoints", name)
    if endpoint.base_url is not None:
        yield Place((*loc, "base_url"), endpoint.base_url, AUTH)
    for word in ("path", "query", "headers", "body"):
        value = getattr(endpoint, word)
        if value:
            yield Place((*loc, word), value, ENDPOINT, name)


def leaves(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """List the strings of a nested value."""
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*loc, index))


def lookups_of(value: Any) -> list[Lookup]:
    """List the look-ups of a nested value whose templates are known to be well written."""
    return [lookup for _, text in leaves(value, ()) for lookup in parse_lookups(text)]


def check_lookups(manifest: Manifest) -> Iterator[Finding]:
    """Check every look-up, and that every table, config field and body parameter is looked up somewhere."""
    used: list[Lookup] = []
    broken = False
    for place in places(manifest):
        try:
            Template.compile(place.value, namespaces=place.namespaces, maps=manifest.maps)
        except TemplateError as error:
            yield (*place.loc, *error.loc), str(error)
            broken = True
            continue
        for loc, text in leaves(place.value, place.loc):
            for lookup in parse_lookups(text):
                used.append(lookup)
                if problem := _problem(manifest, place, lookup):
                    yield loc, f"'{{{lookup.name}}}' {problem}"
    if not broken:
        yield from _unused(manifest, used)


def _problem(manifest: Manifest, place: Place, lookup: Lookup) -> str | None:
    space, _, rest = lookup.name.partition(".")
    if space == "config":
        needed = place.loc[0] in _NEEDED and not lookup.optional
        return _config_problem(manifest, rest, needed=needed)
    if space == "header" and rest != rest.lower():
        return "is looked up in lower case"
    if space == "secret":
        return _secret_problem(manifest, rest)
    if space not in NAMESPACES and place.endpoint is not None:
        return _param_problem(manifest.endpoints[place.endpoint], place, lookup)
    return None


def _param_problem(endpoint: Endpoint, place: Place, lookup: Lookup) -> str | None:
    name = lookup.name.split(".")[0]
    known = properties(endpoint)
    if name not in known:
        return f"is not in input_schema.properties{did_you_mean(name, known)}"
    if "path" in place.loc[2:3]:
        in_query = "?" in endpoint.path.partition("{" + lookup.name)[0]
        if lookup.optional and not in_query:
            return "is part of the path and cannot be optional"
    if not lookup.optional and name not in required(endpoint):
        return f"may be absent: list '{name}' under input_schema.required, or write '{{{lookup.name}?}}'"
    return None


def _config_problem(manifest: Manifest, name: str, *, needed: bool) -> str | None:
    field = manifest.config.get(name)
    if field is None:
        return f"is not in config{did_you_mean(name, manifest.config)}"
    if needed and field.optional and field.default is None:
        return "is needed by every call, but optional and without a default; write '{config." + name + "?}'"
    return None


def _secret_problem(manifest: Manifest, name: str) -> str | None:
    known = {field.name for method in manifest.auth.values() for field in credential_fields(method)}
    known |= set(manifest.webhook.secrets) if manifest.webhook else set()
    if name not in known:
        return f"is no secret of auth or webhook{did_you_mean(name, sorted(known))}"
    return None


def properties(endpoint: Endpoint) -> list[str]:
    """List the parameters that an endpoint's input schema declares."""
    found = endpoint.input_schema.get("properties")
    return list(found) if isinstance(found, dict) else []


def required(endpoint: Endpoint) -> list[str]:
    """List the parameters that an endpoint's input schema requires."""
    found = endpoint.input_schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _unused(manifest: Manifest, used: list[Lookup]) -> Iterator[Finding]:
    tables = {lookup.table for lookup in used}
    names = {lookup.name for lookup in used}
    for table in manifest.maps:
        if table not in tables:
            yield ("maps", table), "is never looked up; remove it, or write '{name|" + table + "}' somewhere"
    for field in manifest.config:
        if f"config.{field}" not in names:
            yield (
                ("config", field),
                "is never looked up; remove it, or write '{config." + field + "}' somewhere",
            )
    for name, endpoint in manifest.endpoints.items():
        for param in _dropped(manifest, endpoint):
            loc = ("endpoints", name, "input_schema", "properties", param)
            yield loc, "is never sent: the body, path, query and headers do not look it up"


def _dropped(manifest: Manifest, endpoint: Endpoint) -> list[str]:
    if endpoint.body is None or endpoint.method in {"GET", "DELETE"}:
        return []
    sent = [endpoint.path, endpoint.query, endpoint.headers, endpoint.body]
    looked_up = {lookup.name.split(".")[0] for lookup in lookups_of(sent)}
    exchanged = {
        header.param_name for method in manifest.auth.values() for header in method.exchange_param_headers
    }
    return [name for name in properties(endpoint) if name not in looked_up | exchanged]
