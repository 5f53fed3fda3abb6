"""The event log over HTTP: listed, filtered, shown as CloudEvents, replayed."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hook_senders import SHOP, Shop, write_connectors
from http_asgi import Client
from trunkline import jobs
from trunkline.catalog.registry import Registry
from trunkline.clock import ManualClock
from trunkline.services import ingest
from trunkline.settings import Settings

EVENTS = "/v1/{ws}/events"


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


async def received(client: Client, **filters: str) -> list[dict[str, Any]]:
    """Read what waits and list the log, oldest first."""
    while await ingest.read_due(client.hub.app):
        pass
    query = "&".join(f"{name}={text}" for name, text in filters.items())
    found = await client.get(f"{EVENTS}?limit=100&{query}")
    assert found.status == 200, found.text
    return found.json["items"][::-1]


async def test_a_webhook_is_listed_as_a_cloud_event(alice: Client):
    shop = await Shop.open(alice)
    posted = await shop.post({"id": "o-1", "total": 9.5}, x_shop_event="order")
    (event,) = await received(alice)
    assert event == {
        "specversion": "1.0",
        "id": posted.json["id"],
        "source": f"/integrations/{shop.integration_id}",
        "type": "shop.order",
        "subject": "o-1",
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "sequence": "1",
        "receivedtime": "2026-01-01T00:00:00Z",
        "integrationid": shop.integration_id,
        "data": {"id": "o-1", "total": 9.5},
    }
    shown = await alice.get(f"{EVENTS}/{event['id']}")
    assert (shown.status, shown.json) == (200, event)


async def test_a_page_goes_on_where_the_last_one_ended(alice: Client):
    await alice.append_events(*[f"acme.n{number}" for number in range(5)])
    first = (await alice.get(f"{EVENTS}?limit=3")).json
    assert [item["sequence"] for item in first["items"]] == ["5", "4", "3"]
    assert (first["has_more"], first["continuation_token"], first["total"]) == (True, 3, None)
    await alice.append_events("acme.new")
    second = (await alice.get(f"{EVENTS}?limit=3&continuation_token=3")).json
    assert [item["sequence"] for item in second["items"]] == ["2", "1"]
    assert (second["has_more"], second["continuation_token"]) == (False, None)


async def test_an_empty_log_is_an_empty_page(alice: Client):
    assert (await alice.get(EVENTS)).json == {
        "items": [],
        "has_more": False,
        "continuation_token": None,
        "total": None,
    }


INTEGRATION = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=acme.a", "1"),
        ("type=acme.*", "12"),
        ("type=Acme.*", ""),
        ("type=*b", "2"),
        (f"integration_id={INTEGRATION}", "2"),
        ("project=web", "3"),
        ("severity=high", "3"),
        ("subject=o-1", "3"),
        ("dedup_key=k%201", "3"),
        ("errors=true", "2"),
        ("errors=false", "123"),
        ("since=2026-01-01T01:00:00Z", "3"),
        ("until=2026-01-01T01:00:00%2B00:00", "12"),
        ("since=2026-01-01T02:00:00%2B01:00&type=other", "3"),
        ("since=2025-12-31&until=2026-01-01T00:00:00", ""),
        ("project=web&severity=low", ""),
    ],
)
async def test_filters_choose_events(alice: Client, clock: ManualClock, query: str, found: str):
    await alice.append_events("acme.a")
    await alice.append_events("acme.b", integration_id=INTEGRATION, error="could not be read")
    clock.advance(timedelta(hours=1).total_seconds())
    await alice.append_events("other", project="web", severity="high", subject="o-1", dedup_key="k 1")
    reply = await alice.get(f"{EVENTS}?{query}")
    assert reply.status == 200, reply.text
    assert "".join(item["sequence"] for item in reply.json["items"])[::-1] == found


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("type=", "type"),
        ("type=" + "x" * 257, "type"),
        ("type=a%00b", "type"),
        ("integration_id=nope", "integration_id"),
        ("severity=loud", "severity"),
        ("since=yesterday", "since"),
        ("until=9999999999999999999", "until"),
        ("errors=perhaps", "errors"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("continuation_token=-1", "continuation_token"),
        ("continuation_token=99999999999999999999", "continuation_token"),
    ],
)
async def test_a_wrong_filter_is_named(alice: Client, query: str, place: str):
    reply = await alice.get(f"{EVENTS}?{query}")
    assert reply.status == 422, reply.text
    assert reply.json["detail"][0]["loc"] == ["query", place]


async def test_a_strangers_event_is_not_there(alice: Client, charlie: Client):
    (event,) = await alice.append_events("acme.a")
    for path in (f"{EVENTS}/{event.id}", f"{EVENTS}/{INTEGRATION}"):
        reply = await charlie.get(path)
        assert (reply.status, reply.json["detail"]) == (404, "Event not found")
    assert (await charlie.get(EVENTS)).json["items"] == []


async def test_an_event_is_read_again_by_a_mended_rule(alice: Client, tmp_path: Path):
    shop = await Shop.open(alice)
    await shop.post({"number": 7}, x_shop_event="refund")
    (event,) = await received(alice)
    assert event["type"] == "shop.received"
    mended = (
        SHOP + '  - {when: {header.x-shop-event: refund}, type: shop.refund, subject: "{payload.number}"}\n'
    )
    (tmp_path / "connectors" / "shop.yaml").write_text(mended)
    alice.hub.app.catalog = Registry(tmp_path / "connectors")
    replayed = await alice.post(f"{EVENTS}/{event['id']}/replay")
    assert replayed.status == 201, replayed.text
    assert replayed.json["type"] == "shop.refund"
    assert (replayed.json["sequence"], replayed.json["replayof"]) == ("2", event["id"])
    assert (await received(alice))[1] == replayed.json


async def test_what_trunkline_said_itself_cannot_be_read_again(alice: Client, bob: Client):
    (event,) = await alice.append_events("delivery.failed")
    reply = await alice.post(f"{EVENTS}/{event.id}/replay")
    assert (reply.status, reply.json["error_code"]) == (409, "conflict")
    assert (await bob.post(f"{EVENTS}/{event.id}/replay")).status == 403


async def test_headers_that_no_rule_looks_up_are_not_kept(alice: Client):
    shop = await Shop.open(alice)
    await shop.post({"id": 1}, x_shop_event="order", authorization="Bearer canary")
    (event,) = await received(alice)
    assert "canary" not in str(event)


def test_the_inbox_is_read_and_old_events_forgotten_by_jobs():
    assert {"inbox": "inbox", "retention": None}.items() <= {job.name: job.bell for job in jobs.JOBS}.items()
