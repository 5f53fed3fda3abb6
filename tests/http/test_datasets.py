"""Datasets over HTTP: made, changed, deleted; their versions, diffs and roll backs; records, changes, exports, quarantine."""

from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import sqlalchemy as sa

from http_asgi import Client, Reply
from trunkline.context import App
from trunkline.http.native.datasets import DatasetResponse
from trunkline.services import quarantine, versions
from trunkline.services.versions import to_row
from trunkline.tables import datasets as dataset_rows

PATH = "/v1/{ws}/datasets"
DEFAULT_GATE = {"deletes": 0.3, "rows": 0.5, "empty": 0.5, "schema": True}


async def made(alice: Client, **fields: Any) -> dict[str, Any]:
    reply = await alice.post(PATH, {"name": "things"} | fields)
    assert reply.status == 201, reply.text
    return reply.json


async def number_of(app: App, dataset: dict[str, Any]) -> int:
    query = sa.select(dataset_rows.c.number).where(dataset_rows.c.id == dataset["id"])
    return await app.db.read(lambda conn: conn.execute(query).scalar_one())


async def fill(app: App, dataset: dict[str, Any], rows: dict[str, Any], *gone: str) -> None:
    """Make a version of a dataset, as a run would."""
    number = await number_of(app, dataset)

    def write(conn: sa.Connection) -> None:
        at = versions.begin(conn, number, app.clock.now(), source="test").number
        versions.write_page(conn, number, at, [to_row(key, record) for key, record in rows.items()])
        versions.remove(conn, number, at, gone)
        versions.finish(conn, number, at, app.clock.now(), cursor={"at": at})

    await app.db.write(write)


def path(dataset: dict[str, Any], *more: str | int) -> str:
    return "/".join([PATH, dataset["id"], *(str(each) for each in more)])


def faults(reply: Reply) -> dict[str, str]:
    assert reply.status == 422, reply.text
    return {".".join(map(str, item["loc"])): item["msg"] for item in reply.json["detail"]}


async def download(alice: Client, target: str) -> tuple[dict[str, str], bytes]:
    """Read a stream to its end."""
    async with alice.stream(target) as incoming:
        assert incoming.status == 200
        body = b""
        while (message := await incoming._messages.get()).get("more_body"):
            body += message["body"]
        return incoming.headers, body


async def test_a_dataset_is_made_shown_listed_and_changed(alice: Client):
    dataset = await made(alice, gate={"deletes": 0.1}, params={"project": "shop"})
    assert dataset["gate"] == DEFAULT_GATE | {"deletes": 0.1}
    assert (dataset["active_version"], dataset["newest_version"], dataset["schedule"]) == (None, 0, None)
    assert (await alice.get(path(dataset))).json == dataset
    assert (await alice.get(PATH)).json["items"] == [dataset]
    changed = (await alice.put(path(dataset), {"name": "other", "gate": {"rows": None}})).json
    assert (changed["name"], changed["params"]) == ("other", {"project": "shop"})
    assert changed["gate"] == DEFAULT_GATE | {"deletes": 0.1, "rows": None}
    assert changed["updated_at"] != dataset["updated_at"]
    assert (await alice.delete(path(dataset))).status == 204
    assert (await alice.get(path(dataset))).status == 404


async def test_a_dataset_of_a_stream_has_a_schedule(alice: Client):
    config = {"url": "https://example.service-now.com"}
    credentials = {"method": "token", "values": {"bearer_token": "t"}}
    given = {"connector": "servicenow", "config": config, "credentials": credentials}
    integration = await alice.integration(**given)
    source = {"integration_id": integration["id"], "stream": "incidents"}
    dataset = await made(alice, **source, schedule={"every_seconds": 300})
    assert (dataset["schedule"], dataset["next_run_at"]) == ({"every_seconds": 300}, dataset["created_at"])
    found = (await alice.get(f"{PATH}?integration_id={integration['id']}")).json
    assert [each["id"] for each in found["items"]] == [dataset["id"]]
    daily = {"cron": "0 6 * * *", "timezone": "Europe/Vienna"}
    changed = (await alice.put(path(dataset), {"schedule": daily})).json
    assert changed["schedule"] == daily
    assert changed["next_run_at"].endswith("T05:00:00Z")
    none = (await alice.put(path(dataset), {"schedule": {}})).json
    assert (none["schedule"], none["next_run_at"]) == (None, None)
    wrong = await alice.post(PATH, {"name": "x"} | source | {"stream": "nothing"})
    assert faults(wrong)["body.stream"].startswith("must be one of ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.name"),
        ({"name": ""}, "body.name"),
        ({"name": "x" * 129}, "body.name"),
        ({"name": "x\0"}, "body.name"),
        ({"name": "x", "stream": "incidents"}, "body.integration_id"),
        ({"name": "x", "integration_id": "00000000-0000-4000-8000-000000000000"}, "body.integration_id"),
        ({"name": "x", "schedule": {"every_seconds": 300}}, "body.schedule"),
        ({"name": "x", "gate": {"deletes": 2}}, "body.gate.deletes"),
        ({"name": "x", "surprise": 1}, "body.surprise"),
    ],
)
async def test_what_is_wrong_with_a_dataset_is_named(alice: Client, body: dict[str, Any], field: str):
    assert field in faults(await alice.post(PATH, body))


