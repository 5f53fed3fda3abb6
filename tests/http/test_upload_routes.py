"""Uploads over the native API: from files to a version, what is wrong with them, and what nobody may do twice."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from http_asgi import Client, Reply
from run_stories import settle
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.http.app import Hub
from trunkline.http.server import open_app
from trunkline.services import api_keys, uploads
from trunkline.settings import Settings

UPLOADS = "/v1/{ws}/uploads"
DATASETS = "/v1/{ws}/datasets"
HEADER = "incident_id,title,description"
GOOD = {"incident_id": "I1", "title": "Fire", "description": "It burns."}
DEEP = '[{"incident_id": "I2", "more": ' + "[" * 300 + "]" * 300 + "}, " + json.dumps(GOOD) + "]"


def body_of(content: str | bytes, name: str = "a.csv", **more: Any) -> dict[str, Any]:
    file = {"filename": name, "content": content}
    if isinstance(content, bytes):
        file = {"filename": name, "content": base64.b64encode(content).decode(), "encoding": "base64"}
    return {"files": [file], **more}


async def uploaded(caller: Client, content: str | bytes, name: str = "a.csv", **more: Any) -> str:
    made = await caller.post(UPLOADS, body_of(content, name, **more))
    assert made.status == 201, made.text
    return f"{UPLOADS}/{made.json['id']}"


async def reported(caller: Client, path: str) -> dict[str, Any]:
    checked = await caller.post(f"{path}/validate")
    assert checked.status == 200, checked.text
    report: dict[str, Any] = checked.json["report"]
    return report


async def taken_in(caller: Client, path: str, **body: Any) -> dict[str, Any]:
    """Take an upload in and return its run, which has ended."""
    begun = await caller.post(f"{path}/ingest", body)
    assert begun.status == 202, begun.text
    await settle(caller.hub.app)
    run: dict[str, Any] = (
        await caller.get(f"{DATASETS}/{begun.json['dataset_id']}/runs/{begun.json['run_id']}")
    ).json
    return run | {"dataset_id": begun.json["dataset_id"]}


async def test_an_upload_becomes_a_version_of_the_knowledge_base(alice: Client):
    path = await uploaded(alice, f"{HEADER}\nI1,Fire,It burns.\nI2,Flood,It leaks.\n")
    assert ((await alice.get(path)).json["status"], (await alice.get(path)).json["report"]) == (
        "uploaded",
        None,
    )
    assert (await reported(alice, path))["valid_count"] == 2
    run = await taken_in(alice, path, notes="by hand")
    assert (run["state"], run["mode"], run["version"], run["added"]) == ("succeeded", "upload", 1, 2)
    version = (await alice.get(f"{DATASETS}/{run['dataset_id']}/versions/1")).json
    assert (version["status"], version["source"], version["notes"], version["total"]) == (
        "active",
        "upload",
        "by hand",
        2,
    )
    shown = (await alice.get(path)).json
    assert (shown["status"], shown["run_id"], shown["dataset_id"]) == (
        "ingested",
        run["id"],
        run["dataset_id"],
    )
    stream = await alice.get(f"{DATASETS}/{run['dataset_id']}/runs/{run['id']}/stream", stays=True)
    told = [line.removeprefix("event: ") for line in stream.text.splitlines() if line.startswith("event")]
    assert told == ["progress", "complete"]


async def test_a_dataset_may_have_a_key_of_its_own_and_what_it_has_stays(alice: Client):
    dataset = (await alice.post(DATASETS, {"name": "people", "params": {"key": "email"}})).json["id"]
    for name, content in (
        ("a.json", '[{"email": "a@b", "age": 7}]'),
        ("b.jsonl", '{"email": "a@b", "age": 8}\n{"email": "c@d"}\n'),
    ):
        path = await uploaded(alice, content, name, dataset_id=dataset)
        await reported(alice, path)
        run = await taken_in(alice, path)
    assert (run["version"], run["added"], run["changed"]) == (2, 1, 1)
    found = (await alice.get(f"{DATASETS}/{dataset}/records/a@b")).json
    assert found["record"] == {"email": "a@b", "age": 8}


async def test_a_wrong_header_is_mended_by_a_mapping(alice: Client):
    path = await uploaded(alice, "Ticket,Subject,description\nI1,Fire,It burns.\n")
    report = await reported(alice, path)
    assert (report["status"], [item["field"] for item in report["errors"]]) == (
        "has_errors",
        ["incident_id", "title"],
    )
    assert (await alice.post(f"{path}/ingest", {})).status == 409
    wrong = await alice.post(f"{path}/map", {"mapping": {"Tickets": "incident_id"}})
    assert (wrong.status, wrong.json["detail"][0]["loc"]) == (422, ["body", "mapping", "Tickets"])
    mapped = await alice.post(f"{path}/map", {"mapping": {"Ticket": "incident_id", "Subject": "title"}})
    assert mapped.json["report"]["preview"] == [GOOD]
    assert (await taken_in(alice, path))["added"] == 1


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (f"{HEADER}\nI1\0,Fire,x\nI2,Fire,x\n", "a.csv", "must not hold the character U+0000"),
        (f"{HEADER}\nI1,Fire,{'x' * 10_000_000}\nI2,Fire,x\n", "a.csv", "has 10000000 characters"),
        (f"{HEADER}\nI1,Fire\nI2,Fire,x\n", "a.csv", "has 2 cells; the header has 3"),
        (json.dumps([GOOD | {"a\0": 1}, GOOD]), "a.json", "none of them U+0000"),
        (json.dumps([GOOD | {"a": ["\0"]}, GOOD]), "a.json", "must not hold the character U+0000"),
        (json.dumps(["\0", GOOD]), "a.json", "must be an object"),
        (DEEP, "a.json", "is nested too deep"),
        (f'{{"a":{DEEP}}}\n{json.dumps(GOOD)}\n', "a.jsonl", "is nested too deep"),
    ],
)
async def test_a_bad_row_goes_to_the_quarantine_and_the_others_in(
    alice: Client, content: str, name: str, said: str
):
    path = await uploaded(alice, content, name)
    report = await reported(alice, path)
    assert (report["valid_count"], report["error_count"]) == (1, 1)
    assert said in report["errors"][0]["message"]
    run = await taken_in(alice, path)
    assert (run["state"], run["error"], run["added"], run["quarantined"]) == ("succeeded", None, 1, 1)
    held = (await alice.get(f"{DATASETS}/{run['dataset_id']}/quarantine")).json["items"]
    assert said in held[0]["reason"]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("", "a.csv", "has no header"),
        (HEADER, "a.csv", "has no rows"),
        ("incident_id,title,title\n", "a.csv", "names a column twice: title"),
        ("", "a.json", "is not JSON"),
        ("[]", "a.json", "has no rows"),
        ("[" * 5_000 + "]" * 5_000, "a.json", "is not JSON"),
        (f"{HEADER}\nI1,Größe,x\n".encode("latin-1"), "a.csv", "is not UTF-8 text at byte 35"),
        (b"\xff\xfea", "a.csv", "is not UTF-16 text"),
        ("x", "a.xlsx", "must end in .json, .jsonl, .ndjson, .csv or .tsv"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_by_name(
    alice: Client, content: str | bytes, name: str, said: str
):
    reply = await alice.post(UPLOADS, body_of(content, name))
    assert reply.status == 422, reply.text
    (fault,) = reply.json["detail"]
    assert fault["loc"][:3] == ["body", "files", 0]
    assert fault["msg"].startswith(f"{name}: {said}")


async def test_an_upload_is_taken_in_once_and_only_when_it_was_checked(alice: Client):
    path = await uploaded(alice, f"{HEADER}\nI1,Fire,x\n")
    assert _refused(await alice.post(f"{path}/ingest", {})) == "Validate this upload first."
    await reported(alice, path)
    await alice.post(f"{path}/ingest", {})
    for again in ("validate", "map", "ingest"):
        reply = await alice.post(f"{path}/{again}", {"mapping": {}})
        assert _refused(reply) == "This upload was taken in already; upload the files again."


def _refused(reply: Reply) -> str:
    assert (reply.status, reply.json["error_code"]) == (409, "conflict"), reply.text
    return str(reply.json["detail"])


async def test_while_a_run_is_under_way_another_upload_waits_its_turn(alice: Client):
    first, second = [await uploaded(alice, f"{HEADER}\nI{number},Fire,x\n") for number in (1, 2)]
    for path in (first, second):
        await reported(alice, path)
    await alice.post(f"{first}/ingest", {})
    assert "already in progress" in _refused(await alice.post(f"{second}/ingest", {}))
    await settle(alice.hub.app)
    assert (await taken_in(alice, second))["version"] == 2


async def test_what_nobody_took_in_is_gone_after_a_week(alice: Client, clock: ManualClock):
    path = await uploaded(alice, f"{HEADER}\nI1,Fire,x\n")
    clock.advance(uploads.KEPT.total_seconds() + 1)
    await uploaded(alice, f"{HEADER}\nI1,Fire,x\n")
    assert (await alice.get(path)).status == 404


async def test_whoever_only_reads_uploads_nothing(alice: Client):
    path = await uploaded(alice, f"{HEADER}\nI1,Fire,x\n")
    viewer = await alice.key_with("viewer")
    assert (await viewer.get(path)).status == 200
    for refused in (UPLOADS, f"{path}/validate", f"{path}/map", f"{path}/ingest"):
        assert (await viewer.post(refused, body_of("x"))).status == 403


@pytest.fixture
async def narrow(settings: Settings, fresh_sqlite, clock: ManualClock) -> AsyncIterator[App]:
    """A hub that takes small uploads only."""
    async with open_app(replace(fresh_sqlite(settings), max_upload_bytes=2_000), clock) as app:
        yield app


async def test_an_upload_has_a_limit_of_its_own(narrow: App):
    made = await api_keys.create_workspace(narrow, "Narrow")
    caller = Client(Hub(narrow), made["api_key"], made["id"])
    assert (await caller.post(UPLOADS, body_of(f"{HEADER}\nI1,Fire,{'x' * 1_500}"))).status == 201
    reply = await caller.post(UPLOADS, body_of("x" * 2_000))
    assert (reply.status, reply.json["detail"][0]["loc"]) == (413, ["body"])
    assert "TRUNKLINE_MAX_UPLOAD_BYTES" in reply.text
