"""Who may speak supportbot: keys and permissions, checked before any stream; and its one error shape, whatever comes."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from supportbot_stories import KB, made, written

import docs_pages as docs
from http_asgi import Client, Reply
from trunkline.http.dialects import supportbot, supportbot_wire
from trunkline.http.dialects.dialect import Route

CONFIG = {"url": "https://acme-dev.service-now.com", "username": "svc_sync", "password": "hunter2"}
FILE = {"filename": "a.json", "content": '[{"incident_id": "I1", "title": "t", "description": "d"}]'}
ROUTES = supportbot.DIALECT.routes
BODIES: dict[str, Any] = {
    "/integrations/create": written(CONFIG),
    "/integrations/update/{id}": written(CONFIG | {"username": "thief"}),
    f"{KB}/upload": {"files": [FILE]},
    f"{KB}/validate/{{session_id}}/map-fields": {"mapping": {}},
    f"{KB}/ingest": {"session_id": "{session_id}"},
}


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


async def walk(caller: Client, route: Route, things: dict[str, str], *, stays: bool = True) -> Reply:
    body = json.loads(json.dumps(BODIES.get(route.path)).replace("{session_id}", things["session_id"]))
    path = "/as/supportbot" + route.path.format(**things)
    return await caller.send(route.method, path, body, stays=stays)


@pytest.fixture
async def things(alice: Client) -> dict[str, str]:
    """What there is in Alice's workspace."""
    upload = await alice.post(f"{KB}/upload", BODIES[f"{KB}/upload"])
    session_id = upload.json["session_id"]
    await alice.post(f"{KB}/validate/{session_id}")
    return {
        "id": await made(alice, CONFIG),
        "session_id": session_id,
        "incident_id": "I1",
        "version_id": alice.workspace_id,
    }


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_nobody_gets_in_without_a_key(route: Route, alice: Client, things: dict[str, str]):
    said = {None: "Not authenticated", "": "Not authenticated", "eyJ.x.y": "Invalid token payload"}
    for key, text in (said | {"tl_" + "0" * 46: "Invalid token payload"}).items():
        reply = await walk(Client(alice.hub, key, alice.workspace_id), route, things)
        assert (reply.status, reply.json) == (401, {"detail": text})
        assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_key_that_is_none_any_more_was_revoked(alice: Client):
    weak = await alice.key_with("viewer")
    listed = (await alice.get("/v1/{ws}/api-keys")).json["items"]
    key_id = next(row["key_id"] for row in listed if row["role"] == "viewer")
    await alice.delete(f"/v1/{{ws}}/api-keys/{key_id}")
    reply = await weak.get("/integrations/all")
    assert (reply.status, reply.json) == (401, {"detail": "Token revoked"})


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_a_key_without_the_permission_is_refused_before_any_stream(
    route: Route, alice: Client, things: dict[str, str]
):
    weak = await alice.key_with("member", ["Event.view"])
    reply = await walk(weak, route, things)
    assert (reply.status, reply.json) == (403, {"detail": f"Missing permission: {route.permission}"})
    assert reply.headers["content-type"] == "application/json"
    strong = await alice.key_with("member", [supportbot_wire.PERMISSIONS[route.permission or ""]])
    assert (await walk(strong, route, things, stays=False)).status != 403


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_a_stranger_finds_nothing_of_ours(
    route: Route, alice: Client, charlie: Client, things: dict[str, str]
):
    before = (await alice.get("/integrations/all")).text
    reply = await walk(charlie, route, things)
    assert things["id"] not in reply.text
    assert "acme-dev" not in reply.text or "create" in route.path
    if "{" in route.path:
        assert (
            reply.status in {400, 404} or '"success": false' in reply.text or '"success":false' in reply.text
        )
    assert (await alice.get("/integrations/all")).text == before


async def test_paths_and_methods_that_are_none_are_told_as_the_framework_does(alice: Client):
    reply = await alice.get("/integrations/nothing/here/at-all")
    assert (reply.status, reply.json) == (404, {"detail": "Not Found"})
    reply = await alice.delete("/integrations/all")
    assert (reply.status, reply.json) == (405, {"detail": "Method Not Allowed"})
    assert reply.headers["allow"] == "GET"


async def test_a_body_over_the_limit_is_refused(alice: Client):
    reply = await alice.send("POST", "/integrations/create", raw=b" " * (1024 * 1024 + 1))
    assert reply.status == 413
    assert isinstance(reply.json["detail"], str)


def test_the_page_lists_every_route_with_its_permissions():
    rows = {tuple(row[:3]) for row in docs.table_rows(docs.ROOT / "docs" / "supportbot.md")}
    for route in ROUTES:
        theirs = route.permission or ""
        assert (f"`{name_of(route)}`", f"`{theirs}`", f"`{supportbot_wire.PERMISSIONS[theirs]}`") in rows


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["url", "username", "password", "token", "lastSynced", "last_synced", "email", "a"])
BODY = st.fixed_dictionaries(
    {
        "service_name": st.sampled_from(["ServiceNow", "jira", "x"]) | st.text(max_size=10),
        "auth_type": st.sampled_from(["basic_auth", "api_token", "oauth2", "pat"]),
        "config": st.dictionaries(KEYS | st.text(max_size=5), JSON, max_size=6),
        "is_active": st.booleans(),
    }
)


@given(body=BODY, other=BODY, junk=JSON)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_config_is_too_odd(alice: Client, body: dict[str, Any], other: dict[str, Any], junk: Any):
    reply = await alice.post("/integrations/create", body)
    assert reply.status in {200, 400, 422}, reply.text
    assert (await alice.post("/integrations/create", junk)).status == 422
    if reply.status != 200:
        return
    integration_id = reply.json["integration"]["id"]
    shown = reply.json["integration"]["config"]
    back = await alice.put(f"/integrations/update/{integration_id}", body | {"config": shown})
    assert back.status == 200, back.text
    assert back.json["integration"]["config"] == shown
    changed = await alice.put(f"/integrations/update/{integration_id}", other)
    assert changed.status in {200, 400, 422}, changed.text
    assert (await alice.get("/integrations/all")).status == 200
    assert (await alice.get(f"/v1/{{ws}}/integrations/{integration_id}")).status == 200
    assert (await alice.delete(f"/integrations/delete/{integration_id}")).json["success"] is True


@given(junk=JSON, route=st.sampled_from(ROUTES), id=st.text(min_size=1, max_size=12))
@hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_request_is_too_odd(alice: Client, junk: Any, route: Route, id: str):
    path = route.path
    for name in ("id", "session_id", "version_id", "incident_id"):
        path = path.replace(f"{{{name}}}", id.replace("/", "-").replace("?", "-").replace("%", "-"))
    reply = await alice.send(
        route.method, f"/as/supportbot{path}?limit={id[:3].encode().hex()}", junk, stays=True
    )
    assert reply.status in {200, 400, 404, 405, 422}, reply.text
