"""What a URL may look like."""

import time

import pytest

from trunkline.egress import check_url

FINE = [
    "https://example.com",
    "HTTPS://Example.COM:8443/a/b?x=1&y=%20z",
    "http://my_service:8080/",
    "https://example.com./",
    "https://bücher.example/straße",
    "https://8.8.8.8/dns-query",
    "https://[2606:4700::1111]:443/",
    "https://xn--bcher-kva.example/?q=a@b:c",
    "https://example.com/?redirect=http://user:pass@elsewhere/",
    "https://example.com/" + "a" * 2028,
    "https://1.example/",
    "https://deadbeef/",
]

MALFORMED = {
    "": "must begin with http",
    "example.com": "must begin with http",
    "/relative": "must begin with http",
    "//example.com/": "must begin with http",
    "https:/example.com": "must begin with http",
    "ftp://example.com/": "must begin with http",
    "file:///etc/passwd": "must begin with http",
    "gopher://example.com/": "must begin with http",
    "javascript:alert(1)": "must begin with http",
    "ws://example.com/": "must begin with http",
    "https://": "must name a host",
    "https:///path": "must name a host",
    "https://?x": "must name a host",
    "https://:443/": "must name a host",
    "https://user@example.com/": "user name or password",
    "https://user:pw@example.com/": "user name or password",
    "https://@example.com/": "user name or password",
    "https://example.com@127.0.0.1/": "user name or password",
    "https://example.com/#part": "fragment",
    "https://example.com#@127.0.0.1/": "fragment",
    "https://example.com\\@127.0.0.1/": "backslash",
    "https://exa mple.com/": "white space",
    " https://example.com/": "white space",
    "https://example.com/a b": "white space",
    "https://example.com/\n": "white space",
    "https://example.com/\r\nHost: evil": "white space",
    "https://exam\tple.com/": "white space",
    "https://example.com/\x00": "white space",
    "https://example.com/\x7f": "white space",
    "https://example.com/\u2028": "white space",
    "https://example.com/\u202e": "white space",
    "https://example.com/\ud800": "white space",
    "https://exam\u200bple.com/": "white space",
    "https://exam\u00adple.com/": "control characters",
    "https://example.com:0/": "port",
    "https://example.com:65536/": "port",
    "https://example.com:999999999999/": "port",
    "https://example.com:-1/": "port",
    "https://example.com:+80/": "port",
    "https://example.com:\uff18\uff10/": "port",
    "https://example.com:http/": "port",
    "https://example.com:80:80/": "host",
    "https://%31%32%37.0.0.1/": "percent-encoding",
    "https://example%2ecom/": "percent-encoding",
    "https://[fe80::1%25eth0]/": "zone identifier",
    "https://[fe80::1%eth0]/": "zone identifier",
    "https://[::1": "IPv6",
    "https://[::g]/": "IPv6",
    "https://[]/": "IPv6",
    "https://[127.0.0.1]/": "IPv6",
    "https://[v1.a]/": "host",
    "https://[::1]evil.example/": "IPv6",
    "https://2130706433/": "four decimal numbers",
    "https://0x7f000001/": "four decimal numbers",
    "https://0x7f.1/": "four decimal numbers",
    "https://0x7F.0X1/": "four decimal numbers",
    "https://0177.0.0.1/": "four decimal numbers",
    "https://127.1/": "four decimal numbers",
    "https://127.0.1/": "four decimal numbers",
    "https://127.0.0.1./": "four decimal numbers",
    "https://127.0.0.0x1/": "four decimal numbers",
    "https://127.0.0.01/": "four decimal numbers",
    "https://256.0.0.1/": "four decimal numbers",
    "https://1.2.3.4.5/": "four decimal numbers",
    "https://example.123/": "four decimal numbers",
    "https://example..com/": "host name",
    "https://example.com../": "host name",
    "https://./": "host name",
    "https://-a.example/": "host name",
    "https://" + "a" * 64 + ".example/": "host name",
    "https://" + "a." * 127 + "b/": "host name",
    "https://a!b.example/": "host name",
    "https://a,b/": "host name",
    "https://example.com/" + "a" * 2029: "2,048 characters",
}


@pytest.mark.parametrize("url", FINE)
def test_an_ordinary_url_passes(url):
    check_url(url)


@pytest.mark.parametrize(("url", "reason"), MALFORMED.items())
def test_a_url_with_a_twist_is_refused_with_a_reason(url, reason):
    with pytest.raises(ValueError, match=reason):
        check_url(url)


@pytest.mark.parametrize("part", ["a", "a.", "-", "@", "[", ":", "%", "0x", "1.", "é", "/", "\\", " "])
def test_a_huge_url_is_refused_at_once(part):
    started = time.perf_counter()
    for size in (2000, 3_000_000):
        with pytest.raises(ValueError):
            check_url("https://" + part * (size // len(part)) + "\x00")
    assert time.perf_counter() - started < 0.5
