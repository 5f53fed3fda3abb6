"""Start, serve, stop: one process on one port."""

import asyncio
import contextlib
import gc
import importlib.util
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from sqlalchemy import Connection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trunkline import __version__, jobs, log
from trunkline.catalog.registry import Registry
from trunkline.clock import Clock, SystemClock
from trunkline.context import App
from trunkline.db import open_database
from trunkline.egress import Egress
from trunkline.errors import Invalid, Unavailable
from trunkline.http.app import Hub
from trunkline.http.wire import DROP, is_loopback
from trunkline.ready import forget_ready, read_ready, write_ready
from trunkline.rest.caller import RestCaller
from trunkline.services import api_keys, meaning, workspaces
from trunkline.settings import Settings
from trunkline.vault import Vault

MAX_HEADER_BYTES = 64 * 1024
_FIRST_WORKSPACE = "Default"
_LOG = log.get("trunkline.server")
# Requests hold few cycles but make thousands of objects: looking through them less often saves a seventh of a call.
_GARBAGE = (50_000, 20, 50)


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the hub answers, and a key to it."""

    url: str
    workspace_id: str
    api_key: str

    def __repr__(self) -> str:
        return f"Ready(url={self.url!r}, workspace_id={self.workspace_id!r})"


@contextlib.asynccontextmanager
async def open_app(settings: Settings, clock: Clock | None = None) -> AsyncIterator[App]:
    """Open everything one process shares; close it in the opposite order.

    Raises:
        Invalid, Unavailable: settings, the key file or the database are not usable.
    """
    clock = clock or SystemClock()
    of_meaning = meaning.open_meaning(settings)
    _make_data_dir(settings.data_dir)
    db = await open_database(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(db.close)
        vault = Vault(db, settings, clock)
        await vault.check()
        egress = Egress(settings)
        stack.push_async_callback(egress.close)
        caller = RestCaller(egress, clock, settings)
        stack.push_async_callback(caller.close)
        app = App(settings, clock, db, vault, egress, Registry(settings.connectors_dir), caller)
        app.meaning = of_meaning
        yield app


def _make_data_dir(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "it cannot be made"
        raise Unavailable(
            f"The data directory {folder} cannot be used: {reason.lower()}; choose another."
        ) from None


async def first_key(app: App, tokens: list[str]) -> tuple[str, str, bool]:
    """Return the first workspace, a working owner's key to it, and whether that key is new.

    A key found in an earlier ready file is kept, so that a restart does not lock scripts out.
    """
    now = app.clock.now()

    def find(conn: Connection) -> tuple[str | None, str | None]:
        for token in tokens:
            holder = api_keys.find_holder(conn, token, now)
            if holder is not None:
                return holder, token
        return workspaces.first_workspace(conn), None

    workspace_id, token = await app.db.read(find)
    if workspace_id is not None and token is not None:
        return workspace_id, token, False
    if workspace_id is None:
        made = await api_keys.create_workspace(app, _FIRST_WORKSPACE)
        await _bind_master_key(app, made["id"])
        return made["id"], made["api_key"], True
    return workspace_id, await api_keys.create_owner_key(app, workspace_id), True


async def _bind_master_key(app: App, workspace_id: str) -> None:
    """Make the workspace's data key now: a second hub with another master key then fails at its start."""
    await app.vault.prepare(workspace_id, workspace_id, {"first": "first"})


def stored_keys(files: list[Path]) -> list[str]:
    """Return the keys of earlier ready files; a file that is none of ours has none."""
    keys = []
    for path in files:
        with contextlib.suppress(Invalid):
            if found := read_ready(path):
                keys.append(found["api_key"])
    return keys


