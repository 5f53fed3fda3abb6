"""The fake PagerDuty: headers it insists on, states, lists, notes, events, limits."""

from datetime import timedelta

import pytest

JSON = {"content-type": "application/json"}


async def service_id(pager) -> str:
    return (await pager.get("/services")).json["services"][0]["id"]


async def opened(pager, **fields) -> dict:
    service = {"id": await service_id(pager), "type": "service_reference"}
    incident = {"type": "incident", "title": "It burns", "service": service, **fields}
    answer = await pager.ask("POST", "/incidents", json={"incident": incident})
    assert answer.status == 201, answer.body
    return answer.json["incident"]


async def put(pager, incident: dict, **fields):
    change = {"type": "incident", **fields}
    return await pager.ask("PUT", f"/incidents/{incident['id']}", json={"incident": change})


async def test_an_incident_goes_from_triggered_to_acknowledged_to_resolved_and_no_further(pager):
    incident = await opened(pager)
    assert (incident["status"], incident["urgency"]) == ("triggered", "high")
    assert incident["assignments"][0]["assignee"]["type"] == "user_reference"
    acknowledged = await put(pager, incident, status="acknowledged")
    assert acknowledged.json["incident"]["status"] == "acknowledged"
    assert len(acknowledged.json["incident"]["acknowledgements"]) == 1
    assert (await put(pager, incident, status="triggered")).status == 400
    resolved = await put(pager, incident, status="resolved")
    assert resolved.json["incident"]["resolved_at"]
    for status in ("acknowledged", "resolved"):
        refused = await put(pager, incident, status=status)
        assert (refused.status, refused.json["error"]["code"]) == (400, 1001)
    log = (await pager.get(f"/incidents/{incident['id']}/log_entries")).json["log_entries"]
    assert [entry["type"].partition("_")[0] for entry in log] == ["trigger", "acknowledge", "resolve"]
    assert all(entry["agent"]["type"] == "user_reference" for entry in log)


async def test_objects_that_include_names_come_in_full_others_as_references(pager):
    incident = await opened(pager)
    assignee = incident["assignments"][0]["assignee"]
    assert "email" not in assignee
    parts = {"include[]": ["assignees", "teams"]}
    listed = await pager.get("/incidents", sort_by="created_at:desc", limit="1", **parts)
    read = await pager.get(f"/incidents/{incident['id']}", **parts)
    for shown in (listed.json["incidents"][0], read.json["incident"]):
        whole = shown["assignments"][0]["assignee"]
        assert (whole["type"], whole["id"], whole["email"]) == ("user", assignee["id"], "alice@example.com")
        assert [team["type"] for team in shown["teams"]] == ["team"]
        assert shown["service"]["type"] == "service_reference"
    oncall = (await pager.get("/oncalls", **{"include[]": "users"})).json["oncalls"][0]
    assert (oncall["user"]["type"], oncall["user"]["email"]) == ("user", "alice@example.com")
    assert oncall["schedule"]["type"] == "schedule_reference"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/incidents", {"include[]": "everything"}),
        ("/incidents", {"include": "assignees"}),
        ("/oncalls", {"include[]": "assignees"}),
    ],
)
async def test_what_include_cannot_name_is_refused(pager, path, parts):
    assert (await pager.get(path, **parts)).status == 400


async def test_title_urgency_assignees_and_policy_can_be_changed_and_a_wrong_one_changes_nothing(pager):
    incident = await opened(pager)
    user = (await pager.get("/users")).json["users"][3]
    policy = (await pager.get("/escalation_policies")).json["escalation_policies"][1]
    changed = await put(
        pager,
        incident,
        title="Smoke only",
        urgency="low",
        assignments=[{"assignee": {"id": user["id"], "type": "user_reference"}}],
        escalation_policy={"id": policy["id"], "type": "escalation_policy_reference"},
    )
    after = changed.json["incident"]
    assert (after["title"], after["urgency"]) == ("Smoke only", "low")
    assert after["assignments"][0]["assignee"]["id"] == user["id"]
    assert after["escalation_policy"]["id"] == policy["id"]
    for wrong in (
        {"title": ""},
        {"urgency": "medium"},
        {"status": "done"},
        {"assignments": [{"assignee": {"id": "PNOBODY"}}]},
        {"assignments": ["x"]},
        {"assignments": [{"assignee": {"id": ["x"]}}]},
        {"escalation_policy": {"id": {}}},
        {"escalation_policy": "x"},
    ):
        assert (await put(pager, incident, **{"title": "Changed", **wrong})).status == 400
    assert (await pager.get(f"/incidents/{incident['id']}")).json["incident"] == after


