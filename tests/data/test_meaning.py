"""Searching records by what they mean: which records get vectors, which are compared, on both databases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import App, Context, own_context
from trunkline.errors import Invalid, Unavailable
from trunkline.http.server import open_app
from trunkline.services import api_keys, datasets, index, meaning, search, versions
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.meaning import Meaning
from trunkline.services.records import Filters
from trunkline.services.search import Found, Search
from trunkline.services.versions import Version, to_row
from trunkline.services.words import words
from trunkline.settings import Settings

SAME = {"stuck": "jams", "wlan": "wifi", "password": "login"}
"""Words that mean the same to the fake."""
NO_LIMITS = {"deletes": None, "rows": None, "empty": None, "schema": False}
THINGS = {
    "a": {"title": "Printer jams", "state": "open"},
    "b": {"title": "No wifi upstairs", "state": "open"},
    "c": {"title": "Forgot login again", "state": "closed"},
}


class FakeEmbedder:
    """Texts with the same words, or words that mean the same, point the same way. Keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.given += texts
        return [self._of(text) for text in texts]

    def _of(self, text: str) -> list[float]:
        vector = [0.0] * 4_096
        for word in words(text):
            digest = blake2b(SAME.get(word, word).encode(), digest_size=2).digest()
            vector[int.from_bytes(digest) % 4_096] += 1.0
        return vector


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(database_settings, clock) as opened:
        opened.meaning = Meaning(FakeEmbedder())
        yield opened


