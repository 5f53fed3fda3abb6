"""What two databases could see differently: U+0000, lengths of columns, large numbers, text of every kind."""

from typing import Any

import pytest

from http_asgi import Client, Reply

CREATE = "/v1/{ws}/integrations"
VALID = {"name": "ops", "display_name": "Ops"}


def _locs(reply: Reply) -> list[list[str | int]]:
    assert reply.status == 422, (reply.status, reply.text[:500])
    return [fault["loc"] for fault in reply.json["detail"]]


@pytest.mark.parametrize(
    ("method", "path", "body", "loc"),
    [
        ("POST", "integrations", VALID | {"name": "a\0b"}, ["body", "name"]),
        ("POST", "integrations", VALID | {"display_name": "a\0b"}, ["body", "display_name"]),
        ("POST", "integrations", VALID | {"base_url": "https://x.example/\0"}, ["body", "base_url"]),
        ("POST", "integrations", VALID | {"connector": "\0"}, ["body", "connector"]),
        ("POST", "api-keys", {"duration_days": 1, "name": "a\0"}, ["body", "name"]),
        ("POST", "api-keys", {"duration_days": 1, "role": "\0"}, ["body", "role"]),
        ("POST", "people", {"email": "a\0@example.com", "name": "A"}, ["body", "email"]),
        ("POST", "people", {"email": "a@example.com", "name": "\0"}, ["body", "name"]),
        ("GET", "integrations?search=%00", None, ["query", "search"]),
        ("GET", "integrations?protocol=%00", None, ["query", "protocol"]),
        ("GET", "integrations?connector=a%00", None, ["query", "connector"]),
        ("GET", "integrations/%00", None, ["path", "integration_id"]),
        ("DELETE", "api-keys/%00", None, ["path", "key_id"]),
        ("GET", "people/%00", None, ["path", "person_id"]),
    ],
)
async def test_a_nul_is_refused_by_name_on_either_database(
    alice: Client, method: str, path: str, body: Any, loc: list[str]
):
    assert _locs(await alice.send(method, f"/v1/{{ws}}/{path}", body)) == [loc]


async def test_a_workspaces_name_holds_no_nul_and_256_letters(alice: Client):
    assert _locs(await alice.put("/v1/{ws}", {"name": "\0"})) == [["body", "name"]]
    assert _locs(await alice.post("/v1/workspaces", {"name": "\0"})) == [["body", "name"]]
    assert _locs(await alice.put("/v1/{ws}", {"name": "x" * 257})) == [["body", "name"]]
    assert (await alice.put("/v1/{ws}", {"name": "\u00e9" * 256})).json["name"] == "\u00e9" * 256


async def test_an_address_that_grows_in_lower_case_fits_or_is_refused(alice: Client):
    long = {"email": "a@" + "\u0130" * 250, "name": "A"}
    assert _locs(await alice.post("/v1/{ws}/people", long)) == [["body", "email"]]
    fits = {"email": "a" * 64 + "@" + "b" * 255, "name": "A"}
    assert (await alice.post("/v1/{ws}/people", fits)).status == 201


async def test_values_at_their_limits_fit_on_either_database(alice: Client):
    made = await alice.integration(
        name="o" * 128, display_name="\U0001f600" * 256, base_url="https://x.example/" + "y" * 2029
    )
    assert (len(made["name"]), len(made["display_name"]), len(made["base_url"])) == (128, 256, 2047)
    assert (await alice.get(f"{CREATE}/{made['id']}")).json == made


async def test_numbers_at_their_limits_come_back_as_they_went(alice: Client, endpoint):
    schema = {"properties": {"a": {"maximum": 2**63, "minimum": -(2**63), "multipleOf": 0.1}}}
    entry = endpoint(max_result_length=2**63 - 1, input_schema=schema)
    made = await alice.integration(endpoints=[entry])
    found = (await alice.get(f"{CREATE}/{made['id']}")).json["endpoints"][0]
    assert (found["max_result_length"], found["input_schema"]) == (2**63 - 1, schema)


async def test_text_of_every_kind_comes_back_as_it_went(alice: Client, endpoint):
    text = "\0\x01\x7f\u2028\ufeff\uffff😀é"
    made = await alice.integration(endpoints=[endpoint(description=text)], display_name=text[1:])
    found = (await alice.get(f"{CREATE}/{made['id']}")).json
    assert (found["endpoints"][0]["description"], found["display_name"]) == (text, text[1:])
