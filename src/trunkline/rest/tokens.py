"""Access tokens in memory: used until shortly before they expire, fetched by one task at a time.

Does not know how a token is fetched (`grants`), nor who asks (`auth`). Nothing here is written to disk.
"""

import asyncio
import hashlib
import math
import secrets as random_bytes
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from trunkline.clock import Clock
from trunkline.errors import RemoteFailed

TokenKey = tuple[str, ...]
"""The integration's id first, then whatever else tells one token from another."""

MAX_LIFETIME_SECONDS = 24 * 3600.0
COOL_DOWN_SECONDS = 5.0
"""How long a refusal is repeated instead of asking again."""
COOL_DOWN_AFTER_OUTAGE_SECONDS = 1.0
_MAX_MARGIN_SECONDS = 15 * 60.0
_MIN_MARGIN_SECONDS = 30.0
_SALT = random_bytes.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Token:
    """A token and for how many seconds it holds from now."""

    value: str = field(repr=False)
    lifetime_seconds: float


@dataclass(slots=True)
class _Entry:
    token: Token | None = None
    usable_until: float = 0.0
    failure: RemoteFailed | None = None
    failed_until: float = 0.0


class TokenCache:
    """Tokens by key, at most `size` of them; the longest unused one goes first."""

    def __init__(self, clock: Clock, size: int = 10_000) -> None:
        self._clock = clock
        self._size = size
        self._entries: OrderedDict[TokenKey, _Entry] = OrderedDict()
        self._flights: dict[TokenKey, asyncio.Task[Token]] = {}

    def peek(self, key: TokenKey) -> Token | None:
        """Return the token if it can still be used."""
        entry = self._entries.get(key)
        if entry is None or entry.token is None or entry.usable_until <= self._clock.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry.token

    async def fetch(self, key: TokenKey, mint: Callable[[], Awaitable[Token]]) -> Token:
        """Fetch a token; whoever asks meanwhile waits for the same fetch.

        A waiter that is cancelled leaves the fetch running. After a failure the same failure is raised for a few
        seconds without asking again.

        Raises:
            RemoteFailed: what `mint` raised.
        """
        flight = self._flights.get(key)
        if flight is None:
            self._refuse_while_cooling(key)
            flight = asyncio.create_task(self._mint(key, mint))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def cooling(self, key: TokenKey) -> float:
        """Return the seconds for which a failed key is not asked again."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else max(0.0, entry.failed_until - self._clock.monotonic())

    def drop(self, key: TokenKey, token: Token | None = None) -> None:
        """Forget the key's token and failure; given a token, only if it is still that one."""
        entry = self._entries.get(key)
        if entry is not None and (token is None or entry.token is token):
            del self._entries[key]

    def forget(self, integration_id: str) -> None:
        """Forget everything of one integration, and what is being fetched for it."""
        for key in [key for key in self._entries if key[0] == integration_id]:
            del self._entries[key]
        for key in [key for key in self._flights if key[0] == integration_id]:
            del self._flights[key]

    async def close(self) -> None:
        """Cancel what is being fetched."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _refuse_while_cooling(self, key: TokenKey) -> None:
        entry = self._entries.get(key)
        if entry is not None and entry.failure is not None and self.cooling(key) > 0:
            raise _bare(entry.failure)

    async def _mint(self, key: TokenKey, mint: Callable[[], Awaitable[Token]]) -> Token:
        task = asyncio.current_task()
        try:
            token = await mint()
        except RemoteFailed as failure:
            if self._flights.get(key) is task:
                self._remember_failure(key, failure)
            raise
        if self._flights.get(key) is task:
            until = self._clock.monotonic() + usable_seconds(token.lifetime_seconds)
            self._put(key, _Entry(token=token, usable_until=until))
        return token

    def _remember_failure(self, key: TokenKey, failure: RemoteFailed) -> None:
        seconds = COOL_DOWN_AFTER_OUTAGE_SECONDS if failure.retryable else COOL_DOWN_SECONDS
        self._put(key, _Entry(failure=_bare(failure), failed_until=self._clock.monotonic() + seconds))

    def _put(self, key: TokenKey, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def _landed(self, key: TokenKey, flight: asyncio.Task[Token]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as seen, though every waiter may be gone


def _bare(failure: RemoteFailed) -> RemoteFailed:
    """Copy a failure and its cause without their stacks, whose frames hold secrets."""
    copy = RemoteFailed(
        failure.message, kind=failure.kind, status=failure.status, retryable=failure.retryable
    )
    if isinstance(failure.__cause__, RemoteFailed):
        copy.__cause__ = _bare(failure.__cause__)
    return copy


def usable_seconds(lifetime: float) -> float:
    """Return for how long a token is used: its lifetime less a tenth (15 min at most, 30 s if it can spare them)."""
    margin = max(min(_MAX_MARGIN_SECONDS, lifetime / 10), min(_MIN_MARGIN_SECONDS, lifetime / 2))
    return lifetime - margin


def lifetime(given: object, default: float) -> float:
    """Read `expires_in` as servers send it: a number or digits; at most 24 h; nonsense means the default."""
    seconds = default
    if isinstance(given, int | float | str) and not isinstance(given, bool):
        try:
            seconds = float(given)
        except (ValueError, OverflowError):
            seconds = default
    if not math.isfinite(seconds) or seconds <= 0:
        seconds = default
    return min(seconds, MAX_LIFETIME_SECONDS)


def digest(parts: Iterable[str]) -> str:
    """Fold values into a key without keeping them: keyed per process, so it tells nothing elsewhere."""
    state = hashlib.blake2b(key=_SALT, digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "big"))
        state.update(raw)
    return state.hexdigest()
