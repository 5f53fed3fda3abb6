"""Check what somebody wants an integration to be, before anything is stored. Pure: no storage.

Every fault is collected and named by its place in the request body.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from trunkline.catalog import configure
from trunkline.catalog.endpoint import AuthConfig, AuthConfigWithSecrets, EndpointConfig
from trunkline.catalog.manifest import Manifest, webhook_fields
from trunkline.catalog.registry import Registry
from trunkline.egress import check_header, check_url
from trunkline.errors import FieldError, Invalid, NotFound
from trunkline.rest.caller import compile_endpoint

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{1,127}")
_AUTH_URLS = ("token_url", "exchange_url")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A connector's way in, and the values a person entered for it."""

    method: str | None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Draft:
    """An integration somebody asks for."""

    name: str
    display_name: str
    connector: str | None = None
    base_url: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    auth: AuthConfigWithSecrets | None = None
    credentials: Credentials | None = None
    endpoints: Sequence[EndpointConfig] = ()
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Checked:
    """What may be stored: secrets apart from everything else."""

    config: dict[str, str]
    auth: dict[str, Any] | None
    endpoints: list[dict[str, Any]]
    secrets: dict[str, str] = field(repr=False)


class _Parts(Protocol):
    """What a draft and a change have in common."""

    @property
    def base_url(self) -> str | None: ...
    @property
    def auth(self) -> AuthConfigWithSecrets | None: ...
    @property
    def credentials(self) -> Credentials | None: ...
    @property
    def endpoints(self) -> Sequence[EndpointConfig] | None: ...


def connector_of(catalog: Registry, connector: str | None) -> Manifest | None:
    """Look the connector of a draft up.

    Raises:
        Invalid: naming `connector`, when the catalogue has none of that id.
    """
    if connector is None:
        return None
    try:
        return catalog.get(connector)
    except NotFound:
        raise Invalid.field(
            ("body", "connector"), "no such connector; the catalogue lists those there are"
        ) from None


def check(draft: Draft, manifest: Manifest | None) -> Checked:
    """Check a new integration.

    Raises:
        Invalid: with every field at fault.
    """
    problems: list[FieldError] = []
    if not _NAME.fullmatch(draft.name):
        text = "must be lower-case letters, digits, hyphens and underscores, and start with a letter or digit"
        problems.append(FieldError(("body", "name"), text, "string_pattern_mismatch"))
    return _check_parts(draft, dict(draft.config), draft.base_url, manifest, problems)


def check_change(
    change: Any,
    stored_config: Mapping[str, str],
    stored_base_url: str,
    manifest: Manifest | None,
    stored_method: str | None = None,
) -> Checked:
    """Check a partial update; a config value of None removes that value, credentials without a method keep it.

    Raises:
        Invalid: with every field at fault.
    """
    config = dict(stored_config)
    for key, value in (change.config or {}).items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    base_url = stored_base_url if change.base_url is None else change.base_url
    return _check_parts(change, config, base_url, manifest, [], partial=True, stored_method=stored_method)


def _check_parts(
    parts: _Parts,
    config: dict[str, str],
    base_url: str,
    manifest: Manifest | None,
    problems: list[FieldError],
    *,
    partial: bool = False,
    stored_method: str | None = None,
) -> Checked:
    if parts.base_url:
        problems += _url_problems(("body", "base_url"), parts.base_url)
    config, faults = _check_config(config, base_url, manifest)
    problems += faults
    auth, secrets, faults = _check_way_in(parts, manifest, stored_method, partial=partial)
    problems += faults
    endpoints, faults = _check_endpoints(parts.endpoints or (), manifest)
    problems += faults
    if problems:
        raise Invalid(fields=problems)
    return Checked(config, auth, endpoints, secrets)


def _url_problems(loc: tuple[str | int, ...], url: str) -> list[FieldError]:
    try:
        check_url(url)
    except ValueError as error:
        return [FieldError(loc, str(error), "url_parsing")]
    if loc[-1] == "base_url" and "?" in url:
        return [FieldError(loc, "must have no query (?…); put it into the endpoints' paths", "url_parsing")]
    return []


