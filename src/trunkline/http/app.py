"""The application at the outermost: request ids, the operator's routes, the wire formats, the request boundary."""

import contextlib
import time
from typing import Any

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from trunkline.context import App
from trunkline.errors import Broken, TrunklineError
from trunkline.http import callbacks, dialects, dispatch, native
from trunkline.http.native.errors import to_answer
from trunkline.http.native.route import RouteIndex
from trunkline.http.telemetry import Telemetry
from trunkline.http.wire import Answer, encode, send_answer
from trunkline.ids import new_request_id
from trunkline.services import backlog

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Hub:
    """The ASGI application of one process."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.telemetry = Telemetry()
        self._native = native.build()
        self._routes = RouteIndex(self._native.router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._refuse(scope, receive, send)
            return
        scope["request_id"] = new_request_id()
        scope["trunkline"] = self.app
        watch = _Watch(send)
        self.telemetry.began()
        started = time.perf_counter()
        try:
            await self._serve(scope, receive, watch)
        except Exception:  # noqa: BLE001 - the request boundary: logged with its id, shown as nothing
            self.telemetry.fault(scope)
            if not watch.status:
                await self._say_broken(scope, watch)
        finally:
            self.telemetry.ended(scope, watch.status or 499, time.perf_counter() - started)

    async def _say_broken(self, scope: Scope, send: Send) -> None:
        dialect, request_id = dialects.BY_NAME.get(scope.get("format", "")), scope["request_id"]
        if dialect is not None:
            await dialect.send(send, dialect.to_answer(Broken(), request_id), request_id)
        else:
            await send_answer(send, to_answer(Broken(), request_id), request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(callbacks.PREFIX):
            await callbacks.serve(scope, receive, send)
            return
        operator = _OPERATOR.get(scope["path"])
        if operator is None:
            await self._dispatch(scope, receive, send)
            return
        scope["route_path"] = scope["path"]
        answer = await operator(self)
        await send_answer(send, answer, scope["request_id"])

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, scope["path"] = dispatch.owner(scope)
        if name == dispatch.NATIVE:
            await self._route(scope, receive, send)
        else:
            scope["format"] = name
            await dialects.BY_NAME[name].serve(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go straight to the routes: the framework's own middleware would answer faults before we can."""
        found = self._routes.find(scope["method"], scope["path"])
        if found is not None:
            route, scope["path_params"] = found
            await route.serve(scope, receive, send)
            return
        if scope["path"] in _PAGES or scope["path"].startswith("/static-"):
            await self._native(scope, receive, send)
            return
        scope["app"] = self._native
        try:
            await self._native.router(scope, receive, send)
        except HTTPException as error:
            await send_answer(send, native.unmatched(error, scope["request_id"]), scope["request_id"])

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take part in the server's lifespan; close web sockets, which nothing here speaks."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    @property
    def stopping(self) -> bool:
        return self.app.stopping

    def stop(self) -> None:
        """Take no more for granted: readiness says so, and streams end."""
        self.app.stopping = True
        self.app.bells.events.ring()

    async def alive(self) -> Answer:
        """Say that the process answers."""
        return Answer(200, encode({"status": "ok"}))

    async def ready(self) -> Answer:
        """Say whether requests should be sent here: the database answers and no stop is under way."""
        if self.stopping:
            return Answer(503, encode({"status": "stopping"}))
        try:
            await self.app.db.read(lambda conn: conn.scalar(sa.select(1)))
        except TrunklineError:
            return Answer(503, encode({"status": "database unavailable"}))
        return Answer(200, encode({"status": "ready"}))

    async def metrics(self) -> Answer:
        """Return the metrics; those of the database as they were when it does not answer."""
        with contextlib.suppress(TrunklineError):
            self.telemetry.behind(await backlog.measure(self.app))
        return Answer(200, self.telemetry.render(), _TEXT)

    async def front(self) -> Answer:
        """Say what this is and where its API page lies."""
        return Answer(200, encode({"name": "trunkline", "docs": "/docs", "openapi": "/openapi.json"}))


_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"})
_OPERATOR: dict[str, Any] = {
    "/": Hub.front,
    "/healthz": Hub.alive,
    "/readyz": Hub.ready,
    "/metrics": Hub.metrics,
}


class _Watch:
    """Pass messages on and remember the status."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
