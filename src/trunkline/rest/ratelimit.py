"""What a service said about its rate limit, per integration, in this process.

Reads the headers that the manifest names, and 429 answers with `Retry-After`. Does not count calls itself.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping

from trunkline.catalog.manifest import RateLimit
from trunkline.clock import Clock
from trunkline.rest.cursors import time_of
from trunkline.rest.retry import retry_after

MAX_WAIT_SECONDS = 3600.0
"""A reset further away than this is taken for an hour: a wrong header must not close an integration for good."""


class RateGate:
    """When the next call of an integration is allowed. Bounded: the longest unused entry goes first."""

    def __init__(self, clock: Clock, size: int = 10_000) -> None:
        self._clock = clock
        self._size = size
        self._open_at: OrderedDict[str, float] = OrderedDict()

    def wait_seconds(self, integration_id: str) -> float:
        """Return how long the next call must wait; 0 when it may go."""
        open_at = self._open_at.get(integration_id)
        if open_at is None:
            return 0.0
        left = open_at - self._clock.monotonic()
        if left <= 0:
            del self._open_at[integration_id]
            return 0.0
        return left

    def learn(
        self, integration_id: str, status: int, headers: Mapping[str, str], rule: RateLimit | None
    ) -> None:
        """Note what an answer says about the limit."""
        is_over = status == 429
        wait = retry_after(headers, self._clock.now()) if is_over else None
        if wait is None and rule is not None and (is_over or _is_used_up(headers, rule)):
            wait = self._until_reset(headers, rule)
        if wait is not None and wait > 0:
            self._close(integration_id, min(wait, MAX_WAIT_SECONDS))

    def forget(self, integration_id: str) -> None:
        """Let the integration's next call go."""
        self._open_at.pop(integration_id, None)

    def _close(self, integration_id: str, seconds: float) -> None:
        self._open_at[integration_id] = self._clock.monotonic() + seconds
        self._open_at.move_to_end(integration_id)
        if len(self._open_at) > self._size:
            self._open_at.popitem(last=False)

    def _until_reset(self, headers: Mapping[str, str], rule: RateLimit) -> float | None:
        if rule.reset_format == "iso8601":
            at = time_of(headers.get(rule.reset, "")[:32])
            return None if at is None else (at - self._clock.now()).total_seconds()
        reset = _number(headers.get(rule.reset))
        if reset is None:
            return None
        if rule.reset_format == "delta_seconds":
            return reset
        return (reset / 1_000 if rule.reset_format == "epoch_ms" else reset) - self._clock.now().timestamp()


def _is_used_up(headers: Mapping[str, str], rule: RateLimit) -> bool:
    remaining = _number(headers.get(rule.remaining)) if rule.remaining else None
    return remaining is not None and remaining < 1


def _number(text: str | None) -> float | None:
    if text is None or len(text) > 32:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
