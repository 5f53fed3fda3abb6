"""Routes over HTTP: made, checked, shown, changed, tried on recent events, and their secrets."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from http_asgi import Client, Reply
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.rest.signatures import new_signing_secret, sign_standard
from trunkline.services import events, routes
from trunkline.services.events import NewEvent
from trunkline.tables import deliveries, destinations
from trunkline.tables import routes as route_table

WEBHOOK = {"type": "webhook", "url": "https://hooks.example/in"}
NOTIFY = {"type": "notify", "connector": "slack", "channel": "C0PAGER"}
PATH = "/v1/{ws}/routes"


async def make(alice: Client, **fields: Any) -> Reply:
    return await alice.post(PATH, {"event_type": "alert.*", "target": WEBHOOK} | fields)


async def made(alice: Client, **fields: Any) -> dict[str, Any]:
    reply = await make(alice, **fields)
    assert reply.status == 201, reply.text
    return reply.json


async def happen(alice: Client, *types: str, **fields: Any) -> None:
    app = alice.hub.app
    new = [NewEvent(type=name, time=app.clock.now(), **({"data": {}} | fields)) for name in types]
    await app.db.write(lambda conn: events.append(conn, alice.workspace_id, new, app.clock.now()))


async def secrets(alice: Client, route_id: str) -> dict[str, str]:
    return await alice.hub.app.vault.open(alice.workspace_id, route_id)


def faults(reply: Reply) -> dict[str, str]:
    assert reply.status == 422, reply.text
    return {".".join(map(str, item["loc"])): item["msg"] for item in reply.json["detail"]}


async def test_a_route_is_made_shown_and_listed(alice: Client):
    condition = {"path": "data.level", "operator": "one_of", "value": ["error", "fatal"]}
    answer = await made(alice, name="Alerts", project_id="shop", conditions=[condition])
    secret, warning = answer.pop("signing_secret"), answer.pop("warning")
    assert secret.startswith("whsec_")
    assert "No event has come in yet" in warning
    assert answer | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "",
        "workspace_id": alice.workspace_id,
        "name": "Alerts",
        "event_type": "alert.*",
        "project_id": "shop",
        "conditions": [condition],
        "target": WEBHOOK,
        "enabled": True,
        "disabled_reason": None,
        "created_at": "",
        "updated_at": "",
    }
    shown = await alice.get(f"{PATH}/{answer['id']}")
    assert shown.json == answer
    assert (await alice.get(PATH)).json["items"] == [answer]


async def test_a_route_without_a_name_is_named_after_what_it_does(alice: Client):
    assert (await made(alice))["name"] == "alert.* to webhook hooks.example"


async def test_the_newest_is_listed_first_and_lists_may_be_narrowed(alice: Client, clock: ManualClock):
    for name in ("a", "b", "c"):
        clock.advance(1)
        await made(alice, name=name, enabled=name != "b")
    page = (await alice.get(f"{PATH}?limit=2")).json
    assert [item["name"] for item in page["items"]] == ["c", "b"]
    assert (page["has_more"], page["total"], page["continuation_token"]) == (True, 3, 2)
    off = (await alice.get(f"{PATH}?enabled=false")).json
    assert [item["name"] for item in off["items"]] == ["b"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"event_type": ""}, "body.event_type"),
        ({"event_type": "x" * 257}, "body.event_type"),
        ({"event_type": " alert"}, "body.event_type"),
        ({"event_type": "a\u0000b"}, "body.event_type"),
        ({"event_type": 5}, "body.event_type"),
        ({"target": None}, "body.target"),
        ({"target": {"type": "pigeon"}}, "body.target"),
        ({"target": {"type": "webhook"}}, "body.target.webhook.url"),
        ({"target": {"type": "webhook", "url": "ftp://x.example"}}, "body.target.url"),
        ({"target": {"type": "webhook", "url": "https://a@b.example"}}, "body.target.url"),
        ({"target": {"type": "webhook", "url": "https://x.example", "key": 1}}, "body.target.webhook.key"),
        ({"project_id": "x" * 257}, "body.project_id"),
        ({"project_id": "\u0000"}, "body.project_id"),
        ({"name": ""}, "body.name"),
        ({"conditions": [{"path": "a..b", "value": 1}]}, "body.conditions.0.path"),
        ({"conditions": [{"path": "a", "operator": "like", "value": 1}]}, "body.conditions.0.operator"),
        ({"conditions": [{"path": "a", "operator": "equals"}]}, "body.conditions.0.value"),
        ({"conditions": [{"path": "a", "value": 1}] * 21}, "body.conditions"),
        ({"enabled": "yes"}, "body.enabled"),
    ],
)
async def test_bad_input_names_the_field(alice: Client, fields: dict[str, Any], place: str):
    assert list(faults(await make(alice, **fields))) == [place]
    assert (await alice.get(PATH)).json["total"] == 0


@pytest.fixture
async def chat(alice: Client) -> dict[str, Any]:
    """An integration that can send messages."""
    credentials = {"method": "bot_token", "values": {"bearer_token": "xoxb-1"}}
    return await alice.integration(name="chat", connector="slack", base_url="", credentials=credentials)


async def test_a_message_may_go_through_one_integration_or_any_of_its_connector(alice: Client, chat):
    through = {"type": "notify", "integration_id": chat["id"], "channel": "C0PAGER"}
    one, any_of = await made(alice, target=through), await made(alice, target=NOTIFY)
    assert one["target"] == NOTIFY | {"integration_id": chat["id"]}
    assert any_of["target"] == NOTIFY | {"integration_id": None}
    assert one["signing_secret"] is any_of["signing_secret"] is None


async def test_a_connector_without_an_integration_is_warned_of(alice: Client):
    assert "No enabled integration of slack" in (await made(alice, target=NOTIFY))["warning"]


async def test_a_target_must_be_there_and_take_what_it_is_given(
    alice: Client, charlie: Client, chat, endpoint
):
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    plain = await alice.integration(endpoints=[endpoint(method="POST", input_schema=schema)])
    foreign = await charlie.integration()
    call = {"type": "endpoint", "integration_id": plain["id"], "endpoint": "things", "params": {"title": "x"}}
    for target, place, text in [
        (NOTIFY | {"connector": "slak"}, "connector", "did you mean 'slack'?"),
        (NOTIFY | {"connector": "http"}, "connector", "sends no messages"),
        ({"type": "notify", "channel": "C1"}, "connector", "Field required"),
        (NOTIFY | {"channel": "#pager"}, "channel", "such as C024BE91L"),
        (NOTIFY | {"channel": "C0PAGER\n"}, "channel", "control characters"),
        (NOTIFY | {"integration_id": plain["id"]}, "connector", "is not the connector"),
        ({"type": "notify", "integration_id": plain["id"], "channel": "C0"}, "integration_id", "sends no"),
        (NOTIFY | {"integration_id": foreign["id"]}, "integration_id", "no such integration"),
        (call | {"integration_id": foreign["id"]}, "integration_id", "no such integration"),
        (call | {"endpoint": "thing"}, "endpoint", "did you mean 'things'?"),
        (call | {"params": {"title": "{title}"}}, "params.title", "cannot be looked up here"),
        (call | {"params": {"title": "{secret.key}"}}, "params.title", "cannot be looked up here"),
        (call | {"params": {"title": "{event.titel}"}}, "params", "did you mean 'title'?"),
        (call | {"params": {"title": "{event.title"}}, "params.title", "stray"),
        (call | {"params": {}}, "params", "things needs: title"),
        (call | {"params": {"title": "x" * 20_000}}, "params", "at most 16,384 bytes"),
    ]:
        found = faults(await make(alice, target=target))
        assert list(found) == [f"body.target.{place}"]
        assert text in found[f"body.target.{place}"]
    fine = call | {"params": {"title": "{event.title}", "why": "{event.data.issue.id?}"}}
    assert (await made(alice, target=fine))["target"] == fine


async def test_ids_in_a_target_must_be_ids(alice: Client):
    target = {"type": "endpoint", "integration_id": "1", "endpoint": "x"}
    assert list(faults(await make(alice, target=target))) == ["body.target.endpoint.integration_id"]


async def test_two_routes_to_one_place_share_its_destination(alice: Client, charlie: Client, app: App):
    for caller, fields in [(alice, {}), (alice, {"event_type": "*"}), (charlie, {})]:
        await made(caller, **fields)
    rows = await app.db.read(lambda conn: conn.execute(sa.select(destinations)).mappings().all())
    assert sorted((row["workspace_id"], row["label"]) for row in rows) == sorted(
        (caller.workspace_id, "webhook hooks.example") for caller in (alice, charlie)
    )


async def test_a_change_leaves_the_rest_as_it_is(alice: Client, clock: ManualClock):
    route = await made(alice, project_id="shop", name="Alerts")
    clock.advance(60)
    changed = (await alice.put(f"{PATH}/{route['id']}", {"event_type": "deploy.*", "name": None})).json
    same = {"name", "project_id", "conditions", "target", "enabled", "created_at"}
    assert {name: changed[name] for name in same} == {name: route[name] for name in same}
    assert (changed["event_type"], changed["signing_secret"]) == ("deploy.*", None)
    assert changed["updated_at"] > route["updated_at"]
    anywhere = (await alice.put(f"{PATH}/{route['id']}", {"project_id": ""})).json
    assert anywhere["project_id"] is None


async def test_what_was_read_can_be_written_back(alice: Client):
    route = await made(alice)
    await alice.post(f"{PATH}/{route['id']}/rotate-secret")
    shown = (await alice.get(f"{PATH}/{route['id']}")).json
    written = (await alice.put(f"{PATH}/{route['id']}", shown)).json
    assert written["target"] == shown["target"]
    assert (await secrets(alice, route["id"])).keys() == {"signing_secret", "previous_signing_secret"}


async def test_a_change_that_is_wrong_changes_nothing(alice: Client):
    route = await made(alice)
    bad = {"event_type": "x", "target": {"type": "webhook", "url": "nowhere"}}
    assert list(faults(await alice.put(f"{PATH}/{route['id']}", bad))) == ["body.target.url"]
    assert (await alice.get(f"{PATH}/{route['id']}")).json["event_type"] == "alert.*"


async def test_switching_on_forgets_why_it_was_off(alice: Client, app: App, clock: ManualClock):
    route = await made(alice)
    later = clock.now() + timedelta(hours=1)
    broken = {"failures": 9, "open_at": later, "failing_since": clock.now(), "disabled_at": clock.now()}

    def break_it(conn: sa.Connection) -> None:
        conn.execute(sa.update(destinations).values(**broken))
        conn.execute(sa.update(route_table).values(enabled=False, disabled_reason="It answered 410."))

    await app.db.write(break_it)
    assert (await alice.get(f"{PATH}/{route['id']}")).json["disabled_reason"] == "It answered 410."
    changed = (await alice.put(f"{PATH}/{route['id']}", {"enabled": True})).json
    assert (changed["enabled"], changed["disabled_reason"]) == (True, None)
    row = await app.db.read(lambda conn: conn.execute(sa.select(destinations)).mappings().one())
    assert [row[name] for name in broken] == [0, None, None, None]


async def test_a_signing_secret_is_shown_once(alice: Client):
    route = await made(alice)
    assert await secrets(alice, route["id"]) == {"signing_secret": route["signing_secret"]}
    for reply in (
        await alice.get(PATH),
        await alice.get(f"{PATH}/{route['id']}"),
        await alice.put(f"{PATH}/{route['id']}", {"target": WEBHOOK | {"url": "https://other.example/"}}),
    ):
        assert route["signing_secret"] not in reply.text
    assert await secrets(alice, route["id"]) == {"signing_secret": route["signing_secret"]}


async def test_after_a_rotation_the_old_secret_signs_for_a_day(alice: Client, clock: ManualClock):
    route = await made(alice)
    first = (await alice.post(f"{PATH}/{route['id']}/rotate-secret")).json
    until = (clock.now() + timedelta(hours=24)).isoformat().replace("+00:00", "Z")
    assert first["target"] == WEBHOOK | {"previous_secret_until": until}
    assert await secrets(alice, route["id"]) == {
        "signing_secret": first["signing_secret"],
        "previous_signing_secret": route["signing_secret"],
    }
    second = (await alice.post(f"{PATH}/{route['id']}/rotate-secret")).json
    assert await secrets(alice, route["id"]) == {
        "signing_secret": second["signing_secret"],
        "previous_signing_secret": first["signing_secret"],
    }
    assert len({route["signing_secret"], first["signing_secret"], second["signing_secret"]}) == 3


async def test_rotating_moves_no_destination(alice: Client, app: App):
    route = await made(alice)
    query = sa.select(route_table.c.destination_id)
    before = await app.db.read(lambda conn: conn.scalar(query))
    shown = (await alice.post(f"{PATH}/{route['id']}/rotate-secret")).json
    await alice.put(f"{PATH}/{route['id']}", {"target": shown["target"]})
    assert await app.db.read(lambda conn: conn.scalar(query)) == before


async def test_only_a_webhook_has_a_secret(alice: Client):
    route = await made(alice, target=NOTIFY)
    reply = await alice.post(f"{PATH}/{route['id']}/rotate-secret")
    assert (reply.status, reply.json["error_code"]) == (409, "conflict")
    signed = (await alice.put(f"{PATH}/{route['id']}", {"target": WEBHOOK})).json
    assert await secrets(alice, route["id"]) == {"signing_secret": signed["signing_secret"]}
    plain = (await alice.put(f"{PATH}/{route['id']}", {"target": NOTIFY})).json
    assert (plain["signing_secret"], await secrets(alice, route["id"])) == (None, {})


async def test_a_deleted_route_is_gone_with_its_secret(alice: Client):
    route = await made(alice)
    assert (await alice.delete(f"{PATH}/{route['id']}")).status == 204
    for method, path in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/rotate-secret")]:
        reply = await alice.send(method, f"{PATH}/{route['id']}{path}", {} if method == "PUT" else None)
        assert (reply.status, reply.json["detail"]) == (404, "Route not found")
    assert await secrets(alice, route["id"]) == {}


async def test_a_dry_run_shows_what_would_match_and_stores_nothing(alice: Client, app: App):
    await happen(alice, "alert.raised", title="Disk full", severity="high", project="shop")
    await happen(alice, "deploy.done", *["alert.raised"] * 24)
    body = {"event_type": "alert.*", "target": NOTIFY}
    reply = await alice.post(f"{PATH}?dry_run=true", body)
    assert reply.status == 200
    assert (reply.json["matched"], reply.json["looked_at"], reply.json["warning"]) == (25, 26, None)
    assert [item["sequence"] for item in reply.json["events"]] == list(range(26, 6, -1))
    assert (await alice.get(PATH)).json["total"] == 0
    tables = (destinations, deliveries)
    counts = [
        await app.db.read(
            lambda conn, table=table: conn.scalar(sa.select(sa.func.count()).select_from(table))
        )
        for table in tables
    ]
    assert counts == [0, 0]


async def test_a_dry_run_needs_no_target_and_looks_at_project_and_conditions(alice: Client):
    await happen(alice, "alert.raised", project="shop", data={"level": "fatal"})
    await happen(alice, "alert.raised", project="shop", data={"level": "info"})
    await happen(alice, "alert.raised", data={"level": "fatal"})
    condition = {"path": "data.level", "value": "fatal"}
    body = {"event_type": "*", "project_id": "shop", "conditions": [condition]}
    reply = await alice.post(f"{PATH}?dry_run=true", body)
    assert [(item["sequence"], item["project"]) for item in reply.json["events"]] == [(1, "shop")]


async def test_a_dry_run_looks_at_the_newest_thousand(alice: Client):
    await happen(alice, "old.one")
    await happen(alice, *["new.one"] * 1000)
    reply = await alice.post(f"{PATH}?dry_run=true", {"event_type": "old.*"})
    assert (reply.json["matched"], reply.json["looked_at"]) == (0, 1000)
    assert reply.json["warning"] == "None of the newest 1,000 events matches. Their types are: new.one"


async def test_a_pattern_that_matches_nothing_is_made_and_warned_of(alice: Client):
    await happen(alice, "alert.raised", "deploy.done")
    assert (await made(alice, event_type="alert.*"))["warning"] is None
    warning = (await made(alice, event_type="alrt.*"))["warning"]
    assert warning == "None of the newest 2 events matches. Their types are: deploy.done, alert.raised"


async def test_a_dry_run_checks_what_would_be_stored(alice: Client):
    for body, place in [
        ({"event_type": "", "target": NOTIFY}, "body.event_type"),
        ({"event_type": "*", "target": NOTIFY | {"channel": "?"}}, "body.target.channel"),
        ({"event_type": "*", "conditions": [{"path": "", "value": 1}]}, "body.conditions.0.path"),
    ]:
        assert list(faults(await alice.post(f"{PATH}?dry_run=true", body))) == [place]


async def test_a_stranger_s_events_are_not_looked_at(alice: Client, charlie: Client):
    await happen(alice, "alert.raised")
    reply = await charlie.post(f"{PATH}?dry_run=true", {"event_type": "*"})
    assert (reply.json["matched"], reply.json["looked_at"]) == (0, 0)


async def test_there_is_an_end_to_the_number_of_routes(alice: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "MAX_ROUTES", 1)
    await made(alice)
    assert (await make(alice)).status == 409


async def test_a_deleted_integration_leaves_its_routes(alice: Client, chat):
    route = await made(alice, target={"type": "notify", "integration_id": chat["id"], "channel": "C0PAGER"})
    await alice.delete(f"/v1/{{ws}}/integrations/{chat['id']}")
    shown = (await alice.get(f"{PATH}/{route['id']}")).json
    assert (shown["enabled"], shown["target"]["integration_id"]) == (True, chat["id"])


async def test_the_page_s_own_receiver_takes_what_is_signed_and_nothing_else():
    page = (Path(__file__).parents[2] / "docs/routes.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(found[1], names)
    secret, old, body = new_signing_secret(), new_signing_secret(), b'{"a": 1}'
    now = datetime.now(UTC)
    names["verify"](secret, sign_standard([secret, old], "id", now, body), body)
    names["verify"](old, sign_standard([secret, old], "id", now, body), body)
    for headers, raw in [
        (sign_standard([old], "id", now, body), body),
        (sign_standard([secret], "id", now, body), b'{"a": 2}'),
        (sign_standard([secret], "id", now - timedelta(minutes=6), body), body),
        (sign_standard([secret], "id", now, body) | {"webhook-id": "other"}, body),
    ]:
        with pytest.raises(ValueError, match=r"old|not signed"):
            names["verify"](secret, headers, raw)
