"""Datasets, runs, uploads and searches from the command line, against a hub that speaks the wire format."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cli_fake_hub import KEY, NOW_ID, WORKSPACE, FakeHub, Run, integration

from trunkline.client import Trunkline, following
from trunkline.errors import NotFound

DATA_ID = "3f6c1f57-0f3e-4d5a-9c55-0f2b7d3b9e01"
RUN_ID = "9d1b7c55-6b8e-4c55-8f7e-0a1b2c3d4e5f"
UPLOAD_ID = "5c2b8d11-3e8f-4a58-9b1a-7f6e5d4c3b2a"
ROOT = f"/datasets/{DATA_ID}"


def dataset(**fields: Any) -> dict[str, Any]:
    shown = {
        "id": DATA_ID,
        "name": "incidents",
        "stream": "incidents",
        "active_version": 3,
        "last_status": "succeeded",
        "last_synced_at": "2026-05-03T10:00:00Z",
        "next_run_at": None,
        "gate": {"deletes": 0.3},
    }
    return shown | fields


def run_of(state: str = "succeeded", **fields: Any) -> dict[str, Any]:
    counts = {"fetched": 7, "added": 5, "changed": 1, "removed": 0, "quarantined": 1}
    shown = {"id": RUN_ID, "mode": "full", "state": state, "version": 4, "error": None}
    return shown | counts | {"created_at": "2026-05-03T10:00:00Z"} | fields


def frames(*told: tuple[str, dict[str, Any]]) -> bytes:
    written = [
        b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind.encode(), json.dumps(data).encode())
        for number, (kind, data) in enumerate(told, 1)
    ]
    return b"retry: 2000\n\n" + b"".join(written)


@pytest.fixture
def hub(fake: FakeHub, with_hub: Run) -> Run:
    """The command line, and a hub with one dataset whose run tells two things."""
    fake.answer("GET", "/datasets", [dataset()])
    fake.answer("GET", ROOT, dataset())
    fake.answer("POST", f"{ROOT}/runs", run_of("queued"), 201)
    fake.answer("GET", f"{ROOT}/runs", [run_of()])
    fake.answer("GET", f"{ROOT}/runs/{RUN_ID}", run_of())
    fake.streams[f"{ROOT}/runs/{RUN_ID}/stream"] = frames(
        ("progress", {"fetched": 7, "total": 7}), ("complete", {"state": "succeeded"})
    )
    return with_hub


def test_datasets_are_listed_and_shown_by_name(hub: Run, fake: FakeHub) -> None:
    assert "2026-05-03 10:00:00 UTC" in hub("dataset", "list").stdout
    assert json.loads(hub("dataset", "list", "--json").stdout)["items"] == [dataset()]
    assert '{"deletes":0.3}' in hub("dataset", "show", "incidents").stdout
    assert json.loads(hub("dataset", "show", DATA_ID, "--json").stdout) == dataset()
    unknown = hub("dataset", "show", "nothing")
    assert (unknown.exit_code, "No dataset is named 'nothing'" in unknown.stderr) == (5, True)


def test_a_dataset_is_made_with_what_was_given(hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/integrations", [integration()])
    fake.answer("POST", "/datasets", dataset(), 201)
    words = ("--integration", "now", "--stream", "incidents", "--param", "limit=5")
    made = hub(
        "dataset", "create", "incidents", *words, "--cron", "*/5 * * * *", "--timezone", "Europe/Vienna"
    )
    assert made.exit_code == 0
    assert fake.last("POST").body == {
        "name": "incidents",
        "integration_id": NOW_ID,
        "stream": "incidents",
        "params": {"limit": "5"},
        "schedule": {"cron": "*/5 * * * *", "timezone": "Europe/Vienna"},
    }
    assert hub("dataset", "create", "files", "--every", "60", "--cron", "* * * * *").exit_code == 2
    fake.answer("DELETE", ROOT, None, 204)
    assert hub("dataset", "delete", "incidents", input="n\n").exit_code == 1
    assert hub("dataset", "delete", "incidents", "--yes").stdout == "incidents is deleted.\n"


def test_versions_are_listed_compared_rolled_back_and_decided_on(hub: Run, fake: FakeHub) -> None:
    counts = {"added": 2, "changed": 0, "removed": 1, "total": 9, "created_at": "2026-05-03T10:00:00Z"}
    fake.answer("GET", f"{ROOT}/versions", [{"number": 3, "status": "active", "reason": None} | counts])
    assert "active" in hub("dataset", "versions", "incidents").stdout
    pages = {"key": "INC1", "change": "changed", "fields": ["state"], "before": {}, "after": {}}
    fake.answer("GET", f"{ROOT}/diff", {"items": [pages], "has_more": False, "after": None})
    shown = hub("dataset", "diff", "incidents", "2", "3").stdout
    assert shown.splitlines()[1].split() == ["changed", "INC1", "state"]
    assert fake.last("GET").query == {"from": "2", "to": "3", "limit": "100"}
    for verb, path in (("rollback", "rollback"), ("approve", "activate"), ("reject", "reject")):
        fake.answer("POST", f"{ROOT}/versions/2/{path}", {"number": 2})
        options = ("--yes",) if verb == "rollback" else ()
        assert hub("dataset", verb, "incidents", "2", *options).exit_code == 0


def test_records_are_followed_filtered_and_shown_whole(hub: Run, fake: FakeHub) -> None:
    row = {"key": "INC1", "version": 3, "since": 1, "record": {"state": "7", "text": "x" * 100}}
    fake.answer("GET", f"{ROOT}/records", {"items": [row], "version": 3, "has_more": False, "after": None})
    shown = hub("dataset", "records", "incidents", "--where", "state=7", "--version", "2").stdout
    assert "…" in shown
    query = fake.last("GET").query
    assert (json.loads(query["filters"]), query["version"]) == ({"state": "7"}, "2")
    fake.answer("GET", f"{ROOT}/records/INC1", row)
    assert json.loads(hub("dataset", "records", "incidents", "INC1").stdout) == row["record"]


def test_a_list_that_does_not_advance_is_given_up(hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", f"{ROOT}/records", {"items": [], "has_more": True, "after": "3:a"})
    result = hub("dataset", "records", "incidents")
    assert (result.exit_code, "does not advance" in result.stderr) == (3, True)


def test_an_export_is_a_file_only_when_it_is_whole(hub: Run, fake: FakeHub, tmp_path: Path) -> None:
    fake.streams[f"{ROOT}/export"] = b'{"a":1}\n'
    assert hub("dataset", "export", "incidents").stdout == '{"a":1}\n'
    assert hub("dataset", "export", "incidents", "--out", "all.jsonl").exit_code == 0
    assert (tmp_path / "all.jsonl").read_bytes() == b'{"a":1}\n'
    del fake.streams[f"{ROOT}/export"]
    fake.answer("GET", f"{ROOT}/export", {"detail": "gone", "error_code": "gone"}, 410)
    assert hub("dataset", "export", "incidents", "--out", "other.jsonl").exit_code == 5
    assert {path.name for path in tmp_path.glob("*.jsonl*")} == {"all.jsonl"}
    assert list(tmp_path.glob(".*.part")) == []


def test_hits_are_shown_with_what_was_found_as_plain_text(hub: Run, fake: FakeHub) -> None:
    marked = [{"field": "title", "text": "<mark>Mail</mark> &lt;is&gt; slow"}]
    hit = {"key": "INC1", "version": 3, "since": 1, "score": 1.5, "highlights": marked, "record": {}}
    fake.answer("GET", f"{ROOT}/search", {"items": [hit], "has_more": False, "version": 3})
    assert "title: Mail <is> slow" in hub("search", "incidents", "mail", "slow*", "--any").stdout
    assert fake.last("GET").query == {"q": "mail slow*", "limit": "10", "any": "true"}


def test_by_meaning_a_hit_without_the_words_shows_its_record_and_what_is_missing_is_told(
    hub: Run, fake: FakeHub
) -> None:
    hit = {
        "key": "INC1",
        "version": 3,
        "since": 1,
        "score": 0.51234,
        "highlights": [],
        "record": {"t": "Post"},
    }
    answer = {"items": [hit], "has_more": False, "version": 3, "covered": {"records": 1_200, "of": 3_000}}
    fake.answer("GET", f"{ROOT}/search", answer)
    result = hub("search", "incidents", "mail", "--mode", "meaning")
    assert "0.512" in result.stdout
    assert '"t":"Post"' in result.stdout.replace(" ", "")
    assert "1,200 of 3,000 records" in result.stderr
    assert fake.last("GET").query == {"q": "mail", "limit": "10", "mode": "meaning"}


def test_a_sync_is_watched_until_it_ends(hub: Run, fake: FakeHub) -> None:
    result = hub("sync", "incidents", "--full")
    assert fake.last("POST").body == {"mode": "full"}
    assert result.stdout == "succeeded: 7 rows read; 5 added, 1 changed, 0 removed, 1 quarantined\n"
    lines = [json.loads(line) for line in hub("sync", "incidents", "--json").stdout.splitlines()]
    assert [line["type"] for line in lines] == ["progress", "complete"]
    assert hub("sync", "incidents", "--no-follow").stdout == f"{RUN_ID}\n"
    assert hub("run", "watch", "incidents").stdout == result.stdout


@pytest.mark.parametrize(
    ("state", "kind", "wanted"),
    [
        ("failed", "error", (1, "error: The source is away")),
        ("cancelled", "error", (1, "error: The source is away")),
        ("waiting", "complete", (0, "trunkline dataset approve incidents 4")),
    ],
)
def test_how_a_run_ended_is_told(
    hub: Run, fake: FakeHub, state: str, kind: str, wanted: tuple[int, str]
) -> None:
    fake.streams[f"{ROOT}/runs/{RUN_ID}/stream"] = frames((kind, {"state": state}))
    fake.answer("GET", f"{ROOT}/runs/{RUN_ID}", run_of(state, error="The source is away"))
    result = hub("sync", "incidents")
    assert (result.exit_code, wanted[1] in result.stderr) == (wanted[0], True)


def test_runs_are_listed_shown_and_cancelled(hub: Run, fake: FakeHub) -> None:
    assert RUN_ID in hub("run", "list", "incidents").stdout
    assert json.loads(hub("run", "show", "incidents", "--json").stdout) == run_of()
    fake.answer("POST", f"{ROOT}/runs/{RUN_ID}/cancel", run_of("running"))
    assert hub("run", "cancel", "incidents").exit_code == 0
    fake.answer("GET", f"{ROOT}/runs", [])
    assert hub("run", "show", "incidents").exit_code == 2


def test_a_stream_that_breaks_goes_on_where_it_was(
    hub: Run, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_WAIT", 0.0)
    path, whole = f"{ROOT}/runs/{RUN_ID}/stream", fake.streams[f"{ROOT}/runs/{RUN_ID}/stream"]
    fake.streams[path] = whole[: whole.index(b"id: 2")]

    async def read() -> list[str]:
        def mend(_: str) -> None:
            fake.streams[path] = whole[whole.index(b"id: 2") :]

        async with Trunkline(fake.url, KEY, workspace_id=WORKSPACE) as client:
            return [told["type"] async for told in client.runs.follow(DATA_ID, RUN_ID, tell=mend)]

    assert asyncio.run(read()) == ["progress", "complete"]


REPORT = {
    "total_records": 3,
    "valid_count": 2,
    "error_count": 1,
    "errors": [{"file": "a.csv", "row": 3, "field": "title", "message": "is missing", "value": None}],
}


def test_files_are_checked_and_taken_in(hub: Run, fake: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,x\n")
    fake.answer("POST", "/uploads", {"id": UPLOAD_ID}, 201)
    fake.answer("POST", f"/uploads/{UPLOAD_ID}/validate", {"report": REPORT})
    fake.answer("POST", f"/uploads/{UPLOAD_ID}/map", {"report": REPORT | {"error_count": 0, "errors": []}})
    fake.answer("POST", f"/uploads/{UPLOAD_ID}/ingest", {"run_id": RUN_ID, "dataset_id": DATA_ID}, 202)
    result = hub("upload", "a.csv", "--dataset", "incidents")
    assert (result.exit_code, "a.csv:3:title: is missing" in result.stderr) == (0, True)
    sent = next(asked.body for asked in fake.asked if asked.path.endswith("/uploads"))
    assert base64.b64decode(sent["files"][0]["content"]) == b"id,name\n1,x\n"
    assert sent["dataset_id"] == DATA_ID
    assert hub("upload", "a.csv", "--check").exit_code == 1
    assert json.loads(hub("upload", "a.csv", "--check", "--json").stdout) == REPORT
    assert hub("upload", "a.csv", "--check", "--map", "name=title").exit_code == 0
    assert fake.last("POST").body == {"mapping": {"name": "title"}}
    assert hub("upload", "a.csv", "--no-follow", "--notes", "May").stdout == f"{RUN_ID}\n"
    assert fake.last("POST").body == {"notes": "May"}
    assert hub("upload", "missing.csv").exit_code == 2


def test_the_quarantine_is_listed_and_replayed(hub: Run, fake: FakeHub) -> None:
    row = {
        "id": UPLOAD_ID,
        "version": 3,
        "reason": "no key",
        "data": "{}",
        "created_at": "2026-05-03T10:00:00Z",
    }
    fake.answer("GET", f"{ROOT}/quarantine", [row])
    assert "no key" in hub("quarantine", "list", "incidents").stdout
    fake.answer("POST", f"{ROOT}/quarantine/replay", {"tried": 1, "taken": 1, "version": 4})
    assert json.loads(hub("quarantine", "replay", "incidents", UPLOAD_ID, "--json").stdout)["taken"] == 1
    assert fake.last("POST").body == {"ids": [UPLOAD_ID]}
    hub("quarantine", "replay", "incidents")
    assert fake.last("POST").body == {}


async def test_a_dataset_that_is_gone_is_not_found(fake: FakeHub) -> None:
    fake.answer("GET", "/datasets", [])
    async with Trunkline(fake.url, KEY, workspace_id=WORKSPACE) as client:
        with pytest.raises(NotFound):
            await client.datasets.get("incidents")
