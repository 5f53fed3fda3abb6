"""The fake Sentry: tokens, pages by Link, search, changes, events, limits, webhooks."""

import hashlib
import hmac
import re

import orjson
import pytest

ORG = "/organizations/trunkline-sandbox"


def links(answer):
    found = re.findall(r'<([^>]*)>; rel="(\w+)"; results="(\w+)"; cursor="([^"]*)"', answer.headers["link"])
    return {rel: (url, results == "true", cursor) for url, rel, results, cursor in found}


async def test_a_token_is_needed_must_be_known_and_may_be_for_reading_only(sandbox, sentry):
    reader = f"Bearer {sandbox.ready('')['sentry']['readonly_token']}"
    for header, status, detail in (
        (None, 401, "Authentication credentials were not provided."),
        ("Token x", 401, "Authentication credentials were not provided."),
        ("Bearer x", 401, "Invalid token"),
        (reader, 200, None),
    ):
        answer = await sentry.ask("GET", f"{ORG}/projects/", headers={"authorization": header})
        assert answer.status == status
        assert detail is None or answer.json == {"detail": detail}
    issue = (await sentry.get(f"{ORG}/issues/", limit=1)).json[0]
    path, change = f"{ORG}/issues/{issue['id']}/", {"status": "resolved"}
    refused = await sentry.ask("PUT", path, json=change, headers={"authorization": reader})
    assert (refused.status, refused.json) == (
        403,
        {"detail": "You do not have permission to perform this action."},
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/organizations/other/issues/", 404),
        ("GET", f"{ORG}/issues/1/", 404),
        ("GET", f"{ORG}/issues/?project=nothing", 404),
        ("GET", "/nonsense/", 404),
        ("POST", f"{ORG}/issues/", 405),
    ],
)
async def test_what_is_not_there_is_told_as_detail(sentry, method, path, status):
    path, _, query = path.partition("?")
    answer = await sentry.ask(method, path, dict([query.split("=")]) if query else None)
    assert (answer.status, list(answer.json)) == (status, ["detail"])


async def test_pages_are_joined_by_link_headers_that_tell_whether_there_is_more(sentry):
    first = await sentry.get(f"{ORG}/issues/", query="", limit=50)
    assert (len(first.json), first.headers["x-hits"]) == (50, "130")
    url, more, cursor = links(first)["next"]
    assert (more, links(first)["previous"][1]) == (True, False)
    assert url.startswith("http://127.0.0.1:8000/sentry/api/0/organizations/")
    assert "limit=50" in url
    second = await sentry.get(f"{ORG}/issues/", query="", limit=50, cursor=cursor)
    third = await sentry.get(f"{ORG}/issues/", query="", limit=50, cursor=links(second)["next"][2])
    assert (len(third.json), links(third)["next"][1], links(third)["previous"][1]) == (30, False, True)
    everything = [issue["id"] for page in (first, second, third) for issue in page.json]
    assert len(set(everything)) == 130
    assert len((await sentry.get(f"{ORG}/issues/", query="", limit=500)).json) == 100
    for wrong in ({"limit": 0}, {"limit": "x"}, {"cursor": "abc"}):
        assert (await sentry.get(f"{ORG}/issues/", **wrong)).status == 400
    assert (await sentry.get(f"{ORG}/projects/", per_page=101)).status == 400


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        (None, lambda issue: issue["status"] == "unresolved"),
        ("is:resolved", lambda issue: issue["status"] == "resolved"),
        (
            "is:unresolved level:fatal",
            lambda issue: issue["level"] == "fatal" and issue["status"] == "unresolved",
        ),
        (
            "!level:error project:shop",
            lambda issue: issue["level"] != "error" and issue["project"]["slug"] == "shop",
        ),
        ('"pool is exhausted"', lambda issue: "pool is exhausted" in issue["title"]),
        ("lastSeen:>=2025-12-31T00:00:00", lambda issue: issue["lastSeen"] >= "2025-12-31T00:00:00.000000Z"),
    ],
)
async def test_a_search_finds_what_it_says_newest_first(sentry, query, holds):
    everything = []
    for number in (0, 100):
        everything += (await sentry.get(f"{ORG}/issues/", query="", cursor=f"0:{number}:0")).json
    found = (await sentry.get(f"{ORG}/issues/", **({} if query is None else {"query": query}))).json
    assert found == [issue for issue in everything if holds(issue)][:100]
    assert found
    assert [one["lastSeen"] for one in found] == sorted((one["lastSeen"] for one in found), reverse=True)


@pytest.mark.parametrize("query", ["is:odd", "browser:Firefox", "lastSeen:>=yesterday", "level:>error"])
async def test_a_search_that_cannot_be_made_is_refused_not_ignored(sentry, query):
    answer = await sentry.get(f"{ORG}/issues/", query=query)
    assert answer.status == 400
    assert "Error parsing search query" in answer.json["detail"]


