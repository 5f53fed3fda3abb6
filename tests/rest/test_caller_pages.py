import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.manifest import Endpoint, Manifest
from trunkline.errors import Invalid
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

ALL = [{"id": number} for number in range(25)]
MANIFEST = Manifest(id="m", name="Alerts", base_url="https://api.example")
TARGET = Target("w", "i", "Alerts", "https://api.example", manifest=MANIFEST)
OFFSET = {"type": "offset", "offset_param": "offset", "limit": {"param": "limit", "size": 10}}


def serve_by_offset(sent):
    query = dict(sent.query)
    start, size = int(query["offset"]), int(query["limit"])
    return reply(200, {"result": ALL[start : start + size]})


async def collected(clock, step, params=None, **config):
    compiled = compile_endpoint(
        Endpoint(**{"name": "list", "path": "/x", "records": "result"} | config), MANIFEST
    )
    egress = FakeEgress(step)
    caller = RestCaller(egress, clock, Settings())
    pages = [page async for page in caller.pages(TARGET, compiled, params or {}, {})]
    return pages, egress


async def test_all_records_come_page_by_page(clock):
    pages, egress = await collected(clock, serve_by_offset, {"q": "open"}, paging=OFFSET)
    assert [record for records, _ in pages for record in records] == ALL
    assert [len(records) for records, _ in pages][:3] == [10, 10, 5]
    assert all(("q", "open") in sent.query for sent in egress.sent)


async def test_a_link_to_the_next_page_is_followed_on_the_same_origin_only(clock):
    def serve(sent):
        number = int(dict(sent.query).get("page", "1"))
        onward = {1: "https://api.example/x?page=2", 2: "https://evil.example/x?page=3"}[number]
        return reply(200, {"result": [number]}, {"Link": f'<{onward}>; rel="next"'}, url=sent.url)

    pages, egress = await collected(clock, serve, paging={"type": "link"})
    assert [records for records, _ in pages] == [[1], []]
    assert pages[-1][1].error_kind == "paging"
    assert [sent.url for sent in egress.sent] == ["https://api.example/x", "https://api.example/x?page=2"]


BODY_PAGED = {
    "method": "POST",
    "body": {
        "query": "{{ list }}",
        "variables": {"first": "{first?}", "after": "{after?}", "since": "{since?}"},
    },
    "input_schema": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "first": {"type": "integer", "maximum": 10},
            "after": {"type": "string"},
            "since": {"type": "string"},
        },
    },
    "paging": {
        "type": "cursor",
        "cursor_param": "after",
        "cursor_path": "next",
        "limit": {"param": "first", "size": 10},
    },
}


def serve_by_variables(sent):
    asked = sent.json["variables"]
    end = int(asked.get("after", "0")) + asked["first"]
    rest = {"next": str(end)} if end < len(ALL) else {}
    return reply(200, {"result": ALL[end - asked["first"] : end], **rest})


async def test_a_pagers_values_go_into_the_body_where_the_body_looks_them_up(clock):
    pages, egress = await collected(clock, serve_by_variables, {"first": 3}, **BODY_PAGED)
    assert [record for records, _ in pages for record in records] == ALL
    assert [sent.json["variables"] for sent in egress.sent] == [
        {"first": 10},
        {"first": 10, "after": "10"},
        {"first": 10, "after": "20"},
    ]
    assert [sent.query for sent in egress.sent] == [[], [], []]
    assert egress.sent[0].json["query"] == "{ list }"


async def test_a_parameter_that_the_body_does_not_look_up_stays_in_the_query(clock):
    body = {"query": "{{ list }}", "variables": {"after": "{after?}", "since": "{since?}"}}
    schema = {"type": "object", "properties": {"after": {"type": "string"}, "since": {"type": "string"}}}
    config = BODY_PAGED | {"body": body, "input_schema": schema}
    _, egress = await collected(clock, reply(200, {"result": ALL}), **config)
    assert (egress.sent[0].query, egress.sent[0].json.get("variables")) == ([("first", "10")], None)


async def test_what_a_stream_adds_to_the_query_goes_into_the_body_too(clock):
    compiled = compile_endpoint(Endpoint(name="list", path="/x", records="result", **BODY_PAGED), MANIFEST)
    egress = FakeEgress(serve_by_variables)
    caller = RestCaller(egress, clock, Settings())
    async for _ in caller.pages(TARGET, compiled, {}, {}, extra_query={"since": "2026", "trace": "1"}):
        pass
    assert all(sent.json["variables"]["since"] == "2026" for sent in egress.sent)
    assert all(sent.query == [("trace", "1")] for sent in egress.sent)


async def test_a_page_size_that_the_endpoint_does_not_allow_is_refused_before_anything_is_sent(clock):
    limit = {"param": "first", "size": 11}
    with pytest.raises(Invalid):
        await collected(clock, reply(200), **BODY_PAGED | {"paging": BODY_PAGED["paging"] | {"limit": limit}})


async def test_a_page_that_fails_comes_last_with_its_error(clock):
    def serve(sent):
        return reply(400) if dict(sent.query)["offset"] == "10" else serve_by_offset(sent)

    pages, _ = await collected(clock, serve, paging=OFFSET)
    assert [(len(records), trace.error) for records, trace in pages] == [
        (10, None),
        (0, "HTTP 400 from Alerts"),
    ]


async def test_an_answer_without_a_list_is_an_error(clock):
    pages, _ = await collected(clock, reply(200, {"result": "none"}))
    assert pages[0][1].error_kind == "paging"


async def test_without_paging_there_is_one_page(clock):
    pages, _ = await collected(clock, reply(200, {"result": [1, 2]}))
    assert [records for records, _ in pages] == [[1, 2]]


async def test_a_keyset_needs_its_stream(clock):
    with pytest.raises(Invalid, match="stream"):
        await collected(clock, serve_by_offset, paging={"type": "keyset", "limit": OFFSET["limit"]})


def test_paging_that_lacks_a_word_is_refused():
    with pytest.raises(Invalid) as caught:
        compile_endpoint(Endpoint(name="e", path="/x", paging={"type": "cursor"}), MANIFEST)
    assert caught.value.fields[0].loc == ("paging",)
