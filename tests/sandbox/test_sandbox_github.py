"""The fake GitHub: what every request must carry, pages, issues, comments, dispatches, limits, webhooks."""

import hashlib
import hmac
from urllib.parse import parse_qs

import orjson
import pytest

REPO = "/repos/octo-trunkline/shop"


async def test_every_request_needs_a_token_and_a_user_agent(sandbox, github):
    reader = f"Bearer {sandbox.ready('')['github']['readonly_token']}"
    for headers, status in (
        ({}, 200),
        ({"authorization": f"token {github.headers['authorization'][7:]}"}, 200),
        ({"authorization": None}, 401),
        ({"authorization": "Bearer x"}, 401),
        ({"authorization": reader}, 200),
        ({"user-agent": None}, 403),
        ({"x-github-api-version": "2022-11-28", "accept": "application/vnd.github+json"}, 200),
        ({"x-github-api-version": "1999-01-01"}, 400),
        ({"accept": "text/html"}, 415),
    ):
        answer = await github.ask("GET", "/user", headers=headers)
        assert answer.status == status, headers
        assert status == 200 or set(answer.json) == {"message", "documentation_url", "status"}
    refused = await github.ask(
        "POST", f"{REPO}/issues", json={"title": "x"}, headers={"authorization": reader}
    )
    assert (refused.status, refused.json["message"]) == (
        403,
        "Resource not accessible by personal access token",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/repos/octo-trunkline/gone", 404),
        ("GET", "/repos/other/shop/issues", 404),
        ("GET", f"{REPO}/issues/9999", 404),
        ("GET", f"{REPO}/issues/x", 404),
        ("GET", "/nonsense", 404),
        ("DELETE", f"{REPO}/issues", 405),
    ],
)
async def test_what_is_not_there_is_not_found(github, method, path, status):
    answer = await github.ask(method, path)
    assert (answer.status, "message" in answer.json) == (status, True)


async def test_pages_are_joined_by_link_headers(github):
    first = await github.get(f"{REPO}/issues", state="all", per_page=30)
    assert len(first.json) == 30
    assert 'state=all&per_page=30&page=2>; rel="next"' in first.headers["link"]
    assert 'page=3>; rel="last"' in first.headers["link"]
    last = await github.get(f"{REPO}/issues", state="all", per_page=30, page=3)
    assert (len(last.json), 'rel="next"' in last.headers["link"], 'rel="prev"' in last.headers["link"]) == (
        10,
        False,
        True,
    )
    whole = await github.get(f"{REPO}/issues", state="all", per_page=1_000)
    assert (len(whole.json), "link" in whole.headers) == (70, False)


async def test_issues_are_filtered_and_sorted(github):
    everything = (await github.get(f"{REPO}/issues", state="all", per_page=100)).json
    assert [one["created_at"] for one in everything] == sorted(
        (one["created_at"] for one in everything), reverse=True
    )
    for params, holds in (
        ({}, lambda one: one["state"] == "open"),
        ({"state": "closed"}, lambda one: one["state"] == "closed"),
        ({"state": "all", "labels": "bug"}, lambda one: one["labels"][0]["name"] == "bug"),
        (
            {"state": "all", "since": "2025-12-31T00:00:00Z"},
            lambda one: one["updated_at"] >= "2025-12-31T00:00:00Z",
        ),
        ({"assignee": "none"}, lambda one: one["state"] == "open"),
    ):
        found = (await github.get(f"{REPO}/issues", per_page=100, **params)).json
        assert found == [one for one in everything if holds(one)]
    assert (await github.get(f"{REPO}/issues", assignee="mona")).json == []
    for wrong in ({"state": "odd"}, {"sort": "colour"}, {"direction": "up"}, {"since": "x"}):
        assert (await github.get(f"{REPO}/issues", **wrong)).status == 422


