"""Routes, deliveries and hooks from the command line: what is asked of the hub and what is shown."""

import json
from typing import Any

import pytest
from cli_fake_hub import NOW_ID, FakeHub, Run, integration

ROUTE_ID = "3d0c8c5e-6c58-4f1c-9a54-0f4d6f1c2b11"
DELIVERY_ID = "5a4d4b7e-93a3-4b42-8a56-6a5f3a0f7c22"
ONE = f"/routes/{ROUTE_ID}"
TARGET = {"type": "notify", "connector": "slack", "integration_id": None, "channel": "C0PAGER"}


def route(**fields: Any) -> dict[str, Any]:
    """Describe a route as the hub shows it."""
    shown = {
        "id": ROUTE_ID,
        "name": "Alerts",
        "event_type": "sentry.*",
        "project_id": None,
        "conditions": [],
        "target": TARGET,
        "enabled": True,
        "disabled_reason": None,
        "signing_secret": None,
        "warning": None,
    }
    return shown | fields


def created(with_hub: Run, fake: FakeHub, *words: str) -> Any:
    """Make a route and return the body that was sent."""
    fake.answer("GET", "/integrations", [integration()])
    fake.answer("POST", "/routes", route(), 201)
    result = with_hub("route", "create", "--event-type", "sentry.*", *words)
    assert result.exit_code == 0, result.stderr
    return fake.last("POST").body


def test_a_route_into_a_channel(with_hub: Run, fake: FakeHub) -> None:
    words = ("--connector", "slack", "--channel", "C0PAGER", "--project", "shop", "--name", "Alerts")
    assert created(with_hub, fake, *words) == {
        "event_type": "sentry.*",
        "name": "Alerts",
        "project_id": "shop",
        "target": {"type": "notify", "channel": "C0PAGER", "connector": "slack"},
    }


def test_a_route_through_one_integration_is_sent_with_its_id(with_hub: Run, fake: FakeHub) -> None:
    body = created(with_hub, fake, "--integration", "now", "--channel", "C0PAGER")
    assert body["target"] == {"type": "notify", "channel": "C0PAGER", "integration_id": NOW_ID}


def test_a_route_to_an_endpoint(with_hub: Run, fake: FakeHub) -> None:
    words = (
        "--integration",
        "now",
        "--endpoint",
        "open",
        "--param",
        "title={event.title}",
        "--param",
        "n:=1",
    )
    assert created(with_hub, fake, *words)["target"] == {
        "type": "endpoint",
        "integration_id": NOW_ID,
        "endpoint": "open",
        "params": {"title": "{event.title}", "n": 1},
    }


def test_a_webhooks_secret_is_printed_alone(with_hub: Run, fake: FakeHub) -> None:
    target = {"type": "webhook", "url": "https://x.example"}
    fake.answer("POST", "/routes", route(target=target, signing_secret="whsec_1", warning="Odd."), 201)
    result = with_hub("route", "create", "--event-type", "*", "--webhook", "https://x.example")
    assert fake.last("POST").body["target"] == target
    assert result.stdout.splitlines()[-1] == "whsec_1"
    assert "Odd." in result.stderr


@pytest.mark.parametrize(
    ("word", "condition"),
    [
        ("severity=high", ("severity", "equals", "high")),
        ("data.count:=5", ("data.count", "equals", 5)),
        ("data.count greater_than 5", ("data.count", "greater_than", 5)),
        ("data.tags one_of a,b", ("data.tags", "one_of", ["a", "b"])),
        ("data.tags one_of [1, 2]", ("data.tags", "one_of", [1, 2])),
        ("data.title contains disk is full", ("data.title", "contains", "disk is full")),
        ("data.title exists", ("data.title", "exists", True)),
        ("data.title exists false", ("data.title", "exists", False)),
        ("title=two words", ("title", "equals", "two words")),
    ],
)
def test_conditions_are_read(with_hub: Run, fake: FakeHub, word: str, condition: tuple[Any, ...]) -> None:
    body = created(with_hub, fake, "--webhook", "https://x.example", "--condition", word)
    assert [tuple(each.values()) for each in body["conditions"]] == [condition]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--webhook", "https://x.example"), "Give --event-type"),
        (("--event-type", "*"), "Say where to"),
        (("--event-type", "*", "--channel", "C1"), "needs --connector or --integration"),
        (("--event-type", "*", "--endpoint", "open"), "needs --integration"),
        (("--event-type", "*", "--connector", "slack"), "add --channel or --endpoint"),
        (
            ("--event-type", "*", "--channel", "C1", "--webhook", "https://x"),
            "only one of --channel, --webhook",
        ),
        (("--event-type", "*", "--condition", "severity"), "is not PATH=VALUE"),
        (("--event-type", "*", "--condition", "n greater_than many"), "is not JSON"),
    ],
)
def test_what_is_missing_is_said_before_the_hub_is_asked(
    with_hub: Run, fake: FakeHub, words: tuple[str, ...], text: str
) -> None:
    result = with_hub("route", "create", *words)
    assert (result.exit_code, text in result.stderr, fake.asked) == (2, True, [])


