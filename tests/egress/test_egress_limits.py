"""Every wait and every byte has an end, whatever the other side does."""

import asyncio
import gzip
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from trunkline.errors import RemoteFailed

MEGABYTE = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\n"


async def fails(egress, server, limits, method="GET", **options):
    with pytest.raises(RemoteFailed) as caught:
        await egress.request(method, f"http://127.0.0.1:{server.port}/", limits=limits, **options)
    assert caught.value.message.startswith("127.0.0.1")
    return caught.value.kind, caught.value.retryable


def repeat(first, chunk, pause=0.0):
    """Send the first bytes, then the chunk for ever."""

    async def endless(writer):
        writer.write(first)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)

    return endless


async def silence(writer):
    await asyncio.Event().wait()


async def test_silence_ends_at_the_read_limit(serve, egress, quick):
    server = await serve(silence)
    assert await fails(egress, server, replace(quick, read_seconds=0.05)) == ("timeout", True)


async def test_silence_after_the_head_ends_at_the_read_limit(serve, egress, quick):
    server = await serve(repeat(HEAD + b"content-length: 9\r\n\r\nabc", b"", 9))
    assert await fails(egress, server, replace(quick, read_seconds=0.05)) == ("timeout", True)


@pytest.mark.parametrize(
    ("first", "chunk"),
    [
        (HEAD + b"content-length: 99999\r\n\r\n", b"x"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"\r\n", b"x"),
        (HEAD + b"a: ", b"x"),
        (b"H", b""),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["length", "chunked", "until close", "header", "status line", "interim answers"],
)
async def test_a_slow_drip_is_ended_by_the_total(first, chunk, serve, egress, quick):
    server = await serve(repeat(first, chunk, 0.01))
    limits = replace(quick, read_seconds=5, total_seconds=0.2)
    assert await fails(egress, server, limits) == ("timeout", True)


async def test_the_total_covers_every_hop_of_a_redirect(serve, egress, quick, answer):
    async def slow(writer):
        await asyncio.sleep(0.1)
        writer.write(answer(status="302 Found", location="/again"))
        await writer.drain()

    server = await serve(slow)
    limits = replace(quick, total_seconds=0.25)
    assert await fails(egress, server, limits, follow_redirects=True) == ("timeout", True)


async def test_a_server_that_never_reads_is_ended_by_the_total(serve, egress, quick):
    server = await serve(silence)
    server.reads_bodies = False
    limits = replace(quick, total_seconds=0.2)
    assert await fails(egress, server, limits, "POST", body=b"x" * 30 * MEGABYTE) == ("timeout", True)


@pytest.mark.parametrize(
    ("first", "chunk"),
    [
        (HEAD + b"content-length: 99999999999\r\n\r\n", b"x" * 65536),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 5000),
        (HEAD + b"\r\n", b"x" * 65536),
    ],
    ids=["length", "chunked", "tiny chunks", "until close"],
)
async def test_an_endless_body_is_cut_at_the_limit_in_little_memory(first, chunk, serve, egress, quick):
    server = await serve(repeat(first, chunk))
    limits = replace(quick, max_bytes=100_000 if len(chunk) < 65536 else MEGABYTE)
    tracemalloc.start()
    try:
        assert await fails(egress, server, limits) == ("too_large", False)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()
    await asyncio.wait_for(server.gone.wait(), 5)


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_000])
async def test_a_body_up_to_the_limit_is_whole(size, serve, egress, quick, answer):
    body = bytes(size)
    server = await serve(answer(body))
    assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/", limits=quick)).body == body


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_one_byte_over_the_limit_is_too_much(encoding, serve, egress, quick, answer):
    body = bytes(MEGABYTE + 1)
    packed = gzip.compress(body, mtime=0) if encoding else body
    server = await serve(answer(packed, content_encoding=encoding or "identity"))
    assert await fails(egress, server, quick) == ("too_large", False)


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [(b"a: b\r\n" * 100, "malformed"), (b"x" * 65536, "malformed")],
    ids=["many", "long"],
)
async def test_endless_headers_end_early(chunk, kind, serve, egress, quick):
    server = await serve(repeat(HEAD + b"a: ", chunk))
    assert await fails(egress, server, quick) == (kind, False)


