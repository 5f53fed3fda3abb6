import asyncio

import pytest

from trunkline.errors import RemoteFailed
from trunkline.rest.tokens import Token, TokenCache, digest, lifetime, usable_seconds

KEY = ("integration", "digest")


class Mint:
    """Counts its calls and waits, if told to, until released."""

    def __init__(self, *, held=False, failure=None):
        self.calls = 0
        self.open = asyncio.Event()
        self.failure = failure
        if not held:
            self.open.set()

    async def __call__(self):
        self.calls += 1
        await self.open.wait()
        if self.failure:
            raise self.failure
        return Token(f"token-{self.calls}", 3600)


@pytest.fixture
def tokens(clock):
    return TokenCache(clock)


async def test_fifty_callers_at_once_make_one_request(tokens):
    mint = Mint(held=True)
    waiters = [asyncio.create_task(tokens.fetch(KEY, mint)) for _ in range(50)]
    await asyncio.sleep(0)
    mint.open.set()
    values = {token.value for token in await asyncio.gather(*waiters)}
    assert (values, mint.calls) == ({"token-1"}, 1)


async def test_a_waiter_that_is_cancelled_leaves_the_fetch_to_the_others(tokens):
    mint = Mint(held=True)
    first, second = (asyncio.create_task(tokens.fetch(KEY, mint)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    mint.open.set()
    assert (await second).value == "token-1"
    assert tokens.peek(KEY).value == "token-1"
    assert first.cancelled()


async def test_a_token_is_used_until_shortly_before_it_expires(tokens, clock):
    await tokens.fetch(KEY, Mint())
    clock.advance(3239)
    assert tokens.peek(KEY) is not None
    clock.advance(1)
    assert tokens.peek(KEY) is None


@pytest.mark.parametrize(
    ("seconds", "used"), [(3600, 3240), (86400, 85500), (200, 170), (60, 30), (40, 20), (1, 0.5)]
)
def test_the_margin_is_a_tenth_within_thirty_seconds_and_fifteen_minutes(seconds, used):
    assert usable_seconds(seconds) == used


async def test_a_failure_is_repeated_for_a_while_without_asking_again(tokens, clock):
    mint = Mint(failure=RemoteFailed("invalid_client", kind="auth"))
    for _ in range(3):
        with pytest.raises(RemoteFailed, match="invalid_client"):
            await tokens.fetch(KEY, mint)
    assert mint.calls == 1
    clock.advance(5)
    with pytest.raises(RemoteFailed):
        await tokens.fetch(KEY, mint)
    assert mint.calls == 2


async def test_after_an_outage_the_pause_is_a_second(tokens):
    with pytest.raises(RemoteFailed):
        await tokens.fetch(KEY, Mint(failure=RemoteFailed("down", kind="auth", retryable=True)))
    assert tokens.cooling(KEY) == 1.0


async def test_a_changed_secret_is_tried_at_once(tokens):
    with pytest.raises(RemoteFailed):
        await tokens.fetch(KEY, Mint(failure=RemoteFailed("invalid_client", kind="auth")))
    assert (await tokens.fetch(("integration", "other"), Mint())).value == "token-1"


async def test_dropping_an_old_token_keeps_a_newer_one(tokens):
    old = await tokens.fetch(KEY, Mint())
    tokens.drop(KEY, old)
    new = await tokens.fetch(KEY, Mint())
    tokens.drop(KEY, old)
    assert tokens.peek(KEY) is new


async def test_forgetting_an_integration_drops_its_tokens_only(tokens):
    await tokens.fetch(KEY, Mint())
    await tokens.fetch(("other", "x"), Mint())
    tokens.forget("integration")
    assert tokens.peek(KEY) is None
    assert tokens.peek(("other", "x")) is not None


async def test_a_token_that_arrives_after_forgetting_is_not_kept(tokens):
    mint = Mint(held=True)
    waiter = asyncio.create_task(tokens.fetch(KEY, mint))
    await asyncio.sleep(0)
    tokens.forget("integration")
    mint.open.set()
    assert (await waiter).value == "token-1"
    assert tokens.peek(KEY) is None


async def test_the_longest_unused_token_goes_first(clock):
    tokens = TokenCache(clock, size=2)
    for name in "abc":
        await tokens.fetch((name,), Mint())
        tokens.peek(("a",))
    assert [tokens.peek((name,)) is not None for name in "abc"] == [True, False, True]


async def test_closing_ends_what_is_being_fetched(tokens):
    waiter = asyncio.create_task(tokens.fetch(KEY, Mint(held=True)))
    await asyncio.sleep(0)
    await tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await waiter


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (120, 120),
        ("120", 120),
        (12.5, 12.5),
        (10**30, 86400),
        (10**400, 600),
        (-5, 600),
        (0, 600),
        (None, 600),
        (True, 600),
        ("soon", 600),
        ("nan", 600),
        ([1], 600),
        (float("inf"), 600),
    ],
)
def test_a_lifetime_that_makes_no_sense_is_the_default(given, seconds):
    assert lifetime(given, 600) == seconds


def test_a_token_does_not_show_itself():
    assert "s3cret" not in repr(Token("s3cret", 1))


def test_a_digest_tells_apart_what_differs_only_in_where_it_is_cut():
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["ab"]) == digest(["ab"])
