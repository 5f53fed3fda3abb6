"""Serve the sandbox: on a socket inside the running loop, over plain http or TLS, until told to stop."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trunkline.errors import Unavailable
from trunkline.sandbox.app import Sandbox, build_sandbox
from trunkline.sandbox.certificate import ThrowAwayCertificate
from trunkline.sandbox.faults import TRANSPORT
from trunkline.sandbox.options import SandboxOptions

STOP_SECONDS = 1
# Where a sandbox that listens everywhere is reached from here.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not bound


class FaultyProtocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, with the connection in reach of the faults that break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class SandboxServer:
    """A sandbox on a port, inside the running loop: `async with SandboxServer(options) as server`.

    `origin` is where it answers, `ready` what a client needs, `sandbox` the state behind it.
    Raises Unavailable when it cannot listen there, Invalid for options or data it cannot use.
    """

    def __init__(self, options: SandboxOptions, sandbox: Sandbox | None = None) -> None:
        self.options = options
        self.sandbox = sandbox or build_sandbox(options)
        self.origin = ""
        self._certificate: ThrowAwayCertificate | None = None
        self._server: uvicorn.Server | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def ready(self) -> dict[str, Any]:
        """The ready document: per fake its address and credentials; with TLS, the file of the authority."""
        document = self.sandbox.ready(self.origin)
        document["control_url"] = f"{self.origin}/_sandbox"
        if self._certificate is not None:
            document["ca_file"] = str(self._certificate.ca_file)
        return document

    async def start(self) -> None:
        """Listen; returns once requests are answered."""
        listener = _listen(self.options.host, self.options.port)
        if self.options.tls:
            self._certificate = ThrowAwayCertificate()
        scheme = "https" if self.options.tls else "http"
        host = _ANY.get(self.options.host, self.options.host)
        self.origin = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        server = uvicorn.Server(self._config())
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listener])
        self._server = server
        self._running = asyncio.create_task(server.main_loop())

    def _config(self) -> uvicorn.Config:
        context = self._certificate.context if self._certificate else None
        return uvicorn.Config(
            self.sandbox,
            http=FaultyProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=STOP_SECONDS,
            ssl_context_factory=(lambda _config, _default: context) if context else None,
        )

    async def stop(self) -> None:
        """Finish what runs (for a second at most) and close."""
        if self._server is not None and self._running is not None:
            self._server.should_exit = True
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            await self._server.shutdown()
            self._server = None
        if self._certificate is not None:
            self._certificate.forget()
            self._certificate = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio sets no TCP_NODELAY
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Unavailable(f"the sandbox cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


async def serve_sandbox(
    options: SandboxOptions, *, ready: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation; call `ready` with the ready document once it answers."""
    async with SandboxServer(options) as server:
        with _stop_signals() as stopped:
            if ready is not None:
                ready(server.ready)
            await stopped.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Turn the stop signals into an event; in another thread than the main one there are none to catch."""
    stopped = asyncio.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)
    for number in caught:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
