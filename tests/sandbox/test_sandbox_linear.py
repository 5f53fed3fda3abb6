"""The fake Linear: its key, what it says to bad queries, filters, pages, changes, limits, webhooks."""

import hashlib
import hmac
from datetime import timedelta

import orjson
import pytest

ISSUES = """query Issues($filter: IssueFilter, $first: Int, $after: String, $sort: [IssueSortInput!]) {
  issues(filter: $filter, first: $first, after: $after, sort: $sort) {
    nodes { id identifier title priority createdAt updatedAt url state { name } assignee { id name }
      team { id key } labels(first: 10) { nodes { name } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
CREATE = """mutation Create($input: IssueCreateInput!) {
  issueCreate(input: $input) { success issue { id identifier title url state { name } labels { nodes { name } } } }
}"""


async def run(linear, query, status=200, **variables):
    answer = await linear.ask("POST", "/graphql", json={"query": query, "variables": variables})
    assert answer.status == status, answer.body
    return answer.json


async def issues(linear, **variables):
    return (await run(linear, ISSUES, **variables))["data"]["issues"]


def code(answer):
    return answer["errors"][0]["extensions"]["code"]


async def test_the_key_is_sent_bare(sandbox, linear):
    assert (await run(linear, "{ viewer { name isMe } }"))["data"]["viewer"] == {
        "name": "Alice Abara",
        "isMe": True,
    }
    for key, status in (
        (None, 401),
        ("lin_api_wrong", 401),
        ("é", 401),
        (f"Bearer {linear.headers['authorization']}", 400),
    ):
        linear.headers["authorization"] = (key or "").encode().decode("latin-1")
        answer = await linear.ask("POST", "/graphql", json={"query": "{ viewer { id } }"})
        assert answer.status == status
        assert answer.json["errors"][0]["extensions"]["userPresentableMessage"]


@pytest.mark.parametrize(
    ("query", "variables", "wanted"),
    [
        ("{ viewer { id ", {}, "GRAPHQL_PARSE_FAILED"),
        ("{ viewer { colour } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ issues(team: 1) { nodes { id } } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ('mutation { issueCreate(input: {title: "x"}) { success } }', {}, "GRAPHQL_VALIDATION_FAILED"),
        (ISSUES, {"filter": {"label": {"name": {"eq": "x"}}}}, "BAD_USER_INPUT"),
        (ISSUES, {"first": "many"}, "BAD_USER_INPUT"),
        (CREATE, {}, "BAD_USER_INPUT"),
        (CREATE, {"input": {"title": "x"}}, "BAD_USER_INPUT"),
        ("query A { viewer { id } } query B { viewer { id } }", {}, "OPERATION_RESOLUTION_FAILURE"),
        ("{ issues(first: 250) { nodes { labels { nodes { name } } } } }", {}, "INPUT_ERROR"),
        ("{ viewer" + "{ organization" * 500 + "}" * 501, {}, "GRAPHQL_PARSE_FAILED"),
    ],
)
async def test_a_query_that_cannot_be_run_is_refused_as_a_whole(linear, query, variables, wanted):
    answer = await run(linear, query, 400, **variables)
    assert code(answer) == wanted
    assert "data" not in answer


async def test_a_refused_value_is_told_inside_a_200(linear):
    missing = await run(linear, '{ issue(id: "COR-9999") { id } }')
    assert (missing["data"], code(missing), missing["errors"][0]["message"]) == (
        None,
        "INPUT_ERROR",
        "Entity not found: Issue",
    )
    team = (await run(linear, "{ teams { nodes { id } } }"))["data"]["teams"]["nodes"][0]["id"]
    for wrong in (
        {"title": " "},
        {"priority": 5},
        {"stateId": "x"},
        {"labelIds": ["x"]},
        {"title": "x" * 600},
    ):
        answer = await run(linear, CREATE, input={"title": "Fine", "teamId": team} | wrong)
        assert (answer["data"], bool(answer["errors"])) == (None, True)
    assert code(await run(linear, ISSUES, first=251)) == "INVALID_INPUT"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"query": ""}', b'{"query": "{a}", "variables": []}'])
async def test_a_body_that_holds_no_query_is_refused(linear, body):
    answer = await linear.ask("POST", "/graphql", content=body, headers={"content-type": "application/json"})
    assert (answer.status, bool(answer.json["errors"])) == (400, True)
    plain = await linear.ask("POST", "/graphql", content=b'{"query": "{ viewer { id } }"}')
    assert plain.status == 400
    assert (await linear.get("/graphql")).status == 405


async def test_issues_come_newest_first_in_pages_that_a_cursor_joins(linear):
    seen, cursor = [], None
    while True:
        page = await issues(linear, first=50, **({"after": cursor} if cursor else {}))
        seen += page["nodes"]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len({one["id"] for one in seen}) == len(seen) == 120
    assert [one["createdAt"] for one in seen] == sorted((one["createdAt"] for one in seen), reverse=True)
    assert len((await issues(linear))["nodes"]) == 50
    assert code(await run(linear, ISSUES, after="gone")) == "INVALID_INPUT"


async def test_issues_are_filtered_by_team_state_assignee_label_and_time(linear):
    everything = (await issues(linear, first=120))["nodes"]
    one = next(issue for issue in everything if issue["assignee"] and issue["labels"]["nodes"])
    label = one["labels"]["nodes"][0]["name"]
    for wanted, holds in (
        ({"team": {"id": {"eq": one["team"]["id"]}}}, lambda issue: issue["team"]["id"] == one["team"]["id"]),
        ({"state": {"name": {"eqIgnoreCase": "TODO"}}}, lambda issue: issue["state"]["name"] == "Todo"),
        (
            {"assignee": {"id": {"eq": one["assignee"]["id"]}}},
            lambda issue: issue["assignee"] == one["assignee"],
        ),
        ({"assignee": {"null": True}}, lambda issue: issue["assignee"] is None),
        ({"labels": {"name": {"eq": label}}}, lambda issue: {"name": label} in issue["labels"]["nodes"]),
        (
            {"or": [{"priority": {"lte": 1}}, {"priority": {"eq": 4}}]},
            lambda issue: issue["priority"] in {0, 1, 4},
        ),
        (
            {"updatedAt": {"gte": "2025-12-31T00:00:00Z"}},
            lambda issue: issue["updatedAt"] >= "2025-12-31T00:00:00.000Z",
        ),
    ):
        found = (await issues(linear, first=120, filter=wanted))["nodes"]
        assert found == [issue for issue in everything if holds(issue)]
        assert found


async def test_a_sort_by_change_puts_what_was_edited_last_at_the_end(linear, clock):
    order = [{"updatedAt": {"order": "Ascending"}}]
    first = (await issues(linear, first=2, sort=order))["nodes"][0]
    clock.advance(60)
    update = 'mutation { issueUpdate(id: "ID", input: {title: "Edited"}) { success } }'.replace(
        "ID", first["identifier"]
    )
    assert (await run(linear, update))["data"]["issueUpdate"] == {"success": True}
    after = (await issues(linear, first=120, sort=order))["nodes"]
    assert (after[0]["id"] != first["id"], after[-1]["title"]) == (True, "Edited")


async def test_an_issue_is_made_labelled_commented_finished_and_archived(linear):
    team = (await run(linear, "{ teams { nodes { id key issueCount } } }"))["data"]["teams"]["nodes"][0]
    label = "mutation($input: IssueLabelCreateInput!) { issueLabelCreate(input: $input) { issueLabel { id name } } }"
    made = await run(linear, label, input={"name": "incident", "teamId": team["id"]})
    label_id = made["data"]["issueLabelCreate"]["issueLabel"]["id"]
    again = await run(linear, label, input={"name": "Incident"})
    assert again["errors"][0]["message"] == "duplicate label name"
    given = {"title": "It burns", "teamId": team["id"], "priority": 1, "labelIds": [label_id]}
    issue = (await run(linear, CREATE, input=given))["data"]["issueCreate"]["issue"]
    assert issue["identifier"].startswith(f"{team['key']}-")
    assert (issue["state"]["name"], issue["labels"]["nodes"]) == ("Todo", [{"name": "incident"}])
    done = "query($filter: WorkflowStateFilter) { workflowStates(filter: $filter) { nodes { id } } }"
    wanted = {"name": {"eq": "Done"}, "team": {"key": {"eq": team["key"]}}}
    state = (await run(linear, done, filter=wanted))["data"]["workflowStates"]["nodes"][0]["id"]
    update = "mutation($id: String!, $input: IssueUpdateInput!) { issueUpdate(id: $id, input: $input) { issue { completedAt labelIds } } }"
    changed = await run(
        linear, update, id=issue["id"], input={"stateId": state, "removedLabelIds": [label_id]}
    )
    assert changed["data"]["issueUpdate"]["issue"] == {
        "completedAt": "2026-01-01T00:00:00.000Z",
        "labelIds": [],
    }
    comment = "mutation($input: CommentCreateInput!) { commentCreate(input: $input) { comment { body issue { id } } } }"
    said = await run(linear, comment, input={"issueId": issue["identifier"], "body": "Looking."})
    assert said["data"]["commentCreate"]["comment"] == {"body": "Looking.", "issue": {"id": issue["id"]}}
    read = "query($id: String!) { issue(id: $id) { comments { nodes { body } } } }"
    assert (await run(linear, read, id=issue["identifier"]))["data"]["issue"]["comments"]["nodes"] == [
        {"body": "Looking."}
    ]
    await run(linear, "mutation($id: String!) { issueArchive(id: $id) { success } }", id=issue["id"])
    counted = (await run(linear, "{ teams { nodes { issueCount } } }"))["data"]["teams"]["nodes"][0]
    assert counted["issueCount"] == team["issueCount"]


async def test_the_limit_is_a_400_of_its_own_code_and_ends_with_its_hour(make_sandbox, linear, clock):
    free = await linear.ask("POST", "/graphql", json={"query": "{ viewer { id } }"})
    assert (free.headers["x-ratelimit-requests-remaining"], free.headers["x-complexity"]) == ("2499", "2")
    linear.sandbox = make_sandbox(
        request_limits={"linear": 1}, credentials={"linear": {"api_key": linear.headers["authorization"]}}
    )
    await run(linear, "{ viewer { id } }")
    clock.advance(600)
    over = await linear.ask("POST", "/graphql", json={"query": "{ viewer { id } }"})
    assert (over.status, code(over.json)) == (400, "RATELIMITED")
    reset = int(over.headers["x-ratelimit-requests-reset"]) / 1_000
    assert reset == (clock.now() + timedelta(minutes=50)).timestamp()
    clock.advance(3_000)
    await run(linear, "{ viewer { id } }")


async def test_webhooks_are_signed_over_their_body_and_say_when_they_were_sent(sandbox, clock):
    fake = sandbox.services["linear"]
    secret = fake.ready("")["webhook_secret"]
    for event in ("Issue", "Comment", "Project"):
        sent = fake.webhooks()[event]({"action": "update", "title": "Replaced"}, clock.now(), None)
        payload = orjson.loads(sent.body)
        assert (payload["type"], payload["action"], payload["data"]["title"]) == (event, "update", "Replaced")
        assert payload["webhookTimestamp"] == clock.now().timestamp() * 1_000
        assert sent.headers["Linear-Event"] == event
        wanted = hmac.new(secret.encode(), sent.body, hashlib.sha256).hexdigest()
        assert sent.proof == {"Linear-Signature": wanted}
    issue = orjson.loads(fake.webhooks()["Issue"]({}, clock.now(), "other").body)["data"]
    assert {"identifier", "url", "team", "state", "labels", "priority"} <= set(issue)