async def test_an_issue_is_opened_commented_and_closed(github):
    given = {"title": "It burns", "body": "Here.", "labels": ["incident"], "assignees": ["mona"]}
    made = await github.ask("POST", f"{REPO}/issues", json=given)
    assert (made.status, made.json["state"], made.json["labels"][0]["name"]) == (201, "open", "incident")
    assert made.json["assignee"]["login"] == "mona"
    path = f"{REPO}/issues/{made.json['number']}"
    said = await github.ask("POST", f"{path}/comments", json={"body": "Looking."})
    assert (said.status, said.json["html_url"].startswith(made.json["html_url"])) == (201, True)
    assert [one["body"] for one in (await github.get(f"{path}/comments")).json] == ["Looking."]
    closed = (await github.ask("PATCH", path, json={"state": "closed", "state_reason": "not_planned"})).json
    assert (closed["state"], closed["state_reason"], closed["comments"]) == ("closed", "not_planned", 1)
    assert (await github.get(path)).json == closed


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/issues", {}, "title"),
        ("POST", "/issues", {"title": " "}, "title"),
        ("POST", "/issues", {"title": "x" * 257}, "title"),
        ("POST", "/issues", {"title": "x", "body": "x" * 65_537}, "body"),
        ("POST", "/issues", {"title": "x", "labels": "bug"}, "labels"),
        ("POST", "/issues", {"title": "x", "assignees": ["nobody"]}, "assignees"),
        ("POST", "/issues/1/comments", {}, "body"),
        ("PATCH", "/issues/1", {"state": "done"}, "state"),
        ("PATCH", "/issues/1", {"state_reason": "bored"}, "state_reason"),
    ],
)
async def test_a_field_that_is_wrong_is_named(github, method, path, body, field):
    before = (await github.get(f"{REPO}/issues/1")).json
    answer = await github.ask(method, f"{REPO}{path}", json=body)
    assert (answer.status, answer.json["message"]) == (422, "Validation Failed")
    assert answer.json["errors"][0]["field"] == field
    assert (await github.get(f"{REPO}/issues/1")).json == before


async def test_a_body_that_is_no_object_is_refused(github):
    for content, message in ((b"{", "Problems parsing JSON"), (b"[]", "Body should be a JSON object")):
        answer = await github.ask("POST", f"{REPO}/issues", content=content)
        assert (answer.status, answer.json["message"]) == (400, message)


async def test_repositories_pulls_commits_and_runs_are_read(github):
    assert [one["name"] for one in (await github.get("/user/repos")).json] == ["infra", "shop"]
    assert [one["name"] for one in (await github.get("/user/repos", visibility="private")).json] == ["infra"]
    pulls = (await github.get(f"{REPO}/pulls", state="all")).json
    assert len(pulls) == 10
    assert (await github.get(f"{REPO}/pulls/{pulls[0]['number']}")).json == pulls[0]
    assert (await github.get(f"{REPO}/pulls", base="other", state="all")).json == []
    commits = (await github.get(f"{REPO}/commits", since="2025-12-31T23:00:00Z")).json
    assert [len(one["sha"]) for one in commits] == [40]
    assert (await github.get(f"{REPO}/actions/runs")).json["total_count"] == 1


async def test_a_dispatch_is_taken_without_an_answer(sandbox, github):
    sent = {"event_type": "deploy", "client_payload": {"ref": "v1"}}
    assert (await github.ask("POST", f"{REPO}/dispatches", json=sent)).status == 204
    assert sandbox.services["github"].account.dispatches == [sent]
    for wrong in (
        {},
        {"event_type": "x" * 101},
        {"event_type": "x", "client_payload": dict.fromkeys("abcdefghijk")},
    ):
        assert (await github.ask("POST", f"{REPO}/dispatches", json=wrong)).status == 422


async def test_the_limit_is_a_403_with_its_headers_and_ends_with_its_hour(make_sandbox, github, clock):
    free = await github.get("/user")
    assert (free.headers["x-ratelimit-limit"], free.headers["x-ratelimit-remaining"]) == ("5000", "4999")
    token = github.headers["authorization"].removeprefix("Bearer ")
    github.sandbox = make_sandbox(request_limits={"github": 1}, credentials={"github": {"token": token}})
    assert (await github.get("/user")).status == 200
    over = await github.get("/user")
    assert (over.status, over.headers["x-ratelimit-remaining"]) == (403, "0")
    assert int(over.headers["x-ratelimit-reset"]) == clock.now().timestamp() + 3_600
    clock.advance(3_600)
    assert (await github.get("/user")).status == 200


def test_webhooks_carry_both_signatures_as_json_or_as_a_form(sandbox, clock):
    fake = sandbox.services["github"]
    key = fake.ready("")["webhook_secret"].encode()
    for event, options, has in (
        ("ping", {}, "zen"),
        ("push", {"ref": "refs/heads/dev"}, "head_commit"),
        ("issues", {"action": "closed"}, "issue"),
        ("issue_comment", {}, "comment"),
        ("pull_request", {"action": "closed"}, "pull_request"),
        ("workflow_run", {"conclusion": "success", "form": True}, "workflow_run"),
    ):
        sent = fake.webhooks()[event](options, clock.now(), None)
        assert sent.proof == {
            "X-Hub-Signature-256": "sha256=" + hmac.new(key, sent.body, hashlib.sha256).hexdigest(),
            "X-Hub-Signature": "sha1=" + hmac.new(key, sent.body, hashlib.sha1).hexdigest(),
        }
        text = parse_qs(sent.body.decode())["payload"][0] if "form" in options else sent.body
        payload = orjson.loads(text)
        assert (sent.headers["X-GitHub-Event"], has in payload) == (event, True)
        assert payload["repository"]["full_name"] == "octo-trunkline/shop"
