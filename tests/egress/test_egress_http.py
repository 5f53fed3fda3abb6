"""What is sent, what comes back, and what an upstream that breaks the protocol turns into."""

import asyncio
import socket
import struct

import pytest

from trunkline import __version__
from trunkline.egress import check_header
from trunkline.errors import RemoteFailed, Unavailable


def at(server, path="/"):
    return f"http://127.0.0.1:{server.port}{path}"


async def failure(egress, method, url, **options):
    with pytest.raises(RemoteFailed) as caught:
        await egress.request(method, url, **options)
    return caught.value


async def test_a_reply_carries_status_headers_body_and_timing(serve, egress, answer):
    server = await serve(answer(b'{"a":1}', status="201 Created", content_type="application/json", x_one="1"))
    reply = await egress.request("POST", at(server, "/things?q=1"), headers={"X-Key": "k"}, body=b"payload")
    assert (reply.status, reply.body, reply.url, reply.redirects) == (
        201,
        b'{"a":1}',
        at(server, "/things?q=1"),
        0,
    )
    assert (reply.headers["Content-Type"], reply.headers["X-ONE"]) == ("application/json", "1")
    assert 0 < reply.duration_ms < 5000
    assert server.heads[0].startswith("POST /things?q=1 HTTP/1.1\r\n")
    assert server.bodies == [b"payload"]


async def test_only_our_own_headers_are_added(serve, egress, answer):
    server = await serve(answer())
    await egress.request("GET", at(server), headers={"X-Key": "k"})
    assert dict(server.headers()) | {"": ""} == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"Trunkline/{__version__}",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "x-key": "k",
        "": "",
    }


async def test_a_caller_may_name_its_own_agent_and_media_types(serve, egress, answer):
    server = await serve(answer())
    await egress.request("GET", at(server), headers={"user-agent": "Mine/1", "ACCEPT": "text/csv"})
    assert server.headers()["user-agent"] == "Mine/1"
    assert server.headers()["accept"] == "text/csv"


@pytest.mark.parametrize(
    ("body", "length"), [(None, "0"), (b"", "0"), (b"x", "1"), (b"x" * 3_000_000, "3000000")]
)
async def test_a_post_states_its_length_and_invents_no_content_type(body, length, serve, egress, answer):
    server = await serve(answer())
    await egress.request("POST", at(server), body=body)
    assert server.headers()["content-length"] == length
    assert "content-type" not in server.headers()
    assert server.bodies == [body or b""]


async def test_what_we_set_ourselves_is_left_out_when_a_caller_sends_it(serve, egress, answer):
    server = await serve(answer())
    theirs = {"Content-Length": "9999", "Connection": "upgrade", "Keep-Alive": "x", "accept-encoding": "br"}
    await egress.request("POST", at(server), headers=theirs, body=b"four")
    sent = server.headers()
    assert (sent["content-length"], sent["accept-encoding"]) == ("4", "gzip, deflate")
    assert not {"connection", "keep-alive"} & sent.keys()


BAD_HEADERS = [
    ("Host", "evil.example"),
    ("hOST", "evil.example"),
    ("Transfer-Encoding", "chunked"),
    ("TE", "trailers"),
    ("Trailer", "X"),
    ("Upgrade", "websocket"),
    ("Expect", "100-continue"),
    ("Proxy-Authorization", "Basic eA=="),
    ("HTTP2-Settings", "x"),
    ("X-A", "b\r\nHost: evil"),
    ("X-A", "b\nc"),
    ("X-A", "b\rc"),
    ("X-A", "b\x00"),
    ("X-A", "b\x7f"),
    ("X-A", "\ud800"),
    ("X-A\r\nHost", "evil"),
    ("X A", "b"),
    ("X-A:", "b"),
    ("", "b"),
    ("X-Ä", "b"),
    ("X" * 300, "b"),
]


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
async def test_a_header_that_could_redirect_or_split_a_request_is_refused(name, value, serve, egress, answer):
    server = await serve(answer())
    failed = await failure(egress, "GET", at(server), headers={name: value})
    assert (failed.kind, failed.retryable) == ("bad_header", False)
    assert "evil" not in failed.message.replace(name, "")
    assert server.connections == 0
    with pytest.raises(ValueError, match="header"):
        check_header(name, value)


