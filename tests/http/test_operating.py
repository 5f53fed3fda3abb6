"""What operators rely on: health, readiness, metrics, the API page, request ids, faults."""

from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.http.app import Hub
from trunkline.services import ingest, routing


async def test_health_and_metrics_need_no_key(hub: Hub, alice: Client):
    nobody = Client(hub, None, alice.workspace_id)
    assert (await nobody.get("/healthz")).json == {"status": "ok"}
    assert (await nobody.get("/readyz")).json == {"status": "ready"}
    await alice.get("/v1/auth/me")
    metrics = (await nobody.get("/metrics")).text
    assert (
        'trunkline_http_request_duration_seconds_count{method="GET",route="/v1/auth/me",status="200"} 1.0'
        in metrics
    )


async def test_readiness_ends_before_the_process_does(hub: Hub, alice: Client):
    hub.stop()
    assert (await alice.get("/readyz")).status == 503
    hub.app.stopping = False
    await hub.app.db.close()
    assert (await alice.get("/readyz")).json == {"status": "database unavailable"}


async def test_the_api_page_asks_nothing_of_the_network(alice: Client):
    page = await alice.get("/docs")
    assert page.status == 200
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    assert (await alice.get("/static-offline-docs/swagger-ui-bundle.js")).status == 200
    document = (await alice.get("/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"] == {
        "BearerAuth": {
            "type": "http",
            "scheme": "bearer",
            "description": document["components"]["securitySchemes"]["BearerAuth"]["description"],
        }
    }


async def test_every_answer_carries_its_request_id(alice: Client):
    for path in ("/v1/auth/me", "/nowhere", "/healthz"):
        assert (await alice.get(path)).headers["x-request-id"].startswith("req_")


async def test_unknown_paths_and_methods_answer_in_the_native_shape(alice: Client):
    missing = await alice.get("/v2/anything")
    assert (missing.status, missing.json["error_code"]) == (404, "not_found")
    wrong = await alice.send("PATCH", "/v1/auth/me")
    assert (wrong.status, wrong.json["error_code"], wrong.headers["allow"]) == (
        405,
        "method_not_allowed",
        "GET",
    )


async def test_a_key_in_x_api_key_is_as_good_as_a_bearer_token(alice: Client):
    nobody = Client(alice.hub, None, alice.workspace_id)
    assert (await nobody.get("/v1/auth/me", x_api_key=alice.key or "")).status == 200


async def test_metrics_tell_how_far_behind_the_steps_from_a_webhook_to_a_message_are(
    hub: Hub, alice: Client, clock: ManualClock
):
    async def gauges() -> list[float]:
        text = (await alice.get("/metrics")).text
        names = ("unread_seconds", "unrouted_events", "overdue_seconds")
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return [float(lines[f"trunkline_{name}"]) for name in names]

    assert await gauges() == [0, 0, 0]
    made = await alice.integration(name="any", base_url="", connector="webhook")
    path = (await alice.get(f"/v1/{{ws}}/integrations/{made['id']}/hook")).json["path"]
    target = {"type": "webhook", "url": "https://hooks.example"}
    assert (await alice.post("/v1/{ws}/routes", {"event_type": "*", "target": target})).status == 201
    assert (await alice.post(path, {"title": "Down"})).status == 202
    clock.advance(5)
    assert await gauges() == [5, 0, 0]
    await ingest.read_due(hub.app)
    assert await gauges() == [0, 1, 0]
    await routing.route_due(hub.app)
    clock.advance(7)
    assert await gauges() == [0, 0, 7]