async def test_names_are_taken_once_in_a_workspace(alice: Client, charlie: Client):
    await made(alice)
    taken = await alice.post(PATH, {"name": "things"})
    assert (taken.status, taken.json["detail"]) == (409, "There is a dataset named 'things' already.")
    other = await made(alice, name="other")
    assert (await alice.put(path(other), {"name": "things"})).status == 409
    await made(charlie)


async def test_versions_are_listed_compared_and_rolled_back(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {"a": {"n": 1}, "b": {"n": 1}, "c": {}, "d": {}})
    await fill(app, dataset, {"a": {"n": 2}, "e": {}}, "b")
    shown = (await alice.get(path(dataset, "versions"))).json
    assert [(each["number"], each["status"], each["total"]) for each in shown["items"]] == [
        (2, "active", 4),
        (1, "inactive", 4),
    ]
    one = (await alice.get(path(dataset, "versions", 2))).json
    assert (one["added"], one["changed"], one["removed"], one["base"]) == (1, 1, 1, 1)
    assert one["fields"]["names"]["n"] == {"number": 1}
    diff = (await alice.get(path(dataset, "diff?from=1&to=2&limit=2"))).json
    assert [(each["key"], each["change"], each["fields"]) for each in diff["items"]] == [
        ("a", "changed", ["n"]),
        ("b", "removed", []),
    ]
    rest = (await alice.get(path(dataset, f"diff?from=1&to=2&after={diff['after']}"))).json
    assert [(each["key"], each["after"]) for each in rest["items"]] == [("e", {})]
    assert (rest["has_more"], rest["after"]) == (False, None)
    back = await alice.post(path(dataset, "versions", 1, "rollback"), {"notes": "Too many are gone."})
    assert (back.status, back.json["status"], back.json["notes"]) == (200, "active", "Too many are gone.")
    now = (await alice.get(path(dataset))).json
    assert (now["active_version"], now["cursor"]) == (1, {"at": 1})
    again = await alice.post(path(dataset, "versions", 1, "rollback"))
    assert (again.status, again.json["detail"]) == (
        409,
        "Version 1 is active: only an inactive one can be gone back to.",
    )
    assert (await alice.delete(path(dataset, "versions", 1))).status == 409
    assert (await alice.delete(path(dataset, "versions", 2))).status == 204
    assert (await alice.get(path(dataset, "records?version=2"))).status == 410


async def test_a_version_that_waits_is_let_through_or_rejected(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {key: {} for key in "abcd"})
    await fill(app, dataset, {}, "a", "b")
    waiting = (await alice.get(path(dataset, "versions?status=waiting"))).json["items"]
    assert waiting[0]["reason"] == "2 of 4 records are gone; at most 30% may be."
    rejected = await alice.post(path(dataset, "versions", 2, "reject"))
    assert (rejected.status, rejected.json["status"], rejected.json["reason"]) == (200, "failed", "Rejected.")
    await fill(app, dataset, {}, "a", "b")
    assert (await alice.get(path(dataset, "records"))).json["total"] == 4
    assert (await alice.post(path(dataset, "versions", 3, "activate"))).json["status"] == "active"
    assert (await alice.get(path(dataset, "records"))).json["total"] == 2
    assert (await alice.post(path(dataset, "versions", 3, "activate"))).status == 409
    assert (await alice.post(path(dataset, "versions", 9, "activate"))).status == 404


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "99999999999"])
async def test_a_version_is_a_number(alice: Client, number: str):
    dataset = await made(alice)
    assert "path.number" in faults(await alice.get(path(dataset, "versions", number)))


async def test_a_list_of_records_goes_on_at_its_version(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}})
    first = (await alice.get(path(dataset, "records?limit=2"))).json
    await fill(app, dataset, {"a": {"n": 2}, "b": {"n": 2}, "c": {"n": 2}})
    rest = (await alice.get(path(dataset, f"records?limit=2&after={quote(first['after'])}"))).json
    assert [(each["key"], each["record"], each["version"]) for each in first["items"] + rest["items"]] == [
        (key, {"n": 1}, 1) for key in "abc"
    ]
    assert (rest["has_more"], rest["after"], rest["total"]) == (False, None, 3)
    for wrong in ("records?after=b", f"records?version=2&after={quote(first['after'])}"):
        assert "query.after" in faults(await alice.get(path(dataset, wrong)))
    filters = quote('{"n":"2"}')
    assert len((await alice.get(path(dataset, f"records?filters={filters}"))).json["items"]) == 3
    assert "query.filters" in faults(await alice.get(path(dataset, "records?filters=n")))


