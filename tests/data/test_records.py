"""Records at a version: listed, compared, fed to copies, exported, edited; and rows in quarantine."""

import asyncio
import csv
import io
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from trunkline.clock import ManualClock
from trunkline.context import App, Context, own_context
from trunkline.errors import Conflict, Gone, Invalid, NotFound
from trunkline.http.server import open_app
from trunkline.services import (
    api_keys,
    datasets,
    differences,
    exports,
    history,
    index,
    quarantine,
    records,
    versions,
)
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.records import Filters
from trunkline.services.versions import Row, Version, to_row
from trunkline.settings import Settings
from trunkline.tables import datasets as dataset_rows

KEYS = ["a", "B", "é", "日本", "with/slash", "with%20", "'quoted\"", "x" * 512, " ", "\n"]


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    async with open_app(database_settings, clock) as opened:
        yield opened


@pytest.fixture
async def ctx(app: App) -> Context:
    made = await api_keys.create_workspace(app, "Alice's")
    return own_context(app, made["id"])


@pytest.fixture
async def of(ctx: Context) -> Dataset:
    return await datasets.create(ctx, Draft("things"))


async def make(ctx: Context, of: Dataset, rows: dict[str, Any], gone: tuple[str, ...] = ()) -> Version:
    def write(conn: sa.Connection) -> Version:
        number = versions.begin(conn, of.number, ctx.now, source="test").number
        page = [to_row(key, record) for key, record in rows.items()]
        versions.write_page(conn, of.number, number, page)
        versions.remove(conn, of.number, number, gone)
        return versions.finish(conn, of.number, number, ctx.now, gated=False)

    return await ctx.app.db.write(write)


async def listed(ctx: Context, of: Dataset, limit: int = 3, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    after: str | None = ""
    while after is not None:
        page = await records.list_page(ctx, of.id, None, after, limit, **options)
        found |= {record.key: orjson.loads(record.data) for record in page.items}
        after = page.after
    return found


async def test_keys_may_hold_anything(ctx: Context, of: Dataset):
    given = {key: {"number": number} for number, key in enumerate(KEYS)}
    await make(ctx, of, given)
    assert await listed(ctx, of) == given
    for key, record in given.items():
        version, found = await records.get(ctx, of.id, key)
        assert (version.number, found.since, orjson.loads(found.data)) == (1, 1, record)


async def test_records_may_hold_anything(ctx: Context, of: Dataset):
    given = {"nul": {"a\0b": "\0"}, "big": {"x": "y" * 1_000_000}, "deep": {"a": [[{"b": [None]}]]}, "no": {}}
    await make(ctx, of, given)
    assert await listed(ctx, of) == given


async def test_a_page_ends_when_its_records_are_large(ctx: Context, of: Dataset):
    await make(ctx, of, {f"{number}": {"x": "y" * 1_500_000} for number in range(6)})
    page = await records.list_page(ctx, of.id, limit=100)
    assert (len(page.items), page.after) == (3, "2")
    diff = await differences.diff(ctx, of.id, (await make(ctx, of, {}, tuple("012345"))).number, 1)
    assert 0 < len(diff.items) <= 8


async def test_filters_keep_what_reads_as_told(ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "_MOST_LOOKED_AT", 2)
    given = {
        f"{n}": {"state": n % 3, "tags": ["x", str(n)], "by": {"name": "ann", "on": n > 4}} for n in range(9)
    }
    await make(ctx, of, given)
    for wanted, keys in [
        ({"state": "1"}, "147"),
        ({"tags": "4"}, "4"),
        ({"by.name": "ann", "by.on": "true"}, "5678"),
        ({"nowhere": "1"}, ""),
        ({"by": "ann"}, ""),
    ]:
        assert "".join(await listed(ctx, of, filters=Filters(wanted))) == keys


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"a": 1}', '{"a..b": "1"}', orjson.dumps({f"{n}": "" for n in range(11)}).decode()]
)
def test_wrong_filters_are_named(text: str):
    with pytest.raises(Invalid, match="filters"):
        Filters.parse(text)


async def test_what_cannot_be_read_says_why(ctx: Context, of: Dataset):
    with pytest.raises(NotFound, match="no active version yet"):
        await records.list_page(ctx, of.id)
    begun = await ctx.app.db.write(partial(versions.begin, dataset=of.number, now=ctx.now, source="test"))
    with pytest.raises(Conflict, match="cannot be read yet"):
        await records.list_page(ctx, of.id, begun.number)
    await versions.undo(ctx.app, of.number, begun.number, "No.")
    with pytest.raises(Gone, match="not kept"):
        await records.list_page(ctx, of.id, begun.number)
    with pytest.raises(NotFound):
        await records.list_page(ctx, of.id, 99)


