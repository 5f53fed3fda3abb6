"""`trunkline doctor`: what it finds in a folder, and that it changes nothing."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cli_fake_hub import FakeHub, Run

from trunkline import __version__
from trunkline.db import open_database
from trunkline.settings import Settings
from trunkline.vault import KeyRing


def _levels(run: Run, *words: str, **options: Any) -> tuple[int, dict[str, str]]:
    result = run("doctor", "--json", *words, **options)
    findings = json.loads(result.stdout)["findings"]
    return result.exit_code, {item["check"]: item["level"] for item in findings}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as the first start leaves it."""
    settings = Settings(data_dir=tmp_path / "trunkline-data")
    settings.data_dir.mkdir(mode=0o700)

    async def make() -> None:
        await (await open_database(settings)).close()

    asyncio.run(make())
    KeyRing.load(settings)
    return settings.data_dir


@pytest.fixture
def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def test_an_empty_folder_is_no_failure_and_stays_empty(
    trunkline: Run, tmp_path: Path, free_port: str
) -> None:
    code, levels = _levels(trunkline, env={"TRUNKLINE_PORT": free_port})
    assert (code, levels["data dir"], levels["master key"], levels["database"]) == (0, "warn", "warn", "warn")
    assert list(tmp_path.iterdir()) == []


def test_a_started_folder_is_well(trunkline: Run, data: Path, free_port: str) -> None:
    code, levels = _levels(trunkline, env={"TRUNKLINE_PORT": free_port})
    well = ("data dir", "master key", "database", "egress", "connectors", "port", "clock", "python")
    assert (code, {levels[name] for name in well}) == (0, {"ok"})


def test_an_open_key_file_fails_with_the_way_out(trunkline: Run, data: Path, free_port: str) -> None:
    (data / "master.key").chmod(0o644)
    result = trunkline("doctor", env={"TRUNKLINE_PORT": free_port})
    assert (result.exit_code, "chmod 600" in result.stdout) == (1, True)


def test_an_open_folder_is_a_warning(trunkline: Run, data: Path, free_port: str) -> None:
    data.chmod(0o755)
    code, levels = _levels(trunkline, env={"TRUNKLINE_PORT": free_port})
    assert (code, levels["data dir"]) == (0, "warn")


def test_a_database_that_is_none_fails(trunkline: Run, data: Path) -> None:
    (data / "trunkline.db").write_bytes(b"this is no database at all, it is text" * 100)
    code, levels = _levels(trunkline)
    assert (code, levels["database"]) == (1, "fail")


def test_a_taken_port_fails(trunkline: Run, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, levels = _levels(trunkline, env={"TRUNKLINE_PORT": str(taken.getsockname()[1])})
    assert (code, levels["port"]) == (1, "fail")


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("TRUNKLINE_PORT", "eighty", "settings"),
        ("TRUNKLINE_EGRESS_ALLOW", "not a host!", "egress"),
        ("TRUNKLINE_MASTER_KEY", "short", "master key"),
        ("TRUNKLINE_DATABASE_URL", "mysql://x", "database"),
    ],
)
def test_a_bad_setting_fails_where_it_is_used(
    trunkline: Run, data: Path, variable: str, value: str, check: str
) -> None:
    code, levels = _levels(trunkline, env={variable: value})
    assert (code, levels[check]) == (1, "fail")


def test_a_bad_connector_file_fails(trunkline: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "bad.yaml").write_text("nme: x\n")
    result = trunkline("doctor", env={"TRUNKLINE_CONNECTORS_DIR": str(folder)})
    assert (result.exit_code, "bad.yaml:1" in result.stdout) == (1, True)


def test_a_running_hub_is_asked(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/readyz", {"status": "ready"})
    fake.answer("GET", "/openapi.json", {"info": {"version": __version__}})
    code, levels = _levels(with_hub)
    assert (code, levels["hub"], levels["version"], levels["API key"]) == (0, "ok", "ok", "ok")


def test_a_hub_of_another_version_is_a_warning(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/readyz", {"status": "ready"})
    fake.answer("GET", "/openapi.json", {"info": {"version": "99.0"}})
    assert _levels(with_hub)[1]["version"] == "warn"


def test_a_hub_that_is_not_ready_fails(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/readyz", {"status": "stopping"}, 503)
    fake.answer("GET", "/openapi.json", {"info": {"version": __version__}})
    code, levels = _levels(with_hub)
    assert (code, levels["hub"]) == (1, "fail")
