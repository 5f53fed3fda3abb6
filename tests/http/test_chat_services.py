"""The whole way with the four chat services, against their fakes: an alert out as each demands, their webhooks in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from delivery_stories import deliver, happen, listed
from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.sandbox import SandboxOptions, SandboxServer
from trunkline.services import ingest

SETUPS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "slack": ("bot_token", {"bearer_token": "token", "signing_secret": "signing_secret"}, ()),
    "discord": ("bot_token", {"api_key": "token", "public_key": "public_key"}, ()),
    "telegram": ("bot_token", {"token": "token", "webhook_secret": "webhook_secret"}, ()),
    "whatsapp": (
        "access_token",
        {"bearer_token": "token", "app_secret": "app_secret", "verify_token": "verify_token"},
        ("phone_number_id",),
    ),
    "linear": ("api_key", {"api_key": "api_key", "signing_secret": "webhook_secret"}, ()),
}
"""For each connector: the way in, where the fake says its credentials, further config."""
CHANNELS = {"slack": "channel", "discord": "channel_id", "telegram": "chat_id", "whatsapp": "wa_id"}
HEARD = {
    "slack": (200, ""),
    "discord": (200, '{"type":4,"data":{"content":"Received.","flags":64}}'),
    "whatsapp": (200, ""),
    "linear": (200, ""),
}
"""What a service must hear; another status is a failure to Linear, another body is shown to people by the chats."""
ALERT = {"title": "Disk <!channel> full", "severity": "critical", "url": "https://a.example/1"}


@dataclass
class Chats:
    """The fakes, and Alice's integrations with them."""

    alice: Client
    server: SandboxServer
    clock: ManualClock
    ids: dict[str, str]

    def fake(self, name: str) -> Any:
        return self.server.sandbox.services[name]

    async def route(self, name: str, event_type: str = "alert.*") -> None:
        target = {"type": "notify", "connector": name, "channel": self.server.ready[name][CHANNELS[name]]}
        made = await self.alice.post("/v1/{ws}/routes", {"event_type": event_type, "target": target})
        assert made.status == 201, made.text

    def answers(self, name: str) -> list[tuple[str, int]]:
        """Return path and status of every POST that the fake answered, oldest first."""
        journal = self.server.sandbox.journal.read(name)
        return [(entry["path"].rpartition("/")[2], entry["status"]) for entry in journal]

    async def send_in(self, name: str, event: str, **options: Any) -> int:
        """Have the fake send a webhook to the integration's hook, twice as after a lost answer; return the last status."""
        hook = await self.alice.get(f"/v1/{{ws}}/integrations/{self.ids[name]}/hook")
        secret = options.pop("secret", None)
        sent = self.fake(name).webhooks()[event](options, self.clock.now(), secret)
        path = hook.json["path"] + (f"?{urlencode(sent.query)}" if sent.query else "")
        headers = {key.lower().replace("-", "_"): value for key, value in (sent.headers | sent.proof).items()}
        stranger = Client(self.alice.hub, None, self.alice.workspace_id)
        raw = sent.body if sent.method == "POST" else None
        for _ in range(2):
            self.reply = await stranger.send(sent.method, path, raw=raw, **headers)
        while await ingest.read_due(self.alice.hub.app):
            pass
        return self.reply.status


@pytest.fixture
async def chats(app: App, alice: Client, clock: ManualClock) -> AsyncIterator[Chats]:
    async with SandboxServer(SandboxOptions(clock=clock, count=1)) as server:
        ids = {}
        for name, (method, secrets, config) in SETUPS.items():
            ready = server.ready[name]
            values = {secret: ready[key] for secret, key in secrets.items()}
            made = await alice.integration(
                name=name,
                display_name=name,
                base_url="",
                connector=name,
                config={"url": ready["url"], **{key: ready[key] for key in config}},
                credentials={"method": method, "values": values},
            )
            ids[name] = made["id"]
        yield Chats(alice, server, clock, ids)


async def test_an_alert_reaches_each_service_as_it_demands(app: App, alice: Client, chats: Chats):
    for name in CHANNELS:
        await chats.route(name)
    await happen(alice, "alert.opened", **ALERT)
    await deliver(app)
    assert {item["state"] for item in await listed(alice)} == {"delivered"}
    journal = {name: chats.server.sandbox.journal.read(name)[-1] for name in CHANNELS}
    bodies = {name: orjson.loads(entry["body"]) for name, entry in journal.items()}
    below = "\nalert.opened\nhttps://a.example/1"
    assert bodies["slack"]["text"] == f"[critical] Disk &lt;!channel&gt; full{below}"
    assert bodies["discord"]["content"] == f"\\[critical] Disk \\<!channel> full{below}"
    assert bodies["discord"]["allowed_mentions"] == {"parse": []}
    assert bodies["telegram"]["text"] == f"[critical] Disk <!channel> full{below}"
    line = "[critical] Disk <!channel> full · alert.opened · https://a.example/1"
    assert bodies["whatsapp"]["template"]["components"][0]["parameters"][0]["text"] == line
    shown = [await alice.get(f"/v1/{{ws}}/deliveries/{item['id']}") for item in await listed(alice)]
    for name in CHANNELS:
        assert not any(chats.server.ready[name]["token"] in reply.text for reply in shown)


