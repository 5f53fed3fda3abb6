"""Supportbot's integrations: the contract's objects and messages, masks, and secrets that stay where they are."""

import re
from typing import Any

import pytest
from supportbot_stories import MASK, Instance, made, synced, written

from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.context import own_context
from trunkline.services import rewriting

CONFIG = {"url": "https://acme-dev.service-now.com", "username": "svc_sync", "password": "hunter2"}


async def shown(caller: Client, integration_id: str) -> dict[str, Any]:
    reply = await caller.get(f"/integrations/id/{integration_id}")
    assert (reply.status, reply.json["success"]) == (200, True)
    return dict(reply.json["integration"])


async def secrets_of(caller: Client, integration_id: str) -> dict[str, str]:
    """Return what the connector is called with."""
    ctx = own_context(caller.hub.app, caller.workspace_id)
    return dict((await rewriting.read(ctx, integration_id)).credentials)


async def test_a_fresh_integration_is_answered_as_the_page_shows(alice: Client, clock: ManualClock):
    reply = await alice.post("/integrations/create", written(CONFIG))
    found = reply.json["integration"]
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert reply.text == (
        f'{{"success":true,"integration":{{"id":"{found["id"]}","service_name":"ServiceNow",'
        '"auth_type":"basic_auth","config":{"url":"https://acme-dev.service-now.com","username":"svc_sync",'
        '"password":"********"},"is_active":true,"last_synced_at":null,"last_sync_status":null,'
        f'"last_sync_error":null,"updated_at":"{now}","user_id":"{found["user_id"]}"}}}}'
    )
    assert reply.headers["content-type"] == "application/json"
    assert (await alice.get(f"/integrations/id/{found['id']}")).text == reply.text
    everything = await alice.get("/integrations/all")
    assert everything.json == {"success": True, "integrations": [found]}


async def test_it_is_an_integration_like_any_other(alice: Client):
    integration_id = await made(alice, CONFIG)
    native = (await alice.get(f"/v1/{{ws}}/integrations/{integration_id}")).json
    assert (native["connector"], native["config"]) == ("servicenow", {"url": CONFIG["url"]})
    assert native["credentials"]["method"] == "password"
    assert native["name"].startswith("servicenow-")


async def test_one_made_elsewhere_is_shown_too(alice: Client):
    native = await alice.integration(
        connector="servicenow",
        base_url="",
        config={"url": CONFIG["url"]},
        credentials={"method": "password", "values": {"username": "u", "password": "p"}},
    )
    found = await shown(alice, native["id"])
    assert (found["service_name"], found["auth_type"], found["user_id"]) == ("ServiceNow", "basic_auth", None)
    assert found["config"] == {"url": CONFIG["url"], "password": MASK, "username": MASK}


async def test_all_masks_of_one_made_elsewhere_may_be_written_back(alice: Client):
    values = {"username": "u", "password": "p"}
    native = await alice.integration(
        connector="servicenow",
        base_url="",
        config={"url": CONFIG["url"]},
        credentials={"method": "password", "values": values},
    )
    for _ in range(2):  # also when what was kept aside is all that is known of it
        config = (await shown(alice, native["id"]))["config"]
        reply = await alice.put(f"/integrations/update/{native['id']}", written(config))
        assert reply.json["integration"]["config"] == config
        assert await secrets_of(alice, native["id"]) == values
    reply = await alice.put(f"/integrations/update/{native['id']}", written({**config, "username": "v"}))
    assert reply.json["integration"]["config"]["username"] == "v"
    assert await secrets_of(alice, native["id"]) == values | {"username": "v"}


async def test_names_need_not_differ_and_services_need_not_be_known(alice: Client):
    ids = {await made(alice, CONFIG), await made(alice, CONFIG)}
    odd = await made(
        alice, {"anything": {"deep": [1, None]}}, service_name="Home-made", auth_type="api_token"
    )
    assert (await shown(alice, odd))["config"] == {"anything": {"deep": [1, None]}}
    assert {row["id"] for row in (await alice.get("/integrations/all")).json["integrations"]} == {*ids, odd}


SECRETS = {
    **dict.fromkeys(("password", "api_key", "secret", "token", "api_token", "access_token", "refresh_token")),
    **dict.fromkeys(("API_KEY", "db_password", "mySecretThing", "tokens", "Client_Secret")),
}


async def test_secrets_are_masked_wherever_they_lie(alice: Client):
    config: dict[str, Any] = {**CONFIG, **dict.fromkeys(SECRETS, "canary-1")}
    config |= {
        "nested": {"proxy": {"password": "canary-2", "host": "h"}},
        "list": [{"token": {"a": "canary-3"}}],
    }
    integration_id = await made(alice, config)
    for reply in (
        await alice.get("/integrations/all"),
        await alice.get(f"/integrations/id/{integration_id}"),
        await alice.get("/v1/{ws}/integrations"),
    ):
        assert "canary" not in reply.text
    found = (await shown(alice, integration_id))["config"]
    assert {found[name] for name in SECRETS} == {MASK}
    assert found["nested"] == {"proxy": {"password": MASK, "host": "h"}}
    assert found["list"] == [{"token": MASK}]
    assert list(found) == list(config)


async def test_a_mask_that_is_written_back_keeps_the_secret(alice: Client):
    config = {**CONFIG, "webhook": {"token": "deep-secret"}}
    integration_id = await made(alice, config)
    found = await shown(alice, integration_id)
    changed = written(found["config"] | {"username": "other"}, is_active=False)
    reply = await alice.put(f"/integrations/update/{integration_id}", changed)
    assert reply.json["integration"] == found | {
        "config": found["config"] | {"username": "other"},
        "is_active": False,
    }
    assert await secrets_of(alice, integration_id) == {"username": "other", "password": "hunter2"}
    ctx = own_context(alice.hub.app, alice.workspace_id)
    assert "deep-secret" in (await rewriting.read(ctx, integration_id)).secrets["config"]
    await alice.put(f"/integrations/update/{integration_id}", written(config | {"password": "new"}))
    assert (await secrets_of(alice, integration_id))["password"] == "new"


