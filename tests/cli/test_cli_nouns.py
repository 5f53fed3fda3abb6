"""Integrations, calls and keys from the command line: what is asked of the hub and what is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fake_hub import NOW_ID, FakeHub, Run, integration

ENDPOINT = {
    "name": "list",
    "description": "List.",
    "method": "GET",
    "path": "/x",
    "input_schema": {"type": "object", "properties": {"limit": {"type": "integer"}}},
}
ONE = f"/integrations/{NOW_ID}"
ANSWER = {
    "status_code": 200,
    "duration_ms": 84.21,
    "retries": 1,
    "final_result": "two",
    "data": "two",
    "error": None,
}
STAGES = {
    "status_code": 201,
    "duration_ms": 84.2,
    "retries": 1,
    "raw_response": {"incident": {"id": "9912", "status": "triggered"}},
    "after_filter": {"incident": {"id": "9912"}},
    "after_mapping": {"id": "9912"},
    "final_result": "Incident 9912",
    "error": None,
}


@pytest.fixture
def now(fake: FakeHub) -> dict[str, Any]:
    """An integration named `now` with one endpoint, `list`."""
    item = integration(endpoints=[ENDPOINT])
    fake.answer("GET", "/integrations", [item])
    fake.answer("GET", ONE, item)
    return item


def test_integrations_are_listed_over_all_pages(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/integrations", [integration(f"i-{number:03}") for number in range(120)])
    result = with_hub("integration", "list")
    assert result.exit_code == 0
    assert all(f"i-{number:03}" in result.stdout for number in range(120))


def test_filters_are_passed_on(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/integrations", [])
    with_hub("integration", "list", "--search", "now", "--disabled", "--sort-by=-name")
    query = fake.last("GET").query
    assert (query["search"], query["enabled"], query["sort_by"]) == ("now", "false", "-name")


def test_create_sends_the_connectors_form(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("POST", "/integrations", integration(), 201)
    words = [
        "--connector",
        "servicenow",
        "--name",
        "now",
        "--config",
        "url=https://x.example",
        "--method",
        "password",
    ]
    secrets = ["--credential", "username=bob", "--credential", "password=-"]
    result = with_hub("integration", "create", *words, *secrets, input="s3cr3t\n")
    assert fake.last("POST").body == {
        "name": "now",
        "display_name": "now",
        "connector": "servicenow",
        "config": {"url": "https://x.example"},
        "credentials": {"method": "password", "values": {"username": "bob", "password": "s3cr3t"}},
    }
    assert (result.exit_code, "s3cr3t" in result.output) == (0, False)


def test_options_win_over_the_file(with_hub: Run, fake: FakeHub, tmp_path: Path) -> None:
    fake.answer("POST", "/integrations", integration(), 201)
    (tmp_path / "body.yaml").write_text("name: old\nbase_url: https://a.example\nconfig: {a: '1', b: '2'}\n")
    with_hub("integration", "create", "--from-file", "body.yaml", "--name", "new", "--config", "b=3")
    assert fake.last("POST").body == {
        "name": "new",
        "display_name": "new",
        "base_url": "https://a.example",
        "config": {"a": "1", "b": "3"},
    }


def test_create_without_a_name_is_bad_input(with_hub: Run, fake: FakeHub) -> None:
    assert with_hub("integration", "create").exit_code == 2
    assert fake.asked == []


def test_the_fields_that_the_hub_refuses_are_shown(with_hub: Run, fake: FakeHub) -> None:
    detail = [{"loc": ["body", "config", "url"], "msg": "Field required", "type": "missing"}]
    fake.answer("POST", "/integrations", {"detail": detail}, 422)
    result = with_hub("integration", "create", "--name", "now", "--connector", "servicenow")
    assert (result.exit_code, "body.config.url: Field required" in result.stderr) == (2, True)


def test_a_taken_name_fails(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("POST", "/integrations", {"detail": "Integration name already taken in this workspace."}, 409)
    result = with_hub("integration", "create", "--name", "now")
    assert (result.exit_code, "already taken" in result.stderr) == (1, True)


def test_update_sends_only_what_is_given(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("PUT", ONE, now)
    assert with_hub("integration", "update", "now", "--disable").exit_code == 0
    assert fake.last("PUT").body == {"enabled": False}


def test_update_with_nothing_is_bad_input(with_hub: Run, now: dict[str, Any]) -> None:
    assert with_hub("integration", "update", "now").exit_code == 2


def test_delete_asks_first(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("DELETE", ONE, None, 204)
    assert with_hub("integration", "delete", "now", input="n\n").exit_code == 1
    assert [asked for asked in fake.asked if asked.method == "DELETE"] == []
    assert with_hub("integration", "delete", "now", "--yes").exit_code == 0
    assert fake.last("DELETE").path.endswith(ONE)


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("auth_failed", 1), ("timeout", 1)])
def test_a_connection_test_fails_unless_healthy(
    with_hub: Run, fake: FakeHub, now: dict[str, Any], status: str, code: int
) -> None:
    verdict = {"status": status, "message": "As it is.", "tested_at": "2026-05-03T10:00:00Z"}
    fake.answer("POST", f"{ONE}/test-connection", verdict)
    result = with_hub("integration", "test", "now")
    assert (result.exit_code, f"{status}: As it is." in result.stdout) == (code, True)


def test_health_shows_each_integration(with_hub: Run, fake: FakeHub) -> None:
    checks = [{"id": NOW_ID, "name": "now", "status": "timeout", "latency_ms": 120}]
    fake.answer("GET", "/integrations/health-check", {"overall_status": "unhealthy", "checks": checks})
    result = with_hub("integration", "health")
    assert ("timeout" in result.stdout, "unhealthy" in result.stderr) == (True, True)


def test_a_call_types_its_values_by_the_endpoints_schema(
    with_hub: Run, fake: FakeHub, now: dict[str, Any]
) -> None:
    fake.answer("POST", f"{ONE}/endpoints/list/call", ANSWER)
    result = with_hub("call", "now", "list", "limit=5", "q=5")
    assert fake.last("POST").body == {"params": {"limit": 5, "q": "5"}}
    assert (result.stdout, result.stderr) == ("two\n", "HTTP 200 in 84.2 ms, 1 retry\n")


def test_a_connectors_endpoint_types_values_too(with_hub: Run, fake: FakeHub) -> None:
    item = integration(connector="svc")
    fake.answer("GET", "/integrations", [item])
    fake.answer("GET", ONE, item)
    fake.answer("GET", "/v1/connectors/svc", {"endpoints": [ENDPOINT]})
    fake.answer("POST", f"{ONE}/endpoints/list/call", ANSWER)
    with_hub("call", "now", "list", "limit=5")
    assert fake.last("POST").body == {"params": {"limit": 5}}


def test_an_unknown_endpoint_names_those_there_are(with_hub: Run, now: dict[str, Any]) -> None:
    result = with_hub("call", "now", "lst")
    assert (result.exit_code, "it has: list" in result.stderr) == (5, True)


def test_parameters_may_come_from_stdin(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("POST", f"{ONE}/endpoints/list/call", ANSWER)
    with_hub("call", "now", "list", "--params", "-", "b=2", input='{"a": 1, "b": 1}')
    assert fake.last("POST").body == {"params": {"a": 1, "b": "2"}}


def test_a_call_as_json_is_the_hubs_answer(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("POST", f"{ONE}/endpoints/list/call", ANSWER)
    assert json.loads(with_hub("call", "now", "list", "--json").stdout) == ANSWER


def test_a_failed_call_shows_its_exchanges(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    exchange = {
        "purpose": "call",
        "request": {"method": "GET", "url": "https://x.example/x"},
        "response": {"status": 503},
        "duration_ms": 5.0,
        "error": None,
    }
    body = {
        "detail": "Now answered HTTP 503",
        "error_code": "remote_failed",
        "trace": {"exchanges": [exchange]},
    }
    fake.answer("POST", f"{ONE}/endpoints/list/call", body, 502)
    result = with_hub("call", "now", "list", "--trace")
    assert result.exit_code == 1
    assert "https://x.example/x" in result.stdout
    assert "Now answered HTTP 503" in result.stderr


def test_a_test_shows_all_four_stages(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("POST", f"{ONE}/endpoints/list/test", STAGES)
    result = with_hub("call", "now", "list", "--test")
    titles = ("raw response", "after response_filter", "after response_mapping", "final result")
    assert [title for title in titles if title in result.stdout] == list(titles)
    assert "HTTP 201 in 84.2 ms, 1 retry" in result.stdout


def test_a_test_whose_service_failed_fails(with_hub: Run, fake: FakeHub, now: dict[str, Any]) -> None:
    fake.answer("POST", f"{ONE}/endpoints/list/test", {"error": "no answer in time", "retries": 2})
    result = with_hub("call", "now", "list", "--test")
    assert (result.exit_code, "no answer in - ms, 2 retries: no answer in time" in result.stdout) == (1, True)


def test_a_new_key_is_shown_once(with_hub: Run, fake: FakeHub) -> None:
    made = {"key_id": "ak_1", "api_key": "tl_new", "role": "viewer", "expires_at": None}
    fake.answer("POST", "/api-keys", made, 201)
    result = with_hub("key", "create", "--role", "viewer", "--no-expiry", "--permission", "Integration.view")
    body = fake.last("POST").body
    assert (body["duration_days"], body["permissions"]) == (None, ["Integration.view"])
    assert result.stdout == "tl_new\n"


def test_days_beyond_90_are_a_usage_error(with_hub: Run, fake: FakeHub) -> None:
    assert with_hub("key", "create", "--days", "91").exit_code == 2
    assert fake.asked == []


def test_a_key_is_renewed_and_revoked_by_its_id(with_hub: Run, fake: FakeHub) -> None:
    made = {"key_id": "ak_1", "api_key": "tl_new", "role": "viewer", "expires_at": None}
    fake.answer("POST", "/api-keys/ak_1/rotate", made)
    fake.answer("DELETE", "/api-keys/ak_1", None, 204)
    assert with_hub("key", "renew", "ak_1", "--days", "7").exit_code == 0
    assert fake.last("POST").body == {"duration_days": 7}
    assert with_hub("key", "revoke", "ak_1").exit_code == 0
    assert with_hub("key", "revoke", "ak_2").exit_code == 5


def test_keys_are_listed_over_all_pages(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/api-keys", [{"key_id": f"ak_{number:02}", "name": "x"} for number in range(45)])
    result = with_hub("key", "list", "--json")
    assert len(json.loads(result.stdout)["items"]) == 45


def test_the_master_key_of_a_folder_without_data_is_not_made(trunkline: Run, tmp_path: Path) -> None:
    result = trunkline("key", "rotate", "--data-dir", "nowhere")
    assert (result.exit_code, (tmp_path / "nowhere").exists()) == (2, False)