def test_routes_are_listed_over_all_pages_with_their_place(with_hub: Run, fake: FakeHub) -> None:
    off = route(name="off", enabled=False, disabled_reason="It answered 410.")
    hook = route(name="hook", target={"type": "webhook", "url": "https://x.example"})
    call = route(name="call", target={"type": "endpoint", "endpoint": "open"})
    fake.answer("GET", "/routes", [off, hook, call, *(route(name=f"r-{n:03}") for n in range(120))])
    result = with_hub("route", "list")
    for text in ("no: It answered 410.", "https://x.example", "endpoint open", "slack C0PAGER", "r-119"):
        assert text in result.stdout


def test_a_route_is_found_by_a_name_that_only_it_has(with_hub: Run, fake: FakeHub) -> None:
    condition = {"path": "data.n", "operator": "greater_than", "value": 5}
    fake.answer("GET", "/routes", [route(), route(name="twice"), route(name="twice", id=NOW_ID)])
    fake.answer("GET", ONE, route(conditions=[condition]))
    result = with_hub("route", "show", "Alerts")
    assert (result.exit_code, "data.n greater_than 5" in result.stdout) == (0, True)
    result = with_hub("route", "show", "twice")
    assert (result.exit_code, "2 routes are named 'twice'" in result.stderr) == (2, True)
    result = with_hub("route", "show", "none")
    assert (result.exit_code, "`trunkline integration list`, `route list`" in result.stderr) == (5, True)


