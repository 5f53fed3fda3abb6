"""Deliveries from the event to the receiver: signed, repeated on schedule, put off, given up, sent again."""

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web

import delivery_stories as story
from delivery_stories import deliver, happen, only, receiver, webhook
from http_asgi import Client
from trunkline.catalog.manifest import Verify, Webhook
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.errors import Unauthenticated
from trunkline.rest.signatures import compile_webhook
from trunkline.services import schedule, sending

DAY = 24 * 3600.0


def verifier():
    rule = Verify(type="standard", secret="signing")
    return compile_webhook(Webhook(verify={"sign": rule}, secrets={"signing": {"label": "S"}}), {})


async def test_a_webhook_gets_the_event_signed_and_once(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream)
    route = await webhook(alice, target.url + "/in?source=1")
    (event_id,) = await happen(alice, "alert.opened", title="Disk full", severity="high", data={"disk": 1})
    await deliver(app)
    await deliver(app)
    ((headers, body),) = target.got
    assert headers["content-type"] == "application/cloudevents+json"
    assert target.bodies[0].items() >= {"specversion": "1.0", "id": event_id, "type": "alert.opened"}.items()
    found = await only(alice)
    assert headers["webhook-id"] == headers["idempotency-key"] == found["id"]
    secrets = {"signing": route["signing_secret"]}
    assert verifier().verify(headers, body, {}, secrets, clock.now())
    with pytest.raises(Unauthenticated):
        verifier().verify(headers, body + b" ", {}, secrets, clock.now())
    assert (found["state"], found["attempt_count"], found["last_status"]) == ("delivered", 1, 200)


async def test_after_a_rotation_both_secrets_sign_for_a_day(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream)
    route = await webhook(alice, target.url)
    rotated = (await alice.post(f"/v1/{{ws}}/routes/{route['id']}/rotate-secret")).json
    for _ in range(2):
        await happen(alice, "alert.opened")
        await deliver(app)
        clock.advance(DAY + 1)
    (both, first), (one, second) = target.got
    for secret in (route["signing_secret"], rotated["signing_secret"]):
        assert verifier().verify(both, first, {}, {"signing": secret}, clock.now() - timedelta(days=2))
    assert len(one["webhook-signature"].split()) == 1
    assert second


async def test_a_failed_delivery_is_repeated_on_schedule_given_up_and_recovered(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 500)
    await webhook(alice, target.url)
    began = clock.now()
    await happen(alice, "alert.opened")
    await deliver(app)
    for number, seconds in enumerate(schedule.RETRY_SECONDS, 1):
        assert target.count == number
        clock.advance(seconds * 0.79)
        await deliver(app)
        assert target.count == number
        clock.advance(seconds * 0.42 + 1)
        await deliver(app)
    assert target.count == 10
    found = await only(alice)
    assert (found["state"], found["failures"], found["last_status"]) == ("failed", 10, 500)
    assert [attempt["status"] for attempt in found["attempts"]] == [500] * 10
    assert (await story.log_types(alice)).count("delivery.failed") == 1
    clock.advance(3600)
    await deliver(app)
    assert target.count == 10

    target.answers(200)
    reply = await alice.post("/v1/{ws}/deliveries/recover", {"since": began.isoformat()})
    assert reply.json == {"count": 1}
    await deliver(app)
    found = await only(alice)
    assert (found["state"], found["attempt_count"], target.count) == ("delivered", 11, 11)
    assert {headers["webhook-id"] for headers, _ in target.got} == {found["id"]}


async def test_not_now_is_waited_for_and_counts_as_no_failure(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, (429, {"Retry-After": "120"}), (503, {"Retry-After": "600"}), 200)
    await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    await deliver(app)
    await happen(alice, "alert.closed")
    for seconds, count in ((119, 1), (2, 3), (598, 3)):
        clock.advance(seconds)
        await deliver(app)
        assert target.count == count
    assert {item["failures"] for item in await story.listed(alice)} == {0}
    clock.advance(3)
    await deliver(app)
    assert target.count == 4
    assert {item["state"] for item in await story.listed(alice)} == {"delivered"}
    assert (await story.destination(app)).failures == 0


