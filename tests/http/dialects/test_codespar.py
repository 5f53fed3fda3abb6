"""Codespar's routes 1 to 9: the page's examples byte for byte, over what the services really answer."""

from typing import Any

import pytest
from codespar_samples import CONFIGS, check_error

from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.rest.trace import Trace
from trunkline.services import actions

PAGERDUTY_INCIDENT = {
    "id": "P9INC7",
    "type": "incident",
    "summary": "[#7] Queue depth too high",
    "incident_number": 7,
    "title": "Queue depth too high",
    "created_at": "2026-05-02T09:01:00Z",
    "status": "triggered",
    "urgency": "high",
    "service": {"id": "PSVC", "type": "service_reference", "summary": "billing"},
    "assignments": [
        {
            "at": "2026-05-02T09:01:00Z",
            "assignee": {"id": "PU77X", "type": "user", "summary": "Ana Reyes", "email": "ana@example.com"},
        }
    ],
    "html_url": "https://example.pagerduty.com/incidents/P9INC7",
}
INCIDENTS = (
    '{"incidents":[{"id":"P9INC7","title":"Queue depth too high","status":"triggered","urgency":"high",'
    '"service":"billing","createdAt":"2026-05-02T09:01:00Z",'
    '"assignee":{"name":"Ana Reyes","email":"ana@example.com"}}],"total":1}'
)
ONCALL = (
    '{"oncall":{"userId":"PU77X","name":"Ana Reyes","email":"ana@example.com","escalationLevel":1,'
    '"since":"2026-05-02T06:00:00Z","until":"2026-05-03T06:00:00Z"}}'
)
LINEAR_ISSUE = {
    "id": "9cfb482a-81e3-4154-b5b9-2c805e70a02d",
    "identifier": "COR-41",
    "title": "Retry storm on webhook worker",
    "priority": 2.0,
    "createdAt": "2026-05-01T12:00:00.000Z",
    "state": {"id": "s1", "name": "In Progress", "type": "started"},
    "assignee": {"id": "u1", "name": "Ana Reyes", "email": "ana@example.com"},
    "labels": {"nodes": [{"id": "l1", "name": "backend"}]},
}
ISSUES = (
    '{"issues":[{"id":"COR-41","title":"Retry storm on webhook worker","status":"In Progress","priority":2,'
    '"assignee":{"name":"Ana Reyes"},"labels":["backend"],"createdAt":"2026-05-01T12:00:00Z"}],"total":1}'
)
SENTRY_ISSUE = {
    "id": "5550001",
    "shortId": "SHOP-1",
    "title": "ReferenceError: cart is not defined",
    "culprit": "src/cart.ts in total",
    "level": "error",
    "count": "17",
    "userCount": 5,
    "firstSeen": "2026-05-01T20:00:00.000000Z",
    "lastSeen": "2026-05-02T09:00:00Z",
    "permalink": "https://sentry.io/organizations/example/issues/5550001/",
    "project": {"slug": "shop"},
}
ERROR_ISSUES = (
    '{"issues":[{"id":"5550001","title":"ReferenceError: cart is not defined","culprit":"src/cart.ts in total",'
    '"level":"error","count":17,"userCount":5,"firstSeen":"2026-05-01T20:00:00Z","lastSeen":"2026-05-02T09:00:00Z",'
    '"permalink":"https://sentry.io/organizations/example/issues/5550001/"}],"total":1}'
)
CALLS = [
    ("GET", "/api/integrations/pagerduty/oncall", "PagerDuty"),
    ("GET", "/api/integrations/pagerduty/incidents", "PagerDuty"),
    ("POST", "/api/integrations/pagerduty/incidents/P9INC7/acknowledge", "PagerDuty"),
    ("GET", "/api/integrations/linear/teams", "Linear"),
    ("GET", "/api/integrations/linear/issues", "Linear"),
    ("POST", "/api/integrations/linear/issues", "Linear"),
    ("GET", "/api/observability/sentry", "Sentry"),
]
NEW_ISSUE = {"title": "Look into flaky worker test", "teamId": "team-core"}


def on_duty(level: int, name: str, **more: Any) -> dict[str, Any]:
    return {
        "user": {"id": "PU77X", "type": "user", "summary": name, "name": name, "email": "ana@example.com"},
        "escalation_level": level,
        "escalation_policy": {"id": "PEP", "summary": "Default"},
        "schedule": {"id": "PSC", "summary": "Primary"},
        "start": "2026-05-02T08:00:00+02:00",
        "end": "2026-05-03T06:00:00Z",
        **more,
    }


