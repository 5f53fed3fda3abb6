"""A call made once: nothing is repeated or waited for; headers and a rate limit of its own."""

import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig, RetryConfig
from trunkline.catalog.manifest import AuthMethod, Endpoint, Manifest, RateLimit
from trunkline.errors import RemoteFailed
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

RULE = RateLimit(remaining="X-Left", reset="X-Reset", reset_format="delta_seconds")
MANIFEST = Manifest(id="m", name="Chat", base_url="https://api.example", rate_limit=RULE)
TARGET = Target("w", "i", "Chat", "https://api.example", manifest=MANIFEST)
RETRIES = RetryConfig(max_retries=3, retry_on_status=[500, 429])
SAY = compile_endpoint(Endpoint(name="say", method="POST", path="/say", retry_config=RETRIES), MANIFEST)


@pytest.mark.parametrize(
    "answer",
    [
        reply(500),
        reply(429, headers={"Retry-After": "3"}),
        RemoteFailed("no", kind="connect", retryable=True),
    ],
)
async def test_a_call_made_once_is_not_repeated(clock, answer):
    egress = FakeEgress(answer, reply(200, {}))
    trace = await RestCaller(egress, clock, Settings()).call(TARGET, SAY, {}, {}, once=True)
    assert (trace.error is not None, len(egress.sent), clock.slept) == (True, 1, [])


async def test_a_call_made_once_does_not_wait_for_its_turn(clock):
    egress = FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "3"}))
    caller = RestCaller(egress, clock, Settings())
    await caller.call(TARGET, SAY, {}, {}, once=True)
    trace = await caller.call(TARGET, SAY, {}, {}, once=True)
    assert (trace.error_kind, trace.retry_after, len(egress.sent)) == ("rate_limited", 3.0, 1)


async def test_a_rate_limit_of_its_own_holds_up_nobody_else(clock):
    egress = FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "3"}))
    caller = RestCaller(egress, clock, Settings())
    await caller.call(TARGET, SAY, {}, {}, gate="room-1")
    assert caller.gate.wait_seconds("room-1") == 3.0
    await caller.call(TARGET, SAY, {}, {}, gate="room-2")
    await caller.call(TARGET, SAY, {}, {}, once=True)
    assert (len(egress.sent), clock.slept) == (3, [])


async def test_headers_of_one_call_win_over_the_endpoints(clock):
    egress = FakeEgress(reply(200, {}))
    own = EndpointConfig(
        name="e", description="", path="/x", headers={"idempotency-key": "fixed", "X-A": "1"}
    )
    extra = {"Idempotency-Key": "d1"}
    await RestCaller(egress, clock, Settings()).call(
        TARGET, compile_endpoint(own), {}, {}, extra_headers=extra
    )
    sent = egress.sent[0].headers
    assert (sent["Idempotency-Key"], sent["X-A"], "idempotency-key" in sent) == ("d1", "1", False)


async def test_credentials_win_over_headers_of_one_call(clock):
    egress = FakeEgress(reply(200, {}))
    target = Target("w", "i", "Chat", "https://api.example", AuthMethod(type="bearer_token"))
    extra, secrets = {"authorization": "Bearer forged"}, {"bearer_token": "real-one"}
    caller = RestCaller(egress, clock, Settings())
    await caller.call(target, SAY, {}, secrets, extra_headers=extra)
    assert egress.sent[0].headers["Authorization"] == "Bearer real-one"
    assert "authorization" not in egress.sent[0].headers


async def test_a_ready_body_leaves_as_it_is_and_secrets_are_not_shown(clock):
    egress = FakeEgress(reply(500, {"said": "whsec_of-a-route"}))
    target = Target("w", "d", "hooks.example", "https://hooks.example/in?a=1&b=%20")
    trace = await RestCaller(egress, clock, Settings()).post(
        target,
        b'{"a" : 1}',
        {"Content-Type": "application/cloudevents+json"},
        {"signing_secret": "whsec_of-a-route"},
        gate="d",
        budget_seconds=30,
    )
    (sent,) = egress.sent
    assert (sent.url, sent.body) == ("https://hooks.example/in?a=1&b=%20", b'{"a" : 1}')
    assert sent.headers == {"Content-Type": "application/cloudevents+json"}
    assert (sent.follow_redirects, sent.limits.total_seconds) == (False, 30)
    assert trace.error.startswith("HTTP 500 from hooks.example")
    assert "whsec_of-a-route" not in str(trace.to_wire())
