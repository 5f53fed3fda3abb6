"""What the operator opened with TRUNKLINE_EGRESS_ALLOW. Parses and answers; refuses nothing itself."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from trunkline.egress.addresses import Address, read_address
from trunkline.egress.urls import read_host
from trunkline.errors import FieldError, Invalid

VARIABLE = "TRUNKLINE_EGRESS_ALLOW"
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::([0-9]{1,5}))?|([^:\[\]]+):([0-9]{1,5})")
_FORMS = "write host, host:port, an address, [IPv6]:port or a network such as 10.0.0.0/8"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class AllowList:
    """Hosts (by name) and networks that may be called although private, and over plain http.

    A port of None opens every port.
    """

    hosts: frozenset[tuple[str, int | None]]
    networks: tuple[tuple[Network, int | None], ...]

    @classmethod
    def parse(cls, text: str) -> "AllowList":
        """Read entries separated by commas or white space.

        Raises:
            Invalid: naming the variable and every entry that makes no sense, with what may be written.
        """
        hosts: set[tuple[str, int | None]] = set()
        networks: list[tuple[Network, int | None]] = []
        problems: list[FieldError] = []
        for entry in filter(None, re.split(r"[\s,]+", text)):
            try:
                opened, port = _read_entry(entry)
            except ValueError as error:
                problems.append(FieldError((VARIABLE,), f"{entry[:100]!r}: {error}"))
                continue
            if isinstance(opened, str):
                hosts.add((opened, port))
            else:
                networks.append((opened, port))
        if problems:
            raise Invalid(fields=problems)
        return cls(frozenset(hosts), tuple(networks))

    def opens_host(self, host: str, port: int) -> bool:
        """Tell whether a host is opened by name, whatever it resolves to."""
        return (host, None) in self.hosts or (host, port) in self.hosts

    def opens_address(self, address: Address, port: int) -> bool:
        """Tell whether an address is opened, by itself or by its network."""
        return any(address in network and opened in (None, port) for network, opened in self.networks)


def _read_entry(entry: str) -> tuple[str | Network, int | None]:
    if "/" in entry:
        return _read_network(entry), None
    host, port = entry, None
    if not (address := read_address(entry)):
        if match := _WITH_PORT.fullmatch(entry):
            host = match[1] or match[3]
            port = _read_port(match[2] or match[4])
        address = read_address(host)
    if address:
        return ip_network(address), port
    if ":" in host or "[" in entry:
        raise ValueError(_FORMS)
    try:
        name, _ = read_host(host)
    except ValueError:
        raise ValueError(_FORMS) from None
    return name, port


def _read_network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        hint = " (host bits are set)" if "host bits" in str(error) else ""
        raise ValueError(f"{_FORMS}{hint}") from None


def _read_port(text: str | None) -> int | None:
    if text is None:
        return None
    if not 1 <= int(text) <= 65535:
        raise ValueError("a port is from 1 to 65535")
    return int(text)
