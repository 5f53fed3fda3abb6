"""Deliveries over HTTP: listed, shown, sent again one by one and all at once."""

from datetime import timedelta
from uuid import UUID

import pytest

from delivery_stories import deliver, happen, listed, only, receiver, shown, webhook
from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.services import sending

PATH = "/v1/{ws}/deliveries"
NOBODY = str(UUID(int=7))


@pytest.fixture
async def three(app: App, alice: Client, upstream, clock: ManualClock):
    """Three deliveries, a minute apart, of which the first two were taken and the last one failed."""
    target = await receiver(upstream, 200, 200, 500)
    route = await webhook(alice, target.url)
    events = []
    for _ in range(3):
        events += await happen(alice, "alert.opened")
        await deliver(app)
        clock.advance(60)
    return target, route, events


async def test_deliveries_are_listed_newest_first_and_in_slices(alice: Client, three):
    _, route, events = three
    first = (await alice.get(f"{PATH}?limit=2")).json
    rest = (await alice.get(f"{PATH}?limit=2&continuation_token={first['continuation_token']}")).json
    assert [item["event_id"] for item in first["items"] + rest["items"]] == events[::-1]
    assert (first["has_more"], rest["has_more"], rest["continuation_token"]) == (True, False, None)
    assert first["total"] == rest["total"] == 3
    assert {item["route_id"] for item in first["items"]} == {route["id"]}


async def test_a_list_is_narrowed_by_state_route_event_and_time(
    app: App, alice: Client, three, clock: ManualClock
):
    _, route, events = three
    since = (clock.now() - timedelta(minutes=2)).isoformat().replace("+", "%2B")
    assert len(await listed(alice, "state=delivered")) == 2
    assert len(await listed(alice, f"route_id={route['id']}")) == 3
    assert await listed(alice, f"route_id={NOBODY}") == []
    (one,) = await listed(alice, f"event_id={events[0]}")
    assert one["event_id"] == events[0]
    assert len(await listed(alice, f"since={since}")) == 2
    assert await listed(alice, f"since={since}&state=delivered&event_id={events[0]}") == []


@pytest.mark.parametrize("query", ["state=lost", "route_id=x", "since=2026-01-01", "since=x", "limit=0"])
async def test_a_wrong_filter_is_named(alice: Client, query: str):
    reply = await alice.get(f"{PATH}?{query}")
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["query", query.partition("=")[0]])


async def test_a_delivery_shows_its_attempts(alice: Client, three):
    (failed,) = await listed(alice, "state=pending")
    found = await shown(alice, failed["id"])
    (attempt,) = found["attempts"]
    assert (found["attempt_count"], found["failures"], found["last_status"]) == (1, 1, 500)
    assert (attempt["number"], attempt["status"], attempt["started_at"]) == (1, 500, "2026-01-01T00:02:00Z")
    exchange = attempt["trace"]["exchanges"][0]
    assert (exchange["request"]["method"], exchange["response"]["status"]) == ("POST", 500)


async def test_a_delivery_that_was_taken_can_be_sent_again_under_its_id(app: App, alice: Client, three):
    target, _, events = three
    target.answers(200)
    (taken,) = await listed(alice, f"event_id={events[0]}")
    reply = await alice.post(f"{PATH}/{taken['id']}/resend")
    assert (reply.status, reply.json["state"], reply.json["failures"]) == (200, "pending", 0)
    await deliver(app)
    again = await shown(alice, taken["id"])
    assert (again["state"], [each["number"] for each in again["attempts"]]) == ("delivered", [1, 2])
    assert target.got[0][0]["webhook-id"] == target.got[-1][0]["webhook-id"]


async def test_to_send_again_takes_the_permission(alice: Client, bob: Client, three):
    (taken, *_) = await listed(alice)
    assert (await bob.post(f"{PATH}/{taken['id']}/resend")).status == 403
    assert (await bob.post(f"{PATH}/recover", {"since": "2026-01-01T00:00:00Z"})).status == 403


async def test_what_has_no_route_any_more_is_not_sent_again(alice: Client, three, clock: ManualClock):
    _, route, _ = three
    (taken, *_) = await listed(alice, "state=delivered")
    await alice.put(f"/v1/{{ws}}/routes/{route['id']}", {"enabled": False})
    reply = await alice.post(f"{PATH}/{taken['id']}/resend")
    assert (reply.status, reply.json["error_code"]) == (409, "conflict")
    assert "switched off" in reply.json["detail"]
    assert (await alice.post(f"{PATH}/{NOBODY}/resend")).status == 404


async def test_what_is_being_sent_is_not_sent_again(app: App, alice: Client, upstream):
    target = await receiver(upstream)
    await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    await sending.send_due(app)
    under_way = (await only(alice))["id"]
    assert (await alice.post(f"{PATH}/{under_way}/resend")).status == 409
    await sending.settle(app)


async def test_all_that_failed_since_a_time_is_sent_again(
    app: App, alice: Client, charlie: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 410)
    route = await webhook(alice, target.url)
    for _ in range(2):
        await happen(alice, *["alert.opened"] * 600)
        clock.advance(60)
    await deliver(app)
    target.answers(200)
    await alice.put(f"/v1/{{ws}}/routes/{route['id']}", {"enabled": True})
    since = (clock.now() - timedelta(seconds=90)).isoformat()
    body = {"since": since}
    assert (await charlie.post(f"{PATH}/recover", body)).json == {"count": 0}
    assert (await alice.post(f"{PATH}/recover", body | {"route_id": NOBODY})).json == {"count": 0}
    assert (await alice.post(f"{PATH}/recover", body | {"route_id": route["id"]})).json == {"count": 600}
    assert (await alice.post(f"{PATH}/recover", body)).json == {"count": 0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": 0}, "since"),
        ({"since": "2026-01-01T00:00:00Z", "route_id": "x"}, "route_id"),
    ],
)
async def test_a_wrong_recovery_is_named(alice: Client, body, field: str):
    reply = await alice.post(f"{PATH}/recover", body)
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", field])
