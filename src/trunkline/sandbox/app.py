"""One application out of all fakes: which fake serves a path, and every request through faults and journal."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.clock import Clock
from trunkline.sandbox.control import ControlApi
from trunkline.sandbox.discord import Discord
from trunkline.sandbox.faults import Failing, FaultBook
from trunkline.sandbox.github import GitHub
from trunkline.sandbox.jira import Jira
from trunkline.sandbox.journal import BODY_KEPT, Entry, Journal
from trunkline.sandbox.linear import Linear
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.pagerduty import PagerDuty
from trunkline.sandbox.receiver import Receiver
from trunkline.sandbox.sentry import Sentry
from trunkline.sandbox.service import Service, build_service_app, json_response
from trunkline.sandbox.servicenow import ServiceNow
from trunkline.sandbox.slack import Slack
from trunkline.sandbox.telegram import Telegram
from trunkline.sandbox.whatsapp import WhatsApp
from trunkline.sandbox.zendesk import Zendesk

FAKES: dict[str, Callable[[SandboxOptions], Service]] = {
    ServiceNow.name: ServiceNow,
    PagerDuty.name: PagerDuty,
    Sentry.name: Sentry,
    Linear.name: Linear,
    GitHub.name: GitHub,
    Slack.name: Slack,
    Discord.name: Discord,
    Telegram.name: Telegram,
    WhatsApp.name: WhatsApp,
    Jira.name: Jira,
    Zendesk.name: Zendesk,
    Receiver.name: Receiver,
}


class Gate:
    """The door of one fake: takes the fault that is due, writes the journal."""

    def __init__(self, service: Service, faults: FaultBook, journal: Journal, clock: Clock) -> None:
        self._service = service
        self._app = build_service_app(service)
        self._faults = faults
        self._journal = journal
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        path: str = scope["path"].removeprefix(scope["root_path"]) or "/"
        fault = self._faults.take(self._service.name, method, path)
        entry = Entry(
            at=self._clock.now().isoformat(timespec="milliseconds"),
            service=self._service.name,
            method=method,
            path=path,
            query=scope["query_string"],
            headers=scope["headers"],
            fault=fault.kind if fault else None,
        )
        self._journal.add(entry)
        app: ASGIApp = self._app
        if fault is not None:
            app = Failing(fault, self._service, app, self._clock, path).run
        started = time.perf_counter()
        try:
            await app(scope, _keeping_body(entry, receive), _keeping_status(entry, send))
        finally:
            entry.duration_ms = (time.perf_counter() - started) * 1_000


def _keeping_body(entry: Entry, receive: Receive) -> Receive:
    if entry.method in {"GET", "HEAD"}:
        return receive

    async def keep() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            entry.body += message.get("body", b"")[: BODY_KEPT - len(entry.body)]
        return message

    return keep


def _keeping_status(entry: Entry, send: Send) -> Send:
    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        await send(message)

    return keep


class Sandbox:
    """The ASGI application: `/_sandbox…` controls; `/{name}/…` is a fake, or everything is when it is alone."""

    def __init__(self, options: SandboxOptions) -> None:
        options.check(FAKES)
        names = [options.only] if options.only else list(FAKES)
        self.options = options
        self.clock = options.clock
        self.services: dict[str, Service] = {name: FAKES[name](options) for name in names}
        self.faults = FaultBook(names)
        self.journal = Journal([value for fake in self.services.values() for value in fake.credentials()])
        self._control = ControlApi(self).app()
        self._gates = {
            name: Gate(service, self.faults, self.journal, options.clock)
            for name, service in self.services.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/_sandbox" or path.startswith("/_sandbox/"):
            await self._control(scope, receive, send)
            return
        name = self.options.only or path.split("/", 2)[1]
        gate = self._gates.get(name)
        if gate is None:
            await self._nothing_here(scope, receive, send)
            return
        root_path = "" if self.options.only else f"/{name}"
        if path == root_path:
            path = f"{path}/"
        await gate({**scope, "root_path": root_path, "path": path}, receive, send)

    async def _nothing_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        where = Request(scope).url.path
        body = {"error": f"no fake serves {where[:200]}", "services": self.paths()}
        await json_response(body, 404)(scope, receive, send)

    def paths(self) -> dict[str, str]:
        """Return where each fake is mounted."""
        return {name: "/" if self.options.only else f"/{name}" for name in self.services}

    def ready(self, origin: str) -> dict[str, Any]:
        """Return what a client needs of every fake, served at `origin` (scheme, host, port)."""
        return {
            name: service.ready(origin if self.options.only else f"{origin}/{name}")
            for name, service in self.services.items()
        }

    def reset(self) -> None:
        """Put every fake back to its start; open faults and the journal go."""
        for service in self.services.values():
            service.reset()
        self.faults.clear()
        self.journal.clear()


def build_sandbox(options: SandboxOptions) -> Sandbox:
    """Build the ASGI application of the fakes (raises Invalid for options or data it cannot use)."""
    return Sandbox(options)
