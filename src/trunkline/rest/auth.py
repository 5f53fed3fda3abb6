"""Turn an integration's secrets into the headers of its calls (contract: Platform API, 5.4, and `basic`).

Decides which header carries what. Fetching tokens is `grants`, keeping them `tokens`.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trunkline.catalog.manifest import AuthMethod
from trunkline.errors import Invalid
from trunkline.redact import Redactor
from trunkline.rest.endpoint import header_name_allowed, header_safe
from trunkline.rest.grants import TOKEN_TYPES, mint, needed
from trunkline.rest.recorder import Recorder
from trunkline.rest.request import scalar
from trunkline.rest.target import Target, misconfigured
from trunkline.rest.tokens import Token, TokenCache, TokenKey, digest

DEFAULT_KEY_HEADER = "X-API-Key"
PUBLIC_NAMES = frozenset({"username", "client_id"})
"""Stored with the secrets but no secrets: blanking them out would mangle ordinary records."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one call authenticates with: ready headers, or a token still to be looked up."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: TokenKey | None = None
    param_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    used: frozenset[str] = frozenset()
    """Call parameters that auth takes out of the request."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The headers that authorise one attempt, and the cached token behind them."""

    headers: Mapping[str, str] = field(repr=False)
    token: Token | None = None
    was_cached: bool = False


def prepare(target: Target, params: Mapping[str, Any], secrets: Mapping[str, str]) -> Credentials:
    """Work out what the call authenticates with, without sending anything.

    Raises:
        Invalid: for a missing or unsendable parameter of `exchange_param_headers`.
        RemoteFailed: kind "misconfigured", for a missing or unsendable secret.
    """
    auth = target.auth
    if auth is None:
        return Credentials()
    if auth.type not in TOKEN_TYPES:
        return Credentials(headers=_READY[auth.type](auth, secrets))
    param_headers, used = _param_headers(auth, params) if auth.exchange_param_headers else ({}, frozenset())
    parts = [target.fingerprint]
    for pairs in (sorted(secrets.items()), param_headers.items()):
        parts += [text for pair in pairs for text in pair]
    return Credentials(key=(target.integration_id, digest(parts)), param_headers=param_headers, used=used)


async def authorize(
    tokens: TokenCache,
    target: Target,
    secrets: Mapping[str, str],
    credentials: Credentials,
    recorder: Recorder,
) -> Authorization:
    """Return the headers of one attempt, fetching a token if none is cached.

    Raises:
        RemoteFailed: kind "auth" or "misconfigured".
    """
    key, auth = credentials.key, target.auth
    if key is None or auth is None:
        return Authorization(credentials.headers)
    token = tokens.peek(key)
    was_cached = token is not None
    if token is None:
        param_headers = credentials.param_headers
        token = await tokens.fetch(key, lambda: mint(target, auth, secrets, param_headers, recorder))
    recorder.redactor.add(token.value)
    return Authorization({"Authorization": f"Bearer {token.value.strip()}"}, token, was_cached)


def carrying_headers(auth: AuthMethod | None) -> set[str]:
    """Name the headers that carry credentials with this way in, in lower case."""
    names = {"authorization"}
    if auth is not None and auth.type == "api_key_header":
        names.add((auth.header_name or DEFAULT_KEY_HEADER).lower())
    elif auth is not None and auth.type == "bearer_token_exchange":
        names.add(auth.exchange_secret_header.lower())
    return names


def redactor_for(secrets: Mapping[str, str]) -> Redactor:
    """Make a redactor for an integration's secrets; user names and client ids are none."""
    hidden = {value for name, value in secrets.items() if name not in PUBLIC_NAMES}
    redactor = Redactor({*hidden, *(value.strip() for value in hidden)})
    if "username" in secrets:
        redactor.add_pair(secrets["username"].strip(), secrets.get("password", ""))
    return redactor


def needs_params(auth: AuthMethod | None) -> list[str]:
    """Name the call parameters without which no token can be fetched."""
    if auth is None or auth.type != "bearer_token_exchange":
        return []
    return [mapping.param_name for mapping in auth.exchange_param_headers if mapping.required]


def _api_key(auth: AuthMethod, secrets: Mapping[str, str]) -> dict[str, str]:
    name = auth.header_name or DEFAULT_KEY_HEADER
    value = auth.header_format.replace("{secret}", needed(secrets, "api_key"))
    if not header_name_allowed(name):
        raise misconfigured(f"header_name: {name[:256]!r} is no header that a call may set")
    return {name: _sendable(value, "api_key")}


def _bearer(_auth: AuthMethod, secrets: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": "Bearer " + _sendable(needed(secrets, "bearer_token"), "bearer_token")}


def _basic(_auth: AuthMethod, secrets: Mapping[str, str]) -> dict[str, str]:
    """RFC 7617, in UTF-8. The password may be empty: some services want the key as the user name."""
    username = needed(secrets, "username")
    if ":" in username:
        raise misconfigured("username must not hold a colon")
    pair = f"{username}:{secrets.get('password', '')}".encode("utf-8", "replace")
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


_READY: dict[str, Callable[[AuthMethod, Mapping[str, str]], dict[str, str]]] = {
    "api_key_header": _api_key,
    "bearer_token": _bearer,
    "basic": _basic,
    "none": lambda _auth, _secrets: {},  # its secrets stand where the endpoints look them up
}


def _sendable(value: str, name: str) -> str:
    if not header_safe(value):
        raise misconfigured(f"{name} holds characters that no header can carry")
    return value


def _param_headers(auth: AuthMethod, params: Mapping[str, Any]) -> tuple[dict[str, str], frozenset[str]]:
    headers: dict[str, str] = {}
    used = set()
    for mapping in auth.exchange_param_headers if auth.type == "bearer_token_exchange" else ():
        value = params.get(mapping.param_name)
        if value is None:
            if mapping.required:
                raise Invalid.field(("body", "params", mapping.param_name), "Field required", "missing")
            continue
        text = scalar(value)
        if text is None or not text.strip() or not header_safe(text):
            problem = "must be a string, a number or a boolean that a header can carry"
            raise Invalid.field(("body", "params", mapping.param_name), problem)
        if not header_name_allowed(mapping.header_name):
            raise misconfigured(f"exchange_param_headers: {mapping.header_name} cannot be set by a call")
        headers[mapping.header_name] = text.strip()
        if mapping.consume:
            used.add(mapping.param_name)
    return headers, frozenset(used)
