"""Supportbot's sync: the contract's frames byte for byte, over what an instance really answers."""

import asyncio
import json

import pytest
from supportbot_stories import KB, Instance, frames, incident, made, synced, watch, written

from http_asgi import Client
from run_stories import settle
from trunkline.clock import ManualClock

GOLDEN = """\
event: progress
data: {"batch": 0, "totalBatches": 0, "message": "Fetching incidents from ServiceNow..."}

event: progress
data: {"batch": 0, "totalBatches": 2, "totalIncidents": 7, "message": "Ingesting 7 incidents in 2 batch(es)..."}

event: progress
data: {"batch": 1, "totalBatches": 2, "incidents": ["INC7001", "INC7002", "INC7003", "INC7004", "INC7005"], "totalIncidents": 7, "message": "Batch 1 of 2 processed (5 incidents)"}

event: progress
data: {"batch": 2, "totalBatches": 2, "incidents": ["INC7006", "INC7007"], "totalIncidents": 7, "message": "Batch 2 of 2 processed (2 incidents)"}

event: complete
data: {"success": true, "integration": {"id": "<id>", "service_name": "ServiceNow", "auth_type": "basic_auth", "config": {"url": "<url>", "username": "svc_sync", "password": "********", "lastSynced": "<now>"}, "is_active": true, "last_synced_at": "<now>", "last_sync_status": "success", "last_sync_error": null, "updated_at": "<now>", "user_id": "<user>"}, "stats": {"added": 7, "total": 7, "last_synced": "<now>"}}

"""
NOTHING = {"batch": 0, "totalBatches": 0, "message": "No new incidents to ingest"}


@pytest.fixture
def seven(instance: Instance) -> Instance:
    instance.incidents = [incident(7001 + number) for number in range(7)]
    return instance


async def test_the_frames_are_the_contract_s_byte_for_byte(
    alice: Client, seven: Instance, clock: ManualClock
):
    integration_id = await made(alice, seven.config())
    user = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]["user_id"]
    reply = await watch(alice, f"/integrations/sync/{integration_id}")
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    wanted = GOLDEN.replace("<id>", integration_id).replace("<url>", seven.url)
    assert reply.text == wanted.replace("<now>", now).replace("<user>", user)
    assert reply.headers["content-type"] == "text/event-stream"
    assert seven.asked[0]["sysparm_query"].startswith("sys_updated_on>=1970-01-01 00:00:00^ORDERBY")
    assert set(seven.credentials) == {"Basic c3ZjX3N5bmM6aHVudGVyMg=="}


async def test_what_was_taken_in_is_a_version_of_the_knowledge_base(alice: Client, seven: Instance):
    await synced(alice, await made(alice, seven.config()))
    (record, *rest) = (await alice.get(f"{KB}/incidents")).json["incidents"]
    assert record == {
        "incident_id": "INC7001",
        "title": "Printer 7001 is on fire",
        "description": "It burns.",
        "action_taken": "Poured water on it.",
        "opened_at": "2025-03-30 07:00:00",
        "updated_at": "2025-03-31 08:00:00",
        "source": "servicenow",
    }
    assert len(rest) == 6
    version = (await alice.get(f"{KB}/versions/active")).json["version"]
    assert (version["version_number"], version["incident_count"]) == (1, 7)
    assert (version["source"], version["notes"]) == ("servicenow", "ServiceNow sync - 7 incidents")


async def test_the_next_sync_takes_what_changed_and_tells_of_nothing_else(
    alice: Client, seven: Instance, clock: ManualClock
):
    integration_id = await made(alice, seven.config())
    await synced(alice, integration_id)
    clock.advance(60)
    asked = len(seven.asked)
    *_, before, (_, end) = await synced(alice, integration_id)
    assert before == ("progress", NOTHING)
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert end["stats"] == {"added": 0, "total": 0, "last_synced": now}
    assert end["integration"]["last_synced_at"] == end["integration"]["config"]["lastSynced"] == now
    assert seven.asked[asked]["sysparm_query"].startswith("sys_updated_on>=2025-03-31 07:59:55^")
    assert (await alice.get(f"{KB}/versions")).json["total"] == 1
    seven.incidents += [
        incident(7001, "2025-03-31 09:00:00", state="6"),
        incident(7008, "2025-03-31 09:30:00"),
    ]
    found = await synced(alice, integration_id)
    assert [data["incidents"] for _, data in found if "incidents" in data] == [["INC7001", "INC7008"]]
    assert found[-1][1]["stats"] == {"added": 1, "total": 2, "last_synced": now}
    assert (await alice.get(f"{KB}/versions/active")).json["version"]["incident_count"] == 8


async def test_a_client_may_want_other_batches(alice: Client, seven: Instance):
    found = await synced(alice, await made(alice, seven.config()), "?batch_size=4")
    assert [len(data["incidents"]) for _, data in found if "incidents" in data] == [4, 3]


