"""Connector files from the command line: check, try, new, schema."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fake_hub import NOW_ID, FakeHub, Run, integration

ONE = f"/integrations/{NOW_ID}"
GOOD = """\
name: Good
base_url: https://api.example.com
auth:
  token: {type: bearer_token}
endpoints:
  list_items: {path: /items, records: items}
"""


def test_the_built_in_connectors_pass(trunkline: Run) -> None:
    result = trunkline("connector", "check", "--json")
    files = json.loads(result.stdout)["files"]
    assert (result.exit_code, [item["problems"] for item in files]) == (0, [[]] * len(files))
    assert len(files) >= 4


def test_a_good_file_tells_its_depth(trunkline: Run, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    result = trunkline("connector", "check", "good.yaml")
    assert (result.exit_code, "good.yaml: ok, depth " in result.stdout) == (0, True)


def test_each_problem_has_file_and_line(trunkline: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD.replace("records: items", "methd: GET, method: FETCH"))
    result = trunkline("connector", "check", str(tmp_path))
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith(f"{tmp_path}/bad.yaml:6: ")]
    assert [line.split(": ")[1] for line in lines] == [
        "endpoints.list_items.methd",
        "endpoints.list_items.method",
    ]


def test_endpoints_are_compiled_too(trunkline: Run, tmp_path: Path) -> None:
    text = GOOD.replace("records: items", "input_schema: {type: nonsense}")
    (tmp_path / "deep.yaml").write_text(text)
    result = trunkline("connector", "check", "deep.yaml")
    assert (result.exit_code, "deep.yaml:6: endpoints.list_items.input_schema" in result.stdout) == (1, True)


@pytest.mark.parametrize("path", ["absent.yaml", "empty"])
def test_nothing_to_check_is_bad_input(trunkline: Run, tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    assert trunkline("connector", "check", path).exit_code == 2


@pytest.mark.parametrize("auth", ["bearer_token", "basic", "none"])
def test_a_new_file_passes_the_check(trunkline: Run, auth: str) -> None:
    made = trunkline("connector", "new", "my_service", "--base-url", "https://x.example", "--auth", auth)
    assert (made.exit_code, made.stdout) == (0, "my_service.yaml\n")
    assert trunkline("connector", "check", "my_service.yaml").exit_code == 0


def test_a_new_file_replaces_none(trunkline: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    assert trunkline("connector", "new", "mine").exit_code == 1
    assert (tmp_path / "mine.yaml").read_text() == "precious"


@pytest.mark.parametrize("words", [("../up",), ("Upper",), ("x", "--auth", "magic")])
def test_a_new_file_with_a_bad_name_or_auth_is_bad_input(trunkline: Run, words: tuple[str, ...]) -> None:
    assert trunkline("connector", "new", *words).exit_code == 2


def test_the_schema_is_json_schema(trunkline: Run) -> None:
    schema = json.loads(trunkline("connector", "schema").stdout)
    assert "endpoints" in schema["properties"]


def _traced(fake: FakeHub, items: list[dict[str, Any]]) -> None:
    trace = {
        "stages": {"raw_response": {"items": items}},
        "exchanges": [{"response": {"status": 200, "headers": {"Link": '<x>; rel="next"'}}}],
    }
    fake.answer("POST", f"{ONE}/endpoints/list/call", {"final_result": "x", "trace": trace})


def test_try_proposes_lines_from_a_real_answer(with_hub: Run, fake: FakeHub) -> None:
    item = integration(connector="svc", endpoints=[{"name": "list"}])
    fake.answer("GET", "/integrations", [item])
    fake.answer("GET", ONE, item)
    _traced(fake, [{"id": "1"}, {"id": "2"}])
    result = with_hub("connector", "try", "now", "list")
    assert result.exit_code == 0
    assert all(line in result.stdout for line in ("records: items", "paging: {type: link}", "key: id"))


def test_try_takes_a_connector_with_one_integration(with_hub: Run, fake: FakeHub) -> None:
    item = integration(connector="svc", endpoints=[{"name": "list"}])
    fake.answer("GET", ONE, item)
    fake.answer("GET", "/integrations", {"items": [item], "has_more": False})
    _traced(fake, [])
    assert with_hub("connector", "try", "svc", "list", "--json").exit_code == 0
    assert [asked.query["connector"] for asked in fake.asked if "connector" in asked.query] == ["svc"]


def test_try_learns_from_a_refusal_and_still_fails(with_hub: Run, fake: FakeHub) -> None:
    item = integration(endpoints=[{"name": "list"}])
    fake.answer("GET", "/integrations", [item])
    fake.answer("GET", ONE, item)
    trace = {
        "stages": {"raw_response": {"error": {"message": "no such table"}}},
        "exchanges": [{"response": {"status": 404, "headers": {}}}],
    }
    body = {"detail": "Now answered HTTP 404", "error_code": "remote_failed", "trace": trace}
    fake.answer("POST", f"{ONE}/endpoints/list/call", body, 502)
    result = with_hub("connector", "try", "now", "list")
    assert (result.exit_code, "errors: {message: error.message}" in result.stdout) == (1, True)


def test_the_catalogue_is_listed_with_its_problems(with_hub: Run, fake: FakeHub) -> None:
    item = {
        "id": "svc",
        "name": "Service",
        "category": "other",
        "endpoints": 3,
        "streams": 1,
        "depth": {"score": 80, "missing": []},
    }
    fake.answer("GET", "/v1/connectors", {"items": [item], "problems": ["bad.yaml:3: name: is missing"]})
    result = with_hub("connector", "list")
    assert ("80 %" in result.stdout, "bad.yaml:3" in result.stderr) == (True, True)


def test_a_connector_shows_what_to_type(with_hub: Run, fake: FakeHub) -> None:
    fields = [{"name": "password", "label": "Password", "optional": False}]
    found = {
        "name": "Service",
        "description": "Does things.",
        "config": {"url": {"label": "Address", "default": None, "optional": False}},
        "auth": {"password": {"fields": fields}},
        "webhook": {
            "description": "Under Settings.",
            "secrets": [{"name": "hook_secret", "label": "Secret"}],
            "verify": ["signature"],
        },
        "event_types": ["svc.made", "svc.gone"],
        "notify": {"channel": {"label": "Room", "example": "R42", "default": None, "optional": False}},
        "endpoints": [{"name": "list", "method": "GET", "description": "List."}],
        "depth": {"score": 80, "missing": []},
    }
    fake.answer("GET", "/v1/connectors/svc", found)
    result = with_hub("connector", "show", "svc")
    assert "--config url=…  Address" in result.stdout
    assert "--method password --credential password=…  Password" in result.stdout
    assert "--credential hook_secret=…  Secret (optional; verifies webhooks)" in result.stdout
    assert "Events: svc.made, svc.gone" in result.stdout
    assert "Messages go to a channel: Room, such as R42" in result.stdout