async def test_a_target_that_only_ever_says_not_now_is_given_up_after_five_days(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 429)
    await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    for _ in range(400):
        await deliver(app)
        clock.advance(1800)
    found = await only(alice)
    assert (found["state"], found["failures"]) == ("failed", 0)
    assert target.count < 400


async def test_gone_switches_the_routes_off_and_ends_what_waits(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 410)
    route = await webhook(alice, target.url)
    await happen(alice, *["alert.opened"] * 20)
    await deliver(app)
    assert target.count == 8  # those under way when the first answer came
    assert {item["state"] for item in await story.listed(alice)} == {"failed"}
    shown = (await alice.get(f"/v1/{{ws}}/routes/{route['id']}")).json
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "It answered 410 (gone).")
    assert (await story.log_types(alice)).count("delivery.route_disabled") == 1

    target.answers(200)
    began = (clock.now() - timedelta(hours=1)).isoformat()
    assert (await alice.post("/v1/{ws}/deliveries/recover", {"since": began})).json == {"count": 0}
    assert (await alice.put(f"/v1/{{ws}}/routes/{route['id']}", {"enabled": True})).status == 200
    clock.advance(1)
    assert (await alice.post("/v1/{ws}/deliveries/recover", {"since": began})).json == {"count": 20}
    await deliver(app)
    assert {item["state"] for item in await story.listed(alice)} == {"delivered"}


async def test_a_target_that_fails_for_five_days_is_switched_off(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 500)
    route = await webhook(alice, target.url)
    for _ in range(6 * 4):
        await happen(alice, "alert.opened")
        await deliver(app)
        clock.advance(DAY / 4)
    shown = (await alice.get(f"/v1/{{ws}}/routes/{route['id']}")).json
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "Every attempt failed for 5 days.")
    assert {item["state"] for item in await story.listed(alice)} == {"failed"}


async def test_after_five_failures_one_attempt_at_a_time_tells_whether_it_is_back(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream, 500)
    await webhook(alice, target.url)
    await happen(alice, *["alert.opened"] * 30)
    await deliver(app)
    assert target.count == 8
    counts = []
    for seconds in (24, 13, 40, 40):  # 30 s, then 60 s, a fifth more or less
        clock.advance(seconds)
        await deliver(app)
        counts.append(target.count)
    assert counts == [8, 9, 9, 10]
    target.answers(200)
    clock.advance(150)
    await deliver(app)
    delivered = [item for item in await story.listed(alice) if item["state"] == "delivered"]
    assert len(delivered) >= 30 - 10
    assert (await story.destination(app)).failures == 0


async def test_a_dead_target_never_holds_up_a_healthy_one(app: App, alice: Client, upstream):
    dead, healthy = await receiver(upstream, 500), await receiver(upstream)
    await webhook(alice, dead.url, "alert.storm")
    await webhook(alice, healthy.url, "alert.calm")
    await happen(alice, *["alert.storm"] * 300)
    await happen(alice, "alert.calm")
    await sending.send_due(app)
    await sending.settle(app)
    assert healthy.count == 1


async def test_a_target_that_hangs_takes_only_its_own_places(app: App, alice: Client, upstream):
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    hanging, healthy = await upstream(hang), await receiver(upstream)
    await webhook(alice, hanging, "alert.storm")
    await webhook(alice, healthy.url, "alert.calm")
    await happen(alice, *["alert.storm"] * 50)
    await happen(alice, *["alert.calm"] * 5)
    while healthy.count < 5:
        rung = app.bells.deliveries.rung
        if not await sending.send_due(app):
            await app.bells.deliveries.wait(5, since=rung)
    assert len(app.outbox.tasks) <= 8 + 5
    await sending.settle(app, seconds=0.01)
    states = [item["state"] for item in await story.listed(alice)]
    assert states.count("delivered") == 5
    assert states.count("pending") == 50


