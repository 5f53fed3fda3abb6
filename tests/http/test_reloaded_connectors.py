"""Connector files that change or vanish while integrations made from them exist."""

from dataclasses import replace
from pathlib import Path

import pytest

from http_asgi import Client
from trunkline.catalog.registry import Registry
from trunkline.settings import Settings

FILE = """
name: Tickets
base_url: "{config.url}"
config:
  url: {label: Address}
auth:
  key: {type: api_key_header, header_name: X-Key}
endpoints:
  list_tickets: {description: Tickets., path: /tickets}
"""


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "connectors"
    folder.mkdir()
    (folder / "tickets.yaml").write_text(FILE)
    return replace(database_settings, connectors_dir=folder)


@pytest.fixture
async def tickets(alice: Client) -> str:
    """The path of an integration of the connector, with an endpoint of its own."""
    made = await alice.integration(
        name="tickets",
        connector="tickets",
        base_url="",
        config={"url": "https://tickets.example"},
        credentials={"method": "key", "values": {"api_key": "key-1234"}},
        endpoints=[{"name": "own", "description": "Own.", "method": "GET", "path": "/own"}],
    )
    return f"/v1/{{ws}}/integrations/{made['id']}"


def _reload(alice: Client, folder: Path) -> None:
    alice.hub.app.catalog = Registry(folder)
    alice.hub.app.integrations.clear()


async def test_without_its_file_nothing_is_called_with_less_than_it_had(
    alice: Client, tickets: str, tmp_path: Path
):
    (tmp_path / "connectors" / "tickets.yaml").unlink()
    _reload(alice, tmp_path / "connectors")
    tested = await alice.post(f"{tickets}/endpoints/own/test", {})
    assert (tested.status, "not in the catalogue" in tested.json["error"]) == (200, True)
    assert (await alice.post(f"{tickets}/endpoints/own/call", {})).status == 409
    assert (await alice.post(f"{tickets}/test-connection")).json["status"] == "misconfigured"
    assert (await alice.get(tickets)).status == 200


async def test_a_way_in_that_is_gone_is_told(alice: Client, tickets: str, tmp_path: Path):
    (tmp_path / "connectors" / "tickets.yaml").write_text(FILE.replace("  key:", "  other:"))
    _reload(alice, tmp_path / "connectors")
    tested = await alice.post(f"{tickets}/endpoints/own/test", {})
    assert "does not fit its connector" in tested.json["error"]
