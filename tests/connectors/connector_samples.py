"""What the connector suites share: the manifests under test, their samples, and a call whose request is kept."""

import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.catalog import strict_yaml
from trunkline.catalog.configure import effective_auth, render_base_url, with_defaults
from trunkline.catalog.load import load_manifest
from trunkline.catalog.registry import BUILT_IN
from trunkline.clock import ManualClock
from trunkline.egress import Reply
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

FOLDER = Path(os.environ.get("CONNECTORS_UNDER_TEST", BUILT_IN))
"""A folder of your own connectors is held to the same suite: CONNECTORS_UNDER_TEST=dir pytest tests/connectors"""
MANIFESTS = {path.stem: load_manifest(path) for path in sorted(FOLDER.glob("*.yaml"))}
SAMPLES = {
    path.stem: strict_yaml.read(path.read_bytes()) for path in sorted((FOLDER / "samples").glob("*.yaml"))
}


class OneAnswer:
    """Egress that sends nothing: remembers the request and gives the sample's answer."""

    def __init__(self, answer):
        self.answer = answer
        self.sent = []

    async def request(self, method, url, *, headers=None, body=None, limits=None, follow_redirects=False):
        self.sent.append((method, url, CIMultiDict(headers or {}), body))
        body = self.answer.get("body")
        given = {"Content-Type": "application/json", **self.answer.get("headers", {})}
        raw = b"" if "body" not in self.answer else orjson.dumps(body)
        return Reply(self.answer["status"], CIMultiDictProxy(CIMultiDict(given)), raw, url, 1.0, 0)


def sample_of(manifest):
    return SAMPLES[manifest.id].value if manifest.id in SAMPLES else {}


def target_of(manifest):
    sample = sample_of(manifest)
    config = with_defaults(manifest, sample["config"])
    auth = effective_auth(manifest, sample["auth"], config)
    base_url = render_base_url(manifest, config)
    return Target("workspace", "integration", manifest.name, base_url, auth, config, manifest)


async def call(manifest, name, params, answer):
    egress = OneAnswer(answer)
    caller = RestCaller(egress, ManualClock(), Settings())
    endpoint = compile_endpoint(manifest.endpoints[name], manifest)
    trace = await caller.call(target_of(manifest), endpoint, params, sample_of(manifest)["credentials"])
    await caller.close()
    assert len(egress.sent) == 1, trace.error
    return endpoint, trace, egress.sent[0]


def assert_sent(sent, wanted, manifest):
    """Hold a request against a sample's, exactly but for headers, of which it says what matters."""
    method, url, headers, body = sent
    address = wanted.get("url") or target_of(manifest).base_url + wanted["path"]
    parts = urlsplit(url)
    query = {
        name: values[0] if len(values) == 1 else values for name, values in parse_qs(parts.query).items()
    }
    assert method == wanted.get("method", "GET")
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == address
    assert query == wanted.get("query", {})
    assert (None if body is None else json.loads(body)) == wanted.get("body")
    for name, value in wanted.get("headers", {}).items():
        assert headers[name] == value
    assert not [name for name in wanted.get("without_headers", []) if name in headers]
