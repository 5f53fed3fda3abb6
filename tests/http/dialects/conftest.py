"""Clients of wire formats, and services on loopback that answer as they are told."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from codespar_samples import CONFIGS
from supportbot_stories import Instance

from http_asgi import Client


@dataclass
class Upstream:
    """What a fake service is asked, and what it says: the first answer whose (method, path) fits."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.asked.append(
            {
                "line": f"{request.method} {request.path}",
                "query": {name: request.query.getall(name) for name in request.query},
                "headers": dict(request.headers),
                "body": json.loads(raw) if raw else None,
            }
        )
        said = self.answers.get(
            f"{request.method} {request.path}", (404, {"error": {"message": "Not Found"}})
        )
        if callable(said):
            said = said(self.asked[-1])
        status, body = said if isinstance(said, tuple) else (200, said)
        return web.json_response(body, status=status)


@pytest.fixture
async def service(upstream: Callable[..., Awaitable[str]]) -> AsyncIterator[Upstream]:
    """A service whose answers the test sets."""
    fake = Upstream()
    fake.url = await upstream(fake.answer)
    return fake


@pytest.fixture
def configured(alice: Client, service: Upstream) -> Callable[..., Awaitable[None]]:
    """Configure an integration of Alice's through this wire format, pointed at the fake service."""

    async def configure(name: str, **more: str) -> None:
        config = CONFIGS[name] | {"url": service.url} | more
        made = await alice.post("/api/integrations/configure", {"integration": name, "config": config})
        assert made.status == 200, made.text

    return configure


@pytest.fixture
async def instance(upstream: Callable[..., Awaitable[str]]) -> Instance:
    """An instance of ServiceNow whose incidents the test sets."""
    fake = Instance()
    fake.url = await upstream(fake.answer)
    return fake
