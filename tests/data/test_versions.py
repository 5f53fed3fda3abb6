"""Versions of a dataset against a model: one plain dict per version, whatever is done in whatever order, on both databases."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from trunkline.clock import ManualClock
from trunkline.context import App, Context, own_context
from trunkline.errors import Broken, Conflict, Gone, NotFound
from trunkline.http.server import open_app
from trunkline.services import api_keys, datasets, differences, history, records, versions
from trunkline.services.datasets import Change, Dataset, Draft
from trunkline.services.versions import Row, Version, to_row
from trunkline.settings import Settings
from trunkline.tables import datasets as dataset_rows
from trunkline.tables import events as event_rows
from trunkline.tables import records as record_rows

Model = dict[str, Any]
NO_LIMITS = {"deletes": None, "rows": None, "empty": None, "schema": False}


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(database_settings, clock) as opened:
        yield opened


@pytest.fixture
async def ctx(app: App) -> Context:
    made = await api_keys.create_workspace(app, "Alice's")
    return own_context(app, made["id"])


def row(key: str, value: Any) -> Row:
    """Write a record as it is stored; a plain value stands for one field."""
    return to_row(key, value if isinstance(value, dict) else {"v": value})


def unwrapped(record: Any) -> Any:
    return record["v"] if record is not None and record.keys() == {"v"} else record


async def dataset(ctx: Context, name: str = "things", **options: Any) -> Dataset:
    return await datasets.create(ctx, Draft(name, **{"gate": NO_LIMITS} | options))


async def begin(ctx: Context, of: Dataset) -> Version:
    return await ctx.app.db.write(partial(versions.begin, dataset=of.number, now=ctx.now, source="test"))


async def write(ctx: Context, version: Version, rows: Model) -> history.Counts:
    page = [row(key, record) for key, record in rows.items()]
    at = {"dataset": version.dataset, "number": version.number}
    return await ctx.app.db.write(partial(versions.write_page, **at, rows=page))


async def remove(ctx: Context, version: Version, *keys: str) -> history.Counts:
    at = {"dataset": version.dataset, "number": version.number}
    return await ctx.app.db.write(partial(versions.remove, **at, keys=keys))


async def finish(ctx: Context, version: Version, cursor: Any = None) -> Version:
    at = {"dataset": version.dataset, "number": version.number, "now": ctx.now}
    return await ctx.app.db.write(partial(versions.finish, **at, cursor=cursor))


async def make(
    ctx: Context, of: Dataset, rows: Model, gone: tuple[str, ...] = (), cursor: Any = None
) -> Version:
    """Make a version of a page and some removals."""
    version = await begin(ctx, of)
    await versions.prepare(ctx.app, of.number, version.number)
    await write(ctx, version, rows)
    await remove(ctx, version, *gone)
    return await finish(ctx, version, cursor)


async def content(ctx: Context, of: Dataset, number: int) -> Model:
    """Read a version whole, two records at a time, whatever its status."""
    found: Model = {}
    after: str | None = ""
    while after is not None:
        read = partial(records.read_page, dataset=of.number, version=number, after=after, limit=2)
        page, after = await ctx.app.db.read(read)
        assert found.keys().isdisjoint(record.key for record in page)
        found |= {record.key: unwrapped(orjson.loads(record.data)) for record in page}
    return found


async def differing(ctx: Context, of: Dataset, before: int, after: int) -> Model:
    found: Model = {}
    place: str | None = ""
    while place is not None:
        between = partial(
            differences.between, dataset=of.number, before=before, after=after, after_key=place, limit=2
        )
        page = await ctx.app.db.read(between)
        found |= {each.key: (unwrapped(each.before), unwrapped(each.after)) for each in page.items}
        place = page.after
    return found


async def stored(ctx: Context, of: Dataset) -> list[tuple[str, int, int | None]]:
    query = sa.select(record_rows.c.key, record_rows.c.valid_from, record_rows.c.valid_to)
    found = query.where(record_rows.c.dataset == of.number)
    return await ctx.app.db.read(lambda conn: [tuple(row) for row in conn.execute(found)])


def compared(before: Model, after: Model) -> Model:
    keys = before.keys() | after.keys()
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


KEYS = st.sampled_from(["a", "b", "c", "Ä/%_'\""])
PAGES = st.dictionaries(KEYS, st.integers(0, 1), max_size=4)
WHICH = st.integers(0, 9)
STEPS = st.one_of(
    st.tuples(st.just("begin"), st.none()),
    st.tuples(st.just("write"), PAGES),
    st.tuples(st.just("write"), PAGES),
    st.tuples(st.just("write"), PAGES),
    st.tuples(st.just("remove"), st.sets(KEYS, max_size=3)),
    st.tuples(st.just("finish"), st.booleans()),
    st.tuples(st.just("finish"), st.booleans()),
    st.tuples(st.sampled_from(["undo", "crash", "prune"]), st.none()),
    st.tuples(st.just("roll_back"), WHICH),
    st.tuples(st.sampled_from(["archive", "activate", "reject"]), WHICH),
)


@dataclass
class Story:
    """What was done to one dataset, beside what it should have come to."""

    ctx: Context
    of: Dataset
    models: dict[int, Model] = field(default_factory=lambda: {0: {}})
    writing: Version | None = None
    active: int = 0
    bases: dict[int, int] = field(default_factory=dict)
    cursors: dict[int, Any] = field(default_factory=lambda: {0: None})

    async def by_status(self, *statuses: str) -> list[int]:
        page = await versions.list_page(self.ctx, self.of.id, 1_000, 0, statuses)
        return [version.number for version in page.items]

    async def begin(self, _: None = None) -> None:
        self.writing = await begin(self.ctx, self.of)
        number = self.writing.number
        await versions.prepare(self.ctx.app, self.of.number, number)
        self.models[number] = dict(self.models[self.active])
        self.bases[number] = self.active

    async def write(self, page: Model) -> None:
        if self.writing is None:
            await self.begin()
        await write(self.ctx, self.writing, page)
        self.models[self.writing.number] |= page

    async def remove(self, keys: set[str]) -> None:
        if self.writing is None:
            await self.begin()
        await remove(self.ctx, self.writing, *keys)
        for key in keys:
            self.models[self.writing.number].pop(key, None)

    async def finish(self, is_let_through: bool) -> None:
        if self.writing is None:
            return
        limits = {"deletes": None} if is_let_through else {"deletes": 0.0}
        await datasets.update(self.ctx, self.of.id, Change(gate=limits))
        number, self.writing = self.writing.number, None
        version = await finish(self.ctx, await self.get(number), {"after": number})
        base, model = self.models[self.bases[number]], self.models[number]
        changed = compared(base, model)
        added = sum(before is None for before, _ in changed.values())
        removed = sum(after is None for _, after in changed.values())
        assert (version.added, version.removed) == (added, removed)
        assert (version.changed, version.total) == (len(changed) - added - removed, len(model))
        waits = self.bases[number] != self.active or (not is_let_through and removed > 0)
        assert version.status == ("waiting" if waits else "active")
        self.cursors[number] = {"after": number}
        if not waits:
            self.active = number
        await versions.prune(self.ctx.app, self.of.number)

    async def get(self, number: int) -> Version:
        return await versions.get(self.ctx, self.of.id, number)

    async def undo(self, _: None) -> None:
        if self.writing is not None:
            await versions.undo(self.ctx.app, self.of.number, self.writing.number, "It failed.")
            self.writing = None

    async def crash(self, _: None) -> None:
        """Die amid taking back: the version was given up, and some of its rows are still there."""
        if self.writing is None:
            return
        number, self.writing = self.writing.number, None
        await self.ctx.app.db.write(lambda conn: versions._set(conn, self.of.number, number, status="failed"))
        await self.ctx.app.db.write(partial(history.take_back, dataset=self.of.number, version=number))

    async def prune(self, _: None) -> None:
        await versions.prune(self.ctx.app, self.of.number)
        kept = await self.by_status("active", "inactive", "waiting", "ingesting")
        if self.writing is not None:
            kept.append(self.bases[self.writing.number])
        for key, first, end in await stored(self.ctx, self.of):
            assert any(first <= at and (end is None or end > at) for at in kept), (key, first, end, kept)

    async def _one(self, which: int, *statuses: str) -> int | None:
        found = await self.by_status(*statuses)
        return found[which % len(found)] if found else None

    async def roll_back(self, which: int) -> None:
        if (number := await self._one(which, "inactive")) is not None:
            await versions.roll_back(self.ctx, self.of.id, number)
            self.active = number

    async def archive(self, which: int) -> None:
        if (number := await self._one(which, "inactive")) is not None:
            await versions.archive(self.ctx, self.of.id, number)

    async def activate(self, which: int) -> None:
        if (number := await self._one(which, "waiting")) is not None:
            await versions.activate(self.ctx, self.of.id, number)
            self.active = number

    async def reject(self, which: int) -> None:
        if (number := await self._one(which, "waiting")) is not None:
            await versions.reject(self.ctx, self.of.id, number)

    async def check(self) -> None:
        """Compare everything that can be read with the model."""
        found = await datasets.get(self.ctx, self.of.id)
        assert (found.active_version or 0, found.cursor) == (self.active, self.cursors[self.active])
        readable = await self.by_status("active", "inactive", "waiting", "ingesting")
        for number in readable:
            assert await content(self.ctx, self.of, number) == self.models[number], number
            others = {readable[0], readable[-1], self.active} & {*readable}
            for other in others:
                expected = compared(self.models[number], self.models[other])
                assert await differing(self.ctx, self.of, number, other) == expected
        inactive = await self.by_status("inactive")
        assert len(inactive) <= 2 * versions.KEPT


@pytest.mark.slow
async def test_every_version_reads_as_its_model_whatever_was_done(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
):
    """Everything is done in batches of two rows, and three versions are kept, so that all of it happens often."""
    monkeypatch.setattr(history, "BATCH", 2)
    monkeypatch.setattr(history, "DELETED", 2)
    monkeypatch.setattr(versions, "KEPT", 3)
    loop = asyncio.get_running_loop()
    names = iter(range(10**6))

    async def tell(steps: list[tuple[str, Any]]) -> None:
        story = Story(ctx, await dataset(ctx, f"dataset {next(names)}"))
        for name, value in steps:
            await getattr(story, name)(value)
            await story.check()
        await story.prune(None)
        await story.check()
        await story.undo(None)
        await datasets.delete(ctx, story.of.id)
        assert await stored(ctx, story.of) == []

    @settings(
        max_examples=150 if ctx.app.db.dialect == "sqlite" else 50,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.lists(STEPS, min_size=10, max_size=40))
    def check(steps: list[tuple[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(tell(steps), loop).result()

    await asyncio.to_thread(check)


async def rows_of(ctx: Context, of: Dataset) -> set[tuple[str, int, int | None]]:
    return set(await stored(ctx, of))


async def test_unchanged_records_cost_nothing(ctx: Context):
    of = await dataset(ctx)
    await make(ctx, of, {"a": {"n": 1, "m": 2}, "b": {"n": 2}})
    before = await rows_of(ctx, of)
    second = await make(ctx, of, {"a": {"m": 2, "n": 1}, "b": {"n": 2}})
    assert (second.added, second.changed, second.removed, second.total) == (0, 0, 0, 2)
    assert await rows_of(ctx, of) == before


async def test_what_flaps_within_a_version_leaves_no_trace(ctx: Context):
    of = await dataset(ctx)
    await make(ctx, of, {"a": 1, "b": 2})
    before = await rows_of(ctx, of)
    version = await begin(ctx, of)
    assert await write(ctx, version, {"a": 9, "c": 3}) == (1, 1, 0, 0)
    assert await remove(ctx, version, "b", "nobody") == (0, 0, 1, 0)
    assert await write(ctx, version, {"a": 8, "c": 3}) == (0, 0, 0, 1)
    assert await write(ctx, version, {"a": 1, "b": 2}) == (0, -1, -1, 0)
    assert await remove(ctx, version, "c") == (-1, 0, 0, 0)
    finished = await finish(ctx, version)
    assert (finished.added, finished.changed, finished.removed, finished.total) == (0, 0, 0, 2)
    assert await rows_of(ctx, of) == before


async def test_of_several_records_with_one_key_the_last_counts(ctx: Context):
    of = await dataset(ctx)
    version = await begin(ctx, of)
    page = [row("a", 1), row("a", 2)]
    put = partial(versions.write_page, dataset=of.number, number=version.number, rows=page)
    assert await ctx.app.db.write(put) == (1, 0, 0, 0)
    await finish(ctx, version)
    assert await content(ctx, of, 1) == {"a": 2}


async def test_undo_restores_every_row_as_it_was(ctx: Context, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "BATCH", 2)
    monkeypatch.setattr(history, "DELETED", 2)
    of = await dataset(ctx)
    await make(ctx, of, dict.fromkeys("abcdef", 1))
    await make(ctx, of, dict.fromkeys("abcd", 2))
    before = await rows_of(ctx, of)
    version = await begin(ctx, of)
    await write(ctx, version, dict.fromkeys("abcxyz", 3))
    await remove(ctx, version, "d", "e")
    await versions.undo(ctx.app, of.number, version.number, "The service failed.")
    assert await rows_of(ctx, of) == before
    undone = await versions.get(ctx, of.id, version.number)
    assert (undone.status, undone.reason) == ("failed", "The service failed.")
    with pytest.raises(Conflict, match="it is failed"):
        await write(ctx, version, {"late": 1})


async def test_a_crash_between_pages_then_another_version(ctx: Context):
    of = await dataset(ctx)
    await make(ctx, of, {"a": 1, "b": 1})
    crashed = await begin(ctx, of)
    await write(ctx, crashed, {"a": 2, "c": 2})
    await make(ctx, of, {"b": 3})
    assert await content(ctx, of, 3) == {"a": 1, "b": 3}
    assert (await versions.get(ctx, of.id, crashed.number)).status == "failed"
    await versions.prune(ctx.app, of.number)
    assert await rows_of(ctx, of) == {("a", 1, 2), ("b", 1, 3), ("a", 3, None), ("b", 3, None)}


async def test_a_version_after_a_roll_back_goes_on_from_what_was_rolled_back_to(ctx: Context):
    of = await dataset(ctx)
    await make(ctx, of, {"a": 1, "b": 1}, cursor="one")
    await make(ctx, of, {"a": 2, "c": 2}, gone=("b",), cursor="two")
    back = await versions.roll_back(ctx, of.id, 1, "The source was wrong.")
    assert (back.status, back.notes) == ("active", "The source was wrong.")
    assert (await datasets.get(ctx, of.id)).cursor == "one"
    third = await make(ctx, of, {"d": 3})
    assert (third.base, third.added, third.changed, third.removed, third.total) == (1, 1, 0, 0, 3)
    assert await content(ctx, of, 3) == {"a": 1, "b": 1, "d": 3}
    assert await content(ctx, of, 2) == {"a": 2, "c": 2}
    assert await differing(ctx, of, 2, 3) == {"a": (2, 1), "b": (None, 1), "c": (2, None), "d": (None, 3)}


async def test_a_version_cannot_be_written_before_it_goes_on_from_its_base(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history, "BATCH", 2)
    of = await dataset(ctx)
    await make(ctx, of, dict.fromkeys("abcdefg", 1))
    await make(ctx, of, dict.fromkeys("abcdefg", 2))
    await versions.roll_back(ctx, of.id, 1)
    version = await begin(ctx, of)
    assert not version.is_ready
    with pytest.raises(Broken):
        await write(ctx, version, {"a": 3})
    await versions.prepare(ctx.app, of.number, version.number)
    await versions.prepare(ctx.app, of.number, version.number)
    await write(ctx, version, {"a": 3})
    await finish(ctx, version)
    assert await content(ctx, of, 3) == {"a": 3} | dict.fromkeys("bcdefg", 1)


@pytest.mark.parametrize("status", ["active", "waiting", "ingesting", "failed", "archived"])
async def test_only_an_inactive_version_can_be_gone_back_to(ctx: Context, status: str):
    of = await dataset(ctx)
    await make(ctx, of, {"a": 1})
    await make(ctx, of, {"a": 2})
    await ctx.app.db.write(lambda conn: versions._set(conn, of.number, 1, status=status))
    with pytest.raises(Conflict, match=status):
        await versions.roll_back(ctx, of.id, 1)


async def test_a_roll_back_while_a_version_is_made_lets_that_wait(ctx: Context):
    of = await dataset(ctx)
    await make(ctx, of, {"a": 1})
    await make(ctx, of, {"a": 2})
    version = await begin(ctx, of)
    await write(ctx, version, {"b": 3})
    await versions.roll_back(ctx, of.id, 1)
    finished = await finish(ctx, version)
    assert finished.status == "waiting"
    assert finished.reason == "Version 1 went live while this one was made."
    assert (await datasets.get(ctx, of.id)).active_version == 1


async def test_the_active_and_the_seven_newest_stay(ctx: Context):
    of = await dataset(ctx)
    for number in range(12):
        await make(ctx, of, {"a": number, "b": 0})
    await versions.roll_back(ctx, of.id, 2)
    await versions.prune(ctx.app, of.number)
    page = await versions.list_page(ctx, of.id, 100)
    kept = {each.number for each in page.items if each.status != "archived"}
    assert kept == {2, *range(6, 13)}
    assert await content(ctx, of, 2) == {"a": 1, "b": 0}
    with pytest.raises(Gone, match="archived"):
        await records.list_page(ctx, of.id, 5)
    assert len(await stored(ctx, of)) == 9


async def test_waiting_failed_and_rolled_back_versions_are_told(ctx: Context):
    of = await dataset(ctx, gate={})
    await make(ctx, of, dict.fromkeys("abcdefghij", 1))
    waiting = await make(ctx, of, {}, gone=tuple("abcdef"))
    assert waiting.status == "waiting"
    assert waiting.reason.startswith("4 records are left of 10")
    assert await content(ctx, of, 2) == dict.fromkeys("ghij", 1)
    await versions.activate(ctx, of.id, 2)
    await versions.roll_back(ctx, of.id, 1)
    query = sa.select(event_rows.c.type, event_rows.c.data).order_by(event_rows.c.sequence)
    told = await ctx.app.db.read(
        lambda conn: [(row.type, row.data["version"]) for row in conn.execute(query)]
    )
    assert told == [
        ("dataset.version_activated", 1),
        ("dataset.version_waiting", 2),
        ("dataset.version_activated", 2),
        ("dataset.rolled_back", 1),
    ]


async def test_a_waiting_version_is_overtaken_by_the_next_that_goes_live(ctx: Context):
    of = await dataset(ctx, gate={})
    await make(ctx, of, dict.fromkeys("abcd", 1))
    await make(ctx, of, {}, gone=("a", "b"))
    third = await make(ctx, of, {"e": 1})
    assert third.status == "active"
    assert await content(ctx, of, 3) == dict.fromkeys("abcde", 1)
    overtaken = await versions.get(ctx, of.id, 2)
    assert (overtaken.status, overtaken.reason) == ("failed", "Version 3 went live instead.")
    with pytest.raises(Conflict, match="does not wait"):
        await versions.activate(ctx, of.id, 2)


async def test_readers_never_see_a_mix(ctx: Context):
    """Readers page through whatever is active while versions are written, go live, fail and are rolled back."""
    of = await dataset(ctx)
    keys = [f"{number:03}" for number in range(60)]
    await make(ctx, of, dict.fromkeys(keys, 0))
    is_over = False
    seen: set[int] = set()

    async def look() -> None:
        while not is_over:
            page = await records.list_page(ctx, of.id, limit=7)
            found = [unwrapped(orjson.loads(record.data)) for record in page.items]
            version = page.version.number
            while page.after is not None:
                try:
                    page = await records.list_page(ctx, of.id, version, page.after, 7)
                except Gone:
                    break
                found += [unwrapped(orjson.loads(record.data)) for record in page.items]
            else:
                assert len(found) == len(keys)
            assert len(set(found)) == 1, version
            seen.add(found[0])

    looking = [asyncio.create_task(look()) for _ in range(3)]
    for number in range(1, 25):
        version = await begin(ctx, of)
        await versions.prepare(ctx.app, of.number, version.number)
        for start in range(0, len(keys), 20):
            await write(ctx, version, dict.fromkeys(keys[start : start + 20], number))
        if number % 4 == 0:
            await versions.undo(ctx.app, of.number, version.number, "It failed.")
        else:
            await finish(ctx, version)
            await versions.prune(ctx.app, of.number)
        if number % 5 == 0:
            active = (await datasets.get(ctx, of.id)).active_version
            page = await versions.list_page(ctx, of.id, 10, 0, ["inactive"])
            await versions.roll_back(ctx, of.id, next(v.number for v in page.items if v.number < active))
    is_over = True
    await asyncio.gather(*looking)
    assert len(seen) > 3


async def test_a_hundred_thousand_records_are_rolled_back_at_once(ctx: Context):
    """What is timed is the roll back; the version after it may take as long as the difference needs."""
    of = await dataset(ctx)
    keys = [f"{number:06}" for number in range(100_000)]
    for value in (1, 2):
        version = await begin(ctx, of)
        for start in range(0, len(keys), 10_000):
            await write(ctx, version, dict.fromkeys(keys[start : start + 10_000], value))
        await finish(ctx, version)
    started = time.perf_counter()
    await versions.roll_back(ctx, of.id, 1)
    assert time.perf_counter() - started < 1
    third = await make(ctx, of, {"000000": 3})
    assert (third.base, third.total, third.changed) == (1, 100_000, 1)
    page = await records.list_page(ctx, of.id, limit=1_000)
    assert [unwrapped(orjson.loads(record.data)) for record in page.items] == [3] + [1] * 999


async def test_deleting_a_dataset_leaves_nothing_and_waits_for_no_run(ctx: Context):
    of = await dataset(ctx)
    other = await dataset(ctx, "others")
    await make(ctx, of, {"a": 1})
    await make(ctx, other, {"a": 1})
    await datasets.delete(ctx, of.id)
    assert await stored(ctx, of) == []
    assert await content(ctx, other, 1) == {"a": 1}
    with pytest.raises(NotFound):
        await datasets.get(ctx, of.id)
    busy = sa.update(dataset_rows).where(dataset_rows.c.number == other.number).values(run_id="someone")
    await ctx.app.db.write(lambda conn: conn.execute(busy).close())
    with pytest.raises(Conflict, match="under way"):
        await datasets.delete(ctx, other.id)
