"""Writing to the fake Table API, who may, and what is refused; OAuth; the hourly limit."""

import base64
from urllib.parse import urlencode

import pytest

TABLE = "/api/now/table/incident"
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def created(snow, **body) -> dict:
    answer = await snow.ask("POST", TABLE, json={"short_description": "Mail lost", **body})
    assert answer.status == 201, answer.body
    return answer.json["result"]


async def test_a_new_record_gets_what_the_instance_sets(snow):
    answer = await snow.ask(
        "POST", TABLE, json={"short_description": "Mail lost", "impact": 1, "urgency": "1"}
    )
    record = answer.json["result"]
    assert answer.status == 201
    assert answer.headers["location"].endswith(f"/servicenow{TABLE}/{record['sys_id']}")
    assert len(record["sys_id"]) == 32
    assert record["number"] == "INC0010031"
    assert record["priority"] == "1"
    assert (record["state"], record["incident_state"], record["active"]) == ("1", "New", "true")
    assert (
        record["sys_created_on"] == record["sys_updated_on"] == record["opened_at"] == "2026-01-01 00:00:00"
    )
    assert (record["sys_mod_count"], record["sys_updated_by"]) == ("0", "trunkline.integration")


async def test_unknown_and_read_only_fields_are_ignored_as_the_real_service_does(snow):
    record = await created(
        snow, nonsense="x", priority="1", sys_mod_count="99", sys_updated_on="1999-01-01 00:00:00"
    )
    assert "nonsense" not in record
    assert record["priority"] == "5"
    assert record["sys_mod_count"] == "0"
    assert record["sys_updated_on"] == "2026-01-01 00:00:00"


async def test_a_change_counts_up_and_moves_the_record_in_time(snow, clock):
    record = await created(snow)
    clock.advance(60)
    answer = await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json={"urgency": "1"})
    changed = answer.json["result"]
    assert answer.status == 200
    assert changed["sys_mod_count"] == "1"
    assert changed["sys_updated_on"] == "2026-01-01 00:01:00"
    assert changed["sys_created_on"] == "2026-01-01 00:00:00"
    assert changed["priority"] == "3"
    latest = await snow.get(TABLE, sysparm_query="ORDERBYDESCsys_updated_on", sysparm_limit=1)
    assert latest.json["result"][0]["sys_id"] == record["sys_id"]


async def test_a_change_that_changes_nothing_leaves_the_record_alone(snow, clock):
    record = await created(snow)
    clock.advance(60)
    answer = await snow.ask("PUT", f"{TABLE}/{record['sys_id']}", json={"short_description": "Mail lost"})
    assert answer.json["result"] == record


async def test_resolving_needs_a_code_and_notes(snow):
    record = await created(snow)
    refused = await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json={"state": "6"})
    assert refused.status == 403
    assert refused.json["error"]["detail"].startswith("Data Policy Exception")
    body = {"state": 6, "close_code": "User error", "close_notes": "Found it."}
    resolved = (await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json=body)).json["result"]
    assert resolved["incident_state"] == "Resolved"
    assert resolved["resolved_at"] == "2026-01-01 00:00:00"
    assert resolved["active"] == "true"
    closed = (await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json={"state": "7"})).json["result"]
    assert (closed["active"], closed["closed_at"]) == ("false", "2026-01-01 00:00:00")
    reopened = (await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json={"state": "2"})).json["result"]
    assert (reopened["reopen_count"], reopened["resolved_at"], reopened["active"]) == ("1", "", "true")


async def test_work_notes_become_journal_entries_and_show_as_display_value(snow):
    record = await created(snow)
    await snow.ask("PATCH", f"{TABLE}/{record['sys_id']}", json={"work_notes": "Called them."})
    entries = await snow.get(
        "/api/now/table/sys_journal_field", sysparm_query=f"element_id={record['sys_id']}^element=work_notes"
    )
    assert [entry["value"] for entry in entries.json["result"]] == ["Called them."]
    shown = await snow.get(f"{TABLE}/{record['sys_id']}", sysparm_display_value="true")
    assert "(Work notes)\nCalled them." in shown.json["result"]["work_notes"]