def test_a_route_is_changed_switched_and_rotated(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("PUT", ONE, route())
    with_hub("route", "update", ROUTE_ID, "--project", "")
    assert fake.last("PUT").body == {"project_id": ""}
    with_hub("route", "disable", ROUTE_ID)
    assert fake.last("PUT").body == {"enabled": False}
    with_hub("route", "enable", ROUTE_ID)
    assert fake.last("PUT").body == {"enabled": True}
    assert with_hub("route", "update", ROUTE_ID).exit_code == 2
    fake.answer("POST", f"{ONE}/rotate-secret", route(signing_secret="whsec_2"))
    assert with_hub("route", "rotate", ROUTE_ID).stdout.splitlines()[-1] == "whsec_2"


def test_deleting_a_route_asks_first(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("DELETE", ONE, None, 204)
    assert with_hub("route", "delete", ROUTE_ID, input="n\n").exit_code == 1
    assert fake.asked == []
    assert with_hub("route", "delete", ROUTE_ID, "--yes").exit_code == 0
    assert fake.last("DELETE").path.endswith(ONE)


def test_a_test_shows_what_matches(with_hub: Run, fake: FakeHub) -> None:
    event = dict.fromkeys(("sequence", "time", "type", "severity", "project", "title", "id"), "x")
    fake.answer("POST", "/routes", {"matched": 7, "looked_at": 9, "events": [event], "warning": None})
    fake.answer("GET", ONE, route(project_id="shop"))
    result = with_hub("route", "test", ROUTE_ID, "--event-type", "deploy.*")
    asked = fake.last("POST")
    assert asked.query == {"dry_run": "true"}
    assert asked.body == {"event_type": "deploy.*", "project_id": "shop", "conditions": []}
    assert (result.exit_code, "7 of the newest 9 events match." in result.stderr) == (0, True)


def test_a_test_that_finds_nothing_fails(with_hub: Run, fake: FakeHub) -> None:
    nothing = {"matched": 0, "looked_at": 9, "events": [], "warning": "None of them matches."}
    fake.answer("POST", "/routes", nothing)
    result = with_hub("route", "test", "--event-type", "x")
    assert (result.exit_code, "None of them matches." in result.stderr) == (1, True)
    result = with_hub("route", "test", "--event-type", "x", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, nothing)
    assert with_hub("route", "test").exit_code == 2


def delivery(**fields: Any) -> dict[str, Any]:
    """Describe a delivery as the hub shows it."""
    shown = {
        "id": DELIVERY_ID,
        "event_id": NOW_ID,
        "route_id": ROUTE_ID,
        "state": "failed",
        "attempt_count": 2,
        "failures": 2,
        "due_at": "2026-05-03T10:00:00Z",
        "last_status": 500,
        "last_error": "It answered HTTP 500." + "x" * 100,
        "created_at": "2026-05-03T10:00:00Z",
        "finished_at": None,
    }
    return shown | fields


def test_deliveries_are_listed_and_narrowed(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/deliveries", [delivery(id=f"d-{number:03}") for number in range(150)])
    words = ("--state", "failed", "--route", ROUTE_ID, "--event", NOW_ID, "--since", "2026-05-03T10:00:00Z")
    result = with_hub("delivery", "list", *words, "--limit", "120")
    query = fake.last("GET").query
    assert (query["state"], query["route_id"], query["event_id"]) == ("failed", ROUTE_ID, NOW_ID)
    assert query["since"] == "2026-05-03T10:00:00+00:00"
    assert ("d-119" in result.stdout, "d-120" in result.stdout) == (True, False)
    assert len(json.loads(with_hub("delivery", "list", "--json").stdout)["items"]) == 20


def test_a_delivery_is_listed_with_its_routes_name_or_its_id_when_the_route_is_gone(
    with_hub: Run, fake: FakeHub
) -> None:
    fake.answer("GET", "/deliveries", [delivery(), delivery(route_id=NOW_ID)])
    fake.answer("GET", f"/routes/{ROUTE_ID}", {"id": ROUTE_ID, "name": "pages"})
    result = with_hub("delivery", "list")
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["route", "pages", NOW_ID]


def test_a_delivery_shows_its_attempts_and_what_was_exchanged(with_hub: Run, fake: FakeHub) -> None:
    exchange = {
        "purpose": "call",
        "request": {"method": "POST", "url": "https://x.example/x"},
        "response": {},
    }
    attempt = {
        "number": 1,
        "started_at": "2026-05-03T10:00:00Z",
        "duration_ms": 5.0,
        "status": 500,
        "error": "It answered HTTP 500.",
        "trace": {"exchanges": [exchange]},
    }
    fake.answer("GET", f"/deliveries/{DELIVERY_ID}", delivery(attempts=[attempt]))
    plain, full = (with_hub("delivery", "show", DELIVERY_ID, *more) for more in ((), ("--trace",)))
    assert "It answered HTTP 500." in plain.stdout
    assert ("https://x.example/x" in plain.stdout, "https://x.example/x" in full.stdout) == (False, True)


def test_a_delivery_is_sent_again(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("POST", f"/deliveries/{DELIVERY_ID}/resend", delivery(state="pending"))
    result = with_hub("delivery", "resend", DELIVERY_ID)
    assert (result.exit_code, f"trunkline delivery show {DELIVERY_ID}" in result.stderr) == (0, True)


def test_what_was_given_up_is_recovered_and_counted(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("POST", "/deliveries/recover", {"count": 12})
    result = with_hub("delivery", "recover", "--since", "2026-05-03T10:00:00", "--route", ROUTE_ID)
    assert fake.last("POST").body == {"since": "2026-05-03T10:00:00+00:00", "route_id": ROUTE_ID}
    assert (result.exit_code, result.stdout) == (0, "12 deliveries are sent again.\n")
    assert json.loads(with_hub("delivery", "recover", "--since", "1h", "--json").stdout) == {"count": 12}
    fake.answer("POST", "/deliveries/recover", {"count": 1})
    assert with_hub("delivery", "recover", "--since", "1h").stdout == "1 delivery is sent again.\n"
    assert "Give --since" in with_hub("delivery", "recover").stderr
    assert "2h, 7d or" in with_hub("delivery", "recover", "--since", "yesterday").stderr


@pytest.mark.parametrize("verb", ["url", "rotate"])
def test_a_hooks_address_is_printed_alone(with_hub: Run, fake: FakeHub, verb: str) -> None:
    hook = {
        "path": "/hooks/t0ken",
        "url": None,
        "description": "Enter it there.",
        "previous_until": "2026-05-04T10:00:00Z",
        "missing": ["secret"],
        "warning": "Refused until then.",
    }
    fake.answer("GET", "/integrations", [integration()])
    for method in ("GET", "POST"):
        fake.answer(method, f"/integrations/{NOW_ID}/hook", hook)
    result = with_hub("hook", verb, "now")
    assert result.stdout == f"{fake.url}/hooks/t0ken\n"
    for text in ("Enter it there.", "2026-05-04T10:00:00Z", "Missing: secret", "Refused until then."):
        assert text in result.stderr
    assert json.loads(with_hub("hook", verb, "now", "--json").stdout) == hook