def check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond loopback with a key file of our own making, or without API keys.

    Raises:
        Unavailable: with the way out.
    """
    if is_loopback(settings.host):
        return
    if settings.codespar_without_key:
        raise Unavailable(
            f"Refusing to listen on {settings.host} while TRUNKLINE_CODESPAR_WITHOUT_KEY is set: "
            "unset it, or listen on 127.0.0.1."
        )
    if settings.master_key:
        return
    raise Unavailable(
        f"Refusing to listen on {settings.host} without an operator's master key: set TRUNKLINE_MASTER_KEY or "
        "TRUNKLINE_MASTER_KEY_FILE (base64 of 32 random bytes), or listen on 127.0.0.1."
    )


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's parser, which by itself takes headers without end."""

    _in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[DROP] = self.transport.abort  # type: ignore[literal-required]  # ours, not of the specification

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()


_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b'connection: close\r\ncontent-length: 44\r\n\r\n{"detail":"Headers over 64 KiB are refused"}\n'
)


class _Server(uvicorn.Server):
    """uvicorn with our signal handling: a stop is announced to the hub before connections are drained."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self.hub = hub
        self.answering = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.answering.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn passes it
        """Begin to stop; uvicorn's own would raise the signal again afterwards and skip our closing."""
        self.hub.stop()
        _LOG.info("stopping", signal=sig)
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _config(hub: Hub, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        hub,
        http=_LimitedProtocol,
        loop="auto",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here asks for the client's address or scheme
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        backlog=2048,
    )


def listen(settings: Settings) -> socket.socket:
    """Bind the port; 0 picks a free one.

    Raises:
        Unavailable: the port is taken or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        reason = error.strerror or "not usable"
        raise Unavailable(
            f"Cannot listen on {settings.host}:{settings.port} ({reason.lower()}); choose another --port."
        ) from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of a bound socket, as this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def initialise(settings: Settings) -> tuple[Ready, bool]:
    """Make the data directory, key file, database, first workspace and key, without listening.

    Returns:
        What the ready file holds (its URL is where `up` would listen), and whether the key is new.
    """
    async with open_app(settings) as app:
        workspace_id, key, is_new = await first_key(app, stored_keys([settings.ready_file]))
        ready = Ready(f"http://{settings.host}:{settings.port}", workspace_id, key)
        write_ready(settings.ready_file, asdict(ready))
        return ready, is_new


async def serve(settings: Settings, ready_file: Path | None) -> int:
    """Serve until told to stop; then finish what was accepted."""
    check_exposure(settings)
    files = [settings.ready_file] if ready_file is None else [ready_file, settings.ready_file]
    known = stored_keys(files)
    forget_ready(files[:-1])
    listener = listen(settings)
    async with open_app(settings) as app:
        hub = Hub(app)
        server = _Server(_config(hub, settings), hub)
        workspace_id, key, is_new = await first_key(app, known)
        ready = Ready(url_of(listener), workspace_id, key)
        background = asyncio.create_task(jobs.run_forever(app))
        announcing = asyncio.create_task(_announce(server, ready, files, is_new=is_new))
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in (background, announcing):
                task.cancel()
            await asyncio.gather(background, announcing, return_exceptions=True)
            await jobs.finish(app)
            log.write_waiting()
            _LOG.info("stopped")
    return 0


async def _announce(server: _Server, ready: Ready, files: list[Path], *, is_new: bool) -> None:
    """Write the ready files once the server accepts, and print the key when it is new."""
    await server.answering.wait()
    _LOG.info("started", url=ready.url, version=__version__)
    for path in files:
        write_ready(path, asdict(ready))
    print(f"Trunkline answers at {ready.url}  (API page: {ready.url}/docs)", file=sys.stderr)  # noqa: T201 - for a person
    if is_new:
        print(f"API key, shown this once: {ready.api_key}", file=sys.stderr)  # noqa: T201 - shown once, to a person


def run(settings: Settings, ready_file: Path | None = None) -> int:
    """Run the hub in this process until SIGINT or SIGTERM; return the exit code."""
    gc.set_threshold(*_GARBAGE)
    log.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings, ready_file))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is installed: everywhere but on Windows."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