async def test_long_texts_are_cut_and_null_empties_a_field(snow):
    record = await created(snow, short_description="x" * 500, category=None)
    assert len(record["short_description"]) == 160
    assert record["category"] == ""


async def test_a_deleted_record_is_gone(snow):
    record = await created(snow)
    gone = await snow.ask("DELETE", f"{TABLE}/{record['sys_id']}")
    assert (gone.status, gone.body) == (204, b"")
    again = await snow.get(f"{TABLE}/{record['sys_id']}")
    assert again.status == 404
    assert again.json["error"]["message"] == "No Record found"
    assert (await snow.get(TABLE)).headers["x-total-count"] == "30"


@pytest.mark.parametrize(
    ("method", "path", "options", "refusal"),
    [
        (
            "POST",
            TABLE,
            {"content": b"{", "headers": {"content-type": "application/json"}},
            (400, "Exception while"),
        ),
        ("POST", TABLE, {"json": ["a", "b"]}, (400, "Exception while")),
        ("POST", TABLE, {"json": {"category": ["a"]}}, (400, "Invalid value")),
        ("POST", TABLE, {"content": b"a=1", "headers": FORM}, (415, "Unsupported media type")),
        ("POST", TABLE, {"content": b"{}"}, (415, "Unsupported media type")),
        ("GET", TABLE, {"headers": {"accept": "text/csv"}}, (406, "Not Acceptable")),
        ("DELETE", TABLE, {}, (405, "Method not supported")),
        ("GET", "/api/now/table/nonsense", {}, (400, "Invalid table nonsense")),
        ("GET", f"{TABLE}/{'0' * 32}", {}, (404, "No Record found")),
        ("PATCH", f"{TABLE}/{'0' * 32}", {"json": {}}, (404, "No Record found")),
        ("GET", "/api/now/tabel/incident", {}, (400, "Requested URI does not represent any resource")),
    ],
)
async def test_a_wrong_request_is_refused_in_the_services_own_shape(snow, method, path, options, refusal):
    status, message = refusal
    answer = await snow.ask(method, path, **options)
    assert answer.status == status
    assert answer.json["status"] == "failure"
    assert answer.json["error"]["message"].startswith(message)
    assert "detail" in answer.json["error"]


async def test_a_body_beyond_ten_megabytes_is_refused(snow):
    body = b'{"description":"' + b"x" * (10 * 1024 * 1024) + b'"}'
    answer = await snow.ask("POST", TABLE, content=body, headers={"content-type": "application/json"})
    assert answer.status == 413


@pytest.mark.parametrize(
    "header",
    [None, "Basic", "Basic !!!", "Basic " + base64.b64encode(b"admin:admin").decode(), "Bearer x", "x"],
)
async def test_a_caller_without_the_right_credentials_is_unauthenticated(snow, header):
    answer = await snow.ask("GET", TABLE, headers={"authorization": header})
    assert answer.status == 401
    assert answer.json["error"]["message"] == "User Not Authenticated"
    assert answer.headers["www-authenticate"].startswith("BASIC")


async def test_a_read_only_user_reads_but_does_not_write(sandbox, snow, sign_in):
    ready = sandbox.ready("http://x")["servicenow"]
    headers = sign_in(ready["readonly_username"], ready["readonly_password"])
    listed = await snow.ask("GET", TABLE, headers=headers)
    sys_id = listed.json["result"][0]["sys_id"]
    assert listed.status == 200
    for method, path in (("POST", TABLE), ("PATCH", f"{TABLE}/{sys_id}"), ("DELETE", f"{TABLE}/{sys_id}")):
        refused = await snow.ask(method, path, json={}, headers=headers)
        assert refused.status == 403
        assert refused.json["error"]["detail"].startswith("ACL Exception")


