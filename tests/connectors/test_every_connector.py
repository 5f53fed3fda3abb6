"""One suite for every manifest: what it says compiles, is complete, and asks and answers as its samples say."""

import json
import re

import pytest
from connector_samples import MANIFESTS, SAMPLES, assert_sent, call, sample_of

from trunkline.catalog.configure import check_config, check_credentials, effective_auth, with_defaults
from trunkline.catalog.depth import depth
from trunkline.catalog.manifest import Paging, credential_fields
from trunkline.catalog.template import CHILD, Template
from trunkline.rest.cursors import cursor_query, written
from trunkline.rest.paging import answer_of

ENDPOINTS = [
    pytest.param(manifest, endpoint, id=f"{manifest.id}-{endpoint.name}")
    for manifest in MANIFESTS.values()
    for endpoint in manifest.endpoints.values()
]
EACH = pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=list(MANIFESTS))
EACH_ENDPOINT = pytest.mark.parametrize(("manifest", "endpoint"), ENDPOINTS)


@EACH
def test_it_tells_what_it_is(manifest):
    assert manifest.description
    assert manifest.docs_url
    assert manifest.category
    assert (manifest.auth and manifest.errors) or (manifest.webhook and not manifest.base_url)


@EACH
def test_a_connector_with_endpoints_can_be_tested_and_knows_its_rate_limit(manifest):
    assert not manifest.endpoints or (manifest.check and manifest.rate_limit)
    assert not manifest.endpoints or depth(manifest).score >= 90, depth(manifest).missing


@EACH
def test_its_samples_are_well_written_and_name_only_what_it_has(manifest):
    assert SAMPLES[manifest.id].flaws == []
    sample = sample_of(manifest)
    known = {"config", "auth", "credentials", "refused", "endpoints", "webhooks", "notify"}
    assert set(sample) <= known
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
    _, _, sent = await call(manifest, endpoint.name, sample.get("params", {}), sample["answer"])
    assert_sent(sent, sample["request"], manifest)


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
            config = with_defaults(manifest, sample_of(manifest)["config"])
            query = cursor_query(stream.cursor, config)(stream.cursor.start)
            asked = str(written(stream.cursor.start, stream.cursor.format))
            assert asked in "".join(map(str, query.values()))
        if stream.for_each:
            assert Template.compile(stream.for_each.params, namespaces=CHILD).names()