async def test_the_connection_tests_are_healthy(alice: Client, chats: Chats):
    for integration_id in chats.ids.values():
        tested = await alice.post(f"/v1/{{ws}}/integrations/{integration_id}/test-connection")
        assert tested.json["status"] == "healthy", tested.text


@pytest.mark.parametrize("name", CHANNELS)
async def test_a_storm_reaches_one_channel_whole_and_is_never_a_failure(
    app: App, alice: Client, chats: Chats, clock: ManualClock, name: str
):
    await chats.route(name)
    await happen(alice, *(f"alert.n{number}" for number in range(30)))
    for _ in range(300):
        await deliver(app)
        states = {item["state"] for item in await listed(alice)}
        if states == {"delivered"}:
            break
        clock.advance(1)
    assert states == {"delivered"}
    statuses = [status for _, status in chats.answers(name)]
    assert statuses.count(200) == 30
    assert set(statuses) <= {200, 429}
    # Only a group of Telegram has a limit that nothing announces: 20 a minute.
    assert statuses.count(429) <= (10 if name == "telegram" else 0)


async def test_whoever_wrote_to_the_number_gets_free_text_for_24_hours(
    app: App, alice: Client, chats: Chats, clock: ManualClock
):
    await chats.route("whatsapp")
    for step in ("closed", "open", "closed again"):
        if step == "open":
            assert await chats.send_in("whatsapp", "message", text="On it") == 200
        await happen(alice, "alert.opened", **ALERT)
        await deliver(app)
        clock.advance(25 * 3600 if step == "open" else 60)
    sent = chats.fake("whatsapp").controls()["messages"]({})["messages"]
    assert [message["type"] for message in sent] == ["template", "text", "template"]
    assert {status for _, status in chats.answers("whatsapp")} == {200}


@pytest.mark.parametrize(
    ("name", "order", "wanted"),
    [
        (
            "slack",
            {"event": "message", "text": "Who is on call?"},
            ("slack.message", "C0PAGER", "Who is on call?"),
        ),
        ("slack", {"event": "interaction"}, ("slack.interaction", "C0PAGER", "alice: acknowledge")),
        ("discord", {"event": "command"}, ("discord.interaction", "41771983423143937", "alice: oncall")),
        ("telegram", {"event": "message", "update_id": 7}, ("telegram.message", "1001", "Hello")),
        ("whatsapp", {"event": "message", "text": "Café"}, ("whatsapp.message", "16505551234", "Café")),
        ("linear", {"event": "Issue", "title": "Boom"}, ("linear.issue.created", "COR-57", "COR-57: Boom")),
    ],
)
async def test_what_a_service_sends_comes_in_once_and_only_signed(
    alice: Client, chats: Chats, name: str, order: dict[str, Any], wanted: tuple[str, str, str]
):
    other = "11" * 32 if name == "discord" else "another"
    assert await chats.send_in(name, secret=other, **order) == 401
    status = await chats.send_in(name, **order)
    heard = HEARD.get(name, (202, chats.reply.text))
    assert (status, chats.reply.text) == heard
    found = (await alice.get(f"/v1/{{ws}}/events?type={name}.*")).json["items"]
    assert [(item["type"], item["subject"], item["title"]) for item in found] == [wanted]


async def test_the_questions_about_an_address_are_answered(chats: Chats):
    assert await chats.send_in("slack", "url_verification", challenge="c1") == 200
    assert chats.reply.text == "c1"
    assert await chats.send_in("discord", "ping") == 200
    assert chats.reply.json == {"type": 1}
    assert await chats.send_in("whatsapp", "handshake", challenge="115") == 200
    assert chats.reply.text == "115"
    assert await chats.send_in("whatsapp", "handshake", secret="another") == 401


async def test_a_token_that_belongs_in_the_path_is_asked_for_like_any_other(alice: Client):
    body = {"name": "tg", "display_name": "Telegram", "base_url": "", "connector": "telegram"}
    for credentials in (None, {"method": "bot_token", "values": {}}):
        refused = await alice.post("/v1/{ws}/integrations", body | {"credentials": credentials})
        assert refused.status == 422
        assert "credentials" in refused.text
