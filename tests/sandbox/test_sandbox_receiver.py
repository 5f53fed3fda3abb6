"""The receiver: what it records, whom it believes, how it fails when told."""

import asyncio
import base64
import hashlib
import hmac

import pytest

# The vector of the specification's reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, STAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signed(secret, at, body=b"{}", message_id="msg_1"):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    stamp = str(int(at.timestamp()))
    digest = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


async def told(control, name, **order):
    answer = await control.ask("POST", f"/receiver/{name}", json=order)
    assert answer.status == 200, answer.body
    return answer.json


async def test_what_comes_is_recorded_under_its_id_and_read_back(control, receiver):
    for number in range(3):
        assert (await receiver.ask("POST", "/orders", json={"n": number})).status == 200
    got = await told(control, "received", id="orders", last=2)
    assert (got["count"], [one["body"] for one in got["received"]]) == (3, ['{"n":1}', '{"n":2}'])
    assert {(one["verified"], one["repeated"], one["status"]) for one in got["received"]} == {
        (None, False, 200)
    }
    assert (await told(control, "received", id="others"))["count"] == 0
    assert await told(control, "forget", id="orders") == {"forgotten": True}
    assert (await told(control, "received", id="orders"))["count"] == 0


async def test_the_vector_of_the_reference_libraries_verifies(control, receiver, clock):
    clock.advance(STAMP - clock.now().timestamp())
    await told(control, "expect", id="a", secrets=[SECRET])
    headers = {"webhook-id": ID, "webhook-timestamp": str(STAMP), "webhook-signature": SIGNATURE}
    assert (await receiver.ask("POST", "/a", content=BODY, headers=headers)).status == 200
    for change in (
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(STAMP + 1)},
        {"webhook-timestamp": "now"},
        {"webhook-signature": SIGNATURE.replace("v1,", "v2,")},
        {"webhook-signature": SIGNATURE.replace("g0hM", "g1hM")},
        {"webhook-signature": None},
        {"webhook-id": None},
    ):
        assert (await receiver.ask("POST", "/a", content=BODY, headers=headers | change)).status == 401
    assert (await receiver.ask("POST", "/a", content=BODY + b" ", headers=headers)).status == 401
    got = await told(control, "received", id="a")
    assert [one["verified"] for one in got["received"]] == [True, *[False] * 8]


async def test_any_of_two_secrets_will_do_and_a_time_more_than_five_minutes_off_will_not(
    control, receiver, clock, sandbox
):
    ours = sandbox.ready("")["receiver"]["secret"]
    await told(control, "expect", id="a", secrets=[SECRET, ours])
    for secret in (SECRET, ours):
        assert (
            await receiver.ask("POST", "/a", content=b"{}", headers=signed(secret, clock.now()))
        ).status == 200
    headers = signed(ours, clock.now())
    clock.advance(300)
    assert (await receiver.ask("POST", "/a", content=b"{}", headers=headers)).status == 200
    clock.advance(1)
    late = await receiver.ask("POST", "/a", content=b"{}", headers=headers)
    assert (late.status, "five minutes" in late.json["error"]) == (401, True)
    got = (await told(control, "received", id="a"))["received"]
    assert [one["repeated"] for one in got] == [False, True, True, True]


async def test_the_secret_that_is_handed_out_holds_where_nothing_else_was_said(receiver, clock, sandbox):
    ours = sandbox.ready("")["receiver"]["secret"]
    assert (await receiver.ask("POST", "/b", content=b"{}", headers=signed(ours, clock.now()))).status == 200
    assert (
        await receiver.ask("POST", "/b", content=b"{}", headers=signed(SECRET, clock.now()))
    ).status == 401


async def test_it_answers_what_it_is_told_as_often_as_it_is_told(control, receiver):
    await told(control, "expect", id="a", status=429, headers={"Retry-After": "7"}, times=2)
    answers = [await receiver.ask("POST", "/a", json={}) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == ["7", "7", None]
    await told(control, "expect", id="a", status=410)
    assert [(await receiver.ask("POST", "/a", json={})).status for _ in range(3)] == [410, 410, 410]


async def test_told_to_hang_it_never_answers(control, receiver):
    await told(control, "expect", id="a", hang=True)
    waiting = asyncio.Event()

    async def app(scope, receive, send):
        bodies = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def quiet():
            if bodies:
                return bodies.pop()
            waiting.set()
            return await asyncio.Event().wait()

        await receiver_app(scope, quiet, send)

    receiver_app, receiver.sandbox = receiver.sandbox, app
    request = asyncio.create_task(receiver.ask("POST", "/a"))
    await waiting.wait()
    assert not request.done()
    request.cancel()
    assert (await told(control, "received", id="a"))["received"][0]["status"] is None


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({}, "id"),
        ({"id": "a", "status": "gone"}, "status"),
        ({"id": "a", "status": 99}, "status"),
        ({"id": "a", "times": 0}, "times"),
        ({"id": "a", "secrets": ["whsec_short"]}, "secrets"),
        ({"id": "a", "secrets": "whsec_"}, "secrets"),
        ({"id": "a", "headers": {"a": 1}}, "headers"),
        ({"id": "a", "body": "x"}, "body"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_naming_the_field(control, order, field):
    answer = await control.ask("POST", "/receiver/expect", json=order)
    assert (answer.status, field in answer.json["error"]) == (422, True)
