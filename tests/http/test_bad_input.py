"""Input that is wrong on purpose: refused by name, in bounded time, never with a 500.

What is refused before anything is stored is refused alike on both databases: SQLite will do here. What a database
may judge is `test_limits_of_storage`'s.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from http_asgi import Client, Reply
from test_stranger import BODIES, ROUTES
from trunkline.settings import Settings

WITH_BODY = [route for route in ROUTES if route.plan.body]
LIMIT = 1024 * 1024
CREATE = "/v1/{ws}/integrations"
VALID = {"name": "ops", "display_name": "Ops"}
SECONDS = 4.0  # far above what any of this takes on a busy machine, far below what it would take unbounded
HUGE = "9" * 10_000
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture
def database_settings(fresh_sqlite, settings: Settings) -> Settings:
    return fresh_sqlite(settings)


@pytest.fixture(autouse=True)
async def in_bounded_time() -> AsyncIterator[None]:
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < SECONDS * 2


def _locs(reply: Reply) -> list[list[str | int]]:
    assert reply.status in {413, 422}, (reply.status, reply.text[:500])
    assert isinstance(reply.json["detail"], list), reply.text[:500]
    assert len(reply.body) < 64 * 1024
    return [fault["loc"] for fault in reply.json["detail"]]


async def _paths(alice: Client, endpoint) -> dict[str, str]:
    made = await alice.integration(name="target", endpoints=[endpoint()])
    key = (await alice.post("/v1/{ws}/api-keys", {"duration_days": 9})).json
    person = (await alice.post("/v1/{ws}/people", {"email": "b@example.com", "name": "Bob"})).json
    things = (
        {
            "workspace_id": alice.workspace_id,
            "integration_id": made["id"],
            "endpoint_name": "things",
            "key_id": key["key_id"],
            "person_id": person["id"],
            "route_id": await _route(alice),
        }
        | dict.fromkeys(("dataset_id", "upload_id", "run_id"), str(UUID(int=0)))
        | {"number": "1"}
    )
    return {route.operation_id or "": route.path.format(**things) for route in WITH_BODY}


async def _route(alice: Client) -> str:
    target = {"type": "webhook", "url": "https://hooks.example"}
    made = await alice.post("/v1/{ws}/routes", {"event_type": "*", "target": target})
    return str(made.json["id"])


async def _send_to_all(alice: Client, endpoint, raw: bytes) -> AsyncIterator[tuple[str, Reply]]:
    paths = await _paths(alice, endpoint)
    for route in WITH_BODY:
        if route.plan.is_body_optional and raw in {b"", b"null"}:
            continue
        name = route.operation_id or ""
        yield name, await alice.send(min(route.methods), paths[name], raw=raw)


BROKEN = {
    "empty": b"",
    "space": b"  \n",
    "words": b"hello",
    "half": b'{"name": "o',
    "two values": b"{} {}",
    "trailing comma": b'{"name": "ops",}',
    "single quotes": b"{'name': 'ops'}",
    "comment": b'{"name": "ops" /* hi */}',
    "nan": b'{"duration_days": NaN, "params": NaN}',
    "infinity": b'{"duration_days": -Infinity, "params": Infinity}',
    "deep": DEEP,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "half deep": b"[" * 100_000,
    "sixty-six deep": b'{"params":' * 66 + b"1" + b"}" * 66,
    "huge integer": b'{"duration_days": ' + HUGE.encode() + b"}",
    "huge float": b'{"duration_days": 1e999999}',
    "lone surrogate": b'{"name": "\\ud800", "params": "\\udfff"}',
    "raw surrogate": b'{"name": "\xed\xa0\x80"}',
    "latin-1": '{"name": "größe"}'.encode("latin-1"),
    "utf-16": '{"name": "ops"}'.encode("utf-16"),
    "utf-32": '{"name": "ops"}'.encode("utf-32"),
    "raw nul": b'{"name": "\x00"}',
    "all nul": b"\0" * 1000,
    "raw newline": b'{"name": "a\nb"}',
    "form": b"name=ops&display_name=Ops",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_body_that_is_no_json_is_refused_by_every_route(alice: Client, endpoint, kind: str):
    async for name, reply in _send_to_all(alice, endpoint, BROKEN[kind]):
        assert reply.status == 422, (name, reply.text[:200])
        assert all(loc[0] == "body" for loc in _locs(reply)), name


@pytest.mark.parametrize("value", [[], [{}], "text", 1, 1.5, True, None, [[]]], ids=repr)
async def test_a_body_that_is_no_object_is_refused_by_every_route(alice: Client, endpoint, value: Any):
    async for name, reply in _send_to_all(alice, endpoint, json.dumps(value).encode()):
        assert _locs(reply) == [["body"]], name


async def test_a_body_over_the_limit_is_refused_by_every_route(alice: Client, endpoint):
    async for name, reply in _send_to_all(alice, endpoint, b'{"a": "' + b"x" * LIMIT + b'"}'):
        if name != "create-upload":  # it takes files, and has a limit of its own
            assert (reply.status, _locs(reply)) == (413, [["body"]]), name


async def test_a_body_just_within_the_limit_is_read(alice: Client):
    body = json.dumps(VALID | {"ignored": ""}).encode()
    raw = body.replace(b'"ignored": ""', b'"ignored": "' + b"x" * (LIMIT - len(body)) + b'"')
    assert len(raw) == LIMIT
    assert (await alice.send("POST", CREATE, raw=raw)).status == 201


@pytest.mark.parametrize("declared", ["9" * 5000, "-1", "abc", str(2**70), "1e3", "\u0663"])
async def test_a_length_that_is_declared_wrongly_does_no_harm(alice: Client, declared: str):
    sent = declared.encode("utf-8").decode("latin-1")
    reply = await alice.send("POST", CREATE, VALID, content_length=sent)
    assert reply.status in {201, 413}


async def test_a_byte_order_mark_is_read_or_refused(alice: Client):
    reply = await alice.send("POST", CREATE, raw=b"\xef\xbb\xbf" + json.dumps(VALID).encode())
    assert reply.status in {201, 422}


async def test_of_duplicate_keys_the_last_counts(alice: Client):
    raw = b'{"name": "one", "display_name": "Ops", "name": "two"}'
    assert (await alice.send("POST", CREATE, raw=raw)).json["name"] == "two"


async def test_unknown_fields_are_ignored_but_in_auth(alice: Client, endpoint):
    body = VALID | {"color": "red", "endpoints": [endpoint(color="red", retry_config={"color": 1})]}
    assert (await alice.post(CREATE, body)).status == 201
    auth = {"type": "bearer_token", "bearer_token_ssm_param_path": "/x"}
    reply = await alice.post(CREATE, VALID | {"name": "other", "auth": auth})
    assert _locs(reply) == [["body", "auth", "bearer_token_ssm_param_path"]]
    assert reply.json["detail"][0]["type"] == "extra_forbidden"


FIELDS = [
    ({"name": "o"}, ["name"]),
    ({"name": "o" * 129}, ["name"]),
    ({"name": "Ops"}, ["name"]),
    ({"name": "-ops"}, ["name"]),
    ({"name": "a b"}, ["name"]),
    ({"name": "größe"}, ["name"]),
    ({"name": "ops\n"}, ["name"]),
    ({"name": "a\0b"}, ["name"]),
    ({"name": None}, ["name"]),
    ({"name": 12}, ["name"]),
    ({"display_name": ""}, ["display_name"]),
    ({"display_name": "x" * 257}, ["display_name"]),
    ({"display_name": "a\0"}, ["display_name"]),
    ({"protocol": "desktop"}, ["protocol"]),
    ({"protocol": None}, ["protocol"]),
    ({"enabled": "perhaps"}, ["enabled"]),
    ({"enabled": None}, ["enabled"]),
    ({"endpoints": {}}, ["endpoints"]),
    ({"endpoints": None}, ["endpoints"]),
    ({"endpoints": [1]}, ["endpoints", 0]),
    ({"connector": "nothing"}, ["connector"]),
    ({"connector": "../../etc/passwd"}, ["connector"]),
    ({"connector": "\0"}, ["connector"]),
    ({"connector": "x" * 65}, ["connector"]),
    ({"config": {"a": "b"}}, ["config", "a"]),
    ({"config": {"a": 1}}, ["config", "a"]),
    ({"credentials": {"values": {"password": "x"}}}, ["credentials"]),
    ({"credentials": {"secret": "x"}}, ["credentials", "secret"]),
    ({"auth": {}}, ["auth", "type"]),
    ({"auth": []}, ["auth"]),
    ({"auth": {"type": "magic"}}, ["auth", "type"]),
    ({"auth": {"type": "bearer_token", "bearer_token_value": "x"}}, ["auth", "bearer_token_value"]),
    (
        {"auth": {"type": "bearer_token", "bearer_token_value": {"value": ""}}},
        ["auth", "bearer_token_value", "value"],
    ),
    (
        {"auth": {"type": "bearer_token", "bearer_token_value": {"value": "x" * 8193}}},
        ["auth", "bearer_token_value", "value"],
    ),
    ({"auth": {"type": "oauth2_client_credentials", "token_url": "ftp://x"}}, ["auth", "token_url"]),
    ({"auth": {"type": "bearer_token_exchange", "exchange_url": "x" * 2049}}, ["auth", "exchange_url"]),
    (
        {"auth": {"type": "bearer_token_exchange", "exchange_secret_header": "a b"}},
        ["auth", "exchange_secret_header"],
    ),
    (
        {"auth": {"type": "bearer_token_exchange", "exchange_secret_header": "X-A\n"}},
        ["auth", "exchange_secret_header"],
    ),
    (
        {"auth": {"type": "bearer_token_exchange", "exchange_secret_format": "no place"}},
        ["auth", "exchange_secret_format"],
    ),
    (
        {"auth": {"type": "bearer_token_exchange", "exchange_default_ttl_seconds": 119}},
        ["auth", "exchange_default_ttl_seconds"],
    ),
    ({"auth": {"type": "bearer_token", "token_lifetime_seconds": 1e300}}, ["auth", "token_lifetime_seconds"]),
]


@pytest.mark.parametrize(("changes", "loc"), FIELDS)
async def test_a_field_at_fault_is_named(alice: Client, changes: dict[str, Any], loc: list[Any]):
    assert ["body", *loc] in _locs(await alice.post(CREATE, VALID | changes))


ENDPOINT_FIELDS = [
    ({"name": ""}, ["name"]),
    ({"name": "a/b"}, ["name"]),
    ({"name": "a\0"}, ["name"]),
    ({"name": "x" * 129}, ["name"]),
    ({"description": None}, ["description"]),
    ({"method": "get"}, ["method"]),
    ({"method": "TRACE"}, ["method"]),
    ({"path": "//evil.example/x"}, ["path"]),
    ({"path": "https://evil.example/x"}, ["path"]),
    ({"path": "/../admin"}, ["path"]),
    ({"path": "/%2e%2e/admin"}, ["path"]),
    ({"path": "/a\\b"}, ["path"]),
    ({"path": "/a#b"}, ["path"]),
    ({"path": "/a\r\nHost: evil"}, ["path"]),
    ({"path": "/{"}, ["path"]),
    ({"path": "/{}"}, ["path"]),
    ({"path": "/{a b}"}, ["path"]),
    ({"path": "/{{id}}"}, ["path"]),
    ({"path": "/" + "x" * 2048}, ["path"]),
    ({"path": "/" + "{a}" * 5000}, ["path"]),
    ({"headers": {"Host": "evil.example"}}, ["headers", "Host"]),
    ({"headers": {"content-length": "5"}}, ["headers", "content-length"]),
    ({"headers": {"Transfer-Encoding": "chunked"}}, ["headers", "Transfer-Encoding"]),
    ({"headers": {"X-A": "a\r\nX-B: b"}}, ["headers", "X-A"]),
    ({"headers": {"X-A": "a\0"}}, ["headers", "X-A"]),
    ({"headers": {"X A": "a"}}, ["headers", "X A"]),
    ({"headers": {"": "a"}}, ["headers", ""]),
    ({"headers": {"X-A": "x" * 8193}}, ["headers", "X-A"]),
    ({"headers": {f"X-{number}": "a" for number in range(60)}}, ["headers"]),
    ({"headers": {"X-A": 1}}, ["headers", "X-A"]),
    ({"body_format": "xml"}, ["body_format"]),
    ({"max_result_length": -1}, ["max_result_length"]),
    ({"max_result_length": 1e300}, ["max_result_length"]),
    ({"retry_config": {"max_retries": -1}}, ["retry_config", "max_retries"]),
    ({"retry_config": {"max_retries": 10**9}}, ["retry_config", "max_retries"]),
    ({"retry_config": {"retry_on_status": [99]}}, ["retry_config", "retry_on_status", 0]),
    ({"retry_config": {"retry_on_status": [503] * 501}}, ["retry_config", "retry_on_status"]),
    ({"request_transform": {"inject": {str(n): "x" for n in range(21)}}}, ["request_transform", "inject"]),
    ({"request_transform": {"wrap_params_key": "x" * 129}}, ["request_transform", "wrap_params_key"]),
    ({"response_filter": ["a..b"]}, ["response_filter", 0]),
    ({"response_filter": ["a" * 10_000]}, ["response_filter", 0]),
    ({"response_filter": ["a." * 200 + "a"]}, ["response_filter", 0]),
    ({"response_filter": ["a"] * 1001}, ["response_filter"]),
    ({"response_mapping": {"id": "a[b]"}}, ["response_mapping", "id"]),
    ({"response_mapping": {str(n): "a" for n in range(1001)}}, ["response_mapping"]),
    ({"result_key": "a["}, ["result_key"]),
    ({"result_template": "{% for a in range(99999999) %}x{% endfor"}, ["result_template"]),
    ({"result_template": "{% include 'x' %}"}, ["result_template"]),
    ({"input_schema": {"type": 7}}, ["input_schema", "type"]),
    ({"input_schema": []}, ["input_schema"]),
]


@pytest.mark.parametrize(("changes", "loc"), ENDPOINT_FIELDS)
async def test_a_field_at_fault_of_an_endpoint_is_named(
    alice: Client, endpoint, changes: dict[str, Any], loc: list[Any]
):
    reply = await alice.post(CREATE, VALID | {"endpoints": [endpoint(name="fine"), endpoint(**changes)]})
    assert ["body", "endpoints", 1, *loc] in _locs(reply)


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


SCHEMAS: dict[str, Any] = {
    "remote": {"$ref": "https://evil.example/schema.json"},
    "file": {"$ref": "file:///etc/passwd"},
    "metadata": {"properties": {"a": {"$ref": "http://169.254.169.254/latest"}}},
    "endless": {"$ref": "#"},
    "endless in two": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "dangling": {"$ref": "#/$defs/none"},
    "doubling": {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
    },
    "deep": _nested(25),
    "large": {"properties": {f"p{n}": {"type": "string", "description": "x" * 90} for n in range(5000)}},
    "pattern": {"properties": {"a": {"pattern": "(a+"}}},
    "backtracking": {"properties": {"a": {"pattern": "^(?=(a+)+$)(?:\\1)*x$"}}},
    "big repeat": {"properties": {"a": {"pattern": "((a{1,1000}){1,1000}){1,1000}"}}},
    "wrong type": {"properties": []},
    "negative": {"properties": {"a": {"minLength": -1}}},
    "unknown draft": {"$schema": "https://evil.example/draft"},
    "array": {"type": "array"},
}


@pytest.mark.parametrize("kind", SCHEMAS)
async def test_a_hostile_schema_is_refused_by_name(alice: Client, endpoint, kind: str):
    reply = await alice.post(CREATE, VALID | {"endpoints": [endpoint(input_schema=SCHEMAS[kind])]})
    assert all(loc[:4] == ["body", "endpoints", 0, "input_schema"] for loc in _locs(reply))


TEMPLATES = [
    "{% for a in range(1000000) %}{% for b in range(1000000) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 999999999 }}",
    "{% set a = 'x' * 10000 %}{{ a ~ a ~ a ~ a }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ [1] | join('x' * 99999999) }}",
    "{" * 10_000,
    "{{" * 5000 + "}}" * 5000,
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{" + "a." * 5000 + "a}",
]


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
async def test_a_template_bomb_is_refused_or_goes_off_as_an_error(
    alice: Client, upstream, endpoint, template: str
):
    async def answer(request: Any) -> Any:
        return web.json_response({"a": "x" * 1000})

    described = endpoint(result_template=template)
    reply = await alice.post(CREATE, VALID | {"base_url": await upstream(answer), "endpoints": [described]})
    if reply.status == 201:
        path = f"{CREATE}/{reply.json['id']}/endpoints/things"
        tested = await alice.post(f"{path}/test", {})
        assert tested.status == 200
        assert len(tested.body) < 2 * LIMIT
    else:
        assert ["body", "endpoints", 0, "result_template"] in _locs(reply)


BASE_URLS = [
    "ftp://x.example",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "gopher://x.example",
    "x.example",
    "/relative",
    "//x.example",
    "http:",
    "http://",
    "http:///path",
    "https://?q",
    "https://user:pw@x.example",
    "https://x.example#frag",
    "https://x.example/a b",
    "https://x.example\n",
    " https://x.example",
    "https://x.example\\@evil.example",
    "https://x.example:99999",
    "https://x.example:0",
    "https://x.example:port",
    "https://[::1",
    "https://[nonsense]",
    "https://0x7f000001",
    "https://2130706433",
    "https://0177.0.0.1",
    "https://127.1",
    "https://x..example",
    "https://%6c%6f.example",
    "https://" + "x" * 2100,
    "https://" + "a." * 200 + "example",
    "https://x.example/\0",
    "https://x.example/\u202e",
    "HTTPS://",
    "ht\ttps://x.example",
]


@pytest.mark.parametrize("url", BASE_URLS, ids=lambda url: repr(url)[:40])
async def test_a_base_url_that_is_no_http_url_is_refused_by_name(alice: Client, url: str):
    assert _locs(await alice.post(CREATE, VALID | {"base_url": url})) == [["body", "base_url"]]
    made = await alice.integration()
    assert _locs(await alice.put(f"{CREATE}/{made['id']}", {"base_url": url})) == [["body", "base_url"]]


async def test_51_endpoints_are_too_many_and_50_are_not(alice: Client, endpoint):
    many = [endpoint(name=f"e{number}") for number in range(51)]
    assert _locs(await alice.post(CREATE, VALID | {"endpoints": many})) == [["body", "endpoints"]]
    made = await alice.integration(endpoints=many[:50])
    assert _locs(await alice.put(f"{CREATE}/{made['id']}", {"endpoints": many})) == [["body", "endpoints"]]


async def test_two_endpoints_of_one_name_are_refused(alice: Client, endpoint):
    reply = await alice.post(CREATE, VALID | {"endpoints": [endpoint(), endpoint(name="b"), endpoint()]})
    assert _locs(reply) == [["body", "endpoints", 2, "name"]]


async def test_a_secret_of_8192_characters_is_kept_and_used(alice: Client):
    auth = {"type": "bearer_token", "bearer_token_value": {"value": "x" * 8192}}
    made = await alice.integration(auth=auth)
    assert "xxx" not in json.dumps(made)


MILLION = LIMIT - 2000
FLOODS: dict[str, dict[str, Any]] = {
    "wrong headers": {"headers": {str(number): 1 for number in range(80_000)}},
    "wrong statuses": {"retry_config": {"retry_on_status": ["x"] * 200_000}},
    "wrong filters": {"response_filter": [1] * 300_000},
    "wrong mapping": {"response_mapping": {str(number): [] for number in range(80_000)}},
    "long header": {"headers": {"x" * MILLION: "a"}},
    "long placeholder": {"path": "/{" + "x" * MILLION + "}"},
    "long name": {"name": "x" * MILLION},
    "long method": {"method": "x" * MILLION},
    "long filter": {"response_filter": ["x" * MILLION]},
    "long template": {"result_template": "{{ a" + " " * MILLION + "b }}"},
    "long schema": {"input_schema": {"description": "x" * MILLION}},
    "long schema key": {"input_schema": {"properties": {"x" * MILLION: 7}}},
    "long key": {"response_mapping": {"x" * MILLION: 1}},
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_faults_is_answered_in_few_words(alice: Client, endpoint, kind: str):
    reply = await alice.post(CREATE, VALID | {"endpoints": [endpoint(**FLOODS[kind])]})
    assert all(loc[0] == "body" for loc in _locs(reply))


@pytest.mark.parametrize(
    "changes",
    [
        {"auth": {"type": "bearer_token", **{f"k{number}": 1 for number in range(70_000)}}},
        {"auth": {"type": "bearer_token", "x" * MILLION: 1}},
        {"auth": {"type": "x" * MILLION}},
        {"auth": {"type": "bearer_token", "scopes": [1] * 300_000}},
        {"config": {f"k{number}": 1 for number in range(70_000)}},
        {"config": {"x" * MILLION: "y"}},
        {"credentials": {"values": {f"k{number}": 1 for number in range(70_000)}}},
        {"credentials": {"values": {"x" * MILLION: "y"}}},
        {"credentials": {"configured": [1] * 300_000}},
        {"connector": "x" * MILLION},
        {"connector": "http", "config": {"x" * MILLION: "y"}},
        {"connector": "http", "config": {"url": "https://x"}, "credentials": {"method": "x" * MILLION}},
    ],
    ids=range(12),
)
async def test_a_flood_outside_the_endpoints_is_answered_in_few_words(alice: Client, changes: Any):
    assert all(loc[0] == "body" for loc in _locs(await alice.post(CREATE, VALID | changes)))


async def test_many_bad_bodies_at_once_leave_the_hub_answering(alice: Client):
    bad = [alice.send("POST", CREATE, raw=DEEP) for _ in range(20)]
    replies = await asyncio.gather(*bad, alice.get("/v1/auth/me"))
    assert [reply.status for reply in replies] == [422] * 20 + [200]


def test_every_route_with_a_body_is_in_here():
    assert {route.operation_id for route in WITH_BODY} <= set(BODIES)