@pytest.mark.parametrize(
    ("name", "value"), [("X-A", "b\tc"), ("X-A", "ü"), ("Authorization", "Bearer a.b-c"), ("X", "")]
)
def test_an_ordinary_header_passes(name, value):
    check_header(name, value)


@pytest.mark.parametrize(
    "headers", [{f"x-{number}": "" for number in range(101)}, {"x": "v" * 70_000}], ids=["many", "long"]
)
async def test_too_many_or_too_long_headers_are_not_sent(headers, egress):
    assert (await failure(egress, "GET", "https://127.0.0.1/", headers=headers)).kind == "bad_header"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "GET /x HTTP/1.1\r\nX: y", ""])
async def test_an_unusual_method_is_not_sent(method, egress):
    assert (await failure(egress, method, "https://127.0.0.1/")).kind == "bad_url"


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 20\r\n\r\n"),
        (
            "GET",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        ),
    ],
)
async def test_an_answer_without_a_body_is_whole_at_once(method, head, serve, egress):
    server = await serve(head + b"")
    reply = await egress.request(method, at(server))
    assert (reply.body, reply.status) == (b"", int(head.split(b"HTTP/1.1 ")[-1][:3]))


@pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 500, 503, 999])
async def test_every_status_is_an_answer(status, serve, egress, answer):
    server = await serve(answer(b"why", status=f"{status} Because"))
    reply = await egress.request("GET", at(server))
    assert (reply.status, reply.body) == (status, b"why")


