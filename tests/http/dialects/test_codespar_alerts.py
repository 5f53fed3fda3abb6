"""Codespar's channel routes and its webhook: which alerts come in, and where they go."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from codespar_samples import check_error

from http_asgi import Client, Reply
from trunkline.clock import ManualClock
from trunkline.services import events, ingest

PATH = "/api/channel-routes"
ROUTE = {"eventType": "sentry.*", "channel": "telegram", "channelId": "-100200300", "projectId": "proj-7"}
ALERTS = {"channelType": "slack", "channelId": "C0PAGER", "alertTypes": ["error", "deploy"]}
ISSUE = {"id": "5550001", "title": "ReferenceError: cart is not defined", "project": {"slug": "proj-7"}}
ALERT = {"action": "created", "data": {"issue": {**ISSUE, "level": "error"}}}
HOOKS = ["/api/webhooks/sentry", "/webhooks/sentry", "/api/integrations/sentry/webhook"]


async def listed(caller: Client) -> list[dict[str, Any]]:
    reply = await caller.get(PATH)
    assert reply.status == 200
    return reply.json["routes"]


# Routes 11 to 13.


async def test_a_route_is_made_shown_and_deleted_as_the_page_shows(alice: Client, clock: ManualClock):
    made = await alice.post(PATH, ROUTE)
    route_id = made.json["id"]
    assert made.status == 201
    created = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert made.text == (
        f'{{"id":"{route_id}","eventType":"sentry.*","channel":"telegram","channelId":"-100200300",'
        f'"projectId":"proj-7","enabled":true,"createdAt":"{created}"}}'
    )
    shown = await alice.get(PATH)
    assert shown.text == (
        f'{{"routes":[{{"id":"{route_id}","eventType":"sentry.*","channel":"telegram","channelId":"-100200300",'
        '"projectId":"proj-7","enabled":true}]}'
    )
    gone = await alice.delete(f"{PATH}/{route_id}")
    assert (gone.status, gone.text) == (200, f'{{"id":"{route_id}","deleted":true}}')
    assert await listed(alice) == []


async def test_an_unknown_route_is_told_as_the_page_shows(alice: Client):
    for route_id in ("route-102", "0c9a4f8e-8a55-4f0c-8f1b-6f6b1f8d2e33"):
        reply = await alice.delete(f"{PATH}/{route_id}")
        assert reply.status == 404
        assert reply.text == '{"error":"Channel route not found","code":"ROUTE_NOT_FOUND","status":404}'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"eventType": None}, "eventType: "),
        ({"eventType": ""}, "eventType: "),
        ({"eventType": "x" * 257}, "eventType: "),
        ({"eventType": " x"}, "eventType: "),
        ({"channel": "pagerduty"}, "channel: "),
        ({"channelId": ""}, "channelId: "),
        ({"channelId": 7}, "channelId: "),
        ({"channelId": "not a chat"}, "channelId: "),
        ({"projectId": 7}, "projectId: "),
    ],
)
async def test_a_bad_field_is_named(alice: Client, change: dict[str, Any], told: str):
    body = {name: value for name, value in (ROUTE | change).items() if value is not None}
    assert told in check_error(await alice.post(PATH, body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"alertTypes": []}, "alertTypes: "),
        ({"alertTypes": ["noise"]}, "alertTypes.0: "),
        ({"channelType": "fax"}, "channelType: "),
        ({"channelId": "not a channel"}, "channelId: "),
        ({"projectFilter": 7}, "projectFilter: "),
    ],
)
async def test_a_bad_field_of_the_servers_own_shape_is_named_as_there(alice: Client, change, told: str):
    assert told in check_error(await alice.post(PATH, ALERTS | change), 400, "VALIDATION_ERROR")
    assert await listed(alice) == []


async def test_fields_that_nobody_knows_are_let_be(alice: Client):
    assert (await alice.post(PATH, ROUTE | {"enabled": False, "colour": "red"})).json["enabled"] is True
    assert (await alice.post(PATH, ALERTS | {"colour": "red"})).status == 200


async def test_alert_types_become_patterns_and_are_answered_in_their_own_shape(alice: Client):
    body = ALERTS | {"channelName": "pager", "projectFilter": "proj-7"}
    reply = await alice.post(PATH, body)
    assert (reply.status, reply.json) == (200, {"success": True, "route": body})
    found = [(route["eventType"], route["channelId"], route["projectId"]) for route in await listed(alice)]
    assert sorted(found) == [("deploy.*", "C0PAGER", "proj-7"), ("sentry.*", "C0PAGER", "proj-7")]


async def test_setting_a_channels_alert_types_again_replaces_them_and_nothing_else(alice: Client):
    await alice.post(PATH, ALERTS)
    await alice.post(PATH, ALERTS | {"channelId": "C0OTHER"})
    by_page = (await alice.post(PATH, ROUTE | {"channel": "slack", "channelId": "C0PAGER"})).json["id"]
    before = {route["id"]: route for route in await listed(alice)}
    again = await alice.post(PATH, ALERTS | {"alertTypes": ["error", "incident"]})
    assert again.json["route"]["alertTypes"] == ["error", "incident"]
    after = await listed(alice)
    here = {
        route["eventType"] for route in after if route["channelId"] == "C0PAGER" and route["id"] != by_page
    }
    assert here == {"sentry.*", "incident.*", "pagerduty.incident.*"}
    kept = next(route for route in after if route["eventType"] == "sentry.*" and route["id"] in before)
    assert kept == before[kept["id"]]
    assert by_page in {route["id"] for route in after}
    assert sum(route["channelId"] == "C0OTHER" for route in after) == 2


async def test_all_alert_types_are_every_alert_and_no_chatter(alice: Client):
    await alice.post(PATH, ALERTS | {"alertTypes": ["all", "deploy"]})
    found = sorted(route["eventType"] for route in await listed(alice))
    assert found == ["deploy.*", "incident.*", "pagerduty.incident.*", "sentry.*"]


async def test_replacing_takes_the_permission_to_delete(alice: Client):
    await alice.post(PATH, ALERTS)
    maker = await alice.key_with("member", ["Route.create", "Route.view"])
    assert (await maker.post(PATH, ALERTS)).status == 200
    reply = await maker.post(PATH, ALERTS | {"alertTypes": ["incident"]})
    assert "Route.delete" in check_error(reply, 403, "FORBIDDEN")
    assert len(await listed(alice)) == 2


async def test_a_channel_is_deleted_as_the_servers_own_client_does(alice: Client):
    await alice.post(PATH, ALERTS)
    await alice.post(PATH, ROUTE)
    reply = await alice.delete(f"{PATH}/slack/C0PAGER")
    assert reply.json == {"success": True, "removed": {"channelType": "slack", "channelId": "C0PAGER"}}
    assert [route["channel"] for route in await listed(alice)] == ["telegram"]
    check_error(await alice.delete(f"{PATH}/slack/C0PAGER"), 404, "ROUTE_NOT_FOUND")


async def test_routes_of_other_kinds_are_not_in_this_format(alice: Client):
    target = {"type": "webhook", "url": "https://alerts.example/in"}
    made = await alice.post("/v1/{ws}/routes", {"name": "out", "event_type": "*", "target": target})
    assert made.status == 201, made.text
    assert await listed(alice) == []
    check_error(await alice.delete(f"{PATH}/{made.json['id']}"), 404, "ROUTE_NOT_FOUND")


async def test_a_long_list_of_routes_is_whole(alice: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trunkline.http.dialects.codespar_alerts._PAGE", 2)
    made = [(await alice.post(PATH, ROUTE)).json["id"] for _ in range(5)]
    assert sorted(route["id"] for route in await listed(alice)) == sorted(made)


# Route 10.


def sign(body: bytes, secret: str = "hush") -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def post_alert(caller: Client, path: str = HOOKS[0], *, secret: str = "hush", **headers: str) -> Reply:
    raw = json.dumps(ALERT, indent=1).encode()
    given = {"sentry-hook-signature": sign(raw, secret), **headers}
    return await Client(caller.hub, None, "").send("POST", path, raw=raw, **given)


@pytest.fixture
async def tracked(alice: Client, configured) -> Client:
    """Alice, whose error tracker's webhook has the secret `hush`."""
    await configured("sentry")
    return alice


