"""Integrations over the native wire format: create, read, change, delete, list."""

from http_asgi import Client

SECRET = "s3cr3t-value-of-alice"
AUTH = {"type": "api_key_header", "header_name": "X-Api-Key", "api_key_value": {"value": SECRET}}


async def test_what_is_created_is_what_is_read_back(alice: Client):
    made = await alice.integration(auth=AUTH)
    found = await alice.get(f"/v1/{{ws}}/integrations/{made['id']}")
    assert found.status == 200
    assert found.json == made
    assert made["auth"]["type"] == "api_key_header"
    assert SECRET not in found.text


async def test_a_name_is_taken_once_in_a_workspace(alice: Client, charlie: Client):
    await alice.integration()
    again = await alice.post("/v1/{ws}/integrations", {"name": "ops", "display_name": "Again"})
    assert (again.status, again.json["error_code"]) == (409, "conflict")
    assert again.json["detail"] == "Integration name already taken in this workspace."
    await charlie.integration()


async def test_an_update_leaves_what_it_does_not_name(alice: Client):
    made = await alice.integration(auth=AUTH)
    changed = await alice.put(
        f"/v1/{{ws}}/integrations/{made['id']}", {"display_name": "New", "name": "other"}
    )
    assert changed.status == 200
    assert changed.json == made | {"display_name": "New", "updated_at": changed.json["updated_at"]}


async def test_a_deleted_integration_is_gone(alice: Client):
    made = await alice.integration()
    path = f"/v1/{{ws}}/integrations/{made['id']}"
    gone = await alice.delete(path)
    assert (gone.status, gone.body) == (204, b"")
    assert (await alice.get(path)).json["detail"] == "Integration not found"
