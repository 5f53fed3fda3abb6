from datetime import UTC, datetime

import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.manifest import Endpoint, Manifest, RateLimit
from trunkline.clock import ManualClock
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.ratelimit import RateGate
from trunkline.settings import Settings

RULE = RateLimit(remaining="X-Left", reset="X-Reset", reset_format="delta_seconds")
MANIFEST = Manifest(id="m", name="Alerts", base_url="https://api.example", rate_limit=RULE)
TARGET = Target("w", "i", "Alerts", "https://api.example", manifest=MANIFEST)
LIST = compile_endpoint(Endpoint(name="list", path="/list"), MANIFEST)


@pytest.fixture
def gate(clock):
    return RateGate(clock)


async def test_the_next_call_waits_until_the_limit_is_reset(clock):
    egress = FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "20"}), reply(200, {}))
    caller = RestCaller(egress, clock, Settings())
    await caller.call(TARGET, LIST, {}, {})
    trace = await caller.call(TARGET, LIST, {}, {})
    assert (trace.error, clock.slept) == (None, [20.0])


async def test_a_call_whose_budget_ends_before_the_reset_fails_at_once(clock):
    egress = FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "200"}))
    caller = RestCaller(egress, clock, Settings())
    await caller.call(TARGET, LIST, {}, {})
    trace = await caller.call(TARGET, LIST, {}, {}, budget_seconds=60)
    assert (trace.error_kind, trace.retryable, trace.retry_after) == ("rate_limited", True, 200.0)
    assert trace.error == "Alerts allows no more calls for 200 s"
    assert (trace.status_code, len(egress.sent), clock.slept) == (None, 1, [])


async def test_another_integration_is_not_held_back(clock):
    egress = FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "200"}))
    caller = RestCaller(egress, clock, Settings())
    await caller.call(TARGET, LIST, {}, {})
    other = Target("w", "other", "Alerts", "https://api.example", manifest=MANIFEST)
    assert (await caller.call(other, LIST, {}, {})).error is None
    assert clock.slept == []


async def test_forgetting_an_integration_opens_its_gate(clock):
    caller = RestCaller(FakeEgress(reply(200, {}, {"X-Left": "0", "X-Reset": "200"})), clock, Settings())
    await caller.call(TARGET, LIST, {}, {})
    caller.forget("i")
    assert (await caller.call(TARGET, LIST, {}, {}, budget_seconds=1)).error is None


def test_too_many_requests_closes_the_gate_for_its_retry_after(gate):
    gate.learn("i", 429, {"Retry-After": "9"}, None)
    assert gate.wait_seconds("i") == 9.0


def test_too_many_requests_without_retry_after_uses_the_reset_header(gate):
    gate.learn("i", 429, {"X-Reset": "9"}, RateLimit(reset="X-Reset", reset_format="delta_seconds"))
    assert gate.wait_seconds("i") == 9.0


def test_the_reset_may_be_a_point_in_time(gate, clock: ManualClock):
    rule = RateLimit(remaining="X-Left", reset="X-Reset")
    gate.learn("i", 200, {"X-Left": "0", "X-Reset": str(int(clock.now().timestamp()) + 30)}, rule)
    assert gate.wait_seconds("i") == 30.0


def test_the_point_in_time_may_be_in_milliseconds(gate, clock: ManualClock):
    rule = RateLimit(remaining="left", reset="reset", reset_format="epoch_ms")
    reset = int((clock.now().timestamp() + 42) * 1_000)
    gate.learn("i", 200, {"left": "0", "reset": str(reset)}, rule)
    assert gate.wait_seconds("i") == pytest.approx(42)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Left": "0"},
        {"X-Left": "1", "X-Reset": "50"},
        {"X-Left": "0", "X-Reset": "-5"},
        {"X-Left": "0", "X-Reset": "nan"},
        {"X-Left": "zero", "X-Reset": "50"},
        {"X-Left": "0", "X-Reset": "9" * 100},
    ],
)
def test_headers_that_make_no_sense_change_nothing(gate, headers):
    gate.learn("i", 200, headers, RULE)
    assert gate.wait_seconds("i") == 0.0


def test_a_reset_far_away_is_taken_for_an_hour(gate):
    gate.learn("i", 200, {"X-Left": "0", "X-Reset": "99999999"}, RULE)
    assert gate.wait_seconds("i") == 3600.0


def test_a_passed_reset_is_forgotten(gate, clock):
    gate.learn("i", 429, {"Retry-After": "9"}, None)
    clock.advance(9)
    assert gate.wait_seconds("i") == 0.0


def test_the_gate_remembers_a_bounded_number_of_integrations(clock):
    gate = RateGate(clock, size=2)
    for name in "abc":
        gate.learn(name, 429, {"Retry-After": "9"}, None)
    assert [gate.wait_seconds(name) for name in "abc"] == [0.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("reset", "wait"), [("2026-01-01T00:01Z", 60), ("2026-01-01T01:00:30+01:00", 30), ("soon", 0), ("", 0)]
)
def test_a_reset_may_be_a_time_in_iso_8601(reset: str, wait: float):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    gate = RateGate(clock)
    gate.learn(
        "i",
        200,
        {"left": "0", "reset": reset},
        RateLimit(remaining="left", reset="reset", reset_format="iso8601"),
    )
    assert gate.wait_seconds("i") == wait