async def test_a_diff_names_the_fields_that_changed(ctx: Context, of: Dataset):
    await make(ctx, of, {"a": {"x": 1, "y": None, "z": [1]}, "b": {"x": 1}})
    await make(ctx, of, {"a": {"x": 1, "z": [2], "w": 0}, "c": {}}, ("b",))
    page = await differences.diff(ctx, of.id, 1, 2)
    assert [(each.key, each.kind, each.fields) for each in page.items] == [
        ("a", "changed", ["w", "y", "z"]),
        ("b", "removed", []),
        ("c", "added", []),
    ]
    back = await differences.diff(ctx, of.id, 2, 1)
    assert [each.kind for each in back.items] == ["changed", "added", "removed"]


async def follow(ctx: Context, of: Dataset, copy: dict[str, Any], position: str | None) -> str:
    """Bring a copy up to date."""
    more = True
    while more:
        feed = await differences.changes(ctx, of.id, position, 2)
        position, more = feed.position, feed.more
        for each in feed.items:
            if each.after is None:
                del copy[each.key]
            else:
                copy[each.key] = each.after
    assert position is not None
    return position


async def test_a_copy_follows_all_changes_and_roll_backs(ctx: Context, of: Dataset):
    copy: dict[str, Any] = {}
    await make(ctx, of, {key: {"n": 1} for key in KEYS})
    position = await follow(ctx, of, copy, None)
    assert copy == await listed(ctx, of)
    assert (await differences.changes(ctx, of.id, position)).items == []
    await make(ctx, of, {key: {"n": 2} for key in KEYS[:4]}, ("with/slash", "\n"))
    await make(ctx, of, {"new": {}, "a": {"n": 1}})
    position = await follow(ctx, of, copy, position)
    assert copy == await listed(ctx, of)
    await versions.roll_back(ctx, of.id, 1)
    assert position == "3"
    position = await follow(ctx, of, copy, position)
    assert copy == await listed(ctx, of)


async def test_a_copy_that_pages_while_a_version_goes_live_gets_both(ctx: Context, of: Dataset):
    await make(ctx, of, {key: {"n": 1} for key in "abcdef"})
    feed = await differences.changes(ctx, of.id, None, 4)
    copy = {each.key: each.after for each in feed.items}
    await make(ctx, of, {"a": {"n": 2}, "g": {}}, ("f",))
    assert feed.more
    await follow(ctx, of, copy, feed.position)
    assert copy == await listed(ctx, of)


async def test_a_position_too_old_is_gone_and_nonsense_is_named(ctx: Context, of: Dataset):
    for number in range(10):
        await make(ctx, of, {"a": {"n": number}})
    await versions.prune(ctx.app, of.number)
    with pytest.raises(Gone, match="begin anew"):
        await differences.changes(ctx, of.id, "1")
    with pytest.raises(NotFound):
        await differences.changes(ctx, of.id, "77")
    for nonsense in ("x", "-1", "1.2", "1.2.!", "1.9.gA", "²", "9" * 30):
        with pytest.raises(Invalid, match="since"):
            await differences.changes(ctx, of.id, nonsense)


async def exported(ctx: Context, of: Dataset, format: str, number: int | None = None) -> bytes:
    _, chunks = await exports.export(ctx, of.id, number, format)
    return b"".join([chunk async for chunk in chunks])


MIXED = {
    "a": {"id": 1, "name": 'Ann, "A."\n', "on": True, "share": 1, "tags": ["x"], "none": None, "any": 1},
    "b": {"id": 2, "name": "", "on": None, "share": 0.5, "late": "yes", "any": "1", "big": 2**63},
}


async def test_exports_hold_all_records_of_their_version(
    ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exports, "_AT_ONCE", 2)
    given = {f"{number:02}": {"n": number} for number in range(7)}
    await make(ctx, of, given)
    await make(ctx, of, {"00": {"n": -1}})
    lines = (await exported(ctx, of, "jsonl", 1)).splitlines()
    assert [orjson.loads(line) for line in lines] == list(given.values())
    assert (await exported(ctx, of, "csv", 2)).decode() == "n\r\n-1\r\n1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n"


