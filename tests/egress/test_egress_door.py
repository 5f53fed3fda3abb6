"""Nothing reaches a forbidden address, however it is spelled, named, mixed or rebound."""

import asyncio
import socket

import pytest

from trunkline.egress.door import Door
from trunkline.errors import RemoteFailed

SPELLINGS = {
    "http://127.0.0.1/": "refused_address",
    "https://127.0.0.1/": "refused_address",
    "http://127.255.255.254/": "refused_address",
    "http://0.0.0.0/": "refused_address",
    "http://10.0.0.1/": "refused_address",
    "http://100.64.0.1/": "refused_address",
    "http://169.254.169.254/latest/meta-data/": "refused_address",
    "http://172.16.0.1/": "refused_address",
    "http://192.168.0.1/": "refused_address",
    "http://255.255.255.255/": "refused_address",
    "http://[::]/": "refused_address",
    "http://[::1]/": "refused_address",
    "http://[0:0:0:0:0:0:0:1]/": "refused_address",
    "http://[0000::0001]/": "refused_address",
    "http://[::127.0.0.1]/": "refused_address",
    "http://[::ffff:127.0.0.1]/": "refused_address",
    "http://[::ffff:7f00:1]/": "refused_address",
    "http://[::FFFF:7F00:0001]/": "refused_address",
    "http://[::ffff:169.254.169.254]/": "refused_address",
    "http://[64:ff9b::7f00:1]/": "refused_address",
    "http://[64:ff9b:1::7f00:1]/": "refused_address",
    "http://[2002:7f00:1::]/": "refused_address",
    "http://[2001::7f00:1]/": "refused_address",
    "http://[fd00:ec2::254]/": "refused_address",
    "http://[fe80::1]/": "refused_address",
    "http://\uff11\uff12\uff17.0.0.1/": "refused_address",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/": "refused_address",
    "http://127\u30020\u30020\u30021/": "refused_address",
    "http://localhost/": "refused_address",
    "http://LOCALHOST/": "refused_address",
    "http://localhost./": "refused_address",
    "http://ⓛocalhost/": "refused_address",
    "http://intranet.example/": "refused_address",
    "http://[fe80::1%25eth0]/": "bad_url",
    "http://2130706433/": "bad_url",
    "http://0x7f000001/": "bad_url",
    "http://0x7f.1/": "bad_url",
    "http://0177.0.0.1/": "bad_url",
    "http://017700000001/": "bad_url",
    "http://127.1/": "bad_url",
    "http://127.0.0.1./": "bad_url",
    "http://%31%32%37.0.0.1/": "bad_url",
    "http://example.com@127.0.0.1/": "bad_url",
    "http://127.0.0.1\\@example.com/": "bad_url",
}


@pytest.fixture
def sockets(monkeypatch):
    """Every socket the door lets out; a refusal must leave none behind."""
    opened = []
    real = Door.open_socket

    def record(self, addr_info):
        opened.append(real(self, addr_info))
        return opened[-1]

    monkeypatch.setattr(Door, "open_socket", record)
    return opened


async def test_an_allowed_address_is_dialled(serve, answer, egress, sockets):
    server = await serve(answer())
    await egress.request("GET", f"http://127.0.0.1:{server.port}/")
    assert len(sockets) == 1


@pytest.mark.parametrize(("url", "kind"), SPELLINGS.items())
async def test_a_forbidden_address_is_never_dialled(url, kind, make_egress, resolver, sockets):
    resolver["localhost"] = ["127.0.0.1"]
    resolver["intranet.example"] = ["10.1.2.3"]
    egress = make_egress("198.51.100.1")
    await egress._door._names.find("localhost")
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", url)
    assert (caught.value.kind, caught.value.retryable) == (kind, False)
    assert sockets == []


