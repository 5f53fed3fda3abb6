"""A fake hub that speaks the native wire format strictly, on a thread of its own, and remembers what it was asked."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from typer.testing import Result

Run = Callable[..., Result]
KEY = "tl_fake"
WORKSPACE = "0c9a4f8e-8a55-4f0c-8f1b-6f6b1f8d2e33"
NOW_ID = "7b1f6f0e-5d0a-4f51-9d0b-2c4b6d1f9a10"
UNAUTHENTICATED = (401, {"detail": "Missing or invalid API key.", "error_code": "unauthenticated"})

ME = {
    "workspace_id": WORKSPACE,
    "workspace_name": "Default",
    "credential_id": "11111111-1111-4111-8111-111111111111",
    "key_id": "ak_0000000000000001",
    "person_id": None,
    "name": "owner",
    "role": "owner",
    "permissions": [],
    "expires_at": None,
}


def integration(name: str = "now", **fields: Any) -> dict[str, Any]:
    """Describe an integration as the hub shows it."""
    shown = {
        "id": NOW_ID,
        "workspace_id": WORKSPACE,
        "name": name,
        "display_name": "Now",
        "protocol": "rest",
        "base_url": "",
        "auth": None,
        "endpoints": [],
        "enabled": True,
        "builtin": False,
        "created_at": "2026-04-02T08:15:00Z",
        "updated_at": "2026-04-02T08:15:00Z",
        "last_tested_at": None,
        "last_test_status": None,
        "connector": None,
        "config": {},
        "credentials": None,
    }
    return shown | fields


@dataclass
class Asked:
    """One request the hub got."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class FakeHub:
    """Answers by (method, path without the workspace); a list answer is cut into pages as the hub does."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    streams: dict[str, bytes] = field(default_factory=dict)
    """What is answered as it stands, by path without the workspace."""

    def answer(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self.answers[method, path] = (status, body)

    def last(self, method: str) -> Asked:
        """Return the last request with this method."""
        return [asked for asked in self.asked if asked.method == method][-1]

    def respond(self, method: str, target: str, key: str | None, body: Any) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        self.asked.append(Asked(method, parts.path, query, body))
        if key != f"Bearer {KEY}":
            return UNAUTHENTICATED
        if parts.path == "/v1/auth/me":
            return self.answers.get(("GET", "/me"), (200, ME))
        path = re.sub(rf"^/v1/{WORKSPACE}", "", parts.path)
        status, found = self.answers.get(
            (method, path), (404, {"detail": "Not found", "error_code": "not_found"})
        )
        return status, _page(found, query) if isinstance(found, list) else found


def _page(items: list[Any], query: dict[str, str]) -> dict[str, Any]:
    limit, offset = int(query.get("limit", 10)), int(query.get("continuation_token", 0))
    found = [item for item in items if query.get("search", "") in item.get("name", "")]
    end = offset + limit
    more = end < len(found)
    token = end if more else None
    return {"items": found[offset:end], "has_more": more, "continuation_token": token, "total": len(found)}


def start(hub: FakeHub) -> ThreadingHTTPServer:
    """Serve a fake hub from a thread; `hub.url` is where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_request(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(sent) if sent else None
            status, found = hub.respond(self.command, self.path, self.headers.get("Authorization"), body)
            raw = hub.raw if hub.raw is not None else b"" if status == 204 else json.dumps(found).encode()
            stream = hub.streams.get(re.sub(rf"^/v1/{WORKSPACE}|\?.*$", "", self.path))
            status, raw = (status, raw) if stream is None else (200, stream)
            self.send_response(status)
            for name, value in hub.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815 - the library's names

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server
