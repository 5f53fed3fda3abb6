"""Everything that happens because time passed, as one visible list."""

import asyncio
from collections.abc import Awaitable, Callable

from trunkline import log
from trunkline.context import App
from trunkline.services import api_keys

_LOG = log.get("trunkline.jobs")

Job = Callable[[App], Awaitable[object]]

JOBS: tuple[tuple[str, float, Job], ...] = (("key_uses", api_keys.FLUSH_SECONDS, api_keys.flush_uses_due),)
"""Name, seconds between two runs, function."""


async def run_forever(app: App) -> None:
    """Run every job at its pace until cancelled."""
    async with asyncio.TaskGroup() as group:
        for name, seconds, job in JOBS:
            group.create_task(_repeat(app, name, seconds, job))


async def _repeat(app: App, name: str, seconds: float, job: Job) -> None:
    while True:
        await app.clock.sleep(seconds)
        await guarded(app, name, job)


async def guarded(app: App, name: str, job: Job) -> None:
    """Run a job once; a failure is logged and the next run tries again."""
    try:
        await job(app)
    except Exception:  # noqa: BLE001 - the job guard: one failing job must not stop the others
        _LOG.exception("job failed", job=name)


async def finish(app: App) -> None:
    """Run what must not be lost at a stop."""
    for name, _, job in JOBS:
        await guarded(app, name, job)
