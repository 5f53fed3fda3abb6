"""Claims of deliveries as rows: whose turn it is, who holds what, and that no look costs more the more there waits."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import sqlalchemy as sa

from trunkline.catalog.manifest import ConfigField, Notify
from trunkline.db import Database
from trunkline.services import claims, deliveries, outcomes
from trunkline.services.claims import LEASE, PER_DESTINATION, Claimed, Turn
from trunkline.services.deliveries import Planned
from trunkline.services.outcomes import Outcome
from trunkline.tables import deliveries as rows
from trunkline.tables import delivery_attempts, destinations

NOW = datetime(2026, 5, 3, 10, tzinfo=UTC)
WORKSPACE = str(UUID(int=1))
ROUTE = str(UUID(int=2))


def name(number: int) -> str:
    return f"destination-{number}"


async def plan(database: Database, destination: int, count: int, now: datetime = NOW, start: int = 0) -> None:
    """Let `count` events be due at a destination, which has a route of its own."""
    planned = [
        Planned(
            str(UUID(int=destination * 10**9 + start + at)), at, str(UUID(int=destination)), name(destination)
        )
        for at in range(count)
    ]
    await database.write(lambda conn: deliveries.plan(conn, WORKSPACE, planned, now))


async def known(database: Database, *numbers: int, notify: Notify | None = None, **options) -> None:
    def write(conn: sa.Connection) -> None:
        for number in numbers:
            deliveries.ensure_destination(conn, name(number), WORKSPACE, "It", notify=notify, **options)

    await database.write(write)


async def claim(
    database: Database, now: datetime = NOW, worker: str = "one", room: int = 64, **options
) -> Turn:
    given = {"busy": {}, "suspects": 32} | options
    return await database.write(lambda conn: claims.claim(conn, now, worker, room, **given))


async def finish(database: Database, *done: Outcome, now: datetime = NOW, worker: str = "one") -> None:
    await database.write(lambda conn: outcomes.finish(conn, worker, done, now))


def outcome(claimed: Claimed, verdict: str = "delivered", **more) -> Outcome:
    return Outcome(claimed, verdict, NOW, **more)


async def states(database: Database) -> Counter[str]:
    return Counter(await database.read(lambda conn: conn.scalars(sa.select(rows.c.state)).all()))


async def destination(database: Database, number: int = 1):
    query = sa.select(destinations).where(destinations.c.id == name(number))
    return await database.read(lambda conn: conn.execute(query).one())


def count_by_destination(turn: Turn) -> Counter[str]:
    return Counter(each.destination_id for each in turn.claimed)


def notify(**limits) -> Notify:
    return Notify(endpoint="e", params={}, channel=ConfigField(label="C"), max_length=100, **limits)


async def test_an_event_is_on_a_route_only_once(database: Database):
    await known(database, 1)
    await plan(database, 1, 3)
    await plan(database, 1, 5)
    assert await states(database) == {"pending": 5}


async def test_turns_are_fair_however_long_one_queue_is(database: Database):
    await known(database, 1, 2, 3)
    await plan(database, 1, 500)
    await plan(database, 2, 3, NOW + timedelta(seconds=1))
    await plan(database, 3, 1, NOW + timedelta(seconds=2))
    turn = await claim(database, NOW + timedelta(seconds=2))
    assert count_by_destination(turn) == {name(1): PER_DESTINATION, name(2): 3, name(3): 1}
    assert turn.more


async def test_with_little_room_everybody_has_a_turn_before_anybody_has_a_second(database: Database):
    await known(database, 1, 2, 3)
    for number in (1, 2, 3):
        await plan(database, number, 100, NOW + timedelta(milliseconds=number))
    seen = []
    for step in range(6):
        turn = await claim(database, NOW + timedelta(seconds=1 + step), room=2)
        seen += list(count_by_destination(turn))
    assert seen == [name(1), name(2), name(3)] * 2


async def test_two_workers_never_hold_the_same_attempt(database: Database):
    numbers = range(1, 21)
    await known(database, *numbers)
    for number in numbers:
        await plan(database, number, 30)
    held: Counter[str] = Counter()

    async def work(worker: str) -> None:
        for _ in range(40):
            turn = await claim(database, worker=worker, room=16)
            held.update(each.id for each in turn.claimed)
            await finish(database, *(outcome(each) for each in turn.claimed), worker=worker)

    await asyncio.gather(*(work(f"worker-{number}") for number in range(4)))
    while (turn := await claim(database)).claimed:
        held.update(each.id for each in turn.claimed)
        await finish(database, *map(outcome, turn.claimed))
    assert (len(held), set(held.values())) == (600, {1})
    assert await states(database) == {"delivered": 600}


async def test_what_a_dead_worker_held_is_due_again_and_its_attempt_counts(database: Database):
    await known(database, 1)
    await plan(database, 1, 1)
    (first,) = (await claim(database, worker="dead")).claimed
    later = NOW + LEASE
    just_before = later - timedelta(seconds=1)
    await database.write(lambda conn: outcomes.take_back(conn, just_before))
    assert (await claim(database, just_before)).claimed == []
    await database.write(lambda conn: outcomes.take_back(conn, later))
    (second,) = (await claim(database, later)).claimed
    assert (second.id, second.number, second.failures) == (first.id, 2, 1)
    tried = await database.read(lambda conn: conn.execute(sa.select(delivery_attempts)).one())
    assert (tried.number, tried.started_at) == (1, NOW)
    assert "may have arrived" in tried.error


async def test_who_lost_a_claim_finishes_nothing(database: Database):
    await known(database, 1)
    await plan(database, 1, 1)
    (late,) = (await claim(database, worker="slow")).claimed
    later = NOW + LEASE
    await database.write(lambda conn: outcomes.take_back(conn, later))
    (now_theirs,) = (await claim(database, later, worker="other")).claimed
    await finish(database, outcome(late), now=later, worker="slow")
    assert await states(database) == {"sending": 1}
    await finish(database, outcome(now_theirs), now=later, worker="other")
    assert await states(database) == {"delivered": 1}


async def test_one_that_kills_its_worker_every_time_is_given_up(database: Database):
    await known(database, 1)
    await plan(database, 1, 1)
    now = NOW
    for _ in range(10):
        assert len((await claim(database, now)).claimed) == 1
        now += LEASE
        await database.write(lambda conn, now=now: outcomes.take_back(conn, now))
    assert await states(database) == {"failed": 1}


async def test_a_probe_is_made_by_one_worker_alone(database: Database):
    await known(database, 1)
    await plan(database, 1, 20)
    turn = await claim(database)
    await finish(database, *(outcome(each, "failed") for each in turn.claimed))
    assert (await destination(database)).failures == 5
    later = NOW + timedelta(seconds=40)
    (probe,) = (await claim(database, later)).claimed
    assert probe.is_probe
    assert (await claim(database, later + timedelta(seconds=50), worker="two")).claimed == []
    await finish(database, outcome(probe), now=later)
    assert len((await claim(database, later, worker="two")).claimed) == PER_DESTINATION


async def test_a_probe_that_was_lost_is_made_again_when_its_lease_ends(database: Database):
    await known(database, 1)
    await plan(database, 1, 20)
    turn = await claim(database)
    await finish(database, *(outcome(each, "failed") for each in turn.claimed))
    later = NOW + timedelta(seconds=40)
    assert len((await claim(database, later, worker="dead")).claimed) == 1
    assert len((await claim(database, later + LEASE)).claimed) == 1


async def test_a_destination_that_failed_gets_one_attempt_at_a_time(database: Database):
    await known(database, 1)
    await plan(database, 1, 20)
    (first, *rest) = (await claim(database)).claimed
    await finish(database, outcome(first, "failed"))
    later = NOW + timedelta(seconds=2)
    assert (await claim(database, later, busy={name(1): len(rest)})).claimed == []
    assert len((await claim(database, later + timedelta(seconds=2))).claimed) == 1


async def test_when_many_destinations_fail_others_keep_room(database: Database):
    await known(database, 1, 2)
    await plan(database, 1, 20)
    (first, *_) = (await claim(database)).claimed
    await finish(database, outcome(first, "failed"))
    await plan(database, 2, 1)
    turn = await claim(database, NOW + timedelta(seconds=2), suspects=0)
    assert count_by_destination(turn) == {name(2): 1}


async def test_slow_destinations_share_the_room_of_failing_ones(database: Database):
    await known(database, 1, 2, 3)
    for number in (1, 2, 3):
        await plan(database, number, 20)
    turn = await claim(database, suspects=10, slow={name(1), name(2)})
    taken = count_by_destination(turn)
    assert taken[name(3)] == PER_DESTINATION
    assert taken[name(1)] + taken[name(2)] == 10
    assert {each.destination_id for each in turn.claimed if each.is_suspect} == {name(1), name(2)}


async def test_a_channel_gets_one_message_in_its_time(database: Database):
    await known(database, 1, notify=notify(channel_seconds=1))
    await plan(database, 1, 5)
    sent_at = []
    for tenths in range(60):
        at = NOW + timedelta(seconds=tenths / 10)
        turn = await claim(database, at)
        sent_at += [at] * len(turn.claimed)
        await finish(database, *map(outcome, turn.claimed), now=at)
    gaps = [later - sooner for sooner, later in pairwise(sent_at)]
    assert len(sent_at) == 5
    assert all(timedelta(seconds=1) <= gap <= timedelta(seconds=1.2) for gap in gaps)


async def test_an_integration_sends_no_more_in_a_second_than_its_service_takes(database: Database):
    numbers = range(1, 101)
    await known(database, *numbers, notify=notify(per_second=30), integration_id=str(UUID(int=9)))
    for number in numbers:
        await plan(database, number, 1)
    sent_at: list[datetime] = []
    for step in range(250):  # two workers, each looking every 40 ms
        at = NOW + timedelta(milliseconds=20 * step)
        turn = await claim(database, at, worker=f"worker-{step % 2}")
        sent_at += [at] * len(turn.claimed)
        await finish(database, *map(outcome, turn.claimed), now=at, worker=f"worker-{step % 2}")
    assert len(sent_at) == 100
    for at in sent_at:
        assert sum(at <= other < at + timedelta(seconds=1) for other in sent_at) <= 31
    assert sent_at[-1] - NOW < timedelta(seconds=4.5)


async def test_an_exhausted_bucket_is_left_alone_until_its_reset(database: Database):
    await known(database, 1, 2)
    await plan(database, 1, 20)
    await plan(database, 2, 1)
    turn = await claim(database, room=3)
    await finish(database, *(outcome(each, wait_seconds=7) for each in turn.claimed))
    assert count_by_destination(await claim(database, NOW + timedelta(seconds=6))) == {name(2): 1}
    assert len((await claim(database, NOW + timedelta(seconds=7))).claimed) == PER_DESTINATION


async def test_a_turn_that_went_missing_is_found_again(database: Database):
    await known(database, 1)
    await plan(database, 1, 1)
    await database.write(lambda conn: conn.execute(sa.update(destinations).values(next_turn_at=None)))
    assert (await claim(database)).claimed == []
    assert await database.write(lambda conn: claims.call_up_stranded(conn, NOW)) == 1
    assert len((await claim(database)).claimed) == 1


async def test_a_look_tells_when_the_next_turn_is(database: Database):
    await known(database, 1)
    await plan(database, 1, 1)
    (first,) = (await claim(database)).claimed
    await finish(database, outcome(first, "failed"))
    turn = await claim(database, NOW + timedelta(seconds=1))
    assert turn.claimed == []
    assert timedelta(seconds=4) <= turn.next_at - NOW <= timedelta(seconds=6)
    assert (await claim(database, turn.next_at)).claimed == [
        replace(first, number=2, failures=1, until=turn.next_at + LEASE, is_suspect=True)
    ]


async def test_no_look_reads_more_the_more_there_waits(database: Database):
    await known(database, *range(1, 300))
    for number in range(1, 31):
        await plan(database, number, 300)
    (first, *_) = (await claim(database)).claimed
    ran: list[tuple[str, object]] = []

    def note(_conn, _cursor, statement, parameters, _context, is_many) -> None:
        ran.append((statement, parameters[0] if is_many else parameters))

    def look(conn: sa.Connection) -> list[str]:
        if database.dialect == "postgresql":
            conn.execute(sa.text("ANALYZE"))
        sa.event.listen(conn, "before_cursor_execute", note)
        outcomes.finish(conn, "one", [outcome(first, "gone")], NOW)
        outcomes.take_back(conn, NOW + LEASE)
        claims.claim(conn, NOW + LEASE, "one", 300, busy={name(300): PER_DESTINATION}, suspects=32)
        sa.event.remove(conn, "before_cursor_execute", note)
        prefix = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
        return [
            f"{statement}\n{row[-1]}"
            for statement, parameters in dict(ran).items()
            if not statement.startswith("INSERT")
            for row in conn.exec_driver_sql(prefix + statement, parameters)
        ]

    plans = await database.write(look)
    assert len(plans) > 10
    for plan_line in plans:
        step = plan_line.splitlines()[-1]
        assert "Seq Scan on deliveries" not in step, plan_line
        assert "TEMP B-TREE" not in step, plan_line
        assert not step.startswith("SCAN") or "INDEX" in step, plan_line