async def test_a_second_open_incident_with_the_same_key_is_refused_until_the_first_is_resolved(pager):
    first = await opened(pager, incident_key="INC1")
    service = {"id": first["service"]["id"], "type": "service_reference"}
    body = {"incident": {"type": "incident", "title": "Again", "service": service, "incident_key": "INC1"}}
    refused = await pager.ask("POST", "/incidents", json=body)
    assert refused.status == 400
    assert refused.json["error"]["errors"] == [
        "Open incident with matching dedup key already exists on this service"
    ]
    await put(pager, first, status="resolved")
    assert (await pager.ask("POST", "/incidents", json=body)).status == 201


async def test_several_incidents_are_managed_at_once(pager):
    both = [await opened(pager), await opened(pager)]
    changes = [{"id": one["id"], "type": "incident_reference", "status": "acknowledged"} for one in both]
    answer = await pager.ask("PUT", "/incidents", json={"incidents": changes})
    assert [one["status"] for one in answer.json["incidents"]] == ["acknowledged", "acknowledged"]
    for wrong in ([], "x", ["x"], [{"id": "PNONE", "status": "resolved"}]):
        assert (await pager.ask("PUT", "/incidents", json={"incidents": wrong})).status in {400, 404}


async def test_notes_are_kept_and_logged(pager):
    incident = await opened(pager)
    path = f"/incidents/{incident['id']}/notes"
    made = await pager.ask("POST", path, json={"note": {"content": "Water is on its way."}})
    assert made.status == 201
    assert (await pager.get(path)).json["notes"] == [made.json["note"]]
    assert (await pager.ask("POST", path, json={"note": {"content": " "}})).status == 400
    log = (await pager.get(f"/incidents/{incident['id']}/log_entries")).json["log_entries"]
    assert log[-1]["type"] == "annotate_log_entry"


@pytest.mark.parametrize("header", [None, "Token token=wrong", "Basic abc", "wrong"])
async def test_a_caller_without_the_key_is_unauthenticated(pager, header):
    answer = await pager.ask("GET", "/incidents", headers={"authorization": header})
    assert answer.status == 401
    assert answer.json["error"]["code"] == 2006


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/json", 200),
        ("application/vnd.pagerduty+json;version=2", 200),
        ("application/vnd.pagerduty+json;version=1", 406),
        ("text/html", 406),
    ],
)
async def test_only_version_two_as_json_is_answered(pager, accept, status):
    assert (await pager.ask("GET", "/users", headers={"accept": accept})).status == status


@pytest.mark.parametrize(("sender", "code"), [(None, 2016), ("nobody@example.com", 1008)])
async def test_a_write_must_come_from_a_known_user(pager, sender, code):
    incident = await opened(pager)
    for method, path in (
        ("POST", "/incidents"),
        ("PUT", "/incidents"),
        ("PUT", f"/incidents/{incident['id']}"),
        ("POST", f"/incidents/{incident['id']}/notes"),
    ):
        answer = await pager.ask(method, path, json={}, headers={"from": sender})
        assert (answer.status, answer.json["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"incident": []}',
        b'{"incident": {"title": "x"}}',
        b'{"incident": {"title": "x", "service": {"id": "PNONE"}}}',
        b'{"incident": {"title": "x", "service": {"id": ["a"]}}}',
        b'{"incident": {"title": 5, "service": {"id": "PNONE"}}}',
    ],
)
async def test_a_wrong_body_is_invalid_input(pager, body):
    answer = await pager.ask("POST", "/incidents", content=body, headers=JSON)
    assert answer.status == 400
    assert (answer.json["error"]["code"], bool(answer.json["error"]["errors"])) == (2001, True)


async def test_a_body_that_does_not_call_itself_json_is_refused(pager):
    answer = await pager.ask("POST", "/incidents", content=b'{"incident": {}}')
    assert answer.json["error"]["errors"][0] == "params must be a Hash"


async def test_unknown_paths_methods_and_ids_are_refused_in_the_services_shape(pager):
    for method, path, status in (
        ("GET", "/incidents/PNONE", 404),
        ("GET", "/services/PNONE", 404),
        ("GET", "/nonsense", 404),
        ("DELETE", "/incidents", 405),
    ):
        answer = await pager.ask(method, path)
        assert answer.status == status
        assert answer.json["error"]["message"]


