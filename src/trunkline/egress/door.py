"""The door every connection goes through: vets addresses at the moment they are dialled.

A name is resolved once and its vetted addresses are what is dialled, so a second answer of a rebinding
name server is never used unseen. Addresses written in the URL skip the resolver, so the socket factory
vets the final socket address again, whatever led to it.
"""

import errno
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from trunkline.egress.addresses import Address, read_address, refusal
from trunkline.egress.allowlist import VARIABLE, AllowList
from trunkline.egress.names import Names
from trunkline.egress.urls import Target, bracketed
from trunkline.errors import RemoteFailed

_MAX_DIALLED = 8  # of one name; all of its addresses are vetted


@dataclass(slots=True)
class Dial:
    """One request on its way through the door: where to, what was refused, whether it got a new socket."""

    target: Target
    refused: RemoteFailed | None = None
    is_new: bool = False


# aiohttp tells its hooks the address but not the request; the context does, tasks it starts included.
DIAL: ContextVar[Dial] = ContextVar("trunkline_egress_dial")


class Door(AbstractResolver):
    """Vets for aiohttp's two hooks: the resolver and the socket factory."""

    def __init__(self, allow: AllowList, names: Names) -> None:
        self._allow = allow
        self._names = names

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        """Resolve the host of the request in the context, and vet what came back."""
        target = DIAL.get().target
        addresses = await self._names.find(target.host)
        self.vet(target, addresses)
        return [_result(host, port, address) for address in addresses[:_MAX_DIALLED]]

    def open_socket(self, addr_info: AddrInfoType) -> socket.socket:
        """Make the socket for one vetted address: the last door, which IP literals cannot walk around."""
        family, kind, protocol, _, sockaddr = addr_info
        dial = DIAL.get()
        address = read_address(sockaddr[0])
        try:
            self.vet(dial.target, [address] if address else [])
        except RemoteFailed as failure:
            # aiohttp collects OSError from several addresses and loses anything else.
            dial.refused = failure
            raise PermissionError(errno.EACCES, "refused") from failure
        dial.is_new = True
        return socket.socket(family, kind, protocol)

    def vet(self, target: Target, addresses: Iterable[Address]) -> None:
        """Raise RemoteFailed unless every address may be dialled for this target.

        One refused address refuses the name: whoever mixes a private address among public ones is
        after the private one, and picking around it would let the order of answers decide.
        """
        if self._allow.opens_host(target.host, target.port):
            return
        addresses = tuple(addresses)
        closed = [item for item in addresses if not self._allow.opens_address(_plain(item), target.port)]
        for address in closed:
            if reason := refusal(address):
                raise _refused_address(target, reason)
        if not addresses:
            raise _refused_address(target, "unreadable")
        if closed and target.scheme != "https":
            raise _insecure_scheme(target)

    async def close(self) -> None:
        await self._names.close()


def _plain(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _result(host: str, port: int, address: Address) -> ResolveResult:
    address = _plain(address)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=socket.IPPROTO_TCP, flags=flags
    )


def _refused_address(target: Target, reason: str) -> RemoteFailed:
    verb = "is" if target.address else "resolves to"
    article = "an" if reason[0] in "aeiouI" else "a"
    return RemoteFailed(
        f"{target.host} {verb} {article} {reason} address, which is not called; {_way_out(target)}",
        kind="refused_address",
    )


def _insecure_scheme(target: Target) -> RemoteFailed:
    return RemoteFailed(
        f"{target.host} would be called over plain http, which is kept for opened hosts; "
        f"use https, or {_way_out(target)}",
        kind="insecure_scheme",
    )


def _way_out(target: Target) -> str:
    return f"an operator can open it with {VARIABLE}={bracketed(target.host)}:{target.port}"
