"""Read and check the text of a URL. Decides about spelling only, never about where it leads."""

import re
from functools import lru_cache
from ipaddress import IPv4Address
from typing import NamedTuple

from yarl import URL

from trunkline.egress.addresses import Address, read_address

MAX_URL_LENGTH = 2048
"""Of a configured URL."""
MAX_CALL_LENGTH = 16 * 1024
"""Of a URL that is called, whose query may hold many values."""
_START = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_PORT = re.compile(r":([0-9]{1,5})?\Z")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What the WHATWG URL standard calls a host that ends in a number: resolvers read it as an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_NO_HOST = "must have a valid host name, or an IPv6 address in brackets"


class Target(NamedTuple):
    """A URL taken apart: lower-case host without brackets or final dot, and its address if it is one."""

    text: str
    url: URL
    scheme: str
    host: str
    port: int
    address: Address | None


class _Origin(NamedTuple):
    raw_host: str
    scheme: str
    host: str
    port: int
    address: Address | None


def check_url(url: str) -> None:
    """Raise ValueError, with a text for people, unless `url` is an absolute http(s) URL we would call.

    Refused: other schemes, no host, user names or passwords, white space and control characters,
    backslashes, fragments, ports outside 1-65535, odd spellings of addresses, over 2,048 characters.
    Linear in the length of the text. Where the URL leads is decided when it is called.
    """
    read_url(url, MAX_URL_LENGTH)


def read_url(text: str, limit: int = MAX_CALL_LENGTH) -> Target:
    """Take a URL apart, or raise ValueError as `check_url` does."""
    if len(text) > limit:
        raise ValueError(f"must have at most {limit:,} characters")
    # Unprintable is every control character, separator, direction mark and lone surrogate.
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("must have no white space, control characters or backslashes; percent-encode them")
    start = _START.match(text)
    if start is None:
        raise ValueError("must begin with http:// or https://")
    if "#" in text:
        raise ValueError("must have no fragment (#…)")
    origin = _read_origin(start[0], start[1])
    url = _verbatim(text, start.end()) if "%" in text and text.isascii() else URL(text)
    if url.raw_host != origin.raw_host:
        raise ValueError(_NO_HOST)  # what was judged is what is called, whatever a parser thinks
    return Target(text, url, origin.scheme, origin.host, origin.port, origin.address)


def _verbatim(text: str, start: int) -> URL:
    """Parse the origin, but keep the rest as it is encoded: the parser would decode %3B and the like."""
    path, mark, query = text[start:].partition("?")
    url = URL(text[:start]).with_path(path or "/", encoded=True)
    return URL(f"{url}?{query}", encoded=True) if mark else url


@lru_cache(maxsize=1024)
def _read_origin(text: str, authority: str) -> _Origin:
    _check_authority(authority)
    try:
        url = URL(text)
    except ValueError:
        raise ValueError(_NO_HOST) from None
    raw_host = url.raw_host or ""
    if ("[" in authority) != (":" in raw_host):
        raise ValueError(_NO_HOST)
    host, address = read_host(raw_host)
    return _Origin(raw_host, url.scheme, host, url.port or 0, address)


def _check_authority(authority: str) -> None:
    if not authority or authority.startswith(":"):
        raise ValueError("must name a host")
    if "@" in authority:
        raise ValueError("must have no user name or password before the host; use an auth method instead")
    if "%" in authority:
        raise ValueError("must have no percent-encoding or zone identifier in its host")
    _, colon, port = authority.rpartition("]")[2].rpartition(":")
    if not colon:
        return
    if not _PORT.match(f":{port}") or (port and not 1 <= int(port) <= 65535):
        raise ValueError("must have a port from 1 to 65535")


def read_host(raw: str) -> tuple[str, Address | None]:
    """Return a host in the one form we compare, and its address if it is one; ValueError if malformed."""
    if ":" in raw:
        address = read_address(raw)
        if address is None:
            raise ValueError("must have a valid IPv6 address in brackets")
        return raw, address
    host = raw.lower().removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("must have a valid host name")
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return host, None
    address = read_address(host)
    if not isinstance(address, IPv4Address) or raw != host:
        raise ValueError("must write an IPv4 address as four decimal numbers, such as 192.0.2.1")
    return host, address


def bracketed(host: str) -> str:
    """Return a host as it is written in front of a port."""
    return f"[{host}]" if ":" in host else host


def is_same_origin(one: Target, other: Target) -> bool:
    """Tell whether two URLs share scheme, host and port, the bounds within which credentials stay."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)
