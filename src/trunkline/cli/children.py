"""Child processes of the demo: start them, wait until they say they are ready, stop them cleanly."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from trunkline.clock import Clock
from trunkline.errors import Unavailable
from trunkline.redact import redact_keys

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.02
_TAIL_LINES = 15


@dataclass(frozen=True)
class Child:
    """A `trunkline` command that runs beside this one."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    ready_file: Path

    def tail(self) -> str:
        """Return the last lines it wrote, without API keys."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return redact_keys("\n".join(text.splitlines()[-_TAIL_LINES:]))

    async def ready(self, clock: Clock) -> dict[str, Any]:
        """Wait for its ready file and return what it holds.

        Raises:
            Unavailable: it ended, or took longer than a minute; the text has its last words.
        """
        give_up_at = clock.monotonic() + _START_SECONDS
        while not self.ready_file.exists():
            if self.process.returncode is not None:
                raise Unavailable(
                    f"The {self.name} ended with exit code {self.process.returncode}:\n{self.tail()}"
                )
            if clock.monotonic() > give_up_at:
                raise Unavailable(
                    f"The {self.name} was not ready after {_START_SECONDS:.0f} s:\n{self.tail()}"
                )
            await clock.sleep(_LOOK_SECONDS)
        ready = orjson.loads(self.ready_file.read_bytes())
        if not isinstance(ready, dict):
            raise Unavailable(f"The {self.name} left a ready file that is no object")
        return ready


@asynccontextmanager
async def running(
    name: str, arguments: list[str], folder: Path, environment: dict[str, str]
) -> AsyncIterator[Child]:
    """Run `trunkline ARGUMENTS --ready-file …`; at the end it is asked to stop, and made to if it does not.

    It gets a session of its own, so that Ctrl-C reaches only the parent, which stops its children in order.
    """
    log, ready_file = folder / f"{name}.log", folder / f"{name}.json"
    command = [sys.executable, "-P", "-m", "trunkline", *arguments, "--ready-file", str(ready_file)]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
    try:
        yield Child(name, process, log, ready_file)
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
