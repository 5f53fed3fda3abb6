"""Supportbot's knowledge base: an upload checked, mapped and taken in; records, the log; versions and roll back."""

import json
from typing import Any

import pytest
from supportbot_stories import KB, Instance, frames, incident, made, synced, watch

from http_asgi import Client
from trunkline.clock import ManualClock


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"incident_id": f"I{number}", "title": f"Fire {number}", "description": "It burns.", **more}


async def uploaded(caller: Client, *records: Any, name: str = "a.json") -> dict[str, Any]:
    content = records[0] if name.endswith(".csv") else json.dumps(records)
    reply = await caller.post(f"{KB}/upload", {"files": [{"filename": name, "size": 1, "content": content}]})
    assert reply.status == 200, reply.text
    return dict(reply.json)


async def ingested(caller: Client, session_id: str, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    return frames(await watch(caller, f"{KB}/ingest", {"session_id": session_id, **more}))


async def taken_in(caller: Client, *records: Any, **more: Any) -> dict[str, Any]:
    """Take records in and return the last frame."""
    session_id = (await uploaded(caller, *records))["session_id"]
    await caller.post(f"{KB}/validate/{session_id}")
    *_, (name, end) = await ingested(caller, session_id, **more)
    assert name == "complete", end
    return end


async def titles(caller: Client) -> list[str]:
    return [row["title"] for row in (await caller.get(f"{KB}/incidents")).json["incidents"]]


async def test_an_upload_goes_from_file_to_version(alice: Client, clock: ManualClock):
    sent = await uploaded(alice, *(record(number) for number in range(12)), record(3))
    assert sent == {
        "success": True,
        "session_id": sent["session_id"],
        "status": "uploaded",
        "incident_count": 13,
        "file_metadata": [{"filename": "a.json", "size": sent["file_metadata"][0]["size"], "rows": 13}],
        "preview": [record(number) for number in range(10)],
    }
    report = (await alice.post(f"{KB}/validate/{sent['session_id']}")).json
    assert (report["session_id"], report["status"]) == (sent["session_id"], "validated")
    assert (report["total_records"], report["valid_count"], report["error_count"]) == (13, 12, 0)
    assert (report["errors"], report["file_fields"]) == ([], ["incident_id", "title", "description"])
    found = await ingested(alice, sent["session_id"], notes="first")
    assert [data["message"] for name, data in found if name == "progress"] == [
        "Ingesting 12 incidents in 3 batch(es)...",
        "Batch 1 of 3 processed (5 incidents)",
        "Batch 2 of 3 processed (5 incidents)",
        "Batch 3 of 3 processed (2 incidents)",
    ]
    end = found[-1][1]
    assert end == {
        "success": True,
        "version_id": end["version_id"],
        "version_number": 1,
        "collection_name": f"incidents_v_1_{end['version_id'][:8]}",
        "incident_count": 12,
    }
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    version = (await alice.get(f"{KB}/versions/{end['version_id']}")).json["version"]
    assert version == {
        "id": end["version_id"],
        "version_number": 1,
        "collection_name": end["collection_name"],
        "status": "active",
        "is_active": True,
        "incident_count": 12,
        "file_metadata": sent["file_metadata"],
        "source": "upload",
        "snapshot_name": None,
        "upload_session_id": sent["session_id"],
        "uploader_email": version["uploader_email"],
        "notes": "first",
        "activated_at": now,
        "created_at": now,
        "updated_at": now,
    }


async def test_faults_are_told_and_mended_by_a_mapping(alice: Client):
    sent = await uploaded(alice, "Ticket;title;description\nI1;Fire;Hot\nI2;;Hot\n", name="a.csv")
    report = (await alice.post(f"{KB}/validate/{sent['session_id']}")).json
    assert (report["status"], report["valid_count"]) == ("has_errors", 0)
    assert report["errors"][0]["field"] == "incident_id"
    (refused,) = await ingested(alice, sent["session_id"])
    assert refused[1]["message"].startswith("None of the rows is valid")
    mapping = {"session_id": sent["session_id"], "mapping": {"Ticket": "incident_id"}}
    report = (await alice.post(f"{KB}/validate/{sent['session_id']}/map-fields", mapping)).json
    assert report["errors"] == [
        {"file": "a.csv", "row": 2, "field": "title", "message": "must not be empty", "value": ""}
    ]
    assert (report["status"], report["valid_count"], report["error_count"]) == ("has_errors", 1, 1)
    *_, (_, end) = await ingested(alice, sent["session_id"])
    assert end["incident_count"] == 1
    dataset = (await alice.get("/v1/{ws}/datasets")).json["items"][0]
    kept = (await alice.get(f"/v1/{{ws}}/datasets/{dataset['id']}/quarantine")).json["items"]
    assert [item["reason"] for item in kept] == ["title: must not be empty"]


async def test_an_upload_is_taken_in_once_and_only_when_it_was_checked(alice: Client):
    session_id = (await uploaded(alice, record(1)))["session_id"]
    (early,) = await ingested(alice, session_id)
    assert early == ("error", {"success": False, "message": "Validate this upload first."})
    await alice.post(f"{KB}/validate/{session_id}")
    await ingested(alice, session_id)
    (late,) = await ingested(alice, session_id)
    assert late[1]["message"] == "This upload was taken in already; upload the files again."
    (absent,) = await ingested(alice, alice.workspace_id)
    assert absent[1]["message"] == "Upload not found"


async def test_what_is_there_already_makes_no_version(alice: Client):
    first = await taken_in(alice, record(1))
    again = await taken_in(alice, record(1))
    assert (again["version_id"], again["incident_count"]) == (first["version_id"], 1)
    assert (await alice.get(f"{KB}/versions")).json["total"] == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.exe", "x", "a.exe: must end in"),
        ("a.json", "{", "a.json: is not JSON"),
        ("a.csv", "a", "a.csv: has no rows"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused(alice: Client, name: str, content: str, said: str):
    reply = await alice.post(f"{KB}/upload", {"files": [{"filename": name, "content": content}]})
    assert (reply.status, reply.json["success"]) == (200, False)
    assert reply.json["message"].startswith(said)


async def test_records_are_listed_logged_and_deleted(alice: Client, instance: Instance, clock: ManualClock):
    await taken_in(alice, record(1, action_taken="Poured water."), record(2))
    instance.incidents = [incident(7001)]
    await synced(alice, await made(alice, instance.config()))
    listed = (await alice.get(f"{KB}/incidents?limit=2&offset=1")).json
    assert (listed["success"], listed["limit"], listed["offset"]) == (True, 2, 1)
    assert [(row["incident_id"], row["source"]) for row in listed["incidents"]] == [
        ("I2", "upload"),
        ("INC7001", "servicenow"),
    ]
    log = (await alice.get(f"{KB}/logs?limit=2")).json["logs"]
    now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert log[0] == {
        "id": log[0]["id"],
        "incident_id": "INC7001",
        "title": "Printer 7001 is on fire",
        "source": "servicenow",
        "created_at": now,
    }
    assert [entry["source"] for entry in log] == ["servicenow", "upload"]
    gone = await alice.delete(f"{KB}/incidents/I2")
    assert gone.json == {"success": True, "message": "Incident deleted successfully"}
    again = await alice.delete(f"{KB}/incidents/I2")
    assert again.json == {"success": False, "message": "Incident not found"}
    assert await titles(alice) == ["Fire 1", "Printer 7001 is on fire"]


async def test_before_anything_came_in_everything_is_empty(alice: Client):
    empty = {"success": True, "versions": [], "total": 0, "active_version_id": None}
    assert (await alice.get(f"{KB}/versions")).json == empty
    assert (await alice.get(f"{KB}/versions/active")).json == {"success": True, "version": None}
    assert (await alice.get(f"{KB}/incidents")).json["incidents"] == []
    assert (await alice.get(f"{KB}/logs")).json == {"success": True, "logs": []}
    assert (await alice.delete(f"{KB}/incidents/I1")).json["message"] == "Incident not found"


async def test_an_older_version_can_be_active_again(alice: Client):
    first = await taken_in(alice, record(1))
    second = await taken_in(alice, record(1, title="Flood"), record(2))
    assert second["incident_count"] == 2
    assert await titles(alice) == ["Flood", "Fire 2"]
    path = f"{KB}/versions/{first['version_id']}/rollback"
    wanted = {"success": True, "message": "Rolled back to version 1", "version_id": first["version_id"]}
    assert (await alice.post(path)).json == wanted
    assert (await alice.post(path, {"notes": "again"})).json == wanted
    assert await titles(alice) == ["Fire 1"]
    listed = (await alice.get(f"{KB}/versions?limit=1")).json
    assert (listed["total"], listed["active_version_id"]) == (2, first["version_id"])
    assert [(row["version_number"], row["status"]) for row in listed["versions"]] == [(2, "inactive")]
    third = await taken_in(alice, record(3))
    assert (third["version_number"], third["incident_count"]) == (3, 2)
    assert await titles(alice) == ["Fire 1", "Fire 3"]


async def test_versions_that_cannot_be_active_or_deleted_say_why(alice: Client):
    first = await taken_in(alice, record(1))
    active = await taken_in(alice, record(2))
    reply = await alice.delete(f"{KB}/versions/{active['version_id']}")
    assert (reply.status, reply.json) == (400, {"detail": "Cannot delete the active version"})
    reply = await alice.delete(f"{KB}/versions/{first['version_id']}")
    assert reply.json == {"success": True, "message": "Version deleted"}
    reply = await alice.post(f"{KB}/versions/{first['version_id']}/rollback")
    text = "Cannot activate an archived version (collection deleted)"
    assert (reply.status, reply.json) == (400, {"detail": text})
    for absent in (alice.workspace_id, "no-uuid"):
        reply = await alice.get(f"{KB}/versions/{absent}")
        assert (reply.status, reply.json) == (404, {"detail": "Version not found"})
        reply = await alice.post(f"{KB}/versions/{absent}/rollback", {})
        assert (reply.status, reply.json) == (400, {"detail": "Version not found"})
        assert (await alice.delete(f"{KB}/versions/{absent}")).status == 404


async def test_a_run_that_failed_leaves_a_failed_version_or_none(alice: Client, instance: Instance):
    await taken_in(alice, record(1))
    instance.says = (403, {"error": {"message": "No"}})
    await synced(alice, await made(alice, instance.config()))
    failed, active = (await alice.get(f"{KB}/versions")).json["versions"]
    assert (failed["status"], active["status"]) == ("failed", "active")
    reply = await alice.post(f"{KB}/versions/{failed['id']}/rollback")
    assert (reply.status, reply.json) == (400, {"detail": "Cannot activate a failed version"})
