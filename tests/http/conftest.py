"""A whole hub in this process, on either database, with Alice's workspace, Bob in it, and Charlie outside."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.context import App
from trunkline.http.app import Hub
from trunkline.http.server import open_app
from trunkline.services import api_keys
from trunkline.settings import Settings


@pytest.fixture
async def app(database_settings: Settings, clock: ManualClock) -> AsyncIterator[App]:
    """Everything one process shares; calls may reach this machine's loopback."""
    settings = replace(database_settings, egress_allow="127.0.0.1")
    async with open_app(settings, clock) as opened:
        yield opened


@pytest.fixture
def hub(app: App) -> Hub:
    return Hub(app)


async def _owner(hub: Hub, name: str) -> Client:
    made = await api_keys.create_workspace(hub.app, name)
    return Client(hub, made["api_key"], made["id"])


@pytest.fixture
async def alice(hub: Hub) -> Client:
    """The owner of a workspace."""
    return await _owner(hub, "Alice's")


@pytest.fixture
async def bob(alice: Client) -> Client:
    """A viewer in Alice's workspace."""
    return await alice.key_with("viewer")


@pytest.fixture
async def charlie(hub: Hub) -> Client:
    """The owner of another workspace: a stranger to Alice's."""
    return await _owner(hub, "Charlie's")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Start a service on loopback from one handler; returns its base URL."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        service = web.Application()
        service.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(service)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def endpoint() -> Callable[..., dict[str, Any]]:
    """Describe an endpoint, `GET /things` unless told otherwise."""

    def describe(**changes: Any) -> dict[str, Any]:
        return {"name": "things", "description": "Things.", "method": "GET", "path": "/things", **changes}

    return describe