async def test_batches_do_not_break_where_pages_do(alice: Client, instance: Instance):
    instance.incidents = [incident(10_000 + number) for number in range(1_203)]
    found = await synced(alice, await made(alice, instance.config()))
    batches = [data for _, data in found if "incidents" in data]
    assert [data["batch"] for data in batches] == list(range(1, 242))
    assert {len(data["incidents"]) for data in batches[:-1]} == {5}
    told = [number for data in batches for number in data["incidents"]]
    assert sorted(told) == [row["number"] for row in instance.incidents]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"lastSynced": "2025-03-31T08:30:00Z"}, {"lastSynced": "%Y-%m-%dT%H:%M:%SZ"}),
        ({"lastSynced": "2025-03-31 08:30:00"}, {"lastSynced": "%Y-%m-%d %H:%M:%S"}),
        ({"last_synced": "2025-03-31 08:30:00"}, {"last_synced": "%Y-%m-%d %H:%M:%S"}),
        ({"last_synced": "2025-03-31T10:30:00+02:00"}, {"last_synced": "%Y-%m-%dT%H:%M:%SZ"}),
    ],
)
async def test_a_client_may_say_from_when_on_in_either_form_and_reads_it_in_its_own(
    alice: Client, seven: Instance, clock: ManualClock, given: dict[str, str], kept: dict[str, str]
):
    seven.incidents.append(incident(7008, "2025-03-31 09:00:00"))
    integration_id = await made(alice, seven.config(**given))
    shown = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]["config"]
    assert {name: shown[name] for name in given} == given
    found = await synced(alice, integration_id)
    assert [data["incidents"] for _, data in found if "incidents" in data] == [["INC7008"]]
    config = found[-1][1]["integration"]["config"]
    assert {name: config[name] for name in kept} == {
        name: clock.now().strftime(form) for name, form in kept.items()
    }
    assert len(config) == 4


async def test_a_client_may_go_back_in_time(alice: Client, seven: Instance):
    integration_id = await made(alice, seven.config())
    await synced(alice, integration_id)
    shown = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]["config"]
    same = await alice.put(f"/integrations/update/{integration_id}", written(shown))
    assert same.json["integration"]["config"] == shown
    await synced(alice, integration_id)
    assert "1970" not in seven.asked[-1]["sysparm_query"]
    del shown["lastSynced"]
    await alice.put(f"/integrations/update/{integration_id}", written(shown))
    asked = len(seven.asked)
    await synced(alice, integration_id)
    assert "1970" in seven.asked[asked]["sysparm_query"]


async def refused(alice: Client, integration_id: str) -> str:
    (frame,) = await synced(alice, integration_id)
    assert frame[0] == "error"
    assert frame[1].keys() == {"success", "message"}
    assert frame[1]["success"] is False
    return str(frame[1]["message"])


async def test_what_cannot_be_synced_says_why_in_a_frame(alice: Client, instance: Instance):
    missing = "Missing ServiceNow configuration (url, username, password)"
    for left_out in ("url", "username", "password"):
        config = {name: text for name, text in instance.config().items() if name != left_out}
        integration_id = await made(alice, config)
        assert await refused(alice, integration_id) == missing
        shown = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]
        assert (shown["last_sync_status"], shown["last_sync_error"]) == ("error", missing)
        assert shown["last_synced_at"] is None
    assert await refused(alice, await made(alice, instance.config(url="not a url"))) == missing
    sleeping = await made(alice, instance.config(), is_active=False)
    assert await refused(alice, sleeping) == "Integration is not active"
    other = await made(alice, instance.config(), service_name="Home-made")
    assert await refused(alice, other) == "No connector for Home-made: it cannot be synced"
    assert await refused(alice, alice.workspace_id) == "Integration not found"
    assert await refused(alice, "no-uuid") == "Error occurred while syncing integration of ID no-uuid"
    assert instance.asked == []


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, "Authentication failed \u2014 check credentials"),
        (429, "ServiceNow rate limit exceeded \u2014 retry later"),
        (403, "ServiceNow API error 403: No rights"),
    ],
)
async def test_a_failed_fetch_is_told_and_written_down(
    alice: Client, seven: Instance, clock: ManualClock, status: int, cause: str
):
    integration_id = await made(alice, seven.config())
    await synced(alice, integration_id)
    before = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]
    clock.advance(60)
    seven.says = (status, {"error": {"message": "No rights"}})
    found = await synced(alice, integration_id)
    message = f"Failed to fetch incidents from ServiceNow: {cause}"
    assert [name for name, _ in found] == ["progress", "error"]
    assert found[-1][1] == {"success": False, "message": message}
    after = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]
    assert after == before | {"last_sync_status": "error", "last_sync_error": message}
    seven.says = None
    *_, (_, end) = await synced(alice, integration_id)
    assert (end["integration"]["last_sync_status"], end["integration"]["last_sync_error"]) == (
        "success",
        None,
    )


async def test_two_syncs_at_once_are_one(alice: Client, seven: Instance):
    integration_id = await made(alice, seven.config())
    path = f"/integrations/sync/{integration_id}"
    await alice.post(path)
    (busy,) = frames(await alice.send("POST", path, stays=True))
    message = "A sync is already in progress for this integration. Please wait."
    assert busy == ("error", {"success": False, "message": message})
    await settle(alice.hub.app)
    shown = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]
    assert (shown["last_sync_status"], shown["last_sync_error"]) == ("success", None)


