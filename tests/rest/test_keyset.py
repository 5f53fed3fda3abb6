import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_list import FakeList, records
from trunkline.catalog.manifest import Paging
from trunkline.errors import RemoteFailed
from trunkline.rest.keyset import KeysetPager
from trunkline.rest.page_styles import plain_pager
from trunkline.rest.paging import Answer, pages


def keyset(size=100, start="", **words):
    config = {"type": "keyset", "limit": {"param": "limit", "size": size}, "offset_param": "offset"} | words
    return KeysetPager(
        Paging(**config),
        "items",
        key="id",
        cursor="at",
        start=start,
        query_of=lambda cursor: {"since": cursor},
    )


async def read(source, size=100, start=""):
    return [row async for page in pages(source.keyset, keyset(size, start)) for row in page.records]


def keys(rows):
    return [row["id"] for row in rows]


SAME = {
    "all different": lambda number: number,
    "all the same": lambda _number: 7,
    "in pairs": lambda number: number // 2,
    "pages of one time": lambda number: number // 100,
    "a long run within": lambda number: min(number, 150) if number < 700 else number,
    "runs longer than a page": lambda number: number // 333,
}


@pytest.mark.parametrize("same", SAME)
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 1_205])
async def test_every_record_comes_exactly_once_whatever_times_are_shared(same, count):
    source = FakeList(records(count, SAME[same]))
    assert keys(await read(source)) == [row["id"] for row in source.rows]


@pytest.mark.parametrize("cap", [1, 2, 7, 50, 99])
@pytest.mark.parametrize("same", SAME)
async def test_a_service_that_sends_less_than_asked_loses_nothing(cap, same):
    source = FakeList(records(123, SAME[same]), cap=cap)
    assert keys(await read(source)) == [row["id"] for row in source.rows]


async def test_a_small_list_takes_two_calls():
    source = FakeList(records(5))
    await read(source)
    assert [dict(request.query) for request in source.asked] == [
        {"since": "", "limit": 100},
        {"since": "t00004", "limit": 100},
    ]


async def test_reading_goes_on_from_a_start_value_inclusively():
    source = FakeList(records(300))
    assert keys(await read(source, start="t00290")) == [f"r{number:05}" for number in range(290, 300)]


async def test_a_full_page_of_one_time_is_walked_by_offset_with_one_record_known():
    source = FakeList(records(250, lambda _number: 1))
    await read(source)
    assert [request.query.get("offset") for request in source.asked] == [None, None, 99, 198, 249]


async def test_records_edited_between_pages_are_never_lost():
    source = FakeList(records(1_205))
    for number in range(1, 12):
        source.edits[number] = lambda number=number: [
            source.edit(row, f"t9{number:02}{row % 100:02}") for row in range(number * 7, number * 7 + 5)
        ]
    rows = await read(source)
    assert set(keys(rows)) == {row["id"] for row in source.rows}
    latest = {row["id"]: row["at"] for row in rows}
    assert latest == {row["id"]: row["at"] for row in source.rows}


async def test_offset_paging_would_have_lost_them():
    source = FakeList(records(1_205))
    moved = source.rows[:5]
    source.edits[1] = lambda: source.rows.__setitem__(slice(None), source.rows[5:] + moved)
    pager = plain_pager(
        Paging(type="offset", offset_param="offset", limit={"param": "limit", "size": 100}), "items"
    )
    rows = [row async for page in pages(source.offset, pager) for row in page.records]
    assert len(set(keys(rows))) == 1_200


@pytest.mark.parametrize("moved", [1, 5, 99, 150, 400])
async def test_records_that_leave_a_run_of_one_time_take_no_other_along(moved):
    source = FakeList(records(1_205, lambda _number: 1))
    source.edits[6] = lambda: [source.edit(number, "t00002") for number in range(moved)]
    rows = await read(source)
    assert set(keys(rows)) == {row["id"] for row in source.rows}
    assert len(rows) == 1_205 + moved


async def test_a_run_that_moves_away_wholly_is_found_again():
    source = FakeList(records(350, lambda _number: 1))
    source.edits[3] = lambda: [source.edit(number, "t00002") for number in range(350)]
    assert set(keys(await read(source))) == {row["id"] for row in source.rows}


@settings(max_examples=60)
@given(
    count=st.integers(0, 40),
    times=st.lists(st.integers(0, 5), min_size=40, max_size=40),
    size=st.integers(1, 9),
    cap=st.integers(1, 9),
    edits=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 39)), max_size=6),
)
async def test_no_mix_of_times_sizes_and_edits_loses_a_record(count, times, size, cap, edits):
    source = FakeList(records(count, lambda number: times[number]), cap=cap)
    for after, number in edits:
        if number < count and min(size, cap) > 1:
            source.edits[after] = lambda number=number, after=after: source.edit(number, f"t1{after:04}")
    rows = await read(source, size)
    assert set(keys(rows)) == {row["id"] for row in source.rows}
    unseen = {row["id"] for row in source.rows if row not in rows}
    assert unseen <= {f"r{number:05}" for after, number in edits if after >= len(source.asked)}


def always(*rows):
    async def fetch(_request):
        return Answer({"items": list(rows)})

    return fetch


@pytest.mark.parametrize(
    ("fetch", "message"),
    [
        (always({"id": 1}), "no text or number at at"),
        (always({"at": 1}), "no text or number at id"),
        (always({"id": 1, "at": True}), "no text or number at at"),
        (always("text"), "no text or number at id"),
        (always({"id": 1, "at": 2}, {"id": 2, "at": 1}, {"id": 3, "at": 2}), "not in the order"),
    ],
)
async def test_records_that_cannot_be_followed_are_told(fetch, message):
    with pytest.raises(RemoteFailed, match=message) as caught:
        [page async for page in pages(fetch, keyset(2))]
    assert caught.value.kind == "paging"


async def test_a_service_that_does_not_sort_is_told():
    answers = [[5, 9], [2, 5], [5, 9]]

    async def fetch(_request):
        return Answer(
            {"items": [{"id": f"{number}{len(answers)}", "at": number} for number in answers.pop(0)]}
        )

    with pytest.raises(RemoteFailed, match="not in the order"):
        [page async for page in pages(fetch, keyset(2))]


async def test_a_service_that_heeds_no_offset_is_told():
    source = FakeList(records(300, lambda _number: 1))

    async def fetch(request):
        return await source.keyset(type(request)({**request.query, "offset": 0}))

    with pytest.raises(RemoteFailed, match="brought nothing new"):
        [page async for page in pages(fetch, keyset())]


@pytest.mark.parametrize("words", [{"limit": None}, {"offset_param": None}])
def test_keyset_needs_its_words(words):
    with pytest.raises(ValueError, match="limit and offset_param"):
        keyset(**words)