@pytest.mark.parametrize("prefix", ["", "/v1", "/as/codespar"])
@pytest.mark.parametrize("path", HOOKS)
async def test_an_alert_is_taken_on_every_path_without_a_key(tracked: Client, prefix: str, path: str):
    reply = await post_alert(tracked, prefix + path)
    assert (reply.status, reply.text) == (200, '{"received":true,"routed":false,"agentId":null}')


async def test_an_alert_that_a_route_takes_says_so_as_the_page_shows(tracked: Client):
    await tracked.post(PATH, ROUTE)
    reply = await post_alert(tracked)
    agent = reply.json["agentId"]
    assert reply.text == f'{{"received":true,"routed":true,"agentId":"{agent}"}}'
    assert agent.startswith("agent-incident-")
    assert len(agent) == len("agent-incident-7c1e")


@pytest.mark.parametrize("change", [{"projectId": "proj-8"}, {"eventType": "deploy.*"}])
async def test_a_route_for_other_events_takes_nothing(tracked: Client, change: dict[str, str]):
    await tracked.post(PATH, ROUTE | change)
    assert (await post_alert(tracked)).json["routed"] is False


async def test_an_alert_becomes_an_event(tracked: Client):
    await post_alert(tracked)
    await ingest.read_due(tracked.hub.app)
    found = await tracked.hub.app.db.read(lambda conn: events.read_after(conn, tracked.workspace_id, 0, 10))
    assert [(event.type, event.project, event.severity) for event in found] == [
        ("sentry.error", "proj-7", "high")
    ]


