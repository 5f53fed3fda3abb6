"""Who may speak codespar: keys, organisations, permissions; and its one error shape, whatever goes wrong."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codespar_samples import check_error
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import docs_pages as docs
from http_asgi import Client, Reply
from trunkline.clock import ManualClock
from trunkline.errors import Broken, Unavailable
from trunkline.http.app import Hub
from trunkline.http.dialects import codespar, codespar_integrations, codespar_wire
from trunkline.http.dialects.dialect import Route
from trunkline.http.server import check_exposure
from trunkline.services import api_keys
from trunkline.settings import Settings

BODIES: dict[str, Any] = {
    "/api/integrations/configure": {"integration": "pagerduty", "config": {"apiKey": "stolen"}},
    "/api/integrations/linear/issues": {"title": "Theft", "teamId": "team-core"},
    "/api/channel-routes": {"eventType": "incident.*", "channel": "slack", "channelId": "C0PAGER"},
}
ROUTES = codespar.DIALECT.routes
KEYED = [route for route in ROUTES if not route.is_signed]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


async def walk(caller: Client, route: Route, things: dict[str, str], **headers: str) -> Reply:
    body = BODIES.get(route.path) if route.method == "POST" else None
    return await caller.send(route.method, route.path.format(**things), body, **headers)


@pytest.fixture
async def things(alice: Client, configured) -> dict[str, str]:
    """What there is in Alice's workspace."""
    await configured("pagerduty")
    made = await alice.post("/api/channel-routes", BODIES["/api/channel-routes"])
    assert made.status == 201, made.text
    return {"id": made.json["id"], "channelType": "slack", "channelId": "C0PAGER"}


@pytest.mark.parametrize("route", KEYED, ids=name_of)
async def test_nobody_gets_in_without_a_key(route: Route, alice: Client, things):
    for key in (None, "", "tl_" + "0" * 46, "nonsense"):
        reply = await walk(Client(alice.hub, key, alice.workspace_id), route, things)
        check_error(reply, 401, "UNAUTHORIZED")


@pytest.mark.parametrize("route", KEYED, ids=name_of)
async def test_a_key_without_the_permission_is_refused(route: Route, alice: Client, things):
    weak = await alice.key_with("member", ["Integration.sync"])
    text = check_error(await walk(weak, route, things), 403, "FORBIDDEN")
    assert str(route.permission) in text


@pytest.mark.parametrize("route", KEYED, ids=name_of)
async def test_a_stranger_may_not_name_our_organisation(route: Route, alice: Client, charlie: Client, things):
    for org in (alice.workspace_id, "Alice's"):
        reply = await walk(charlie, route, things, x_org_id=org)
        check_error(reply, 403, "FORBIDDEN")
        assert alice.workspace_id not in reply.text


@pytest.mark.parametrize(
    "route", [route for route in KEYED if route.path != "/api/integrations/configure"], ids=name_of
)
async def test_a_stranger_sees_nothing_of_ours_and_changes_nothing(
    route: Route, alice: Client, charlie: Client, things, service
):
    before = (await alice.get("/api/channel-routes")).json
    reply = await walk(charlie, route, things)
    assert service.asked == []
    assert things["id"] not in reply.text or reply.status == 404
    if "{" in route.path or reply.status >= 400:
        assert reply.json["code"] in {"INTEGRATION_NOT_CONFIGURED", "ROUTE_NOT_FOUND"}
    assert (await alice.get("/api/channel-routes")).json == before


async def test_a_strangers_configuration_is_his_own(alice: Client, charlie: Client, things, service):
    made = await charlie.post("/api/integrations/configure", BODIES["/api/integrations/configure"])
    assert made.status == 200
    service.answers["GET /oncalls"] = {"oncalls": []}
    assert (await alice.get("/api/integrations/pagerduty/oncall")).json == {"oncall": None}
    assert service.asked[0]["headers"]["Authorization"] == "Token token=u+key"


async def test_only_configuring_anew_takes_the_permission_to_create(alice: Client, configured):
    updater = await alice.key_with("member", ["Integration.update", "Integration.view"])
    body = BODIES["/api/integrations/configure"]
    text = check_error(await updater.post("/api/integrations/configure", body), 403, "FORBIDDEN")
    assert "Integration.create" in text
    await configured("pagerduty")
    assert (await updater.post("/api/integrations/configure", body)).status == 200


