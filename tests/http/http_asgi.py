"""Speak HTTP to the application in this process: no socket, no server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote

from trunkline.http.app import Hub
from trunkline.services import events
from trunkline.services.events import NewEvent


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Incoming:
    """A stream of server-sent events, as it comes."""

    status: int
    headers: dict[str, str]
    _messages: "asyncio.Queue[dict[str, Any]]"
    _frames: list[bytes] = field(default_factory=list)
    _begun: bytes = b""

    async def next(self) -> dict[str, str] | None:
        """Return the next block by its fields (a comment's is empty); None at the end."""
        while not self._frames:
            message = await asyncio.wait_for(self._messages.get(), 10)
            if not message.get("more_body"):
                return None
            *self._frames, self._begun = (self._begun + message["body"]).split(b"\n\n")
        return dict(line.split(": ", 1) for line in self._frames.pop(0).decode().split("\n"))


@dataclass(frozen=True)
class Client:
    """A caller with a key (or none), in its own workspace by default."""

    hub: Hub
    key: str | None
    workspace_id: str

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        stays: bool = False,
        **headers: str,
    ) -> Reply:
        """Send a request; `{ws}` in the path is the caller's workspace. `body` is JSON, `raw` is bytes.

        One who stays reads a stream to its end; any other leaves when the request is sent.
        """
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        scope = self._scope(method, path, headers)
        messages: list[dict[str, Any]] = []
        pending = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not pending and stays:
                await asyncio.Event().wait()
            return pending.pop() if pending else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self.hub(scope, receive, send)
        start = messages[0]
        content = b"".join(message.get("body", b"") for message in messages[1:])
        return Reply(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, content)

    def _scope(self, method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
        path = path.replace("{ws}", self.workspace_id)
        target, _, query = path.partition("?")
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        if self.key is not None:
            sent.setdefault("authorization", f"Bearer {self.key}")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(target),
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), text.encode("latin-1")) for name, text in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }

    @asynccontextmanager
    async def stream(self, path: str, **headers: str) -> AsyncIterator[Incoming]:
        """Read a stream for as long as the block lasts, then leave."""
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        left = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        serving = asyncio.create_task(self.hub(self._scope("GET", path, headers), receive, messages.put))
        try:
            start = await asyncio.wait_for(messages.get(), 10)
            yield Incoming(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, messages)
        finally:
            left.set()
            await serving

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return await self.send("POST", path, body, **headers)

    async def put(self, path: str, body: Any = None, **headers: str) -> Reply:
        return await self.send("PUT", path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Reply:
        return await self.send("DELETE", path, **headers)

    async def key_with(self, role: str = "member", permissions: list[str] | None = None) -> "Client":
        """Make another key in this workspace and return its client."""
        body = {"duration_days": 30, "role": role, "permissions": permissions or []}
        made = await self.post("/v1/{ws}/api-keys", body)
        assert made.status == 201, made.text
        return Client(self.hub, made.json["api_key"], self.workspace_id)

    async def integration(self, **changes: Any) -> dict[str, Any]:
        """Create an integration and return it as answered."""
        body = {"name": "ops", "display_name": "Ops", "base_url": "https://ops.example", **changes}
        made = await self.post("/v1/{ws}/integrations", body)
        assert made.status == 201, made.text
        return made.json

    async def append_events(self, *types: str, rings: bool = True, **more: Any) -> list[NewEvent]:
        """Append events to the log, as another part of this process does (or of another: without ringing)."""
        app = self.hub.app
        now = app.clock.now()
        new = [NewEvent(**({"type": kind, "time": now, "data": {}} | more)) for kind in types]
        await app.db.write(partial(events.append, workspace_id=self.workspace_id, new=new, now=now))
        if rings:
            app.bells.events.ring()
        return new