@pytest.mark.parametrize(
    "answers",
    [
        ["8.8.8.8", "10.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["2606:4700::1111", "::1"],
        ["8.8.8.8"] * 20 + ["::1"],
    ],
)
async def test_one_private_address_among_public_ones_refuses_the_name(
    answers, make_egress, resolver, sockets
):
    resolver["mixed.example"] = answers
    with pytest.raises(RemoteFailed) as caught:
        await make_egress().request("GET", "https://mixed.example/")
    assert caught.value.kind == "refused_address"
    assert sockets == []


async def test_a_zoned_answer_is_refused_even_when_its_network_is_opened(make_egress, resolver, sockets):
    resolver["zoned.example"] = ["fe80::1%lo"]
    with pytest.raises(RemoteFailed) as caught:
        await make_egress("fe80::/10").request("GET", "https://zoned.example/")
    assert caught.value.kind == "refused_address"
    assert sockets == []


async def test_a_rebinding_name_is_vetted_on_every_connection(serve, answer, make_egress, resolver):
    server = await serve(answer(b"first", connection="close"))
    resolver["rebind.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    egress = make_egress(f"127.0.0.1:{server.port}")
    egress._door._names._remembered_seconds = 0
    url = f"http://rebind.example:{server.port}/"
    assert (await egress.request("GET", url)).body == b"first"
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", url)
    assert caught.value.kind == "refused_address"
    assert resolver.asked == ["rebind.example"] * 2
    assert server.connections == 1


async def test_what_was_vetted_is_what_is_dialled(serve, answer, make_egress, resolver):
    server = await serve(answer(b"pinned"))
    resolver["pinned.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    reply = await make_egress("127.0.0.1").request("GET", f"http://pinned.example:{server.port}/")
    assert reply.body == b"pinned"
    assert resolver.asked == ["pinned.example"]
    assert server.headers()["host"] == f"pinned.example:{server.port}"


async def test_the_last_door_refuses_what_slipped_past_the_resolver(
    make_egress, resolver, monkeypatch, sockets
):
    resolver["slipped.example"] = ["8.8.8.8", "2606:4700::1111"]
    private = [
        {"hostname": "", "host": host, "port": 443, "family": 0, "proto": 0, "flags": 0}
        for host in ("10.0.0.1", "::1")
    ]

    async def slip(*args, **kwargs):
        return private

    egress = make_egress()
    monkeypatch.setattr(egress._door, "resolve", slip)
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", "https://slipped.example/")
    assert caught.value.kind == "refused_address"
    assert sockets == []


@pytest.mark.parametrize("spelling", ["127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_an_opened_address_is_called_over_plain_http(spelling, serve, answer, make_egress):
    server = await serve(answer(b"ok"))
    egress = make_egress(f"{spelling}:{server.port}")
    assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/")).body == b"ok"
    assert (await egress.request("GET", f"http://[::ffff:127.0.0.1]:{server.port}/")).body == b"ok"


async def test_a_host_opened_by_name_is_called_wherever_it_leads(serve, answer, make_egress, resolver):
    server = await serve(answer(b"ok"))
    resolver["sandbox"] = ["127.0.0.1"]
    egress = make_egress(f"sandbox:{server.port}")
    for host in ("sandbox", "SANDBOX", "sandbox."):
        assert (await egress.request("GET", f"http://{host}:{server.port}/")).status == 200


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://other:{port}/"])
async def test_opening_a_name_opens_neither_its_address_nor_another_name(
    url, serve, answer, make_egress, resolver
):
    server = await serve(answer())
    resolver["sandbox"] = resolver["other"] = ["127.0.0.1"]
    with pytest.raises(RemoteFailed) as caught:
        await make_egress("sandbox").request("GET", url.format(port=server.port))
    assert caught.value.kind == "refused_address"
    assert server.connections == 0


@pytest.mark.parametrize("allow", ["sandbox:{other}", "127.0.0.1:{other}", "127.0.0.2", "10.0.0.0/8"])
async def test_opening_one_port_or_address_opens_no_other(allow, serve, answer, make_egress, resolver):
    server = await serve(answer())
    resolver["sandbox"] = ["127.0.0.1"]
    egress = make_egress(allow.format(other=server.port % 65535 + 1))
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", f"http://sandbox:{server.port}/")
    assert caught.value.kind == "refused_address"
    assert server.connections == 0


@pytest.mark.parametrize("answers", [["8.8.8.8"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111"]])
async def test_plain_http_to_a_public_address_is_refused_with_a_way_out(
    answers, make_egress, resolver, sockets
):
    resolver["public.example"] = answers
    with pytest.raises(RemoteFailed, match=r"TRUNKLINE_EGRESS_ALLOW=public\.example:80$") as caught:
        await make_egress("127.0.0.1").request("GET", "http://public.example/")
    assert (caught.value.kind, caught.value.retryable) == ("insecure_scheme", False)
    assert sockets == []


async def test_plain_http_to_a_public_literal_is_refused(make_egress, sockets):
    with pytest.raises(RemoteFailed, match="use https") as caught:
        await make_egress().request("GET", "http://8.8.8.8/")
    assert caught.value.kind == "insecure_scheme"
    assert sockets == []


async def test_a_refusal_names_the_way_out_but_not_the_inner_address(make_egress, resolver):
    resolver["intranet.example"] = ["10.1.2.3"]
    with pytest.raises(RemoteFailed) as caught:
        await make_egress().request(
            "GET", "https://intranet.example/?key=s3cret", headers={"X-Key": "s3cret"}
        )
    assert caught.value.message == (
        "intranet.example resolves to a private address, which is not called; "
        "an operator can open it with TRUNKLINE_EGRESS_ALLOW=intranet.example:443"
    )


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (socket.gaierror(socket.EAI_NONAME, "nodename"), False),
        (socket.gaierror(socket.EAI_AGAIN, "temporary"), True),
        (OSError("broken"), False),
        ([], False),
        (["not an address"], False),
    ],
)
async def test_a_name_without_an_address_is_a_dns_failure(failure, retryable, make_egress, resolver):
    resolver["gone.example"] = failure
    with pytest.raises(RemoteFailed, match=r"^gone\.example cannot be resolved") as caught:
        await make_egress().request("GET", "https://gone.example/")
    assert (caught.value.kind, caught.value.retryable) == ("dns", retryable)


async def test_a_name_server_that_never_answers_ends_at_the_connect_limit(make_egress, quick):
    class Silent:
        async def resolve(self, host):
            await asyncio.Event().wait()

    egress = make_egress(connect_timeout_seconds=0.05)
    egress._door._names._resolver = Silent()
    with pytest.raises(RemoteFailed) as caught:
        await egress.request("GET", "https://silent.example/")
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


async def test_many_callers_of_one_name_ask_once(make_egress, resolver):
    resolver["same.example"] = ["10.0.0.1"]
    egress = make_egress()
    calls = (egress.request("GET", f"https://same.example/{number}") for number in range(20))
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert {failure.kind for failure in failures} == {"refused_address"}
    assert resolver.asked == ["same.example"]


async def test_the_machines_own_resolver_knows_localhost(serve, answer, make_egress, resolver):
    from trunkline.egress.names import SystemResolver

    server = await serve(answer(b"home"))
    egress = make_egress("localhost")
    egress._door._names._resolver = SystemResolver()
    assert (await egress.request("GET", f"http://localhost:{server.port}/")).body == b"home"
