"""Webhooks over HTTP: what is accepted, what is refused and how, challenges, addresses and their rotation."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from hook_senders import OPEN, SECRET, Shop, sign, write_connectors
from http_asgi import Client, Reply
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.errors import Unavailable
from trunkline.http.app import Hub
from trunkline.services import inbox
from trunkline.settings import Settings
from trunkline.tables import hooks, secrets
from trunkline.tables import inbox as inbox_table


@pytest.fixture
def database_settings(database_settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the shop in the catalogue."""
    return replace(database_settings, connectors_dir=write_connectors(tmp_path / "connectors"))


@pytest.fixture
async def shop(alice: Client) -> Shop:
    return await Shop.open(alice)


async def _stored(app: App) -> list[Any]:
    query = sa.select(inbox_table).order_by(inbox_table.c.position)
    return list(await app.db.read(lambda conn: conn.execute(query).all()))


def _is_refused(reply: Reply) -> bool:
    body = reply.json
    body.pop("request_id")
    return (reply.status, body) == (
        401,
        {
            "detail": "No such address, or the request does not prove where it comes from.",
            "error_code": "unauthenticated",
        },
    )


async def test_a_signed_request_is_stored_before_it_is_answered(app: App, shop: Shop):
    raw = b'{"id": "7",  "text": "Z\\u00fcrich \\/ caf\xc3\xa9"}'
    reply = await shop.post(None, raw=raw, x_shop_event="order", x_other="not looked up")
    assert (reply.status, set(reply.json)) == (202, {"id"})
    [row] = await _stored(app)
    assert (row.id, row.integration_id, row.body) == (reply.json["id"], shop.integration_id, raw)
    assert row.workspace_id == shop.client.workspace_id
    assert row.headers == {"content-type": "application/json", "x-shop-event": "order"}
    assert (row.received_at, row.read_at) == (app.clock.now(), None)