@pytest.fixture
async def other(app: App, database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    """Another worker on the same database."""
    async with open_app(database_settings, clock) as opened:
        opened.meaning = Meaning(FakeEmbedder())
        yield opened


@pytest.fixture
async def ctx(app: App) -> Context:
    made = await api_keys.create_workspace(app, "Alice's")
    return own_context(app, made["id"])


@pytest.fixture
async def things(ctx: Context) -> Dataset:
    return await datasets.create(ctx, Draft("things", gate=NO_LIMITS))


async def make(ctx: Context, of: Dataset, rows: dict[str, Any], gone: tuple[str, ...] = ()) -> Version:
    """Make a version of a page and removals, active, with its index but without vectors."""
    write, at = ctx.app.db.write, {"dataset": of.number}
    at["number"] = (await write(partial(versions.begin, **at, now=ctx.now, source="test"))).number
    await versions.prepare(ctx.app, of.number, at["number"])
    page = [to_row(key, record) for key, record in rows.items()]
    await write(partial(versions.write_page, **at, rows=page))
    await write(partial(versions.remove, **at, keys=gone))
    await index.fill_due(ctx.app)
    return await write(partial(versions.finish, **at, now=ctx.now))


async def fill(app: App) -> None:
    while await meaning.fill_due(app):
        pass


async def find(ctx: Context, of: Dataset, text: str, mode: Any = "meaning", **options: Any) -> Found:
    return await search.search(ctx, of.id, Search(text, mode=mode, **options))


async def order(ctx: Context, of: Dataset, text: str, mode: Any = "meaning", **options: Any) -> str:
    return "".join(hit.key for hit in (await find(ctx, of, text, mode, **options)).items)


async def vectors(app: App) -> int:
    return await app.db.read(lambda conn: conn.scalar(sa.text("SELECT count(*) FROM record_vectors")))


async def test_the_nearest_come_first_with_their_cosine_and_whatever_is_asked_has_an_answer(
    ctx: Context, things: Dataset
) -> None:
    await make(ctx, things, THINGS)
    await fill(ctx.app)
    found = await find(ctx, things, "the printer is stuck")
    first, *rest = found.items
    # Both of its words are among the four asked for: 2 / sqrt(2 * 4).
    assert (first.key, first.version, first.since, first.record) == ("a", 1, 1, THINGS["a"])
    assert first.score == pytest.approx(0.7071, abs=0.01)
    assert first.highlights == [{"field": "title", "text": "<mark>Printer</mark> jams"}]
    assert [hit.score for hit in rest] == [0, 0]
    assert (found.covered, found.records, found.total, found.more) == (3, 3, None, False)


async def test_by_words_nothing_is_found_that_only_means_the_same(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await fill(ctx.app)
    found = await find(ctx, things, "wlan", "words")
    assert (found.items, found.covered) == ([], None)
    assert (await order(ctx, things, "wlan"))[0] == "b"


async def test_both_rankings_count_and_what_is_first_in_both_comes_first(
    ctx: Context, things: Dataset
) -> None:
    await make(ctx, things, THINGS | {"d": {"title": "printer stuck stuck here"}})
    await fill(ctx.app)
    assert await order(ctx, things, "printer stuck", "words") == "d"
    assert (await order(ctx, things, "printer stuck"))[:2] == "ad"
    both = await find(ctx, things, "printer stuck", "both")
    assert [hit.key for hit in both.items][:2] == ["d", "a"]
    assert both.items[0].score == pytest.approx(1 / 61 + 1 / 62, abs=1e-4)


async def test_pages_and_filters_are_as_with_words(ctx: Context, things: Dataset) -> None:
    rows = {f"{number:02}": {"title": "printer jams", "odd": str(number % 2)} for number in range(30)}
    await make(ctx, things, rows)
    await fill(ctx.app)
    pages = [await find(ctx, things, "printer", limit=12, offset=offset) for offset in (0, 12, 24)]
    seen = [hit.key for page in pages for hit in page.items]
    assert [page.more for page in pages] == [True, True, False]
    assert sorted(seen) == sorted(rows)
    odd = await find(ctx, things, "printer", limit=30, filters=Filters({"odd": "1"}))
    assert {hit.key for hit in odd.items} == {key for key in rows if int(key) % 2}


async def test_every_version_is_searched_as_it_was(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await fill(ctx.app)
    await make(ctx, things, {"a": {"title": "Scanner broken"}, "d": {"title": "printer stuck"}}, gone=("b",))
    await fill(ctx.app)
    assert (await order(ctx, things, "printer jams"))[0] == "d"
    assert set(await order(ctx, things, "printer jams")) == {"a", "c", "d"}
    assert set(await order(ctx, things, "printer jams", version=1)) == {"a", "b", "c"}
    assert (await order(ctx, things, "printer jams", version=1))[0] == "a"


async def test_what_has_no_vector_yet_is_not_found_and_the_answer_says_so(
    ctx: Context, things: Dataset
) -> None:
    assert await meaning.fill_due(ctx.app) is False
    await make(ctx, things, {f"{number:02}": {"title": f"printer number {number}"} for number in range(40)})
    found = await find(ctx, things, "printer")
    assert (found.items, found.covered, found.records) == ([], 0, 40)
    assert await meaning.fill_due(ctx.app) is True
    found = await find(ctx, things, "printer", limit=40)
    assert (len(found.items), found.covered, found.records) == (meaning.BATCH, meaning.BATCH, 40)
    await fill(ctx.app)
    assert (await find(ctx, things, "printer")).covered == 40


async def test_only_what_came_since_is_gone_through_again(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, {f"{number:03}": {"title": f"number {number}"} for number in range(150)})
    await fill(ctx.app)
    given = ctx.app.meaning.embed.given
    assert len(given) == len(set(given)) == 150 + 1  # and once to warm up
    await make(ctx, things, {"x": {"title": "something new"}})
    await fill(ctx.app)
    assert given[-1] == "something new"
    assert len(given) == 152
    walk = ctx.app.meaning.walks[things.number]
    assert (walk.version, walk.beyond, walk.seen, walk.is_done) == (2, 1, 0, True)


async def test_rows_that_went_live_by_a_roll_back_get_vectors(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await make(ctx, things, {"a": {"title": "Scanner"}}, gone=("b",))
    await fill(ctx.app)  # nothing of the first version that the second has not
    assert await vectors(ctx.app) == 2
    await versions.roll_back(ctx, things.id, 1)
    await fill(ctx.app)
    assert (await find(ctx, things, "printer")).covered == 3
    await make(ctx, things, {"e": {"title": "wlan"}})
    await fill(ctx.app)
    assert (await find(ctx, things, "wifi")).covered == 4


async def test_an_unfinished_walk_goes_on_in_the_next_version(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, {f"{number:03}": {"title": f"number {number}"} for number in range(100)})
    await meaning.fill_due(ctx.app)
    await make(ctx, things, {"x": {"title": "something new"}})
    await meaning.fill_due(ctx.app)
    assert "something new" in ctx.app.meaning.embed.given or (await find(ctx, things, "new")).covered == 32
    await fill(ctx.app)
    assert (await find(ctx, things, "new")).covered == 101


async def test_vectors_go_with_their_rows(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    await fill(ctx.app)
    await make(ctx, things, {"a": {"title": "Scanner"}}, gone=("b",))
    await fill(ctx.app)
    assert await vectors(ctx.app) == 4
    await versions.archive(ctx, things.id, 1)
    assert await vectors(ctx.app) == 2
    await datasets.delete(ctx, things.id)
    assert await vectors(ctx.app) == 0
    assert await meaning.fill_due(ctx.app) is False
    assert ctx.app.meaning.walks == {}


async def test_a_vector_of_a_row_deleted_meanwhile_is_not_stored(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS)
    walk = meaning._Walk(0, 0, 0).toward(1)
    rows = await ctx.app.db.read(partial(meaning._read, dataset=things.number, walk=walk))
    made = meaning._make(FakeEmbedder(), [(row.position, row.data) for row in rows])
    await datasets.delete(ctx, things.id)
    await ctx.app.db.write(partial(meaning._store, made=made))
    assert await vectors(ctx.app) == 0


async def test_two_workers_share_the_work_and_keep_one_vector_of_each(
    ctx: Context, things: Dataset, other: App
) -> None:
    await make(ctx, things, {f"{number:03}": {"title": f"number {number}"} for number in range(100)})
    await asyncio.gather(fill(ctx.app), fill(other))
    assert await vectors(other) == 100
    given = [len(each.meaning.embed.given) for each in (ctx.app, other)]
    assert 100 + 2 <= sum(given) < 180  # 200 if both always made the same
    assert (await find(ctx, things, "number 7")).items[0].key == "007"


async def test_of_very_many_records_the_newest_get_vectors(
    ctx: Context, things: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "MOST_COMPARED", 64)
    await make(ctx, things, {f"{number:03}": {"title": f"number {number}"} for number in range(150)})
    await fill(ctx.app)
    found = await find(ctx, things, "number", limit=100)
    assert {hit.key for hit in found.items} == {f"{number:03}" for number in range(86, 150)}
    assert (found.covered, found.records) == (64, 150)


async def test_what_says_something_is_compared_and_the_short_first(ctx: Context) -> None:
    record = {
        "description": "It stops " * 1_000,
        "number": "INC0000045",
        "opened": "2026-04-01 08:05:00",
        "short_description": "Printer jams again",
        "urgency": 3,
        "区域": "打印",
    }
    text = meaning.said(to_row("a", record).data)
    assert text.startswith("打印\nPrinter jams again\nIt stops It stops")
    assert len(text) == 2_000
    assert meaning.said(to_row("a", {"host": "db-01", "port": 5432}).data) == "db-01\n5432"
    assert meaning.said(to_row("a", {}).data) == ""


async def test_a_stored_vector_points_almost_where_it_did() -> None:
    chance = np.random.default_rng(1)
    exact = chance.normal(size=(50, 384)).astype(np.float32)
    exact[7] = 0
    made = meaning._make(lambda _: exact, [(number, "{}") for number in range(50)])
    stored = np.array([np.frombuffer(each["vector"], np.int8) for each in made]).astype(np.float32)
    assert {len(each["vector"]) for each in made} == {384}
    assert not stored[7].any()
    cosines = (stored * exact).sum(axis=1) / np.maximum(
        np.linalg.norm(stored, axis=1) * np.linalg.norm(exact, axis=1), 1e-9
    )
    assert min(cosines[cosines != 0]) > 0.9999


@pytest.mark.parametrize("text", ["", "???", "x " * 600])
async def test_what_has_no_meaning_is_refused_by_name(ctx: Context, things: Dataset, text: str) -> None:
    await make(ctx, things, THINGS)
    with pytest.raises(Invalid, match="q: "):
        await find(ctx, things, text)


async def test_long_questions_and_signs_are_only_text(ctx: Context, things: Dataset) -> None:
    await make(ctx, things, THINGS | {"empty": {}})
    await fill(ctx.app)
    for text in ("why " * 100 + "printer", '"a OR (b* "c', "\0x", "\ud800 printer", "服务器"):
        assert len((await find(ctx, things, text)).items) == 4


async def test_turned_off_it_says_how_to_turn_it_on(ctx: Context, things: Dataset) -> None:
    ctx.app.meaning = None
    await make(ctx, things, THINGS)
    assert await meaning.fill_due(ctx.app) is False
    for mode in ("meaning", "both"):
        with pytest.raises(Invalid, match=r"mode: needs TRUNKLINE_VECTORS"):
            await find(ctx, things, "printer", mode)
    assert await order(ctx, things, "printer", "words") == "a"


async def test_turned_on_without_what_it_needs_the_hub_says_so_at_its_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=r"pip install 'trunkline\[vectors\]', or unset it"):
        async with open_app(replace(settings, vectors=True)):
            pass
    assert not settings.data_dir.exists()
