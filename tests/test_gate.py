"""The gate: what may go live, and what waits for a person."""

import pytest

from trunkline.errors import Invalid
from trunkline.services.gate import Fields, Limits, Stats, judge, read_limits


def stats(total: int = 100, removed: int = 0, records: list[dict] | None = None) -> Stats:
    fields = Fields()
    for record in records or []:
        fields.add(record)
    return Stats(total, removed, fields)


def test_a_first_version_always_passes():
    assert judge(None, stats(0), Limits()) is None
    assert judge(stats(0), stats(0), Limits()) is None


@pytest.mark.parametrize(("removed", "passes"), [(30, True), (31, False)])
def test_few_records_may_be_gone(removed: int, passes: bool):
    reason = judge(stats(100), stats(100, removed), Limits())
    assert (reason is None) is passes
    if not passes:
        assert reason == "31 of 100 records are gone; at most 30% may be."


@pytest.mark.parametrize(("total", "passes"), [(50, True), (49, False), (0, False)])
def test_half_of_the_records_must_be_left(total: int, passes: bool):
    assert (judge(stats(100), stats(total), Limits(deletes=None)) is None) is passes


@pytest.mark.parametrize(("empty", "passes"), [(5, True), (6, False), (10, False)])
@pytest.mark.parametrize("nothing", [None, ""])
def test_a_field_may_not_become_empty_in_most_records(empty: int, passes: bool, nothing: str | None):
    after = [{"name": nothing}] * empty + [{"name": "x"}] * (10 - empty)
    reason = judge(stats(records=[{"name": "x"}] * 10), stats(records=after), Limits())
    assert (reason is None) is passes
    if not passes:
        assert reason == f"The field 'name' is empty in {empty * 10}% of the records, it was in 0%."


def test_a_field_may_not_vanish_but_for_one_that_was_rare():
    before = stats(records=[{"id": 1, "name": "x"}] * 19 + [{"id": 1, "name": "x", "rare": 1}])
    limits = Limits(empty=None)
    assert judge(before, stats(records=[{"id": 1}] * 20), limits) == "The field 'name' has vanished."
    assert judge(before, stats(records=[{"id": 1, "name": "x"}] * 20), limits) is None


def test_a_field_may_not_become_of_another_type():
    before, after = stats(records=[{"n": 1}] * 3), stats(records=[{"n": "1"}] * 3)
    assert judge(before, after, Limits()) == "The field 'n' was number and is text now."
    mixed = stats(records=[{"n": 1.5}, {"n": "1"}])
    assert judge(before, mixed, Limits()) is None
    assert judge(before, stats(records=[{"n": True}]), Limits()) is not None


def test_every_limit_can_be_lifted():
    before, after = stats(records=[{"n": 1}]), stats(0, 100, [{"m": 1}])
    assert judge(before, after, Limits()) is not None
    assert judge(before, after, Limits(None, None, None, schema=False)) is None


def test_reasons_add_up():
    reason = judge(stats(100), stats(10, 90), Limits())
    assert reason is not None
    assert reason.count(".") == 2


def test_hundreds_of_fields_are_counted_and_no_more():
    fields = Fields()
    fields.add({f"field {number}": 1 for number in range(10_000)})
    assert len(fields.names) == 500


def test_limits_are_read_over_their_defaults():
    assert read_limits({"deletes": None, "rows": 1}) == Limits(deletes=None, rows=1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"deletes": 1.5}, "deletes"),
        ({"rows": "half"}, "rows"),
        ({"empty": True}, "empty"),
        ({"schema": 1}, "schema"),
        ({"schema": None}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"rows": float("nan")}, "rows"),
    ],
)
def test_wrong_limits_are_named(given: dict, name: str):
    with pytest.raises(Invalid) as caught:
        read_limits(given)
    assert caught.value.fields[0].loc == ("body", "gate", name)
