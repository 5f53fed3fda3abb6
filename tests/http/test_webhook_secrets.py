"""What verifies a connector's webhooks is entered with the credentials: optional, replaceable, never shown."""

from typing import Any

import pytest

from http_asgi import Client

TOKEN = {"method": "token", "values": {"bearer_token": "github-token", "webhook_secret": "hook-secret-one"}}


async def _put(client: Client, made: dict[str, Any], body: Any) -> Any:
    reply = await client.put(f"/v1/{{ws}}/integrations/{made['id']}", body)
    assert reply.status == 200, reply.text
    return reply.json


@pytest.fixture
async def made(alice: Client) -> dict[str, Any]:
    return await alice.integration(connector="github", base_url="", credentials=TOKEN)


async def test_a_webhooks_secret_is_stored_with_the_credentials_and_never_shown(alice: Client, made):
    assert made["credentials"] == {"method": "token", "configured": ["bearer_token", "webhook_secret"]}
    shown = await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")
    assert "hook-secret-one" not in shown.text


async def test_it_is_optional_and_can_be_entered_later_without_naming_the_way_in(alice: Client):
    way_in = {"method": "token", "values": {"bearer_token": "github-token"}}
    made = await alice.integration(connector="github", base_url="", credentials=way_in)
    changed = await _put(alice, made, {"credentials": {"values": {"webhook_secret": "hook-secret-two"}}})
    assert changed["credentials"] == {"method": "token", "configured": ["bearer_token", "webhook_secret"]}


async def test_entering_it_leaves_another_way_in_than_the_first_as_it_is(alice: Client):
    auth = {"type": "bearer_token", "bearer_token_value": {"value": "github-token"}}
    made = await alice.integration(connector="github", base_url="https://api.github.com", auth=auth)
    changed = await _put(alice, made, {"credentials": {"values": {"webhook_secret": "hook-secret"}}})
    assert changed["auth"]["type"] == "bearer_token"
    assert changed["credentials"] == {"method": None, "configured": ["webhook_secret"]}


async def test_another_way_in_keeps_it_and_drops_the_credentials_that_were(alice: Client, made):
    key = {"type": "api_key_header", "api_key_value": {"value": "key-1"}}
    changed = await _put(alice, made, {"auth": key})
    assert changed["credentials"] == {"method": None, "configured": ["webhook_secret"]}
    back = await _put(alice, made, {"credentials": {"method": "token"}})
    assert back["credentials"] == {"method": "token", "configured": ["webhook_secret"]}


async def test_a_connector_without_a_way_in_takes_secrets_alone(alice: Client):
    made = await alice.integration(
        connector="generic", base_url="", credentials={"values": {"hmac_secret": "hook-secret"}}
    )
    assert made["credentials"] == {"method": None, "configured": ["hmac_secret"]}
    changed = await _put(alice, made, {"credentials": {"values": {"token": "token-1"}}})
    assert changed["credentials"] == {"method": None, "configured": ["hmac_secret", "token"]}
    again = await _put(alice, made, {"credentials": changed["credentials"]})
    assert again["credentials"] == changed["credentials"]
    assert (await alice.integration(name="open", connector="webhook", base_url=""))["credentials"] is None


@pytest.mark.parametrize(
    ("credentials", "loc"),
    [
        ({"values": {"hmac_secrte": "x"}}, ["credentials", "values", "hmac_secrte"]),
        ({"values": {"hmac_secret": ""}}, ["credentials", "values", "hmac_secret"]),
        ({"method": "token", "values": {}}, ["credentials", "method"]),
    ],
)
async def test_a_wrong_secret_is_refused_by_name(alice: Client, credentials, loc):
    body = {"name": "x1", "display_name": "X", "connector": "generic", "credentials": credentials}
    reply = await alice.post("/v1/{ws}/integrations", body)
    assert reply.status == 422
    assert reply.json["detail"][0]["loc"] == ["body", *loc]


async def test_testing_an_integration_that_only_receives_says_so(alice: Client):
    made = await alice.integration(connector="generic", base_url="")
    tested = await alice.post(f"/v1/{{ws}}/integrations/{made['id']}/test-connection")
    assert tested.json["status"] == "healthy"
    assert "only sends webhooks" in tested.json["message"]


async def test_the_catalogue_says_what_a_webhook_needs_and_what_a_channel_is(alice: Client):
    github = (await alice.get("/v1/connectors/github")).json
    (secret,) = github["webhook"]["secrets"]
    assert (secret["name"], secret["optional"], secret["secret"]) == ("webhook_secret", True, True)
    assert github["webhook"]["verify"] == ["signature"]
    assert "github.push" in github["event_types"]
    assert github["notify"] is None
    slack = (await alice.get("/v1/connectors/slack")).json
    assert slack["notify"]["channel"]["example"] == "C024BE91L"
    assert (await alice.get("/v1/connectors/servicenow")).json["webhook"] is None
