"""Searching records by their words: what is found at which version, whatever is written, undone or lost, on both databases."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import App, Context, own_context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.http.server import open_app
from trunkline.services import api_keys, datasets, index, search, versions
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.records import Filters
from trunkline.services.search import Found, Search
from trunkline.services.versions import Version, to_row
from trunkline.settings import Settings

PRINTER = {"title": "Printer jams", "text": "Paper stuck in tray two", "state": "open", "floor": 3}
COFFEE = {"title": "Coffee machine", "text": "The printer is fine, the coffee is not", "state": "closed"}
NETWORK = {
    "title": "Netzwerk gestört",
    "text": "Kein Zugriff über Café-WLAN",
    "state": "open",
    "tags": ["wifi", "gäste"],
}
NO_LIMITS = {"deletes": None, "rows": None, "empty": None, "schema": False}
THINGS = {"a": PRINTER, "b": COFFEE, "c": NETWORK}


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(database_settings, clock) as opened:
        yield opened


@pytest.fixture
async def other(app: App, database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    """Another worker on the same database."""
    async with open_app(database_settings, clock) as opened:
        yield opened


@pytest.fixture
async def ctx(app: App) -> Context:
    made = await api_keys.create_workspace(app, "Alice's")
    return own_context(app, made["id"])


@pytest.fixture
async def things(ctx: Context) -> Dataset:
    return await datasets.create(ctx, Draft("things", gate=NO_LIMITS))


async def begin(ctx: Context, of: Dataset, rows: dict[str, Any]) -> Version:
    version = await ctx.app.db.write(partial(versions.begin, dataset=of.number, now=ctx.now, source="test"))
    await versions.prepare(ctx.app, of.number, version.number)
    await write(ctx, version, rows)
    return version


async def write(ctx: Context, version: Version, rows: dict[str, Any]) -> None:
    page = [to_row(key, record) for key, record in rows.items()]
    await ctx.app.db.write(
        partial(versions.write_page, dataset=version.dataset, number=version.number, rows=page)
    )


async def finish(ctx: Context, version: Version) -> Version:
    at = {"dataset": version.dataset, "number": version.number, "now": ctx.now}
    return await ctx.app.db.write(partial(versions.finish, **at))


async def make(ctx: Context, of: Dataset, rows: dict[str, Any], gone: tuple[str, ...] = ()) -> Version:
    """Make a version of a page and removals, with its index."""
    version = await begin(ctx, of, rows)
    at = {"dataset": version.dataset, "number": version.number}
    await ctx.app.db.write(partial(versions.remove, **at, keys=gone))
    await index.fill_due(ctx.app)
    assert await is_complete(ctx.app, version)
    return await finish(ctx, version)


async def is_complete(app: App, version: Version) -> bool:
    at = {"dataset": version.dataset, "version": version.number}
    return await app.db.read(partial(index.is_complete, **at))


async def find(ctx: Context, of: Dataset, text: str, **options: Any) -> Found:
    return await search.search(ctx, of.id, Search(text, **options))


async def keys(ctx: Context, of: Dataset, text: str, **options: Any) -> set[str]:
    return {hit.key for hit in (await find(ctx, of, text, **options)).items}


async def documents(app: App) -> int:
    """Count what is in the index."""
    table = "record_words_docsize" if app.db.dialect == "sqlite" else "record_words"
    return await app.db.read(lambda conn: conn.scalar(sa.text(f"SELECT count(*) FROM {table}")))


async def test_a_hit_has_its_record_version_score_and_marks(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    found = await find(ctx, things, "coffee printer")
    (hit,) = found.items
    assert (hit.key, hit.version, hit.since, hit.record) == ("b", 1, 1, COFFEE)
    assert hit.score > 0
    marks = "The <mark>printer</mark> is fine, the <mark>coffee</mark> is not"
    assert {"field": "text", "text": marks} in hit.highlights
    assert (found.version, found.more, found.total) == (1, False, 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("printer", {"a", "b"}),
        ("PRINTER paper", {"a"}),
        ('"printer is fine"', {"b"}),
        ('"fine printer"', set()),
        ("prin*", {"a", "b"}),
        ("prin", set()),
        ("3", {"a"}),
        ("title", set()),
        ("gestort CAFE", {"c"}),
        ("café-wlan", {"c"}),
        ("Gaste", {"c"}),
        ("printer AND NOT coffee", set()),
    ],
)
async def test_words_phrases_and_beginnings_are_found_in_whatever_form(
    ctx: Context, things: Dataset, text: str, wanted: set[str]
) -> None:
    await make(ctx, things, THINGS)
    assert await keys(ctx, things, text) == wanted


async def test_any_word_will_do_if_so_wanted_and_the_rare_one_counts_more(
    ctx: Context, things: Dataset
) -> None:
    rows = {f"k{number}": {"text": "common stuff"} for number in range(400)}
    await make(ctx, things, rows | {"old": {"text": "common needle stuff"}})
    await make(ctx, things, {f"m{number}": {"text": "common stuff, newer"} for number in range(1_200)})
    assert await keys(ctx, things, "common needle nothing") == set()
    found = await find(ctx, things, "common needle nothing", any_word=True)
    assert found.items[0].key == "old"
    assert (len(found.items), found.more, found.total) == (10, True, None)


async def test_filters_leave_only_records_with_these_values(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    assert await keys(ctx, things, "printer", filters=Filters({"state": "open"})) == {"a"}
    assert await keys(ctx, things, "printer", filters=Filters({"floor": "3"})) == {"a"}
    assert await keys(ctx, things, "cafe", filters=Filters({"tags[]": "wifi", "state": "open"})) == {"c"}
    assert await keys(ctx, things, "cafe", filters=Filters({"state": "closed"})) == set()


async def test_pages_follow_each_other_without_gap_or_repeat(ctx: Context, things: Dataset) -> None:
    rows = {
        f"k{number}": {"text": "word " * (number % 7 + 1), "odd": str(number % 2)} for number in range(95)
    }
    await make(ctx, things, rows)
    for filters in (None, Filters({"odd": "1"})):
        seen: list[str] = []
        found = await find(ctx, things, "word", limit=20, filters=filters)
        while True:
            seen += [hit.key for hit in found.items]
            if not found.more:
                break
            found = await find(ctx, things, "word", limit=20, offset=len(seen), filters=filters)
        assert len(seen) == len(set(seen)) == (95 if filters is None else 47)
        assert found.total == (95 if filters is None else None)


async def test_every_version_is_searched_as_it_was(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await make(ctx, things, {"a": PRINTER | {"title": "Scanner"}, "d": {"text": "new printer"}}, gone=("b",))
    assert await keys(ctx, things, "printer") == {"d"}
    assert await keys(ctx, things, "scanner") == {"a"}
    assert await keys(ctx, things, "printer", version=1) == {"a", "b"}
    assert await keys(ctx, things, "scanner", version=1) == set()
    (hit,) = (await find(ctx, things, "cafe", version=2)).items
    assert (hit.version, hit.since) == (2, 1)


async def test_after_a_roll_back_the_older_records_are_found(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await make(ctx, things, {"a": {"text": "scanner"}})
    await versions.roll_back(ctx, things.id, 1)
    assert await keys(ctx, things, "printer") == {"a", "b"}
    await make(ctx, things, {"e": {"text": "another scanner"}})
    assert await keys(ctx, things, "printer") == {"a", "b"}
    assert await keys(ctx, things, "scanner") == {"e"}


async def test_what_is_being_made_is_seen_by_nobody(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    version = await begin(ctx, things, {"a": {"text": "scanner"}})
    assert not await is_complete(ctx.app, version)
    await index.fill_due(ctx.app)
    assert await is_complete(ctx.app, version)
    assert await keys(ctx, things, "scanner") == set()
    assert await keys(ctx, things, "printer") == {"a", "b"}
    with pytest.raises(Conflict):
        await keys(ctx, things, "scanner", version=version.number)
    await write(ctx, version, {"f": {"text": "late"}})
    assert not await is_complete(ctx.app, version)


async def test_a_record_written_twice_in_one_version_is_found_by_its_last_words(
    ctx: Context, things: Dataset
) -> None:
    version = await begin(ctx, things, {"a": {"text": "first"}})
    await index.fill_due(ctx.app)
    await write(ctx, version, {"a": {"text": "second"}})
    await index.fill_due(ctx.app)
    await finish(ctx, version)
    assert await keys(ctx, things, "first") == set()
    assert await keys(ctx, things, "second") == {"a"}
    assert await documents(ctx.app) == 1


async def test_what_is_undone_leaves_nothing_in_the_index(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    version = await begin(ctx, things, {f"k{number}": {"text": f"gone {number}"} for number in range(600)})
    await index.fill_due(ctx.app)
    assert await documents(ctx.app) == 603
    await versions.undo(ctx.app, things.number, version.number, "changed my mind")
    assert await documents(ctx.app) == 3
    await make(ctx, things, {"n": {"text": "next"}})
    assert await keys(ctx, things, "next") == {"n"}
    assert await keys(ctx, things, "gone") == set()


async def test_rows_deleted_while_they_are_filled_in_never_arrive(ctx: Context, things: Dataset) -> None:
    version = await begin(ctx, things, THINGS)
    (work,) = await ctx.app.db.read(index._waiting)
    await ctx.app.db.write(partial(index._begin, work=work))
    work = work._replace(position=0, turn=0)
    batch = await ctx.app.db.read(partial(index._read, work=work))
    await versions.undo(ctx.app, things.number, version.number, "meanwhile")
    store = partial(index._store, work=work, batch=batch)
    assert await ctx.app.db.write(store) is False
    assert await documents(ctx.app) == 0


async def test_two_workers_put_every_row_in_once(ctx: Context, things: Dataset, other: App) -> None:
    version = await begin(ctx, things, {f"k{number}": {"text": f"word {number}"} for number in range(1_100)})
    (work,) = await other.db.read(index._waiting)
    await index.fill_due(ctx.app)
    stale = partial(
        index._store, work=work._replace(turn=0, position=0), batch=index._Batch([(1, "x")], is_last=True)
    )
    assert await other.db.write(stale) is False
    await index.fill_due(other)
    assert await is_complete(other, version)
    assert await documents(other) == 1_100


async def test_a_deleted_dataset_leaves_nothing(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await datasets.delete(ctx, things.id)
    assert await documents(ctx.app) == 0
    with pytest.raises(NotFound):
        await find(ctx, things, "printer")


async def test_a_lost_index_is_filled_anew_by_the_next_process(
    ctx: Context, things: Dataset, other: App
) -> None:
    await make(ctx, things, THINGS)
    await make(ctx, things, {"a": {"text": "scanner"}})
    await ctx.app.db.write(lambda conn: conn.exec_driver_sql("DROP TABLE record_words"))
    await index.fill_due(other)
    assert await keys(ctx, things, "scanner") == {"a"}
    assert await keys(ctx, things, "printer", version=1) == {"a", "b"}
    await index.rebuild(other)
    assert await keys(ctx, things, "scanner") == set()
    await index.fill_due(other)
    assert await keys(ctx, things, "scanner") == {"a"}
    assert await documents(other) == 4


async def test_filling_tells_those_who_wait_for_it(ctx: Context, things: Dataset) -> None:
    await begin(ctx, things, THINGS)
    rung = ctx.app.bells.index.rung
    await index.fill_due(ctx.app)
    assert ctx.app.bells.index.rung > rung
    rung = ctx.app.bells.index.rung
    await index.fill_due(ctx.app)
    assert ctx.app.bells.index.rung == rung


async def test_no_dataset_finds_what_another_has(ctx: Context, things: Dataset) -> None:
    others = await datasets.create(ctx, Draft("others", gate=NO_LIMITS))
    await make(ctx, things, THINGS)
    await make(ctx, others, {"z": {"text": "printer #1 @13.0"}})
    assert await keys(ctx, things, "printer") == {"a", "b"}
    assert await keys(ctx, others, "printer") == {"z"}


NASTY = {
    "nul": {"text": "zero\0byte needle"},
    "long": {"text": "w" * 5_000 + " needle"},
    "sql": {"text": "'; DROP TABLE records; -- \\ needle:* <-> 'x':1A"},
    "many": {"text": " ".join(["needle"] * 6_000)},
    "signs": {"text": "服务器故障 needle かな 😀"},
    "numbers": {"a": 1e308, "b": 2**63, "c": -0.5, "d": "needle"},
    "list": {"steps": [["needle", [["deep"]]]]},
    "huge": {"text": "needle " + "x y " * 400_000},
    "empty": {},
}


async def test_records_of_every_kind_go_in_are_found_and_come_out(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, NASTY)
    assert await keys(ctx, things, "needle", limit=20) == NASTY.keys() - {"empty"}
    assert await keys(ctx, things, '"zero byte"') == {"nul"}
    assert await keys(ctx, things, "服务器") == {"signs"}
    assert await keys(ctx, things, "故障 器") == {"signs"}
    await make(ctx, things, {}, gone=tuple(NASTY))
    await make(ctx, things, {"a": PRINTER})
    for number in (1, 2):
        await versions.archive(ctx, things.id, number)
    assert await documents(ctx.app) == 1


@pytest.mark.parametrize("any_word", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        'NEAR("a b") OR title:^xy* AND NOT {b c}',
        '"""" " \' \\\' $$ ; -- needle',
        "needle'); SELECT 1; --",
        "!!(((&|| <0> needle:*A",
        '"needle',
        "needle\0needle",
        "ne* nee* need",
        " ".join(f"w{number}" for number in range(32)),
        "\ud800 needle",
        "w" * 255,
    ],
)
async def test_hostile_searches_are_answered_like_any_other(
    ctx: Context, things: Dataset, text: str, any_word: bool
) -> None:
    await make(ctx, things, NASTY)
    assert (await find(ctx, things, text, any_word=any_word)).version == 1


async def test_what_cannot_be_searched_for_is_refused_by_name(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    for text in ("", "???", "x " * 50_000, " ".join(map(str, range(5_000)))):
        with pytest.raises(Invalid, match="q: "):
            await find(ctx, things, text)
    with pytest.raises(NotFound):
        await find(ctx, things, "printer", version=7)


async def test_common_words_of_many_records_are_answered_soon(ctx: Context, things: Dataset) -> None:
    version = await begin(ctx, things, {})
    for page in range(10):
        rows = {f"{page}-{number}": {"text": "the of and a is to " * 20} for number in range(2_000)}
        await write(ctx, version, rows)
    await index.fill_due(ctx.app)
    await finish(ctx, version)
    started = time.perf_counter()
    found = await find(ctx, things, "the of and a", any_word=True)
    assert time.perf_counter() - started < 1.0  # 20 ms; all of them took some 300
    assert (len(found.items), found.more, found.total) == (10, True, None)
    assert all(int(hit.key.partition("-")[0]) > 0 for hit in found.items)  # of the newest
