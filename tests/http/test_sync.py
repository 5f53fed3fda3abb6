"""Syncs of a stream: what arrives, what is new, what is gone, what goes wrong, who may."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from http_asgi import Client
from run_stories import KEY, Shop, Synced, order, settle, synced, write_connectors
from trunkline.errors import Conflict, Invalid
from trunkline.services import quarantine, sync, versions
from trunkline.settings import Settings


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


@pytest.fixture
async def shop(upstream: Callable[[Any], Awaitable[str]]) -> Shop:
    made = Shop()
    made.url = await upstream(made.handle)
    return made


@pytest.fixture
async def orders(alice: Client, shop: Shop) -> Synced:
    shop.rows = [order(number) for number in range(35)]
    return await synced(alice, shop)


async def test_the_first_run_brings_every_record_as_version_one(orders: Synced):
    run = await orders.run()
    assert (run.state, run.mode, run.version, run.fetched, run.added) == ("succeeded", "full", 1, 35, 35)
    assert await orders.read() == {row["id"]: row for row in orders.shop.rows}
    assert await orders.versions() == [(1, "active")]
    now = await orders.now()
    assert (now.run_id, now.last_status, now.last_error) == (None, "succeeded", None)
    assert now.cursor["value"] == "2025-06-01 00:34:00"


async def test_a_run_without_changes_makes_no_version_and_moves_no_more_than_the_cursor(orders: Synced):
    await orders.run()
    orders.shop.asked.clear()
    run = await orders.run()
    assert (run.state, run.mode, run.version, run.added, run.changed) == (
        "succeeded",
        "incremental",
        None,
        0,
        0,
    )
    assert await orders.versions() == [(1, "active")]
    assert orders.shop.asked[0].startswith("/orders?since=2025-06-01%2000%3A33%3A55")
    assert (await orders.told(run))[-1][2]["unchanged"] is True
    assert (await orders.now()).newest_version == 1


async def test_the_next_run_asks_only_for_what_is_new(orders: Synced):
    await orders.run()
    orders.shop.put(order(3, "2025-06-02 00:00:00", text="edited"), order(99))
    run = await orders.run()
    assert (run.added, run.changed, run.removed, run.version) == (1, 1, 0, 2)
    assert run.fetched < 10
    assert await orders.read(2) == {row["id"]: row for row in orders.shop.rows}
    assert (await orders.read(1))["o00003"]["text"] == "order 3"


async def test_what_comes_late_within_the_lag_is_not_missed(orders: Synced):
    await orders.run()
    orders.shop.put(order(50, "2025-06-01 00:33:56"))
    assert (await orders.run()).added == 1


async def test_a_clock_that_runs_ahead_at_the_service_hides_nothing_later(orders: Synced):
    orders.shop.put(order(90, "2099-01-01 00:00:00"))
    await orders.run()
    orders.shop.put(order(91, "2026-01-01 00:00:00"))
    assert (await orders.run()).added == 1


async def test_a_clock_that_goes_back_at_the_service_moves_no_cursor_back(orders: Synced):
    await orders.run()
    orders.shop.rows = [order(1, "2025-01-01 00:00:00")]
    run = await orders.run()
    assert (run.state, run.fetched) == ("succeeded", 0)
    assert (await orders.now()).cursor["value"] == "2025-06-01 00:34:00"


async def test_a_page_full_of_one_time_is_whole(alice: Client, shop: Shop):
    shop.rows = [order(number, "2025-06-01 10:00:00") for number in range(57)]
    orders = await synced(alice, shop)
    assert (await orders.run()).added == 57


async def test_rows_edited_during_the_read_are_there_in_their_last_state(orders: Synced):
    edited = order(2, "2025-06-03 00:00:00", text="edited")
    orders.shop.before[2] = lambda: orders.shop.put(edited)
    run = await orders.run()
    assert run.state == "succeeded"
    assert await orders.read() == {row["id"]: row for row in orders.shop.rows}


async def test_a_full_run_finds_what_is_gone(orders: Synced):
    await orders.run()
    gone = {row["id"] for row in orders.shop.rows[5:9]}
    orders.shop.rows = [row for row in orders.shop.rows if row["id"] not in gone]
    assert (await orders.run()).version is None
    run = await orders.run("full")
    assert (run.removed, run.added, run.version) == (4, 0, 2)
    assert set(await orders.keys(1)) - set(await orders.keys(2)) == gone


async def test_a_source_that_suddenly_returns_nothing_is_held_by_the_gate(orders: Synced):
    await orders.run()
    orders.shop.rows = []
    run = await orders.run("full")
    assert (run.state, run.removed) == ("waiting", 35)
    assert "are gone" in (run.error or "")
    assert len(await orders.keys()) == 35
    assert (await orders.now()).run_id is None


async def test_a_stream_that_cannot_tell_what_is_new_is_read_in_full_every_time(alice: Client, shop: Shop):
    shop.rows = [order(number) for number in range(35)]
    items = await synced(alice, shop, "items")
    await items.run()
    shop.rows = [*shop.rows[1:], order(77)]
    run = await items.run()
    assert (run.mode, run.added, run.removed) == ("full", 1, 1)
    with pytest.raises(Invalid, match="only full runs"):
        await items.start("incremental")


async def test_a_list_in_any_order_never_moves_the_cursor_past_the_runs_beginning(alice: Client, shop: Shop):
    shop.rows = [order(number) | {"at": "2027-01-01T00:00:00Z"} for number in range(3)]
    items = await synced(alice, shop, "changed_items")
    await items.run()
    assert (await items.now()).cursor["value"] == "2026-01-01T00:00:00Z"


async def test_children_are_pulled_for_each_parent(alice: Client, shop: Shop):
    shop.rows = [order(number) for number in range(23)]
    shop.notes = {
        row["id"]: [{"id": f"{row['id']}-{n}"} for n in range(index % 8)]
        for index, row in enumerate(shop.rows)
    }
    notes = await synced(alice, shop, "notes")
    run = await notes.run()
    wanted = sorted(note["id"] for found in shop.notes.values() for note in found)
    assert run.state == "succeeded", run.error
    assert await notes.keys() == wanted
    del shop.notes["o00022"][-1]
    assert (await notes.run()).removed == 1


async def test_duplicate_ids_count_once_and_the_last_stays(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    shop.rows = [{"id": "a", "n": 1}, {"id": "b", "n": 1}, {"id": "a", "n": 2}]
    run = await items.run()
    assert (run.added, run.changed) == (2, 0)
    assert await items.read() == {"a": {"id": "a", "n": 2}, "b": {"id": "b", "n": 1}}


async def test_a_record_that_changes_and_changes_back_leaves_no_trace(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    shop.rows = [{"id": f"k{n:02}", "n": 1} for n in range(25)]
    await items.run()
    shop.rows = [{"id": "k00", "n": 2}, *shop.rows[1:], {"id": "k00", "n": 1}]
    run = await items.run()
    assert (run.state, run.version) == ("succeeded", None)


async def test_records_that_cannot_be_stored_go_to_the_quarantine(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    shop.rows = [
        {"id": "good", "text": "NUL \0 is data"},
        {"name": "no id"},
        {"id": True},
        {"id": "x" * 513},
        {"id": "n\0ul"},
        {"id": ""},
        "text",
        None,
        {"id": "deep", "value": deep},
        {"id": 7},
    ]
    run = await items.run()
    assert (run.state, run.added, run.quarantined) == ("succeeded", 2, 8)
    assert await items.keys() == ["7", "good"]
    assert (await items.read())["good"]["text"] == "NUL \0 is data"


async def test_a_record_that_cannot_be_stored_any_more_is_not_gone(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    shop.rows = [{"id": "a", "v": 1}, {"id": "b", "v": 1}]
    await items.run()
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    shop.rows = [{"id": "a", "v": deep}, {"id": "b", "v": 2}]
    run = await items.run()
    assert (run.removed, run.changed, run.quarantined) == (0, 1, 1)


async def test_a_secret_that_a_service_sends_back_is_not_stored(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    shop.rows = [{"id": "a", "text": f"your key is {KEY}"}, {"id": "b"}]
    await items.run()
    assert (await items.read())["a"]["text"] == "your key is [redacted]"


def fails(status: int = 500, text: str = '{"error": "sorry"}') -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=text, content_type="application/json")


async def test_a_failure_that_goes_away_is_nothing(orders: Synced):
    orders.shop.before[2] = fails(503)
    run = await orders.run()
    assert (run.state, run.error) == ("succeeded", None)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([fails(), fails()], "HTTP 500 from Ops: "),
        ([fails(401, f'{{"error": "no such key {KEY}"}}')], "HTTP 401"),
        ([fails(429), fails(429)], "HTTP 429"),
        ([fails(200, '{"items": [{"id": "o1", ')] * 3, "no JSON, or only a part"),
        ([fails(200, "")] * 3, "no JSON, or only a part"),
        ([fails(200, '{"things": []}')], "no list at items"),
        ([fails(200, '{"items": [{"name": "x"}]}')], "no text or number at id"),
    ],
)
async def test_a_run_that_fails_leaves_everything_as_it_was(
    orders: Synced, answers: list[Callable[[], web.Response]], message: str
):
    await orders.run()
    before = await orders.now()
    orders.shop.put(*[order(number, "2025-07-01 00:00:00", text="edited") for number in range(25)])
    first = len(orders.shop.asked) + 3
    orders.shop.before = {first + number: answer for number, answer in enumerate(answers)}
    run = await orders.run()
    assert run.state == "failed"
    assert message in (run.error or "")
    assert KEY not in (run.error or "")
    after = await orders.now()
    assert (after.active_version, after.cursor, after.run_id) == (1, before.cursor, None)
    assert (after.last_status, after.last_error) == ("failed", run.error)
    assert (await orders.read())["o00003"]["text"] == "order 3"
    assert await orders.versions() == [(2, "failed"), (1, "active")]
    orders.shop.before.clear()
    assert (await orders.run()).changed == 25
    assert await orders.read() == {row["id"]: row for row in orders.shop.rows}


async def test_a_truncated_page_is_asked_for_again(orders: Synced):
    orders.shop.before[2] = fails(200, '{"items": [{"id": "o1", ')
    run = await orders.run()
    assert (run.state, run.added) == ("succeeded", 35)


async def test_two_syncs_at_once_are_one_and_a_conflict(orders: Synced):
    await orders.start()
    with pytest.raises(Conflict, match="A sync is already in progress"):
        await orders.start()
    await settle(orders.app)
    assert (await orders.run()).state == "succeeded"


async def test_a_run_goes_back_to_a_time_when_asked(orders: Synced, clock: Any):
    await orders.run()
    orders.shop.put(order(40, "2025-05-01 00:00:00"))
    assert (await orders.run()).added == 0
    since = clock.now().replace(year=2025, month=4)
    run = await orders.run(since=since)
    assert (run.added, run.removed) == (1, 0)


async def test_a_roll_back_takes_the_cursor_back(orders: Synced):
    await orders.run()
    orders.shop.put(order(60))
    await orders.run()
    await versions.roll_back(orders.ctx, orders.dataset.id, 1)
    assert len(await orders.keys()) == 35
    run = await orders.run()
    assert (run.added, run.version, run.state) == (1, 3, "succeeded")
    assert len(await orders.keys()) == 36


async def test_other_params_begin_anew(orders: Synced):
    await orders.run()
    change = sync.datasets.Change(params={"shop": "vienna"})
    await sync.datasets.update(orders.ctx, orders.dataset.id, change)
    run = await orders.run()
    assert (run.mode, run.version) == ("full", None)
    assert any("since=2020-01-01" in path and "shop=vienna" in path for path in orders.shop.asked)
    assert (await orders.run()).mode == "incremental"


async def test_params_that_the_stream_itself_sets_are_refused(alice: Client, shop: Shop):
    orders = await synced(alice, shop, params={"since": "2025"})
    with pytest.raises(Invalid, match="what the stream itself asks for"):
        await orders.start()


async def test_runs_are_told_in_the_log(orders: Synced):
    await orders.run()
    orders.shop.before = {number: fails() for number in range(1, 99)}
    await orders.run()
    log = await orders.alice.get("/v1/{ws}/events?type=sync.*")
    assert [event["type"] for event in log.json["items"]] == ["sync.failed", "sync.succeeded"]
    assert log.json["items"][0]["data"]["dataset_id"] == orders.dataset.id


async def test_rows_that_stay_bad_are_kept_once_and_make_no_version(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    shop.rows = [{"id": "a"}, {"name": "no id"}, {"name": "no id"}, "text"]
    first = await items.run()
    assert (first.version, first.quarantined) == (1, 3)
    for _ in range(2):
        assert (await items.run()).version is None
    assert (await quarantine.list_page(items.ctx, items.dataset.id, 10)).total == 2
    shop.rows.append({"name": "another"})
    third = await items.run()
    assert (third.state, third.version, third.quarantined) == ("succeeded", 2, 4)
    assert (await quarantine.list_page(items.ctx, items.dataset.id, 10)).total == 3


async def test_half_an_emoji_costs_neither_the_page_nor_the_record(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    text = '{"items": [{"id": "a", "text": "cut \\ud83d"}, {"id": "b", "text": "\\ud83d\\ude00"}]}'
    shop.before[1] = lambda: web.Response(text=text, content_type="application/json")
    assert (await items.run()).state == "succeeded"
    assert {key: each["text"] for key, each in (await items.read()).items()} == {
        "a": "cut \ufffd",
        "b": "\U0001f600",
    }


async def test_a_version_that_waits_is_overtaken_by_the_next_run(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    rows = [{"id": f"k{n}", "n": 1} for n in range(6)]
    shop.rows = list(rows)
    await items.run()
    for _ in range(3):
        shop.rows = []
        assert (await items.run()).state == "waiting"
    assert await items.versions() == [(4, "waiting"), (3, "failed"), (2, "failed"), (1, "active")]
    shop.rows = rows
    run = await items.run()
    assert (run.state, run.version, run.added + run.changed + run.removed) == ("succeeded", 5, 0)
    assert (await items.versions())[:2] == [(5, "active"), (4, "failed")]


async def test_a_run_without_changes_ends_the_wait_of_one_before(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    rows = [{"id": f"k{n}", "n": 1} for n in range(4)]
    shop.rows = list(rows)
    await items.run()
    shop.rows = rows + [{"id": f"x{n}"} for n in range(6)]
    assert (await items.run()).state == "waiting"
    shop.rows = rows
    assert (await items.run()).version is None
    assert await items.versions() == [(2, "failed"), (1, "active")]


async def test_after_a_roll_back_only_the_first_run_without_changes_copies_records(alice: Client, shop: Shop):
    items = await synced(alice, shop, "items")
    rows = [{"id": f"k{n}", "n": 1} for n in range(6)]
    shop.rows = list(rows)
    await items.run()
    shop.rows = [{"id": f"k{n}", "n": 2} for n in range(6)]
    await items.run()
    await versions.roll_back(items.ctx, items.dataset.id, 1)
    shop.rows = rows
    first, second = await items.run(), await items.run()
    assert (first.state, first.version, first.changed) == ("succeeded", 3, 0)
    assert (second.state, second.version) == ("succeeded", None)
    assert await items.versions() == [(3, "active"), (2, "inactive"), (1, "inactive")]
