"""Updating integrations: what a PUT changes, what it leaves, and what happens to secrets."""

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from http_asgi import Client, Reply

SERVICENOW = {
    "name": "itsm",
    "connector": "servicenow",
    "config": {"url": "https://dev1.service-now.com"},
    "credentials": {"method": "password", "values": {"username": "it", "password": "first-pass"}},
    "base_url": "",
}


def bearer(value: str | None = None) -> dict[str, Any]:
    return {"type": "bearer_token"} | ({"bearer_token_value": {"value": value}} if value else {})


async def _put(client: Client, made: dict[str, Any], body: Any) -> Reply:
    return await client.put(f"/v1/{{ws}}/integrations/{made['id']}", body)


async def _changed(client: Client, made: dict[str, Any], body: Any) -> dict[str, Any]:
    reply = await _put(client, made, body)
    assert reply.status == 200, reply.text
    return reply.json


async def _run(client: Client, made: dict[str, Any], name: str = "things", action: str = "call") -> Reply:
    return await client.post(f"/v1/{{ws}}/integrations/{made['id']}/endpoints/{name}/{action}", {})


class Listener:
    """A service that remembers the headers it was called with."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"result": []})

    @property
    def authorization(self) -> str | None:
        return self.heard[-1].get("authorization")


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def url(upstream, listener: Listener) -> str:
    return await upstream(listener.answer)


@pytest.mark.parametrize(
    "change",
    [
        {"display_name": "Other"},
        {"base_url": "https://other.example/v2"},
        {"base_url": ""},
        {"enabled": False},
        {"endpoints": []},
        {},
    ],
)
async def test_each_part_changes_alone(alice: Client, endpoint, clock, change: dict[str, Any]):
    made = await alice.integration(auth=bearer("a-secret"), endpoints=[endpoint()])
    clock.advance(5)
    changed = await _changed(alice, made, change)
    assert changed == made | change | {"updated_at": "2026-01-01T00:00:05Z"}
    assert (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")).json == changed


async def test_null_leaves_every_part(alice: Client, endpoint):
    made = await alice.integration(auth=bearer("a-secret"), endpoints=[endpoint()])
    nothing = dict.fromkeys(
        ["display_name", "base_url", "auth", "endpoints", "enabled", "config", "credentials", "protocol"]
    )
    assert await _changed(alice, made, nothing) == made


async def test_name_id_and_times_cannot_be_changed(alice: Client, charlie: Client):
    made = await alice.integration()
    wanted = {
        "name": "other",
        "id": "0" * 36,
        "workspace_id": charlie.workspace_id,
        "builtin": True,
        "created_at": "1999-01-01T00:00:00Z",
        "connector": "servicenow",
        "last_test_status": "healthy",
    }
    assert await _changed(alice, made, wanted) == made


async def test_another_protocol_is_refused(alice: Client):
    reply = await _put(alice, await alice.integration(), {"protocol": "desktop"})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "protocol"])


async def test_endpoints_are_replaced_as_a_whole(alice: Client, url: str, endpoint):
    made = await alice.integration(base_url=url, endpoints=[endpoint(), endpoint(name="more")])
    changed = await _changed(alice, made, {"endpoints": [endpoint(name="only", description="New.")]})
    assert [item["name"] for item in changed["endpoints"]] == ["only"]
    assert (await _run(alice, made, "things")).status == 404
    assert (await _run(alice, made, "only")).status == 200


async def test_a_refused_update_changes_nothing(alice: Client, endpoint):
    made = await alice.integration()
    bad = {"display_name": "New", "endpoints": [endpoint(path="../up")], "base_url": "ftp://x"}
    reply = await _put(alice, made, bad)
    assert reply.status == 422
    assert {tuple(fault["loc"]) for fault in reply.json["detail"]} == {
        ("body", "base_url"),
        ("body", "endpoints", 0, "path"),
    }
    assert (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")).json == made


async def test_a_secret_that_is_not_sent_again_is_still_used(
    alice: Client, url: str, listener: Listener, endpoint
):
    made = await alice.integration(base_url=url, auth=bearer("first-secret"), endpoints=[endpoint()])
    await _changed(alice, made, {"display_name": "New", "auth": bearer()})
    assert (await _run(alice, made)).status == 200
    assert listener.authorization == "Bearer first-secret"


async def test_a_secret_that_is_sent_again_replaces_the_old_one_at_once(
    alice: Client, url: str, listener: Listener, endpoint
):
    made = await alice.integration(base_url=url, auth=bearer("first-secret"), endpoints=[endpoint()])
    await _run(alice, made)
    await _changed(alice, made, {"auth": bearer("other-secret")})
    await _run(alice, made)
    assert listener.authorization == "Bearer other-secret"


async def test_secrets_of_another_type_are_dropped(alice: Client, url: str, listener: Listener, endpoint):
    made = await alice.integration(base_url=url, auth=bearer("first-secret"), endpoints=[endpoint()])
    key = {"type": "api_key_header", "header_name": "X-Key", "api_key_value": {"value": "the-key"}}
    await _changed(alice, made, {"auth": key})
    await _run(alice, made)
    assert (listener.authorization, listener.heard[-1]["x-key"]) == (None, "the-key")
    await _changed(alice, made, {"auth": bearer()})
    reply = await _run(alice, made)
    assert (reply.status, reply.json["kind"]) == (502, "misconfigured")


async def test_a_secret_survives_changes_of_the_same_type(
    alice: Client, url: str, listener: Listener, endpoint
):
    key = {"type": "api_key_header", "header_name": "X-One", "api_key_value": {"value": "the-key"}}
    made = await alice.integration(base_url=url, auth=key, endpoints=[endpoint()])
    await _changed(alice, made, {"auth": {"type": "api_key_header", "header_name": "X-Two"}})
    await _run(alice, made)
    assert listener.heard[-1]["x-two"] == "the-key"
    assert "x-one" not in listener.heard[-1]


async def test_auth_is_replaced_not_merged(alice: Client):
    auth = {"type": "oauth2_client_credentials", "token_url": "https://t.example", "client_id": "me"}
    made = await alice.integration(auth=auth)
    changed = await _changed(alice, made, {"auth": {"type": "oauth2_client_credentials"}})
    assert (changed["auth"]["token_url"], changed["auth"]["client_id"]) == (None, None)


async def test_what_was_read_can_be_written_back(alice: Client, url: str, listener: Listener, endpoint):
    made = await alice.integration(base_url=url, auth=bearer("first-secret"), endpoints=[endpoint()])
    assert await _changed(alice, made, made) == made
    await _run(alice, made)
    assert listener.authorization == "Bearer first-secret"


async def test_a_connectors_integration_can_be_written_back_without_freezing_it(alice: Client, url: str):
    made = await alice.integration(**(SERVICENOW | {"base_url": url}))
    changed = await _changed(alice, made, made)
    assert changed == made
    path = f"/v1/{{ws}}/integrations/{made['id']}"
    query = sa.text("SELECT endpoints FROM integrations")
    assert await alice.hub.app.db.read(lambda conn: conn.scalar(query)) == "[]"
    assert (await alice.post(f"{path}/endpoints/list_users/call", {})).status == 200


@pytest.mark.parametrize("connector", ["servicenow", "pagerduty", "github"])
async def test_every_connectors_endpoints_can_be_written_back(alice: Client, connector: str):
    way_in = next(iter((await alice.get(f"/v1/connectors/{connector}")).json["auth"].items()))
    values = {field["name"]: "value-1234" for field in way_in[1]["fields"]}
    extra = {"config": SERVICENOW["config"]} if connector == "servicenow" else {}
    credentials = {"method": way_in[0], "values": values}
    made = await alice.integration(connector=connector, base_url="", credentials=credentials, **extra)
    assert await _changed(alice, made, {"endpoints": made["endpoints"]}) == made


async def test_an_endpoint_of_ones_own_stands_before_the_connectors(alice: Client, url: str, endpoint):
    made = await alice.integration(**(SERVICENOW | {"base_url": url}))
    mine = endpoint(name="list_users", path="/mine")
    changed = await _changed(alice, made, {"endpoints": [mine]})
    assert changed["endpoints"][0]["path"] == "/mine"
    assert len(changed["endpoints"]) == len(made["endpoints"])
    assert len((await _changed(alice, made, {"endpoints": []}))["endpoints"]) == len(made["endpoints"])


async def test_config_is_merged_and_null_removes(alice: Client):
    config = {"url": "https://a.example", "token_url": "https://t.example"}
    made = await alice.integration(connector="http", config=config, base_url="")
    changed = await _changed(alice, made, {"config": {"url": "https://b.example"}})
    assert changed["config"] == {"url": "https://b.example", "token_url": "https://t.example"}
    assert (await _changed(alice, made, {"config": {"token_url": None}}))["config"] == {
        "url": "https://b.example"
    }


@pytest.mark.parametrize(
    ("config", "field"), [({"url": None}, "url"), ({"url": "nonsense"}, "url"), ({"color": "red"}, "color")]
)
async def test_config_that_does_not_fit_the_connector_is_refused(
    alice: Client, config: dict[str, Any], field: str
):
    made = await alice.integration(connector="http", config={"url": "https://a.example"}, base_url="")
    reply = await _put(alice, made, {"config": config})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "config", field])


@pytest.mark.parametrize(
    "body", [{"config": {"a": "b"}}, {"credentials": {"values": {"password": "x"}}}], ids=["config", "creds"]
)
async def test_only_a_connectors_integration_has_config_and_credentials(alice: Client, body: Any):
    reply = await _put(alice, await alice.integration(), body)
    assert reply.status == 422
    assert reply.json["detail"][0]["loc"][:2] == ["body", next(iter(body))]


async def test_auth_and_credentials_together_are_refused(alice: Client):
    made = await alice.integration(**SERVICENOW)
    reply = await _put(alice, made, {"auth": bearer("abcd"), "credentials": {"method": "password"}})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "credentials"])


async def test_one_credential_can_be_replaced_and_the_others_stay(
    alice: Client, url: str, listener: Listener
):
    made = await alice.integration(**(SERVICENOW | {"base_url": url}))
    changed = await _changed(
        alice, made, {"credentials": {"method": "password", "values": {"password": "next"}}}
    )
    assert changed["credentials"] == {"method": "password", "configured": ["password", "username"]}
    await _run(alice, made, "list_users")
    assert listener.authorization == "Basic " + base64.b64encode(b"it:next").decode()


async def test_another_way_in_forgets_the_credentials_of_the_old_one(alice: Client):
    made = await alice.integration(**SERVICENOW)
    values = {"client_id": "me", "client_secret": "secret"}
    changed = await _changed(alice, made, {"credentials": {"method": "oauth", "values": values}})
    assert changed["credentials"] == {"method": "oauth", "configured": ["client_id", "client_secret"]}
    back = await _changed(alice, made, {"credentials": {"method": "password"}})
    assert back["credentials"] == {"method": "password", "configured": []}


async def test_an_unknown_way_in_and_unknown_values_are_refused(alice: Client):
    made = await alice.integration(**SERVICENOW)
    reply = await _put(alice, made, {"credentials": {"method": "magic"}})
    assert reply.json["detail"][0]["loc"] == ["body", "credentials", "method"]
    reply = await _put(alice, made, {"credentials": {"method": "password", "values": {"pin": "1234"}}})
    assert reply.json["detail"][0]["loc"] == ["body", "credentials", "values", "pin"]


async def test_a_connectors_integration_can_take_a_native_way_in(alice: Client, url: str, listener: Listener):
    made = await alice.integration(**(SERVICENOW | {"base_url": url}))
    changed = await _changed(alice, made, {"auth": bearer("native-secret")})
    assert (changed["auth"]["type"], changed["credentials"]) == ("bearer_token", None)
    await _run(alice, made, "list_users")
    assert listener.authorization == "Bearer native-secret"


async def test_a_disabled_integration_is_not_called(alice: Client, url: str, listener: Listener, endpoint):
    made = await alice.integration(base_url=url, endpoints=[endpoint()])
    await _changed(alice, made, {"enabled": False})
    reply = await _run(alice, made)
    assert (reply.status, reply.json["error_code"]) == (409, "conflict")
    tested = await _run(alice, made, action="test")
    assert (tested.status, tested.json["error"]) == (200, reply.json["detail"])
    assert listener.heard == []
    await _changed(alice, made, {"enabled": True})
    assert (await _run(alice, made)).status == 200


async def test_a_new_address_is_called_at_once(alice: Client, upstream, url: str, endpoint):
    other = Listener()
    made = await alice.integration(base_url=url, endpoints=[endpoint()])
    assert (await _run(alice, made)).status == 200
    await _changed(alice, made, {"base_url": await upstream(other.answer)})
    await _run(alice, made)
    assert len(other.heard) == 1


async def test_an_address_of_its_own_wins_over_the_connectors(alice: Client, url: str, listener: Listener):
    made = await alice.integration(**SERVICENOW)
    await _changed(alice, made, {"base_url": url})
    assert (await _run(alice, made, "list_users")).status == 200
    assert len(listener.heard) == 1


async def test_updates_at_once_all_take_effect(alice: Client, endpoint):
    made = await alice.integration()
    parts = [
        {"display_name": "New"},
        {"enabled": False},
        {"endpoints": [endpoint()]},
        {"auth": bearer("abcd")},
    ]
    replies = await asyncio.gather(*(_put(alice, made, part) for part in parts))
    assert [reply.status for reply in replies] == [200] * 4
    found = (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")).json
    assert (found["display_name"], found["enabled"]) == ("New", False)
    assert (len(found["endpoints"]), found["auth"]["type"]) == (1, "bearer_token")


async def test_updates_of_different_config_at_once_lose_none(alice: Client):
    made = await alice.integration(connector="http", config={"url": "https://a.example"}, base_url="")
    parts = [{"key_header": "X-One"}, {"token_url": "https://t.example"}, {"url": "https://b.example"}]
    replies = await asyncio.gather(*(_put(alice, made, {"config": part}) for part in parts))
    assert [reply.status for reply in replies] == [200] * 3
    found = (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")).json
    assert found["config"] == parts[0] | parts[1] | parts[2]


async def test_an_update_beside_a_delete_is_an_update_or_a_404(alice: Client):
    for number in range(5):
        made = await alice.integration(name=f"ops-{number}")
        gone, changed = await asyncio.gather(
            alice.delete(f"/v1/{{ws}}/integrations/{made['id']}"), _put(alice, made, {"auth": bearer("abcd")})
        )
        assert gone.status == 204
        assert changed.status in {200, 404}


async def test_a_deleted_integrations_secrets_are_gone_from_the_database(alice: Client):
    made = await alice.integration(auth=bearer("abcd"))
    await alice.delete(f"/v1/{{ws}}/integrations/{made['id']}")
    count = sa.text("SELECT count(*) FROM secrets")
    assert await alice.hub.app.db.read(lambda conn: conn.scalar(count)) == 0


async def test_an_integration_that_came_with_the_system_cannot_be_changed(alice: Client):
    made = await alice.integration()
    change = sa.text("UPDATE integrations SET builtin = true")
    await alice.hub.app.db.write(lambda conn: conn.execute(change).rowcount)
    assert (await _put(alice, made, {"enabled": False})).status == 403
    assert (await alice.delete(f"/v1/{{ws}}/integrations/{made['id']}")).status == 403


async def test_a_viewer_cannot_update(alice: Client, bob: Client):
    made = await alice.integration()
    assert (await _put(replace(bob), made, {"enabled": False})).status == 403


@pytest.mark.parametrize("id", ["nonsense", "1", "%00", "ops", "0" * 37])
async def test_an_id_that_is_no_uuid_is_refused(alice: Client, id: str):
    reply = await alice.put(f"/v1/{{ws}}/integrations/{id}", {})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["path", "integration_id"])


async def test_an_unknown_id_is_not_found(alice: Client):
    reply = await alice.put(f"/v1/{{ws}}/integrations/{alice.workspace_id}", {})
    assert (reply.status, reply.json["detail"]) == (404, "Integration not found")


@pytest.mark.parametrize(
    "change", [{"base_url": "https://mine.example"}, {"base_url": "https://ops.example:444/"}]
)
async def test_stored_secrets_go_nowhere_else_at_a_members_word(alice: Client, change: dict[str, Any]):
    auth = {"type": "bearer_token", "bearer_token_value": {"value": "first-secret"}}
    made = await alice.integration(auth=auth)
    path = f"/v1/{{ws}}/integrations/{made['id']}"
    member = await alice.key_with("member")
    refused = await member.put(path, change)
    assert (refused.status, "Integration.readdress" in refused.json["detail"]) == (403, True)
    assert (await alice.get(path)).json == made
    assert (await member.put(path, {"base_url": "https://ops.example/v2"})).status == 200
    assert (await member.put(path, {**change, "auth": auth})).status == 200
    assert (await alice.put(path, {"base_url": "https://elsewhere.example"})).status == 200


async def test_a_members_token_url_gets_no_stored_secret(alice: Client):
    auth = {"type": "oauth2_client_credentials", "token_url": "https://idp.example/token"}
    made = await alice.integration(auth={**auth, "client_secret_value": {"value": "first-secret"}})
    member = await alice.key_with("member")
    change = {"auth": {**auth, "token_url": "https://mine.example/token"}}
    assert (await member.put(f"/v1/{{ws}}/integrations/{made['id']}", change)).status == 403
