"""Read an answer's body within its limit, while it streams in. Neither sends nor judges where from."""

import asyncio
from collections.abc import Callable

import aiohttp

from trunkline.egress import decode, failures
from trunkline.egress.door import Dial
from trunkline.egress.urls import Target

_DECODED_BEFORE_PAUSE = 1024 * 1024


async def read_body(answer: aiohttp.ClientResponse, target: Target, max_bytes: int) -> bytes:
    """Read the body to its end, or close the connection in the middle of it."""
    content = answer.content
    if content.is_eof() and answer.status != 101 and "Content-Encoding" not in answer.headers:
        body = content.read_nowait()  # all of it came with the head, as short answers do
        if len(body) > max_bytes:
            raise failures.too_large(target, max_bytes)
        return body
    is_whole = False
    forget = _end_with_connection(answer)
    try:
        body = await _body(answer, max_bytes)
        is_whole = True
        return body
    except decode.TooLargeError:
        raise failures.too_large(target, max_bytes) from None
    except decode.UndecodableError as error:
        raise failures.malformed(target, f"sent an answer that {error}") from None
    except failures.FOREIGN as error:
        raise failures.translate(error, Dial(target)) from None
    finally:
        forget()
        if not is_whole:
            answer.close()


def _end_with_connection(answer: aiohttp.ClientResponse) -> Callable[[], object]:
    """Make sure that reading ends when the connection does; the result undoes it.

    When a later part of a body is malformed, aiohttp's compiled parser closes the connection without
    telling whoever reads the body, who would wait for the total limit.
    """
    content = answer.content
    protocol = answer.connection.protocol if answer.connection and not content.is_eof() else None
    if protocol is None:
        return _nothing

    def end(_: object) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("malformed"))

    closed = protocol.closed
    if closed is None:
        end(None)
        return _nothing
    closed.add_done_callback(end)
    return lambda: closed.remove_done_callback(end)


def _nothing() -> None: ...


async def _body(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    if answer.status == 101:
        raise decode.UndecodableError("switches to a protocol that was not asked for")
    if encodings := answer.headers.getall("Content-Encoding", ()):
        return await _decoded(answer.content, decode.Decoder(",".join(encodings), max_bytes), max_bytes)
    content = answer.content
    body = await content.readany()
    if not content.at_eof():
        # One growing buffer: a list of endless one-byte chunks would take fifty times their size.
        buffer = bytearray(body)
        while chunk := await content.readany():
            buffer += chunk
            if len(buffer) > max_bytes:
                raise decode.TooLargeError
        body = bytes(buffer)
    if len(body) > max_bytes:
        raise decode.TooLargeError
    return body


async def _decoded(content: aiohttp.StreamReader, decoder: decode.Decoder, max_bytes: int) -> bytes:
    body = bytearray()
    received = 0
    pause_at = _DECODED_BEFORE_PAUSE
    while chunk := await content.readany():
        received += len(chunk)
        for piece in decoder.feed(chunk):
            body += piece
            if len(body) > pause_at:
                pause_at = len(body) + _DECODED_BEFORE_PAUSE
                await asyncio.sleep(0)  # let others run: a megabyte takes milliseconds
        if received > max_bytes:
            raise decode.TooLargeError
    decoder.finish()
    return bytes(body)
