"""Every documented request of the five contracts has exactly one owner; no scope is too odd for dispatch.

The rows of `DOCUMENTED` are the contracts' route tables; the OpenAPI documents give further ones where they are at hand.
"""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_asgi import Client
from trunkline.http import dispatch, native
from trunkline.http.dispatch import FORMATS, owner
from trunkline.http.native.route import NativeRoute

OPENAPI = Path(__file__).parents[2] / "../shared/contracts/openapi"
WORKSPACE = "0c9a4f8e-8a55-4f0c-8f1b-6f6b1f8d2e33"
HEADERS = {
    "native": {"authorization": "Bearer tl_x"},
    "spike": {"x-api-key": "k", "x-team-id": "66a1c0ffee00112233440009"},
    "codespar": {"x-org-id": "default", "authorization": "Bearer tl_x"},
    "supportbot": {"authorization": "Bearer eyJ.x.y"},
    "toolregistry": {"x-api-key": "sk_live_x"},
}
DOCUMENTED = {
    "native": """
        GET /v1/{workspace_id}/integrations
        POST /v1/{workspace_id}/integrations
        GET /v1/{workspace_id}/integrations/{integration_id}
        PUT /v1/{workspace_id}/integrations/{integration_id}
        DELETE /v1/{workspace_id}/integrations/{integration_id}
        POST /v1/{workspace_id}/integrations/{integration_id}/endpoints/{endpoint_name}/test
        POST /v1/{workspace_id}/integrations/{integration_id}/test-connection
        GET /v1/{workspace_id}/integrations/health-check
        GET /v1/{workspace_id}/api-keys
        POST /v1/{workspace_id}/api-keys
        DELETE /v1/{workspace_id}/api-keys/{key_id}
        POST /v1/{workspace_id}/api-keys/{key_id}/rotate
        GET /v1/auth/me
    """,
    "spike": """
        POST /integrations/create
        GET /integrations/{token}
        DELETE /integrations/{token}/archive
        GET /integrations/available
        GET /integrations
        POST /{token}/push-events
        GET /incidents
        POST /incidents/create
        GET /incidents/{counterId}
        GET /incidents/triggered
        GET /incidents/acknowledged
        GET /incidents/assigned-to-user?id=u
        GET /incidents/overview?id=u
        GET /incidents/all-occurrences?start=a&end=b
        GET /incidents/{counterId}/get-previous-incidents
        GET /incidents/{counterId}/incident-context
        GET /incidents/{counterId}/activity-log
        GET /incidents/{counterId}/suppressed-incidents
        GET /incidents/{counterId}/suppressed-incidents/{_id}
        POST /incidents/acknowledge
        POST /incidents/resolve
        POST /incidents/escalate
        POST /incidents/unacknowledge
        POST /incidents/priority
        POST /incidents/severity
        DELETE /incidents/priority/remove
        DELETE /incidents/severity/remove
        POST /incidents/reassign
        POST /incidents/remove-responder
        PATCH /incidents/{counterId}/public-sharing
        GET /services
        GET /services/affected
        GET /services/{counterId}
        POST /services/create
        PUT /services/{counterId}/update
        GET /services/{counterId}/incidents
        GET /services/{counterId}/integrations
        GET /escalations
        GET /escalations/{escalationId}
        GET /on-calls/{oncallId}/escalations
        POST /escalations/create
        PUT /escalations/{escalationId}/update
        DELETE /escalations/{escalationId}/archive
        GET /automation/rules
        POST /automation/rules/create
        GET /automation/rules/{ruleId}
        PUT /automation/rules/{ruleId}/update
        DELETE /automation/rules/{ruleId}/archive
        GET /on-calls
        GET /oncalls/am-i-on-call?id=u
        GET /oncalls/upcoming-shifts?id=u
        GET /teams/get-all-teams
        GET /teams/get-my-teams?id=u
        GET /orgs/members
        GET /orgs/info
    """,
    "codespar": """
        GET /api/integrations/status
        POST /api/integrations/configure
        GET /api/integrations/pagerduty/oncall
        GET /api/integrations/pagerduty/incidents
        POST /api/integrations/pagerduty/incidents
        POST /api/integrations/pagerduty/incidents/resolve
        POST /api/integrations/pagerduty/incidents/{id}/acknowledge
        GET /api/integrations/pagerduty/on-call
        GET /api/integrations/linear/teams
        GET /api/integrations/linear/issues
        POST /api/integrations/linear/issues
        GET /api/observability/sentry
        POST /api/webhooks/sentry
        GET /api/webhooks/url
        POST /api/integrations/sentry/webhook
        GET /api/channel-routes
        POST /api/channel-routes
        DELETE /api/channel-routes/{id}
        DELETE /api/channel-routes/{channelType}/{channelId}
        GET /api/observability/incidents
        POST /api/observability/incidents/{id}/acknowledge
        GET /api/events/stream
        GET /api/events
        POST /a2a/tasks
        GET /a2a/tasks
        GET /a2a/tasks/{id}
        POST /a2a/tasks/{id}/cancel
        POST /webhooks/sentry
        POST /webhooks/github
        POST /webhooks/vercel
        POST /webhooks/deploy
    """,
    "supportbot": """
        GET /integrations/all
        GET /integrations/id/{integration_id}
        POST /integrations/create
        PUT /integrations/update/{integration_id}
        DELETE /integrations/delete/{integration_id}
        POST /integrations/sync/{integration_id}
        GET /api/knowledge-base/incidents?limit=100&offset=0
        DELETE /api/knowledge-base/incidents/{incident_id}
        GET /api/knowledge-base/logs
        POST /api/knowledge-base/upload
        POST /api/knowledge-base/validate/{session_id}
        POST /api/knowledge-base/validate/{session_id}/map-fields
        POST /api/knowledge-base/ingest
        GET /api/knowledge-base/versions
        GET /api/knowledge-base/versions/active
        GET /api/knowledge-base/versions/{version_id}
        POST /api/knowledge-base/versions/{version_id}/rollback
        DELETE /api/knowledge-base/versions/{version_id}
    """,
    "toolregistry": """
        GET /v1/integrations
        GET /v1/integrations/{customerIntegrationId}/users/{userId}
        POST /v1/integrations/{customerIntegrationId}/users/{userId}/auth-url
        GET /v1/actions
        POST /v1/actions/run
        GET /v1/runs
        POST /v1/runs
        GET /v1/runs/approval?token=t
        GET /v1/runs/{runId}
        DELETE /v1/runs/{runId}
        GET /v1/runs/{runId}/sse
    """,
}
ROWS = [(name, row.strip()) for name, text in DOCUMENTED.items() for row in text.strip().splitlines()]
# The page says that each of its paths is there under /v1 as well.
ROWS += [(name, row.replace(" /", " /v1/", 1)) for name, row in ROWS if name == "codespar"]
# A client may hold its key as `x-api-key` where its product says Bearer, or the other way round.
OTHER_KEY = {
    "native": {"x-api-key": "tl_x"},
    "spike": {"authorization": "Bearer tl_x", "x-team-id": "66a1c0ffee00112233440009"},
    "codespar": {"x-api-key": "tl_x"},
    "toolregistry": {"authorization": "Bearer tl_x"},
}


