"""When a call is made again, and after which pause. Decides only; `caller` acts.

- A status of the endpoint's list is always repeated: whoever lists it says that repeating is safe.
- A network failure is repeated when the request cannot have arrived (connect, name look-up), or when the method is
  idempotent (RFC 9110 9.2.2): after a POST or PATCH was sent, a second one may do the thing twice.
- The pause is the server's `Retry-After`, else 1 s doubling to 60 s with full jitter.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from trunkline.catalog.endpoint import RetryConfig
from trunkline.errors import FieldError, Invalid, RemoteFailed

MAX_RETRIES = 10
MAX_PAUSE_SECONDS = 60.0
_LONGEST_RETRY_AFTER = 24 * 3600.0
_UNSENT = frozenset({"connect", "dns"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and on which statuses."""

    max_retries: int
    statuses: frozenset[int]

    @classmethod
    def compile(cls, config: RetryConfig) -> "RetryPolicy":
        """Check the ranges: 0 to 10 retries, statuses 100 to 599. Raises Invalid naming the fields."""
        problems = []
        if not 0 <= config.max_retries <= MAX_RETRIES:
            loc = ("retry_config", "max_retries")
            problems.append(FieldError(loc, f"must be between 0 and {MAX_RETRIES}", input=config.max_retries))
        for index, status in enumerate(config.retry_on_status[:500]):
            if not 100 <= status <= 599:
                where = ("retry_config", "retry_on_status", index)
                problems.append(FieldError(where, "must be between 100 and 599", input=status))
        if len(config.retry_on_status) > 500:
            problems.append(FieldError(("retry_config", "retry_on_status"), "has at most 500 statuses"))
        if problems:
            raise Invalid(fields=problems)
        return cls(config.max_retries, frozenset(config.retry_on_status))

    def repeats(self, failure: RemoteFailed, method: str) -> bool:
        """Tell whether a network failure may be tried again."""
        if failure.kind == "rate_limited":
            return False  # it was said because the wait does not fit
        if failure.kind == "auth":
            return failure.retryable
        return failure.retryable and (failure.kind in _UNSENT or method in _IDEMPOTENT)


NEVER = RetryPolicy(0, frozenset())


def back_off(retries: int) -> float:
    """Return the pause before the next try, after so many retries: full jitter below 1 s, 2 s, 4 s … 60 s."""
    return random.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(retries, 10)))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `Retry-After` (RFC 9110 10.2.3): seconds, or a date; None when absent, negative or nonsense."""
    text = headers.get("Retry-After", "").strip()
    if not text or len(text) > 64:
        return None
    seconds = _seconds(text)
    if seconds is None:
        seconds = _seconds_until(text, now)
    if seconds is None or seconds < 0:
        return None
    return min(seconds, _LONGEST_RETRY_AFTER)


def _seconds(text: str) -> float | None:
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    return float(text)


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return (moment - now).total_seconds()
    except OverflowError:
        return None
