"""Messages through connectors, and calls of endpoints: what is sent, within which limits, and what fails how."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import delivery_stories as story
from delivery_stories import deliver, happen, only, receiver
from http_asgi import Client
from trunkline.catalog.registry import Registry
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.services import sending

CHAT = """
name: Chat
base_url: "{config.url}"
config:
  url: {label: Address, example: "https://chat.example"}
auth:
  token: {type: bearer_token}
rate_limit: {remaining: x-left, reset: x-reset, reset_format: delta_seconds}
errors: {ok: ok, message: error}
endpoints:
  say:
    description: Say something.
    method: POST
    path: "/rooms/{room}"
    input_schema:
      type: object
      required: [room, text]
      properties:
        room: {type: string, description: Where.}
        text: {type: string, description: What.}
        key: {type: string, description: Which.}
    body: {text: "{text}", key: "{key?}"}
  greet:
    description: Say the one thing that is always allowed.
    method: POST
    path: "/templates/{room}"
    input_schema:
      type: object
      required: [room, text]
      properties:
        room: {type: string, description: Where.}
        text: {type: string, description: What.}
    body: {text: "{text}"}
webhook:
  verify: {nobody: {type: none}}
events:
  - {type: chat.message, subject: "{payload.from}"}
notify:
  endpoint: say
  params: {room: "{channel}", text: "{event.text}", key: "{event.delivery_id}"}
  channel: {label: Room, example: general, pattern: "^[a-z]+$"}
  max_length: 200
  escape: {"<": "&lt;"}
  LIMITS
