"""Every route, walked by a stranger, by nobody, and by somebody without the permission.

Generated from the routes themselves: a new route is in here by being declared. Its path parameters are filled
with the ids of things that exist in Alice's workspace.
"""

from typing import Any

import pytest

from delivery_stories import happen, listed
from http_asgi import Client
from run_stories import settle
from trunkline.context import own_context
from trunkline.http import native
from trunkline.http.native.route import NativeRoute
from trunkline.services import datasets
from trunkline.services.datasets import Draft

ROUTES = [route for route in native.build().routes if isinstance(route, NativeRoute)]
TENANT_ROUTES = [route for route in ROUTES if "{workspace_id}" in route.path]
BODIES: dict[str, Any] = {
    "create-integration": {"name": "theft", "display_name": "Theft"},
    "update-integration": {"display_name": "Defaced"},
    "test-integration-endpoint": {"params": {}},
    "call-integration-endpoint": {"params": {}},
    "create-api-key": {"duration_days": 1, "role": "owner"},
    "rotate-api-key": {"duration_days": 1},
    "create-workspace": {"name": "Mine"},
    "update-workspace": {"name": "Mine"},
    "add-person": {"email": "c@example.com", "name": "Charlie", "role": "owner"},
    "update-person": {"role": "owner"},
    "create-route": {"event_type": "*", "target": {"type": "webhook", "url": "https://theft.example"}},
    "recover-deliveries": {"since": "2026-01-01T00:00:00Z"},
    "update-route": {"target": {"type": "webhook", "url": "https://theft.example"}},
}
BODIES |= {
    "start-run": {},
    "create-upload": {"files": [{"filename": "a.json", "content": "[]"}]},
    "validate-upload": {},
    "map-upload": {"mapping": {}},
    "ingest-upload": {},
    "create-dataset": {"name": "theft"},
    "update-dataset": {"name": "defaced"},
    "roll-back": {},
    "replay-quarantine": {},
}
QUERIES = {"search-records": "?q=theft", "diff-versions": "?from=1&to=2"}


def _id(route: NativeRoute) -> str:
    return f"{min(route.methods)} {route.path}"


async def _things(alice: Client, endpoint) -> dict[str, str]:
    integration = await alice.integration(endpoints=[endpoint()])
    key = (await alice.post("/v1/{ws}/api-keys", {"duration_days": 9})).json
    person = (await alice.post("/v1/{ws}/people", {"email": "bob@example.com", "name": "Bob"})).json
    target = {"type": "webhook", "url": "https://hooks.example"}
    route = (await alice.post("/v1/{ws}/routes", {"event_type": "*", "target": target})).json
    await happen(alice, "alert.opened")
    dataset = await datasets.create(
        own_context(alice.hub.app, alice.workspace_id), Draft("things", params={"key": "id"})
    )
    (delivery,) = await listed(alice)
    upload, run = await _taken_in(alice, dataset.id)
    return {
        "workspace_id": alice.workspace_id,
        "route_id": route["id"],
        "event_id": delivery["event_id"],
        "delivery_id": delivery["id"],
        "integration_id": integration["id"],
        "endpoint_name": "things",
        "key_id": key["key_id"],
        "person_id": person["id"],
        "connector_id": "servicenow",
        "dataset_id": dataset.id,
        "upload_id": upload,
        "run_id": run,
        "number": "1",
        "key": "1",
    }


async def _taken_in(alice: Client, dataset_id: str) -> tuple[str, str]:
    """Upload a file and take it in as the first version; return the ids of the upload and of the run."""
    body = {"dataset_id": dataset_id, "files": [{"filename": "a.json", "content": '[{"id": "1"}]'}]}
    made = await alice.post("/v1/{ws}/uploads", body)
    assert made.status == 201, made.text
    path = f"/v1/{{ws}}/uploads/{made.json['id']}"
    checked = await alice.post(f"{path}/validate", {})
    assert checked.status == 200, checked.text
    run = await alice.post(f"{path}/ingest", {})
    assert run.status == 202, run.text
    await settle(alice.hub.app)
    return made.json["id"], run.json["run_id"]


async def _walk(caller: Client, route: NativeRoute, things: dict[str, str]):
    return await caller.send(
        min(route.methods),
        route.path.format(**things) + QUERIES.get(route.operation_id or "", ""),
        BODIES.get(route.operation_id or ""),
    )


@pytest.mark.parametrize("route", TENANT_ROUTES, ids=_id)
async def test_a_stranger_finds_no_such_workspace(
    route: NativeRoute, alice: Client, charlie: Client, endpoint
):
    reply = await _walk(charlie, route, await _things(alice, endpoint))
    assert (reply.status, reply.json["detail"]) == (404, "Workspace not found")


@pytest.mark.parametrize("route", [route for route in TENANT_ROUTES if route.path.count("{") > 1], ids=_id)
async def test_a_stranger_finds_nothing_of_ours_from_his_own_workspace(
    route: NativeRoute, alice: Client, charlie: Client, endpoint
):
    things = await _things(alice, endpoint) | {"workspace_id": charlie.workspace_id}
    reply = await _walk(charlie, route, things)
    assert reply.status == 404
    assert alice.workspace_id not in reply.text


@pytest.mark.parametrize("route", ROUTES, ids=_id)
async def test_nobody_gets_in_without_a_key(route: NativeRoute, alice: Client, endpoint):
    things = await _things(alice, endpoint)
    for key in (None, "", "tl_" + "0" * 46, "nonsense", "tl_" + "é" * 46):
        reply = await _walk(Client(alice.hub, key, alice.workspace_id), route, things)
        assert (reply.status, reply.json["error_code"]) == (401, "unauthenticated")
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.plan.permission], ids=_id)
async def test_a_key_without_the_permission_is_refused(route: NativeRoute, alice: Client, endpoint):
    things = await _things(alice, endpoint)
    other = "Integration.sync"
    weak = await alice.key_with("member", [other])
    reply = await _walk(weak, route, things)
    assert (reply.status, reply.json["error_code"]) == (403, "forbidden")
    assert route.plan.permission in reply.json["detail"]


def test_every_route_says_which_permission_it_needs():
    open_to_any_key = {route.operation_id for route in ROUTES if route.plan.permission is None}
    assert open_to_any_key == {"get-me"}
