"""When a dataset is due, where a cursor goes, which keys were seen: what runs decide without a hub."""

from array import array
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import Invalid
from trunkline.rest import cursors
from trunkline.services import driving, timetable
from trunkline.services.versions import Row

VIENNA = {"timezone": "Europe/Vienna"}


def turns(schedule: dict[str, Any], start: str, count: int) -> list[str]:
    """Return the turns after a time, in UTC."""
    at, found = datetime.fromisoformat(start).replace(tzinfo=UTC), []
    for _ in range(count):
        at = timetable.next_after(timetable.check(schedule), at)
        found.append(f"{at:%m-%d %H:%M}")
    return found


def test_cron_goes_by_the_clock_of_its_zone():
    assert turns({"cron": "0 9 * * 1-5"} | VIENNA, "2026-01-01 12:00", 3) == [
        "01-02 08:00",
        "01-05 08:00",
        "01-06 08:00",
    ]
    assert turns({"cron": "0 9 * * *"}, "2026-01-01 12:00", 1) == ["01-02 09:00"]


def test_what_falls_into_the_hour_that_is_skipped_runs_right_after_it():
    found = turns({"cron": "30 2 * * *"} | VIENNA, "2026-03-28 00:00", 3)
    assert found == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_what_falls_into_the_hour_that_comes_twice_runs_once():
    found = turns({"cron": "30 2 * * *"} | VIENNA, "2026-10-24 00:00", 3)
    assert found == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_what_runs_every_half_hour_goes_by_real_time_when_clocks_change():
    found = turns({"cron": "*/30 * * * *"} | VIENNA, "2026-10-24 23:30", 5)
    assert found == ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]


def test_an_interval_keeps_its_pace_and_makes_up_for_nothing():
    planned = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    schedule = {"every_seconds": 60}
    assert timetable.next_after(schedule, planned + timedelta(seconds=2), planned) == planned + timedelta(
        minutes=1
    )
    late = planned + timedelta(days=3, seconds=7)
    assert timetable.next_after(schedule, late, planned) == planned + timedelta(days=3, minutes=1)
    assert timetable.next_after(schedule, planned) == planned + timedelta(minutes=1)


@given(seconds=st.integers(10, 10**7), late=st.integers(0, 10**9))
def test_the_next_turn_is_always_ahead_and_never_more_than_one_away(seconds: int, late: int):
    planned = datetime(2026, 1, 1, tzinfo=UTC)
    now = planned + timedelta(milliseconds=late)
    following = timetable.next_after({"every_seconds": seconds}, now, planned)
    assert timedelta(0) < following - now <= timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("schedule", "place"),
    [
        (None, ()),
        ([], ()),
        ({}, ()),
        ("*/5 * * * *", ()),
        ({"every_seconds": 60, "cron": "* * * * *"}, ()),
        ({"every_seconds": True}, ()),
        ({"every_seconds": 1.5}, ()),
        ({"cron": "* * * * *", "more": 1}, ()),
        ({"every_seconds": 9}, ("every_seconds",)),
        ({"every_seconds": 10**9}, ("every_seconds",)),
        ({"cron": "* * * *"}, ("cron",)),
        ({"cron": "@daily"}, ("cron",)),
        ({"cron": "61 * * * *"}, ("cron",)),
        ({"cron": "0 0 30 2 *"}, ("cron",)),
        ({"cron": "* " * 500}, ("cron",)),
        ({"cron": "* * * * * *"}, ("cron",)),
        ({"cron": "* * * * *", "timezone": "Nowhere"}, ("timezone",)),
        ({"cron": "* * * * *", "timezone": "../../etc/passwd"}, ("timezone",)),
        ({"cron": "* * * * *", "timezone": "\0"}, ("timezone",)),
        ({"cron": "* * * * *", "timezone": ""}, ("timezone",)),
        ({"cron": "* * * * *", "timezone": None}, ("timezone",)),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_name(schedule: Any, place: tuple[str, ...]):
    with pytest.raises(Invalid) as caught:
        timetable.check(schedule)
    assert caught.value.fields[0].loc == ("body", "schedule", *place)


@pytest.mark.parametrize(
    ("value", "before"),
    [
        ("2024-01-01 00:00:02", "2023-12-31 23:59:57"),
        ("2024-01-01T00:00:02Z", "2023-12-31T23:59:57Z"),
        ("2024-01-01T00:00:02.123+0000", "2023-12-31T23:59:57.123+0000"),
        ("2024-01-01T01:00:02.5+02:00", "2024-01-01T00:59:57.5+02:00"),
        ("2024-01-01T00:00", "2023-12-31T23:59"),
        ("2024-01-01", "2023-12-31"),
        ("0001-01-01 00:00:01", "0001-01-01 00:00:01"),
        ("20240101", "20240101"),
        ("abc", "abc"),
        (5, 5),
    ],
)
def test_a_cursor_goes_back_in_the_spelling_it_came_in(value: Any, before: Any):
    assert cursors.earlier(value, 5) == before


def test_a_cursor_is_never_ahead_of_the_clock():
    now = datetime(2025, 5, 5, 1, 2, 3, 456_789, tzinfo=UTC)
    assert cursors.capped("2099-01-01T00:00:00.000Z", now) == "2025-05-05T01:02:03.456Z"
    assert cursors.capped("2025-05-05 03:00:00+02:00", now) == "2025-05-05 03:00:00+02:00"
    assert cursors.capped("2025-05-05T04:00:00+02:00", now) == "2025-05-05T03:02:03+02:00"
    assert cursors.capped(10**12, now) == 10**12


def test_times_compare_by_what_they_mean():
    assert cursors.rank("2024-01-01T01:00:00+02:00") < cursors.rank("2024-01-01T00:00:00Z")
    assert cursors.rank(5) < cursors.rank("a") < cursors.rank("2024-01-01")


@given(st.sets(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_keys_that_were_seen_are_told_from_others(seen: set[str], asked: list[str]):
    blobs = [array("q", [driving.key_hash(key)]).tobytes() for key in seen]
    assert driving.Seen(blobs).without(asked) == [key for key in asked if key not in seen]


def test_rows_are_cut_into_parts_by_number_and_by_size():
    hash_ = blake2b(b"", digest_size=16).digest()
    small = [Row(str(number), hash_, "{}") for number in range(4_500)]
    assert [len(part) for part in driving.parts(small)] == [2_000, 2_000, 500]
    large = [Row(str(number), hash_, "x" * 3_000_000) for number in range(5)]
    assert [len(part) for part in driving.parts(large)] == [2, 2, 1]
    assert list(driving.parts([])) == [[]]