"""
WINDOW = "window: {event: chat.message, hours: 24, refused: {error: closed}, endpoint: greet, params: {room: '{channel}', text: '{event.title}'}}"
TOKEN = "chat-token-4711-canary"


@pytest.fixture
def chat(app: App, alice: Client, upstream, tmp_path: Path):
    """Make a chat service with limits as told, an integration of it, and a route to one of its rooms."""

    async def make(
        *script: story.Step, limits: str = "channel_seconds: 0", room: str = "ops"
    ) -> story.Receiver:
        folder = tmp_path / "connectors"
        folder.mkdir()
        (folder / "chat.yaml").write_text(CHAT.replace("LIMITS", limits))
        app.catalog = Registry(folder)
        assert app.catalog.problems == []
        service = await receiver(upstream, *script)
        made = await alice.integration(
            name="chat",
            display_name="Chat",
            base_url="",
            connector="chat",
            config={"url": service.url},
            credentials={"method": "token", "values": {"bearer_token": TOKEN}},
        )
        await route(alice, {"type": "notify", "integration_id": made["id"], "channel": room})
        service.integration_id = made["id"]
        return service

    return make


async def route(alice: Client, target: dict[str, Any], event_type: str = "alert.*") -> dict[str, Any]:
    reply = await alice.post("/v1/{ws}/routes", {"event_type": event_type, "target": target})
    assert reply.status == 201, reply.text
    return reply.json


async def test_a_message_says_the_event_and_writes_no_markup(app: App, alice: Client, chat):
    service = await chat()
    await happen(alice, "alert.opened", title="<!all> Disk full", severity="high", url="https://a.example/1")
    await deliver(app)
    found = await only(alice)
    ((headers, _),) = service.got
    assert service.bodies == [
        {"text": "[high] &lt;!all> Disk full\nalert.opened\nhttps://a.example/1", "key": found["id"]}
    ]
    assert headers["idempotency-key"] == found["id"]
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert found["state"] == "delivered"
    assert TOKEN not in str(found)


async def test_a_no_inside_a_200_is_a_failure(app: App, alice: Client, chat, upstream):
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"ok": False, "error": "no such room"})

    service = await chat()
    change = {"config": {"url": await upstream(refuse)}}
    assert (await alice.put(f"/v1/{{ws}}/integrations/{service.integration_id}", change)).status == 200
    await happen(alice, "alert.opened")
    await deliver(app)
    found = await only(alice)
    assert (found["state"], found["last_status"]) == ("pending", 200)
    assert "no such room" in found["last_error"]


async def test_without_an_integration_named_the_oldest_enabled_one_is_used(app: App, alice: Client, chat):
    service = await chat()
    await route(alice, {"type": "notify", "connector": "chat", "channel": "lobby"}, "news.*")
    await happen(alice, "news.one")
    await deliver(app)
    assert service.count == 1
    off = {"enabled": False}
    assert (await alice.put(f"/v1/{{ws}}/integrations/{service.integration_id}", off)).status == 200
    await happen(alice, "news.two")
    await deliver(app)
    errors = {item["last_error"] for item in await story.listed(alice, "state=pending")}
    assert errors == {"No enabled integration of chat; make one, or enable it."}


@pytest.mark.parametrize("gone", [False, True])
async def test_an_integration_that_is_off_or_gone_fails_the_attempt_and_may_come_back(
    app: App, alice: Client, chat, gone: bool, clock: ManualClock
):
    service = await chat()
    path = f"/v1/{{ws}}/integrations/{service.integration_id}"
    done = await alice.delete(path) if gone else await alice.put(path, {"enabled": False})
    assert done.status in {200, 204}
    await happen(alice, "alert.opened")
    await deliver(app)
    found = await only(alice)
    assert (found["state"], len(found["attempts"]), service.count) == ("pending", 1, 0)
    assert ("not found" if gone else "is disabled") in found["last_error"]


async def test_one_channel_gets_a_message_a_second_and_another_its_own(
    app: App, alice: Client, chat, clock: ManualClock
):
    service = await chat(limits="channel_seconds: 1")
    target = {"type": "notify", "integration_id": service.integration_id, "channel": "lobby"}
    await route(alice, target)
    await happen(alice, *["alert.opened"] * 3)
    counts = []
    for seconds in (0, 0.9, 0.2, 0.9, 0.2):
        clock.advance(seconds)
        await deliver(app)
        counts.append(service.count)
    assert counts == [2, 2, 4, 4, 6]


async def test_what_an_answer_says_of_its_bucket_holds_for_this_channel_alone(
    app: App, alice: Client, chat, clock: ManualClock
):
    service = await chat((200, {"x-left": "0", "x-reset": "5"}), 200)
    lobby = {"type": "notify", "integration_id": service.integration_id, "channel": "lobby"}
    await happen(alice, "alert.opened")
    await deliver(app)
    await route(alice, lobby, "news.*")
    await happen(alice, "alert.opened", "news.one")
    await deliver(app)
    assert service.count == 2
    clock.advance(5)
    await deliver(app)
    assert service.count == 3


async def test_outside_the_window_the_template_is_sent(
    app: App, alice: Client, chat, clock: ManualClock, upstream
):
    service = await chat(limits=WINDOW)
    paths = []

    async def note(request: web.Request) -> web.Response:
        paths.append(request.path)
        is_closed = len(paths) == 3
        return web.json_response({"ok": not is_closed, "error": "closed"} if is_closed else {"ok": True})

    change = {"config": {"url": await upstream(note)}}
    await alice.put(f"/v1/{{ws}}/integrations/{service.integration_id}", change)
    await happen(alice, "alert.opened")
    await deliver(app)
    await happen(alice, "chat.message", subject="ops")
    await happen(alice, "alert.opened")
    await deliver(app)
    clock.advance(60)
    await happen(alice, "alert.opened")  # the service knows better than we: refused, then the template
    await deliver(app)
    clock.advance(timedelta(hours=24).total_seconds())
    await happen(alice, "chat.message", subject="somebody else")
    await happen(alice, "alert.opened")
    await deliver(app)
    assert paths == ["/templates/ops", "/rooms/ops", "/rooms/ops", "/templates/ops", "/templates/ops"]
    assert {item["state"] for item in await story.listed(alice)} == {"delivered"}


async def test_an_endpoint_is_called_with_what_the_route_looks_up(
    app: App, alice: Client, upstream, endpoint
):
    service = await receiver(upstream)
    made = await alice.integration(base_url=service.url, endpoints=[endpoint(method="POST")])
    params = {"summary": "{event.title}", "disk": "{event.data.disk}", "id": "{event.delivery_id}", "n": 1}
    target = {"type": "endpoint", "integration_id": made["id"], "endpoint": "things", "params": params}
    await route(alice, target)
    await happen(alice, "alert.opened", title="Full <b>", data={"disk": ["a", 1]})
    await deliver(app)
    found = await only(alice)
    assert service.bodies == [{"summary": "Full <b>", "disk": ["a", 1], "id": found["id"], "n": 1}]
    assert service.got[0][0]["idempotency-key"] == found["id"]


async def test_what_an_event_does_not_have_fails_before_anything_is_sent(
    app: App, alice: Client, upstream, endpoint
):
    service = await receiver(upstream)
    made = await alice.integration(base_url=service.url, endpoints=[endpoint(method="POST")])
    target = {"type": "endpoint", "integration_id": made["id"], "endpoint": "things"}
    await route(alice, target | {"params": {"where": "{event.data.region}"}})
    await happen(alice, "alert.opened")
    await deliver(app)
    found = await only(alice)
    assert (found["failures"], service.count) == (1, 0)
    assert "event.data.region" in found["last_error"]


async def test_two_hubs_on_one_database_send_everything_once(
    app: App, alice: Client, upstream, clock: ManualClock
):
    target = await receiver(upstream)
    for number in range(5):
        await story.webhook(alice, f"{target.url}/{number}")
    await happen(alice, *["alert.opened"] * 20)
    other = replace(app, worker="another", outbox=None)
    for _ in range(40):
        await asyncio.gather(sending.send_due(app), sending.send_due(other))
        await asyncio.gather(sending.settle(app), sending.settle(other))
    assert target.count == 100
    assert len({headers["webhook-id"] for headers, _ in target.got}) == 100