async def test_an_issue_is_resolved_assigned_and_commented_and_a_wrong_change_changes_nothing(sentry):
    issue = (await sentry.get(f"{ORG}/issues/", limit=1)).json[0]
    path = f"{ORG}/issues/{issue['id']}/"
    change = {
        "status": "resolved",
        "assignedTo": "alice@example.com",
        "statusDetails": {"inRelease": "latest"},
    }
    changed = (await sentry.ask("PUT", path, json=change)).json
    assert (changed["status"], changed["assignedTo"]["name"]) == ("resolved", "Alice Abara")
    assert (await sentry.get(f"{ORG}/issues/{issue['shortId']}/")).json["statusDetails"] == {
        "inRelease": "latest"
    }
    assert issue["id"] not in [one["id"] for one in (await sentry.get(f"{ORG}/issues/")).json]
    for wrong, field in (({"status": "done"}, "status"), ({"assignedTo": "x@example.com"}, "assignedTo")):
        refused = await sentry.ask("PUT", path, json={"status": "unresolved"} | wrong)
        assert (refused.status, list(refused.json)) == (400, [field])
    assert (await sentry.get(path)).json["status"] == "resolved"
    said = await sentry.ask("POST", f"{path}comments/", json={"text": "Looking."})
    assert (said.status, said.json["data"]) == (201, {"text": "Looking."})
    assert [one["id"] for one in (await sentry.get(f"{path}comments/")).json] == [said.json["id"]]
    assert (await sentry.ask("POST", f"{path}comments/", json={})).json == {
        "text": ["This field is required."]
    }
    for content, status in ((b"{", 400), (b"[]", 400)):
        answer = await sentry.ask("PUT", path, content=content, headers={"content-type": "application/json"})
        assert answer.status == status
    assert (await sentry.ask("PUT", path, content=b"{}")).status == 415


async def test_events_projects_and_releases_are_read(sentry):
    issue = (await sentry.get(f"{ORG}/issues/", sort="freq", limit=1)).json[0]
    events = (await sentry.get(f"{ORG}/issues/{issue['id']}/events/")).json
    assert len(events) == 100
    latest = (await sentry.get(f"{ORG}/issues/{issue['id']}/events/latest/")).json
    assert (latest["eventID"], latest["title"]) == (events[0]["eventID"], issue["title"])
    same = (await sentry.get(f"/issues/{issue['id']}/events/{events[3]['eventID']}/")).json
    assert same["dateCreated"] == events[3]["dateCreated"]
    assert (await sentry.get(f"{ORG}/issues/{issue['id']}/events/x/")).status == 404
    assert [one["slug"] for one in (await sentry.get(f"{ORG}/projects/", query="sho")).json] == ["shop"]
    assert (await sentry.get("/projects/trunkline-sandbox/shop/")).json["slug"] == "shop"
    own = (await sentry.get("/projects/trunkline-sandbox/shop/issues/")).json
    assert {one["project"]["slug"] for one in own} == {"shop"}
    assert len((await sentry.get(f"{ORG}/releases/")).json) == 3
    assert (await sentry.get("/organizations/")).json[0]["slug"] == "trunkline-sandbox"


async def test_an_endpoint_takes_so_many_requests_a_second(sentry, clock):
    answers = [await sentry.get(f"{ORG}/projects/") for _ in range(41)]
    assert [answer.status for answer in answers[38:]] == [200, 200, 429]
    assert [answer.headers["x-sentry-rate-limit-remaining"] for answer in answers[38:]] == ["1", "0", "0"]
    assert "Limit is 40 requests" in answers[-1].json["detail"]
    assert (await sentry.get(f"{ORG}/issues/")).status == 200
    clock.advance(1)
    assert (await sentry.get(f"{ORG}/projects/")).status == 200


def test_webhooks_have_the_documented_shape_and_are_signed_over_their_body(sandbox, clock):
    fake = sandbox.services["sentry"]
    secret = fake.ready("")["webhook_secret"]
    for resource, options, action in (
        ("issue", {"action": "resolved", "level": "fatal"}, "resolved"),
        ("event_alert", {"project": "api"}, "triggered"),
        ("metric_alert", {}, "critical"),
    ):
        sent = fake.webhooks()[resource](options, clock.now(), None)
        assert sent.proof == {
            "Sentry-Hook-Signature": hmac.new(secret.encode(), sent.body, hashlib.sha256).hexdigest()
        }
        assert sent.headers["Sentry-Hook-Resource"] == resource
        assert sent.headers["Sentry-Hook-Timestamp"] == str(int(clock.now().timestamp()))
        assert orjson.loads(sent.body)["action"] == action
    issue = orjson.loads(fake.webhooks()["issue"]({}, clock.now(), None).body)["data"]["issue"]
    assert {"id", "title", "project", "level", "web_url"} <= set(issue)
    event = orjson.loads(fake.webhooks()["event_alert"]({}, clock.now(), None).body)["data"]["event"]
    assert {"event_id", "issue_id", "title", "project", "level", "web_url", "datetime"} <= set(event)
