"""A hub killed while webhooks come in at full speed: what it had accepted is there, and is read once."""

import hashlib
import hmac
import json
import sqlite3
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

from conftest_server import Process

SECRET = b"kill-secret"
CONNECTOR = """\
name: Shop
base_url: "https://shop.example"
auth: {none: {type: none}}
endpoints:
  ping: {description: Ping., path: /ping}
webhook:
  description: Nowhere.
  secrets: {signing_key: {label: Signing key, optional: true}}
  verify:
    signature: {type: hmac, secret: signing_key, header: x-shop-signature}
"""


def test_no_accepted_webhook_is_lost_by_a_kill(start_hub: Callable[..., Process], tmp_path: Path):
    connectors = tmp_path / "connectors"
    connectors.mkdir()
    (connectors / "shop.yaml").write_text(CONNECTOR)
    hub = start_hub(TRUNKLINE_CONNECTORS_DIR=str(connectors))
    path = _hook(hub)
    accepted: list[str] = []
    for _ in range(2):
        _post_until_killed(hub, path, accepted)
        hub = start_hub(TRUNKLINE_CONNECTORS_DIR=str(connectors))
    _post(hub, path, b"{}", accepted)
    assert hub.stop() == 0
    stored, read = _found(tmp_path / "data" / "trunkline.db")
    assert len(accepted) > 100
    assert set(accepted) <= set(stored)
    assert len(read) == len(set(read))
    assert set(read) <= set(stored)


def _hook(hub: Process) -> str:
    credentials = {"method": "none", "values": {"signing_key": SECRET.decode()}}
    wanted = {"name": "shop", "display_name": "Shop", "connector": "shop", "credentials": credentials}
    status, made = hub.request("POST", "/v1/{ws}/integrations", wanted)
    assert status == 201, made
    return hub.request("GET", f"/v1/{{ws}}/integrations/{made['id']}/hook")[1]["path"]


def _post(hub: Process, path: str, body: bytes, accepted: list[str]) -> None:
    signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(hub.url + path, body, {"x-shop-signature": signature}, method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 202
        accepted.append(json.loads(reply.read())["id"])


def _post_until_killed(hub: Process, path: str, accepted: list[str]) -> None:
    enough = threading.Event()

    def post(sender: int) -> None:
        for number in range(100_000):
            try:
                _post(hub, path, b'{"sender":%d,"n":%d}' % (sender, number), accepted)
            except (OSError, HTTPException):
                return
            if number == 30:
                enough.set()

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(post, sender) for sender in range(4)]
        assert enough.wait(30)
        hub.kill()
    for sender in senders:
        sender.result()


def _found(path: Path) -> tuple[list[str], list[str]]:
    with closing(sqlite3.connect(path)) as database:
        stored = [row[0] for row in database.execute("SELECT id FROM inbox")]
        read = [row[0] for row in database.execute("SELECT inbox_id FROM events WHERE inbox_id IS NOT NULL")]
    return stored, read