async def test_a_mask_for_nothing_is_refused_by_name(alice: Client):
    text = "Invalid value for sensitive field 'password'. Send a real value to update the secret."
    reply = await alice.post("/integrations/create", written(CONFIG | {"password": MASK}))
    assert (reply.status, reply.json) == (400, {"detail": text})
    integration_id = await made(alice, {"url": CONFIG["url"]})
    reply = await alice.put(f"/integrations/update/{integration_id}", written(CONFIG | {"password": MASK}))
    assert (reply.status, reply.json) == (400, {"detail": text})


async def test_the_config_is_replaced_as_a_whole(alice: Client):
    integration_id = await made(alice, CONFIG | {"note": "x"})
    reply = await alice.put(f"/integrations/update/{integration_id}", written({"url": CONFIG["url"]}))
    assert reply.json["integration"]["config"] == {"url": CONFIG["url"]}
    assert await secrets_of(alice, integration_id) == {}


async def test_stored_secrets_are_not_sent_to_another_address_by_who_may_not(alice: Client):
    integration_id = await made(alice, CONFIG)
    member = await alice.key_with("member")
    path = f"/integrations/update/{integration_id}"
    elsewhere = CONFIG | {"url": "https://evil.example"}
    reply = await member.put(path, written(elsewhere | {"password": MASK}))
    assert reply.status == 403
    assert "Integration.readdress" in reply.json["detail"]
    assert (await member.put(path, written(elsewhere))).status == 200
    assert (await alice.put(path, written(CONFIG | {"password": MASK}))).status == 200


async def test_the_service_may_change_under_one_id(alice: Client):
    integration_id = await made(alice, CONFIG)
    config = {"url": "https://x.atlassian.net", "email": "a@b.example", "api_token": "t"}
    body = written(config, service_name="Jira", auth_type="api_token")
    reply = await alice.put(f"/integrations/update/{integration_id}", body)
    assert reply.json["integration"]["service_name"] == "Jira"
    native = (await alice.get(f"/v1/{{ws}}/integrations/{integration_id}")).json
    assert (native["connector"], native["config"]) == ("jira", {"url": "https://x.atlassian.net"})
    assert await secrets_of(alice, integration_id) == {"username": "a@b.example", "password": "t"}


async def test_deleting_is_for_good(alice: Client):
    integration_id = await made(alice, CONFIG | {"nested": {"token": "x"}})
    reply = await alice.delete(f"/integrations/delete/{integration_id}")
    assert reply.text == '{"success":true,"message":"Integration deleted successfully"}'
    gone = '{"success":false,"message":"Integration not found"}'
    assert (await alice.delete(f"/integrations/delete/{integration_id}")).text == gone
    assert (await alice.get(f"/integrations/id/{integration_id}")).text == gone
    assert (await alice.put(f"/integrations/update/{integration_id}", written(CONFIG))).text == gone


async def test_an_integration_can_be_deleted_after_its_sync(alice: Client, instance: Instance):
    integration_id = await made(alice, instance.config())
    await synced(alice, integration_id)
    assert (await alice.delete(f"/integrations/delete/{integration_id}")).json["success"] is True


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [("GET", "id", "retrieving"), ("PUT", "update", "updating"), ("DELETE", "delete", "deleting")],
)
async def test_an_id_that_is_none_is_answered_with_200(alice: Client, method: str, path: str, verb: str):
    body = written(CONFIG) if method == "PUT" else None
    reply = await alice.send(method, f"/integrations/{path}/no-uuid", body)
    wanted = {"success": False, "message": f"Error occurred while {verb} integration of ID no-uuid"}
    assert (reply.status, reply.json) == (200, wanted)


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"service_name": None}, ["body", "service_name"]),
    ({"service_name": " "}, ["body", "service_name"]),
    ({"service_name": "a\0b"}, ["body", "service_name"]),
    ({"auth_type": "kerberos"}, ["body", "auth_type"]),
    ({"config": []}, ["body", "config"]),
    ({"config": {"a": "b\0c"}}, ["body", "config"]),
    ({"config": {"a": "b" * 70_000}}, ["body", "config"]),
    ({"config": {"lastSynced": "yesterday"}}, ["body", "config", "lastSynced"]),
    ({"config": {"last_synced": ["2026-01-01"]}}, ["body", "config", "last_synced"]),
    ({"is_active": "yes"}, ["body", "is_active"]),
]


@pytest.mark.parametrize(("change", "place"), WRONG)
async def test_a_wrong_body_is_a_422_that_names_the_field(
    alice: Client, change: dict[str, Any], place: list[str]
):
    for method, path in (("POST", "create"), ("PUT", f"update/{await made(alice, CONFIG)}")):
        reply = await alice.send(method, f"/integrations/{path}", written(CONFIG) | change)
        assert reply.status == 422, reply.text
        (fault,) = reply.json["detail"]
        assert fault["loc"] == place
        assert fault.keys() == {"loc", "msg", "type"}


async def test_all_four_fields_are_needed(alice: Client):
    reply = await alice.post("/integrations/create", {})
    assert [fault["loc"][-1] for fault in reply.json["detail"]] == [
        *("service_name", "auth_type", "config", "is_active")
    ]
    assert re.search("required", reply.json["detail"][0]["msg"])
