"""The connectors of Sentry, Linear and GitHub against the strict fakes of these services, and the fakes' webhooks
against the connectors' proofs: both sides were written apart, so each checks the other.
"""

from datetime import timedelta
from urllib.parse import urlsplit

import orjson
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.catalog.configure import effective_auth, render_base_url, with_defaults
from trunkline.catalog.load import load_manifest
from trunkline.catalog.registry import BUILT_IN
from trunkline.catalog.template import CURSOR, Template
from trunkline.egress import Reply
from trunkline.errors import Unauthenticated
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.event_rules import Rules
from trunkline.rest.signatures import compile_webhook
from trunkline.sandbox import SandboxOptions, build_sandbox
from trunkline.sandbox.sender import TAMPER
from trunkline.settings import Settings

ORIGIN = "http://127.0.0.1:8000"


class IntoSandbox:
    """Egress whose other end is a sandbox in process."""

    def __init__(self, sandbox):
        self.sandbox = sandbox

    async def request(self, method, url, *, headers=None, body=None, limits=None, follow_redirects=False):
        parts = urlsplit(url)
        sent = {"host": parts.netloc, "user-agent": "Trunkline", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "root_path": "",
            "scheme": parts.scheme,
        }
        scope |= {"query_string": parts.query.encode(), "client": ("127.0.0.1", 5), "http_version": "1.1"}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
        got = {"body": b""}

        async def receive():
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message):
            got.update(message | {"body": got["body"] + message.get("body", b"")})

        await self.sandbox(scope, receive, send)
        found = CIMultiDict((name.decode(), value.decode()) for name, value in got["headers"])
        return Reply(got["status"], CIMultiDictProxy(found), got["body"], url, 1.0, 0)


SIGN_IN = {
    "sentry": ("token", lambda ready: {"bearer_token": ready["token"]}),
    "linear": ("api_key", lambda ready: {"api_key": ready["api_key"]}),
    "github": ("token", lambda ready: {"bearer_token": ready["token"]}),
    "pagerduty": ("api_key", lambda ready: {"api_key": ready["token"]}),
    "jira": ("api_token", lambda ready: {"username": ready["email"], "password": ready["token"]}),
    "zendesk": ("api_token", lambda ready: {"username": ready["username"], "password": ready["token"]}),
}


class Service:
    """One connector, pointed at its fake."""

    def __init__(self, name, sandbox, clock):
        self.manifest = load_manifest(BUILT_IN / f"{name}.yaml")
        self.fake, self.ready = sandbox.services[name], sandbox.ready(ORIGIN)[name]
        method, credentials = SIGN_IN[name]
        given = {key: value for key, value in self.ready.items() if key in self.manifest.config}
        self.config = with_defaults(self.manifest, given)
        auth = effective_auth(self.manifest, method, self.config)
        base_url = render_base_url(self.manifest, self.config)
        self.target = Target("w", "i", self.manifest.name, base_url, auth, self.config, self.manifest)
        self.secrets = credentials(self.ready)
        self.caller = RestCaller(IntoSandbox(sandbox), clock, Settings())

    def endpoint(self, name):
        return compile_endpoint(self.manifest.endpoints[name], self.manifest)

    async def call(self, name, /, **params):
        trace = await self.caller.call(self.target, self.endpoint(name), params, self.secrets)
        assert trace.error is None, f"{name}: {trace.error}"
        return trace.value

    async def refused(self, name, /, **params):
        return (await self.caller.call(self.target, self.endpoint(name), params, self.secrets)).error

    async def records(self, name, params=None, extra_query=None):
        found = []
        pages = self.caller.pages(
            self.target, self.endpoint(name), params or {}, self.secrets, extra_query=extra_query
        )
        async for records, trace in pages:
            assert trace.error is None, f"{name}: {trace.error}"
            found.append(records)
        return found


@pytest.fixture
def services(clock):
    sandbox = build_sandbox(SandboxOptions(count=5, clock=clock))
    return lambda name: Service(name, sandbox, clock)


async def test_who_is_on_call_and_assigned_has_an_email_address(services):
    pagerduty = services("pagerduty")
    assert {person["email"] for person in await pagerduty.call("list_oncalls")} == {
        "alice@example.com",
        "bob@example.com",
    }
    incidents = await pagerduty.call("list_incidents", statuses=["triggered"])
    assert {incident["assignee"]["email"] for incident in incidents} == {"alice@example.com"}


