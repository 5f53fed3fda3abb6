"""Rotation: every key changes while the hub runs, and nothing ever fails to open."""

import asyncio
import base64
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa

from trunkline import vault
from trunkline.clock import ManualClock, SystemClock
from trunkline.db import Database
from trunkline.errors import Unavailable
from trunkline.ids import new_id
from trunkline.settings import Settings, environment_for_child
from trunkline.tables import data_keys, secrets, workspaces
from trunkline.vault import KeyRing, RotationReport, SealedSecrets, Vault

_ROTATE = """
import asyncio
from trunkline.clock import SystemClock
from trunkline.db import open_database
from trunkline.settings import Settings
from trunkline.vault import rotate
async def main():
    settings = Settings.load()
    db = await open_database(settings)
    for _ in range(3):
        report = await rotate(db, settings, SystemClock(), new_master=True, progress=lambda done, total: None)
        assert report.secrets_unreadable == 0
        print(report.secrets_resealed, flush=True)
    await db.close()
asyncio.run(main())
"""


class Hub:
    """A workspace's secrets, and a rotation of them within this process."""

    def __init__(self, db: Database, settings: Settings, clock: ManualClock | SystemClock) -> None:
        self.db, self.settings, self.clock = db, settings, clock
        self.vault = Vault(db, settings, clock)

    async def add_workspaces(self, *ids: str) -> None:
        rows = [{"id": key, "name": key, "created_at": self.clock.now()} for key in ids]
        await self.db.write(lambda c: c.execute(workspaces.insert(), rows))

    async def keep(self, workspace_id: str, owner_id: str, **values: str) -> None:
        await self.store(await self.vault.prepare(workspace_id, owner_id, values))

    async def store(self, sealed: SealedSecrets) -> None:
        await self.db.write(lambda c: vault.store(c, sealed))

    async def rotate(self, *, new_master: bool = True, progress=lambda done, total: None) -> RotationReport:
        return await vault.rotate(
            self.db, self.settings, self.clock, new_master=new_master, progress=progress
        )

    async def open_afresh(self, workspace_id: str, owner_id: str) -> dict[str, str]:
        return await Vault(self.db, self.settings, self.clock).open(workspace_id, owner_id)

    async def rows(self, table: sa.Table) -> list[sa.Row]:
        return await self.db.read(lambda c: list(c.execute(sa.select(table)).all()))

    async def stale_secrets(self) -> list[str]:
        retired = {row.id for row in await self.rows(data_keys) if row.retired_at}
        return [row.name for row in await self.rows(secrets) if row.data_key_id in retired]


@pytest.fixture
async def hub(database: Database, database_settings: Settings, clock: ManualClock) -> Hub:
    hub = Hub(database, database_settings, clock)
    await hub.add_workspaces("w", "x")
    return hub


def forget_old_master_keys(settings: Settings) -> None:
    settings.key_file.write_text(settings.key_file.read_text().splitlines()[0] + "\n")


async def test_every_key_and_every_ciphertext_changes(hub: Hub) -> None:
    await hub.keep("w", "o", a="1", b="2")
    await hub.keep("x", "o", a="3")
    before = {row.sealed for row in await hub.rows(secrets)}
    old = KeyRing.load(hub.settings).first_id
    report = await hub.rotate()
    assert report == RotationReport(
        KeyRing.load(hub.settings).first_id,
        new_master_key=True,
        data_keys_rewrapped=2,
        data_keys_made=2,
        secrets_resealed=3,
    )
    assert report.master_key_id != old
    assert not before & {row.sealed for row in await hub.rows(secrets)}
    assert await hub.stale_secrets() == []


async def test_everything_opens_without_the_old_master_key(hub: Hub) -> None:
    await hub.keep("w", "o", a="1")
    await hub.rotate()
    forget_old_master_keys(hub.settings)
    assert await hub.vault.open("w", "o") == {"a": "1"}
    assert await hub.open_afresh("w", "o") == {"a": "1"}
    await Vault(hub.db, hub.settings, hub.clock).check()


