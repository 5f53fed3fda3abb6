"""Undo an answer's content codings piece by piece, within bounds on output, layers and members."""

import re
import zlib
from collections.abc import Iterator
from typing import Protocol

ACCEPTED = "gzip, deflate"
_PIECE = 64 * 1024
_MAX_LAYERS = 3
_MAX_MEMBERS = 64  # each costs a copy of what follows it, so endless tiny ones would be quadratic
_CODING = re.compile(r"[a-z0-9-]{1,16}")


class TooLargeError(Exception):
    """The answer is longer than allowed."""


class UndecodableError(Exception):
    """The answer is not encoded as it says. The text is fit for people."""


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Layer:
    """One coding: gzip (RFC 1952, several members) or deflate (RFC 1950, and bare RFC 1951 as some send)."""

    def __init__(self, coding: str, max_bytes: int) -> None:
        self._coding = coding
        self._room = max_bytes
        self._members = 0
        self._inflater: _Inflater | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        is_full = False  # a full piece can leave output waiting although all input was taken
        while data or is_full:
            if self._inflater is None or self._inflater.eof:
                self._inflater = self._next_member(data)
            piece = self._inflater.decompress(data, _PIECE)
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            is_full = len(piece) == _PIECE and not self._inflater.eof
            self._room -= len(piece)
            if self._room < 0:
                raise TooLargeError
            if piece:
                yield piece

    def _next_member(self, data: bytes) -> _Inflater:
        self._members += 1
        if self._members > (_MAX_MEMBERS if self._coding == "gzip" else 1):
            raise UndecodableError("has more after the end of its compressed body")
        if self._coding == "gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        is_wrapped = data[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(zlib.MAX_WBITS if is_wrapped else -zlib.MAX_WBITS)

    @property
    def is_whole(self) -> bool:
        return self._inflater is not None and self._inflater.eof


class Decoder:
    """Decode a body that went through the codings of its Content-Encoding header, in their order."""

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        names = [name.strip().lower().removeprefix("x-") for name in content_encoding.split(",")]
        codings = [name for name in names if name not in ("", "identity")]
        for coding in codings:
            if coding not in ("gzip", "deflate"):
                shown = coding if _CODING.fullmatch(coding) else "something unreadable"
                raise UndecodableError(f"is encoded as {shown}, which was not asked for")
        if len(codings) > _MAX_LAYERS:
            raise UndecodableError(f"went through more than {_MAX_LAYERS} content codings")
        self._layers = [_Layer(coding, max_bytes) for coding in reversed(codings)]
        self._is_empty = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what some received bytes decode to, in pieces of at most 64 KiB.

        Raises:
            TooLargeError: when a layer's output exceeds the bound.
            UndecodableError: when the bytes are not what the header says.
        """
        self._is_empty = self._is_empty and not data
        try:
            yield from self._through(0, data)
        except zlib.error:
            raise UndecodableError("is not compressed as it says") from None

    def _through(self, depth: int, data: bytes) -> Iterator[bytes]:
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].feed(data):
            yield from self._through(depth + 1, piece)

    def finish(self) -> None:
        """Raise UndecodableError if the body ended in the middle of a coding; an empty body is fine."""
        if not self._is_empty and not all(layer.is_whole for layer in self._layers):
            raise UndecodableError("ends in the middle of its compressed body")