@pytest.mark.parametrize(
    "raw",
    [b"", b"no json", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":NaN}', b"\x00" * 1000, "ünï".encode("utf-16")],
    ids=range(7),
)
async def test_any_bytes_are_taken_when_they_are_signed(app: App, shop: Shop, raw: bytes):
    reply = await shop.post(None, raw=raw)
    assert reply.status == 202
    assert (await _stored(app))[0].body == raw


async def test_what_does_not_prove_itself_is_refused_and_leaves_nothing(app: App, shop: Shop, capfd):
    refused = [
        await shop.post({"leak": "the-body"}, secret="other"),
        await shop.post({"leak": "the-body"}, x_shop_signature=""),
        await shop.post({"leak": "the-body"}, x_shop_signature="sha256=" + "é" * 64),
        await shop.post({"leak": "the-body"}, x_shop_signature=sign(b"another body")),
        await shop.post({"leak": "the-body"}, path="/hooks/" + "x" * 40),
        await shop.post({"leak": "the-body"}, path="/hooks/"),
        await shop.post({"leak": "the-body"}, path="/hooks/%ff%00/../é"),
        await shop.post({"leak": "the-body"}, path=shop.path + "/"),
        await shop.post({"leak": "the-body"}, path="/hooks/" + "y" * 60_000),
    ]
    assert all(_is_refused(reply) for reply in refused)
    assert await _stored(app) == []
    assert "the-body" not in "".join(capfd.readouterr())


async def test_an_unknown_address_costs_as_many_reads_as_a_wrong_signature(
    app: App, shop: Shop, clock: ManualClock, monkeypatch
):
    reads = 0
    read = app.db.read

    async def counted(fn):
        nonlocal reads
        reads += 1
        return await read(fn)

    async def cost(path: str) -> int:
        nonlocal reads
        reads = 0
        for _ in range(3):
            assert _is_refused(await shop.post({}, secret="other", path=path))
        return reads

    monkeypatch.setattr(app.db, "read", counted)
    await shop.post({})
    for _ in range(2):
        clock.advance(2)
        assert await cost(shop.path) == await cost("/hooks/" + "x" * 40) == 1


async def test_a_repeat_is_answered_the_same_and_adds_nothing(app: App, shop: Shop):
    first = await shop.post({"n": 1}, x_shop_delivery="d-1")
    again = await shop.post({"n": 1}, x_shop_delivery="d-1")
    assert (again.status, again.json) == (202, first.json)
    at_once = await asyncio.gather(*(shop.post({"n": 2}, x_shop_delivery="d-2") for _ in range(20)))
    assert {reply.json["id"] for reply in at_once} == {at_once[0].json["id"]}
    assert [row.id for row in await _stored(app)] == [first.json["id"], at_once[0].json["id"]]


async def test_the_same_delivery_id_of_another_integration_is_another_delivery(app: App, shop: Shop):
    other = await Shop.open(shop.client, "shop-two")
    await shop.post({}, x_shop_delivery="d-1")
    await other.post({}, x_shop_delivery="d-1")
    assert len(await _stored(app)) == 2


async def test_without_a_delivery_id_equal_requests_are_two(app: App, shop: Shop):
    await shop.post({"n": 1})
    await shop.post({"n": 1})
    assert len(await _stored(app)) == 2


async def test_many_at_once_share_commits_and_keep_their_order(app: App, shop: Shop, monkeypatch):
    writes = 0
    write = app.db.write

    async def counted(fn):
        nonlocal writes
        writes += 1
        return await write(fn)

    monkeypatch.setattr(app.db, "write", counted)
    replies = await asyncio.gather(*(shop.post({"n": n}) for n in range(300)))
    stored = await _stored(app)
    assert [row.id for row in stored] == [reply.json["id"] for reply in replies]
    assert [orjson.loads(row.body)["n"] for row in stored] == list(range(300))
    assert writes < 20


async def test_what_cannot_be_stored_is_not_accepted(app: App, shop: Shop, monkeypatch):
    async def full(fn):
        raise Unavailable("The disk is full.")

    await shop.post({})
    with monkeypatch.context() as patch:
        patch.setattr(app.db, "write", full)
        replies = await asyncio.gather(*(shop.post({"n": n}) for n in range(3)))
        assert {reply.status for reply in replies} == {503}
    assert (await shop.post({})).status == 202


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_BYTES"])
async def test_too_much_at_once_is_told_to_come_back(app: App, shop: Shop, monkeypatch, limit: str):
    await shop.post({})
    write, gate = app.db.write, asyncio.Event()

    async def slow(fn):
        await gate.wait()
        return await write(fn)

    monkeypatch.setattr(app.db, "write", slow)
    monkeypatch.setattr(inbox, limit, 3 if limit == "MOST_WAITING" else 30)
    waiting = [asyncio.create_task(shop.post(None, raw=b"0123456789")) for _ in range(3)]
    for _ in range(50):
        await asyncio.sleep(0)
    turned_away = await shop.post(None, raw=b"0123456789")
    assert (turned_away.status, turned_away.json["error_code"]) == (429, "too_many_requests")
    assert turned_away.headers["retry-after"] == "1"
    gate.set()
    assert {(await task).status for task in waiting} == {202}
    assert (await shop.post(None, raw=b"0123456789")).status == 202


async def test_a_body_too_large_is_refused_wherever_it_is_sent(app: App, shop: Shop):
    for path in (shop.path, "/hooks/unknown"):
        reply = await shop.post(None, raw=b"x" * (10 * 1024 * 1024), path=path)
        assert (reply.status, reply.json["detail"][0]["type"]) == (413, "too_large")
    assert await _stored(app) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused_alike_at_every_address(shop: Shop, method: str):
    for path in (shop.path, "/hooks/unknown"):
        reply = await shop.client.send(method, path)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, POST")


async def test_a_disabled_integration_says_so_to_its_service_alone(app: App, shop: Shop):
    await shop.client.put(f"/v1/{{ws}}/integrations/{shop.integration_id}", {"enabled": False})
    reply = await shop.post({"type": "hello", "word": "w"})
    assert (reply.status, reply.json["error_code"]) == (409, "conflict")
    assert _is_refused(await shop.post({}, secret="other"))
    assert await _stored(app) == []
    await shop.client.put(f"/v1/{{ws}}/integrations/{shop.integration_id}", {"enabled": True})
    assert (await shop.post({})).status == 202


async def test_without_a_secret_everything_is_refused_and_the_owner_is_told(app: App, alice: Client):
    shop = await Shop.open(alice, credentials=None)
    assert _is_refused(await shop.post({}, secret=""))
    assert _is_refused(await shop.post({}))
    shown = (await alice.get(shop.hook)).json
    assert (shown["verification"], shown["missing"]) == (None, ["signing_key"])
    assert "signing_key" in shown["warning"]
    values = {"credentials": {"values": {"signing_key": SECRET}}}
    assert (await alice.put(f"/v1/{{ws}}/integrations/{shop.integration_id}", values)).status == 200
    assert (await shop.post({})).status == 202
    shown = (await alice.get(shop.hook)).json
    assert (shown["verification"], shown["missing"], shown["warning"]) == ("hmac", [], None)
    assert SECRET not in str(shown)


async def test_a_connector_that_says_none_takes_anything_and_the_owner_is_told(app: App, alice: Client):
    assert "type: none" in OPEN
    made = await Shop.open(alice, "open", connector="open", credentials=None)
    assert (await made.post({}, secret="whatever")).status == 202
    shown = (await alice.get(made.hook)).json
    assert shown["verification"] == "none"
    assert "whoever knows the address" in shown["warning"]


# Challenges, as the services of the catalogue ask them.


async def test_a_challenge_is_answered_as_plain_text_and_stored_nowhere(app: App, shop: Shop):
    reply = await shop.post({"type": "hello", "word": "3eZbrw1aB"})
    assert (reply.status, reply.text) == (200, "3eZbrw1aB")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert _is_refused(await shop.post({"type": "hello", "word": "3eZbrw1aB"}, secret="other"))
    assert await _stored(app) == []


async def test_a_get_handshake_is_answered_when_its_token_is_ours(app: App, alice: Client):
    values = {"bearer_token": "EAAG-1", "app_secret": SECRET, "verify_token": "tok en+1"}
    config = {"phone_number_id": "106540352242922"}
    service = await Shop.open(
        alice, "wa", connector="whatsapp", credentials={"values": values}, config=config
    )
    asks = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    nobody = Client(alice.hub, None, alice.workspace_id)
    reply = await nobody.get(service.path + asks + "tok%20en%2B1")
    assert (reply.status, reply.text) == (200, "1158201444")
    for path in (service.path + asks + "other", service.path, "/hooks/unknown" + asks + "tok%20en%2B1"):
        assert _is_refused(await nobody.get(path))
    raw = b'{"object":"whatsapp_business_account","name":"Z\\u00fcrich \\/"}'
    assert (await service.post(None, raw=raw, x_hub_signature_256=sign(raw))).status == 200
    assert (await _stored(app))[0].body == raw


async def test_a_get_where_nothing_is_asked_is_refused_like_an_unknown_address(shop: Shop):
    assert _is_refused(await Client(shop.client.hub, None, "").get(shop.path))


# The address.


async def test_the_address_is_shown_to_those_who_may_see_it(shop: Shop, bob: Client, charlie: Client):
    shown = (await shop.client.get(shop.hook)).json
    assert shown["path"].startswith("/hooks/")
    assert len(shown["path"].removeprefix("/hooks/")) >= 32
    assert (shown["url"], shown["description"]) == (None, "Under Settings, Webhooks.")
    assert (await bob.get(shop.hook)).status == 403
    assert (await bob.post(shop.hook)).status == 403
    assert (await charlie.get(shop.hook)).status == 404
    assert (await charlie.post(shop.hook)).status == 404


async def test_the_whole_address_is_shown_where_the_operator_gave_the_outer_one(app: App, shop: Shop):
    app.settings = replace(app.settings, public_url="https://hub.example.com/in")
    shown = (await shop.client.get(shop.hook, host="evil.example")).json
    assert shown["url"] == "https://hub.example.com/in" + shop.path


async def test_a_new_address_works_at_once_and_the_old_one_for_a_day(
    app: App, shop: Shop, clock: ManualClock
):
    made = await shop.client.post(shop.hook)
    assert (made.status, made.json["path"] == shop.path) == (201, False)
    assert made.json["previous_until"] == "2026-01-02T00:00:00Z"
    for path in (shop.path, made.json["path"]):
        assert (await shop.post({}, path=path)).status == 202
    clock.advance(24 * 3600 - 0.5)
    assert (await shop.post({})).status == 202
    clock.advance(0.5)
    assert _is_refused(await shop.post({}))
    assert (await shop.post({}, path=made.json["path"])).status == 202
    assert (await shop.client.get(shop.hook)).json["previous_until"] is None
    await shop.client.post(shop.hook)
    rows = await app.db.read(lambda conn: conn.execute(sa.select(hooks)).all())
    assert len(rows) == 2  # what ended is forgotten


async def test_a_deleted_integration_takes_its_addresses_along(app: App, shop: Shop):
    await shop.client.post(shop.hook)
    assert (await shop.post({})).status == 202
    await shop.client.delete(f"/v1/{{ws}}/integrations/{shop.integration_id}")
    assert _is_refused(await shop.post({}))
    assert (await shop.client.get(shop.hook)).status == 404
    left = await app.db.read(lambda conn: [conn.execute(sa.select(t)).all() for t in (hooks, secrets)])
    assert left == [[], []]


async def test_only_what_has_webhooks_has_an_address(alice: Client):
    made = await alice.integration()
    path = f"/v1/{{ws}}/integrations/{made['id']}/hook"
    for reply in (await alice.get(path), await alice.post(path)):
        assert (reply.status, reply.json["error_code"]) == (404, "not_found")
        assert "no webhooks" in reply.json["detail"]


async def test_a_connector_that_is_gone_is_named_and_its_requests_are_refused(
    app: App, shop: Shop, clock: ManualClock
):
    app.catalog._manifests.pop("shop")
    clock.advance(2)
    assert _is_refused(await shop.post({}))
    shown = (await shop.client.get(shop.hook)).json
    assert "'shop' is not in the catalogue" in shown["warning"]


async def test_an_integration_from_before_gets_its_address_by_a_post(app: App, shop: Shop):
    await app.db.write(lambda conn: conn.execute(sa.delete(hooks)).rowcount)
    assert "POST here makes one" in (await shop.client.get(shop.hook)).json["detail"]
    made = await shop.client.post(shop.hook)
    assert (made.status, made.json["previous_until"]) == (201, None)
    assert (await shop.post({}, path=made.json["path"])).status == 202


async def test_the_token_and_the_secret_are_stored_sealed_alone(
    app: App, hub: Hub, shop: Shop, tmp_path: Path
):
    token = shop.path.removeprefix("/hooks/")
    everything = await app.db.read(lambda conn: [conn.execute(sa.select(t)).all() for t in (hooks, secrets)])
    assert token not in str(everything)
    assert SECRET not in str(everything)
    held = [str(value) for value in app.hooks._entries.values()]
    assert token not in "".join(held)
    assert SECRET not in "".join(held)