async def test_the_new_key_file_stays_private(hub: Hub) -> None:
    await hub.rotate()
    assert hub.settings.key_file.stat().st_mode & 0o777 == 0o600
    assert len(hub.settings.key_file.read_text().splitlines()) == 2


async def test_without_a_new_master_key_the_data_keys_still_change(hub: Hub) -> None:
    await hub.keep("w", "o", a="1")
    before = hub.settings.key_file.read_bytes()
    report = await hub.rotate(new_master=False)
    assert (report.new_master_key, report.data_keys_rewrapped, report.secrets_resealed) == (False, 0, 1)
    assert hub.settings.key_file.read_bytes() == before


async def test_the_first_key_of_the_setting_takes_over(hub: Hub) -> None:
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    first = Hub(hub.db, replace(hub.settings, master_key=old), hub.clock)
    await first.keep("w", "o", a="1")
    report = await Hub(hub.db, replace(hub.settings, master_key=f"{new},{old}"), hub.clock).rotate()
    assert not report.new_master_key
    last = Hub(hub.db, replace(hub.settings, master_key=new), hub.clock)
    assert await last.vault.open("w", "o") == {"a": "1"}


async def test_a_missing_master_key_stops_before_anything_changes(hub: Hub) -> None:
    await hub.keep("w", "o", a="1")
    before = await hub.rows(data_keys)
    other = replace(hub.settings, master_key=base64.b64encode(os.urandom(32)).decode())
    hub.settings, own = other, hub.settings
    with pytest.raises(Unavailable, match="TRUNKLINE_MASTER_KEY"):
        await hub.rotate()
    assert await hub.rows(data_keys) == before
    hub.settings = own
    assert await hub.vault.open("w", "o") == {"a": "1"}


async def test_an_empty_vault_rotates(hub: Hub) -> None:
    assert (await hub.rotate()).secrets_resealed == 0


async def test_progress_reaches_the_total(hub: Hub) -> None:
    for number in range(3):
        await hub.keep("w", f"o{number}", **{f"n{index}": "v" for index in range(150)})
    told: list[tuple[int, int]] = []
    report = await hub.rotate(progress=lambda done, total: told.append((done, total)))
    assert told == [(200, 450), (400, 450), (450, 450)]
    assert report.secrets_resealed == 450
    assert len(await hub.open_afresh("w", "o2")) == 150


async def test_an_update_made_meanwhile_wins(hub: Hub, monkeypatch) -> None:
    await hub.keep("w", "o", a="old", b="stays")
    newer = await hub.vault.prepare("w", "o", {"a": "new"})
    prepare = Vault.prepare

    async def store_first(self, *args):
        monkeypatch.setattr(Vault, "prepare", prepare)
        await hub.store(newer)
        return await prepare(self, *args)

    monkeypatch.setattr(Vault, "prepare", store_first)
    await hub.rotate()
    assert await hub.open_afresh("w", "o") == {"a": "new", "b": "stays"}
    assert await hub.stale_secrets() == []


async def test_what_a_stale_process_sealed_meanwhile_is_caught_up_with(hub: Hub, monkeypatch) -> None:
    await hub.keep("w", "o", a="1")
    stale = await hub.vault.prepare("w", "late", {"b": "2"})
    sleep = hub.clock.sleep

    async def store_late(seconds: float) -> None:
        await hub.store(stale)
        await sleep(seconds)

    monkeypatch.setattr(hub.clock, "sleep", store_late)
    report = await hub.rotate()
    assert report.secrets_resealed >= 2
    assert await hub.stale_secrets() == []
    assert hub.clock.slept[0] > 1.0
    forget_old_master_keys(hub.settings)
    assert await hub.open_afresh("w", "late") == {"b": "2"}


