"""`trunkline demo`: start the sandbox and a hub on loopback, do the job, leave the hub running."""

import asyncio
import csv
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from trunkline.cli import output
from trunkline.cli.children import Child, running
from trunkline.cli.demo_job import run_job
from trunkline.cli.sandbox import Count, Incidents
from trunkline.client import Trunkline
from trunkline.clock import Clock, SystemClock
from trunkline.errors import Invalid, Unavailable
from trunkline.settings import Settings, environment_for_child

_DEFAULT_COUNT = 1_000
_HOST = "127.0.0.1"
_INTERRUPTED = 130
_KEY_COLUMN = "number"


def demo(
    *,
    incidents: Incidents = None,
    count: Count = None,
    leave: Annotated[bool, typer.Option("--exit", help="End after the job instead of staying up.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The hub's port; a free one if left out and taken.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the hub's data here; else it is gone at the end.")
    ] = None,
) -> None:
    """Start the hub and the sandbox, call both services for real, stay up."""
    if incidents is not None and count is not None:
        raise Invalid("Give either --incidents or --count, not both")
    if count == 0:
        raise Invalid("The demo needs at least one incident")
    expected = _distinct_incidents(incidents) if incidents else count or _DEFAULT_COUNT
    source = ["--incidents", str(incidents.absolute())] if incidents else ["--count", str(expected)]
    with tempfile.TemporaryDirectory(prefix="trunkline-demo-") as name:
        folder = Path(name)
        kept = (data_dir or folder / "data").absolute()
        run = _Demo(folder, kept, _port(port), source, expected, leave)
        raise typer.Exit(asyncio.run(run.until_stopped()))


@dataclass(frozen=True)
class _Demo:
    """One run: what was asked for, and the two children."""

    folder: Path
    data_dir: Path
    port: int
    source: list[str]
    expected: int
    leave: bool
    clock: Clock = field(default_factory=SystemClock)

    async def until_stopped(self) -> int:
        """Run to the end, or until Ctrl-C, which stops both children first."""
        task = asyncio.ensure_future(self._run())
        with _stop_signals(task):
            try:
                return await task
            except asyncio.CancelledError:
                output.note("Interrupted; everything is stopped.")
                return _INTERRUPTED

    async def _run(self) -> int:
        async with AsyncExitStack() as stack:
            arguments = ["sandbox", "--host", _HOST, "--port", "0", *self.source]
            environment = environment_for_child()
            sandbox = await stack.enter_async_context(running("sandbox", arguments, self.folder, environment))
            services = await sandbox.ready(self.clock)
            output.done(f"sandbox at {_address(services)} with {self.expected:,} incidents")
            hub = await stack.enter_async_context(self._hub(services))
            ready = await hub.ready(self.clock)
            output.done(f"hub at {ready['url']}; of private addresses it may reach only the sandbox")
            async with Trunkline(ready["url"], ready["api_key"]) as client:
                succeeded = await run_job(client, services, self.expected, self.clock)
            if not succeeded:
                output.note(f"The hub's last words:\n{hub.tail()}", "dim")
                return output.ExitCode.FAILED
            if not self.leave:
                await _stay(ready, self.data_dir, hub, sandbox)
            return output.ExitCode.OK

    def _hub(self, services: dict[str, Any]) -> Any:
        environment = environment_for_child(egress_allow=_address(services), log_format="console")
        arguments = ["up", "--data-dir", str(self.data_dir), "--host", _HOST, "--port", str(self.port)]
        return running("hub", arguments, self.folder, environment)


async def _stay(ready: dict[str, Any], data_dir: Path, *children: Child) -> None:
    """Say where the hub is, and wait until Ctrl-C or until a child ends by itself."""
    output.say("")
    output.show_fields(
        {"address": ready["url"], "API key": ready["api_key"], "API page": f"{ready['url']}/docs"}
    )
    output.say(f"Try: trunkline integration list --data-dir {data_dir}")
    output.say("The hub is running. Ctrl-C stops it and the sandbox.", "bold")
    ends = {asyncio.ensure_future(child.process.wait()): child for child in children}
    try:
        ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        output.note("Stopping.")
        return
    finally:
        for task in ends:
            task.cancel()
    child = ends[ended.pop()]
    raise Unavailable(f"The {child.name} ended:\n{child.tail()}")


@contextmanager
def _stop_signals(task: "asyncio.Future[int]") -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in caught:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


def _address(services: dict[str, Any]) -> str:
    """Return the sandbox's host:port, from the address of its control API."""
    return urlsplit(str(services["control_url"])).netloc


def _port(wanted: int | None) -> int:
    """Return the port asked for; else the usual one if nobody listens there, else 0."""
    if wanted is not None:
        return wanted
    usual: int = Settings(host=_HOST).port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, usual))
        except OSError:
            return 0
    return usual


def _distinct_incidents(path: Path) -> int:
    """Count the incidents of a log by reading it here, so that the job is not judged by the sandbox's word.

    Raises:
        Invalid: the file is no CSV text with the column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = {row.get(_KEY_COLUMN) for row in csv.DictReader(file)} - {None, ""}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{path}: {error}") from error
    if not names:
        raise Invalid(f"{path} holds no incidents: the column {_KEY_COLUMN!r} is missing or empty")
    return len(names)
