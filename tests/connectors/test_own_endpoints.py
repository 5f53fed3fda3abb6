"""The generic connector has no endpoints: an integration brings its own, and signs in as its auth method says."""

import base64

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.catalog.configure import effective_auth, render_base_url, with_defaults
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.registry import Registry
from trunkline.clock import ManualClock
from trunkline.egress import Reply
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

OWN = EndpointConfig(name="get_item", description="Get an item", method="GET", path="/items/{id}")
BASIC = "Basic " + base64.b64encode(b"u:p").decode()


class Remembering:
    def __init__(self):
        self.sent = []

    async def request(self, method, url, *, headers=None, body=None, limits=None, follow_redirects=False):
        self.sent.append((method, url, dict(headers or {}), body))
        raw = b'{"access_token": "t", "expires_in": 600}' if "/token" in url else b"{}"
        kind = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
        return Reply(200, kind, raw, url, 1.0, 0)


@pytest.mark.parametrize(
    ("way", "config", "secrets", "header", "value"),
    [
        ("bearer", {}, {"bearer_token": "t"}, "Authorization", "Bearer t"),
        ("basic", {}, {"username": "u", "password": "p"}, "Authorization", BASIC),
        ("api_key", {}, {"api_key": "k"}, "X-API-Key", "k"),
        ("api_key", {"key_header": "X-Mine"}, {"api_key": "k"}, "X-Mine", "k"),
        ("none", {}, {}, "Authorization", None),
        (
            "oauth",
            {"token_url": "https://login.example/token"},
            {"client_id": "i", "client_secret": "s"},
            "Authorization",
            "Bearer t",
        ),
    ],
)
async def test_an_integrations_own_endpoint_signs_in_the_chosen_way(way, config, secrets, header, value):
    manifest = Registry().get("http")
    config = with_defaults(manifest, {"url": "https://api.example/v2", **config})
    auth = effective_auth(manifest, way, config)
    target = Target("w", "i", "Mine", render_base_url(manifest, config), auth, config, manifest)
    egress = Remembering()
    caller = RestCaller(egress, ManualClock(), Settings())
    trace = await caller.call(target, compile_endpoint(OWN), {"id": 7}, secrets)
    await caller.close()
    assert trace.error is None
    assert egress.sent[-1][1] == "https://api.example/v2/items/7"
    assert egress.sent[-1][2].get(header) == value
