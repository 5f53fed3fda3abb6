"""The sender: real requests to a real address, signed rightly or wrong on purpose, to this machine only."""

import hashlib
import hmac
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from trunkline.sandbox import SandboxOptions, SandboxServer


@asynccontextmanager
async def running(clock):
    """A sandbox on a port: deliver to its own receiver, and read what came."""
    options = SandboxOptions(count=5, clock=clock)
    async with SandboxServer(options) as server, aiohttp.ClientSession() as session:

        async def control(path, **order):
            async with session.post(f"{server.origin}/_sandbox/{path}", json=order) as answer:
                return answer.status, await answer.json()

        yield server, control


async def received(control):
    _, got = await control("receiver/received", id="hook")
    return [
        ({name.title(): value for name, value in one["headers"].items()}, one["body"])
        for one in got["received"]
    ]


def hexed(secret, body):
    return hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()


VENDORS = [
    ("sentry", "issue", "Sentry-Hook-Signature", "{}"),
    ("sentry", "event_alert", "Sentry-Hook-Signature", "{}"),
    ("sentry", "metric_alert", "Sentry-Hook-Signature", "{}"),
    ("pagerduty", "incident.triggered", "X-Pagerduty-Signature", "v1={}"),
    ("github", "push", "X-Hub-Signature-256", "sha256={}"),
    ("github", "workflow_run", "X-Hub-Signature-256", "sha256={}"),
    ("linear", "Issue", "Linear-Signature", "{}"),
]


@pytest.mark.parametrize(("service", "event", "header", "form"), VENDORS)
async def test_a_webhook_arrives_signed_as_its_service_signs(clock, service, event, header, form):
    async with running(clock) as (server, control):
        url = f"{server.ready['receiver']['url']}/hook"
        status, answer = await control(f"{service}/deliver", url=url, event=event)
        assert (status, answer["status"], answer["statuses"]) == (200, 200, [200])
        _, other = await control(f"{service}/deliver", url=url, event=event, secret="another")
        assert other["status"] == 200
        for secret, (headers, body) in zip(
            (server.ready[service]["webhook_secret"], "another"), await received(control), strict=True
        ):
            assert headers[header] == form.format(hexed(secret, body))
            assert orjson.loads(body)


async def test_what_is_tampered_with_is_wrong_in_just_that(clock):
    async with running(clock) as (server, control):
        url, secret = f"{server.ready['receiver']['url']}/hook", "s"
        for tamper in ("unsigned", "signature", "body", "stale"):
            await control("linear/deliver", url=url, event="Issue", secret=secret, tamper=tamper)
        unsigned, wrong, changed, stale = await received(control)
        assert "Linear-Signature" not in unsigned[0]
        given, right = wrong[0]["Linear-Signature"], hexed(secret, wrong[1])
        assert (len(given), given != right, sum(a != b for a, b in zip(given, right, strict=True))) == (
            64,
            True,
            1,
        )
        assert (
            changed[0]["Linear-Signature"]
            == hexed(secret, changed[1].removesuffix(" "))
            != hexed(secret, changed[1])
        )
        assert stale[0]["Linear-Signature"] == hexed(secret, stale[1])
        assert orjson.loads(stale[1])["webhookTimestamp"] == (clock.now().timestamp() - 3_600) * 1_000


async def test_a_webhook_is_repeated_to_the_letter(clock):
    async with running(clock) as (server, control):
        url = f"{server.ready['receiver']['url']}/hook"
        _, answer = await control("github/deliver", url=url, event="issues", times=3)
        assert answer["statuses"] == [200, 200, 200]
        first, *rest = await received(control)
        assert rest == [first, first]


async def test_a_pager_signs_with_both_secrets_while_one_is_replaced(clock):
    async with running(clock) as (server, control):
        url = f"{server.ready['receiver']['url']}/hook"
        await control("pagerduty/deliver", url=url, event="incident.resolved", secret="old new")
        await control("pagerduty/deliver", url=url, event="pagey.ping", secret="old new", tamper="signature")
        (headers, body), (spoilt, ping) = await received(control)
        assert headers["X-Pagerduty-Signature"] == f"v1={hexed('old', body)},v1={hexed('new', body)}"
        assert orjson.loads(body)["event"]["data"]["status"] == "resolved"
        right = {f"v1={hexed(secret, ping)}" for secret in ("old", "new")}
        assert right.isdisjoint(spoilt["X-Pagerduty-Signature"].split(","))


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({}, "url"),
        ({"url": "https://example.com/hook"}, "url"),
        ({"url": "http://192.0.2.1/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://localhost:99999/"}, "url"),
        ({"url": "http://[::1"}, "url"),
        ({"url": ["http://localhost"]}, "url"),
        ({"event": "nothing"}, "event"),
        ({"event": ["issue"]}, "event"),
        ({"secret": 5}, "secret"),
        ({"tamper": "all"}, "tamper"),
        ({"tamper": ["body"]}, "tamper"),
        ({"times": 0}, "times"),
        ({"id": "9"}, "id"),
        ({"action": "explode"}, "action"),
    ],
)
async def test_an_order_that_cannot_be_carried_out_is_refused_naming_the_field(control, order, field):
    given = {"url": "http://127.0.0.1:9/", "event": "issue"} if order else {}
    answer = await control.ask("POST", "/sentry/deliver", json=given | order)
    assert (answer.status, field in answer.json["error"]) == (422, True)


async def test_an_address_where_nobody_answers_and_a_fake_that_is_none_are_told(control, free_port):
    order = {"url": f"http://127.0.0.1:{free_port}/", "event": "issue"}
    assert (await control.ask("POST", "/sentry/deliver", json=order)).status == 502
    assert (await control.ask("POST", "/nobody/deliver", json=order)).status == 404
    assert (await control.ask("POST", "/servicenow/deliver", json=order)).status == 422
    assert (await control.ask("POST", "/sentry/deliver", json=order, peer="192.0.2.1")).status == 403


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
