"""The one way out: send an HTTP request through the door, and read the answer within limits."""

import asyncio
import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from trunkline import __version__
from trunkline.egress import decode, failures
from trunkline.egress import headers as header_rules
from trunkline.egress.allowlist import AllowList
from trunkline.egress.answers import read_body
from trunkline.egress.door import DIAL, Dial, Door
from trunkline.egress.names import Names, Resolver, SystemResolver
from trunkline.egress.pool import Pool
from trunkline.egress.urls import MAX_CALL_LENGTH, Target, is_same_origin, read_url
from trunkline.errors import Invalid, RemoteFailed, Unavailable
from trunkline.settings import Settings

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_MAX_STALE = 3
_LARGE_BODY = 1024 * 1024
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one request may take, in seconds, and how long its answer may be, decoded, in bytes."""

    connect_seconds: float
    read_seconds: float
    total_seconds: float
    max_bytes: int


class Reply(NamedTuple):
    """An answer, its body decoded; the headers are as received, and `url` is where it came from."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str
    duration_ms: float
    redirects: int


class Egress:
    """Send requests to the outside, and nowhere the operator did not open.

    Holds one connection pool, made in the running loop at the first request.

    Raises:
        Invalid: for a TRUNKLINE_EGRESS_ALLOW or TRUNKLINE_EGRESS_CA_FILE that makes no sense.
    """

    def __init__(self, settings: Settings, resolver: Resolver | None = None) -> None:
        self._limits = Limits(
            settings.connect_timeout_seconds,
            settings.read_timeout_seconds,
            settings.call_timeout_seconds,
            settings.max_response_bytes,
        )
        self._tls: ssl.SSLContext | bool = _trusting(settings.egress_ca_file)
        self._door = Door(AllowList.parse(settings.egress_allow), Names(resolver or SystemResolver()))
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
        limits: Limits | None = None,
        follow_redirects: bool = False,
    ) -> Reply:
        """Send one request and return the whole answer, whatever its status.

        With `follow_redirects`, GET and HEAD follow up to five, each through the same door; credentials,
        and any header that could be one, stay with the first origin.

        Raises:
            RemoteFailed: with a kind of bad_url, bad_header, refused_address, insecure_scheme, dns,
                connect, tls, timeout, closed, too_large, malformed or redirect.
            Unavailable: after `close`.
        """
        limits = limits or self._limits
        loop = asyncio.get_running_loop()
        started = loop.time()
        hop = _first_hop(method, url, headers, body)
        redirects = 0
        try:
            async with asyncio.timeout(limits.total_seconds):
                while True:
                    answer = await self._send(hop, limits)
                    onward = _onward(hop, answer) if follow_redirects else None
                    if onward is None:
                        content = await read_body(answer, hop.target, limits.max_bytes)
                        break
                    answer.close()
                    hop, redirects = onward, redirects + 1
                    if redirects > _MAX_REDIRECTS:
                        raise _not_followed(hop.target, f"after {_MAX_REDIRECTS} redirects already")
        except TimeoutError:
            raise failures.timed_out(hop.target, "did not finish its answer in time") from None
        duration_ms = (loop.time() - started) * 1000
        headers_received = header_rules.received(answer.headers)
        return Reply(answer.status, headers_received, content, hop.target.text, duration_ms, redirects)

    async def _send(self, hop: "_Hop", limits: Limits) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        for _ in range(_MAX_STALE):
            dial = Dial(hop.target)
            token = DIAL.set(dial)
            try:
                return await session.request(
                    hop.method,
                    hop.target.url,
                    headers=hop.headers,
                    data=_payload(hop.body),
                    skip_auto_headers=_skipped(hop),
                    allow_redirects=False,
                    timeout=_timeout(limits.connect_seconds, limits.read_seconds),
                )
            except failures.FOREIGN as error:
                failure = failures.translate(error, dial)
            finally:
                DIAL.reset(token)
            # A kept connection that the server closed meanwhile says nothing about this request
            # (RFC 9112 section 9.3.1); a new one that closes does, and the caller shall know.
            if dial.is_new or failure.kind != "closed" or hop.method not in _REPEATABLE:
                break
        raise failure from None

    def _open(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise Unavailable("Trunkline is stopping and sends nothing any more")
        self._session = aiohttp.ClientSession(
            connector=Pool(self._door, self._tls),
            headers={"User-Agent": f"Trunkline/{__version__}", "Accept-Encoding": decode.ACCEPTED},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # decode.py bounds nested codings too
            trust_env=False,
        )
        # aiohttp would repeat any idempotent request unseen, on new connections too.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public switch; a test watches it
        return self._session

    async def close(self) -> None:
        """Close the pool and end every look-up; requests still under way fail."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._door.close()


class _Hop(NamedTuple):
    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None


def _first_hop(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> _Hop:
    if method not in _METHODS:
        raise RemoteFailed(f"The method {method[:20]!r} is not sent", kind="bad_url")
    try:
        target = read_url(url)
    except ValueError as error:
        raise RemoteFailed(f"The URL cannot be called: it {error}", kind="bad_url") from None
    try:
        return _Hop(method, target, header_rules.outgoing(headers), body)
    except ValueError as error:
        raise RemoteFailed(f"{target.host} was not called: {error}", kind="bad_header") from None


def _onward(hop: _Hop, answer: aiohttp.ClientResponse) -> _Hop | None:
    """Return the next request of a redirect, or None when the answer is final."""
    location = answer.headers.get("Location")
    if answer.status not in _REDIRECTS or hop.method not in ("GET", "HEAD") or not location:
        return None
    try:
        # Cut before parsing: one character too many is enough for read_url to refuse it.
        reference = location[: MAX_CALL_LENGTH + 1].partition("#")[0]
        target = read_url(str(hop.target.url.join(URL(reference))))
    except ValueError as error:
        answer.close()
        raise _not_followed(hop.target, f"to a URL that {error}") from None
    if is_same_origin(hop.target, target):
        return _Hop(hop.method, target, hop.headers, hop.body)
    return _Hop(hop.method, target, header_rules.kept_elsewhere(hop.headers), None)


def _not_followed(target: Target, where: str) -> RemoteFailed:
    return RemoteFailed(f"{target.host} redirects {where}, which is not followed", kind="redirect")


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp warns about large bytes and writes them at once; a file is written in pieces.
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


def _skipped(hop: _Hop) -> tuple[str, ...] | None:
    """Keep aiohttp from inventing a content type that the caller did not give."""
    if hop.method in ("GET", "HEAD") and hop.body is None:
        return None
    return None if any(name.lower() == "content-type" for name in hop.headers) else ("Content-Type",)


@lru_cache(maxsize=64)
def _timeout(connect_seconds: float, read_seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_read=read_seconds)


def _trusting(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return the system's trust, with one more authority if the operator names its file."""
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ValueError) as error:
        problem = f"{ca_file} holds no readable certificate: {error}"
        raise Invalid.field(("TRUNKLINE_EGRESS_CA_FILE",), problem) from None
    return context
