"""The streams of Jira, Zendesk and GitHub against the strict fakes: everything at first, then only what changed."""

from datetime import timedelta

import pytest
from test_connectors_and_fakes import Service, proof_of

from trunkline.errors import Unauthenticated
from trunkline.rest.children import ChildCalls
from trunkline.rest.cursors import cursor_query
from trunkline.rest.event_rules import Rules
from trunkline.rest.paths import Path
from trunkline.sandbox import SandboxOptions, build_sandbox
from trunkline.sandbox.sender import TAMPER


@pytest.fixture
def services(clock):
    sandbox = build_sandbox(SandboxOptions(count=5, clock=clock))
    return lambda name: Service(name, sandbox, clock)


async def pull(service, name, cursor=None, parent=None):
    """Read a stream from a cursor value on, or from its beginning."""
    stream = service.manifest.streams[name]
    params, query = dict(stream.params), {}
    if stream.cursor:
        query = cursor_query(stream.cursor, service.config)(cursor or stream.cursor.start)
    if stream.for_each:
        params |= next(iter(ChildCalls(stream.for_each).params([parent])))[1]
    return await service.records(stream.endpoint, params, query)


def newest(service, name, pages):
    field = Path.compile(service.manifest.streams[name].cursor.field)
    return max(field.get(record) for page in pages for record in page)


async def test_jira_is_read_by_page_tokens_and_then_only_what_changed(services, clock):
    jira = services("jira")
    pages = await pull(jira, "issues")
    assert [len(page) for page in pages] == [100, 100, 50]
    assert {"summary", "status", "updated"} <= set(pages[0][0]["fields"])
    last = newest(jira, "issues", pages)
    clock.advance(60)
    changed = jira.fake.touch("10007", summary="Changed")
    again = [issue["id"] for page in await pull(jira, "issues", last) for issue in page]
    assert (again[-1], len(again)) == (changed["id"], 2), (
        "what was newest is asked for again, and what changed"
    )


async def test_comments_work_logs_projects_and_users_of_jira(services):
    jira = services("jira")
    (issues, *_) = await pull(jira, "issues")
    assert [len(page) for page in await pull(jira, "comments", parent=issues[0])] == [1]
    assert await pull(jira, "worklogs", parent=issues[0]) == [[]]
    assert [project["key"] for project in (await pull(jira, "projects"))[0]] == ["SUP", "OPS"]
    assert [len(page) for page in await pull(jira, "users")] == [1, 0]


async def test_a_scope_limits_what_of_jira_is_read(services):
    jira = services("jira")
    jira.config = {**jira.config, "scope": "project in (SUP)"}
    found = [issue["fields"]["project"]["key"] for page in await pull(jira, "issues") for issue in page]
    assert (set(found), len(found) < 250) == ({"SUP"}, True)


async def test_issues_of_jira_are_opened_moved_and_commented_on(services):
    jira = services("jira")
    assert (await jira.call("get_myself"))["email"] == jira.ready["email"]
    made = await jira.call("create_issue", project="SUP", type="Bug", summary="It burns", text="Since noon.")
    issue = {"issue": made["key"]}
    await jira.call("update_issue", **issue, priority="High", labels=["incident"], assignee_id=None)
    (done,) = [one for one in await jira.call("list_transitions", **issue) if one["to_category"] == "done"]
    await jira.call("transition_issue", **issue, transition_id=done["id"], resolution="Fixed")
    assert (await jira.call("comment", **issue, text="Looking."))["author"] == "Bridge"
    assert len(await jira.call("list_comments", **issue)) >= 1
    assert (await jira.call("list_worklogs", **issue))["worklogs"] == []
    assert len(await jira.call("list_users")) == 1
    found = await jira.call("get_issue", **issue)
    assert (found["status"], found["priority"], found["labels"]) == ("Done", "High", ["incident"])
    wrong = await jira.refused("create_issue", project="NO", type="Bug", summary="x")
    assert "valid project is required" in wrong
    assert "Unbounded JQL" in await jira.refused("search_issues", jql="ORDER BY key")
    assert "'colour'" in await jira.refused("search_issues", jql="colour = red")


async def test_zendesk_is_exported_by_cursor_and_then_only_what_changed(services, clock):
    zendesk = services("zendesk")
    pages = await pull(zendesk, "tickets")
    assert [len(page) for page in pages] == [250]
    assert len((await pull(zendesk, "users"))[0]) == 30
    assert [len(page) for page in await pull(zendesk, "organizations")] == [3]
    last = newest(zendesk, "tickets", pages)
    clock.advance(600)
    zendesk.fake.touch(7, subject="Changed")
    assert [one["id"] for one in (await pull(zendesk, "tickets", last))[0]] == [250], (
        "the last minute is left out"
    )
    clock.advance(61)
    assert [one["id"] for one in (await pull(zendesk, "tickets", last))[0]] == [250, 7]
    zendesk.fake.touch(8, status="deleted")
    clock.advance(61)
    assert [one["id"] for one in (await pull(zendesk, "tickets", last))[0]] == [250, 7, 8], (
        "deleted ones are told of"
    )


