"""Whatever parameters and answers arrive, a call ends in a trace or in Invalid, and the trace can be sent as JSON."""

from urllib.parse import urlsplit

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import AuthMethod
from trunkline.clock import ManualClock
from trunkline.egress import check_url
from trunkline.errors import Invalid
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

TARGET = Target("w", "i", "Alerts", "https://api.example/base", AuthMethod(type="bearer_token"))
SECRETS = {"bearer_token": "canary-0123456789"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
COMPILED = {
    (method, form): compile_endpoint(
        EndpointConfig(name="e", description="", method=method, path="/i/{id}?at={at}", body_format=form)
    )
    for method in ("GET", "POST")
    for form in ("json", "form")
}


@given(
    st.sampled_from(list(COMPILED)),
    JSON,
    JSON,
    st.dictionaries(st.text(st.characters()), JSON, max_size=4),
)
async def test_any_params_are_sent_to_this_path_or_refused(which, id, at, more):
    egress = FakeEgress(reply(200, {}))
    caller = RestCaller(egress, ManualClock(), Settings())
    refusal = None
    try:
        await caller.call(TARGET, COMPILED[which], {**more, "id": id, "at": at}, SECRETS)
    except Invalid as error:
        refusal = error
    if refusal is not None:
        assert refusal.fields[0].loc[:2] == ("body", "params")
        assert egress.sent == []
        return
    url = egress.sent[0].url
    check_url(url)
    path = urlsplit(url).path
    assert path.startswith("/base/i/")
    assert path.count("/") == 3


@given(
    st.binary() | JSON.map(lambda value: str(value).encode("utf-8", "replace")),
    st.text(st.characters(max_codepoint=255))
    | st.sampled_from(["application/json", "text/html; charset=utf-16"]),
    st.integers(100, 599),
)
async def test_any_answer_becomes_a_trace_that_can_be_sent(body, kind, status):
    egress = FakeEgress(reply(status, body, {"Content-Type": kind}))
    compiled = compile_endpoint(
        EndpointConfig(name="e", description="", path="/x", retry_config={"max_retries": 0})
    )
    trace = await RestCaller(egress, ManualClock(), Settings()).call(TARGET, compiled, {}, SECRETS)
    assert (trace.error is None) == (200 <= status < 300)
    orjson.dumps(trace.to_wire())
