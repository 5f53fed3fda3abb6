"""The sandbox on a real socket: broken connections, TLS, start and stop."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from trunkline.clock import SystemClock
from trunkline.errors import Unavailable
from trunkline.sandbox import SandboxOptions, SandboxServer, serve_sandbox

TABLE = "/servicenow/api/now/table/incident"


async def order(http: aiohttp.ClientSession, server: SandboxServer, **fault) -> None:
    url = f"{server.origin}/_sandbox/faults"
    async with http.post(url, json={"service": "servicenow", **fault}) as answer:
        assert answer.status == 201


async def test_broken_connections_break_in_their_own_way():
    async with SandboxServer(SandboxOptions(count=1)) as server, aiohttp.ClientSession() as http:
        url = server.origin + TABLE
        # Twice: this client quietly repeats an idempotent call whose connection broke.
        await order(http, server, kind="reset", times=2)
        with pytest.raises(aiohttp.ClientOSError):
            await http.get(url)
        await order(http, server, kind="close", times=2)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http.get(url)
        await order(http, server, kind="malformed")
        with pytest.raises(aiohttp.ClientResponseError):
            await http.get(url)
        await order(http, server, kind="close", body={"result": ["x" * 100]})
        with pytest.raises(aiohttp.ClientPayloadError):
            async with http.get(url) as cut:
                await cut.read()
        async with http.get(url) as answer:
            assert answer.status == 401


async def test_a_reset_is_a_tcp_reset_and_not_an_end():
    async with SandboxServer(SandboxOptions(count=1)) as server:
        async with aiohttp.ClientSession() as http:
            await order(http, server, kind="reset")
        host, port = server.origin.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {TABLE} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_over_tls_the_throw_away_authority_is_the_one_to_trust():
    async with SandboxServer(SandboxOptions(count=1, tls=True)) as server, aiohttp.ClientSession() as http:
        ca_file = Path(server.ready["ca_file"])
        assert server.origin.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=ca_file)
        localhost = server.origin.replace("127.0.0.1", "localhost")
        for origin in (server.origin, localhost):
            async with http.get(f"{origin}/_sandbox", ssl=context) as answer:
                assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"{server.origin}/_sandbox")
        assert [path.name for path in ca_file.parent.iterdir()] == ["ca.pem"]
    assert not ca_file.parent.exists()


async def test_serving_reports_ready_and_ends_when_cancelled():
    ready: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_sandbox(SandboxOptions(count=1), ready=ready.set_result))
    document = await asyncio.wait_for(ready, 10)
    assert set(document["servicenow"]) >= {"url", "username", "password", "client_id", "client_secret"}
    assert set(document["pagerduty"]) >= {"url", "token", "from_email", "events_url", "routing_key"}
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(document["control_url"])


async def test_a_port_that_is_taken_is_told_plainly():
    async with SandboxServer(SandboxOptions(count=1)) as server:
        port = int(server.origin.rpartition(":")[2])
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1 port {port}"):
            await SandboxServer(SandboxOptions(count=1, port=port)).start()


class StartedDelay(SystemClock):
    """A clock that says when somebody begins to sleep on it."""

    def __init__(self) -> None:
        self.sleeping = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeping.set()
        await super().sleep(seconds)


async def test_stopping_does_not_wait_for_a_request_that_hangs():
    clock = StartedDelay()
    async with aiohttp.ClientSession() as http:
        async with SandboxServer(SandboxOptions(count=1, clock=clock)) as server:
            await order(http, server, kind="delay", seconds=3_600)
            hanging = asyncio.create_task(http.get(server.origin + TABLE))
            await asyncio.wait_for(clock.sleeping.wait(), 10)
        answer = await asyncio.wait_for(hanging, 10)
        assert answer.status == 500