async def test_the_same_alert_twice_is_one_event(tracked: Client):
    for _ in range(2):
        assert (await post_alert(tracked, request_id="r-1")).status == 200
    while await ingest.read_due(tracked.hub.app):
        pass
    found = await tracked.hub.app.db.read(lambda conn: events.read_after(conn, tracked.workspace_id, 0, 10))
    assert len(found) == 1


async def test_a_missing_signature_is_told_as_the_server_does(tracked: Client):
    reply = await Client(tracked.hub, None, "").post(HOOKS[0], ALERT)
    assert check_error(reply, 401, "UNAUTHORIZED") == "Missing sentry-hook-signature header"


async def test_a_wrong_signature_and_an_unknown_organisation_are_answered_alike(
    tracked: Client, charlie: Client
):
    wrong = await post_alert(tracked, secret="other")
    unknown = await post_alert(tracked, HOOKS[0] + "?orgId=nobody")
    unset = await post_alert(tracked, HOOKS[0] + f"?orgId={charlie.workspace_id}")
    odd = await post_alert(tracked, x_org_id="\xff")
    assert wrong.text == unknown.text == unset.text == odd.text
    assert check_error(wrong, 401, "UNAUTHORIZED") == "Invalid webhook signature"


async def test_without_a_secret_nothing_is_taken(tracked: Client, charlie: Client):
    body = {"integration": "sentry", "config": {"authToken": "t", "org": "x"}}
    assert (await charlie.post("/api/integrations/configure", body)).status == 200
    path = f"{HOOKS[0]}?orgId={charlie.workspace_id}"
    for secret in ("", "hush"):
        check_error(await post_alert(tracked, path, secret=secret), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("way", ["query id", "query ID", "query name", "header", "query before header"])
async def test_the_organisation_is_named_by_query_or_header(hub, alice: Client, charlie: Client, way: str):
    config = {"authToken": "t", "org": "x", "webhookSecret": "charlies"}
    await charlie.post("/api/integrations/configure", {"integration": "sentry", "config": config})
    asked = {
        "query id": (f"?orgId={charlie.workspace_id}", {}),
        "query ID": (f"?orgId={charlie.workspace_id.upper()}", {}),
        "query name": ("?orgId=CHARLIE's", {}),
        "header": ("", {"x_org_id": "Charlie's"}),
        "query before header": (f"?orgId={charlie.workspace_id}", {"x_org_id": alice.workspace_id}),
    }
    query, headers = asked[way]
    reply = await post_alert(alice, HOOKS[0] + query, secret="charlies", **headers)
    assert reply.status == 200, reply.text


async def test_a_disabled_integration_takes_nothing(tracked: Client):
    found = (await tracked.get("/v1/{ws}/integrations?search=sentry")).json["items"][0]
    await tracked.put(f"/v1/{{ws}}/integrations/{found['id']}", {"enabled": False})
    check_error(await post_alert(tracked), 409, "CONFLICT")
