"""Which addresses are refused unless the operator opens them. Knows addresses only, never names.

The lists are spelled out because `ipaddress.is_global` calls NAT64, compatible, site-local and multicast
addresses global on the Python versions in use. Sources: the IANA special-purpose registries (RFC 6890).
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_REFUSED_IPV4 = {
    "unspecified": ("0.0.0.0/8",),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "shared": ("100.64.0.0/10",),  # carrier-grade NAT; one cloud keeps its metadata here
    "loopback": ("127.0.0.0/8",),
    "link-local": ("169.254.0.0/16",),  # cloud metadata
    "metadata": ("168.63.129.16/32",),  # a public address that one cloud answers on inside its machines
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    "reserved": ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
    "multicast": ("224.0.0.0/4",),
}
# A form that embeds IPv4 is refused whatever it embeds: a translator on the way would reach the inner address.
_REFUSED_IPV6 = {
    "unspecified": ("::/128",),
    "loopback": ("::1/128",),
    "IPv4-embedding": ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"),
    "discard": ("100::/64", "100:0:0:1::/64"),
    "reserved": ("2001::/23", "5f00::/16"),  # Teredo, benchmarking, ORCHID, drone ids; segment routing
    "documentation": ("2001:db8::/32", "3fff::/20"),
    "private": ("fc00::/7", "fec0::/10"),
    "link-local": ("fe80::/10",),
    "multicast": ("ff00::/8",),
}
_IPV4 = tuple((IPv4Network(text), reason) for reason, texts in _REFUSED_IPV4.items() for text in texts)
_IPV6 = tuple((IPv6Network(text), reason) for reason, texts in _REFUSED_IPV6.items() for text in texts)


def read_address(text: str) -> Address | None:
    """Read an address in its canonical textual form; None for anything else, zone identifiers included."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


@lru_cache(maxsize=4096)
def refusal(address: Address) -> str | None:
    """Say why an address is refused, such as "private"; None when anybody may call it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return refusal(address.ipv4_mapped)
        return next((reason for network, reason in _IPV6 if address in network), None)
    return next((reason for network, reason in _IPV4 if address in network), None)
