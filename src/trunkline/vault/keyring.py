"""The master keys: several, of which the first seals and all open; from a setting or from the key file."""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trunkline.db.folder import locked
from trunkline.errors import Invalid, Unavailable
from trunkline.ids import new_id
from trunkline.settings import Settings
from trunkline.vault import envelope
from trunkline.vault.data_keys import WrappedKey
from trunkline.vault.envelope import KEY_BYTES

_SETTING = "TRUNKLINE_MASTER_KEY"
_MOST_BYTES = 64 * 1024  # a key file is a few lines; whatever is larger is none
_URLSAFE = str.maketrans("-_", "+/")


class KeyRing:
    """Master keys by id: the first 16 hex digits of a key's SHA-256."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self.first_id = _key_id(keys[0])

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    @classmethod
    def load(cls, settings: Settings) -> "KeyRing":
        """Read the keys of the setting, or those of the key file, made with one fresh key if absent.

        Raises:
            Invalid: the setting holds something that is no key.
            Unavailable: the key file cannot be used, or others can read it.
        """
        if settings.master_key:
            return cls(_from_setting(settings.master_key))
        try:
            if not settings.key_file.exists():
                _create(settings.key_file)
            return cls(_from_file(settings.key_file))
        except OSError as error:
            raise _unusable(settings.key_file, error.strerror or "it cannot be read") from None

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def new_data_key(self, workspace_id: str) -> WrappedKey:
        """Make a data key for a workspace, wrapped by the first master key."""
        return self._wrap(new_id(), workspace_id, os.urandom(KEY_BYTES))

    def rewrap(self, key: WrappedKey) -> WrappedKey:
        """Wrap a data key by the first master key instead.

        Raises:
            KeyError: the ring lacks the master key that wraps it now.
            Broken: the row was tampered with.
        """
        return self._wrap(key.id, key.workspace_id, self._unwrap(key))

    def unwrap(self, key: WrappedKey) -> AESGCM:
        """Return a data key ready for use.

        Raises:
            KeyError: the ring lacks the master key that wraps it.
            Broken: the row was tampered with.
        """
        return AESGCM(self._unwrap(key))

    def _unwrap(self, key: WrappedKey) -> bytes:
        return envelope.unwrap(
            self._keys[key.master_key_id], key.wrapped, key.id, key.workspace_id, key.master_key_id
        )

    def _wrap(self, key_id: str, workspace_id: str, key: bytes) -> WrappedKey:
        wrapped = envelope.wrap(self._keys[self.first_id], key, key_id, workspace_id, self.first_id)
        return WrappedKey(key_id, workspace_id, self.first_id, wrapped)


def add_master_key(settings: Settings) -> KeyRing:
    """Put a fresh key in front of the key file, at once for every reader, and return the new ring.

    Raises:
        Unavailable: the key file cannot be read or replaced.
    """
    path = settings.key_file
    KeyRing.load(settings)
    try:
        with locked(path.parent):
            keys = [os.urandom(KEY_BYTES), *_from_file(path)]
            _replace(path, keys)
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be replaced") from None
    return KeyRing(keys)


def _from_setting(text: str) -> list[bytes]:
    keys = []
    parts = (word for part in text.split(",") for word in part.split() or [""])
    for number, part in enumerate(parts, start=1):
        key = _decode(part)
        if key is None:
            raise Invalid.field(
                (_SETTING,), f"key {number} of the list is not base64 of {KEY_BYTES} random bytes"
            )
        keys.append(key)
    return keys


def _from_file(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise _unusable(path, f"others may read it; close it with: chmod 600 {path}")
        lines = file.read(_MOST_BYTES).decode("ascii", "replace").splitlines()
    keys = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            key = _decode(line)
            if key is None:
                raise _unusable(path, f"line {number} is not base64 of {KEY_BYTES} bytes")
            keys.append(key)
    if not keys:
        raise _unusable(path, "it holds no key")
    return keys


def _decode(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip().translate(_URLSAFE), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _create(path: Path) -> None:
    with locked(path.parent):
        if not path.exists():
            _replace(path, [os.urandom(KEY_BYTES)])


def _replace(path: Path, keys: Iterable[bytes]) -> None:
    """Write the file whole or not at all: a reader sees the old keys or the new ones, never a part."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(base64.b64encode(key) + b"\n" for key in keys)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, reason: str) -> Unavailable:
    return Unavailable(f"The key file {path} cannot be used: {reason}")


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]