async def test_csv_has_a_column_for_every_field_of_any_record(ctx: Context, of: Dataset):
    await make(ctx, of, MIXED)
    found = list(csv.DictReader(io.StringIO((await exported(ctx, of, "csv")).decode(), newline="")))
    assert found[0]["name"] == 'Ann, "A."\n'
    assert (found[0]["tags"], found[0]["on"], found[0]["late"]) == ('["x"]', "true", "")
    assert (found[1]["share"], found[1]["late"], found[1]["tags"]) == ("0.5", "yes", "")


async def test_parquet_has_types(ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(exports, "_GROUP", 1)
    monkeypatch.setattr(exports, "_AT_ONCE", 1)
    await make(ctx, of, MIXED)
    file = parquet.ParquetFile(io.BytesIO(await exported(ctx, of, "parquet")))
    assert file.num_row_groups == 2
    one, two = file.read().to_pylist()
    assert one == MIXED["a"] | {"tags": '["x"]', "share": 1.0, "late": None, "any": "1", "big": None}
    assert (two["share"], two["any"], two["big"]) == (0.5, '"1"', float(2**63))


async def test_parquet_without_its_library_says_what_to_install(
    ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch
):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(exports, "import_module", missing)
    with pytest.raises(Invalid, match=r"pip install 'trunkline\[parquet\]'"):
        await exports.export(ctx, of.id, None, "parquet")
    with pytest.raises(Invalid, match="format"):
        await exports.export(ctx, of.id, None, "xml")


async def test_an_export_of_a_version_that_is_deleted_meanwhile_breaks_off(
    ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exports, "_AT_ONCE", 1)
    await make(ctx, of, {"a": {}, "b": {}})
    await make(ctx, of, {"c": {}})
    _, chunks = await exports.export(ctx, of.id, 1, "jsonl")
    assert await anext(chunks) == b"{}\n"
    await versions.archive(ctx, of.id, 1)
    with pytest.raises(Gone):
        await anext(chunks)


async def test_a_deleted_record_is_a_version_of_its_own(ctx: Context, of: Dataset):
    await make(ctx, of, {"a": {}, "b": {}})
    version = await records.delete(ctx, of.id, ["b"], "Asked for by its owner.")
    assert (version.status, version.source, version.removed, version.total) == ("active", "edit", 1, 1)
    assert await listed(ctx, of) == {"a": {}}
    with pytest.raises(NotFound):
        await records.delete(ctx, of.id, ["b"])
    assert (await datasets.get(ctx, of.id)).newest_version == 2
    assert version.notes == "Asked for by its owner."


async def test_nothing_is_edited_while_a_run_is_under_way(ctx: Context, of: Dataset):
    await make(ctx, of, {"a": {}})
    busy = sa.update(dataset_rows).values(run_id="someone")
    await ctx.app.db.write(lambda conn: conn.execute(busy).close())
    with pytest.raises(Conflict, match="under way"):
        await records.delete(ctx, of.id, ["a"])


async def test_an_edit_after_a_roll_back_is_live_with_its_index(ctx: Context, of: Dataset):
    await make(ctx, of, {key: {"n": 1} for key in "abc"})
    await make(ctx, of, {key: {"n": 2} for key in "abc"})
    await versions.roll_back(ctx, of.id, 1)
    version = await records.delete(ctx, of.id, ["a"])
    assert (version.status, version.number) == ("active", 3)
    complete = partial(index.is_complete, dataset=of.number, version=3)
    assert await ctx.app.db.read(complete)
    assert await listed(ctx, of) == {"b": {"n": 1}, "c": {"n": 1}}


def read_row(value: Any) -> Row | str:
    if not isinstance(value, dict):
        return "is no object"
    return to_row(str(value["id"]), value) if "id" in value else "has no id"


async def put_away(ctx: Context, of: Dataset, *bad: Any) -> None:
    rows = [("is bad", each if isinstance(each, str) else orjson.dumps(each).decode()) for each in bad]
    newest = (await datasets.get(ctx, of.id)).newest_version
    add = partial(quarantine.add, dataset=of.number, number=newest, bad=rows, now=ctx.now)
    await ctx.app.db.write(add)


async def test_rows_that_fit_now_become_a_version_and_the_others_stay_with_a_reason(
    ctx: Context, of: Dataset
):
    await make(ctx, of, {"1": {"id": 1, "is": "newer"}})
    await put_away(ctx, of, {"id": 1, "is": "older"}, {"id": 2}, {"name": "none"}, "no JSON \0", [1])
    assert (await versions.get(ctx, of.id, 1)).quarantined == 5
    replay = await quarantine.replay(ctx, of.id, read_row)
    assert (replay.tried, replay.taken) == (5, 2)
    assert (replay.version.status, replay.version.source, replay.version.added) == ("active", "replay", 1)
    assert await listed(ctx, of) == {"1": {"id": 1, "is": "newer"}, "2": {"id": 2}}
    page = await quarantine.list_page(ctx, of.id, 10)
    assert sorted(each.reason for each in page.items) == ["has no id", "is no object", "is no object"]
    again = await quarantine.replay(ctx, of.id, read_row)
    assert (again.tried, again.taken, again.version) == (3, 0, None)


async def test_only_chosen_rows_are_tried_again(ctx: Context, of: Dataset):
    await make(ctx, of, {})
    await put_away(ctx, of, {"id": 1}, {"id": 2})
    page = await quarantine.list_page(ctx, of.id, 10)
    chosen = next(each.id for each in page.items if each.data == '{"id":2}')
    replay = await quarantine.replay(ctx, of.id, read_row, [chosen, "nobody"])
    assert (replay.tried, replay.taken) == (1, 1)
    assert await listed(ctx, of) == {"2": {"id": 2}}
    assert (await quarantine.list_page(ctx, of.id, 10, version=1)).total == 1
    assert (await quarantine.list_page(ctx, of.id, 10, version=2)).total == 0


async def test_a_long_row_is_listed_by_its_beginning(ctx: Context, of: Dataset):
    await make(ctx, of, {})
    await put_away(ctx, of, "x" * 10_000_000)
    (row,) = (await quarantine.list_page(ctx, of.id, 10)).items
    assert row.data == "x" * 2_000


async def test_two_edits_at_once_are_both_there(ctx: Context, of: Dataset):
    await make(ctx, of, {key: {} for key in "abcdef"})
    results = await asyncio.gather(*(records.delete(ctx, of.id, [key]) for key in "abc"))
    assert await listed(ctx, of) == {key: {} for key in "def"}
    assert sorted(each.number for each in results) == [2, 3, 4]


def test_a_hash_tells_apart_what_differs_and_only_that():
    same = [
        to_row("a", {"x": 1, "y": [1, {"b": 1, "c": 2}]}),
        to_row("a", {"y": [1, {"c": 2, "b": 1}], "x": 1}),
    ]
    assert same[0] == same[1]
    values = [{"x": 1}, {"x": "1"}, {"x": True}, {"x": None}, {}, {"x": 1.5}, {"x": [1]}, {"x": math.pi}]
    assert len({to_row("a", value).hash for value in values}) == len(values)
    assert len(same[0].hash) == 16


async def rolled_back(ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go back by more than is moved at a time."""
    monkeypatch.setattr(history, "BATCH", 2)
    for n in (1, 2):
        await make(ctx, of, {f"k{key:02}": {"n": n} for key in range(30)})
    await versions.roll_back(ctx, of.id, 1)


async def test_an_edit_after_a_roll_back_of_much_holds_up_nobody(
    ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch
):
    await rolled_back(ctx, of, monkeypatch)
    editing = asyncio.create_task(records.delete(ctx, of.id, ["k00"]))
    seen = set()
    while not editing.done():
        await ctx.app.db.write(lambda conn: None)
        seen.add((await versions.list_page(ctx, of.id, 1)).items[0].status)
    assert "ingesting" in seen
    assert (await editing).status == "active"
    assert await listed(ctx, of) == {f"k{key:02}": {"n": 1} for key in range(1, 30)}


async def test_an_edit_that_fails_after_a_roll_back_of_much_leaves_nothing(
    ctx: Context, of: Dataset, monkeypatch: pytest.MonkeyPatch
):
    await rolled_back(ctx, of, monkeypatch)
    with pytest.raises(NotFound, match="Record not found"):
        await records.delete(ctx, of.id, ["nothing"])
    assert (await versions.get(ctx, of.id, 3)).status == "failed"
    assert (await records.delete(ctx, of.id, ["k00"])).number == 4
    assert await listed(ctx, of) == {f"k{key:02}": {"n": 1} for key in range(1, 30)}
