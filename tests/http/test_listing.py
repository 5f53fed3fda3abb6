"""Listing integrations: filters, search, order, and the way through the pages."""

import asyncio

import pytest

from http_asgi import Client, Reply
from trunkline.services import integrations

LIST = "/v1/{ws}/integrations"


async def _names(client: Client, query: str) -> list[str]:
    reply = await client.get(f"{LIST}?{query}")
    assert reply.status == 200, reply.text
    return [item["name"] for item in reply.json["items"]]


def _blamed(reply: Reply) -> list[list[str | int]]:
    assert reply.status == 422, reply.text
    return [fault["loc"] for fault in reply.json["detail"]]


@pytest.fixture
async def three(alice: Client, clock) -> None:
    """Made one second after the other: b, c, a."""
    for name, display_name in (("bb", "Zug"), ("cc", "Über 100% a_b"), ("aa", "Ärger")):
        await alice.integration(name=name, display_name=display_name, enabled=name != "cc")
        clock.advance(1)


async def test_the_newest_comes_first(alice: Client, three: None):
    assert await _names(alice, "") == ["aa", "cc", "bb"]


async def test_an_empty_list_has_a_total_of_nothing(alice: Client):
    reply = await alice.get(LIST)
    assert reply.json == {"items": [], "has_more": False, "continuation_token": None, "total": 0}


async def test_a_list_shows_what_a_look_at_each_shows(alice: Client, three: None):
    items = (await alice.get(LIST)).json["items"]
    for item in items:
        assert (await alice.get(f"{LIST}/{item['id']}")).json == item


async def test_a_list_is_of_one_workspace(alice: Client, charlie: Client, three: None):
    await charlie.integration(name="his")
    assert await _names(charlie, "") == ["his"]
    assert len(await _names(alice, "")) == 3


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("enabled=true", ["aa", "bb"]),
        ("enabled=false", ["cc"]),
        ("enabled=1", ["aa", "bb"]),
        ("protocol=rest", ["aa", "cc", "bb"]),
        ("protocol=desktop", []),
        ("protocol=nonsense", []),
        ("protocol=", []),
        ("connector=http", []),
        ("enabled=true&search=zug&protocol=rest", ["bb"]),
        ("unknown=1", ["aa", "cc", "bb"]),
    ],
)
async def test_filters_narrow_the_list(alice: Client, three: None, query: str, found: list[str]):
    assert await _names(alice, query) == found


async def test_integrations_of_a_connector_are_found_by_it(alice: Client, three: None):
    await alice.integration(name="web", connector="http", config={"url": "https://web.example"}, base_url="")
    assert await _names(alice, "connector=http") == ["web"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("AA", ["aa"]),
        ("zUG", ["bb"]),
        ("%C3%BCBER", ["cc"]),
        ("%C3%A4rger", ["aa"]),
        ("100%25", ["cc"]),
        ("%25", ["cc"]),
        ("_", ["cc"]),
        ("a_b", ["cc"]),
        ("/", []),
        ("%5C", []),
        ("'", []),
        ("%F0%9F%98%80", []),
        ("x" * 200, []),
    ],
)
async def test_search_takes_its_text_literally_and_without_case(
    alice: Client, three: None, text: str, found: list[str]
):
    assert await _names(alice, f"search={text}") == found


async def test_search_folds_letters_that_have_no_single_other_case(alice: Client):
    await alice.integration(name="street", display_name="Hauptstraße")
    assert await _names(alice, "search=HAUPTSTRASSE") == ["street"]


async def test_search_follows_a_new_display_name(alice: Client):
    made = await alice.integration(display_name="Old")
    await alice.put(f"{LIST}/{made['id']}", {"display_name": "New"})
    assert await _names(alice, "search=old") == []
    assert await _names(alice, "search=new") == ["ops"]


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("name", "aa bb cc"),
        ("+name", "aa bb cc"),
        ("%2Bname", "aa bb cc"),
        ("-name", "cc bb aa"),
        ("created_at", "bb cc aa"),
        ("-created_at", "aa cc bb"),
        ("updated_at", "bb cc aa"),
        ("-updated_at", "aa cc bb"),
        ("display_name", "bb aa cc"),
        ("-display_name", "cc aa bb"),
        ("-updated_at,%2Bname", "aa cc bb"),
        ("+name,-created_at", "aa bb cc"),
        ("", "aa cc bb"),
    ],
)
async def test_a_list_is_sorted_as_asked_on_either_database(
    alice: Client, three: None, order: str, found: str
):
    assert await _names(alice, f"sort_by={order}") == found.split()


async def test_a_second_field_decides_among_equals(alice: Client):
    for name, display_name in (("one", "B"), ("two", "A"), ("three", "B")):
        await alice.integration(name=name, display_name=display_name)
    assert await _names(alice, "sort_by=display_name,-name") == ["two", "three", "one"]
    assert await _names(alice, "sort_by=-display_name,name") == ["one", "three", "two"]