async def test_every_endpoint_of_linear_is_answered_by_the_schemas_own_names(services):
    linear = services("linear")
    assert (await linear.call("get_viewer"))["name"] == "Alice Abara"
    team = (await linear.call("list_teams"))[0]
    assert set(team) == {"id", "name", "key", "issue_count"}
    assert await linear.call("list_labels", team_id=team["id"], name="Incident") == []
    label = await linear.call("create_label", name="incident", team_id=team["id"])
    assert [one["id"] for one in await linear.call("list_labels", team_id=team["id"], name="Incident")] == [
        label["id"]
    ]
    ana = (await linear.call("list_users", email="alice@example.com"))[0]
    project = (await linear.call("list_projects"))[0]
    made = await linear.call(
        "create_issue",
        title="It burns",
        team_id=team["id"],
        priority=1,
        label_ids=[label["id"]],
        assignee_id=ana["id"],
        project_id=project["id"],
        due_date="2026-02-01",
    )
    assert (made["id"].startswith(team["key"]), made["status"]) == (True, "Todo")
    state = (await linear.call("list_workflow_states", team_id=team["id"], name="in progress"))[0]
    changed = await linear.call(
        "update_issue", id=made["id"], state_id=state["id"], assignee_id=None, project_id=None
    )
    assert changed["status"] == "In Progress"
    assert (await linear.call("comment", issue_id=made["id"], text="Looking."))["url"]
    issue = await linear.call("get_issue", id=made["id"])
    assert (issue["labels"], issue["assignee"], issue["comments"][0]["body"]) == (
        ["incident"],
        None,
        "Looking.",
    )
    params = {
        "team_id": team["id"],
        "state": "in progress",
        "label": "incident",
        "order": "newest",
        "limit": 5,
    }
    listed = (await linear.call("list_issues", **params))[0]
    assert (listed["id"], listed["assignee"], listed["labels"]) == (made["id"], {"name": None}, ["incident"])
    assert (
        await linear.refused("get_issue", id="COR-9999")
    ) == "Linear refused the call: Entity not found: Issue"
    assert set(linear.manifest.endpoints) == {
        *("get_viewer", "list_teams", "list_issues", "get_issue", "create_issue", "update_issue", "comment"),
        *("list_labels", "create_label", "list_users", "list_workflow_states", "list_projects"),
    }


async def test_linears_lists_are_read_to_their_end_and_its_stream_from_a_moment_on(services, clock):
    linear = services("linear")
    pages = await linear.records("list_issues")
    assert [len(page) for page in pages] == [100, 20]
    stream = linear.manifest.streams["issues"]
    since = (clock.now() - timedelta(hours=10)).isoformat()
    query = Template.compile(stream.cursor.query, namespaces=CURSOR).render({"cursor": since})
    changed = [one for page in await linear.records(stream.endpoint, stream.params, query) for one in page]
    times = [one[stream.cursor.field] for one in changed]
    assert (len(times), times) == (10, sorted(times))


async def test_a_limit_told_in_milliseconds_holds_the_next_call_until_then(clock):
    sandbox = build_sandbox(SandboxOptions(count=5, clock=clock, request_limits={"linear": 1}))
    linear = Service("linear", sandbox, clock)
    await linear.call("get_viewer")
    assert linear.caller.gate.wait_seconds("i") == pytest.approx(3_600)


async def test_every_endpoint_of_sentry_is_answered(services):
    sentry = services("sentry")
    for name in ("list_organizations", "list_projects", "list_releases"):
        assert await sentry.call(name), name
    pages = await sentry.records("list_issues", {"query": "", "projectSlug": "shop"})
    assert (len(pages), {one["project"]["slug"] for page in pages for one in page}) == (1, {"shop"})
    assert [len(page) for page in await sentry.records("list_issues", {"query": "lastSeen:>=2020-01-01"})][:1]
    issue = (await sentry.call("list_issues", limit=1))[0]
    assert (await sentry.call("get_issue", id=issue["short_id"]))["id"] == issue["id"]
    changed = await sentry.call(
        "update_issue", id=issue["id"], status="resolved", assigned_to="bob@example.com"
    )
    assert (changed["status"], changed["assignee"]) == ("resolved", "Bob Bauer")
    assert (await sentry.call("add_comment", id=issue["id"], text="Looking."))["text"] == "Looking."
    event = (await sentry.call("list_issue_events", id=issue["id"], per_page=1))[0]
    assert (await sentry.call("get_issue_event", id=issue["id"], event_id="latest"))["id"] == event["id"]
    assert await sentry.refused("get_issue", id="9") == (
        "HTTP 404 from Sentry: The requested resource does not exist"
    )


