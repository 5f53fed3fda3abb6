"""When a delivery is tried again, and how long its destination is left alone. Pure: decides, stores nothing.

Failures follow the schedule of Standard Webhooks. A "not now" (429, or 503 with `Retry-After`) is no failure: at
least as long is waited as was told, and longer the older the delivery is, so that it ends within days and after some
hundred tries at most.
"""

import random
from datetime import datetime, timedelta

RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The waits after each failure; the first attempt is at once, so there are ten."""
JITTER = 0.2
LONGEST_WAIT = timedelta(hours=24)
"""A `Retry-After` further away than this is taken for this."""
GIVE_UP_AFTER = timedelta(days=5)
"""A delivery that is only ever put off fails then; a destination that only ever fails is switched off."""
CIRCUIT_FAILURES = 5
"""In a row: then one attempt at a time is made, after a wait that doubles."""
CIRCUIT_SECONDS = 30.0
LONGEST_CIRCUIT_SECONDS = 600.0
_SHORTEST_PUT_OFF, _LONGEST_PUT_OFF = 1.0, 600.0


def jittered(seconds: float) -> timedelta:
    """Return the wait, a fifth shorter or longer by chance: what failed together must not come back together."""
    return timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))


def retry_wait(failures: int) -> timedelta | None:
    """Return the wait after so many failures, or None when that was the last attempt."""
    return jittered(RETRY_SECONDS[failures - 1]) if failures <= len(RETRY_SECONDS) else None


def put_off_wait(queued_at: datetime, now: datetime, retry_after: float | None) -> timedelta | None:
    """Return the wait after a "not now", or None when it has gone on for too long."""
    age = now - queued_at
    if age >= GIVE_UP_AFTER:
        return None
    own = jittered(min(max(age.total_seconds() / 10, _SHORTEST_PUT_OFF), _LONGEST_PUT_OFF))
    if retry_after is None:
        return own
    told = min(timedelta(seconds=retry_after), LONGEST_WAIT)
    return told if age <= told else max(told, own)


def circuit_wait(failures: int) -> timedelta | None:
    """Return how long a destination is left alone after so many failures in a row; None: not at all."""
    if failures < CIRCUIT_FAILURES:
        return None
    doublings = min(failures - CIRCUIT_FAILURES, 10)
    return jittered(min(CIRCUIT_SECONDS * 2.0**doublings, LONGEST_CIRCUIT_SECONDS))
