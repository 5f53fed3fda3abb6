"""`GET …/datasets/{dataset_id}/search`: what callers get for what they ask."""

from functools import partial
from urllib.parse import quote

import pytest

from http_asgi import Client, Reply
from trunkline.context import Context, own_context
from trunkline.services import datasets, index, meaning, versions
from trunkline.services.datasets import Draft

RECORDS = {f"INC{number}": {"title": f"Printer {number} <jams>", "state": "open"} for number in range(12)}


@pytest.fixture
async def path(alice: Client) -> str:
    """Make a dataset with one version; return where it is searched."""
    ctx: Context = own_context(alice.hub.app, alice.workspace_id)
    made = await datasets.create(ctx, Draft("incidents"))
    rows = [versions.to_row(key, record) for key, record in RECORDS.items()]

    async def write(call, **more) -> None:
        await ctx.app.db.write(partial(call, dataset=made.number, **more))

    await write(versions.begin, now=ctx.now, source="test")
    await write(versions.write_page, number=1, rows=rows)
    await index.fill_due(ctx.app)
    await write(versions.finish, number=1, now=ctx.now)
    return f"/v1/{{ws}}/datasets/{made.id}/search"


async def ask(caller: Client, path: str, q: str, more: str = "") -> Reply:
    return await caller.get(f"{path}?q={quote(q)}{more}")


async def test_hits_come_with_all_there_is_to_show(bob: Client, path: str) -> None:
    reply = await ask(bob, path, "7 printer")
    assert reply.status == 200
    found = reply.json
    assert found["items"][0].pop("score") >= 0
    hit = {
        "key": "INC7",
        "version": 1,
        "since": 1,
        "highlights": [{"field": "title", "text": "<mark>Printer</mark> <mark>7</mark> &lt;jams&gt;"}],
        "record": RECORDS["INC7"],
    }
    assert found == {
        "items": [hit],
        "has_more": False,
        "continuation_token": None,
        "total": 1,
        "version": 1,
        "covered": None,
    }


async def test_pages_continue_at_their_token(alice: Client, path: str) -> None:
    first = (await ask(alice, path, "printer")).json
    assert (len(first["items"]), first["has_more"], first["continuation_token"]) == (10, True, 10)
    rest = (await ask(alice, path, "printer", "&offset=10")).json
    assert (len(rest["items"]), rest["has_more"], rest["total"]) == (2, False, 12)
    assert {hit["key"] for hit in first["items"] + rest["items"]} == RECORDS.keys()


async def test_any_word_and_filters_are_asked_for_in_the_query(alice: Client, path: str) -> None:
    assert (await ask(alice, path, "3 4", "&any=true")).json["total"] == 2
    fits = quote('{"title":"Printer 3 <jams>","state":"open"}')
    found = (await ask(alice, path, "printer", f"&filters={fits}")).json
    assert [hit["key"] for hit in found["items"]] == ["INC3"]


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("", 422, "q"),
        ("q=", 422, "q"),
        ("q=%00", 422, "q"),
        ("q=" + "x" * 100_000, 422, "q"),
        ("q=" + "x+" * 400, 200, ""),
        ("q=" + "+".join(map(str, range(200))), 422, "q"),
        ("q=%22OR%22+AND+NEAR(*)", 200, ""),
        ("q=%ff%fe", 422, "q"),
        ("q=x&filters=state", 422, "filters"),
        ("q=x&filters=[1]", 422, "filters"),
        ('q=x&filters={"a..b":"x"}', 422, "filters"),
        ("q=x&limit=101", 422, "limit"),
        ("q=x&offset=1001", 422, "offset"),
        ("q=x&version=0", 422, "version"),
        ("q=x&version=99999999999999", 422, "version"),
        ("q=x&version=2", 404, ""),
        ("q=x&mode=magic", 422, "mode"),
        ("q=x&mode=meaning", 422, "mode"),
        ("q=x&mode=both", 422, "mode"),
    ],
)
async def test_bad_questions_are_answered_by_name(
    alice: Client, path: str, query: str, status: int, field: str
) -> None:
    reply = await alice.get(f"{path}?{query}")
    assert reply.status == status
    if field:
        assert field in {each["loc"][1] for each in reply.json["detail"]}


async def test_by_meaning_the_answer_says_how_many_records_can_be_found(alice: Client, path: str) -> None:
    app = alice.hub.app
    app.meaning = meaning.Meaning(lambda texts: [[float("7" in text), 1.0] for text in texts])
    empty = (await ask(alice, path, "7", "&mode=meaning")).json
    assert (empty["items"], empty["covered"]) == ([], {"records": 0, "of": 12})
    while await meaning.fill_due(app):
        pass
    found = (await ask(alice, path, "7", "&mode=meaning&limit=3")).json
    assert (found["items"][0]["key"], found["items"][0]["score"]) == ("INC7", pytest.approx(1, abs=0.01))
    assert (found["has_more"], found["continuation_token"], found["total"]) == (True, 3, None)
    assert found["covered"] == {"records": 12, "of": 12}
    both = (await ask(alice, path, "printer 7", "&mode=both")).json
    assert both["items"][0]["key"] == "INC7"


async def test_another_workspace_has_no_such_dataset(charlie: Client, path: str) -> None:
    assert (await ask(charlie, path, "printer")).status == 404
