"""Redirects: off by default, each hop through the same door, credentials left behind."""

import pytest

from trunkline.errors import RemoteFailed

SECRETS = {
    "Authorization": "Bearer s3cret",
    "Cookie": "s3cret",
    "X-Api-Key": "s3cret",
    "X-Anything": "s3cret",
    "Accept": "text/csv",
    "User-Agent": "Mine/1",
}


def at(server, path="/", host="127.0.0.1"):
    return f"http://{host}:{server.port}{path}"


@pytest.fixture
def redirect(serve, answer):
    async def start(location, status="302 Found", body=b""):
        return await serve(answer(body, status=status, location=location))

    return start


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_unless_following_is_asked_for(status, redirect, egress):
    server = await redirect("https://example.com/", f"{status} Moved", b"moved")
    reply = await egress.request("GET", at(server))
    assert (reply.status, reply.body, reply.headers["Location"]) == (status, b"moved", "https://example.com/")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_get_and_head_follow(*, method, status, serve, answer, redirect, egress):
    last = await serve(answer(b"" if method == "HEAD" else b"here"))
    first = await redirect(at(last, "/last?x=1#part"), f"{status} Moved")
    reply = await egress.request(method, at(first), follow_redirects=True)
    assert (reply.status, reply.redirects, reply.url) == (200, 1, at(last, "/last?x=1"))
    assert last.heads[0].startswith(f"{method} /last?x=1 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_no_other_method_follows(method, redirect, egress):
    server = await redirect("/elsewhere")
    reply = await egress.request(method, at(server), follow_redirects=True, body=b"x")
    assert (reply.status, len(server.heads)) == (302, 1)


@pytest.mark.parametrize("location", ["/b", "b", "./b", "?", "//127.0.0.1:{port}/b"])
async def test_a_relative_location_stays_on_the_origin_with_credentials(location, serve, answer, egress):
    async def once(writer):
        target = location.format(port=server.port)
        writer.write(answer(status="302 Found", location=target) if len(server.heads) == 1 else answer(b"b"))
        await writer.drain()

    server = await serve(once)
    reply = await egress.request("GET", at(server, "/a"), headers=SECRETS, follow_redirects=True)
    assert reply.body == b"b"
    assert server.headers(1)["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("host", ["127.0.0.1", "elsewhere"])
async def test_credentials_do_not_follow_to_another_port_or_host(
    *, host, serve, answer, redirect, make_egress, resolver
):
    resolver["elsewhere"] = ["127.0.0.1"]
    last = await serve(answer(b"here"))
    first = await redirect(at(last, host=host))
    egress = make_egress("127.0.0.1 elsewhere")
    reply = await egress.request("GET", at(first), headers=SECRETS, body=b"s3cret", follow_redirects=True)
    assert reply.body == b"here"
    assert "s3cret" in first.heads[0]
    assert "s3cret" not in last.heads[0] + last.bodies[0].decode()
    assert last.headers()["accept"] == "text/csv"
    assert last.headers()["user-agent"] == "Mine/1"


async def test_credentials_do_not_come_back_after_a_detour(serve, answer, egress):
    async def there_and_back(writer):
        writer.write(
            answer(status="302 Found", location=at(detour)) if len(home.heads) == 1 else answer(b"home")
        )
        await writer.drain()

    home = await serve(there_and_back)
    detour = await serve(answer(status="302 Found", location=at(home)))
    reply = await egress.request("GET", at(home), headers=SECRETS, follow_redirects=True)
    assert (reply.body, reply.redirects) == (b"home", 2)
    assert "authorization" not in home.headers(1)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://10.0.0.1/", "refused_address"),
        ("http://169.254.169.254/latest/meta-data/", "refused_address"),
        ("https://[::ffff:10.0.0.1]/", "refused_address"),
        ("//localhost/", "refused_address"),
        ("https://intranet.example/", "refused_address"),
        ("http://public.example/", "insecure_scheme"),
        ("http://8.8.8.8/", "insecure_scheme"),
        ("https://nowhere.example/", "dns"),
        ("http://0x7f.1/", "redirect"),
        ("http://2130706433/", "redirect"),
        ("http://user:pass@127.0.0.1/", "redirect"),
        ("file:///etc/passwd", "redirect"),
        ("ftp://example.com/", "redirect"),
        ("javascript:alert(1)", "redirect"),
        ("https://", "redirect"),
        ("https://example.com:99999/", "redirect"),
        ("https://[::1", "redirect"),
        ("https://exa\\mple.com/", "redirect"),
        ("https://[fe80::1%25lo]/", "redirect"),
        ("/" + "a" * 5000, "redirect"),
        ("https://\xff\xfe/", "redirect"),
    ],
)
async def test_every_hop_goes_through_the_door(location, kind, redirect, make_egress, resolver):
    resolver["localhost"] = ["127.0.0.3"]
    resolver["intranet.example"] = ["192.168.1.1"]
    resolver["public.example"] = ["8.8.8.8"]
    server = await redirect(location)
    with pytest.raises(RemoteFailed) as caught:
        await make_egress().request("GET", at(server), follow_redirects=True)
    assert (caught.value.kind, caught.value.retryable) == (kind, False)


async def test_a_loop_ends_after_five(redirect, egress):
    server = await redirect("/again")
    with pytest.raises(RemoteFailed, match="after 5 redirects") as caught:
        await egress.request("GET", at(server), follow_redirects=True)
    assert (caught.value.kind, len(server.heads)) == ("redirect", 6)


@pytest.mark.parametrize(
    "head", [b"302 Found\r\n", b"302 Found\r\nlocation:\r\n", b"300 Choose\r\nlocation: /x\r\n"]
)
async def test_a_redirect_that_leads_nowhere_is_an_answer(head, serve, egress):
    server = await serve(b"HTTP/1.1 " + head + b"content-length: 0\r\n\r\n")
    reply = await egress.request("GET", at(server), follow_redirects=True)
    assert (reply.status, reply.redirects) == (int(head[:3]), 0)