def _check_config(
    config: dict[str, str], base_url: str, manifest: Manifest | None
) -> tuple[dict[str, str], list[FieldError]]:
    if manifest is None:
        text = "only an integration made from a connector has config"
        return {}, [FieldError(("body", "config", key), text) for key in config]
    faults = configure.check_config(manifest, config, base_url=base_url or None)
    return config, [_in_body(fault) for fault in faults]


def _in_body(fault: FieldError, *place: str) -> FieldError:
    """Place a fault of the catalogue in the request body; `place` stands for the first part of its loc."""
    loc = (*place, *fault.loc[1:]) if place else fault.loc
    return FieldError(("body", *loc), fault.msg, fault.type)


def _check_way_in(
    parts: _Parts, manifest: Manifest | None, stored_method: str | None, *, partial: bool
) -> tuple[dict[str, Any] | None, dict[str, str], list[FieldError]]:
    if parts.auth is not None and parts.credentials is not None:
        return None, {}, [FieldError(("body", "credentials"), "give either auth or credentials, not both")]
    if parts.auth is not None:
        return _check_native_auth(parts.auth)
    if parts.credentials is not None:
        return _check_credentials(parts.credentials, manifest, stored_method, partial=partial)
    if manifest is not None and not partial and not _may_be_anonymous(manifest):
        ways = ", ".join(manifest.auth)
        text = f"Field required: {manifest.name} is signed in to by {ways}"
        return None, {}, [FieldError(("body", "credentials"), text, "missing")]
    return None, {}, []


def _may_be_anonymous(manifest: Manifest) -> bool:
    return not manifest.auth or any(
        method.type == "none" and all(secret.optional for secret in method.secrets.values())
        for method in manifest.auth.values()
    )


def _check_native_auth(
    auth: AuthConfigWithSecrets,
) -> tuple[dict[str, Any], dict[str, str], list[FieldError]]:
    faults = [
        fault
        for name in _AUTH_URLS
        if (url := getattr(auth, name)) is not None
        for fault in _url_problems(("body", "auth", name), url)
    ]
    faults += _header_problems(auth)
    shown = AuthConfig.model_validate(auth.model_dump(include=set(AuthConfig.model_fields)))
    return shown.model_dump(mode="json"), auth.secrets(), faults


_IN_HEADERS = ("api_key_value", "bearer_token_value", "exchange_secret_value")


def _header_problems(auth: AuthConfigWithSecrets) -> Iterator[FieldError]:
    """Find what no header can carry; a refusal never repeats a secret."""
    sent: dict[tuple[str, ...], tuple[str, str]] = {}
    for named in ("exchange_secret_header", "header_name"):
        if (header := getattr(auth, named)) is not None:
            sent[named,] = (header, "x")
    for secret_field in _IN_HEADERS:
        if (secret := getattr(auth, secret_field)) is not None:
            sent[secret_field, "value"] = ("X-Secret", secret.value)
    for place, (name, value) in sent.items():
        try:
            check_header(name, value)
        except ValueError as error:
            yield FieldError(("body", "auth", *place), str(error))


def _check_credentials(
    credentials: Credentials, manifest: Manifest | None, stored_method: str | None, *, partial: bool
) -> tuple[dict[str, Any] | None, dict[str, str], list[FieldError]]:
    place = ("body", "credentials")
    if manifest is None:
        return None, {}, [FieldError(place, "only an integration made from a connector has credentials")]
    method = credentials.method or stored_method or next(iter(manifest.auth), None)
    if method not in manifest.auth and (manifest.auth or method):
        known = ", ".join(manifest.auth) or "none"
        return None, {}, [FieldError((*place, "method"), f"no such way in; {manifest.name} knows: {known}")]
    way_in = configure.effective_auth(manifest, method)
    faults = configure.check_credentials(manifest, way_in, credentials.values)
    if partial:
        faults = [fault for fault in faults if fault.type != "missing"]
    located = [_in_body(fault, "credentials", "values") for fault in faults]
    hooks_only = set(credentials.values) <= {field.name for field in webhook_fields(manifest.webhook)}
    is_kept = method is None or (partial and credentials.method is None and hooks_only)
    return None if is_kept else {"method": method}, dict(credentials.values), located


