"""Speak HTTP to the application in this process: no socket, no server."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from trunkline.http.app import Hub


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


@dataclass(frozen=True)
class Client:
    """A caller with a key (or none), in its own workspace by default."""

    hub: Hub
    key: str | None
    workspace_id: str

    async def send(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> Reply:
        """Send a request; `{ws}` in the path is the caller's workspace. `body` is JSON, `raw` is bytes."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        path = path.replace("{ws}", self.workspace_id)
        target, _, query = path.partition("?")
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        if self.key is not None:
            sent.setdefault("authorization", f"Bearer {self.key}")
        scope = {
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
        messages: list[dict[str, Any]] = []
        pending = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return pending.pop() if pending else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self.hub(scope, receive, send)
        start = messages[0]
        content = b"".join(message.get("body", b"") for message in messages[1:])
        return Reply(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, content)

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
