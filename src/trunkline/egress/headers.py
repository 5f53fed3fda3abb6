"""Check the headers a caller wants to send, and choose which of them survive a redirect."""

import re
from collections.abc import Mapping
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

_MAX_HEADERS = 100
_MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_UNSAFE_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
# We set these ourselves for every request; whatever a caller copied from elsewhere is left out.
_OURS = frozenset({"accept-encoding", "connection", "content-length", "keep-alive", "proxy-connection"})
# These would change where a request goes or where it ends.
_REFUSED = frozenset({"expect", "host", "http2-settings", "te", "trailer", "transfer-encoding", "upgrade"})
# What may be shown to another origin: nothing that could carry a credential.
_SAFE_ELSEWHERE = frozenset({"accept", "accept-language", "accept-charset", "user-agent", "content-type"})


def check_header(name: str, value: str) -> None:
    """Raise ValueError, with a text for people, unless a caller may send this header."""
    _is_sent(name)
    _check_value(name, value)


def outgoing(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to send, or raise ValueError naming the one at fault, never its value."""
    sent: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        if _is_sent(name):
            _check_value(name, value)
            sent[name] = value
            size += len(name) + len(value)
    if len(sent) > _MAX_HEADERS or size > _MAX_BYTES:
        raise ValueError(f"at most {_MAX_HEADERS} headers and {_MAX_BYTES:,} characters are sent")
    return sent


def kept_elsewhere(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that may follow a redirect to another origin."""
    return {name: value for name, value in headers.items() if name.lower() in _SAFE_ELSEWHERE}


@lru_cache(maxsize=1024)
def _is_sent(name: str) -> bool:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:64]!r} is no header name")
    lowered = name.lower()
    if lowered in _OURS:
        return False
    if lowered in _REFUSED or lowered.startswith("proxy-"):
        raise ValueError(f"the header {name} cannot be set by a caller")
    return True


def _check_value(name: str, value: str) -> None:
    if not value.isprintable() and _UNSAFE_VALUE.search(value):
        raise ValueError(f"the header {name} has a line break or another control character in its value")


def received(headers: "CIMultiDictProxy[str]") -> "CIMultiDictProxy[str]":
    """Return an answer's headers as text that can be written as JSON.

    aiohttp hands bytes that are no UTF-8 on as lone surrogates; they are shown as Latin-1, which is what
    RFC 9110 section 5.5 once said they are.
    """
    if "".join(headers.values()).isascii():
        return headers
    readable = ((name, _readable(value)) for name, value in headers.items())
    return CIMultiDictProxy(CIMultiDict(readable))


def _readable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value
