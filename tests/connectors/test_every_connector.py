"""One suite for every manifest: what it says compiles, is complete, and asks and answers as its samples say."""

import json
import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.catalog import strict_yaml
from trunkline.catalog.configure import (
    check_config,
    check_credentials,
    effective_auth,
    render_base_url,
    with_defaults,
)
from trunkline.catalog.depth import depth
from trunkline.catalog.load import load_manifest
from trunkline.catalog.manifest import Paging, credential_fields
from trunkline.catalog.registry import BUILT_IN
from trunkline.catalog.template import CHILD, CURSOR, Template
from trunkline.clock import ManualClock
from trunkline.egress import Reply
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.paging import answer_of
from trunkline.settings import Settings

FOLDER = Path(os.environ.get("CONNECTORS_UNDER_TEST", BUILT_IN))
"""A folder of your own connectors is held to the same suite: CONNECTORS_UNDER_TEST=dir pytest tests/connectors"""
MANIFESTS = {path.stem: load_manifest(path) for path in sorted(FOLDER.glob("*.yaml"))}
SAMPLES = {
    path.stem: strict_yaml.read(path.read_bytes()) for path in sorted((FOLDER / "samples").glob("*.yaml"))
}
ENDPOINTS = [
    pytest.param(manifest, endpoint, id=f"{manifest.id}-{endpoint.name}")
    for manifest in MANIFESTS.values()
    for endpoint in manifest.endpoints.values()
]
EACH = pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=list(MANIFESTS))
EACH_ENDPOINT = pytest.mark.parametrize(("manifest", "endpoint"), ENDPOINTS)


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
    return SAMPLES[manifest.id].value


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


@EACH
def test_it_tells_what_it_is(manifest):
    assert manifest.description
    assert manifest.docs_url
    assert manifest.category
    assert manifest.auth
    assert manifest.errors


@EACH
def test_a_connector_with_endpoints_can_be_tested_and_knows_its_rate_limit(manifest):
    assert not manifest.endpoints or (manifest.check and manifest.rate_limit)
    assert not manifest.endpoints or depth(manifest).score >= 90, depth(manifest).missing


@EACH
def test_its_samples_are_well_written_and_name_only_what_it_has(manifest):
    assert SAMPLES[manifest.id].flaws == []
    sample = sample_of(manifest)
    assert set(sample) <= {"config", "auth", "credentials", "refused", "endpoints"}
    assert set(sample["endpoints"]) == set(manifest.endpoints)
    assert check_config(manifest, sample["config"]) == []
    auth = effective_auth(manifest, sample["auth"], sample["config"])
    assert check_credentials(manifest, auth, sample["credentials"]) == []


@EACH
def test_every_way_in_says_what_a_person_enters(manifest):
    for method in manifest.auth.values():
        assert all(field.label for field in credential_fields(method))
        assert method.label


@EACH
def test_every_config_example_would_be_accepted(manifest):
    examples = {name: field.example for name, field in manifest.config.items() if field.example}
    assert check_config(manifest, examples) == []


@EACH_ENDPOINT
def test_an_endpoint_is_described_for_people_and_agents(manifest, endpoint):
    assert len(endpoint.description) > 10
    assert endpoint.input_schema.get("additionalProperties") is False
    for name, schema in endpoint.input_schema["properties"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name), "agents' tools take plain names only"
        assert schema.get("description"), f"{name} has no description"


@EACH_ENDPOINT
async def test_an_endpoint_asks_exactly_what_its_sample_says(manifest, endpoint):
    sample = sample_of(manifest)["endpoints"][endpoint.name]
    wanted = sample["request"]
    _, _, (method, url, headers, body) = await call(
        manifest, endpoint.name, sample.get("params", {}), sample["answer"]
    )
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


@EACH_ENDPOINT
async def test_an_endpoint_makes_of_the_answer_what_its_sample_says(manifest, endpoint):
    sample = sample_of(manifest)["endpoints"][endpoint.name]
    _, trace, _ = await call(manifest, endpoint.name, sample.get("params", {}), sample["answer"])
    assert trace.error is None
    assert trace.value == sample.get("result", sample["answer"].get("body"))
    if "final_result" in sample:
        assert trace.final_result == sample["final_result"]


@EACH_ENDPOINT
async def test_a_list_is_paged_as_its_sample_says(manifest, endpoint):
    sample = sample_of(manifest)["endpoints"][endpoint.name]
    if "records" not in sample:
        assert endpoint.paging in (None, Paging(type="none"))
        return
    compiled, trace, _ = await call(manifest, endpoint.name, sample.get("params", {}), sample["answer"])
    page = compiled.pager.read(compiled.pager.first(), answer_of(trace))
    assert len(page.records) == sample["records"]
    assert (page.next is not None) == sample.get("more", False)


@EACH
async def test_a_refusal_is_told_in_the_services_own_words(manifest):
    if not manifest.endpoints:
        return
    sample = sample_of(manifest)["refused"]
    _, trace, _ = await call(manifest, sample["endpoint"], sample["params"], sample["answer"])
    assert sample["error"] in trace.error


@EACH
async def test_no_credential_shows_in_a_trace(manifest):
    secrets = {
        value
        for name, value in sample_of(manifest)["credentials"].items()
        if name not in {"username", "client_id"}
    }
    for name, sample in sample_of(manifest)["endpoints"].items():
        _, trace, _ = await call(manifest, name, sample.get("params", {}), sample["answer"])
        shown = json.dumps(trace.to_wire(), default=str)
        assert not [secret for secret in secrets if secret in shown]


@EACH
def test_a_stream_can_be_asked_for_from_its_beginning(manifest):
    for stream in manifest.streams.values():
        assert stream.description
        if stream.cursor:
            query = Template.compile(stream.cursor.query, namespaces=CURSOR).render(
                {"cursor": stream.cursor.start}
            )
            assert stream.cursor.start in "".join(query.values())
        if stream.for_each:
            assert Template.compile(stream.for_each.params, namespaces=CHILD).names()
