"""A list that another process goes on with, where the last one wrote down that it was."""

import orjson
import pytest

from fake_list import FakeList, records
from trunkline.catalog.manifest import Paging
from trunkline.rest.keyset import KeysetPager
from trunkline.rest.page_styles import plain_pager
from trunkline.rest.paging import Answer, pack, pages, unpack

LIMIT = {"limit": {"param": "limit", "size": 10}}
STYLES = {
    "cursor": {"type": "cursor", "cursor_param": "cursor", "cursor_path": "next"} | LIMIT,
    "link": {"type": "link"} | LIMIT,
    "page": {"type": "page", "page_param": "page", "total_path": "total"} | LIMIT,
    "offset": {"type": "offset", "offset_param": "offset", "more_path": "more"} | LIMIT,
    "keyset": {"type": "keyset", "offset_param": "offset"} | LIMIT,
}


def pager(style):
    if style != "keyset":
        return plain_pager(Paging(**STYLES[style]), "items")
    return KeysetPager(
        Paging(**STYLES[style]),
        "items",
        key="id",
        cursor="at",
        start="",
        query_of=lambda cursor: {"since": cursor},
    )


async def read_by_many(source, style):
    """Read every page with a pager of its own, which knows no more than what was written down."""
    found, place, calls = [], pack(pager(style), pager(style).first()), 0
    while place is not None:
        reader = pager(style)
        step = unpack(reader, orjson.loads(orjson.dumps(place)))
        page = reader.read(step, await getattr(source, style)(step.request))
        found += [record["id"] for record in page.records]
        place = None if page.next is None else pack(reader, page.next)
        calls += 1
        assert calls < 100
    return found


@pytest.mark.parametrize("count", [0, 1, 10, 11, 57])
@pytest.mark.parametrize("style", STYLES)
async def test_a_list_read_by_another_process_each_page_is_whole(style, count):
    source = FakeList(records(count))
    assert set(await read_by_many(source, style)) == {row["id"] for row in source.rows}


@pytest.mark.parametrize("run", [1, 2, 9, 10, 25, 60])
async def test_runs_of_one_time_are_whole_as_well(run):
    source = FakeList(records(60, lambda number: number // run))
    found = await read_by_many(source, "keyset")
    assert set(found) == {row["id"] for row in source.rows}
    assert len(found) < 60 * 2


async def test_what_is_written_down_stays_short():
    source = FakeList(records(2_000, lambda number: number // 500))
    reader = pager("keyset")
    step = reader.first()
    for _ in range(150):
        step = reader.read(step, await source.keyset(step.request)).next
        assert len(orjson.dumps(pack(reader, step))) < 400


@pytest.mark.parametrize(
    "value", [None, 5, [], {}, {"style": "_Cursor"}, {"style": "KeysetPager", "query": {}, "memory": [1]}]
)
@pytest.mark.parametrize("style", STYLES)
def test_a_place_that_does_not_fit_begins_anew(style, value):
    assert unpack(pager(style), value) == pager(style).first()


async def test_a_record_without_a_key_among_others_is_given_out_and_not_followed():
    rows = [{"id": "a", "at": "t1"}, {"at": "t1"}, {"id": "c"}, "text", {"id": "b", "at": "t2"}]
    source = [rows, [rows[-1]]]

    async def fetch(_request):
        return Answer({"items": source.pop(0)})

    found = [
        record for page in [page async for page in pages(fetch, pager("keyset"))] for record in page.records
    ]
    assert found == [rows[0], rows[4], rows[1], rows[2], rows[3]]
