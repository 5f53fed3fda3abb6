"""The total of a list, which is remembered between lists, follows every write."""

from http_asgi import Client


async def _total(client: Client, query: str = "") -> tuple[int, bool]:
    page = (await client.get(f"/v1/{{ws}}/integrations?limit=1{query}")).json
    return page["total"], page["has_more"]


async def test_a_total_follows_what_is_created_changed_and_deleted(alice: Client):
    made = [await alice.integration(name=f"ops-{number}") for number in range(3)]
    assert [await _total(alice), await _total(alice)] == [(3, True)] * 2
    last = await alice.integration(name="ops-last")
    assert await _total(alice) == (4, True)
    assert await _total(alice, "&enabled=true") == (4, True)
    await alice.put(f"/v1/{{ws}}/integrations/{last['id']}", {"enabled": False})
    assert await _total(alice, "&enabled=true") == (3, True)
    for one in (last, *made[1:]):
        await alice.delete(f"/v1/{{ws}}/integrations/{one['id']}")
    assert await _total(alice) == (1, False)


async def test_totals_of_different_filters_are_kept_apart(alice: Client, charlie: Client):
    for number in range(3):
        await alice.integration(name=f"ops-{number}")
    await charlie.integration()
    await charlie.integration(name="second")
    assert await _total(alice) == (3, True)
    assert await _total(alice, "&search=ops-1") == (1, False)
    assert await _total(charlie) == (2, True)
    assert await _total(alice) == (3, True)