def scope_of(row: str, headers: dict[str, str], host: str = "127.0.0.1:8700") -> dict[str, object]:
    method, _, target = row.partition(" ")
    path = re.sub(r"\{workspace_id\}", WORKSPACE, target.partition("?")[0])
    path = re.sub(r"\{\w+\}", "4be1d07ac2938f56e0b1", path)
    pairs = [(b"host", host.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
    return {"type": "http", "method": method, "path": path, "headers": pairs, "query_string": b""}


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_documented_request_goes_to_its_format_at_the_root(name: str, row: str):
    scope = scope_of(row, HEADERS[name])
    assert owner(scope) == (name, scope["path"])


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, row in ROWS if name in OTHER_KEY])
def test_the_key_may_come_in_either_header(name: str, row: str):
    assert owner(scope_of(row, OTHER_KEY[name]))[0] == name


@pytest.mark.parametrize("name", ["native", "spike", "toolregistry"])
def test_every_operation_of_the_openapi_documents_goes_to_its_format(name: str):
    file = OPENAPI / f"{name}.json"
    if not file.exists():
        pytest.skip(f"the contracts are not at hand: {file}")
    paths = json.loads(file.read_text())["paths"]
    rows = [f"{method.upper()} {path}" for path, item in paths.items() for method in item]
    assert len(rows) >= 3
    assert {owner(scope_of(row, HEADERS[name]))[0] for row in rows} == {name}