def _check_endpoints(
    endpoints: Iterable[EndpointConfig], manifest: Manifest | None
) -> tuple[list[dict[str, Any]], list[FieldError]]:
    derived = {entry["name"]: entry for entry in derived_endpoints(manifest)} if manifest else {}
    stored: dict[str, dict[str, Any]] = {}
    faults: list[FieldError] = []
    for index, endpoint in enumerate(endpoints):
        place = ("body", "endpoints", index)
        if endpoint.name in stored:
            faults.append(FieldError((*place, "name"), "is used by an endpoint before it"))
        stored[endpoint.name] = entry = endpoint.model_dump(mode="json")
        # A client that reads an integration and writes it back must not freeze the connector's endpoints,
        # nor be told that only a connector's file may say what they say.
        if derived.get(endpoint.name) != entry:
            faults += _endpoint_faults(place, endpoint, manifest)
    return [entry for name, entry in stored.items() if derived.get(name) != entry], faults


def _endpoint_faults(
    place: tuple[str | int, ...], endpoint: EndpointConfig, manifest: Manifest | None
) -> list[FieldError]:
    try:
        compile_endpoint(endpoint, manifest)
    except Invalid as error:
        return [FieldError((*place, *fault.loc), fault.msg, fault.type) for fault in error.fields]
    return []


_derived: dict[str, tuple[Manifest, list[dict[str, Any]], str]] = {}


def _derive(manifest: Manifest) -> tuple[Manifest, list[dict[str, Any]], str]:
    """Work a manifest's endpoints out once; a reloaded file is another object."""
    known = _derived.get(manifest.id)
    if known is None or known[0] is not manifest:
        fields = set(EndpointConfig.model_fields)
        entries = [item.model_dump(mode="json", include=fields) for item in manifest.endpoints.values()]
        known = _derived[manifest.id] = (manifest, entries, orjson.dumps(entries).decode())
    return known


def derived_endpoints(manifest: Manifest) -> list[dict[str, Any]]:
    """Show a connector's endpoints as the native wire does."""
    return _derive(manifest)[1]


def merged_endpoints(own: str, manifest: Manifest | None) -> str:
    """Return the JSON of an integration's own endpoints and its connector's, its own first by name."""
    if manifest is None:
        return own
    if own == "[]":
        return _derive(manifest)[2]
    mine = orjson.loads(own)
    names = {entry["name"] for entry in mine}
    rest = [entry for entry in derived_endpoints(manifest) if entry["name"] not in names]
    return orjson.dumps(mine + rest).decode()


def method_of(auth: str | None) -> str | None:
    """Return the connector's auth method in the stored `auth`; None for a native one."""
    stored = orjson.loads(auth) if auth else {}
    method = stored.get("method")
    return str(method) if method else None


Origin = tuple[str, str | None, int | None]


def destinations(
    base_url: str, config: Mapping[str, str], auth: Mapping[str, Any] | None, manifest: Manifest | None
) -> set[Origin]:
    """List the origins that an integration's secrets may be sent to."""
    urls = [base_url, *(config.values()), *((auth or {}).get(name) or "" for name in _AUTH_URLS)]
    if manifest is not None and not base_url:
        with contextlib.suppress(Invalid):
            urls.append(configure.render_base_url(manifest, config))
    return {_origin(url) for url in urls if url.lower().startswith(("http://", "https://"))}


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, url, None


def is_other_way_in(stored: dict[str, Any] | None, wanted: dict[str, Any] | None) -> bool:
    """Tell whether secrets of the stored auth are useless to the wanted one."""
    if wanted is None or stored is None:
        return False
    return any(stored.get(key) != wanted.get(key) for key in ("type", "method"))
