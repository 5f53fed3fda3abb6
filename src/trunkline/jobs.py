"""Everything that happens because time passed or something came in, as one visible list."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from trunkline import log
from trunkline.context import App
from trunkline.services import api_keys, index, ingest, meaning, retention, routing, sending, sync

_LOG = log.get("trunkline.jobs")


class Job(NamedTuple):
    """A function and its pace. One that tells that more is left is run again at once."""

    name: str
    seconds: float
    run: Callable[[App], Awaitable[object]]
    bell: str | None = None
    """Which of the App's bells calls it before its time."""
    stop: Callable[[App], Awaitable[object]] | None = None
    """What is run at a stop instead."""


JOBS: tuple[Job, ...] = (
    Job("key_uses", api_keys.FLUSH_SECONDS, api_keys.flush_uses_due),
    Job("inbox", 1.0, ingest.read_due, "inbox"),
    Job("routing", 1.0, routing.route_due, "events"),
    Job("sending", 1.0, sending.send_due, "deliveries", sending.stop),
    Job("index", 1.0, index.fill_due, "index"),
    Job("meaning", 5.0, meaning.fill_due, "index"),
    Job("runs", 1.0, sync.run_due, "runs", sync.stop),
    Job("retention", retention.EVERY_SECONDS, retention.prune_due),
)


async def run_forever(app: App) -> None:
    """Run every job at its pace until cancelled."""
    async with asyncio.TaskGroup() as group:
        for job in JOBS:
            group.create_task(_repeat(app, job))


async def _repeat(app: App, job: Job) -> None:
    bell = getattr(app.bells, job.bell) if job.bell else None
    while True:
        rung = bell.rung if bell else 0
        if await guarded(app, job) is True:
            await asyncio.sleep(0)
        elif bell is None:
            await app.clock.sleep(job.seconds)
        else:
            await bell.wait(job.seconds, since=rung)


async def guarded(app: App, job: Job) -> object:
    """Run a job once; a failure is logged and the next run tries again."""
    try:
        return await job.run(app)
    except Exception:  # noqa: BLE001 - the job guard: one failing job must not stop the others
        _LOG.exception("job failed", job=job.name)
        return None


async def finish(app: App) -> None:
    """Run what must not be lost at a stop."""
    for job in JOBS:
        if job.stop is not None:
            await guarded(app, job._replace(run=job.stop))
        elif job.bell is None:
            await guarded(app, job)