async def test_incidents_come_in_pages_of_at_most_a_hundred(pager):
    first = (await pager.get("/incidents", limit=500)).json
    assert (first["limit"], first["offset"], first["more"], first["total"]) == (100, 0, True, None)
    last = (await pager.get("/incidents", limit=100, offset=200, total="true")).json
    assert (len(last["incidents"]), last["more"], last["total"]) == (50, False, 250)
    assert len((await pager.get("/incidents")).json["incidents"]) == 25
    for wrong in ({"limit": "x"}, {"limit": 0}, {"offset": -1}, {"offset": 9_990, "limit": 100}):
        assert (await pager.ask("GET", "/incidents", wrong)).status == 400


async def test_incidents_are_filtered_by_status_urgency_service_key_and_time(pager, clock):
    incident = await opened(pager, incident_key="K1", urgency="low")
    triggered = (await pager.ask("GET", "/incidents", {"statuses[]": ["triggered"]})).json["incidents"]
    assert incident["id"] in [one["id"] for one in triggered]
    assert {one["status"] for one in triggered} == {"triggered"}
    low = (await pager.ask("GET", "/incidents", {"urgencies[]": "low"})).json["incidents"]
    assert {one["urgency"] for one in low} == {"low"}
    keyed = (await pager.get("/incidents", incident_key="K1")).json["incidents"]
    assert [one["id"] for one in keyed] == [incident["id"]]
    own = (await pager.ask("GET", "/incidents", {"service_ids[]": await service_id(pager)})).json["incidents"]
    assert {one["service"]["id"] for one in own} == {incident["service"]["id"]}
    recent = (await pager.get("/incidents", since="2025-12-31T00:00:00Z")).json["incidents"]
    assert incident["id"] in [one["id"] for one in recent]
    clock.advance(timedelta(days=40).total_seconds())
    assert (await pager.get("/incidents", incident_key="K1")).json["incidents"] == []
    assert (await pager.get("/incidents", incident_key="K1", date_range="all")).json["incidents"]


@pytest.mark.parametrize(
    "params",
    [
        {"statuses[]": "open"},
        {"statuses": "triggered"},
        {"since": "yesterday"},
        {"since": "2020-01-01T00:00:00Z"},
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"sort_by": "colour"},
        {"sort_by": "created_at:up"},
    ],
)
async def test_a_filter_the_real_service_refuses_is_refused(pager, params):
    assert (await pager.ask("GET", "/incidents", params)).status == 400


async def test_incidents_are_sorted_as_asked(pager):
    answer = await pager.get("/incidents", sort_by="urgency:asc,incident_number:desc", limit=100)
    keys = [(one["urgency"], -one["incident_number"]) for one in answer.json["incidents"]]
    assert keys == sorted(keys)


async def test_the_directory_is_listed_searched_and_read(pager):
    for name in ("users", "teams", "services", "escalation_policies", "schedules"):
        page = (await pager.get(f"/{name}", total="true")).json
        assert page["total"] == len(page[name]) > 1
        one = page[name][0]
        assert one["self"] == f"http://127.0.0.1:8000/pagerduty/{name}/{one['id']}"
        found = (await pager.get(f"/{name}", query=one["name"].upper())).json[name]
        assert one in found
        read = (await pager.get(f"/{name}/{one['id']}")).json
        assert list(read.values()) == [one]
    oncalls = (await pager.get("/oncalls")).json["oncalls"]
    assert {oncall["escalation_level"] for oncall in oncalls} == {1, 2}
    policy = oncalls[0]["escalation_policy"]["id"]
    some = (await pager.ask("GET", "/oncalls", {"escalation_policy_ids[]": policy})).json["oncalls"]
    assert {oncall["escalation_policy"]["id"] for oncall in some} == {policy}


async def test_abilities_say_what_the_account_can_do(pager):
    assert "teams" in (await pager.get("/abilities")).json["abilities"]
    assert (await pager.get("/abilities/teams")).status == 204
    assert (await pager.get("/abilities/coordinated_responding")).status == 402
    assert (await pager.get("/abilities/flying")).status == 404


async def test_an_account_level_key_is_no_user(pager):
    answer = await pager.get("/users/me")
    assert answer.status == 400
    assert "account-level access token" in answer.json["error"]