@pytest.mark.parametrize("org", ["default", "Default", "", "  ", "{ws}", "{WS}", "Alice's", "ALICE'S"])
async def test_an_organisation_is_the_keys_workspace_by_id_or_name(alice: Client, org: str):
    org = org.replace("{ws}", alice.workspace_id).replace("{WS}", alice.workspace_id.upper())
    assert (await alice.get("/api/integrations/status", x_org_id=org)).status == 200


async def test_an_organisations_name_may_have_any_letters(hub: Hub):
    made = await api_keys.create_workspace(hub.app, "Zoë & Łukasz")
    owner = Client(hub, made["api_key"], made["id"])
    sent = "ZOË & łUKASZ".encode().decode("latin-1")
    assert (await owner.get("/api/integrations/status", x_org_id=sent)).status == 200
    for org in ("Zoe & Lukasz", "other", "\xff\xfe"):
        check_error(await owner.get("/api/integrations/status", x_org_id=org), 403, "FORBIDDEN")


async def test_the_key_may_come_as_x_api_key(alice: Client):
    bare = Client(alice.hub, None, alice.workspace_id)
    assert (await bare.get("/api/integrations/status", x_api_key=str(alice.key))).status == 200


# Without a key.


@pytest.fixture
def let_in(hub: Hub, alice: Client) -> Client:
    """A caller without a key, where the operator lets this machine in."""
    hub.app.settings = replace(hub.app.settings, codespar_without_key=True)
    return Client(hub, None, alice.workspace_id)


@pytest.mark.parametrize("host", ["127.0.0.1:8700", "localhost", "LOCALHOST:1", "[::1]:8700"])
async def test_this_machine_is_let_in_to_the_first_workspace(let_in: Client, clock: ManualClock, host: str):
    clock.advance(1)
    second = await api_keys.create_workspace(let_in.hub.app, "Charlie's")
    charlie = Client(let_in.hub, second["api_key"], second["id"])
    assert (await let_in.get("/api/channel-routes", host=host)).json == {"routes": []}
    made = await let_in.post("/api/channel-routes", BODIES["/api/channel-routes"], host=host)
    assert made.status == 201
    assert (await charlie.get("/api/channel-routes")).json == {"routes": []}
    text = check_error(
        await let_in.get("/api/channel-routes", host=host, x_org_id="Charlie's"), 403, "FORBIDDEN"
    )
    assert "Charlie" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "hub.example"},
        {"host": "localhost.example"},
        {"host": "["},
        {"host": "127.0.0.1", "x_forwarded_for": "10.0.0.1"},
        {"host": "127.0.0.1", "forwarded": "for=10.0.0.1"},
        {"host": "127.0.0.1", "via": "1.1 proxy"},
        {"host": "127.0.0.1", "origin": "https://evil.example"},
        {"host": "127.0.0.1", "authorization": "Bearer nonsense"},
        {"host": "127.0.0.1", "x_api_key": ""},
    ],
)
async def test_what_may_come_from_elsewhere_needs_a_key_all_the_same(let_in: Client, headers: dict[str, str]):
    check_error(await let_in.get("/api/integrations/status", **headers), 401, "UNAUTHORIZED")


async def test_another_machine_is_not_let_in(let_in: Client, monkeypatch: pytest.MonkeyPatch):
    seen = codespar.is_loopback
    monkeypatch.setattr(codespar, "is_loopback", lambda host: host != "127.0.0.1" and seen(host))
    check_error(await let_in.get("/api/integrations/status", host="localhost"), 401, "UNAUTHORIZED")


async def test_who_is_let_in_can_do_no_more_than_a_member(let_in: Client):
    reply = await let_in.get("/v1/auth/me", host="127.0.0.1")
    assert reply.status == 401
    caller = codespar.nobody(let_in.workspace_id, "member")
    assert "workspace.update" not in caller.permissions
    assert "*" not in caller.permissions


async def test_without_the_setting_this_machine_needs_a_key(alice: Client):
    bare = Client(alice.hub, None, alice.workspace_id)
    check_error(await bare.get("/api/integrations/status", host="127.0.0.1"), 401, "UNAUTHORIZED")


def test_nobody_is_let_in_from_beyond_this_machine(database_settings: Settings):
    exposed = replace(database_settings, host="0.0.0.0", master_key="x", codespar_without_key=True)
    with pytest.raises(Unavailable, match="TRUNKLINE_CODESPAR_WITHOUT_KEY"):
        check_exposure(exposed)
    check_exposure(replace(exposed, host="127.0.0.1"))
    check_exposure(replace(exposed, codespar_without_key=False))


