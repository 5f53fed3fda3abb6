"""Make identifiers: UUIDs for rows, `tl_…` API keys with a checksum, request ids."""

import hashlib
import itertools
import os
import secrets
import uuid
import zlib
from collections import deque

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 40  # 238 bits
_CHECKSUM_LENGTH = 6
KEY_PREFIX = "tl_"
# Drawing random bytes for each request would hand the interpreter to another thread each time.
_PROCESS = secrets.token_hex(6)
_REQUESTS = itertools.count(1)


_RANDOM: deque[bytes] = deque()
_DRAWN_AT_ONCE = 256
os.register_at_fork(after_in_child=_RANDOM.clear)


def new_id() -> str:
    """Return a random UUID (RFC 9562, version 4) in canonical form."""
    try:
        drawn = _RANDOM.popleft()
    except IndexError:
        fresh = os.urandom(16 * _DRAWN_AT_ONCE)
        _RANDOM.extend(fresh[at : at + 16] for at in range(16, len(fresh), 16))
        drawn = fresh[:16]
    return str(uuid.UUID(bytes=drawn, version=4))


def new_request_id() -> str:
    """Return a request id: `req_` and 24 hex digits, half of them this process's and half a count."""
    return f"req_{_PROCESS}{next(_REQUESTS):012x}"


def new_key_id() -> str:
    """Return the public id of an API key: `ak_` and 16 hex digits."""
    return "ak_" + secrets.token_hex(8)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _random_text() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def new_api_key() -> str:
    """Return a fresh API key: `tl_`, 40 base-62 characters, and a CRC-32 checksum of 6."""
    body = _random_text()
    return f"{KEY_PREFIX}{body}{_checksum(body)}"


def new_hook_token() -> str:
    """Return what makes a hook's address unguessable: 40 base-62 characters."""
    return _random_text()


def is_api_key(text: str) -> bool:
    """Tell whether `text` has the form and checksum of an API key, without any look-up."""
    if not text.startswith(KEY_PREFIX) or len(text) != len(KEY_PREFIX) + _SECRET_LENGTH + _CHECKSUM_LENGTH:
        return False
    body, checksum = text[3:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return text.isascii() and _checksum(body) == checksum


def hash_api_key(key: str) -> bytes:
    """Return what is stored of an API key: SHA-256, enough for 238 random bits."""
    return hashlib.sha256(key.encode()).digest()
