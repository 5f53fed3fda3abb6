import pytest

from fake_list import FakeList, records
from trunkline.catalog.manifest import ForEach, Paging
from trunkline.errors import RemoteFailed
from trunkline.rest.children import ChildCalls
from trunkline.rest.links import next_link, same_origin
from trunkline.rest.page_styles import plain_pager
from trunkline.rest.paging import Answer, PageRequest, answer_of, pages
from trunkline.rest.trace import Trace

LIMIT = {"param": "limit", "size": 100}
STYLES = {
    "cursor": {"type": "cursor", "cursor_param": "cursor", "cursor_path": "next", "limit": LIMIT},
    "link": {"type": "link", "limit": LIMIT},
    "page": {"type": "page", "page_param": "page", "limit": LIMIT},
    "offset": {"type": "offset", "offset_param": "offset", "limit": LIMIT},
}
TOTAL = {"total_path": "total"}
MORE = {"more_path": "more"}


async def read(fetch, config, *, max_pages=1_000):
    pager = plain_pager(Paging(**config), "items")
    return [page async for page in pages(fetch, pager, max_pages=max_pages)]


def ids(pages_read):
    return [record["id"] for page in pages_read for record in page.records]


async def refusal(fetch, config, **limits):
    with pytest.raises(RemoteFailed) as caught:
        await read(fetch, config, **limits)
    assert (caught.value.kind, caught.value.retryable) == ("paging", False)
    return caught.value.message


def always(*bodies, links=()):
    """Serve the bodies one after another, the last one for ever."""
    queue = list(bodies)

    async def fetch(request):
        return Answer(
            queue.pop(0) if len(queue) > 1 else queue[0], request.url or "https://api.example/x", links
        )

    return fetch


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 1_205])
async def test_every_style_brings_every_record_once_and_in_order(style, count):
    source = FakeList(records(count))
    found = await read(getattr(source, style), STYLES[style])
    assert ids(found) == [row["id"] for row in source.rows]
    assert [page.number for page in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize(("style", "extra"), [("page", TOTAL), ("offset", TOTAL), ("offset", MORE)])
@pytest.mark.parametrize(("count", "calls"), [(0, 1), (99, 1), (100, 1), (101, 2), (1_200, 12), (1_205, 13)])
async def test_a_list_that_tells_its_end_takes_no_call_more(style, extra, count, calls):
    source = FakeList(records(count))
    assert len(ids(await read(getattr(source, style), STYLES[style] | extra))) == count
    assert len(source.asked) == calls


@pytest.mark.parametrize("style", STYLES)
async def test_a_service_that_sends_less_than_asked_loses_nothing(style):
    source = FakeList(records(205), cap=50)
    assert len(ids(await read(getattr(source, style), STYLES[style]))) == 205
    assert source.asked[0].query["limit"] == 100


async def test_without_paging_one_answer_is_all():
    source = FakeList(records(5))
    assert len(await read(always({"items": [1, 2]}), {"type": "none"})) == 1
    pager = plain_pager(None, None)
    assert pager.first().request == PageRequest()
    assert pager.read(pager.first(), Answer([1, 2])).records == [1, 2]
    assert source.asked == []


async def test_a_numbered_list_can_begin_at_any_page():
    pager = plain_pager(Paging(**STYLES["page"], first_page=0), None)
    assert pager.first().request.query == {"limit": 100, "page": 0}
    assert pager.read(pager.first(), Answer([1])).next.request.query == {"limit": 100, "page": 1}


async def test_a_page_is_fetched_only_when_it_is_wanted():
    source = FakeList(records(500))
    async for page in pages(source.offset, plain_pager(Paging(**STYLES["offset"]), "items")):
        assert len(source.asked) == page.number
        if page.number == 2:
            break
    assert len(source.asked) == 2


async def test_what_fetching_raises_passes_through():
    async def fetch(_request):
        raise RemoteFailed("away", kind="connect", retryable=True)

    with pytest.raises(RemoteFailed, match="away"):
        await read(fetch, STYLES["page"])


@pytest.mark.parametrize(
    ("config", "body", "message"),
    [
        (STYLES["cursor"], {"items": [1], "next": "same"}, "cursor that it had given before"),
        (STYLES["cursor"] | MORE, {"items": [1], "more": True}, "gave no cursor"),
        (STYLES["cursor"], {"items": [1], "next": {"a": 1}}, "no text or number"),
        (STYLES["cursor"], {"items": [1], "next": "x" * 9_000}, "no text or number"),
        (STYLES["page"], {"items": [1]}, "same page again"),
        (STYLES["offset"], {"items": [1]}, "same page again"),
        (STYLES["offset"] | MORE, {"items": [], "more": True}, "sent nothing"),
        (STYLES["page"] | MORE, {"items": [], "more": True}, "100 pages in a row brought nothing new"),
        (STYLES["page"], {"data": []}, "no list at items"),
        (STYLES["page"], {"items": "x"}, "no list at items"),
        (STYLES["page"], "text", "no list at items"),
    ],
)
async def test_a_list_that_cannot_go_on_is_told(config, body, message):
    assert message in await refusal(always(body), config)


async def test_a_list_without_end_stops_at_the_most_pages():
    async def fetch(request):
        return Answer({"items": [request.query["page"]]})

    assert "more than 7 pages" in await refusal(fetch, STYLES["page"], max_pages=7)


async def test_empty_pages_with_new_cursors_stop_too():
    async def fetch(request):
        return Answer({"items": [], "next": int(request.query.get("cursor", 0)) + 1})

    assert "brought nothing new" in await refusal(fetch, STYLES["cursor"])


async def test_a_few_empty_pages_are_no_end():
    bodies = [{"items": [], "next": "b"}, {"items": [], "next": "c"}, {"items": [{"id": 1}], "next": ""}]
    assert ids(await read(always(*bodies), STYLES["cursor"])) == [1]


async def test_a_null_list_is_an_empty_one():
    assert ids(await read(always({"items": None, "next": None}), STYLES["cursor"])) == []


@pytest.mark.parametrize("last", [None, "", False, "absent"])
async def test_a_cursor_that_is_empty_is_the_end(last):
    body = {"items": [{"id": 1}]} | ({} if last == "absent" else {"next": last})
    assert len(await read(always(body), STYLES["cursor"])) == 1


@pytest.mark.parametrize(
    "target",
    [
        *("https://evil.example/x", "http://api.example/x", "https://api.example:444/x", "//evil.example/x"),
        *("https://api.example@evil.example/x", "https://u:p@api.example/y", "javascript:x", "http://[x", ""),
    ],
)
async def test_the_next_page_is_never_at_another_origin(target):
    message = await refusal(always({"items": [1]}, links=[f"<{target}>; rel=next"]), STYLES["link"])
    assert "another origin" in message or (not target and "given before" in message)


async def test_an_address_given_before_ends_the_list_with_an_error():
    assert "given before" in await refusal(always({"items": [1]}, links=["</x?2>; rel=next"]), STYLES["link"])
    assert "given before" in await refusal(always({"items": [1]}, links=["</x>; rel=next"]), STYLES["link"])


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (['<https://a.example/2>; rel="next"'], "https://a.example/2"),
        (["</2?x=1,2;3>; rel=next"], "https://a.example/2?x=1,2;3"),
        (["<2>; REL=NEXT"], "https://a.example/b/2"),
        (['<?page=2>;rel=\'x\';title="a, <b>; rel=next", <3>;rel="prev Next"'], "https://a.example/b/3"),
        (['<1>; rel="prev", <2>; title="a \\" ; rel=next"; rel="next"'], "https://a.example/b/2"),
        (["<1>; rel=first", "<2>; rel=next"], "https://a.example/b/2"),
        (["<1>; rel=last; rel=next"], None),
        (['<1>; rel="previous"; results="false", <2>; rel="next"; results="true"'], "https://a.example/b/2"),
        (['<1>; rel="previous"; results="true", <2>; rel="next"; results="false"; cursor="0:9:0"'], None),
        (["<1>; anchor"], None),
        (["<1"], None),
        (["nonsense, <2>; rel=next"], None),
        (["<javascript:x>; rel=next"], "javascript:x"),
        (["<http://[bad>; rel=next"], "http://[bad"),
        ([", ,<2> ; rel = next"], "https://a.example/b/2"),
        ([""], None),
        ([], None),
        (["<" * 50_000], None),
        (["<a>;" + " ;x=y" * 3_000], None),
    ],
)
def test_a_link_header_is_read_as_rfc_8288_says(headers, found):
    assert next_link(headers, "https://a.example/b/1") == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://A.example/x", "https://a.example:443/y", True),
        ("http://a.example", "http://a.example:80/", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://b.example", False),
        ("https://a.example", "https://a.example@b.example", False),
        ("ftp://a.example", "ftp://a.example", False),
        ("", "", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one, other, same):
    assert same_origin(one, other) is same


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"type": "cursor", "cursor_param": "c"}, "cursor_path"),
        ({"type": "cursor", "cursor_path": "c"}, "cursor_param"),
        ({"type": "page"}, "page_param"),
        ({"type": "offset"}, "offset_param"),
        ({"type": "keyset", "limit": LIMIT}, "stream with a cursor"),
        ({"type": "cursor", "cursor_param": "c", "cursor_path": "a..b"}, "path"),
    ],
)
def test_paging_that_lacks_a_word_is_refused(config, word):
    with pytest.raises(ValueError, match=word):
        plain_pager(Paging(**config), None)


