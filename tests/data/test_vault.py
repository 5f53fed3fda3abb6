"""The vault: what is sealed opens for its own row only, and the keys are guarded."""

import asyncio
import base64
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from trunkline import vault
from trunkline.clock import ManualClock
from trunkline.db import Database
from trunkline.errors import Broken, Conflict, Invalid, TrunklineError, Unavailable
from trunkline.settings import Settings
from trunkline.tables import data_keys, secrets, workspaces
from trunkline.vault import KeyRing, SealedRow, Vault
from trunkline.vault import data_keys as data_key_rows
from trunkline.vault.keyring import add_master_key

ALICE, BOB = "alice-workspace", "bob-workspace"
CANARY = "canary-5f2d"


@pytest.fixture
async def db(database: Database, clock: ManualClock) -> Database:
    rows = [{"id": key, "name": key, "created_at": clock.now()} for key in (ALICE, BOB)]
    await database.write(lambda c: c.execute(workspaces.insert(), rows))
    return database


@pytest.fixture
def safe(db: Database, database_settings: Settings, clock: ManualClock) -> Vault:
    return Vault(db, database_settings, clock)


@pytest.fixture
def keep(safe: Vault, db: Database) -> Callable:
    async def keep(workspace_id: str, owner_id: str, **values: str) -> list[SealedRow]:
        sealed = await safe.prepare(workspace_id, owner_id, values)
        await db.write(lambda c: vault.store(c, sealed))
        return await db.read(lambda c: vault.rows(c, workspace_id, owner_id))

    return keep


