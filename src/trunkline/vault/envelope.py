"""AES-256-GCM with a purpose and an identity bound in: what was sealed as one row opens as no other.

Pure functions over keys in hand. A sealed value is a version byte, a 12-byte random nonce, the ciphertext.
"""

import os
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trunkline.errors import Broken

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_START: Final = 1 + _NONCE_BYTES


def wrap(master: AESGCM, key: bytes, *identity: str) -> bytes:
    """Seal a data key under a master key."""
    return _seal(master, key, ("data key", *identity))


def unwrap(master: AESGCM, wrapped: bytes, *identity: str) -> bytes:
    """Open a data key.

    Raises:
        Broken: it was changed, or sealed as another row.
    """
    return _open(master, wrapped, ("data key", *identity))


def seal(key: AESGCM, value: str, *identity: str) -> bytes:
    """Seal a secret under a data key.

    Raises:
        UnicodeEncodeError: the value holds lone surrogates, which are no text.
    """
    return _seal(key, value.encode(), ("secret", *identity))


def open_sealed(key: AESGCM, sealed: bytes, *identity: str) -> str:
    """Open a secret.

    Raises:
        Broken: it was changed, or sealed as another row.
    """
    return _open(key, sealed, ("secret", *identity)).decode()


def _seal(key: AESGCM, plain: bytes, bound: tuple[str, ...]) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    # a JSON array: no two identities spell the same bytes, whatever characters they hold
    return _VERSION + nonce + key.encrypt(nonce, plain, orjson.dumps(bound))


def _open(key: AESGCM, sealed: bytes, bound: tuple[str, ...]) -> bytes:
    if sealed[:1] != _VERSION or len(sealed) < _START:
        raise Broken(f"A stored {bound[0]} has a form this version does not know.")
    try:
        return key.decrypt(sealed[1:_START], sealed[_START:], orjson.dumps(bound))
    except InvalidTag:
        raise Broken(
            f"A stored {bound[0]} does not open: it was changed, or moved from another row."
        ) from None
