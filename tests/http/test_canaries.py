"""Secrets that would sing: planted in every way in, looked for in every answer, header, log line and metric."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from http_asgi import Client, Reply
from test_stranger import BODIES, ROUTES
from trunkline import log

CANARY = "canary/+4711é&sings"
TOKEN = "token-canary-0815-sings"
PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
HEADER_SAFE = "canary-0042-sings"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("debug", "json", stream)
    yield stream
    log.configure()


async def _parrot(request: web.Request) -> web.Response:
    """Repeat everything that was sent; hand out tokens at /token."""
    body = await request.text()
    if request.path == "/token":
        return web.json_response({"access_token": TOKEN, "token": TOKEN, "expires_in": 600, "echo": body})
    echo = {"headers": dict(request.headers), "body": body, "path": request.path_qs}
    status = 500 if request.path == "/broken" else 200
    return web.json_response(
        echo, status=status, headers={"x-echo": request.headers.get("authorization", "none")}
    )


def _ways_in(url: str) -> dict[str, dict[str, Any]]:
    token = {"token_url": f"{url}/token", "client_id": "client"}
    return {
        "api_key_header": {"header_name": "X-Key", "api_key_value": {"value": HEADER_SAFE}},
        "bearer_token": {"bearer_token_value": {"value": HEADER_SAFE}},
        "oauth2_client_credentials": {**token, "client_secret_value": {"value": CANARY}},
        "json_token_exchange": {
            **token,
            "token_response_path": "token",
            "client_secret_value": {"value": CANARY},
        },
        "oauth2_jwt_bearer": {**token, "assertion_issuer": "me", "private_key_value": {"value": PEM}},
        "bearer_token_exchange": {
            "exchange_url": f"{url}/token",
            "exchange_secret_value": {"value": HEADER_SAFE},
        },
    }


def _songs(key: str) -> list[str]:
    """Every spelling a canary could slip out in."""
    plain = [CANARY, HEADER_SAFE, TOKEN, key, PEM.splitlines()[3]]
    encoded = [base64.b64encode(text.encode()).decode().rstrip("=") for text in plain]
    return plain + encoded + [json.dumps(text)[1:-1] for text in plain] + ["canary%2F", "canary/+"]


async def _plant(alice: Client, url: str, endpoint) -> list[dict[str, Any]]:
    endpoints = [
        endpoint(path="/echo", retry_config={"max_retries": 0}),
        endpoint(name="write", method="POST", path="/echo", body_format="form"),
        endpoint(name="broken", path="/broken", retry_config={"max_retries": 1, "retry_on_status": [500]}),
    ]
    made = [
        await alice.integration(
            name=kind.replace("_", "-"), base_url=url, auth={"type": kind, **fields}, endpoints=endpoints
        )
        for kind, fields in _ways_in(url).items()
    ]
    basic = {"method": "basic", "values": {"username": "alice", "password": CANARY}}
    made.append(
        await alice.integration(
            name="by-basic",
            connector="http",
            config={"url": url},
            base_url=url,
            credentials=basic,
            endpoints=endpoints,
        )
    )
    return made


def _silent(reply: Reply, songs: list[str]) -> None:
    heard = reply.text + json.dumps(reply.headers)
    assert [song for song in songs if song in heard] == []


async def test_no_route_ever_sings(alice: Client, upstream, endpoint, logged: io.StringIO):
    url = await upstream(_parrot)
    made = await _plant(alice, url, endpoint)
    songs = _songs(alice.key or "")
    for integration in made:
        for name in ("things", "write", "broken"):
            root = f"/v1/{{ws}}/integrations/{integration['id']}"
            for action in ("test", "call", "call?trace=true"):
                reply = await alice.post(f"{root}/endpoints/{name}/{action}", {"params": {"q": "x"}})
                assert reply.status == (502 if (name, action[:4]) == ("broken", "call") else 200), reply.text
                _silent(reply, songs)
            _silent(await alice.post(f"{root}/test-connection"), songs)
            _silent(await alice.get(root), songs)
    for route in ROUTES:
        if route.operation_id not in {
            "create-workspace",
            "create-api-key",
            "rotate-api-key",
            "delete-integration",
        }:
            known = {"workspace_id": alice.workspace_id, "endpoint_name": "things", "connector_id": "http"}
            path = route.path.format_map(defaultdict(lambda: made[0]["id"], known))
            _silent(await alice.send(min(route.methods), path, BODIES.get(route.operation_id or "")), songs)
    _silent(await alice.get("/metrics"), songs)
    assert '"event":"request"' in logged.getvalue()
    assert [song for song in songs if song in logged.getvalue()] == []


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer_token", "bearer_token_value": CANARY},
        {"type": "bearer_token", "bearer_token_value": {"value": CANARY, "extra": CANARY * 1000}},
        {"type": CANARY, "bearer_token_value": {"value": CANARY}},
        {"type": "bearer_token", CANARY: 1, "bearer_token_value": {"value": [CANARY]}},
        CANARY,
    ],
)
async def test_a_refused_body_is_not_read_back(alice: Client, auth: Any):
    reply = await alice.post("/v1/{ws}/integrations", {"name": "ops", "display_name": "Ops", "auth": auth})
    assert reply.status in {422, 201}
    assert "sings" not in json.dumps([item["msg"] for item in reply.json.get("detail", [])])
    assert all("input" not in item for item in reply.json.get("detail", []))


async def test_a_fault_of_ours_shows_nothing(
    alice: Client, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
):
    async def fail(*_args: object, **_named: object) -> None:
        raise RuntimeError(f"holding {alice.key}")

    monkeypatch.setattr("trunkline.services.workspaces.get", fail)
    reply = await alice.get("/v1/{ws}")
    assert (reply.status, reply.json["detail"]) == (500, "Internal error")
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    assert reply.json["request_id"] in logged.getvalue()
    assert (alice.key or "") not in logged.getvalue()
