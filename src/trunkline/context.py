"""Who is calling, in which workspace, with which parts of the application at hand."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from trunkline.catalog.registry import Registry
from trunkline.clock import Clock
from trunkline.db import Database
from trunkline.egress import Egress
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

    def clear(self) -> None:
        self._entries.clear()


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
    key_uses: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = ShortCache(self.clock)
        self.integrations = ShortCache(self.clock)


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