def test_every_route_of_our_own_is_natives():
    routes = [route for route in native.build().routes if isinstance(route, NativeRoute)]
    rows = [f"{method} {route.path}" for route in routes for method in route.methods]
    assert {owner(scope_of(row, HEADERS["native"]))[0] for row in rows} == {"native"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_host_of_its_own_wins_over_everything_and_keeps_the_path(name: str):
    for host in (f"{name}.hub.example", f"{name.upper()}.Hub.Example:8700", name, f"{name}:8700"):
        for other, row in ROWS:
            scope = scope_of(row, HEADERS[other], host)
            assert owner(scope) == (name, scope["path"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_prefix_of_its_own_wins_over_marks_and_is_taken_off(name: str):
    for other, row in ROWS:
        scope = scope_of(row, HEADERS[other])
        path = scope["path"]
        assert owner(scope | {"path": f"/as/{name}{path}"}) == (name, path)
    assert owner(scope | {"path": f"/as/{name}"}) == (name, "/")


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/as/nobody/v1/x", {}, "native"),
        ("/as/spikes/incidents", {}, "native"),
        ("/as/", {}, "native"),
        ("/", {}, "native"),
        ("", {}, "native"),
        ("*", {}, "native"),
        ("/v1", {}, "native"),
        ("/v1/not-a-uuid/integrations", {}, "native"),
        ("/docs", {}, "native"),
        ("/push-events", {}, "native"),
        ("//push-events", {}, "native"),
        ("/api/push-events", {}, "codespar"),
        ("/apis", {}, "native"),
        ("/api/knowledge-bases", {}, "codespar"),
        ("/integrationsx", {"authorization": "Bearer x"}, "native"),
        ("/integrations", {"authorization": "bearer x"}, "supportbot"),
        ("/integrations", {"authorization": "Basic x"}, "spike"),
        ("/integrations", {"x-api-key": "k"}, "spike"),
        ("/integrations", {}, "spike"),
        ("/integrations/create", {}, "spike"),
        ("/integrations/create", {"authorization": "Bearer"}, "supportbot"),
        ("/integrations/all", {}, "supportbot"),
        ("/integrations/sync/x", {"x-api-key": "tl_x"}, "supportbot"),
        ("/integrations/4be1/archive", {}, "spike"),
        ("/integrations/all", HEADERS["supportbot"] | {"x-team-id": "t"}, "spike"),
    ],
)
def test_what_nobody_documents_goes_where_its_nearest_relative_goes(path: str, headers, name: str):
    scope = scope_of("GET /", headers) | {"path": path}
    assert owner(scope) == (name, path)


@given(
    path=st.text(max_size=60) | st.sampled_from(["/as/spike/%00", "/v1//", "/as//x", "/integrations/\udcff"]),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"host", b"authorization", b"x-team-id", b"\xff"]), st.binary(max_size=40)
        ),
        max_size=4,
    ),
)
def test_no_path_and_no_header_is_too_odd(path: str, headers):
    name, rest = owner({"path": path, "headers": headers})
    assert name in FORMATS
    assert path.endswith(rest) or rest == "/"


@pytest.mark.parametrize(
    ("path", "headers", "answer"),
    [
        ("/incidents", HEADERS["spike"], {"message": "…", "error": "NOT_FOUND"}),
        (
            "/v1/integrations",
            HEADERS["toolregistry"],
            {"statusCode": 404, "message": "…", "error": "Not Found"},
        ),
    ],
)
async def test_a_format_that_is_not_built_says_so_in_its_own_shape(alice: Client, path, headers, answer):
    reply = await Client(alice.hub, None, alice.workspace_id).get(path, **headers)
    text = next(value for key, value in reply.json.items() if key in {"message", "detail"})
    assert reply.status == 404
    assert "does not speak" in text
    assert {key: "…" if value == text else value for key, value in reply.json.items()} == answer
    assert reply.headers["x-request-id"].startswith("req_")


async def test_native_answers_under_its_prefix_and_its_host_too(alice: Client):
    for path, host in (("/as/native/v1/auth/me", "x"), ("/v1/auth/me", "native.hub.example")):
        reply = await alice.get(path, host=host)
        assert (reply.status, reply.json["workspace_id"]) == (200, alice.workspace_id)


async def test_metrics_count_a_dialects_routes_by_their_template(alice: Client):
    await alice.delete("/v1/api/channel-routes/tell-tale")
    await alice.get("/api/tell/tale")
    text = (await alice.get("/metrics")).text
    assert "tell-tale" not in text
    assert "/tell/" not in text
    assert 'route="/api/channel-routes/{id}"' in text


def test_formats_are_those_of_the_readme():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.partition("## Wire formats")[2].partition("\n## ")[0]
    assert set(FORMATS) == set(re.findall(r"^\| (\w+) \| `", table, re.MULTILINE))
    assert set(dispatch.FORMATS) == set(DOCUMENTED)
