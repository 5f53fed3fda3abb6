from datetime import UTC, datetime

import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig, RetryConfig
from trunkline.clock import ManualClock
from trunkline.errors import Invalid, RemoteFailed
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.retry import RetryPolicy, back_off, retry_after
from trunkline.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = Target("w", "i", "Alerts", "https://api.example")


def endpoint(method="GET", **retry):
    return compile_endpoint(
        EndpointConfig(
            name="go", description="", method=method, path="/go", retry_config=RetryConfig(**retry)
        )
    )


async def call(egress, compiled, clock=None, **options):
    caller = RestCaller(egress, clock or ManualClock(), Settings())
    return await caller.call(TARGET, compiled, {}, {}, **options)


def failure(kind, *, retryable=True):
    return RemoteFailed(f"api.example: {kind}", kind=kind, retryable=retryable)


async def test_a_listed_status_is_repeated_until_it_works():
    egress = FakeEgress(reply(503), reply(429), reply(200, {"ok": True}))
    trace = await call(egress, endpoint())
    assert (trace.status_code, trace.retries, trace.error) == (200, 2, None)
    assert len(egress.sent) == 3


async def test_total_calls_are_one_more_than_the_retries():
    egress = FakeEgress(reply(503))
    trace = await call(egress, endpoint(max_retries=4))
    assert (len(egress.sent), trace.retries, trace.status_code) == (5, 4, 503)
    assert trace.error == "HTTP 503 from Alerts"
    assert trace.retryable


async def test_no_retries_means_one_call():
    egress = FakeEgress(reply(503))
    assert (await call(egress, endpoint(max_retries=0))).retries == 0
    assert len(egress.sent) == 1


async def test_a_status_that_is_not_listed_is_kept():
    egress = FakeEgress(reply(500))
    trace = await call(egress, endpoint(retry_on_status=[503]))
    assert (trace.retries, trace.status_code) == (0, 500)


@pytest.mark.parametrize("kind", ["timeout", "closed", "connect", "dns"])
async def test_an_idempotent_call_is_repeated_after_a_network_failure(kind):
    egress = FakeEgress(failure(kind), reply(200, {}))
    trace = await call(egress, endpoint("PUT"))
    assert (trace.error, trace.retries) == (None, 1)


@pytest.mark.parametrize("kind", ["timeout", "closed"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_post_that_may_have_arrived_is_not_sent_twice(kind, method):
    egress = FakeEgress(failure(kind))
    trace = await call(egress, endpoint(method))
    assert (len(egress.sent), trace.error_kind, trace.status_code) == (1, kind, None)


@pytest.mark.parametrize("kind", ["connect", "dns"])
async def test_a_post_that_cannot_have_arrived_is_repeated(kind):
    egress = FakeEgress(failure(kind), reply(201, {}))
    assert (await call(egress, endpoint("POST"))).retries == 1


async def test_a_failure_that_will_not_pass_is_not_repeated():
    egress = FakeEgress(failure("refused_address", retryable=False))
    trace = await call(egress, endpoint())
    assert (len(egress.sent), trace.error_kind, trace.retryable) == (1, "refused_address", False)


async def test_retry_after_is_waited_for_exactly():
    clock = ManualClock()
    egress = FakeEgress(reply(503, headers={"Retry-After": "7"}), reply(200, {}))
    await call(egress, endpoint(), clock)
    assert clock.slept == [7.0]


async def test_a_wait_that_exceeds_the_budget_ends_the_call_with_the_answer_that_asked_for_it():
    clock = ManualClock()
    egress = FakeEgress(reply(429, {"why": "busy"}, {"Retry-After": "500"}))
    trace = await call(egress, endpoint(), clock, budget_seconds=60)
    assert (clock.slept, trace.retries, trace.status_code) == ([], 0, 429)
    assert (trace.raw_response, trace.retry_after) == ({"why": "busy"}, 500.0)


async def test_the_budget_ends_the_attempts_although_retries_are_left():
    clock = ManualClock()

    def slow(_sent):
        clock.advance(25)
        return reply(503)

    trace = await call(FakeEgress(slow), endpoint(max_retries=10), clock, budget_seconds=60)
    assert trace.retries <= 2
    assert trace.duration_ms <= 100_000


async def test_the_last_attempt_may_take_only_what_is_left_of_the_budget():
    egress = FakeEgress(reply(200, {}))
    await call(egress, endpoint(), budget_seconds=3)
    limits = egress.sent[0].limits
    assert (limits.total_seconds, limits.connect_seconds) == (3, 3)


def test_back_off_doubles_up_to_a_minute_with_full_jitter(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    assert [back_off(n) for n in (0, 1, 2, 5, 6, 1000)] == [1, 2, 4, 32, 60, 60]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0", 0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 00:00:30", 30),
        ("999999999999999999999", 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("Wed, 31 Dec 2025 23:59:59 GMT", None),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("1e9", None),
        ("nan", None),
        ("٣", None),
        ("1" * 5000, None),
        ("Thu, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_ignored(text, seconds):
    assert retry_after({"Retry-After": text}, NOW) == seconds


@pytest.mark.parametrize(
    ("config", "loc"),
    [
        (RetryConfig(max_retries=11), ("retry_config", "max_retries")),
        (RetryConfig(max_retries=-1), ("retry_config", "max_retries")),
        (RetryConfig(retry_on_status=[503, 99]), ("retry_config", "retry_on_status", 1)),
        (RetryConfig(retry_on_status=[600]), ("retry_config", "retry_on_status", 0)),
        (RetryConfig(retry_on_status=[503] * 501), ("retry_config", "retry_on_status")),
    ],
)
def test_a_retry_setting_out_of_range_is_refused_by_name(config, loc):
    with pytest.raises(Invalid) as caught:
        RetryPolicy.compile(config)
    assert caught.value.fields[0].loc == loc
