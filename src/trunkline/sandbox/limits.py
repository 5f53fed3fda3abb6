"""Request rates as services limit them: a steady rate with a burst, or so many in a window. By the sandbox's clock."""

import math
from dataclasses import dataclass

from trunkline.clock import Clock

_ROUNDING = 1e-6


class SteadyRate:
    """One every `seconds` by key, after a burst of `burst` at once."""

    def __init__(self, clock: Clock, seconds: float, burst: int = 1) -> None:
        self._clock = clock
        self._seconds = seconds
        self._slack = seconds * (burst - 1) + _ROUNDING
        self._free_at: dict[str, float] = {}

    def wait(self, key: str) -> float:
        """Return how long the next one must wait; 0 when it may go."""
        early = self._free_at.get(key, 0.0) - self._slack - self._clock.monotonic()
        return max(0.0, early)

    def count(self, key: str) -> None:
        """Count one that goes."""
        self._free_at[key] = max(self._free_at.get(key, 0.0), self._clock.monotonic()) + self._seconds


@dataclass(frozen=True)
class Place:
    """Where a request stands in its window."""

    admitted: bool
    remaining: int
    reset_after: float


class Window:
    """At most `limit` by key in `seconds`, counted from the first."""

    def __init__(self, clock: Clock, limit: int, seconds: float) -> None:
        self._clock = clock
        self.limit = limit
        self._seconds = seconds
        self._open: dict[str, tuple[float, int]] = {}

    def take(self, key: str) -> Place:
        """Count a request, unless the window is full."""
        now = self._clock.monotonic()
        ends, used = self._open.get(key, (-math.inf, 0))
        if now >= ends:
            ends, used = now + self._seconds, 0
        admitted = used < self.limit
        self._open[key] = (ends, used + admitted)
        return Place(admitted, max(0, self.limit - used - 1), ends - now)