async def test_capital_letters_sort_alike_on_either_database(alice: Client):
    for name, display_name in (("one", "beta"), ("two", "Alpha"), ("three", "Zeta"), ("four", "alpha-2")):
        await alice.integration(name=name, display_name=display_name)
    assert await _names(alice, "sort_by=display_name") == ["two", "three", "four", "one"]


async def test_hyphens_in_names_sort_alike_on_either_database(alice: Client):
    for name in ("ab", "a-c", "a_b", "a0"):
        await alice.integration(name=name)
    assert await _names(alice, "sort_by=name") == ["a-c", "a0", "a_b", "ab"]


@pytest.mark.parametrize(
    "order",
    [
        "secret",
        "id",
        "search_text",
        "name;drop",
        "--name",
        "%2B-name",
        "name,",
        ",",
        "name,name",
        "-name,name",
        "NAME",
        "name desc",
        ",".join(["name"] * 5000),
        "%00name",
        "-",
    ],
)
async def test_an_order_that_does_not_exist_is_refused(alice: Client, order: str):
    assert _blamed(await alice.get(f"{LIST}?sort_by={order}")) == [["query", "sort_by"]]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "abc", "", "1.5", "9" * 5000, "null", "1e1"])
async def test_a_limit_out_of_bounds_is_refused(alice: Client, limit: str):
    assert _blamed(await alice.get(f"{LIST}?limit={limit}")) == [["query", "limit"]]


@pytest.mark.parametrize("token", ["-1", "abc", str(2**53), str(2**63), "9" * 5000, "", "1.5"])
async def test_a_token_that_nobody_handed_out_is_refused(alice: Client, token: str):
    assert _blamed(await alice.get(f"{LIST}?continuation_token={token}")) == [["query", "continuation_token"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("search=", "search"),
        ("search=" + "x" * 201, "search"),
        ("search=a%00b", "search"),
        ("protocol=%00", "protocol"),
        ("connector=%00", "connector"),
        ("enabled=maybe", "enabled"),
        ("enabled=", "enabled"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(alice: Client, query: str, field: str):
    assert _blamed(await alice.get(f"{LIST}?{query}")) == [["query", field]]


@pytest.mark.parametrize("query", ["search=%FF%FE", "search=%ED%A0%80", "%FF=1", "&&=&==", "a" * 5000])
async def test_a_query_of_odd_bytes_is_answered(alice: Client, query: str):
    assert (await alice.get(f"{LIST}?{query}")).json["total"] == 0


@pytest.mark.parametrize("limit", [1, 7, 10, 25, 100])
async def test_following_tokens_meets_each_integration_once(alice: Client, limit: int):
    await asyncio.gather(*(alice.integration(name=f"ops-{number}") for number in range(25)))
    met: list[str] = []
    token: int | None = 0
    while token is not None:
        page = (await alice.get(f"{LIST}?limit={limit}&continuation_token={token}")).json
        met += [item["name"] for item in page["items"]]
        assert page["total"] == 25
        assert page["has_more"] is (page["continuation_token"] is not None) is (len(met) < 25)
        token = page["continuation_token"]
    assert sorted(met) == sorted(f"ops-{number}" for number in range(25))


async def test_ten_come_when_no_limit_is_given(alice: Client):
    await asyncio.gather(*(alice.integration(name=f"ops-{number}") for number in range(11)))
    page = (await alice.get(LIST)).json
    assert (len(page["items"]), page["has_more"], page["continuation_token"]) == (10, True, 10)


@pytest.mark.parametrize("token", [3, 4, 2**53 - 1])
async def test_a_token_past_the_end_finds_the_end(alice: Client, three: None, token: int):
    page = (await alice.get(f"{LIST}?continuation_token={token}")).json
    assert page == {"items": [], "has_more": False, "continuation_token": None, "total": 3}


async def test_the_total_counts_what_the_filter_lets_through(alice: Client, three: None):
    page = (await alice.get(f"{LIST}?enabled=true&limit=1")).json
    assert (page["total"], page["has_more"], page["continuation_token"]) == (2, True, 1)


async def test_a_deleted_integration_is_listed_no_more(alice: Client, three: None):
    item = (await alice.get(f"{LIST}?search=zug")).json["items"][0]
    await alice.delete(f"{LIST}/{item['id']}")
    assert await _names(alice, "") == ["aa", "cc"]


def test_postgresql_sorts_texts_by_code_point_whatever_its_locale():
    order = [str(part) for part in integrations._order("-name,created_at", "postgresql")]
    assert order == [
        'integrations.name COLLATE "C" DESC',
        "integrations.created_at ASC",
        "integrations.id",
    ]