def test_the_page_names_every_route_and_its_permission():
    page = Path(__file__).parents[3] / "docs" / "codespar.md"
    rows = {row[0]: row[1] for row in docs.table_rows(page) if row[0].startswith("`")}
    for route in KEYED:
        if route.path.count("{") < 2:
            assert rows[f"`{name_of(route)}`"] == f"`{route.permission}`"
    assert all(name_of(route) in page.read_text() for route in ROUTES)


def test_the_page_names_every_code():
    page = Path(__file__).parents[3] / "docs" / "codespar.md"
    rows = {(row[0], code) for row in docs.table_rows(page) for code in re.findall(r"`([A-Z_]+)`", row[1])}
    assert rows >= {(str(status), code) for status, code in codespar_wire._ERRORS.values()}


# One error shape.


@pytest.mark.parametrize("prefix", ["", "/v1", "/as/codespar", "/as/codespar/v1"])
async def test_what_is_not_there_is_said_in_this_shape_under_every_prefix(alice: Client, prefix: str):
    for path in ("/api", "/api/", "/api/nothing", "/api/integrations/status/x", "/a2a/tasks", "/webhooks/x"):
        check_error(await alice.get(prefix + path), 404, "NOT_FOUND")
    reply = await alice.put(prefix + "/api/channel-routes", {})
    check_error(reply, 405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "GET, POST"


FIELDS = {name for body in BODIES.values() for name in body}


@pytest.mark.parametrize("path", [*BODIES])
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b'{"title": NaN}', b"\xff", b"[" * 100 + b"]" * 100]
)
async def test_a_bad_body_is_named(alice: Client, path: str, raw: bytes):
    text = check_error(await alice.send("POST", path, raw=raw), 400, "VALIDATION_ERROR")
    assert text.startswith(("body: ", *(f"{name}: " for name in FIELDS)))
    assert "instance of" not in text


async def test_a_large_body_is_refused(alice: Client):
    raw = b'{"integration": "' + b"x" * 1024 * 1024 + b'"}'
    reply = await alice.send("POST", "/api/integrations/configure", raw=raw)
    check_error(reply, 413, "PAYLOAD_TOO_LARGE")


async def test_a_fault_of_ours_shows_nothing_and_keeps_the_shape(alice: Client, monkeypatch):
    async def fail(*_: object) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(codespar_integrations.integrations, "list_page", fail)
    reply = await alice.get("/api/integrations/status")
    assert check_error(reply, 500, "INTERNAL_ERROR") == "Internal error"
    assert "secret cause" not in reply.text
    assert Broken.code == "internal_error"


async def test_an_answer_says_its_version_and_its_request(alice: Client):
    reply = await alice.get("/v1/api/integrations/status")
    assert reply.headers["x-api-version"] == "v1"
    assert reply.headers["x-request-id"].startswith("req_")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["integration", "config", "apiKey", "url", "fromEmail", "title", "teamId", "labels", "priority"]
FIELDS += ["eventType", "channel", "channelId", "projectId", "channelType", "alertTypes", "projectFilter"]
WORDS = st.sampled_from(
    ["pagerduty", "slack", "telegram", "deploy", "all", "C0PAGER", "-1001", "incident.*", "*"]
)
LIKELY = st.dictionaries(
    st.sampled_from(FIELDS),
    WORDS
    | JSON
    | st.lists(WORDS, max_size=3)
    | st.dictionaries(st.sampled_from(FIELDS), WORDS | JSON, max_size=3),
    max_size=6,
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=LIKELY | JSON,
    route=st.sampled_from(ROUTES),
    text=st.text(min_size=1, max_size=12),
    query=st.text(max_size=30),
)
async def test_nothing_sent_is_a_fault_of_ours(alice: Client, body, route: Route, text: str, query: str):
    names = ("id", "channelType", "channelId")
    path = route.path.format(**dict.fromkeys(names, text.replace("/", "-").replace("?", "-")))
    query = query.encode("utf-8", "replace").decode("latin-1").replace("\n", "")
    pairs = f"?limit={query}&status={query}&{query}" if route.method == "GET" else ""
    reply = await alice.send(
        route.method,
        path.replace("%", "-") + "".join(c for c in pairs if c.isascii()),
        body,
        **{"sentry-hook-signature": "00"},
    )
    assert reply.status < 500 or reply.json["code"] == "UPSTREAM_ERROR", reply.text
    assert reply.headers["x-api-version"] == "v1"
