"""Compile one endpoint: everything that can be checked or prepared before a call is, once.

Building a request from it is `request`; the response side is `shape` and `answer`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import Endpoint, Manifest, RateLimit
from trunkline.catalog.template import ENDPOINT, NAMESPACES, Template, TemplateError
from trunkline.errors import Invalid
from trunkline.rest.answer import ErrorCheck
from trunkline.rest.page_styles import plain_pager
from trunkline.rest.paging import Pager
from trunkline.rest.paths import Path
from trunkline.rest.retry import RetryPolicy
from trunkline.rest.schema import InputSchema
from trunkline.rest.shape import Shape

_MAX_NAME = 128
_MAX_PATH = 2048
_MAX_HEADERS = 50
_MAX_HEADER_VALUE = 8192
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PARAM = re.compile(r"[^\s{}/\\?#&=\x00-\x1f\x7f]{1,128}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_LITERAL_SAFE = "/%:@!$&'()*+,;=~?-._[]"
_ACCEPT = "application/json, */*;q=0.8"
_CONTENT_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
"""Methods that send what is left of the parameters as the body; the others as the query."""
_CONNECTION_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
    ]
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A placeholder of a path: a call parameter by name, or a connector's look-up."""

    name: str
    template: Template | None
    in_query: bool


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path split at its placeholders, beginning with a slash (or empty: the base URL itself)."""

    parts: tuple[str | Slot, ...]
    params: frozenset[str]
    has_query: bool


@dataclass(frozen=True, slots=True)
class CompiledEndpoint:
    """One endpoint, ready to be called any number of times, by any number of integrations."""

    config: EndpointConfig
    method: str
    path: PathPattern
    schema: InputSchema | None
    shape: Shape
    retry: RetryPolicy
    headers: Mapping[str, str]
    """With the defaults that the endpoint does not replace."""
    header_templates: tuple[tuple[str, Template], ...]
    query: Template | None
    body: Template | None
    consumed: frozenset[str]
    """Parameters that path, query, body or header look-ups use up."""
    in_body: frozenset[str]
    """Declared parameters that the body looks up: a pager's values of these names go there, not into the query."""
    errors: ErrorCheck | None
    rate_limit: RateLimit | None
    pager: Pager | None
    """How its list continues; None when that takes a stream's cursor."""
    base_url: str | None
    """Another host than the integration's; may look up config."""
    has_auth: bool

    @property
    def name(self) -> str:
        return self.config.name


def compile_endpoint(endpoint: EndpointConfig, manifest: Manifest | None = None) -> CompiledEndpoint:
    """Check an endpoint and compile it.

    An `Endpoint` (from a connector's file) may use look-ups in path, query, body and headers, and has the
    connector's headers; a plain `EndpointConfig` (from a client) has `{name}` in its path only, never a secret.

    Raises:
        Invalid: with locations relative to the endpoint, such as ("path",) or ("retry_config", "max_retries").
    """
    _check_name(endpoint.name)
    written = endpoint if isinstance(endpoint, Endpoint) else None
    maps = manifest.maps if manifest else {}
    path = _compile_path(endpoint.path, maps if written else None)
    retry = RetryPolicy.compile(endpoint.retry_config)
    schema = InputSchema.compile(endpoint.input_schema) if endpoint.input_schema else None
    inherited = manifest.headers if manifest and written else {}
    inherited = {**_default_headers(endpoint), **inherited}
    headers, header_templates = _compile_headers(inherited, endpoint.headers, maps if written else None)
    query = _template(written.query, ("query",), maps) if written and written.query else None
    body = _template(written.body, ("body",), maps) if written and written.body is not None else None
    templates = [query, body, *(template for _, template in header_templates)]
    return CompiledEndpoint(
        config=endpoint,
        method=endpoint.method,
        path=path,
        schema=schema,
        shape=Shape.compile(endpoint),
        retry=retry,
        headers=headers,
        header_templates=header_templates,
        query=query,
        body=body,
        consumed=path.params.union(*(_param_names(template) for template in templates if template)),
        in_body=_param_names(body) & _declared(endpoint) if body else frozenset(),
        errors=ErrorCheck.of(written, manifest),
        rate_limit=manifest.rate_limit if manifest else None,
        pager=_pager(written),
        base_url=written.base_url if written else None,
        has_auth=written.auth if written else True,
    )


def _check_name(name: str) -> None:
    if not name or len(name) > _MAX_NAME or "/" in name or _CONTROL.search(name):
        raise Invalid.field(
            ("name",), f"must have 1 to {_MAX_NAME} characters, without '/' and control characters"
        )