def squeeze(body, *encodings):
    for encoding in encodings:
        body = {
            "gzip": gzip.compress,
            "x-gzip": gzip.compress,
            "deflate": zlib.compress,
            "raw": lambda data: zlib.compress(data, wbits=-15),
        }[encoding](body)
    return body


@pytest.mark.parametrize(
    ("header", "packing"),
    [
        ("gzip", ["gzip"]),
        ("GZIP", ["gzip"]),
        ("x-gzip", ["gzip"]),
        ("deflate", ["deflate"]),
        ("deflate", ["raw"]),
        ("gzip, gzip", ["gzip", "gzip"]),
        ("deflate, gzip", ["deflate", "gzip"]),
        ("identity", []),
        ("gzip, identity", ["gzip"]),
        ("deflate, gzip, deflate", ["deflate", "gzip", "deflate"]),
    ],
)
@pytest.mark.parametrize("size", [1, 65536, 300_000])
async def test_an_encoded_body_is_decoded(*, header, packing, size, serve, egress, quick, answer):
    body = bytes(range(256)) * (size // 256) or b"x"
    server = await serve(answer(squeeze(body, *packing), content_encoding=header))
    assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/", limits=quick)).body == body


@pytest.mark.parametrize(
    ("header", "packing"),
    [
        ("gzip", ["gzip"]),
        ("deflate", ["deflate"]),
        ("deflate", ["raw"]),
        ("gzip, gzip", ["gzip", "gzip"]),
        ("gzip, gzip, gzip", ["gzip", "gzip", "gzip"]),
    ],
)
async def test_a_decompression_bomb_ends_early_in_little_memory(
    *, header, packing, serve, egress, quick, answer
):
    server = await serve(answer(squeeze(bytes(40 * MEGABYTE), *packing), content_encoding=header))
    tracemalloc.start()
    try:
        assert await fails(egress, server, quick) == ("too_large", False)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
    finally:
        tracemalloc.stop()


EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


@pytest.mark.parametrize(
    ("header", "first", "chunk", "kind"),
    [
        ("deflate", b"", EMPTY_BLOCK * 9999, "too_large"),
        ("gzip", b"", gzip.compress(b"", mtime=0) * 500, "malformed"),
        ("gzip", b"", gzip.compress(b"x", mtime=0) * 500, "malformed"),
        ("deflate", zlib.compress(b"x"), b"more", "malformed"),
        ("gzip", gzip.compress(b"x", mtime=0), b"more" * 9, "malformed"),
        ("gzip", b"", b"not compressed at all" * 9, "malformed"),
        ("deflate", b"", b"\xff" * 99, "malformed"),
        ("br", b"", b"whatever", "malformed"),
        ("zstd", b"", b"whatever", "malformed"),
        ("gzip, " * 4 + "gzip", b"", b"x" * 99, "malformed"),
        ("\xff\xfe", b"", b"x" * 99, "malformed"),
    ],
)
async def test_a_body_that_is_not_encoded_as_it_says_is_malformed(
    *, header, first, chunk, kind, serve, egress, quick
):
    head = HEAD + b"content-encoding: " + header.encode("latin-1") + b"\r\n\r\n"
    server = await serve(repeat(head + first, chunk))
    assert await fails(egress, server, quick) == (kind, False)


@pytest.mark.parametrize("header", ["gzip", "deflate", "gzip, gzip"])
async def test_a_truncated_encoding_is_malformed(header, serve, egress, quick, answer):
    packed = squeeze(b"some text" * 99, *header.split(", "))
    server = await serve(answer(packed[:-5], content_encoding=header))
    assert await fails(egress, server, quick) == ("malformed", False)


async def test_several_gzip_members_are_one_body(serve, egress, quick, answer):
    server = await serve(
        answer(gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0), content_encoding="gzip")
    )
    assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/")).body == b"onetwo"


async def test_an_empty_body_needs_no_encoding(serve, egress, quick, answer):
    server = await serve(answer(b"", content_encoding="gzip"))
    assert (await egress.request("GET", f"http://127.0.0.1:{server.port}/")).body == b""
