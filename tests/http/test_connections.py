"""Testing connections: every outcome, what is remembered of it, and the health check of them all."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from http_asgi import Client, Reply
from trunkline.services import integrations

BEARER = {"type": "bearer_token", "bearer_token_value": {"value": "fixed-token"}}
SHAPE = {"status", "tested_at", "auth_resolved", "duration_ms", "http_status", "message"}


async def _answer(request: web.Request) -> web.StreamResponse:
    """Answer with the status in the path; hang or hang up where it says so."""
    word = request.path.split("/")[1]
    if word == "hang":
        await asyncio.sleep(5)
    if word == "reset" and request.transport is not None:
        request.transport.abort()
    if word == "token":
        return web.json_response({"error": "invalid_client"}, status=401)
    return web.Response(status=int(word) if word.isdigit() else 200)


@pytest.fixture
async def url(upstream) -> str:
    return await upstream(_answer)


async def _test(client: Client, made: dict[str, Any]) -> Reply:
    return await client.post(f"/v1/{{ws}}/integrations/{made['id']}/test-connection")


@pytest.mark.parametrize(
    ("path", "status", "http_status"),
    [
        ("/200", "healthy", 200),
        ("/404", "healthy", 404),
        ("/405", "healthy", 405),
        ("/429", "healthy", 429),
        ("/401", "auth_failed", 401),
        ("/403", "auth_failed", 403),
        ("/500", "unreachable", 500),
        ("/503", "unreachable", 503),
        ("/reset", "unreachable", None),
    ],
)
async def test_each_outcome_has_its_status(
    alice: Client, url: str, path: str, status: str, http_status: int | None
):
    made = await alice.integration(base_url=url + path, auth=BEARER)
    reply = await _test(alice, made)
    assert (reply.status, set(reply.json)) == (200, SHAPE)
    found = reply.json
    assert (found["status"], found["http_status"], found["auth_resolved"]) == (status, http_status, True)


async def test_a_service_that_hangs_is_a_timeout(alice: Client, url: str):
    egress = alice.hub.app.egress
    egress._limits = replace(egress._limits, read_seconds=0.2)
    found = (await _test(alice, await alice.integration(base_url=f"{url}/hang"))).json
    assert (found["status"], found["http_status"], found["auth_resolved"]) == ("timeout", None, True)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"base_url": ""}, "misconfigured"),
        ({"base_url": "http://127.0.0.1:1"}, "unreachable"),
        ({"base_url": "https://10.0.0.1"}, "misconfigured"),
        ({"base_url": "https://no-such-host.example"}, "unreachable"),
        ({"auth": {"type": "bearer_token"}}, "misconfigured"),
    ],
)
async def test_what_cannot_be_called_says_why(alice: Client, url: str, changes: dict[str, Any], status: str):
    made = await alice.integration(**{"base_url": url, **changes})
    found = (await _test(alice, made)).json
    assert (found["status"], found["http_status"]) == (status, None)
    assert found["message"]


async def test_a_refused_token_is_a_failed_auth(alice: Client, url: str):
    auth = {"type": "oauth2_client_credentials", "client_id": "me", "token_url": f"{url}/token"}
    made = await alice.integration(base_url=url, auth=auth | {"client_secret_value": {"value": "wrong-one"}})
    found = (await _test(alice, made)).json
    assert (found["status"], found["auth_resolved"]) == ("auth_failed", False)
    assert "wrong-one" not in found["message"]


async def test_a_service_without_tls_is_an_ssl_error(alice: Client, url: str):
    made = await alice.integration(base_url=url.replace("http://", "https://"))
    assert (await _test(alice, made)).json["status"] in {"ssl_error", "unreachable"}


async def test_an_auth_that_needs_parameters_is_not_blamed(alice: Client, url: str):
    auth = {
        "type": "bearer_token_exchange",
        "exchange_url": f"{url}/token",
        "exchange_param_headers": [{"header_name": "X-User", "param_name": "user"}],
        "exchange_secret_value": {"value": "the-secret"},
    }
    found = (await _test(alice, await alice.integration(base_url=url, auth=auth))).json
    assert (found["status"], found["auth_resolved"]) == ("healthy", False)
    assert "user" in found["message"]


async def test_the_last_outcome_is_remembered(alice: Client, url: str, clock):
    made = await alice.integration(base_url=f"{url}/401")
    assert (made["last_tested_at"], made["last_test_status"]) == (None, None)
    clock.advance(60)
    tested = (await _test(alice, made)).json
    found = (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")).json
    assert (found["last_tested_at"], found["last_test_status"]) == (tested["tested_at"], "auth_failed")
    assert found["updated_at"] == made["updated_at"]
    assert (await alice.get("/v1/{ws}/integrations")).json["items"] == [found]


async def test_a_disabled_integrations_connection_can_be_tested(alice: Client, url: str):
    assert (await _test(alice, await alice.integration(base_url=url, enabled=False))).json[
        "status"
    ] == "healthy"


async def test_nothing_is_tested_of_what_does_not_exist(alice: Client):
    assert (await _test(alice, {"id": alice.workspace_id})).status == 404


async def test_a_health_check_of_nothing_is_healthy(alice: Client):
    found = (await alice.get("/v1/{ws}/integrations/health-check")).json
    assert (found["overall_status"], found["checks"]) == ("healthy", [])


@pytest.mark.parametrize(
    ("paths", "overall"),
    [
        (["200", "404"], "healthy"),
        (["200", "500"], "degraded"),
        (["401", "500"], "unhealthy"),
    ],
)
async def test_a_health_check_sums_up(alice: Client, url: str, paths: list[str], overall: str):
    for path in paths:
        await alice.integration(name=f"ops-{path}", base_url=f"{url}/{path}")
    await alice.integration(name="asleep", base_url=f"{url}/500", enabled=False)
    found = (await alice.get("/v1/{ws}/integrations/health-check")).json
    assert found["overall_status"] == overall
    assert {check["name"] for check in found["checks"]} == {f"ops-{path}" for path in paths}
    assert all(set(check) == {"id", "name", "status", "latency_ms"} for check in found["checks"])


async def test_a_health_check_leaves_out_what_is_deleted_meanwhile(
    alice: Client, url: str, monkeypatch: pytest.MonkeyPatch
):
    await alice.integration(name="stays", base_url=url)
    made = await alice.integration(name="goes", base_url=url)
    listed = integrations.list_page

    async def list_then_delete(*given: Any) -> Any:
        page = await listed(*given)
        await alice.delete(f"/v1/{{ws}}/integrations/{made['id']}")
        return page

    monkeypatch.setattr(integrations, "list_page", list_then_delete)
    found = (await alice.get("/v1/{ws}/integrations/health-check")).json
    assert [check["name"] for check in found["checks"]] == ["stays"]
