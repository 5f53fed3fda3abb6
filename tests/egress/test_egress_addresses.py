"""Which addresses are refused, at the edges of every range."""

from ipaddress import ip_address

import pytest

from trunkline.egress.addresses import read_address, refusal

REFUSED = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1
127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.1
192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7
203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1:ffff::1 100::1 100::ffff:ffff:ffff:ffff
100:0:0:1::1 2001::1 2001:0:a9fe:a9fe::1 2001:2::1 2001:10::1 2001:1f:ffff::1 2001:20::1 2001:1ff:ffff::1
2001:db8::1 2001:db8:ffff:ffff::1 2002::1 2002:a9fe:a9fe::1 2002:ffff:ffff::1 3fff::1 3fff:fff:ffff::1 5f00::1
fc00::1 fd00:ec2::254 fdff:ffff::1 fe80::1 febf::1 fec0::1 feff::1 ff00::1 ff02::2 ffff::1
"""

CALLED = """
1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.254 100.128.0.1 126.255.255.255 128.0.0.0 169.253.255.255
169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0
198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 168.63.129.15
::ffff:8.8.8.8 64:ff9a:ffff::1 64:ff9c::1 100:0:0:2::1 2000::1 2001:200::1 2001:db7:ffff::1 2001:db9::1
2001:4860:4860::8888 2003::1 2606:4700::1111 3ffe:ffff::1 3fff:1000::1 5eff::1 5f01::1 fbff::1
"""


@pytest.mark.parametrize("text", REFUSED.split())
def test_a_special_address_is_refused(text):
    assert refusal(ip_address(text))


@pytest.mark.parametrize("text", CALLED.split())
def test_the_neighbour_of_a_special_range_is_called(text):
    assert refusal(ip_address(text)) is None


@pytest.mark.parametrize(
    "text", ["", "127.1", "0177.0.0.1", "2130706433", "1.2.3.4.", "fe80::1%eth0", "[::1]"]
)
def test_only_the_canonical_form_is_read_as_an_address(text):
    assert read_address(text) is None


def test_a_mapped_address_is_read_as_the_one_inside():
    assert str(read_address("::ffff:7f00:1")) == "127.0.0.1"