async def test_an_export_of_many_pages_ends_where_it_says(services):
    zendesk = services("zendesk")
    pages = await zendesk.records("export_tickets", {"per_page": 100})
    assert sum(map(len, pages)) == 250


async def test_tickets_of_zendesk_are_opened_solved_and_commented_on(services):
    zendesk = services("zendesk")
    me = await zendesk.call("get_me")
    made = await zendesk.call("create_ticket", subject="It burns", text="Since noon.", priority="urgent")
    ticket = {"id": made["id"]}
    assert "Assignee: is required" in await zendesk.refused("update_ticket", **ticket, status="solved")
    assert (await zendesk.call("update_ticket", **ticket, status="solved", assignee_id=me["id"]))[
        "status"
    ] == "solved"
    await zendesk.call("comment", **ticket, text="Looking.", public=False)
    comments = (await pull(zendesk, "comments", parent=await zendesk.call("get_ticket", **ticket)))[0]
    assert [comment["public"] for comment in comments] == [True, False]
    assert "RecordNotFound" in await zendesk.refused("get_ticket", id=9_999)


@pytest.mark.parametrize("name", ["jira", "zendesk"])
async def test_a_limit_is_told_with_the_time_that_it_ends(clock, name):
    service = Service(
        name, build_sandbox(SandboxOptions(count=5, clock=clock, request_limits={name: 1})), clock
    )
    first = next(iter(service.manifest.endpoints))
    await service.call(first)
    started = clock.monotonic()
    await service.call(first)
    assert 59 <= clock.monotonic() - started <= 75


async def test_issues_of_github_come_with_pull_requests_and_then_only_what_changed(services, clock):
    github = services("github")
    (repos,) = await pull(github, "repos")
    pages = await pull(github, "issues", parent=repos[0])
    assert sum(map(len, pages)) == 70
    assert any("pull_request" in issue for page in pages for issue in page)
    last = newest(github, "issues", pages)
    clock.advance(60)
    where = {"owner": github.ready["owner"], "repo": repos[0]["name"]}
    await github.call("comment", **where, number=3, text="Looking.")
    again = [issue["number"] for page in await pull(github, "issues", last, repos[0]) for issue in page]
    assert again[-1] == 3
    assert len(again) == 2


SENT = [
    ("jira", "issue_created", {"priority": "High"}, ("jira.issue.created", "high", "trigger")),
    (
        "jira",
        "issue_updated",
        {"status": "Done", "priority": "P9"},
        ("jira.issue.closed", "medium", "resolve"),
    ),
    ("jira", "issue_updated", {"priority": "Low"}, ("jira.issue.updated", "low", None)),
    ("jira", "issue_deleted", {}, ("jira.issue.deleted", None, "resolve")),
    ("jira", "comment_created", {}, ("jira.comment.created", None, None)),
    ("zendesk", "ticket.created", {"priority": "urgent"}, ("zendesk.ticket.created", "critical", "trigger")),
    (
        "zendesk",
        "ticket.status_changed",
        {"status": "solved", "priority": "low"},
        ("zendesk.ticket.solved", "low", "resolve"),
    ),
    ("zendesk", "ticket.comment_added", {}, ("zendesk.ticket.comment_added", None, None)),
    ("zendesk", "ticket.soft_deleted", {}, ("zendesk.ticket.deleted", None, "resolve")),
]


@pytest.mark.parametrize("case", SENT, ids=lambda case: case[3][0])
async def test_what_a_fake_sends_is_proven_read_and_refused_when_tampered_with(services, clock, case):
    name, event, options, wanted = case
    service = services(name)
    sent = service.fake.webhooks()[event](options, clock.now(), None)
    assert proof_of(service, sent, clock).dedup
    headers = {header.lower(): value for header, value in sent.headers.items()}
    (made,) = Rules(service.manifest).read_request(sent.body, headers, service.config)
    assert (made.error, made.type, made.severity or None, made.action) == (None, *wanted)
    for tamper in ("unsigned", "signature", "body"):
        with pytest.raises(Unauthenticated):
            proof_of(service, TAMPER[tamper](sent), clock)


async def test_a_stale_webhook_of_zendesk_is_refused(services, clock):
    zendesk = services("zendesk")
    sent = zendesk.fake.webhooks()["ticket.created"]({}, clock.now() - timedelta(seconds=301), None)
    with pytest.raises(Unauthenticated):
        proof_of(zendesk, sent, clock)
