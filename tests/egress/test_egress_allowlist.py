"""What the operator may open, and what is refused at the start."""

from ipaddress import ip_address

import pytest

from trunkline.egress import Egress
from trunkline.egress.allowlist import AllowList
from trunkline.errors import Invalid
from trunkline.settings import Settings


@pytest.mark.parametrize("text", ["", "  ", ",", " , ,"])
def test_nothing_is_opened_by_default(text):
    assert AllowList.parse(text) == AllowList(frozenset(), ())


def test_entries_are_separated_by_commas_or_white_space():
    opened = AllowList.parse("one, two:8080\nthree\t10.0.0.0/8,,[::1]:9")
    assert opened.hosts == {("one", None), ("two", 8080), ("three", None)}
    assert [str(network) for network, _ in opened.networks] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("entry", "host", "port", "expected"),
    [
        ("sandbox", "sandbox", 1, True),
        ("Sandbox.", "sandbox", 1, True),
        ("sandbox:80", "sandbox", 80, True),
        ("sandbox:80", "sandbox", 81, False),
        ("sandbox", "my.sandbox", 80, False),
        ("127.0.0.1", "127.0.0.1", 80, False),
    ],
)
def test_a_host_entry_opens_exactly_that_name(entry, host, port, expected):
    assert AllowList.parse(entry).opens_host(host, port) is expected


@pytest.mark.parametrize(
    ("entry", "address", "port", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", 1, True),
        ("127.0.0.1", "127.0.0.2", 1, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 81, False),
        ("10.0.0.0/8", "10.255.255.255", 1, True),
        ("10.0.0.0/8", "11.0.0.0", 1, False),
        ("::1", "::1", 1, True),
        ("[::1]", "::1", 1, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("fd00::/8", "fd12::1", 1, True),
        ("::/0", "127.0.0.1", 1, False),
        ("::ffff:127.0.0.1", "127.0.0.1", 1, True),
    ],
)
def test_an_address_entry_opens_that_address_or_network(entry, address, port, expected):
    assert AllowList.parse(entry).opens_address(ip_address(address), port) is expected


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*.example.com",
        "http://localhost",
        "localhost:",
        "localhost:http",
        "localhost:0",
        "localhost:65536",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/8:80",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::1",
        "[localhost]:80",
        "::1:80:zz",
        "fe80::1%eth0",
        "user@host",
        "bücher.example",
        "a" * 300,
    ],
)
def test_an_entry_that_makes_no_sense_stops_the_start(entry):
    with pytest.raises(Invalid, match="TRUNKLINE_EGRESS_ALLOW") as caught:
        Egress(Settings(egress_allow=f"fine.example, {entry}"))
    assert [field.loc for field in caught.value.fields] == [("TRUNKLINE_EGRESS_ALLOW",)]
    assert len(caught.value.message) < 400


def test_every_bad_entry_is_named():
    with pytest.raises(Invalid) as caught:
        AllowList.parse("*, fine, 127.1")
    assert len(caught.value.fields) == 2
