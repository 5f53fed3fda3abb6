"""The vault of one process: seals and opens secrets with data keys it has unwrapped and remembers.

It keeps no plaintext. Rows are kept and fetched by `stored`, so that a service reads its own row and the
sealed ones in one go and opens them afterwards.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trunkline.clock import Clock
from trunkline.db import Database
from trunkline.errors import Broken, Invalid, Unavailable
from trunkline.settings import Settings
from trunkline.vault import data_keys, envelope
from trunkline.vault.data_keys import WrappedKey
from trunkline.vault.keyring import KeyRing
from trunkline.vault.stored import SealedRow, SealedSecrets, rows

STALE_SECONDS = 1.0
"""How long a process may go on sealing with a data key after another process retired it."""

_MOST_KEYS = 20_000  # about 1 KB each; past this they are unwrapped anew


class Vault:
    """Seals with the workspace's data key in use; opens with any. Safe for many tasks of one loop.

    Raises (when made):
        Invalid, Unavailable: the master keys cannot be had; see `KeyRing.load`.
    """

    def __init__(self, db: Database, settings: Settings, clock: Clock) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock
        self._ring = KeyRing.load(settings)
        self._keys: dict[str, AESGCM] = {}
        self._in_use: dict[str, tuple[float, str]] = {}  # workspace: until when, data key

    async def check(self) -> None:
        """Make sure that every data key can be unwrapped: a wrong master key shows at the start.

        Raises:
            Unavailable: naming a master key that is missing.
        """
        wanted = await self._db.read(data_keys.master_key_ids)
        if any(key_id not in self._ring for key_id in wanted):
            self._ring = await asyncio.to_thread(KeyRing.load, self._settings)
        for key_id in wanted:
            if key_id not in self._ring:
                raise self._missing(key_id)

    async def prepare(self, workspace_id: str, owner_id: str, values: Mapping[str, str]) -> SealedSecrets:
        """Seal secrets of one owner; `store` keeps them, inside the caller's transaction.

        Raises:
            Invalid: a value is no text (it holds lone surrogates).
            Conflict: there is no such workspace.
        """
        if not values:
            return SealedSecrets(workspace_id, owner_id, (), self._clock.now())
        key_id = await self._key_in_use(workspace_id)
        key = self._keys[key_id]
        sealed = []
        for name, value in values.items():
            try:
                text = envelope.seal(key, value, workspace_id, owner_id, name, key_id)
            except UnicodeEncodeError:
                raise Invalid.field(("secrets", name), "holds characters that are no text") from None
            sealed.append(SealedRow(name, key_id, text))
        return SealedSecrets(workspace_id, owner_id, tuple(sealed), self._clock.now())

    async def open(self, workspace_id: str, owner_id: str) -> dict[str, str]:
        """Fetch and open all secrets of one owner, by name."""
        found = await self._db.read(lambda conn: rows(conn, workspace_id, owner_id))
        return await self.open_sealed(workspace_id, owner_id, found)

    async def open_sealed(
        self, workspace_id: str, owner_id: str, sealed: Sequence[SealedRow]
    ) -> dict[str, str]:
        """Open rows in hand, reading the database only for data keys this process has not met.

        Raises:
            Broken: a row was changed, or moved from another owner.
            Unavailable: a master key is missing.
        """
        while missing := {row.data_key_id for row in sealed if row.data_key_id not in self._keys}:
            await self._fetch(workspace_id, missing)
        return self.open_rows(workspace_id, owner_id, sealed)

    def open_rows(self, workspace_id: str, owner_id: str, sealed: Sequence[SealedRow]) -> dict[str, str]:
        """Open rows in hand, in memory alone.

        Raises:
            KeyError: a data key is not in memory yet; `open_sealed` fetches it.
            Broken: a row was changed, or moved from another owner.
        """
        keys, open_one = self._keys, envelope.open_sealed
        return {
            name: open_one(keys[key_id], text, workspace_id, owner_id, name, key_id)
            for name, key_id, text in sealed
        }

    async def _key_in_use(self, workspace_id: str) -> str:
        now = self._clock.monotonic()
        until, key_id = self._in_use.get(workspace_id, (0.0, ""))
        if now < until and key_id in self._keys:
            return key_id
        found = await self._db.read(lambda conn: data_keys.in_use(conn, workspace_id))
        if found is None:
            found = await self._first_key(workspace_id)
        if found.id not in self._keys:
            await self._take_in(workspace_id, [found])
        if len(self._in_use) >= _MOST_KEYS:
            self._in_use.clear()
        self._in_use[workspace_id] = (now + STALE_SECONDS, found.id)
        return found.id

    async def _first_key(self, workspace_id: str) -> WrappedKey:
        # a rotation may have changed the first master key, and nothing wraps by the old one after it
        self._ring = await asyncio.to_thread(KeyRing.load, self._settings)
        key, now = self._ring.new_data_key(workspace_id), self._clock.now()
        return await self._db.write(lambda conn: data_keys.add_first(conn, key, now))

    async def _fetch(self, workspace_id: str, ids: Collection[str]) -> None:
        found = await self._db.read(lambda conn: data_keys.find(conn, workspace_id, ids))
        if len(found) < len(ids):
            raise Broken("A stored secret names a data key that its workspace does not have.")
        await self._take_in(workspace_id, found)

    async def _take_in(self, workspace_id: str, found: Sequence[WrappedKey]) -> None:
        if any(key.master_key_id not in self._ring for key in found):
            self._ring = await asyncio.to_thread(KeyRing.load, self._settings)
            # read again: the rows in hand may be older than the ring that was just loaded
            ids = [key.id for key in found]
            found = await self._db.read(lambda conn: data_keys.find(conn, workspace_id, ids))
        if len(self._keys) >= _MOST_KEYS:
            self._keys = {}
        for key in found:
            if key.master_key_id not in self._ring:
                raise self._missing(key.master_key_id)
            self._keys[key.id] = self._ring.unwrap(key)

    def _missing(self, key_id: str) -> Unavailable:
        place = "TRUNKLINE_MASTER_KEY" if self._settings.master_key else str(self._settings.key_file)
        return Unavailable(f"Secrets are sealed by master key {key_id}, which is not among those of {place}.")