async def test_many_targets_that_take_long_leave_room_for_others(
    app: App, alice: Client, upstream, clock: ManualClock
):
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    hanging, healthy = await upstream(hang), await receiver(upstream)
    for number in range(10):
        await webhook(alice, f"{hanging}/{number}", "alert.storm")
    await webhook(alice, healthy.url, "alert.calm")
    await happen(alice, *["alert.storm"] * 20)
    while await sending.send_due(app):
        pass
    assert len(app.outbox.tasks) == sending.AT_ONCE
    await happen(alice, "alert.calm")
    await sending.send_due(app)
    assert len(app.outbox.tasks) == sending.AT_ONCE  # nobody knows yet that these take long
    clock.advance(sending.SLOW_SECONDS)
    while healthy.count < 1:
        rung = app.bells.deliveries.rung
        if not await sending.send_due(app):
            await app.bells.deliveries.wait(5, since=rung)
    assert len(app.outbox.tasks) <= 10 * 8 + 1
    await sending.settle(app, seconds=0.01)


async def test_redirects_are_not_followed(app: App, alice: Client, upstream):
    target = await receiver(upstream, (302, {"Location": "/elsewhere"}))
    await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    await deliver(app)
    assert ((await only(alice))["last_status"], target.count) == (302, 1)


async def test_a_forbidden_address_fails_without_a_connection(app: App, alice: Client):
    await webhook(alice, "https://10.1.2.3/in")
    await happen(alice, "alert.opened")
    await deliver(app)
    found = await only(alice)
    assert (found["state"], found["failures"]) == ("pending", 1)
    assert "10.1.2.3" in found["last_error"]


async def test_a_deleted_route_sends_no_more(app: App, alice: Client, upstream, clock: ManualClock):
    target = await receiver(upstream, 500)
    route = await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    await deliver(app)
    assert (await alice.delete(f"/v1/{{ws}}/routes/{route['id']}")).status == 204
    clock.advance(DAY)
    await deliver(app)
    assert (target.count, (await only(alice))["state"]) == (1, "cancelled")


async def test_a_route_switched_off_cancels_what_waits(app: App, alice: Client, upstream, clock: ManualClock):
    target = await receiver(upstream, 500)
    route = await webhook(alice, target.url)
    await happen(alice, "alert.opened")
    await deliver(app)
    assert (await alice.put(f"/v1/{{ws}}/routes/{route['id']}", {"enabled": False})).status == 200
    clock.advance(DAY)
    await deliver(app)
    found = await only(alice)
    assert (target.count, found["state"], len(found["attempts"])) == (1, "cancelled", 1)
    assert "switched off" in found["last_error"]


async def test_a_new_address_takes_what_waited_for_the_old_one(
    app: App, alice: Client, upstream, clock: ManualClock
):
    old, new = await receiver(upstream, 500), await receiver(upstream)
    route = await webhook(alice, old.url)
    await happen(alice, *["alert.opened"] * 10)
    await deliver(app)
    target = {"type": "webhook", "url": new.url}
    assert (await alice.put(f"/v1/{{ws}}/routes/{route['id']}", {"target": target})).status == 200
    await deliver(app)
    assert new.count == 10


async def test_the_trace_of_an_attempt_is_kept_without_secrets_and_small(app: App, alice: Client, upstream):
    async def chatty(request: web.Request) -> web.Response:
        return web.Response(status=500, text=request.headers["webhook-signature"] + "x" * 200_000)

    route = await webhook(alice, await upstream(chatty))
    await happen(alice, "alert.opened", data={"long": "y" * 100_000})
    await deliver(app)
    reply = await alice.get(f"/v1/{{ws}}/deliveries/{(await only(alice))['id']}")
    (attempt,) = reply.json["attempts"]
    assert attempt["trace"]["exchanges"][0]["response"]["status"] == 500
    assert len(reply.body) < 9_000
    assert route["signing_secret"] not in reply.text


async def test_at_a_stop_nothing_new_is_begun_and_what_is_under_way_is_written_down(
    app: App, alice: Client, upstream
):
    target = await receiver(upstream)
    await webhook(alice, target.url)
    await happen(alice, *["alert.opened"] * 20)
    await sending.send_due(app)
    app.stopping = True
    await sending.send_due(app)
    await sending.stop(app)
    states = [item["state"] for item in await story.listed(alice)]
    assert (target.count, states.count("delivered"), states.count("pending")) == (8, 8, 12)
