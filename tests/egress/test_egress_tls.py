"""TLS: verified by default, one more authority by setting, Host and SNI kept when the address is pinned."""

import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trunkline.egress import Egress
from trunkline.errors import Invalid, RemoteFailed
from trunkline.settings import Settings

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def certificate(names, *, start=NOW - DAY, end=NOW + DAY):
    """Make a self-signed certificate, which is its own authority, and its key, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), start, end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.public_bytes(serialization.Encoding.PEM), private


@pytest.fixture
def authority(tmp_path):
    return tmp_path / "authority.pem"


@pytest.fixture
def serve_tls(serve, authority, tmp_path):
    async def start(answer, *names, **dates):
        public, private = certificate([x509.DNSName(name) for name in names], **dates)
        authority.write_bytes(public)
        (tmp_path / "server.pem").write_bytes(public + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        asked = []
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        server = await serve(answer, ssl=context)
        server.asked = asked
        return server

    return start


async def test_a_pinned_address_keeps_host_and_server_name(
    serve_tls, authority, answer, make_egress, resolver
):
    server = await serve_tls(answer(b"safe"), "hidden.example")
    resolver["hidden.example"] = ["127.0.0.1"]
    egress = make_egress(egress_ca_file=authority)
    reply = await egress.request("GET", f"https://hidden.example:{server.port}/")
    assert reply.body == b"safe"
    assert server.asked == ["hidden.example"]
    assert server.headers()["host"] == f"hidden.example:{server.port}"


@pytest.mark.parametrize(
    ("names", "dates", "is_trusted", "reason"),
    [
        (["hidden.example"], {}, False, "self-signed certificate"),
        (["other.example"], {}, True, "Hostname mismatch"),
        (["hidden.example"], {"start": NOW - 2 * DAY, "end": NOW - DAY}, True, "expired"),
        (["hidden.example"], {"start": NOW + DAY, "end": NOW + 2 * DAY}, True, "not yet valid"),
    ],
    ids=["untrusted", "wrong name", "expired", "early"],
)
async def test_a_certificate_that_does_not_hold_ends_the_call(
    *, names, dates, is_trusted, reason, serve_tls, authority, answer, make_egress, resolver
):
    server = await serve_tls(answer(b"unsafe"), *names, **dates)
    resolver["hidden.example"] = ["127.0.0.1"]
    egress = make_egress(egress_ca_file=authority if is_trusted else None)
    with pytest.raises(RemoteFailed, match=reason) as caught:
        await egress.request("GET", f"https://hidden.example:{server.port}/")
    assert (caught.value.kind, caught.value.retryable) == ("tls", False)
    assert "TRUNKLINE_EGRESS_CA_FILE" in caught.value.message
    assert server.heads == []


async def test_an_opened_host_is_verified_all_the_same(serve_tls, answer, make_egress, resolver):
    server = await serve_tls(answer(b"unsafe"), "sandbox")
    resolver["sandbox"] = ["127.0.0.1"]
    with pytest.raises(RemoteFailed) as caught:
        await make_egress("sandbox 127.0.0.1").request("GET", f"https://sandbox:{server.port}/")
    assert caught.value.kind == "tls"


async def test_a_certificate_may_name_an_address(serve, authority, answer, make_egress, tmp_path):
    public, private = certificate([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    authority.write_bytes(public)
    (tmp_path / "server.pem").write_bytes(public + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = await serve(answer(b"safe"), ssl=context)
    egress = make_egress(egress_ca_file=authority)
    assert (await egress.request("GET", f"https://127.0.0.1:{server.port}/")).body == b"safe"


async def test_https_to_a_port_that_speaks_plain_http_is_a_tls_failure(serve, egress):
    async def plain(writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    server = await serve(plain, is_eager=True)
    with pytest.raises(RemoteFailed, match="speaks https") as caught:
        await egress.request("GET", f"https://127.0.0.1:{server.port}/")
    assert caught.value.kind == "tls"


async def test_a_redirect_from_https_to_http_is_refused_unless_opened(
    serve_tls, authority, answer, make_egress, resolver
):
    server = await serve_tls(answer(status="302 Found", location="http://public.example/"), "hidden.example")
    resolver["hidden.example"] = ["127.0.0.1"]
    resolver["public.example"] = ["8.8.8.8"]
    egress = make_egress(egress_ca_file=authority)
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", f"https://hidden.example:{server.port}/", follow_redirects=True)
    assert caught.value.kind == "insecure_scheme"


async def test_credentials_do_not_follow_from_https_to_opened_http(
    *, serve, serve_tls, authority, answer, make_egress, resolver
):
    plain = await serve(answer(b"plain"))
    location = f"http://hidden.example:{plain.port}/"
    server = await serve_tls(answer(status="302 Found", location=location), "hidden.example")
    resolver["hidden.example"] = ["127.0.0.1"]
    egress = make_egress(egress_ca_file=authority)
    url = f"https://hidden.example:{server.port}/"
    reply = await egress.request("GET", url, headers={"Authorization": "s3cret"}, follow_redirects=True)
    assert (reply.body, reply.redirects) == (b"plain", 1)
    assert server.headers()["authorization"] == "s3cret"
    assert "authorization" not in plain.headers()


@pytest.mark.parametrize("content", [None, b"", b"not a certificate", b"\xff\xfe"])
def test_an_authority_file_without_a_certificate_stops_the_start(content, authority):
    if content is not None:
        authority.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        Egress(Settings(egress_ca_file=authority))
    assert [field.loc for field in caught.value.fields] == [("TRUNKLINE_EGRESS_CA_FILE",)]
