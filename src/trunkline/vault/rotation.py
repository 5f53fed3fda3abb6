"""Change every key while the hub runs: a new master key, new data keys, every secret sealed anew.

It may run in another process. Each step leaves every secret open to a process that knows only what the
step before left, so calls never notice: the key file changes before a data key is wrapped by its new
key, a data key is stored before a secret is sealed by it, and deleted only a rotation after its retirement.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from trunkline.clock import Clock
from trunkline.db import Database
from trunkline.errors import Broken
from trunkline.settings import Settings
from trunkline.tables import data_keys as data_key_rows
from trunkline.tables import secrets
from trunkline.vault import data_keys
from trunkline.vault.data_keys import WrappedKey
from trunkline.vault.keyring import KeyRing, add_master_key
from trunkline.vault.stored import SealedRow
from trunkline.vault.vault import STALE_SECONDS, Vault

Progress = Callable[[int, int], None]

_BATCH = 200  # rows a transaction: calls wait behind one only briefly
_SETTLE_SECONDS = STALE_SECONDS + 0.5  # until nobody seals by a retired key any more, and what was is stored
_PASSES = 5
_GRACE = timedelta(minutes=1)  # sealed rows that a process still holds in hand
_IDENTITY = (secrets.c.workspace_id, secrets.c.owner_id, secrets.c.name)


@dataclass(slots=True)
class RotationReport:
    """What a rotation did: the first master key's id, and counts of rows."""

    master_key_id: str
    new_master_key: bool
    data_keys_rewrapped: int = 0
    data_keys_made: int = 0
    data_keys_deleted: int = 0
    secrets_resealed: int = 0
    secrets_unreadable: int = 0


@dataclass(frozen=True, slots=True)
class _Secret:
    workspace_id: str
    owner_id: str
    row: SealedRow = field(repr=False)

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.workspace_id, self.owner_id, self.row.name


async def rotate(
    db: Database, settings: Settings, clock: Clock, *, new_master: bool, progress: Progress
) -> RotationReport:
    """Seal everything anew, online.

    Args:
        db: the database, which the hub may be using.
        settings: where the master keys are.
        clock: tells when keys are retired, and waits until stale processes have caught up.
        new_master: first put a fresh master key into the key file. Keys given by setting are the
            operator's: then the first of them is taken as it is.
        progress: told (secrets done, secrets in all) after each batch.

    Raises:
        Invalid: the setting holds something that is no key.
        Unavailable: a master key is missing, or the key file cannot be replaced; nothing was changed.
    """
    fresh = new_master and not settings.master_key
    await Vault(db, settings, clock).check()
    ring = await asyncio.to_thread(add_master_key if fresh else KeyRing.load, settings)
    run = _Rotation(db, Vault(db, settings, clock), clock, ring, progress)
    run.report.new_master_key = fresh
    await run.all_steps()
    return run.report


class _Rotation:
    def __init__(self, db: Database, vault: Vault, clock: Clock, ring: KeyRing, progress: Progress) -> None:
        self._db = db
        self._vault = vault
        self._clock = clock
        self._ring = ring
        self._progress = progress
        self._total = 0
        self._unreadable: set[tuple[str, str, str]] = set()
        self.report = RotationReport(ring.first_id, new_master_key=False)

    async def all_steps(self) -> None:
        started = self._clock.now()
        await self._rewrap_data_keys()
        await self._replace_data_keys()
        self._total = await self._db.read(_count_stale)
        await self._reseal()
        for _ in range(_PASSES):
            await self._clock.sleep(_SETTLE_SECONDS)
            await self._rewrap_data_keys()
            await self._reseal()
            if await self._db.read(_count_stale) <= len(self._unreadable):
                break
        self.report.secrets_unreadable = len(self._unreadable)
        self.report.data_keys_deleted = await self._db.write(
            partial(data_keys.delete_unused, retired_before=started - _GRACE)
        )

    async def _rewrap_data_keys(self) -> None:
        after = ""
        while found := await self._db.read(
            partial(data_keys.not_wrapped_by, master_key_id=self._ring.first_id, after=after, limit=_BATCH)
        ):
            pairs = [pair for key in found if (pair := self._rewrapped(key))]
            done = await self._db.write(partial(data_keys.rewrap, pairs=pairs))
            self.report.data_keys_rewrapped += done
            after = found[-1].id

    def _rewrapped(self, key: WrappedKey) -> tuple[WrappedKey, WrappedKey] | None:
        if key.master_key_id not in self._ring:  # of a rotation that began after this one: leave it
            return None
        try:
            return key, self._ring.rewrap(key)
        except Broken:  # it was tampered with; what it seals is counted as unreadable
            return None

    async def _replace_data_keys(self) -> None:
        after = ""
        while owners := await self._db.read(
            partial(data_keys.workspaces_with_keys, after=after, limit=_BATCH)
        ):
            keys = [self._ring.new_data_key(owner) for owner in owners]
            now = self._clock.now()
            await self._db.write(partial(data_keys.replace, keys=keys, now=now))
            self.report.data_keys_made += len(keys)
            after = owners[-1]

    async def _reseal(self) -> None:
        after = ("", "", "")
        while found := await self._db.read(partial(_stale, after=after)):
            pairs = [pair for secret in found if (pair := await self._anew(secret))]
            self.report.secrets_resealed += await self._db.write(partial(_exchange, pairs=pairs))
            after = found[-1].identity
            self._total = max(self._total, self.report.secrets_resealed)
            self._progress(self.report.secrets_resealed, self._total)

    async def _anew(self, secret: _Secret) -> tuple[_Secret, SealedRow] | None:
        try:
            opened = await self._vault.open_sealed(secret.workspace_id, secret.owner_id, [secret.row])
        except Broken:  # it was tampered with; it stays as it is, and so does its data key
            self._unreadable.add(secret.identity)
            return None
        sealed = await self._vault.prepare(secret.workspace_id, secret.owner_id, opened)
        return secret, sealed.rows[0]


def _of_retired_keys(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(*columns).join(data_key_rows).where(data_key_rows.c.retired_at.is_not(None))


def _count_stale(conn: sa.Connection) -> int:
    count: int = conn.execute(_of_retired_keys(sa.func.count(secrets.c.name))).scalar_one()
    return count


def _stale(conn: sa.Connection, after: tuple[str, str, str]) -> list[_Secret]:
    found = conn.execute(
        _of_retired_keys(*_IDENTITY, secrets.c.data_key_id, secrets.c.sealed)
        .where(sa.tuple_(*_IDENTITY) > after)
        .order_by(*_IDENTITY)
        .limit(_BATCH)
    )
    return [_Secret(row[0], row[1], SealedRow(*row[2:])) for row in found]


def _exchange(conn: sa.Connection, pairs: Sequence[tuple[_Secret, SealedRow]]) -> int:
    """Replace each secret that is still as it was read: an update made meanwhile wins."""
    done = 0
    for old, new in pairs:
        values = (*old.identity, old.row.data_key_id, old.row.sealed)
        columns = (*_IDENTITY, secrets.c.data_key_id, secrets.c.sealed)
        unchanged = [column == value for column, value in zip(columns, values, strict=True)]
        changed = conn.execute(
            sa.update(secrets).where(*unchanged).values(data_key_id=new.data_key_id, sealed=new.sealed)
        )
        done += changed.rowcount
    return done