async def test_every_endpoint_of_github_is_answered(services):
    github = services("github")
    where = {"owner": github.ready["owner"], "repo": "shop"}
    assert (await github.call("get_user"))["login"] == where["owner"]
    assert len(await github.call("list_repos")) == 2
    pages = await github.records("list_issues", {**where, "state": "all"})
    assert [len(page) for page in pages] == [70]
    made = await github.call("create_issue", **where, title="It burns", labels=["incident"])
    issue = {**where, "number": made["number"]}
    assert (await github.call("get_issue", **issue))["labels"] == ["incident"]
    assert (await github.call("comment", **issue, text="Looking."))["url"]
    assert (await github.call("close_issue", **issue, reason="not_planned"))["state"] == "closed"
    pull = (await github.call("list_pulls", **where, state="all"))[0]
    assert (await github.call("get_pull", **where, number=pull["number"]))["base"] == "main"
    run = (await github.call("list_workflow_runs", **where, status="failure"))[0]
    assert await github.call("rerun_failed_jobs", **where, run_id=run["id"]) == {}
    assert await github.call("list_workflow_runs", **where, status="failure") == []
    assert await github.call("list_commits", **where)
    assert await github.call("create_dispatch", **where, event_type="deploy") is None
    assert await github.refused("get_issue", **where, number=9_999) == "HTTP 404 from GitHub: Not Found"


SENT = [
    ("sentry", "issue", {"action": "created", "level": "fatal"}, ("sentry.error", "critical", "trigger")),
    ("sentry", "issue", {"action": "resolved", "level": "error"}, ("sentry.resolved", "high", "resolve")),
    ("sentry", "event_alert", {"level": "error"}, ("sentry.error", "high", "trigger")),
    ("sentry", "metric_alert", {}, ("sentry.metric_alert", "critical", "trigger")),
    (
        "pagerduty",
        "incident.triggered",
        {"urgency": "high"},
        ("pagerduty.incident.triggered", "high", "trigger"),
    ),
    ("pagerduty", "incident.resolved", {"urgency": "low"}, ("pagerduty.incident.resolved", "low", "resolve")),
    ("github", "push", {}, ("github.push", None, None)),
    ("github", "issues", {"action": "opened"}, ("github.issues.opened", None, None)),
    (
        "github",
        "pull_request",
        {"action": "closed", "form": True},
        ("github.pull_request.merged", None, None),
    ),
    ("github", "workflow_run", {}, ("github.workflow_run.failed", "high", "trigger")),
    ("github", "workflow_run", {"conclusion": "success"}, ("github.workflow_run.succeeded", None, "resolve")),
    ("linear", "Issue", {"priority": 2}, ("linear.issue.created", "high", "trigger")),
    (
        "linear",
        "Issue",
        {
            "action": "update",
            "priority": 0,
            "state": {"name": "Done", "type": "completed"},
            "changed": {"stateId": "x"},
        },
        ("linear.issue.closed", "info", "resolve"),
    ),
    ("linear", "Comment", {}, ("linear.comment.created", None, None)),
    ("linear", "Project", {"action": "update"}, ("linear.project.updated", None, None)),
]
EACH_SENT = pytest.mark.parametrize("case", SENT, ids=lambda case: f"{case[0]}-{case[3][0]}")


def proof_of(service, sent, clock, **more):
    webhook = compile_webhook(service.manifest.webhook, service.config)
    secret = next(iter(service.manifest.webhook.secrets))
    headers = {name.lower(): value for name, value in {**sent.headers, **sent.proof}.items()}
    given = {secret: service.ready["webhook_secret"]} | more
    return webhook.verify(headers, sent.body, {}, given, clock.now())


@EACH_SENT
async def test_what_a_fake_sends_is_proven_and_read_by_its_connector(services, clock, case):
    name, event, options, wanted = case
    service = services(name)
    sent = service.fake.webhooks()[event](options, clock.now(), None)
    assert proof_of(service, sent, clock).dedup
    headers = {header.lower(): value for header, value in sent.headers.items()}
    (made,) = Rules(service.manifest).read_request(sent.body, headers, service.config)
    assert (made.error, made.type, made.severity or None, made.action) == (None, *wanted)
    assert made.title


@EACH_SENT
async def test_what_is_tampered_with_is_refused(services, clock, case):
    name, event, options, _ = case
    service = services(name)
    sent = service.fake.webhooks()[event](options, clock.now(), None)
    for tamper in ("unsigned", "signature", "body"):
        with pytest.raises(Unauthenticated):
            proof_of(service, TAMPER[tamper](sent), clock)
    other = service.fake.webhooks()[event](options, clock.now(), "another-secret")
    with pytest.raises(Unauthenticated):
        proof_of(service, other, clock)


async def test_a_stale_webhook_of_linear_is_refused_whatever_its_header_says(services, clock):
    linear = services("linear")
    sent = linear.fake.webhooks()["Issue"]({}, clock.now() - timedelta(seconds=61), None)
    sent.headers["Linear-Timestamp"] = str(int(clock.now().timestamp() * 1_000))
    with pytest.raises(Unauthenticated):
        proof_of(linear, sent, clock)
    assert orjson.loads(sent.body)["webhookTimestamp"] < clock.now().timestamp() * 1_000