async def token(snow, sandbox, **form) -> tuple[int, dict]:
    ready = sandbox.ready("http://x")["servicenow"]
    whole = {"client_id": ready["client_id"], "client_secret": ready["client_secret"], **form}
    content = urlencode({name: value for name, value in whole.items() if value is not None}).encode()
    headers = {**FORM, "authorization": None}
    answer = await snow.ask("POST", "/oauth_token.do", content=content, headers=headers)
    return answer.status, answer.json


async def test_a_password_grant_gives_a_token_that_works_until_it_ends(sandbox, snow, clock):
    ready = sandbox.ready("http://x")["servicenow"]
    status, first = await token(
        snow, sandbox, grant_type="password", username=ready["username"], password=ready["password"]
    )
    assert status == 200
    assert (first["token_type"], first["expires_in"]) == ("Bearer", 1799)
    bearer = {"authorization": f"Bearer {first['access_token']}"}
    assert (await snow.ask("GET", TABLE, headers=bearer)).status == 200
    clock.advance(1_800)
    assert (await snow.ask("GET", TABLE, headers=bearer)).status == 401
    status, second = await token(
        snow, sandbox, grant_type="refresh_token", refresh_token=first["refresh_token"]
    )
    assert status == 200
    assert second["refresh_token"] == first["refresh_token"]
    bearer = {"authorization": f"Bearer {second['access_token']}"}
    assert (await snow.ask("GET", TABLE, headers=bearer)).status == 200


async def test_a_client_credentials_grant_has_no_refresh_token(sandbox, snow):
    status, answer = await token(snow, sandbox, grant_type="client_credentials")
    assert status == 200
    assert "refresh_token" not in answer


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": None}, 401, "invalid_client"),
        ({"grant_type": "password", "username": "a", "password": "b"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": "urn:nonsense"}, 400, "unsupported_grant_type"),
        ({}, 400, "invalid_request"),
    ],
)
async def test_a_wrong_token_request_is_refused_as_rfc_6749_says(sandbox, snow, form, status, code):
    answered, body = await token(snow, sandbox, **form)
    assert (answered, body["error"]) == (status, code)
    assert body["error_description"]


async def test_a_token_request_must_be_a_form(snow):
    answer = await snow.ask("POST", "/oauth_token.do", json={"grant_type": "client_credentials"})
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert (await snow.ask("GET", "/oauth_token.do")).status == 405


async def test_revoked_access_tokens_stop_working(sandbox, snow, control):
    _, answer = await token(snow, sandbox, grant_type="client_credentials")
    revoked = await control.ask("POST", "/servicenow/revoke_tokens", json={})
    assert revoked.json == {"revoked": 1}
    bearer = {"authorization": f"Bearer {answer['access_token']}"}
    assert (await snow.ask("GET", TABLE, headers=bearer)).status == 401


async def test_requests_beyond_the_hourly_limit_wait(make_sandbox, snow_of, clock):
    snow = snow_of(make_sandbox(servicenow_hourly_limit=2))
    assert [(await snow.get(TABLE)).status for _ in range(3)] == [200, 200, 429]
    refused = await snow.get(TABLE)
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert int(refused.headers["retry-after"]) == 3_600
    clock.advance(3_600)
    assert (await snow.get(TABLE)).status == 200


async def test_a_batch_serves_each_request_as_if_alone(snow):
    record = await created(snow)
    requests = [
        {"id": "1", "method": "GET", "url": f"/servicenow{TABLE}/{record['sys_id']}?sysparm_fields=number"},
        {"id": "2", "method": "DELETE", "url": f"{TABLE}/{'0' * 32}"},
    ]
    answer = await snow.ask(
        "POST", "/api/now/v1/batch", json={"batch_request_id": 7, "rest_requests": requests}
    )
    served = answer.json["serviced_requests"]
    assert answer.json["batch_request_id"] == "7"
    assert [item["status_code"] for item in served] == [200, 404]
    assert record["number"].encode() in base64.b64decode(served[0]["body"])
    assert (await snow.ask("POST", "/api/now/v1/batch", json={"rest_requests": [1]})).status == 400