def encoded(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


async def test_what_is_kept_opens(safe: Vault, keep) -> None:
    await keep(ALICE, "o", token=CANARY, empty="", long="ü" * 8192)
    assert await safe.open(ALICE, "o") == {"token": CANARY, "empty": "", "long": "ü" * 8192}


async def test_an_owner_without_secrets_has_none(safe: Vault) -> None:
    assert await safe.open(ALICE, "nobody") == {}


async def test_storing_replaces_by_name_and_leaves_the_others(safe: Vault, keep) -> None:
    await keep(ALICE, "o", token="old", other="stays")
    await keep(ALICE, "o", token="new")
    assert await safe.open(ALICE, "o") == {"token": "new", "other": "stays"}


async def test_storing_nothing_makes_no_key(db: Database, keep) -> None:
    assert await keep(ALICE, "o") == []
    assert await db.read(lambda c: c.execute(sa.select(data_keys)).all()) == []


async def test_secrets_are_forgotten_by_name_or_all_at_once(safe: Vault, keep, db: Database) -> None:
    await keep(ALICE, "o", a="1", b="2", c="3")
    await keep(ALICE, "p", a="1")
    await db.write(lambda c: vault.forget(c, ALICE, "o", ["a", "b"]))
    assert await safe.open(ALICE, "o") == {"c": "3"}
    await db.write(lambda c: vault.forget(c, ALICE, "o"))
    assert await safe.open(ALICE, "o") == {}
    assert await safe.open(ALICE, "p") == {"a": "1"}


async def test_names_are_listed_for_many_owners_at_once(keep, db: Database) -> None:
    await keep(ALICE, "o", b="1", a="2")
    await keep(BOB, "q", c="1")
    listed = await db.read(lambda c: vault.names(c, ALICE, ["o", "p", "q"]))
    assert listed == {"o": ["a", "b"], "p": [], "q": []}


async def test_an_integration_and_its_secrets_take_one_read(safe: Vault, keep, db: Database) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    await safe.open(ALICE, "o")
    await db.close()
    assert safe.open_rows(ALICE, "o", rows) == {"token": CANARY}


async def test_rows_do_not_open_in_memory_before_their_key_was_fetched(
    keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    fresh = Vault(db, database_settings, clock)
    with pytest.raises(KeyError):
        fresh.open_rows(ALICE, "o", rows)
    assert await fresh.open_sealed(ALICE, "o", rows) == {"token": CANARY}


async def test_the_plaintext_is_nowhere_in_the_rows(keep, db: Database) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    stored = await db.read(lambda c: [*c.execute(sa.select(secrets)), *c.execute(sa.select(data_keys))])
    assert CANARY not in repr(rows)
    assert CANARY not in repr(stored)
    assert CANARY.encode() not in rows[0].sealed


async def test_sealing_twice_gives_two_ciphertexts(keep) -> None:
    first, second = await keep(ALICE, "o", a=CANARY, b=CANARY)
    assert first.sealed != second.sealed


@pytest.mark.parametrize("place", ["owner", "name", "workspace", "data key"])
async def test_a_ciphertext_moved_elsewhere_does_not_open(safe: Vault, keep, place: str) -> None:
    [row] = await keep(ALICE, "o", token=CANARY)
    [bobs] = await keep(BOB, "o", token="bob")
    workspace = BOB if place == "workspace" else ALICE
    owner = "p" if place == "owner" else "o"
    moved = SealedRow(
        "other" if place == "name" else row.name,
        bobs.data_key_id if place == "data key" else row.data_key_id,
        row.sealed,
    )
    with pytest.raises(Broken, match="does not open") as caught:
        safe.open_rows(workspace, owner, [moved])
    assert CANARY not in str(caught.value)


async def test_a_data_key_of_another_workspace_is_not_fetched(
    keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    with pytest.raises(Broken):
        await Vault(db, database_settings, clock).open_sealed(BOB, "o", rows)


async def test_a_data_key_moved_to_another_workspace_does_not_open(
    keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    await db.write(lambda c: c.execute(sa.update(data_keys).values(workspace_id=BOB)))
    with pytest.raises(Broken, match="does not open"):
        await Vault(db, database_settings, clock).open_sealed(BOB, "o", rows)


@pytest.mark.parametrize("position", [0, 1, 12, 13, -17, -1])
async def test_a_changed_byte_is_noticed(safe: Vault, keep, position: int) -> None:
    [row] = await keep(ALICE, "o", token=CANARY)
    changed = bytearray(row.sealed)
    changed[position] ^= 1
    with pytest.raises(Broken) as caught:
        safe.open_rows(ALICE, "o", [row._replace(sealed=bytes(changed))])
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 12, 13, 28])
async def test_a_cut_ciphertext_is_noticed(safe: Vault, keep, length: int) -> None:
    [row] = await keep(ALICE, "o", token=CANARY)
    with pytest.raises(Broken):
        safe.open_rows(ALICE, "o", [row._replace(sealed=row.sealed[:length])])


async def test_text_that_is_none_is_refused_by_name(safe: Vault) -> None:
    with pytest.raises(Invalid, match=r"secrets\.token"):
        await safe.prepare(ALICE, "o", {"token": "\udfff"})


async def test_a_workspace_that_is_gone_is_a_conflict(safe: Vault) -> None:
    with pytest.raises(Conflict):
        await safe.prepare("nowhere", "o", {"token": CANARY})


async def test_two_makers_of_a_workspaces_first_key_agree(
    db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    makers = [Vault(db, database_settings, clock) for _ in range(8)]
    sealed = await asyncio.gather(*[maker.prepare(ALICE, "o", {"token": CANARY}) for maker in makers])
    assert len({one.rows[0].data_key_id for one in sealed}) == 1
    for one in sealed:
        assert await makers[0].open_sealed(ALICE, "o", one.rows) == {"token": CANARY}


async def test_another_processes_new_data_key_is_used_after_a_second(
    safe: Vault, keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    [before] = await keep(ALICE, "o", token="1")
    fresh = KeyRing.load(database_settings).new_data_key(ALICE)
    clock.advance(0.1)
    await db.write(lambda c: data_key_rows.replace(c, [fresh], clock.now()))
    [stale] = await keep(ALICE, "o", token="2")
    assert stale.data_key_id == before.data_key_id
    clock.advance(1.0)
    [after] = await keep(ALICE, "o", token="3")
    assert after.data_key_id == fresh.id
    assert await safe.open(ALICE, "o") == {"token": "3"}


async def test_a_running_vault_picks_up_a_changed_key_file(
    safe: Vault, keep, db: Database, database_settings: Settings
) -> None:
    await keep(ALICE, "o", token=CANARY)
    ring = add_master_key(database_settings)
    await keep(BOB, "o", token="new")
    wrapped_by = await db.read(
        lambda c: c.execute(sa.select(data_keys.c.workspace_id, data_keys.c.master_key_id)).all()
    )
    assert dict(map(tuple, wrapped_by))[BOB] == ring.first_id
    assert await safe.open(BOB, "o") == {"token": "new"}


async def test_a_key_wrapped_by_an_unknown_master_key_makes_the_file_be_read_again(
    keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    running = Vault(db, database_settings, clock)
    ring = add_master_key(database_settings)
    [old] = await db.read(lambda c: data_key_rows.not_wrapped_by(c, ring.first_id, "", 10))
    await db.write(lambda c: data_key_rows.rewrap(c, [(old, ring.rewrap(old))]))
    assert await running.open_sealed(ALICE, "o", rows) == {"token": CANARY}


async def test_a_missing_master_key_is_named(
    keep, db: Database, database_settings: Settings, clock: ManualClock
) -> None:
    rows = await keep(ALICE, "o", token=CANARY)
    lost = KeyRing.load(database_settings).first_id
    other = Vault(db, replace(database_settings, master_key=encoded(os.urandom(32))), clock)
    with pytest.raises(Unavailable, match=f"{lost}.*TRUNKLINE_MASTER_KEY"):
        await other.check()
    with pytest.raises(Unavailable, match=lost):
        await other.open_sealed(ALICE, "o", rows)


async def test_the_check_passes_with_the_right_keys(safe: Vault, keep) -> None:
    await keep(ALICE, "o", token=CANARY)
    await safe.check()


def test_the_first_key_seals_and_all_open(settings: Settings) -> None:
    old, new = os.urandom(32), os.urandom(32)
    sealed = KeyRing([old]).new_data_key(ALICE)
    both = KeyRing.load(replace(settings, master_key=encoded(new, old)))
    assert both.new_data_key(ALICE).master_key_id == KeyRing([new]).first_id
    both.unwrap(sealed)
    with pytest.raises(KeyError):
        KeyRing([new]).unwrap(sealed)


def test_white_space_and_url_safe_spellings_of_keys_are_read(settings: Settings) -> None:
    key = b"\xfb\xff" * 16
    text = f" {base64.urlsafe_b64encode(key).decode()} , {encoded(os.urandom(32))}\n"
    assert KeyRing.load(replace(settings, master_key=text)).first_id == KeyRing([key]).first_id


@pytest.mark.parametrize(
    "text", ["short", "", encoded(b"k" * 31), encoded(b"k" * 33), "ü" * 44, "k" * 32, "%" * 44]
)
def test_a_master_key_that_is_none_is_refused_without_quoting_it(settings: Settings, text: str) -> None:
    with pytest.raises(Invalid, match="TRUNKLINE_MASTER_KEY: key 2") as caught:
        KeyRing.load(replace(settings, master_key=f"{encoded(os.urandom(32))},{text}"))
    assert not text or text not in str(caught.value)


def test_a_key_file_is_made_once_for_its_owner_alone(settings: Settings) -> None:
    first = KeyRing.load(settings)
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
    assert KeyRing.load(settings).first_id == first.first_id


async def test_many_starts_at_once_make_one_key_file(settings: Settings) -> None:
    rings = await asyncio.gather(*[asyncio.to_thread(KeyRing.load, settings) for _ in range(8)])
    assert len({ring.first_id for ring in rings}) == 1
    assert [file.name for file in settings.data_dir.iterdir()] == ["master.key"]


def _spoil_mode(settings: Settings) -> None:
    settings.key_file.chmod(0o640)


def _spoil_line(settings: Settings) -> None:
    settings.key_file.write_text(settings.key_file.read_text() + "nonsense\n")


def _spoil_all(settings: Settings) -> None:
    settings.key_file.write_text("\n")


def _spoil_kind(settings: Settings) -> None:
    settings.key_file.unlink()
    settings.key_file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_spoil_mode, "chmod 600"),
        (_spoil_line, "line 2 is not base64"),
        (_spoil_all, "holds no key"),
        (_spoil_kind, "cannot be used"),
    ],
)
def test_a_key_file_that_cannot_be_trusted_is_refused(settings: Settings, spoil, text: str) -> None:
    KeyRing.load(settings)
    spoil(settings)
    for use in (KeyRing.load, add_master_key):
        with pytest.raises(TrunklineError, match=text):
            use(settings)


def test_a_data_directory_that_cannot_be_made_is_said(settings: Settings) -> None:
    settings.data_dir.touch()
    with pytest.raises(Unavailable, match="key file"):
        KeyRing.load(settings)


def test_a_key_file_that_cannot_be_replaced_keeps_its_keys(settings: Settings, monkeypatch) -> None:
    before = KeyRing.load(settings)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Unavailable, match="No space left"):
            add_master_key(settings)
    assert KeyRing.load(settings).first_id == before.first_id
    assert [file.name for file in settings.data_dir.iterdir()] == ["master.key"]


def test_a_ring_shows_ids_and_no_keys(settings: Settings) -> None:
    key = os.urandom(32)
    shown = repr(KeyRing([key]))
    assert KeyRing([key]).first_id in shown
    assert encoded(key) not in shown
    assert key.hex() not in shown


async def test_a_full_memory_of_keys_starts_over_and_opens_all_the_same(
    safe: Vault, keep, monkeypatch
) -> None:
    monkeypatch.setattr("trunkline.vault.vault._MOST_KEYS", 1)
    for workspace in (ALICE, BOB, ALICE):
        await keep(workspace, "o", token=workspace)
        assert await safe.open(workspace, "o") == {"token": workspace}
    assert await safe.open(BOB, "o") == {"token": BOB}


async def test_the_check_reads_a_changed_key_file(
    safe: Vault, keep, db: Database, database_settings: Settings
) -> None:
    await keep(ALICE, "o", token=CANARY)
    ring = add_master_key(database_settings)
    [old] = await db.read(lambda c: data_key_rows.not_wrapped_by(c, ring.first_id, "", 10))
    await db.write(lambda c: data_key_rows.rewrap(c, [(old, ring.rewrap(old))]))
    await safe.check()