async def test_a_sync_has_its_turn_after_that_of_another_integration(alice: Client, seven: Instance):
    first = await made(alice, seven.config())
    second = await made(alice, seven.config(), service_name="servicenow")
    await alice.post(f"/integrations/sync/{first}")
    found = await synced(alice, second)
    assert [name for name, _ in found] == ["progress", "progress", "complete"]
    shown = (await alice.get("/integrations/all")).json["integrations"]
    assert [each["last_sync_status"] for each in shown] == ["success", "success"]


async def test_one_that_is_switched_off_while_it_waits_is_not_synced(alice: Client, seven: Instance):
    first, second = await made(alice, seven.config()), await made(alice, seven.config())
    await alice.post(f"/integrations/sync/{first}")
    waiting = asyncio.create_task(alice.send("POST", f"/integrations/sync/{second}", stays=True))
    await asyncio.sleep(0)
    await alice.put(f"/integrations/update/{second}", written(seven.config(), is_active=False))
    await settle(alice.hub.app)
    assert frames(await waiting)[-1] == ("error", {"success": False, "message": "Integration is not active"})


async def test_the_run_waits_for_nobody_who_watches(alice: Client, seven: Instance):
    integration_id = await made(alice, seven.config())
    left = await alice.send("POST", f"/integrations/sync/{integration_id}")
    assert left.status == 200
    await settle(alice.hub.app)
    shown = (await alice.get(f"/integrations/id/{integration_id}")).json["integration"]
    assert shown["last_sync_status"] == "success"
    assert (await alice.get(f"{KB}/versions/active")).json["version"]["incident_count"] == 7


async def test_two_integrations_fill_one_knowledge_base(alice: Client, seven: Instance):
    """One begins where it ended only if nobody else came in between; what the other brought stays."""
    first = await made(alice, seven.config())
    second = await made(alice, seven.config(), service_name="servicenow")
    await synced(alice, first)
    seven.incidents = [incident(8001)]
    asked = len(seven.asked)
    found = await synced(alice, second)
    assert "1970" in seven.asked[asked]["sysparm_query"]
    assert found[-1][1]["stats"]["added"] == 1
    assert (await alice.get(f"{KB}/versions/active")).json["version"]["incident_count"] == 8
    asked = len(seven.asked)
    await synced(alice, first)
    assert "1970" in seven.asked[asked]["sysparm_query"]


async def test_no_run_takes_out_what_another_source_has(alice: Client, seven: Instance):
    await synced(alice, await made(alice, seven.config()))
    seven.incidents = seven.incidents[:3]
    await synced(alice, await made(alice, seven.config()))
    dataset = (await alice.get("/v1/{ws}/datasets")).json["items"][0]
    runs = f"/v1/{{ws}}/datasets/{dataset['id']}/runs"
    refused = await alice.post(runs, {"mode": "full"})
    assert (refused.status, refused.json["detail"][0]["loc"]) == (422, ["body", "mode"])
    run = (await alice.post(runs, {})).json
    assert run["mode"] == "incremental"
    await settle(alice.hub.app)
    ended = (await alice.get(f"{runs}/{run['id']}")).json
    assert (ended["state"], ended["fetched"], ended["removed"]) == ("succeeded", 3, 0)
    assert len((await alice.get(f"/v1/{{ws}}/datasets/{dataset['id']}/records")).json["items"]) == 7


async def test_after_a_roll_back_the_sync_goes_on_from_there(alice: Client, seven: Instance):
    integration_id = await made(alice, seven.config())
    await synced(alice, integration_id)
    seven.incidents.append(incident(7008, "2025-04-02 09:00:00"))
    await synced(alice, integration_id)
    *_, first = (await alice.get(f"{KB}/versions")).json["versions"]
    back = await alice.post(f"{KB}/versions/{first['id']}/rollback", {"notes": "bad data"})
    assert back.json == {"success": True, "message": "Rolled back to version 1", "version_id": first["id"]}
    assert len((await alice.get(f"{KB}/incidents")).json["incidents"]) == 7
    found = await synced(alice, integration_id)
    assert [data["incidents"] for _, data in found if "incidents" in data] == [["INC7008"]]


@pytest.mark.parametrize(
    ("auth_type", "more", "sent"),
    [
        ("api_token", {"email": "a@b.example", "api_token": "t0"}, "Basic YUBiLmV4YW1wbGU6dDA="),
        ("oauth2", {"access_token": "at-1"}, "Bearer at-1"),
        ("pat", {"token": "pat-1"}, "Bearer pat-1"),
    ],
)
async def test_every_kind_of_auth_reaches_the_service(
    alice: Client, seven: Instance, auth_type: str, more: dict[str, str], sent: str
):
    integration_id = await made(alice, {"url": seven.url, **more}, auth_type=auth_type)
    *_, (_, end) = await synced(alice, integration_id)
    assert end["stats"]["added"] == 7
    assert set(seven.credentials) == {sent}
    assert not any(json.dumps(secret) in json.dumps(end) for secret in ("t0", "at-1", "pat-1"))
