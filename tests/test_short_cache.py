"""What a process remembers for a second: loaded once for all who ask, and forgotten at once when told so."""

import asyncio

import pytest

from trunkline.clock import ManualClock
from trunkline.context import CACHE_SECONDS, ShortCache


class Source:
    """Something to load from, held up until told to go on."""

    def __init__(self) -> None:
        self.asked = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.fails = False

    async def load(self) -> str:
        self.asked += 1
        self.started.set()
        answer = f"value {self.asked}"
        await self.go.wait()
        if self.fails:
            raise LookupError("gone")
        return answer


@pytest.fixture
def cache(clock: ManualClock) -> ShortCache[str, str]:
    return ShortCache(clock)


async def _all(cache: ShortCache[str, str], source: Source, count: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(cache.fetch("key", source.load)) for _ in range(count)]
    await source.started.wait()
    return tasks


async def test_many_who_ask_at_once_share_one_load(cache):
    source = Source()
    waiting = await _all(cache, source, 20)
    source.go.set()
    assert set(await asyncio.gather(*waiting)) == {"value 1"}
    assert await cache.fetch("key", source.load) == "value 1"
    assert source.asked == 1


async def test_a_value_is_loaded_again_after_a_second(cache, clock):
    source = Source()
    source.go.set()
    await cache.fetch("key", source.load)
    clock.advance(CACHE_SECONDS + 0.01)
    assert cache.get("key") is None
    assert cache.last("key") == "value 1"
    assert await cache.fetch("key", source.load) == "value 2"


async def test_what_was_read_before_a_drop_is_not_remembered_after_it(cache):
    source = Source()
    (early,) = await _all(cache, source, 1)
    cache.drop("key")
    late = asyncio.create_task(cache.fetch("key", source.load))
    await asyncio.sleep(0)
    source.go.set()
    assert [await early, await late] == ["value 1", "value 2"]
    assert cache.get("key") == "value 2"


async def test_a_failed_load_reaches_everybody_and_is_not_remembered(cache):
    source = Source()
    source.fails = True
    waiting = await _all(cache, source, 3)
    source.go.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * 3
    source.fails = False
    assert await cache.fetch("key", source.load) == "value 2"


async def test_one_who_gives_up_does_not_end_the_load_of_the_others(cache):
    source = Source()
    first, second = await _all(cache, source, 2)
    first.cancel()
    source.go.set()
    assert await second == "value 1"
