"""People: their roles, and their keys, which never outlive or outrank them."""

import pytest

from http_asgi import Client


@pytest.fixture
async def dora(alice: Client) -> str:
    """An admin of Alice's workspace, by id."""
    made = await alice.post("/v1/{ws}/people", {"email": "Dora@Example.com", "name": "Dora", "role": "admin"})
    assert (made.status, made.json["email"]) == (201, "dora@example.com")
    return made.json["id"]


async def key_of(alice: Client, person_id: str, role: str) -> Client:
    body = {"duration_days": 1, "role": role, "person_id": person_id}
    made = await alice.post("/v1/{ws}/api-keys", body)
    assert made.status == 201, made.text
    return Client(alice.hub, made.json["api_key"], alice.workspace_id)


async def test_a_person_is_in_a_workspace_once(alice: Client, dora: str):
    again = await alice.post("/v1/{ws}/people", {"email": "dora@example.com", "name": "D"})
    assert again.status == 409


async def test_a_person_cannot_get_a_key_beyond_their_role(alice: Client, dora: str):
    body = {"duration_days": 1, "role": "owner", "person_id": dora}
    assert (await alice.post("/v1/{ws}/api-keys", body)).status == 403


async def test_keys_go_with_the_person(alice: Client, dora: str):
    key = await key_of(alice, dora, "admin")
    assert (await key.get("/v1/auth/me")).json["person_id"] == dora
    assert (await alice.delete(f"/v1/{{ws}}/people/{dora}")).status == 204
    assert (await key.get("/v1/auth/me")).status == 401
    assert (await alice.get(f"/v1/{{ws}}/people/{dora}")).status == 404


async def test_a_weaker_role_ends_the_keys_that_hold_more(alice: Client, dora: str):
    strong, weak = await key_of(alice, dora, "admin"), await key_of(alice, dora, "viewer")
    changed = await alice.put(f"/v1/{{ws}}/people/{dora}", {"role": "member"})
    assert (changed.status, changed.json["role"]) == (200, "member")
    assert (await strong.get("/v1/auth/me")).status == 401
    assert (await weak.get("/v1/auth/me")).status == 200


async def test_nobody_changes_or_removes_a_stronger_person(alice: Client, dora: str):
    await alice.put(f"/v1/{{ws}}/people/{dora}", {"role": "owner"})
    admin = await alice.key_with("admin")
    assert (await admin.put(f"/v1/{{ws}}/people/{dora}", {"role": "viewer"})).status == 403
    assert (await admin.delete(f"/v1/{{ws}}/people/{dora}")).status == 403
    assert (
        await admin.post("/v1/{ws}/people", {"email": "e@x.org", "name": "E", "role": "owner"})
    ).status == 403