def _compile_path(text: str, maps: Mapping[str, Any] | None) -> PathPattern:
    _check_path(text)
    if text and not text.startswith("/"):
        text = "/" + text
    parts: list[str | Slot] = []
    end = 0
    question = text.find("?")
    for match in _PLACEHOLDER.finditer(text):
        parts.append(quote(text[end : match.start()], safe=_LITERAL_SAFE))
        parts.append(_slot(match[1], maps, in_query=0 <= question < match.start()))
        end = match.end()
    parts.append(quote(text[end:], safe=_LITERAL_SAFE))
    kept = tuple(part for part in parts if part != "")
    names = {name for part in kept if isinstance(part, Slot) for name in _slot_params(part)}
    return PathPattern(kept, frozenset(names), question >= 0)


def _check_path(text: str) -> None:
    problem = None
    literal = _PLACEHOLDER.sub("x", text)
    if len(text) > _MAX_PATH:
        problem = f"has at most {_MAX_PATH} characters"
    elif _CONTROL.search(text) or "\\" in text or "#" in text or not _encodable(text):
        problem = "must not hold control characters, a backslash or a fragment"
    elif "{" in literal or "}" in literal:
        problem = "has a stray brace; a placeholder is {name}"
    elif text.startswith("//") or _SCHEME.match(text):
        problem = "must be relative to base_url, such as /v2/items/{id}"
    elif any(unquote(step) in {".", ".."} for step in literal.partition("?")[0].split("/")):
        problem = "must not hold '.' or '..' as a segment"
    if problem:
        raise Invalid.field(("path",), problem)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _slot(name: str, maps: Mapping[str, Any] | None, *, in_query: bool) -> Slot:
    if maps is not None:
        return Slot(name, _template("{" + name + "}", ("path",), maps), in_query)
    if not _PARAM.fullmatch(name):
        raise Invalid.field(("path",), "a placeholder is {name}: 1 to 128 characters, no spaces or '/?#&='")
    return Slot(name, None, in_query)


def _slot_params(slot: Slot) -> frozenset[str]:
    return frozenset({slot.name}) if slot.template is None else _param_names(slot.template)


def _param_names(template: Template) -> frozenset[str]:
    """Name the call parameters that a template's look-ups use."""
    return frozenset(name.split(".")[0] for name in template.names()) - NAMESPACES


def _declared(endpoint: EndpointConfig) -> frozenset[str]:
    properties = endpoint.input_schema.get("properties")
    return frozenset(properties) if isinstance(properties, dict) else frozenset()


def _default_headers(endpoint: EndpointConfig) -> dict[str, str]:
    headers = {"Accept": _ACCEPT}
    if endpoint.method in BODY_METHODS:
        headers["Content-Type"] = _CONTENT_TYPES[endpoint.body_format]
    return headers


def _compile_headers(
    inherited: Mapping[str, str], own: Mapping[str, str], maps: Mapping[str, Any] | None
) -> tuple[Mapping[str, str], tuple[tuple[str, Template], ...]]:
    merged: dict[str, tuple[str, str]] = {}
    for name, value in (*inherited.items(), *own.items()):
        _check_header(name, value)
        merged[name.lower()] = (name, value)
    if len(merged) > _MAX_HEADERS:
        raise Invalid.field(("headers",), f"has at most {_MAX_HEADERS} headers")
    fixed: dict[str, str] = {}
    templates = []
    for name, value in merged.values():
        if maps is not None and ("{" in value or "}" in value):
            templates.append((name, _template(value, ("headers", name), maps)))
        else:
            fixed[name] = value.strip()
    return fixed, tuple(templates)


def _check_header(name: str, value: str) -> None:
    problem = None
    if not _TOKEN.fullmatch(name):
        problem = "is no header name"
    elif name.lower() in _CONNECTION_HEADERS:
        problem = "belongs to the connection and cannot be set"
    elif len(value) > _MAX_HEADER_VALUE or not header_safe(value):
        problem = f"must have at most {_MAX_HEADER_VALUE} characters, without control characters"
    if problem:
        raise Invalid.field(("headers", name[:256]), problem)


def header_safe(value: str) -> bool:
    """Tell whether a header can carry the value: no control character but a tab, encodable."""
    return not _CONTROL.search(value.replace("\t", "")) and _encodable(value)


def header_name_allowed(name: str) -> bool:
    """Tell whether a call may set a header of this name."""
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _CONNECTION_HEADERS


def _template(value: Any, loc: tuple[str | int, ...], maps: Mapping[str, Any]) -> Template:
    try:
        return Template.compile(value, namespaces=ENDPOINT, maps=maps)
    except TemplateError as error:
        raise Invalid.field((*loc, *error.loc), str(error)) from None


def _pager(endpoint: Endpoint | None) -> Pager | None:
    paging, records = (endpoint.paging, endpoint.records) if endpoint else (None, None)
    try:
        if records is not None:
            Path.compile(records)
    except ValueError as error:
        raise Invalid.field(("records",), str(error)) from None
    if paging is not None and paging.type == "keyset":
        return None
    try:
        return plain_pager(paging, records)
    except ValueError as error:
        raise Invalid.field(("paging",), str(error)) from None
