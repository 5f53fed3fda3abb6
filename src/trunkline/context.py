"""Who is calling, in which workspace, with which parts of the application at hand."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from trunkline.catalog.registry import Registry
from trunkline.clock import Clock
from trunkline.db import Database
from trunkline.egress import Egress
from trunkline.ids import new_id
from trunkline.rest.caller import RestCaller
from trunkline.settings import Settings
from trunkline.vault import Vault

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CACHE_SECONDS = 1.0
"""How long another worker's write may stay unseen. This worker's own writes drop the entry at once."""


class ShortCache(Generic[K, V]):
    """Remember values for a second, at most `size` of them."""

    def __init__(self, clock: Clock, seconds: float = CACHE_SECONDS, size: int = 10_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._size = size
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loading: dict[K, asyncio.Future[V]] = {}

    async def fetch(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Return what is remembered, else load it: once, however many ask for it meanwhile."""
        found = self.get(key)
        if found is not None:
            return found
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.ensure_future(load())
            loading.add_done_callback(lambda done: self._finish(key, done))
        # One caller that gives up must not end the load that others wait for.
        return await asyncio.shield(loading)

    def _finish(self, key: K, loaded: "asyncio.Future[V]") -> None:
        failed = loaded.cancelled() or loaded.exception() is not None
        if self._loading.get(key) is loaded:  # else it was dropped, and what was read may be older than that
            del self._loading[key]
            if not failed:
                self.put(key, loaded.result())

    def last(self, key: K) -> V | None:
        """Return the value remembered last, however old: to be compared with a new one, never to be used."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < self._clock.monotonic():
            return None
        return entry[1]

    def put(self, key: K, value: V) -> None:
        self._entries[key] = (self._clock.monotonic() + self._seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)
        self._loading.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()
        self._loading.clear()


class Bell:
    """Wakes whoever waits for something new, within this process; another process's news is found by looking."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._rung = 0

    @property
    def rung(self) -> int:
        """How often it rang: taken before looking, and given to `wait`, so that no ring is missed between the two."""
        return self._rung

    def ring(self) -> None:
        self._rung += 1
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float, since: int | None = None) -> bool:
        """Wait for a ring, at most so long; tell whether it came. With `since`, a ring after that counts at once."""
        if since is not None and since != self._rung:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True


@dataclass(slots=True)
class Bells:
    """What there may be news of: something came in, an event was appended, a delivery or a run is due, a run got on, records came in."""

    inbox: Bell = field(default_factory=Bell)
    events: Bell = field(default_factory=Bell)
    deliveries: Bell = field(default_factory=Bell)
    runs: Bell = field(default_factory=Bell)
    progress: Bell = field(default_factory=Bell)
    index: Bell = field(default_factory=Bell)


@dataclass(frozen=True, slots=True)
class Caller:
    """The API key that speaks: its workspace, role, and effective permissions in lower case."""

    workspace_id: str
    credential_id: str
    key_id: str
    person_id: str | None
    name: str | None
    role: str
    explicit: tuple[str, ...]
    permissions: frozenset[str]
    expires_at: datetime | None


@dataclass(slots=True)
class App:
    """The parts one process shares."""

    settings: Settings
    clock: Clock
    db: Database
    vault: Vault
    egress: Egress
    catalog: Registry
    rest: RestCaller
    keys: ShortCache[bytes, Caller] = field(init=False)
    integrations: ShortCache[tuple[str, str], Any] = field(init=False)
    integration_totals: ShortCache[str, dict[Any, int]] = field(init=False)
    hooks: ShortCache[bytes, Any] = field(init=False)
    matchers: ShortCache[str, Any] = field(init=False)
    key_uses: dict[str, datetime] = field(default_factory=dict)
    bells: Bells = field(default_factory=Bells)
    intake: Any = None
    """What waits for the inbox; made and used by `services/inbox.py` alone."""
    outbox: Any = None
    """What is being sent; made and used by `services/sending.py` alone."""
    filler: Any = None
    """How far the search index is filled; made and used by `services/index.py` alone."""
    meaning: Any = None
    """What searching by meaning needs, None when it is off; made and used by `services/meaning.py` alone."""
    crew: Any = None
    """The runs under way; made and used by `services/sync.py` alone."""
    worker: str = field(default_factory=new_id)
    """This process, as claims name it."""
    stopping: bool = False
    """Set when the process was told to stop: what never ends by itself ends now."""

    def __post_init__(self) -> None:
        self.keys = ShortCache(self.clock)
        self.integrations = ShortCache(self.clock)
        self.integration_totals = ShortCache(self.clock)
        self.hooks = ShortCache(self.clock)
        self.matchers = ShortCache(self.clock, seconds=300.0, size=1000)  # each is compared before it is used


@dataclass(frozen=True, slots=True)
class Context:
    """One request's surroundings: what every service function takes first."""

    app: App
    caller: Caller
    request_id: str

    @property
    def workspace_id(self) -> str:
        return self.caller.workspace_id

    @property
    def now(self) -> datetime:
        return self.app.clock.now()


def own_context(app: App, workspace_id: str) -> Context:
    """Return the surroundings of what the hub does by itself in a workspace: no key speaks, nothing is permitted."""
    return Context(app, Caller(workspace_id, "", "", None, None, "", (), frozenset(), None), "")
