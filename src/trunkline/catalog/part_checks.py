"""Checks of a connector's parts at load: names, references, words that fit their type, paths and patterns."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.catalog.lookup_checks import Finding, lookups_of, properties, required
from trunkline.catalog.manifest import AuthMethod, ConfigField, Endpoint, Manifest, Paging, Stream
from trunkline.catalog.patterns import matches, pattern_problem
from trunkline.catalog.strict_yaml import Loc
from trunkline.catalog.template import TemplateError
from trunkline.catalog.vocabulary import did_you_mean

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)

_KEY = r"[^\s.\[\]{}\"\x00-\x1f\x7f](?:[^.\[\]{}\"\x00-\x1f\x7f]*[^\s.\[\]{}\"\x00-\x1f\x7f])?"
_BRACKET = r"\[(?:[0-9]{1,9}|\"[^\"\x00-\x1f\x7f]*\")?\]"
_PATH = re.compile(rf"(?:{_KEY}|{_BRACKET})(?:\.{_KEY}|{_BRACKET})*")
_STEP = re.compile(rf"{_BRACKET}|{_KEY}")
_MAX_STEPS = 32
_MAX_ARRAYS = 4
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_ADDRESS = re.compile(r"(?:https?://|\{config\.|\{base_url\})")

PAGING_WORDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "none": (frozenset(), frozenset()),
    "cursor": (
        frozenset({"cursor_param", "cursor_path"}),
        frozenset({"limit", "more_path", "last_path", "total_path"}),
    ),
    "link": (frozenset(), frozenset({"limit", "total_path"})),
    "page": (
        frozenset({"page_param"}),
        frozenset({"first_page", "limit", "more_path", "last_path", "total_path"}),
    ),
    "offset": (frozenset({"offset_param", "limit"}), frozenset({"more_path", "last_path", "total_path"})),
    "keyset": (frozenset({"limit", "offset_param"}), frozenset({"total_path"})),
}
"""For each paging type: the words it needs, and those it may have."""

_TOKEN_WORDS = frozenset(
    {"token_url", "scopes", "token_response_path", "client_id", "token_lifetime_seconds"}
)
_FIELD_WORDS = frozenset({"token_request_client_id_field", "token_request_client_secret_field"})
_ASSERTION_WORDS = frozenset(
    {"assertion_issuer", "assertion_subject", "assertion_audience", "assertion_scopes_in_jwt"}
)
AUTH_WORDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "none": (frozenset(), frozenset()),
    "basic": (frozenset(), frozenset()),
    "api_key_header": (frozenset(), frozenset({"header_name", "header_format"})),
    "bearer_token": (frozenset(), frozenset()),
    "oauth2_client_credentials": (frozenset({"token_url"}), _TOKEN_WORDS | _FIELD_WORDS),
    "json_token_exchange": (frozenset({"token_url"}), _TOKEN_WORDS | _FIELD_WORDS),
    "oauth2_jwt_bearer": (frozenset({"token_url"}), _TOKEN_WORDS | _ASSERTION_WORDS),
    "bearer_token_exchange": (
        frozenset({"exchange_url"}),
        frozenset(
            {
                "exchange_secret_header",
                "exchange_secret_format",
                "exchange_param_headers",
                "exchange_token_field",
                "exchange_expires_in_field",
                "exchange_default_ttl_seconds",
            }
        ),
    ),
}
"""For each auth type: the words it needs, and those it may have beside `label`, `description`, `secrets`."""
_ANY_AUTH = frozenset({"type", "label", "description", "secrets"})


def check_parts(manifest: Manifest) -> Iterator[Finding]:
    """Check everything but look-ups."""
    yield from _names(manifest)
    yield from _address(manifest)
    for name, field in manifest.config.items():
        yield from _config(("config", name), field)
    if manifest.notify:
        yield from _config(("notify", "channel"), manifest.notify.channel)
    for name, method in manifest.auth.items():
        yield from _auth(("auth", name), method)
    for name, endpoint in manifest.endpoints.items():
        yield from _endpoint(("endpoints", name), endpoint)
    yield from _check_call(manifest)
    for name, stream in manifest.streams.items():
        yield from _stream(manifest, name, stream)
    yield from _cycles(manifest)
    yield from _paths(manifest)


def _names(manifest: Manifest) -> Iterator[Finding]:
    for part in ("config", "auth", "endpoints", "streams", "maps"):
        for name in getattr(manifest, part):
            if not NAME.fullmatch(name):
                yield (part, name), "a name is lower-case letters, digits and '_', 64 at most, a letter first"


def _address(manifest: Manifest) -> Iterator[Finding]:
    addresses: list[tuple[Loc, str]] = [(("base_url",), manifest.base_url)] if manifest.base_url else []
    if not manifest.base_url and (manifest.endpoints or manifest.auth or not manifest.webhook):
        yield ("base_url",), "is missing; only a connector that does nothing but receive webhooks has none"
    addresses += [
        (("endpoints", name, "base_url"), endpoint.base_url)
        for name, endpoint in manifest.endpoints.items()
        if endpoint.base_url is not None
    ]
    for loc, text in addresses:
        if not _ADDRESS.match(text) or "?" in text.partition("{")[0] or "#" in text:
            yield loc, "must begin with https://, http:// or a look-up, without query and fragment"
    if manifest.docs_url is not None and not manifest.docs_url.startswith(("https://", "http://")):
        yield ("docs_url",), "must begin with https:// or http://"
    if manifest.rate_limit:
        for word in ("remaining", "reset"):
            header = getattr(manifest.rate_limit, word)
            if header is not None and not HEADER.fullmatch(header):
                yield ("rate_limit", word), "is no header name"


def _config(loc: Loc, field: ConfigField) -> Iterator[Finding]:
    if field.pattern is None:
        return
    if problem := pattern_problem(field.pattern):
        yield (*loc, "pattern"), problem
        return
    for word in ("default", "example"):
        text = getattr(field, word)
        if text is not None and not matches(field.pattern, text):
            yield (*loc, word), "does not match the pattern"


def _auth(loc: Loc, method: AuthMethod) -> Iterator[Finding]:
    needed, allowed = AUTH_WORDS[method.type]
    given = method.model_fields_set - _ANY_AUTH
    yield from fitting(loc, method.type, given, needed, allowed)
    if clash := sorted(
        set(method.secrets) & {"username", "password", "api_key", "bearer_token", "client_secret"}
    ):
        yield (*loc, "secrets", clash[0]), "is a name that auth types use themselves"
    for name in method.secrets:
        if not NAME.fullmatch(name):
            yield (*loc, "secrets", name), "a name is lower-case letters, digits and '_', a letter first"


def fitting(
    loc: Loc, kind: str, given: set[str], needed: frozenset[str], allowed: frozenset[str]
) -> Iterator[Finding]:
    """Check that the words given are those of the type."""
    for word in sorted(needed - given):
        yield loc, f"type '{kind}' needs '{word}'"
    for word in sorted(given - needed - allowed):
        yield (*loc, word), f"is no word of type '{kind}'{did_you_mean(word, sorted(needed | allowed))}"


def _endpoint(loc: Loc, endpoint: Endpoint) -> Iterator[Finding]:
    if not endpoint.path.startswith("/") or endpoint.path.startswith("//"):
        yield (*loc, "path"), "must begin with one '/'"
    if endpoint.body is not None and endpoint.method in {"GET", "DELETE"}:
        yield (*loc, "body"), f"{endpoint.method} sends no body"
    if endpoint.record_mapping is not None and endpoint.response_mapping:
        yield (*loc, "record_mapping"), "takes the place of response_mapping; use one of them"
    if endpoint.paging:
        yield from _paging((*loc, "paging"), endpoint.paging)
        if endpoint.paging.type == "keyset":
            yield (*loc, "paging", "type"), "keyset follows a cursor, so it belongs to a stream"
    yield from _input_schema((*loc, "input_schema"), endpoint)


def _input_schema(loc: Loc, endpoint: Endpoint) -> Iterator[Finding]:
    schema = endpoint.input_schema
    if not schema:
        return
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        yield loc, "must have `type: object` and `properties`"
        return
    listed = schema.get("required", [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        yield (*loc, "required"), "must be a list of parameter names"
        return
    for name in listed:
        if name not in properties(endpoint):
            yield (
                (*loc, "required"),
                f"'{name}' is not in properties{did_you_mean(name, properties(endpoint))}",
            )


def _paging(loc: Loc, paging: Paging) -> Iterator[Finding]:
    needed, allowed = PAGING_WORDS[paging.type]
    given = {word for word in paging.model_fields_set if getattr(paging, word) is not None} - {"type"}
    yield from fitting(loc, paging.type, given, needed, allowed)


def _check_call(manifest: Manifest) -> Iterator[Finding]:
    if manifest.check is None:
        return
    endpoint = manifest.endpoints.get(manifest.check)
    if endpoint is None:
        yield ("check",), f"no endpoint '{manifest.check}'{did_you_mean(manifest.check, manifest.endpoints)}"
    elif required(endpoint):
        yield (
            ("check",),
            f"'{manifest.check}' needs parameters ({', '.join(required(endpoint))}); use one without",
        )
    elif not endpoint.auth:
        yield ("check",), f"'{manifest.check}' sends no credentials, so it cannot check them"


def _stream(manifest: Manifest, name: str, stream: Stream) -> Iterator[Finding]:
    loc = ("streams", name)
    endpoint = manifest.endpoints.get(stream.endpoint)
    if endpoint is None:
        found = did_you_mean(stream.endpoint, manifest.endpoints)
        yield (*loc, "endpoint"), f"no endpoint '{stream.endpoint}'{found}"
        return
    yield from _stream_params(loc, stream, endpoint)
    paging = stream.paging or endpoint.paging
    if stream.paging:
        yield from _paging((*loc, "paging"), stream.paging)
    if paging and paging.type == "keyset" and stream.cursor is None:
        yield (*loc, "paging", "type"), "keyset needs the stream's `cursor`"
    if stream.cursor and not _uses_cursor(stream.cursor.query):
        yield (*loc, "cursor", "query"), "must look up {cursor} somewhere"
    if stream.for_each and stream.for_each.stream not in manifest.streams:
        found = did_you_mean(stream.for_each.stream, manifest.streams)
        yield (*loc, "for_each", "stream"), f"no stream '{stream.for_each.stream}'{found}"


def _stream_params(loc: Loc, stream: Stream, endpoint: Endpoint) -> Iterator[Finding]:
    known = properties(endpoint)
    child = stream.for_each.params if stream.for_each else {}
    for at, given in ((("params",), stream.params), (("for_each", "params"), child)):
        for param in given:
            if param not in known:
                yield (
                    (*loc, *at, param),
                    f"is no parameter of '{stream.endpoint}'{did_you_mean(param, known)}",
                )
    for param in required(endpoint):
        if param not in stream.params and param not in child:
            yield (
                (*loc, "endpoint"),
                f"'{stream.endpoint}' needs '{param}'; give it under params or for_each.params",
            )


def _uses_cursor(query: Mapping[str, Any]) -> bool:
    try:
        return any(lookup.name == "cursor" for lookup in lookups_of(dict(query)))
    except TemplateError:
        return True


def _cycles(manifest: Manifest) -> Iterator[Finding]:
    for name in manifest.streams:
        seen = [name]
        while (
            (stream := manifest.streams.get(seen[-1]))
            and stream.for_each
            and stream.for_each.stream not in seen[1:]
        ):
            seen.append(stream.for_each.stream)
            if seen[-1] == name:
                loc = ("streams", name, "for_each", "stream")
                yield loc, f"goes in a circle: {' → '.join(seen)}"
                break


def _paths(manifest: Manifest) -> Iterator[Finding]:
    for loc, text in _paths_of(manifest):
        if text is None:
            continue
        if len(text) > 512 or not _PATH.fullmatch(text):
            yield loc, "is no path; a path is a.b, a[].b or a[0].b"
        elif text.count("[]") > _MAX_ARRAYS or len(_STEP.findall(text)) > _MAX_STEPS:
            yield loc, f"has more than {_MAX_STEPS} steps, or more than {_MAX_ARRAYS} times `[]`"


def _paths_of(manifest: Manifest) -> Iterator[tuple[Loc, str | None]]:
    yield from _error_paths(("errors",), manifest.errors)
    for name, method in manifest.auth.items():
        for word in ("token_response_path", "exchange_token_field", "exchange_expires_in_field"):
            yield ("auth", name, word), getattr(method, word)
    for name, endpoint in manifest.endpoints.items():
        loc = ("endpoints", name)
        yield from _error_paths((*loc, "errors"), endpoint.errors)
        yield (*loc, "records"), endpoint.records
        yield (*loc, "result_key"), endpoint.result_key
        for index, text in enumerate(endpoint.response_filter or []):
            yield (*loc, "response_filter", index), text
        for key, text in (endpoint.response_mapping or {}).items():
            yield (*loc, "response_mapping", key), text
        yield from _mapped_paths((*loc, "record_mapping"), endpoint.record_mapping or {})
        yield from _paging_paths((*loc, "paging"), endpoint.paging)
    for name, stream in manifest.streams.items():
        yield ("streams", name, "key"), stream.key
        yield ("streams", name, "cursor", "field"), stream.cursor.field if stream.cursor else None
        yield from _mapped_paths(("streams", name, "record_mapping"), stream.record_mapping or {})
        yield from _paging_paths(("streams", name, "paging"), stream.paging)
        for text in stream.deleted or {}:
            yield ("streams", name, "deleted", text), text
    for index, rule in enumerate(manifest.events):
        yield ("events", index, "each"), rule.each
    if manifest.notify and manifest.notify.window:
        for text in manifest.notify.window.refused:
            yield ("notify", "window", "refused", text), text


def _mapped_paths(loc: Loc, mapping: Mapping[str, Any]) -> Iterator[tuple[Loc, str | None]]:
    for key, item in mapping.items():
        if isinstance(item, dict):
            yield from _mapped_paths((*loc, key), item)
        else:
            yield (*loc, key), item if isinstance(item, str) else ""


def _error_paths(loc: Loc, rule: Any) -> Iterator[tuple[Loc, str | None]]:
    if rule is not None:
        for word in ("message", "ok", "present"):
            yield (*loc, word), getattr(rule, word)


def _paging_paths(loc: Loc, paging: Paging | None) -> Iterator[tuple[Loc, str | None]]:
    if paging is not None:
        for word in ("cursor_path", "more_path", "last_path", "total_path"):
            yield (*loc, word), getattr(paging, word)