MALFORMED = {
    "not http": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "binary": bytes(range(256)) * 4,
    "status word": b"HTTP/1.1 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 No\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "huge length": b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 99 + b"\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "header without a name": b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\na: \x00\r\n\r\n",
    "long header": b"HTTP/1.1 200 OK\r\na: " + b"x" * 20_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    "long status": b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nframes",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_an_answer_that_is_no_http_is_malformed(name, serve, egress):
    server = await serve(MALFORMED[name])
    failed = await failure(egress, "GET", at(server))
    assert (failed.kind, failed.retryable) == ("malformed", False)
    assert "xxx" not in failed.message
    assert len(failed.message) < 120


@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.parametrize("before", [b"", b"1\r\na\r\n"])
async def test_a_bad_chunk_after_the_head_is_malformed(before, pause, serve, egress):
    async def late(writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + before)
        await writer.drain()
        await asyncio.sleep(pause)
        writer.write(b"zzz\r\n")
        await writer.drain()

    server = await serve(late)
    assert (await failure(egress, "GET", at(server))).kind == "malformed"


@pytest.mark.parametrize("pause", [0, 0.02])
@pytest.mark.parametrize(
    "framing", ["content-length: 3000000", "transfer-encoding: chunked", "connection: close"]
)
async def test_a_long_answer_is_whole_although_the_server_closes_at_once(framing, pause, serve, egress):
    body = bytes(range(250)) * 12_000

    async def burst(writer):
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        await asyncio.sleep(pause)
        writer.write(b"2DC6C0\r\n%b\r\n0\r\n\r\n" % body if "chunked" in framing else body)

    server = await serve(burst)
    assert (await egress.request("GET", at(server))).body == body


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_answer_cut_short_is_closed_and_may_be_retried(sent, how, serve, egress):
    async def cut(writer):
        writer.write(sent)
        await writer.drain()
        if how == "reset":
            await asyncio.sleep(0.02)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    server = await serve(cut)
    failed = await failure(egress, "GET", at(server))
    assert (failed.kind, failed.retryable) == ("closed", True)
    assert server.connections == 1


async def test_nobody_listening_is_a_connect_failure(egress):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    failed = await failure(egress, "GET", f"http://127.0.0.1:{port}/?token=s3cret")
    assert (failed.kind, failed.retryable) == ("connect", True)
    assert failed.message == f"127.0.0.1:{port} cannot be reached: connection refused"


async def test_bytes_that_are_no_text_in_a_header_become_text(serve, egress):
    server = await serve(
        b"HTTP/1.1 200 OK\r\na: caf\xe9\r\nb: caf\xc3\xa9\r\nb: two\r\ncontent-length: 0\r\n\r\n"
    )
    headers = (await egress.request("GET", at(server))).headers
    assert headers["a"].encode() == "café".encode()
    assert headers.getall("b") == ["café", "two"]


async def test_a_connection_is_kept_for_the_next_call(serve, egress, answer):
    server = await serve(answer(b"ok", connection="keep-alive"))
    for _ in range(3):
        assert (await egress.request("GET", at(server))).body == b"ok"
    assert server.connections == 1


async def test_no_cookie_is_kept_from_one_call_to_the_next(serve, egress, answer, resolver):
    resolver["cookie.example"] = ["127.0.0.1"]
    server = await serve(answer(b"", set_cookie="session=1; Path=/", connection="keep-alive"))
    for _ in range(2):
        await egress.request("GET", f"http://cookie.example:{server.port}/")
    assert "cookie" not in server.headers()


@pytest.mark.parametrize("pause", [0, 0.02])
async def test_an_answer_nobody_asked_for_is_not_given_to_the_next_call(pause, serve, egress, answer):
    async def one_too_many(writer):
        writer.write(answer(b"first"))
        await writer.drain()
        await asyncio.sleep(pause)
        writer.write(answer(b"stale"))
        await writer.drain()

    server = await serve(one_too_many)
    server.keeps_open = lambda: True
    assert (await egress.request("GET", at(server))).body == b"first"
    await asyncio.sleep(pause * 2)
    assert (await egress.request("GET", at(server))).body == b"first"


async def test_a_proxy_of_the_environment_is_ignored(serve, egress, answer, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = await serve(answer(b"direct"))
    assert (await egress.request("GET", at(server))).body == b"direct"


@pytest.mark.parametrize(("method", "expected"), [("GET", 2), ("POST", 1)])
async def test_a_kept_connection_that_died_is_replaced_only_if_repeating_is_safe(
    method, expected, serve, egress
):
    served = 0

    async def once_then_drop(writer):
        nonlocal served
        served += 1
        if served != 2:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()

    server = await serve(once_then_drop)
    server.keeps_open = lambda: served == 1
    assert (await egress.request(method, at(server))).body == b"ok"
    if expected == 2:
        assert (await egress.request(method, at(server))).body == b"ok"
    else:
        assert (await failure(egress, method, at(server))).kind == "closed"
    assert server.connections == expected


async def test_a_closed_egress_sends_nothing(serve, egress, answer):
    server = await serve(answer())
    await egress.request("GET", at(server))
    await egress.close()
    await egress.close()
    with pytest.raises(Unavailable):
        await egress.request("GET", at(server))


async def test_closing_ends_calls_under_way(serve, egress):
    async def forever(writer):
        await asyncio.Event().wait()

    server = await serve(forever)
    call = asyncio.create_task(failure(egress, "GET", at(server)))
    await server.called.wait()
    await egress.close()
    assert (await asyncio.wait_for(call, 5)).kind == "closed"


async def test_a_cancelled_call_gives_its_connection_up(serve, egress):
    async def forever(writer):
        await asyncio.Event().wait()

    server = await serve(forever)
    call = asyncio.create_task(egress.request("GET", at(server)))
    await server.called.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not egress._session.connector._acquired
