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