def graph(**answers: Any):
    """Answer GraphQL by the operation's name."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        operation = asked["body"]["query"].split()[1].split("(")[0]
        return {"data": answers[operation]}

    return answer


def page_of(**lists: Any) -> dict[str, Any]:
    return {
        name: {"nodes": nodes, "pageInfo": {"hasNextPage": False, "endCursor": None}}
        for name, nodes in lists.items()
    }


async def ask(caller: Client, method: str, path: str, **headers: str):
    body = NEW_ISSUE if method == "POST" and "linear" in path else None
    return await caller.send(method, path, body, **headers)


# Routes 1 and 2.


async def test_nothing_is_configured_at_first(alice: Client):
    reply = await alice.get("/api/integrations/status")
    unset = '"configured":false,"status":"inactive","lastSync":null'
    assert reply.text == (
        f'{{"integrations":[{{"id":"pagerduty",{unset}}},{{"id":"linear",{unset}}},'
        f'{{"id":"sentry",{unset}}},{{"id":"slack",{unset}}}]}}'
    )


@pytest.mark.parametrize("name", ["pagerduty", "linear", "sentry", "slack"])
async def test_configuring_answers_as_the_page_shows_and_never_what_was_sent(
    alice: Client, clock: ManualClock, name: str, service
):
    body = {"integration": name, "config": CONFIGS[name] | {"url": service.url}}
    when = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    reply = await alice.post("/api/integrations/configure", body)
    assert reply.status == 200
    assert reply.text == f'{{"integration":"{name}","status":"active","configuredAt":"{when}"}}'
    shown = (await alice.get("/api/integrations/status")).json["integrations"]
    assert [entry["id"] for entry in shown if entry["configured"]] == [name]
    assert {entry["status"] for entry in shown if entry["configured"]} == {"active"}


async def test_the_last_sync_is_when_a_test_last_reached_the_service(
    alice: Client, clock: ManualClock, configured, service
):
    await configured("pagerduty")
    service.answers["GET /abilities"] = {"abilities": []}
    found = (await alice.get("/v1/{ws}/integrations")).json["items"][0]
    clock.advance(60)
    tested = await alice.post(f"/v1/{{ws}}/integrations/{found['id']}/test-connection")
    assert tested.json["status"] == "healthy", tested.text
    shown = (await alice.get("/api/integrations/status")).json["integrations"][0]
    assert shown["lastSync"] == clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_configuring_again_changes_what_is_sent_and_keeps_the_rest(alice: Client, configured, service):
    await configured("pagerduty")
    body = {"integration": "pagerduty", "config": {"apiKey": "u+newer"}}
    assert (await alice.post("/api/integrations/configure", body)).status == 200
    service.answers["GET /oncalls"] = {"oncalls": []}
    await alice.get("/api/integrations/pagerduty/oncall")
    assert service.asked[0]["headers"]["Authorization"] == "Token token=u+newer"
    assert service.asked[0]["headers"]["From"] == "bot@example.com"
    assert len((await alice.get("/v1/{ws}/integrations")).json["items"]) == 1


async def test_configuring_switches_on_again(alice: Client, configured):
    await configured("pagerduty")
    found = (await alice.get("/v1/{ws}/integrations")).json["items"][0]
    await alice.put(f"/v1/{{ws}}/integrations/{found['id']}", {"enabled": False})
    shown = (await alice.get("/api/integrations/status")).json["integrations"][0]
    assert (shown["configured"], shown["status"], shown["lastSync"]) == (True, "inactive", None)
    check_error(await alice.get("/api/integrations/pagerduty/oncall"), 409, "CONFLICT")
    await configured("pagerduty")
    shown = (await alice.get("/api/integrations/status")).json["integrations"][0]
    assert shown["status"] == "active"


async def test_an_integration_made_elsewhere_counts_too(alice: Client, service):
    body = {"connector": "pagerduty", "name": "pd-prod", "display_name": "PagerDuty, production"}
    body |= {"base_url": "", "credentials": {"values": {"api_key": "k"}}, "config": {"url": service.url}}
    await alice.integration(**body)
    assert (await alice.get("/api/integrations/status")).json["integrations"][0]["configured"] is True
    await alice.post("/api/integrations/configure", {"integration": "pagerduty", "config": {"apiKey": "n"}})
    assert [item["name"] for item in (await alice.get("/v1/{ws}/integrations")).json["items"]] == ["pd-prod"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, ("integration: ", "config: ")),
        ({"integration": "datadog", "config": {}}, ("integration: ",)),
        ({"integration": "pagerduty"}, ("config: ",)),
        ({"integration": "pagerduty", "config": []}, ("config: ",)),
        ({"integration": "pagerduty", "config": {}}, ("config.apiKey: ",)),
        ({"integration": "pagerduty", "config": {"serviceId": "PSVC"}}, ("config.apiKey: ",)),
        ({"integration": "pagerduty", "config": {"apiKey": 7}}, ("config.apiKey: ",)),
        (
            {"integration": "pagerduty", "config": {"apiKey": "hush", "fromEmail": "me"}},
            ("config.fromEmail: ",),
        ),
        ({"integration": "sentry", "config": {"authToken": "hush"}}, ("config.org: ",)),
        ({"integration": "sentry", "config": {"org": "x"}}, ("config.token: ",)),
        ({"integration": "sentry", "config": {"token": "hush", "org": "x y"}}, ("config.org: ",)),
        ({"integration": "linear", "config": {"teamId": "t"}}, ("config.apiKey: ",)),
        ({"integration": "slack", "config": {"token": ""}}, ("config.token: ",)),
    ],
)
async def test_what_is_missing_or_wrong_is_named_as_the_client_names_it(alice: Client, body, told):
    text = check_error(await alice.post("/api/integrations/configure", body), 400, "VALIDATION_ERROR")
    assert all(name in text for name in told), text
    assert "hush" not in text
    assert (await alice.get("/v1/{ws}/integrations")).json["total"] == 0


# Routes 3 to 5.


async def test_who_is_on_call_is_one_object_as_the_page_shows(alice: Client, configured, service):
    await configured("pagerduty")
    service.answers["GET /oncalls"] = {"oncalls": [on_duty(2, "Bo Lind"), on_duty(1, "Ana Reyes")]}
    reply = await alice.get("/v1/api/integrations/pagerduty/oncall")
    assert (reply.status, reply.text) == (200, ONCALL)


async def test_nobody_on_call_is_null(alice: Client, configured, service):
    await configured("pagerduty")
    service.answers["GET /oncalls"] = {"oncalls": []}
    assert (await alice.get("/api/integrations/pagerduty/oncall")).text == '{"oncall":null}'


async def test_incidents_are_listed_as_the_page_shows(alice: Client, configured, service):
    await configured("pagerduty")
    service.answers["GET /incidents"] = {"incidents": [PAGERDUTY_INCIDENT], "more": False}
    reply = await alice.get("/api/integrations/pagerduty/incidents")
    assert (reply.status, reply.text) == (200, INCIDENTS)
    query = service.asked[0]["query"]
    assert (query["statuses[]"], query["limit"]) == (["triggered", "acknowledged"], ["25"])


async def test_incidents_are_asked_for_by_state_and_number(alice: Client, configured, service):
    await configured("pagerduty")
    unassigned = PAGERDUTY_INCIDENT | {"assignments": []}
    service.answers["GET /incidents"] = {"incidents": [unassigned], "more": False}
    reply = await alice.get("/api/integrations/pagerduty/incidents?status=resolved,%20triggered&limit=7")
    assert reply.json["incidents"][0]["assignee"] is None
    query = service.asked[0]["query"]
    assert (query["statuses[]"], query["limit"]) == (["resolved", "triggered"], ["7"])


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=1.5", "status=open", "status=triggered,,"]
)
async def test_a_query_that_cannot_be_is_named(alice: Client, configured, service, query: str):
    await configured("pagerduty")
    reply = await alice.get(f"/api/integrations/pagerduty/incidents?{query}")
    assert f"{query.partition('=')[0]}: " in check_error(reply, 400, "VALIDATION_ERROR")
    assert service.asked == []


@pytest.mark.parametrize("body", [None, {"acknowledgedBy": "agent-proj-1"}])
async def test_an_incident_is_acknowledged_as_the_page_shows(alice: Client, configured, service, body):
    await configured("pagerduty")
    changed = {"status": "acknowledged", "last_status_change_at": "2026-05-02T09:03:00Z"}
    service.answers["PUT /incidents/P9INC7"] = {"incident": PAGERDUTY_INCIDENT | changed}
    reply = await alice.post("/api/integrations/pagerduty/incidents/P9INC7/acknowledge", body)
    shown = '{"id":"P9INC7","status":"acknowledged","acknowledgedAt":"2026-05-02T09:03:00Z"}'
    assert (reply.status, reply.text) == (200, shown)
    assert service.asked[0]["body"]["incident"]["status"] == "acknowledged"
    assert service.asked[0]["headers"]["From"] == "bot@example.com"


async def test_an_unknown_incident_is_not_found(alice: Client, configured, service):
    await configured("pagerduty")
    reply = await alice.post("/api/integrations/pagerduty/incidents/nope/acknowledge")
    check_error(reply, 404, "INCIDENT_NOT_FOUND")


# Routes 6 to 8.


async def test_teams_are_listed_as_the_page_shows(alice: Client, configured, service):
    await configured("linear")
    team = {"id": "team-core", "name": "Core", "key": "COR", "issueCount": 12}
    service.answers["POST /graphql"] = graph(Teams=page_of(teams=[team]))
    reply = await alice.get("/api/integrations/linear/teams")
    assert reply.text == '{"teams":[{"id":"team-core","name":"Core","key":"COR","issueCount":12}]}'
    assert service.asked[0]["headers"]["Authorization"] == "lin_api_1"


async def test_issues_are_listed_as_the_page_shows(alice: Client, configured, service):
    await configured("linear")
    service.answers["POST /graphql"] = graph(Issues=page_of(issues=[LINEAR_ISSUE]))
    reply = await alice.get("/api/integrations/linear/issues")
    assert (reply.status, reply.text) == (200, ISSUES)
    assert service.asked[0]["body"]["variables"]["first"] == 25


async def test_issues_are_asked_for_by_team_state_and_assignee(alice: Client, configured, service):
    await configured("linear")
    service.answers["POST /graphql"] = graph(Issues=page_of(issues=[LINEAR_ISSUE | {"assignee": None}]))
    reply = await alice.get(
        "/api/integrations/linear/issues?team=t1&status=In%20Progress&assignee=u1&limit=3"
    )
    assert reply.json["issues"][0]["assignee"] is None
    variables = service.asked[0]["body"]["variables"]
    assert variables["filter"]["team"] == {"id": {"eq": "t1"}}
    assert variables["filter"]["state"] == {"name": {"eqIgnoreCase": "In Progress"}}
    assert variables["filter"]["assignee"] == {"id": {"eq": "u1"}}
    assert variables["first"] == 3


CREATED = {
    "issueCreate": {
        "success": True,
        "issue": {
            "id": "x",
            "identifier": "COR-42",
            "title": NEW_ISSUE["title"],
            "url": "https://linear.app/example/issue/COR-42",
            "state": {"name": "Todo"},
        },
    }
}


async def test_an_issue_is_opened_as_the_page_shows(alice: Client, configured, service):
    await configured("linear")
    service.answers["POST /graphql"] = graph(CreateIssue=CREATED)
    reply = await alice.post("/api/integrations/linear/issues", NEW_ISSUE | {"priority": 0, "colour": "red"})
    assert reply.status == 201
    assert reply.text == (
        '{"id":"COR-42","title":"Look into flaky worker test","status":"Todo",'
        '"url":"https://linear.app/example/issue/COR-42"}'
    )
    assert service.asked[0]["body"]["variables"]["input"] == {
        "title": NEW_ISSUE["title"],
        "teamId": "team-core",
        "priority": 0,
    }


async def test_labels_are_found_by_name_or_made(alice: Client, configured, service):
    await configured("linear")

    def labels(asked: dict[str, Any]) -> dict[str, Any]:
        variables = asked["body"]["variables"]
        found = [{"id": "l1", "name": "incident"}] if "incident" in str(variables.get("filter")) else []
        made = {"issueLabelCreate": {"success": True, "issueLabel": {"id": "l2", "name": "new"}}}
        return graph(Labels=page_of(issueLabels=found), CreateLabel=made, CreateIssue=CREATED)(asked)

    service.answers["POST /graphql"] = labels
    body = NEW_ISSUE | {"description": "why", "priority": 2, "labels": ["incident", "new", "incident"]}
    assert (await alice.post("/api/integrations/linear/issues", body)).status == 201
    sent = [asked["body"]["variables"] for asked in service.asked]
    assert sent[2]["input"] == {"name": "new", "teamId": "team-core"}
    assert sent[-1]["input"]["labelIds"] == ["l1", "l2"]
    assert sent[-1]["input"]["description"] == "why"
    assert len(sent) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": 7}, "title"),
        ({"teamId": ""}, "teamId"),
        ({"priority": 5}, "priority"),
        ({"priority": "2"}, "priority"),
        ({"priority": True}, "priority"),
        ({"labels": "x"}, "labels"),
        ({"labels": [7]}, "labels.0"),
        ({"labels": ["x"] * 21}, "labels"),
    ],
)
async def test_a_bad_issue_is_named_and_not_sent(alice: Client, configured, service, change, told: str):
    await configured("linear")
    reply = await alice.post("/api/integrations/linear/issues", NEW_ISSUE | change)
    assert f"{told}: " in check_error(reply, 400, "VALIDATION_ERROR")
    assert service.asked == []


# Route 9.


async def test_error_issues_are_listed_as_the_page_shows(alice: Client, configured, service):
    await configured("sentry")
    service.answers["GET /api/0/organizations/example/issues/"] = (200, [SENTRY_ISSUE])
    reply = await alice.get("/api/observability/sentry")
    assert (reply.status, reply.text) == (200, ERROR_ISSUES)
    asked = service.asked[0]
    assert (asked["query"]["query"], asked["query"]["limit"]) == (["is:unresolved"], ["25"])
    assert asked["headers"]["Authorization"] == "Bearer sntrys_1"


async def test_error_issues_are_asked_for_by_project_and_query(alice: Client, configured, service):
    await configured("sentry")
    service.answers["GET /api/0/organizations/example/issues/"] = (200, [SENTRY_ISSUE] * 5)
    reply = await alice.get("/api/observability/sentry?project=shop&query=level:fatal&limit=2")
    assert reply.json["total"] == len(reply.json["issues"]) == 2
    assert "shop" in str(service.asked[0]["query"])
    assert service.asked[0]["query"]["query"] == ["level:fatal"]


# What goes wrong.


@pytest.mark.parametrize(("method", "path", "name"), CALLS)
async def test_an_integration_that_is_not_configured_is_told_as_the_page_shows(
    alice: Client, method: str, path: str, name: str
):
    reply = await ask(alice, method, path)
    assert reply.status == 400
    text = f'"{name} integration is not configured","code":"INTEGRATION_NOT_CONFIGURED","status":400'
    assert reply.text == f'{{"error":{text}}}'


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
async def test_a_service_that_fails_is_told_as_the_page_shows(
    alice: Client, configured, service, call: tuple[str, str, str]
):
    method, path, name = call
    await configured(name.lower())
    failing = (500, {"error": {"message": "boom"}, "errors": [{"message": "boom"}], "detail": "boom"})
    for known in ("GET /oncalls", "GET /incidents", "PUT /incidents/P9INC7", "POST /graphql"):
        service.answers[known] = failing
    service.answers["GET /api/0/organizations/example/issues/"] = failing
    reply = await ask(alice, method, path)
    text = check_error(reply, 502, "UPSTREAM_ERROR")
    assert f"{name} API" in text
    assert method == "POST" or text == f"Failed to fetch from {name} API"
    assert "boom" in reply.json["details"]


async def test_a_service_that_hangs_is_given_up_after_ten_seconds(
    alice: Client, configured, monkeypatch: pytest.MonkeyPatch
):
    await configured("sentry")
    budgets = []

    async def hang(*_: Any, budget_seconds: float, **__: Any):
        budgets.append(budget_seconds)
        return Trace(error="no answer within 10 s", error_kind="timeout"), "Sentry"

    monkeypatch.setattr(actions, "run", hang)
    reply = await alice.get("/api/observability/sentry")
    assert reply.text == (
        '{"error":"Failed to fetch from Sentry API","code":"UPSTREAM_ERROR","status":502,'
        '"details":"Request timeout after 10000ms"}'
    )
    assert budgets == [10.0]


@pytest.mark.parametrize(
    "answer", [[], {}, None, "x", 7, [[]], {"incidents": "x"}, {"incidents": [1, None, {}]}]
)
async def test_no_answer_of_a_service_is_too_odd(alice: Client, configured, service, answer: Any):
    for name in ("pagerduty", "linear", "sentry"):
        await configured(name)
    for known in ("GET /oncalls", "GET /incidents", "PUT /incidents/P9INC7", "POST /graphql"):
        service.answers[known] = lambda _: (200, answer)
    service.answers["GET /api/0/organizations/example/issues/"] = lambda _: (200, answer)
    for method, path, _ in CALLS:
        reply = await ask(alice, method, path)
        assert reply.status in {200, 201, 502}, (path, reply.text)
