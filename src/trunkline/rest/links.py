"""The `Link` header (RFC 8288), read for one purpose: the address of the next page."""

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_LINK_LENGTH = 16_384
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAMETER = re.compile(
    r"\s*;\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,\"]*)))?"
)


def next_link(headers: Iterable[str], base: str) -> str | None:
    """Return the target of the first link with rel=next, absolute where that can be made; None without such a link.

    A link that says `results="false"` leads to an empty page (one way to end a list) and counts as none.
    Whether the target is an address at all is the caller's to check: a strange one is no end of the list.
    """
    for header in headers:
        for target, said in _links(header[:MAX_LINK_LENGTH]):
            if "next" in said.get("rel", "").lower().split() and said.get("results") != "false":
                return _absolute(base, target)
    return None


def same_origin(one: str, other: str) -> bool:
    """Tell whether two absolute URLs share scheme, host and port."""
    first, second = _origin(one), _origin(other)
    return first is not None and first == second


def _links(header: str) -> list[tuple[str, dict[str, str]]]:
    """Split a header into targets and what is said of each; reading stops at the first thing that is no link."""
    links = []
    position = 0
    while (match := _TARGET.match(header, position)) is not None:
        position = match.end()
        said: dict[str, str] = {}
        while (parameter := _PARAMETER.match(header, position)) is not None:
            position = parameter.end()
            value = parameter[2] if parameter[2] is not None else parameter[3] or ""
            said.setdefault(parameter[1].lower(), value)
        links.append((match[1].strip(), said))
    return links


def _absolute(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return target


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        host = (parts.hostname or "").lower()
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or port is None or "@" in parts.netloc:
        return None
    return parts.scheme, host, port
