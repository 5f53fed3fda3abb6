"""The client of a hub: what it sends, how it pages, and which error each refusal becomes."""

import pytest
from cli_fake_hub import KEY, NOW_ID, WORKSPACE, FakeHub, integration

from trunkline.client import Trunkline
from trunkline.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteFailed,
    TooMany,
    TrunklineError,
    Unauthenticated,
    Unavailable,
)

LIST = "/integrations"
CALL = f"/integrations/{NOW_ID}/endpoints/list/call"


async def test_the_workspace_is_the_keys_own(fake: FakeHub) -> None:
    async with Trunkline(fake.url, KEY) as hub:
        assert await hub.workspace_id() == WORKSPACE


async def test_a_given_workspace_is_used_without_asking(fake: FakeHub) -> None:
    fake.answer("GET", LIST, [])
    async with Trunkline(fake.url, KEY, workspace_id=WORKSPACE) as hub:
        assert [item async for item in hub.integrations.all()] == []
    assert [asked.path for asked in fake.asked] == [f"/v1/{WORKSPACE}{LIST}"]


async def test_a_list_follows_continuation_tokens(fake: FakeHub) -> None:
    fake.answer("GET", LIST, [integration(f"i-{number}") for number in range(250)])
    async with Trunkline(fake.url, KEY) as hub:
        names = [item["name"] async for item in hub.integrations.all()]
    assert names == [f"i-{number}" for number in range(250)]


async def test_a_token_that_does_not_advance_ends_the_list_with_an_error(fake: FakeHub) -> None:
    fake.answer("GET", LIST, {"items": [], "has_more": True, "continuation_token": 0})
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Unavailable, match="does not advance"):
            [item async for item in hub.integrations.all()]


async def test_an_integration_is_found_by_its_exact_name_once(fake: FakeHub) -> None:
    fake.answer("GET", LIST, [integration("now-2", id="other"), integration("now")])
    fake.answer("POST", CALL, {"final_result": "ok"})
    async with Trunkline(fake.url, KEY) as hub:
        await hub.call("now", "list", {"limit": 1})
        await hub.call("now", "list", {"limit": 2})
    searches = [asked for asked in fake.asked if asked.query.get("search") == "now"]
    assert (len(searches), fake.last("POST").body) == (1, {"params": {"limit": 2}})


async def test_an_id_is_used_without_looking_it_up(fake: FakeHub) -> None:
    fake.answer("POST", CALL, {"final_result": "ok"})
    async with Trunkline(fake.url, KEY) as hub:
        await hub.call(NOW_ID, "list", trace=True)
    assert [asked.method for asked in fake.asked] == ["GET", "POST"]
    assert fake.last("POST").query == {"trace": "true"}


async def test_an_unknown_name_is_not_found(fake: FakeHub) -> None:
    fake.answer("GET", LIST, [])
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(NotFound, match="'nope'"):
            await hub.integrations.get("nope")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a?b#c", "ä"])
async def test_an_endpoint_name_cannot_leave_its_place_in_the_path(fake: FakeHub, name: str) -> None:
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(NotFound):
            await hub.call(NOW_ID, name)
    assert all(asked.path.endswith(("/call", "/me")) for asked in fake.asked)


async def test_a_deleted_integration_is_looked_up_anew(fake: FakeHub) -> None:
    fake.answer("GET", LIST, [integration("now")])
    fake.answer("DELETE", f"{LIST}/{NOW_ID}", None, 204)
    async with Trunkline(fake.url, KEY) as hub:
        await hub.integrations.delete("now")
        fake.answer("GET", LIST, [])
        with pytest.raises(NotFound):
            await hub.integrations.get("now")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (413, Invalid),
        (429, TooMany),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_a_refusal_becomes_its_error(fake: FakeHub, status: int, kind: type[TrunklineError]) -> None:
    fake.answer("GET", "/me", {"detail": "Because.", "error_code": "x"}, status)
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(kind, match="Because"):
            await hub.me()


async def test_a_validation_error_names_its_fields(fake: FakeHub) -> None:
    detail = [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"}]
    fake.answer("POST", LIST, {"detail": detail}, 422)
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Invalid, match=r"body\.name: Field required") as caught:
            await hub.integrations.create(display_name="x")
    assert (caught.value.fields[0].loc, caught.value.fields[0].type) == (("body", "name"), "missing")


async def test_too_many_tells_when_to_come_back(fake: FakeHub) -> None:
    fake.answer("GET", "/me", {"detail": "Slow down."}, 429)
    fake.headers["Retry-After"] = "7"
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(TooMany) as caught:
            await hub.me()
    assert caught.value.retry_after == 7


async def test_a_failed_call_carries_what_the_service_said(fake: FakeHub) -> None:
    body = {
        "detail": "Now answered HTTP 503",
        "error_code": "remote_failed",
        "request_id": "req_1",
        "service": "Now",
        "status": 503,
        "retryable": True,
        "retries": 2,
        "trace": {"exchanges": []},
    }
    fake.answer("POST", CALL, body, 502)
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(RemoteFailed, match="req_1") as caught:
            await hub.call(NOW_ID, "list", trace=True)
    error = caught.value
    assert (error.service, error.status, error.retryable, error.retries) == ("Now", 503, True, 2)
    assert error.trace == {"exchanges": []}


async def test_a_gateways_502_is_not_taken_for_the_services(fake: FakeHub) -> None:
    fake.answer("GET", "/me", None, 502)
    fake.raw = b"<html>Bad Gateway</html>"
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Unavailable, match="502"):
            await hub.me()


async def test_a_redirect_is_not_followed_with_the_key(fake: FakeHub) -> None:
    fake.answer("GET", "/me", None, 307)
    fake.headers["Location"] = f"{fake.url}/elsewhere"
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Unavailable, match="redirect"):
            await hub.me()
    assert len(fake.asked) == 1


@pytest.mark.parametrize("raw", [b"<html>hello</html>", b"[1]", b'"text"'])
async def test_something_else_at_the_address_is_named_as_such(fake: FakeHub, raw: bytes) -> None:
    fake.raw = raw
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Unavailable, match="hub"):
            await hub.me()


async def test_nothing_at_the_address_is_unavailable() -> None:
    async with Trunkline("http://127.0.0.1:1", KEY) as hub:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1: Connection refused"):
            await hub.me()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8700", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://[::1"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(Invalid, match="url"):
        Trunkline(url, KEY)


async def test_a_key_with_a_line_break_is_refused_before_it_is_sent(fake: FakeHub) -> None:
    with pytest.raises(Unauthenticated):
        await Trunkline(fake.url, "tl_x\r\nX-Evil: 1").__aenter__()
    assert fake.asked == []


async def test_a_value_that_json_cannot_hold_is_bad_input(fake: FakeHub) -> None:
    async with Trunkline(fake.url, KEY) as hub:
        with pytest.raises(Invalid, match="JSON"):
            await hub.call(NOW_ID, "list", {"x": object()})


async def test_a_key_without_expiry_is_asked_for_with_null(fake: FakeHub) -> None:
    fake.answer("POST", "/api-keys", {"key_id": "ak_1", "api_key": "tl_x"}, 201)
    async with Trunkline(fake.url, KEY) as hub:
        await hub.api_keys.create(duration_days=None, name="x")
    assert fake.last("POST").body == {"name": "x", "role": "member", "duration_days": None, "permissions": []}
