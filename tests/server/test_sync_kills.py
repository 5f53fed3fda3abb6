"""A hub killed while it syncs, again and again: the run goes on where it was, and its version is whole."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from conftest_server import Process

COUNT, PAGE = 20_000, 500
CONNECTOR = """\
name: Shop
base_url: "{config.url}"
config: {url: {label: Address}}
auth: {none: {type: none}}
endpoints:
  list_orders: {description: Orders., path: /orders, records: items}
streams:
  orders:
    endpoint: list_orders
    key: id
    cursor: {field: at, start: "0", query: {since: "{cursor}"}}
    paging: {type: keyset, limit: {param: limit, size: 500}, offset_param: offset}
"""


class Shop(ThreadingHTTPServer):
    """Orders by the time they changed, three to a second; `asked` rings at each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.orders = [{"id": f"o{n:06}", "at": f"{n // 3:08}", "text": "x" * 200} for n in range(COUNT)]
        self.asked = threading.Semaphore(0)
        self.starts = 0


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        first = max(0, int(query["since"]) * 3) + int(query.get("offset", 0))
        self.server.starts += query["since"] == "0" and first == 0
        body = json.dumps({"items": self.server.orders[first : first + PAGE]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.asked.release()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.slow
def test_a_sync_goes_on_after_every_kill(start_hub: Callable[..., Process], shop: Shop, tmp_path: Path):
    connectors = tmp_path / "connectors"
    connectors.mkdir()
    (connectors / "shop.yaml").write_text(CONNECTOR)
    settings = {"TRUNKLINE_CONNECTORS_DIR": str(connectors), "TRUNKLINE_EGRESS_ALLOW": "127.0.0.1"}
    hub = start_hub(**settings)
    path = _dataset(hub, shop)
    run_id = hub.request("POST", f"{path}/runs", {})[1]["id"]
    for pages in (3, 9):
        for _ in range(pages):
            assert shop.asked.acquire(timeout=30)
        hub.kill()
        while shop.asked.acquire(blocking=False):
            pass
        hub = start_hub(**settings)
    told = _follow(hub, f"{path}/runs/{run_id}/stream")
    assert hub.stop() == 0
    assert [kind for kind, _ in told][-1] == "complete", told[-1]
    numbers = [json.loads(data)["fetched"] for kind, data in told if kind == "progress"]
    assert numbers == sorted(numbers)
    assert shop.starts == 1
    with closing(sqlite3.connect(tmp_path / "data" / "trunkline.db")) as database:
        stored = database.execute("SELECT key FROM records WHERE valid_to IS NULL ORDER BY key").fetchall()
        versions = database.execute("SELECT number, status, added, total FROM versions").fetchall()
    assert [key for (key,) in stored] == [order["id"] for order in shop.orders]
    assert versions == [(1, "active", COUNT, COUNT)]


def _dataset(hub: Process, shop: Shop) -> str:
    config = {"url": f"http://127.0.0.1:{shop.server_port}"}
    body = {"name": "shop", "display_name": "Shop", "connector": "shop", "config": config}
    credentials = {"method": "none", "values": {}}
    status, made = hub.request("POST", "/v1/{ws}/integrations", body | {"credentials": credentials})
    assert status == 201, made
    wanted = {"name": "orders", "integration_id": made["id"], "stream": "orders"}
    status, dataset = hub.request("POST", "/v1/{ws}/datasets", wanted)
    assert status == 201, dataset
    return f"/v1/{{ws}}/datasets/{dataset['id']}"


def _follow(hub: Process, path: str) -> list[tuple[str, str]]:
    """Read a stream of server-sent events to its end."""
    found = []
    kind = ""
    for line in hub.stream(path):
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            found.append((kind, value))
    return found