@pytest.mark.parametrize("key", ["a", "with/slash", "a/b/c/", "with%20", "ü?&#", " ", "\n", "日本", ".."])
async def test_a_record_of_any_key_is_shown_and_deleted(alice: Client, app: App, key: str):
    dataset = await made(alice)
    await fill(app, dataset, {key: {"n": 1}, "other": {}})
    shown = await alice.get(path(dataset, "records", quote(key, safe="")))
    assert shown.json == {"key": key, "version": 1, "since": 1, "record": {"n": 1}}
    gone = await alice.delete(path(dataset, "records", quote(key, safe="")))
    assert (gone.status, gone.json) == (200, {"version": 2, "status": "active"})
    assert (await alice.get(path(dataset, "records", quote(key, safe="")))).status == 404
    assert (await alice.get(path(dataset, "records", quote(key, safe="") + "?version=1"))).status == 200


async def test_a_copy_is_kept_by_the_feed_of_changes(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {key: {} for key in "abcde"})
    first = (await alice.get(path(dataset, "changes?limit=3"))).json
    assert ([each["type"] for each in first["items"]], first["has_more"]) == (["added"] * 3, True)
    rest = (await alice.get(path(dataset, f"changes?since={first['position']}"))).json
    assert ([each["key"] for each in rest["items"]], rest["position"]) == (["d", "e"], "1")
    await fill(app, dataset, {"a": {"n": 1}, "f": {}}, "b")
    news = (await alice.get(path(dataset, "changes?since=1"))).json
    assert [(each["key"], each["type"], each["record"]) for each in news["items"]] == [
        ("a", "updated", {"n": 1}),
        ("b", "deleted", None),
        ("f", "added", {}),
    ]
    assert "query.since" in faults(await alice.get(path(dataset, "changes?since=yesterday")))


async def test_a_version_is_exported_as_a_file(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {"a": {"n": 1}, "b": {"n": 2}})
    headers, body = await download(alice, path(dataset, "export?format=csv"))
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"] == 'attachment; filename="version-1.csv"'
    assert body == b"n\r\n1\r\n2\r\n"
    _, body = await download(alice, path(dataset, "export"))
    assert [orjson.loads(line) for line in body.splitlines()] == [{"n": 1}, {"n": 2}]
    assert "query.format" in faults(await alice.get(path(dataset, "export?format=xml")))
    assert (await alice.get(path(dataset, "export?version=7"))).status == 404


async def test_quarantined_rows_are_listed_and_tried_again(alice: Client, app: App):
    dataset = await made(alice)
    await fill(app, dataset, {"a": {}})
    bad = [("has no key", '{"code":"b"}'), ("has no key", '{"name":"x"}')]
    at = {"dataset": await number_of(app, dataset), "number": 1}
    await app.db.write(partial(quarantine.add, **at, bad=bad, now=app.clock.now()))
    listed = (await alice.get(path(dataset, "quarantine"))).json
    assert {each["data"] for each in listed["items"]} == {text for _, text in bad}
    assert "body.key" in faults(await alice.post(path(dataset, "quarantine", "replay"), {}))
    wrong = await alice.post(path(dataset, "quarantine", "replay"), {"key": "a..b"})
    assert "body.key" in faults(wrong)
    replay = await alice.post(path(dataset, "quarantine", "replay"), {"key": "code"})
    assert replay.json == {"tried": 2, "taken": 1, "version": 2}
    assert (await alice.get(path(dataset, "records", "b"))).json["record"] == {"code": "b"}
    (left,) = (await alice.get(path(dataset, "quarantine"))).json["items"]
    assert left["reason"] == "has no text or number at code, its key"


async def test_an_empty_dataset_says_how_to_fill_it(alice: Client):
    dataset = await made(alice)
    for what in ("records", "records/a", "changes", "export"):
        reply = await alice.get(path(dataset, what))
        assert (reply.status, reply.json["detail"]) == (
            404,
            "This dataset has no active version yet: run a sync or upload a file.",
        )


async def test_answers_hold_what_the_api_page_says_and_nothing_of_the_inside(alice: Client):
    made = (await alice.post("/v1/{ws}/datasets", {"name": "shown"})).json
    listed = (await alice.get("/v1/{ws}/datasets")).json["items"][0]
    changed = (await alice.put(f"/v1/{{ws}}/datasets/{made['id']}", {"name": "other"})).json
    assert set(made) == set(listed) == set(changed) == set(DatasetResponse.model_fields)
