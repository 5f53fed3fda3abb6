"""The caller through the real egress, against a server on loopback."""

import asyncio

import pytest
from aiohttp import web

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import AuthMethod
from trunkline.clock import SystemClock
from trunkline.egress import Egress
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings


class Hub:
    """A small API with its own token endpoint."""

    def __init__(self):
        self.minted = 0
        self.base = ""

    async def token(self, request):
        form = await request.post()
        await asyncio.sleep(0.02)
        if form["client_secret"] != "s3cr3t+&":
            return web.json_response({"error": "invalid_client"}, status=401)
        self.minted += 1
        return web.json_response({"access_token": f"token-{self.minted:08}", "expires_in": 3600})

    async def echo(self, request):
        seen = {
            "method": request.method,
            "raw_path": request.raw_path,
            "query": list(request.query.items()),
            "authorized": request.headers.get("Authorization") == "Bearer token-00000001",
            "body": (await request.text()),
        }
        return web.json_response(seen)


@pytest.fixture
async def hub():
    served = Hub()
    app = web.Application()
    app.router.add_post("/token", served.token)
    app.router.add_route("*", "/{rest:.*}", served.echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def caller():
    settings = Settings(egress_allow="127.0.0.1")
    egress = Egress(settings)
    yield RestCaller(egress, SystemClock(), settings)
    await egress.close()


def endpoint(**config):
    return compile_endpoint(EndpointConfig(**{"name": "e", "description": "", "path": "/x"} | config))


def target(hub, *, auth=None):
    return Target("w", "i", "Hub", hub.base, auth)


def client(hub):
    kind = "oauth2_client_credentials"
    return AuthMethod(type=kind, token_url=f"{hub.base}/token", client_id="me")


async def test_fifty_calls_at_once_fetch_one_token(hub, caller):
    place = target(hub, auth=client(hub))
    calls = [
        caller.call(place, endpoint(), {"n": n}, {"client_secret": "s3cr3t+&"}, detail=False)
        for n in range(50)
    ]
    traces = await asyncio.gather(*calls)
    assert all(trace.error is None and trace.raw_response["authorized"] for trace in traces)
    assert hub.minted == 1


async def test_what_was_built_is_what_arrives(hub, caller):
    compiled = endpoint(method="GET", path="/teams/{team}/x")
    params = {"team": "a b%2F+;ü", "q": "1+1=2 & more", "tag": ["x", "y"]}
    trace = await caller.call(target(hub), compiled, params, {})
    seen = trace.raw_response
    assert seen["raw_path"].startswith("/teams/a%20b%252F")
    assert "/x?" in seen["raw_path"]
    assert seen["query"] == [["q", "1+1=2 & more"], ["tag", "x"], ["tag", "y"]]


async def test_a_form_arrives_as_one(hub, caller):
    compiled = endpoint(body_format="form")
    trace = await caller.call(target(hub), compiled, {"a": "x y&z", "b": [1, 2]}, {})
    assert trace.raw_response["body"] == "a=x+y%26z&b=1&b=2"


async def test_a_port_where_nobody_listens_is_an_error_in_the_trace(caller):
    place = Target("w", "i", "Hub", "http://127.0.0.1:9")
    compiled = endpoint(retry_config={"max_retries": 0})
    trace = await caller.call(place, compiled, {}, {})
    assert (trace.status_code, trace.error_kind) == (None, "connect")


async def test_an_address_that_is_not_opened_is_refused():
    settings = Settings()
    egress = Egress(settings)
    caller = RestCaller(egress, SystemClock(), settings)
    trace = await caller.call(Target("w", "i", "Hub", "https://127.0.0.1:9"), endpoint(), {}, {})
    assert (trace.error_kind, trace.retries) == ("refused_address", 0)
    assert (await caller.probe(Target("w", "i", "Hub", "https://127.0.0.1:9"), {})).status == "misconfigured"
    await egress.close()


async def test_a_probe_speaks_head(hub, caller):
    outcome = await caller.probe(target(hub, auth=client(hub)), {"client_secret": "s3cr3t+&"})
    assert (outcome.status, outcome.http_status, outcome.auth_resolved) == ("healthy", 200, True)
    outcome = await caller.probe(target(hub, auth=client(hub)), {"client_secret": "wrong"})
    assert (outcome.status, outcome.auth_resolved) == ("auth_failed", False)