async def test_a_data_key_made_by_a_stale_process_is_caught_up_with(hub: Hub, monkeypatch) -> None:
    stale = KeyRing.load(hub.settings).new_data_key("x")
    sleep = hub.clock.sleep

    async def store_late(seconds: float) -> None:
        await hub.db.write(lambda c: vault.data_keys.add_first(c, stale, hub.clock.now()))
        await sleep(seconds)

    monkeypatch.setattr(hub.clock, "sleep", store_late)
    await hub.rotate()
    forget_old_master_keys(hub.settings)
    await hub.keep("x", "o", a="1")
    assert await hub.open_afresh("x", "o") == {"a": "1"}


async def test_a_spoilt_secret_stops_nothing_and_is_counted(hub: Hub) -> None:
    await hub.keep("w", "o", a="1", b="2")
    spoil = sa.update(secrets).where(secrets.c.name == "a").values(sealed=b"\x01" + b"spoilt" * 10)
    await hub.db.write(lambda c: c.execute(spoil))
    report = await hub.rotate()
    assert (report.secrets_resealed, report.secrets_unreadable) == (1, 1)
    assert await hub.stale_secrets() == ["a"]


async def test_a_spoilt_data_key_stops_nothing(hub: Hub) -> None:
    await hub.keep("w", "o", a="1")
    await hub.keep("x", "o", a="1")
    spoil = (
        sa.update(data_keys).where(data_keys.c.workspace_id == "w").values(wrapped=b"\x01" + b"spoilt" * 10)
    )
    await hub.db.write(lambda c: c.execute(spoil))
    report = await hub.rotate()
    assert (report.secrets_resealed, report.secrets_unreadable) == (1, 1)


async def test_unused_data_keys_go_at_the_next_rotation(hub: Hub) -> None:
    await hub.keep("w", "o", a="1")
    assert (await hub.rotate()).data_keys_deleted == 0
    assert len(await hub.rows(data_keys)) == 2
    hub.clock.advance(3600)
    assert (await hub.rotate()).data_keys_deleted == 1
    assert [row.retired_at is None for row in await hub.rows(data_keys)].count(True) == 1
    assert await hub.open_afresh("w", "o") == {"a": "1"}


async def test_two_rotations_at_once_lose_nothing(hub: Hub) -> None:
    for number in range(20):
        await hub.keep("w", f"o{number}", a=str(number))
    await asyncio.gather(hub.rotate(), hub.rotate())
    for number in range(20):
        assert await hub.open_afresh("w", f"o{number}") == {"a": str(number)}


async def use_until(done: asyncio.Event, hub: Hub, owner: str) -> int:
    """Store and open an owner's secrets over and over, as calls and changes of integrations do."""
    rounds = 0
    while not done.is_set():
        value = new_id()
        await hub.keep("w", owner, token=value, other="stays")
        opened = {"token": value, "other": "stays"}
        assert await hub.vault.open("w", owner) == opened
        assert await hub.open_afresh("w", owner) == opened
        assert await hub.vault.open("x", "still") == {"token": "untouched"}
        rounds += 1
    return rounds


@pytest.mark.slow
async def test_under_load_another_process_rotates_and_nothing_fails_to_open(
    database: Database, database_settings: Settings
) -> None:
    hub = Hub(database, database_settings, SystemClock())
    await hub.add_workspaces("w", "x")
    await hub.keep("x", "still", token="untouched")
    done = asyncio.Event()
    users = [asyncio.ensure_future(use_until(done, hub, f"o{number}")) for number in range(4)]
    values = {"data_dir": str(database_settings.data_dir), "database_url": database_settings.database_url}
    rotation = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ROTATE, env=environment_for_child(**values), stdout=subprocess.PIPE
    )
    output, _ = await rotation.communicate()
    done.set()
    rounds = await asyncio.gather(*users)
    assert rotation.returncode == 0
    assert len(output.split()) == 3
    assert min(rounds) > 1
    assert await hub.stale_secrets() == []
    forget_old_master_keys(database_settings)
    for number in range(4):
        assert (await hub.open_afresh("w", f"o{number}"))["other"] == "stays"
    assert await hub.open_afresh("x", "still") == {"token": "untouched"}
