"""Build the HTTP request of a call, in the documented order: path parameters, then (auth), then the transform.

Everything a caller can get wrong is refused here, before anything is sent. Choices where the contract is silent:
GET and DELETE send what is left as the query, the others as the body; a path parameter may not be empty, `.`, `..`
or hold a slash, a backslash or a control character, since many proxies decode `%2F` and would address another path.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import orjson

from trunkline.catalog.template import NAMESPACES, MissingLookupError, Template
from trunkline.egress.urls import MAX_CALL_LENGTH
from trunkline.errors import Invalid, RemoteFailed
from trunkline.rest.endpoint import BODY_METHODS, CompiledEndpoint, Slot, header_safe
from trunkline.rest.target import misconfigured

_UNSAFE_SEGMENT = re.compile(r"[/\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, but for the headers of auth."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


def build(
    root: str,
    endpoint: CompiledEndpoint,
    params: Mapping[str, Any],
    scope: Mapping[str, Any],
    *,
    used: Collection[str] = (),
    extra_query: Mapping[str, Any] | None = None,
    next_url: str | None = None,
) -> Request:
    """Build the request of one call. `used` names parameters that auth has used up already.

    `next_url` is the address of a following page as the service gave it: same origin only; it replaces path and
    query.

    Raises:
        Invalid: naming the parameter at fault, as ("body", "params", name).
        RemoteFailed: kind "misconfigured" for a look-up of config or secret that finds nothing, "refused_address"
            for a next page at another origin.
    """
    path = _path(endpoint, params, scope)
    left = {
        name: value for name, value in params.items() if name not in endpoint.consumed and name not in used
    }
    query = _render(endpoint.query, scope) or {}
    body: bytes | None = None
    headers = dict(endpoint.headers)
    transform = endpoint.config.request_transform
    if endpoint.method in BODY_METHODS:
        values = left if endpoint.body is None else _render(endpoint.body, scope)
        if transform:
            wrapped = {transform.wrap_params_key: values} if transform.wrap_params_key else values
            values = {**wrapped, **transform.inject}
        body = _body(values, endpoint.config.body_format)
    else:
        query = {**query, **left, **(transform.inject if transform else {})}
    if extra_query:
        query = {**query, **extra_query}
    for name, template in endpoint.header_templates:
        _put_header(headers, name, template, scope)
    url = next_url if next_url is not None else _join(root, path, endpoint.path.has_query, query)
    _check_url(url, root, following=next_url is not None)
    return Request(endpoint.method, url, headers, body)


def _path(endpoint: CompiledEndpoint, params: Mapping[str, Any], scope: Mapping[str, Any]) -> str:
    # No placeholder may be "." or empty, so that several together make no ".." either.
    return "".join(
        [part if isinstance(part, str) else _fill(part, params, scope) for part in endpoint.path.parts]
    )


def _fill(slot: Slot, params: Mapping[str, Any], scope: Mapping[str, Any]) -> str:
    if slot.template is not None:
        value = _render(slot.template, scope)
        root = slot.template.lookups[0].name
        if slot.in_query and value is None:
            return ""
    elif slot.name in params:
        value, root = params[slot.name], slot.name
    else:
        raise Invalid.field(("body", "params", slot.name), "Field required", "missing")
    return quote(_segment(value, root, in_query=slot.in_query), safe="")


def _segment(value: Any, name: str, *, in_query: bool) -> str:
    text = scalar(value)
    problem = None
    if text is None:
        problem = "must be a string, a number or a boolean, since it is part of the path"
    elif not in_query and (text in {"", ".", ".."} or _UNSAFE_SEGMENT.search(text)):
        problem = "must not be empty, '.' or '..' or hold '/', '\\' or control characters in a path"
    elif not _encodable(text):
        problem = "is not valid Unicode"
    if problem is None and text is not None:
        return text
    raise _blame(name, problem or "")


def _blame(name: str, problem: str) -> Exception:
    """Blame the call parameter, or the set-up when the look-up is none."""
    if name.split(".", maxsplit=1)[0] in NAMESPACES:
        return misconfigured(f"{name} {problem}")
    return Invalid.field(("body", "params", name), problem)


def scalar(value: Any) -> str | None:
    """Write a scalar as text, booleans in lower case; None for anything else, NaN and infinity included."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 4096 else None
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else None
    return None


def _render(template: Template | None, scope: Mapping[str, Any]) -> Any:
    if template is None:
        return None
    try:
        return template.render(scope)
    except MissingLookupError as error:
        space, _, name = error.name.partition(".")
        if space in NAMESPACES:
            raise misconfigured(f"The integration has no {space} {name}".rstrip()) from None
        raise Invalid.field(("body", "params", *error.name.split(".")), str(error), "missing") from None


def _put_header(headers: dict[str, str], name: str, template: Template, scope: Mapping[str, Any]) -> None:
    text = scalar(_render(template, scope))
    if text is None:
        return
    if not header_safe(text):
        raise _blame(template.lookups[0].name, "holds characters that no header can carry")
    headers[name] = text.strip()


def _body(values: Any, body_format: str) -> bytes:
    if body_format == "form":
        return "&".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in _pairs(values)).encode()
    return _json(values)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise Invalid.field(("body", "params"), f"cannot be sent as JSON: {error}") from None


def _pairs(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Flatten to key and text: lists repeat the key, objects are compact JSON, null is left out."""
    for key, value in values.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if item is None:
                continue
            text = scalar(item)
            if text is None:
                text = _json(item).decode()
            if not _encodable(text) or not _encodable(key):
                raise Invalid.field(("body", "params"), "is not valid Unicode")
            yield key, text


def _join(root: str, path: str, has_query: bool, query: Mapping[str, Any]) -> str:
    if not query:
        return root + path
    text = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in _pairs(query))
    if not text:
        return root + path
    glue = "?" if not has_query else "" if path.endswith(("?", "&")) else "&"
    return f"{root}{path}{glue}{text}"


def _check_url(url: str, root: str, *, following: bool) -> None:
    if len(url) > MAX_CALL_LENGTH:
        raise Invalid.field(("body", "params"), f"makes an address of more than {MAX_CALL_LENGTH} characters")
    if following and _origin(url) != _origin(root):
        raise RemoteFailed("The next page is at another origin than base_url", kind="refused_address")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
