"""API keys: made, shown once, limited, rotated, revoked, and never a step up."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from http_asgi import Client, Reply
from trunkline.services import api_keys
from trunkline.tables import metadata

KEYS = "/v1/{ws}/api-keys"
DAY = 86400
# What a list shows (contract 6.4), and what is shown once.
LISTED = {
    "id",
    "workspace_id",
    "key_id",
    "name",
    "role",
    "permissions",
    "created_at",
    "updated_at",
    "expires_at",
    "last_used_at",
    "created_by_credential_id",
    "created_by_entity_id",
    "person_id",
}
SHOWN_ONCE = {
    "api_key",
    "key_id",
    "name",
    "role",
    "permissions",
    "expires_at",
    "created_by_credential_id",
    "created_by_entity_id",
}


async def _make(client: Client, **changes: Any) -> dict[str, Any]:
    reply = await client.post(KEYS, {"duration_days": 30, **changes})
    assert reply.status == 201, reply.text
    return reply.json


async def _listed(client: Client, query: str = "") -> list[dict[str, Any]]:
    reply = await client.get(f"{KEYS}?{query}")
    assert reply.status == 200, reply.text
    return reply.json["items"]


def _as(client: Client, made: dict[str, Any]) -> Client:
    return replace(client, key=made["api_key"])


async def _person(alice: Client, role: str = "member", email: str = "p@example.com") -> dict[str, Any]:
    reply = await alice.post("/v1/{ws}/people", {"email": email, "name": "P", "role": role})
    assert reply.status == 201, reply.text
    return reply.json


def _refused(reply: Reply, *loc: str | int) -> None:
    assert reply.status == 422, reply.text
    assert [fault["loc"] for fault in reply.json["detail"]] == [["body", *loc]]


async def test_a_new_key_is_shown_once_and_works(alice: Client):
    made = await _make(alice, name="bridge", permissions=["Integration.view"])
    assert set(made) == SHOWN_ONCE
    assert made["expires_at"] == "2026-01-31T00:00:00Z"
    assert (made["name"], made["role"], made["permissions"]) == ("bridge", "member", ["Integration.view"])
    me = (await _as(alice, made).get("/v1/auth/me")).json
    assert (me["key_id"], me["workspace_id"]) == (made["key_id"], alice.workspace_id)
    listed = await alice.get(KEYS)
    assert set(listed.json["items"][0]) == LISTED
    assert made["api_key"] not in listed.text


async def test_no_key_is_in_the_database(alice: Client):
    made = await _make(alice)
    rotated = (await alice.post(f"{KEYS}/{made['key_id']}/rotate", {"duration_days": 1})).json

    def everything(conn: sa.Connection) -> str:
        return str([list(conn.execute(sa.select(table))) for table in metadata.sorted_tables])

    stored = await alice.hub.app.db.read(everything)
    assert made["key_id"] in stored
    for key in (made["api_key"], rotated["api_key"], alice.key or "?"):
        assert key not in stored
        assert key[3:] not in stored
        assert key[3:40] not in stored


async def test_a_key_ends_at_the_end_of_its_last_day(alice: Client, clock):
    made = await _make(alice, duration_days=1)
    clock.advance(DAY - 1)
    assert (await _as(alice, made).get("/v1/auth/me")).status == 200
    clock.advance(1)
    reply = await _as(alice, made).get("/v1/auth/me")
    assert (reply.status, reply.json["error_code"]) == (401, "unauthenticated")


async def test_a_key_without_end_does_not_end(alice: Client, clock):
    made = await _make(alice, duration_days=None)
    assert made["expires_at"] is None
    clock.advance(3650 * DAY)
    assert (await _as(alice, made).get("/v1/auth/me")).json["expires_at"] is None


async def test_an_expired_key_can_be_rotated_back_to_life(alice: Client, clock):
    made = await _make(alice, duration_days=1)
    clock.advance(2 * DAY)
    rotated = (await alice.post(f"{KEYS}/{made['key_id']}/rotate", {"duration_days": 1})).json
    assert (await _as(alice, rotated).get("/v1/auth/me")).status == 200
    assert (await _as(alice, made).get("/v1/auth/me")).status == 401


@pytest.mark.parametrize("spelling", ["key_id", "id"])
async def test_rotating_stops_the_old_secret_at_once(alice: Client, clock, spelling: str):
    made = await _make(alice, name="bridge", role="viewer")
    assert (await _as(alice, made).get("/v1/auth/me")).status == 200
    clock.advance(60)
    row = next(row for row in await _listed(alice) if row["key_id"] == made["key_id"])
    rotated = (await alice.post(f"{KEYS}/{row[spelling]}/rotate", {"duration_days": 90})).json
    assert rotated["api_key"] != made["api_key"]
    same = SHOWN_ONCE - {"api_key", "expires_at"}
    assert {name: rotated[name] for name in same} == {name: made[name] for name in same}
    assert rotated["expires_at"] == "2026-04-01T00:01:00Z"
    assert (await _as(alice, made).get("/v1/auth/me")).status == 401
    assert (await _as(alice, rotated).get("/v1/auth/me")).status == 200


@pytest.mark.parametrize("spelling", ["key_id", "id"])
async def test_revoking_stops_a_key_at_once(alice: Client, spelling: str):
    made = await _make(alice)
    assert (await _as(alice, made).get("/v1/auth/me")).status == 200
    row = next(row for row in await _listed(alice) if row["key_id"] == made["key_id"])
    gone = await alice.delete(f"{KEYS}/{row[spelling]}")
    assert (gone.status, gone.body) == (204, b"")
    assert (await _as(alice, made).get("/v1/auth/me")).status == 401
    again = await alice.delete(f"{KEYS}/{row[spelling]}")
    assert (again.status, again.json["detail"]) == (404, "API key not found")


@pytest.mark.parametrize("key_id", ["ak_none", "%00", "x" * 5000, "%F0%9F%98%80", "'", "0" * 36])
async def test_a_key_that_does_not_exist_is_not_found(alice: Client, key_id: str):
    expected = 422 if key_id == "%00" else 404
    assert (await alice.delete(f"{KEYS}/{key_id}")).status == expected
    assert (await alice.post(f"{KEYS}/{key_id}/rotate", {"duration_days": 1})).status == expected


async def test_a_key_may_revoke_itself(alice: Client):
    made = await _make(alice, role="admin")
    assert (await _as(alice, made).delete(f"{KEYS}/{made['key_id']}")).status == 204
    assert (await _as(alice, made).get("/v1/auth/me")).status == 401


async def test_rotations_at_once_leave_one_secret(alice: Client):
    made = await _make(alice)
    path = f"{KEYS}/{made['key_id']}/rotate"
    replies = await asyncio.gather(*(alice.post(path, {"duration_days": 1}) for _ in range(5)))
    tried = [await _as(alice, reply.json).get("/v1/auth/me") for reply in replies]
    assert sorted(reply.status for reply in tried) == [200, 401, 401, 401, 401]


async def test_last_use_is_shown_at_once_and_survives_in_the_database(alice: Client, clock):
    made = await _make(alice)
    assert (
        next(row for row in await _listed(alice) if row["key_id"] == made["key_id"])["last_used_at"] is None
    )
    clock.advance(90)
    await _as(alice, made).get("/v1/auth/me")
    for _ in range(2):
        row = next(row for row in await _listed(alice) if row["key_id"] == made["key_id"])
        assert (row["created_at"], row["last_used_at"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z")
        await api_keys.flush_uses_due(alice.hub.app)


async def test_mine_only_lists_this_key_and_what_it_made(alice: Client):
    admin = await alice.key_with("admin")
    theirs = await _make(admin, name="theirs")
    await _make(alice, name="not theirs")
    mine = await _listed(admin, "mine_only=true")
    assert {row["key_id"] for row in mine} >= {theirs["key_id"]}
    assert "not theirs" not in {row["name"] for row in mine}
    me = (await admin.get("/v1/auth/me")).json
    made = next(row for row in mine if row["key_id"] == theirs["key_id"])
    assert made["created_by_credential_id"] == me["credential_id"]


async def test_keys_are_listed_newest_first_page_by_page(alice: Client, clock):
    for number in range(24):
        clock.advance(1)
        await _make(alice, name=f"key {number}")
    met: list[str] = []
    token: int | None = 0
    while token is not None:
        page = (await alice.get(f"{KEYS}?limit=7&continuation_token={token}")).json
        met += [row["name"] for row in page["items"]]
        assert page["total"] == 25
        token = page["continuation_token"]
    assert met == [f"key {number}" for number in reversed(range(24))] + ["owner"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=21", "limit"), ("mine_only=x", "mine_only"), ("continuation_token=-1", "continuation_token")],
)  # fmt: skip
async def test_a_list_of_keys_has_limits(alice: Client, query: str, field: str):
    reply = await alice.get(f"{KEYS}?{query}")
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["query", field])


@pytest.mark.parametrize("days", [0, 91, -1, "x", 1.5, [], True, 10**30, 1e300])
async def test_a_duration_is_1_to_90_days(alice: Client, days: Any):
    made = await _make(alice)
    if days is True:
        return  # pydantic reads true as 1, as the contract's own framework does
    _refused(await alice.post(KEYS, {"duration_days": days}), "duration_days")
    _refused(await alice.post(f"{KEYS}/{made['key_id']}/rotate", {"duration_days": days}), "duration_days")


async def test_a_duration_must_be_given(alice: Client):
    made = await _make(alice)
    _refused(await alice.post(KEYS, {}), "duration_days")
    _refused(await alice.post(f"{KEYS}/{made['key_id']}/rotate", {}), "duration_days")


@pytest.mark.parametrize(
    ("changes", "loc"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 257}, ["name"]),
        ({"name": "a\0b"}, ["name"]),
        ({"name": 7}, ["name"]),
        ({"role": "king"}, ["role"]),
        ({"role": "x" * 65}, ["role"]),
        ({"role": ""}, ["role"]),
        ({"permissions": ["Integration.view"] * 129}, ["permissions"]),
        ({"permissions": ["Integration.fly"]}, ["permissions", 0]),
        ({"permissions": ["Integration.view", "x" * 129]}, ["permissions", 1]),
        ({"permissions": [""]}, ["permissions", 0]),
        ({"permissions": ["Nothing.*"]}, ["permissions", 0]),
        ({"permissions": ["*.view"]}, ["permissions", 0]),
        ({"permissions": "Integration.view"}, ["permissions"]),
        ({"person_id": "nobody"}, ["person_id"]),
        ({"person_id": "00000000-0000-4000-8000-000000000000"}, ["person_id"]),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(alice: Client, changes: Any, loc: list[Any]):
    _refused(await alice.post(KEYS, {"duration_days": 1, **changes}), *loc)


async def test_names_of_256_letters_fit_on_either_database(alice: Client):
    assert (await _make(alice, name="😀" * 256))["name"] == "😀" * 256


async def test_permissions_are_written_in_any_case_and_kept_in_one(alice: Client):
    names = ["INTEGRATION.VIEW", "integration.view", "apikey.*", "integration.sync"]
    made = await _make(alice, permissions=names)
    assert made["permissions"] == ["Integration.view", "ApiKey.*", "Integration.sync"]
    assert (await _as(alice, made).get("/v1/{ws}/integrations")).status == 200
    assert (await _as(alice, made).get(KEYS)).status == 200
    assert (await _as(alice, made).get("/v1/{ws}/people")).status == 403


async def test_a_star_is_every_permission(alice: Client):
    made = await _make(alice, role="viewer", permissions=["*"])
    assert (await _as(alice, made).put("/v1/{ws}", {"name": "Mine"})).status == 200


ROLES = ["viewer", "member", "admin", "owner"]


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_makes_a_key_that_outranks_his_own(alice: Client, role: str):
    caller = await alice.key_with(role, [*(["*"] if role == "owner" else []), "ApiKey.create"])
    for wanted in ROLES:
        reply = await caller.post(
            KEYS, {"duration_days": 1, "role": wanted, "permissions": ["ApiKey.create"]}
        )
        assert reply.status == (201 if ROLES.index(wanted) <= ROLES.index(role) else 403)


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (["ApiKey.create"], 201),
        (["apikey.CREATE", "integration.view"], 201),
        (["Integration.delete"], 403),
        (["Integration.*"], 403),
        (["ApiKey.*"], 403),
        (["*"], 403),
        ([], 403),
    ],
)
async def test_nobody_grants_a_permission_he_lacks(alice: Client, wanted: list[str], status: int):
    caller = await alice.key_with("owner", ["ApiKey.create", "Integration.view"])
    body = {"duration_days": 1, "role": "viewer", "permissions": wanted}
    assert (await caller.post(KEYS, body)).status == status


async def test_a_noun_with_a_star_covers_its_verbs_and_itself(alice: Client):
    caller = await alice.key_with("member", ["ApiKey.*"])
    for wanted, status in ((["ApiKey.delete"], 201), (["ApiKey.*"], 201), (["*"], 403)):
        body = {"duration_days": 1, "permissions": wanted}
        assert (await caller.post(KEYS, body)).status == status


async def test_nobody_gains_by_rotating_a_stronger_key(alice: Client):
    strong = await _make(alice, role="admin", permissions=["Integration.delete"])
    for caller in (
        await alice.key_with("member", ["ApiKey.*", "Integration.*"]),
        await alice.key_with("owner", ["ApiKey.*"]),
    ):
        reply = await caller.post(f"{KEYS}/{strong['key_id']}/rotate", {"duration_days": 1})
        assert (reply.status, reply.json["error_code"]) == (403, "forbidden")
    assert (await _as(alice, strong).get("/v1/auth/me")).status == 200


async def test_nobody_revokes_a_key_that_outranks_his_own(alice: Client):
    caller = await alice.key_with("admin")
    owner = (await alice.get("/v1/auth/me")).json
    assert (await caller.delete(f"{KEYS}/{owner['key_id']}")).status == 403
    assert (await alice.get("/v1/auth/me")).status == 200


async def test_another_workspaces_key_does_not_exist(alice: Client, charlie: Client):
    made = await _make(alice)
    row = next(row for row in await _listed(alice) if row["key_id"] == made["key_id"])
    for key_id in (made["key_id"], row["id"]):
        assert (await charlie.delete(f"{KEYS}/{key_id}")).status == 404
        assert (await charlie.post(f"{KEYS}/{key_id}/rotate", {"duration_days": 1})).status == 404
    assert (await _as(alice, made).get("/v1/auth/me")).status == 200
    assert (await _as(charlie, made).get("/v1/{ws}/integrations")).status == 404


async def test_a_persons_key_says_whose_it_is(alice: Client):
    person = await _person(alice)
    made = await _make(alice, person_id=person["id"])
    mine = _as(alice, made)
    assert (await mine.get("/v1/auth/me")).json["person_id"] == person["id"]
    child = await _make(await alice.key_with("owner"), person_id=person["id"], name="second")
    names = {row["name"] for row in await _listed(alice, "mine_only=false")}
    assert "second" in names
    assert child["created_by_entity_id"] is None


async def test_a_persons_key_outranks_neither_person_nor_maker(alice: Client):
    person = await _person(alice, "viewer")
    body = {"duration_days": 1, "person_id": person["id"]}
    assert (await alice.post(KEYS, body | {"role": "member"})).status == 403
    assert (await alice.post(KEYS, body | {"role": "viewer", "permissions": ["*"]})).status == 403
    assert (await alice.post(KEYS, body | {"role": "viewer"})).status == 201


async def test_another_workspaces_person_is_nobody(alice: Client, charlie: Client):
    person = await _person(charlie)
    _refused(await alice.post(KEYS, {"duration_days": 1, "person_id": person["id"]}), "person_id")


async def test_people_come_and_go(alice: Client):
    person = await _person(alice, email="  Bob@Example.COM ".strip())
    assert (person["email"], person["role"]) == ("bob@example.com", "member")
    path = f"/v1/{{ws}}/people/{person['id']}"
    assert (await alice.get(path)).json == person
    assert (await alice.put(path, {"role": "ADMIN"})).json == person | {"role": "admin"}
    assert (await alice.get("/v1/{ws}/people")).json["items"] == [person | {"role": "admin"}]
    assert (await alice.delete(path)).status == 204
    for reply in (await alice.get(path), await alice.delete(path), await alice.put(path, {"role": "viewer"})):
        assert (reply.status, reply.json["detail"]) == (404, "Person not found")


async def test_somebody_is_added_once_in_whatever_letters(alice: Client, charlie: Client):
    person = await _person(alice, email="bob@example.com")
    again = await alice.post("/v1/{ws}/people", {"email": "BOB@example.com", "name": "B", "role": "viewer"})
    assert (again.status, again.json["error_code"]) == (409, "conflict")
    assert (await _person(charlie, email="bob@example.com"))["id"] == person["id"]


async def test_somebody_added_twice_at_once_is_there_once(alice: Client):
    body = {"email": "bob@example.com", "name": "Bob"}
    replies = await asyncio.gather(*(alice.post("/v1/{ws}/people", body) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409]
    assert (await alice.get("/v1/{ws}/people")).json["total"] == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a b@example.com"}, "email"),
        ({"email": "a\0@example.com"}, "email"),
        ({"email": "a@" + "x" * 400}, "email"),
        ({"email": "a@" + "\u0130" * 250}, "email"),
        ({"name": ""}, "name"),
        ({"name": "\0"}, "name"),
        ({"role": "king"}, "role"),
        ({"role": None}, "role"),
    ],
)
async def test_a_person_who_makes_no_sense_is_refused(alice: Client, changes: Any, field: str):
    body = {"email": "bob@example.com", "name": "Bob", **changes}
    _refused(await alice.post("/v1/{ws}/people", body), field)


async def test_nobody_gives_or_takes_a_role_above_his_own(alice: Client):
    admin = await alice.key_with("admin")
    owner = await _person(alice, "owner", "o@example.com")
    other = await _person(alice, "member", "m@example.com")
    assert (await admin.put(f"/v1/{{ws}}/people/{owner['id']}", {"role": "viewer"})).status == 403
    assert (await admin.delete(f"/v1/{{ws}}/people/{owner['id']}")).status == 403
    assert (await admin.put(f"/v1/{{ws}}/people/{other['id']}", {"role": "owner"})).status == 403
    new = {"email": "n@example.com", "name": "N", "role": "owner"}
    assert (await admin.post("/v1/{ws}/people", new)).status == 403
    assert (await admin.put(f"/v1/{{ws}}/people/{other['id']}", {"role": "admin"})).status == 200


async def test_nobody_gives_a_role_that_may_do_what_he_may_not(alice: Client):
    person = await _person(alice, "viewer")
    narrow = await alice.key_with("owner", ["Person.*"])
    reply = await narrow.put(f"/v1/{{ws}}/people/{person['id']}", {"role": "owner"})
    assert (reply.status, reply.json["error_code"]) == (403, "forbidden")
    new = {"email": "n@example.com", "name": "N", "role": "admin"}
    assert (await narrow.post("/v1/{ws}/people", new)).status == 403


async def test_anothers_people_do_not_exist(alice: Client, charlie: Client):
    person = await _person(alice)
    path = f"/v1/{{ws}}/people/{person['id']}"
    assert (await charlie.get(path)).status == 404
    assert (await charlie.put(path, {"role": "viewer"})).status == 404
    assert (await charlie.delete(path)).status == 404


async def test_a_new_workspace_has_an_owner_of_its_own(alice: Client):
    made = await alice.post("/v1/workspaces", {"name": "Second"})
    assert made.status == 201
    second = replace(alice, key=made.json["api_key"], workspace_id=made.json["id"])
    assert (await second.get("/v1/{ws}")).json["name"] == "Second"
    assert (await second.get("/v1/auth/me")).json["role"] == "owner"
    assert (await alice.get(f"/v1/{made.json['id']}")).status == 404