async def test_the_limit_headers_are_there_and_the_limit_holds_where_one_is_set(pager, make_sandbox, clock):
    free = await pager.get("/users")
    assert (free.headers["ratelimit-limit"], free.headers["ratelimit-remaining"]) == ("960", "959")
    pager.sandbox = make_sandbox(
        pagerduty_minute_limit=2,
        credentials={"pagerduty": {"token": pager.headers["authorization"].removeprefix("Token token=")}},
    )
    answers = [await pager.get("/users") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["ratelimit-reset"] == "60"
    clock.advance(60)
    assert (await pager.get("/users")).status == 200


def event(sandbox, action: str = "trigger", **more) -> dict:
    payload = {"summary": "Disk full", "source": "db-1", "severity": "warning"}
    key = sandbox.ready("http://x")["pagerduty"]["routing_key"]
    return {"routing_key": key, "event_action": action, "payload": payload, **more}


async def test_events_trigger_acknowledge_and_resolve_one_incident_by_their_key(sandbox, pager):
    async def enqueue(action: str):
        answer = await pager.ask("POST", "/v2/enqueue", json=event(sandbox, action, dedup_key="disk"))
        assert answer.status == 202
        assert answer.json == {"status": "success", "message": "Event processed", "dedup_key": "disk"}
        found = (await pager.get("/incidents", incident_key="disk")).json["incidents"]
        return [(one["status"], one["alert_counts"]["all"], one["urgency"]) for one in found]

    assert await enqueue("acknowledge") == []
    assert await enqueue("trigger") == [("triggered", 1, "low")]
    assert await enqueue("trigger") == [("triggered", 2, "low")]
    assert await enqueue("acknowledge") == [("acknowledged", 2, "low")]
    assert await enqueue("resolve") == [("resolved", 2, "low")]
    assert await enqueue("resolve") == [("resolved", 2, "low")]
    assert len(await enqueue("trigger")) == 2


async def test_an_event_without_a_key_gets_one(sandbox, pager):
    answer = await pager.ask("POST", "/v2/enqueue", json=event(sandbox))
    found = (await pager.get("/incidents", incident_key=answer.json["dedup_key"])).json["incidents"]
    assert [one["title"] for one in found] == ["Disk full"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"routing_key": None}, "'routing_key' is missing"),
        ({"routing_key": "short"}, "Length of 'routing_key' is incorrect (should be 32 characters)"),
        ({"routing_key": "x" * 32}, "'routing_key' is invalid"),
        ({"event_action": "page"}, "'event_action' is missing or invalid"),
        ({"payload": None}, "'payload' is missing"),
        ({"payload": {"source": "a", "severity": "info"}}, "'payload.summary' is missing"),
        ({"payload": {"summary": "a", "severity": "info"}}, "'payload.source' is missing"),
        ({"payload": {"summary": "a", "source": "b", "severity": "bad"}}, "'payload.severity' is invalid"),
        (
            {"payload": {"summary": "a" * 1_025, "source": "b", "severity": "info"}},
            "'payload.summary' is longer",
        ),
        ({"dedup_key": "x" * 256}, "'dedup_key' must be"),
        ({"event_action": "resolve"}, "'dedup_key' is missing"),
    ],
)
async def test_a_wrong_event_is_refused_with_what_is_wrong(sandbox, pager, change, error):
    answer = await pager.ask("POST", "/v2/enqueue", json={**event(sandbox), **change})
    assert answer.status == 400
    assert (answer.json["status"], answer.json["message"]) == ("invalid event", "Event object is invalid")
    assert answer.json["errors"][0].startswith(error)


async def test_events_are_json_posted_and_at_most_512_kilobytes(sandbox, pager):
    assert (await pager.ask("POST", "/v2/enqueue", content=b"{", headers=JSON)).status == 400
    assert (await pager.ask("POST", "/v2/enqueue", content=b"{}")).status == 400
    assert (await pager.get("/v2/enqueue")).status == 405
    large = {**event(sandbox), "custom_details": "x" * 600_000}
    assert (await pager.ask("POST", "/v2/enqueue", json=large)).status == 413


async def test_change_events_are_accepted_and_checked(sandbox, pager):
    key = event(sandbox)["routing_key"]
    change = {"routing_key": key, "payload": {"summary": "Deployed", "timestamp": "2026-01-01T00:00:00Z"}}
    answer = await pager.ask("POST", "/v2/change/enqueue", json=change)
    assert (answer.status, answer.json["status"]) == (202, "success")
    change["payload"]["timestamp"] = "noon"
    assert (await pager.ask("POST", "/v2/change/enqueue", json=change)).status == 400
