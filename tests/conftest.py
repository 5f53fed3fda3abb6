"""Fixtures for every test: a clock, settings, a database of either kind, and no way out of this machine."""

import asyncio
import errno
import ipaddress
import os
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from trunkline.clock import ManualClock
from trunkline.db import Database, open_database
from trunkline.settings import Settings
from trunkline.tables import metadata

_ADMIN_VARIABLE = "TRUNKLINE_TEST_POSTGRES"

for _name in [name for name in os.environ if name.startswith("TRUNKLINE_") and name != _ADMIN_VARIABLE]:
    del os.environ[_name]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh data directory, on SQLite."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings whose database is empty and migrated; a test that uses it runs on SQLite and on PostgreSQL."""
    prepare: Callable[[Settings], Settings] = request.getfixturevalue(f"fresh_{request.param}")
    return prepare(settings)


@pytest.fixture
async def database(database_settings: Settings) -> AsyncIterator[Database]:
    """An open, empty, migrated database, on SQLite and on PostgreSQL."""
    opened = await open_database(database_settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Settings], Settings]:
    """Give settings a copy of a file that was migrated once."""
    template = Settings(data_dir=tmp_path_factory.mktemp("template"))
    _migrate(template)

    def prepare(settings: Settings) -> Settings:
        settings.data_dir.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(template.sqlite_path, settings.sqlite_path)
        return settings

    return prepare


@pytest.fixture(scope="session")
def fresh_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Settings], Settings]]:
    """Give settings this worker's own PostgreSQL database, migrated once and emptied every time."""
    with _scratch_database() as url:
        _migrate(Settings(data_dir=tmp_path_factory.mktemp("postgresql"), database_url=url))
        with psycopg.connect(url, autocommit=True) as connection:
            yield lambda settings: _emptied(connection, replace(settings, database_url=url))


@pytest.fixture(params=["sqlite", "postgresql"])
def blank_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings whose database was never migrated, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield settings
        return
    with _scratch_database() as url:
        yield replace(settings, database_url=url)


@pytest.fixture(autouse=True)
def no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection and name look-up beyond this machine fail, as if the cable were out."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address):
        _stay_here(address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address):
        _stay_here(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host, *args, **kwargs):
        if host and not _is_here(host, addresses=True):
            raise socket.gaierror(socket.EAI_NONAME, f"tests resolve no outside name: {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _stay_here(address) -> None:
    if isinstance(address, tuple) and not _is_here(address[0]):
        raise OSError(errno.ENETUNREACH, f"tests reach nothing outside this machine: {address[0]}")


def _is_here(host: str | bytes, *, addresses: bool = False) -> bool:
    text = host.decode() if isinstance(host, bytes) else host
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text == "localhost" or text.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return addresses or (mapped or address).is_loopback


def _migrate(settings: Settings) -> None:
    async def run() -> None:
        await (await open_database(settings)).close()

    asyncio.run(run())


@contextmanager
def _scratch_database() -> Iterator[str]:
    admin = os.environ.get(_ADMIN_VARIABLE)
    if not admin:
        pytest.skip(f"no PostgreSQL: set {_ADMIN_VARIABLE} to an administrator's address")
    name = f"trunkline_test_{uuid.uuid4().hex[:12]}"
    _administer(admin, "CREATE DATABASE {}", name)
    try:
        _administer(admin, "ALTER DATABASE {} SET synchronous_commit = off", name)  # tests never lose power
        yield sa.make_url(admin).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(admin, "DROP DATABASE {} WITH (FORCE)", name)


def _administer(admin: str, statement: str, name: str) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _emptied(connection: psycopg.Connection, settings: Settings) -> Settings:
    tables = sql.SQL(", ").join(sql.Identifier(table.name) for table in metadata.sorted_tables)
    connection.execute(sql.SQL("TRUNCATE record_words, {}").format(tables))
    return settings