def test_an_answer_is_taken_from_a_trace():
    trace = Trace(raw_response=[1], headers={"Link": "<2>; rel=next", "X": "y"}, url="https://a.example/")
    assert answer_of(trace) == Answer([1], "https://a.example/", ["<2>; rel=next"])


def test_children_are_called_with_what_their_parents_hold():
    calls = ChildCalls(
        ForEach(stream="teams", params={"team": "{parent.id}", "site": "{config.site}/{parent.a.b}"})
    )
    parents = [{"id": 5, "a": {"b": "x"}}, {"id": 6, "a": {"b": "y"}}]
    assert list(calls.params(parents, {"site": "s"})) == [
        (parents[0], {"team": 5, "site": "s/x"}),
        (parents[1], {"team": 6, "site": "s/y"}),
    ]


def test_a_parent_without_the_field_is_told():
    calls = ChildCalls(ForEach(stream="teams", params={"team": "{parent.id}"}))
    with pytest.raises(RemoteFailed, match="'teams' cannot be followed"):
        list(calls.params([{"name": "x"}]))


def test_a_child_looks_up_nothing_but_its_parent_and_the_configuration():
    with pytest.raises(ValueError, match="secret"):
        ChildCalls(ForEach(stream="teams", params={"team": "{secret.token}"}))


@pytest.mark.parametrize("style", ["cursor", "page", "offset"])
async def test_a_page_that_says_that_it_is_the_last_is_the_last(style):
    bodies = [{"items": [1, 2], "next": "a", "done": False}, {"items": [3], "next": "b", "done": True}]
    found = await read(always(*bodies), STYLES[style] | {"last_path": "done"})
    assert [page.records for page in found] == [[1, 2], [3]]
