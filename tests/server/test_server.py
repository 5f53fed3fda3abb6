"""The server process: starting, restarting, being killed, stopping, and refusing to be exposed."""

import base64
import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from conftest_server import Process, clean_environment, up_command

Start = Callable[..., Process]


def test_it_writes_where_it_answers_for_its_owner_alone(start_hub: Start, tmp_path: Path):
    hub = start_hub()
    assert hub.request("GET", "/v1/auth/me")[0] == 200
    for path in (tmp_path / "ready.json", tmp_path / "data" / "ready.json", tmp_path / "data" / "master.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads((tmp_path / "ready.json").read_text())) == {"url", "workspace_id", "api_key"}


def test_a_restart_keeps_the_key_and_everything_else(start_hub: Start):
    first = start_hub()
    made = first.request("POST", "/v1/{ws}/integrations", {"name": "ops", "display_name": "Ops"})
    assert made[0] == 201
    assert first.stop() == 0
    second = start_hub()
    assert (second.api_key, second.workspace_id) == (first.api_key, first.workspace_id)
    assert second.request("GET", f"/v1/{{ws}}/integrations/{made[1]['id']}") == (200, made[1])


def test_nothing_that_was_answered_is_lost_by_a_kill(start_hub: Start):
    answered: list[str] = []
    hub = start_hub()
    for round_number in range(3):
        _write_until_killed(hub, answered, round_number)
        hub = start_hub()
        stored = _names(hub)
        assert set(answered) <= stored
    assert len(answered) > 30


def _write_until_killed(hub: Process, answered: list[str], round_number: int) -> None:
    """Four writers at full speed; the process dies in the middle of their work."""
    goal = threading.Event()

    def write(writer: int) -> None:
        for number in range(10_000):
            name = f"k-{round_number}-{writer}-{number}"
            try:
                status, _ = hub.request("POST", "/v1/{ws}/integrations", {"name": name, "display_name": name})
            except OSError:
                return
            if status == 201:
                answered.append(name)
            if number == 25:
                goal.set()

    with ThreadPoolExecutor(4) as pool:
        for writer in range(4):
            pool.submit(write, writer)
        assert goal.wait(20)
        hub.kill()


def _names(hub: Process) -> set[str]:
    found: set[str] = set()
    token: int | None = 0
    while token is not None:
        _, page = hub.request("GET", f"/v1/{{ws}}/integrations?limit=100&continuation_token={token}")
        found |= {item["name"] for item in page["items"]}
        token = page["continuation_token"]
    return found


class _Slow(BaseHTTPRequestHandler):
    """Answers once it is told to."""

    asked = threading.Event()
    go = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.go.wait(10)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_args: object) -> None:
        pass


def test_a_stop_finishes_what_was_accepted(start_hub: Start):
    upstream = HTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    hub = start_hub(TRUNKLINE_EGRESS_ALLOW="127.0.0.1")
    endpoint = {"name": "slow", "description": "Slow.", "method": "GET", "path": "/"}
    url = f"http://127.0.0.1:{upstream.server_port}"
    body = {"name": "slow", "display_name": "Slow", "base_url": url, "endpoints": [endpoint]}
    made = hub.request("POST", "/v1/{ws}/integrations", body)[1]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            hub.request, "POST", f"/v1/{{ws}}/integrations/{made['id']}/endpoints/slow/call", {}
        )
        assert _Slow.asked.wait(10)
        hub.popen.terminate()
        _Slow.go.set()
        assert call.result(15)[0] == 200
    assert hub.popen.wait(15) == 0
    upstream.shutdown()
    upstream.server_close()


def _fails(tmp_path: Path, *more: str, **environment: str) -> str:
    command = up_command(tmp_path / "data", tmp_path / "ready.json", *more)
    done = subprocess.run(
        command, env=clean_environment(**environment), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_refuses_to_be_exposed_without_the_operators_key(tmp_path: Path):
    told = _fails(tmp_path, "--host", "0.0.0.0")
    assert "TRUNKLINE_MASTER_KEY" in told


def test_with_the_operators_key_it_listens_anywhere(start_hub: Start):
    key = base64.b64encode(os.urandom(32)).decode()
    hub = start_hub(TRUNKLINE_MASTER_KEY=key, TRUNKLINE_HOST="0.0.0.0")
    assert hub.request("GET", "/healthz")[0] == 200


def test_a_wrong_master_key_is_said_at_the_start(start_hub: Start, tmp_path: Path):
    hub = start_hub()
    auth = {"type": "bearer_token", "bearer_token_value": {"value": "secret"}}
    assert (
        hub.request("POST", "/v1/{ws}/integrations", {"name": "ops", "display_name": "Ops", "auth": auth})[0]
        == 201
    )
    hub.stop()
    other = base64.b64encode(os.urandom(32)).decode()
    told = _fails(tmp_path, TRUNKLINE_MASTER_KEY=other)
    assert "TRUNKLINE_MASTER_KEY" in told
    assert other not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUNKLINE_PORT", "many"),
        ("TRUNKLINE_MASTER_KEY", "short"),
        ("TRUNKLINE_MASTER_KEY_FILE", "/nowhere/at/all"),
        ("TRUNKLINE_EGRESS_ALLOW", "10.0.0.0/99"),
        ("TRUNKLINE_DATABASE_URL", "mysql://root@127.0.0.1/x"),
        ("TRUNKLINE_DATABASE_URL", "postgresql://nobody:hunter22@127.0.0.1:1/x"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, name: str, value: str):
    told = _fails(tmp_path, **{name: value})
    assert name.removesuffix("_FILE") in told or "127.0.0.1:1" in told
    assert "hunter22" not in told


def test_a_port_that_is_taken_is_said(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = _fails(tmp_path, "--port", port)
    assert f"127.0.0.1:{port}" in told


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: " + b"y" * 1_000_000,
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 100_000,
        b"GET /" + b"a" * 1_000_000,
    ],
    ids=["one endless header", "endless headers", "endless path"],
)
def test_headers_without_end_are_cut_off(start_hub: Start, head: bytes):
    hub = start_hub()
    with socket.create_connection(hub.address, timeout=10) as connection:
        try:
            connection.sendall(head)
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    assert hub.request("GET", "/healthz")[0] == 200
