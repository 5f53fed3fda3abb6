"""Canaries: whatever an upstream echoes, however it spells it, no secret is in a trace."""

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import orjson
import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import AuthMethod, ErrorRule, Manifest
from trunkline.errors import RemoteFailed
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.trace import MAX_BODY_CHARACTERS
from trunkline.settings import Settings

CANARY = 'C4nary/+"ü &<x>\\end-of-it'
PLAIN = "canary-0123456789-abcdef"
TOKEN_URL = "https://login.example/token"
AUTHS = {
    "api_key_header": ({"type": "api_key_header", "header_name": "X-Custom"}, {"api_key": PLAIN}),
    "bearer_token": ({"type": "bearer_token"}, {"bearer_token": CANARY}),
    "basic": ({"type": "basic"}, {"username": "admin", "password": CANARY}),
    "oauth2_client_credentials": (
        {"type": "oauth2_client_credentials", "token_url": TOKEN_URL, "client_id": "me"},
        {"client_secret": CANARY},
    ),
    "json_token_exchange": (
        {"type": "json_token_exchange", "token_url": TOKEN_URL, "client_id": "me"},
        {"client_secret": CANARY},
    ),
    "bearer_token_exchange": (
        {"type": "bearer_token_exchange", "exchange_url": TOKEN_URL, "exchange_token_field": "access_token"},
        {"exchange_secret": PLAIN},
    ),
}
TOKEN = "granted-token-abc123/+="
REFRESH = "refresh-me-987654"


def spellings(secret):
    raw = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        re.sub("%..", lambda pair: pair[0].lower(), quote(secret, safe="")),
        quote_plus(secret),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        "Basic " + base64.b64encode(b"admin:" + raw).decode(),
        raw.hex(),
        html.escape(secret),
        json.dumps(secret),
        json.dumps(secret).replace("/", "\\/"),
        json.dumps(secret, ensure_ascii=False),
    ]


def traces_of(secret, trace):
    """Find what a reader of the trace could turn back into the secret."""
    text = orjson.dumps(trace.to_wire()).decode() + repr(trace)
    raw = secret.encode()
    forms = {*spellings(secret), base64.b64encode(b"admin:" + raw).decode(), json.dumps(secret)[1:-1]}
    return [form for form in forms if form in text]


def echo(sent):
    """Answer with everything that was sent, in every spelling, and say which header came."""
    if sent.url == TOKEN_URL:
        return reply(
            200, {"access_token": TOKEN, "refresh_token": REFRESH, "scope": "read", "expires_in": 60}
        )
    values = [value for value in sent.headers.values() if value != "{}"]
    body = {"seen": values, "url": sent.url, "all": spellings(CANARY), "nested": {PLAIN: [CANARY, TOKEN]}}
    return reply(200, body, {"X-Echo": PLAIN, "Set-Cookie": "session=1"})


async def trace_of(auth, secrets, clock, answer=echo, **config):
    compiled = compile_endpoint(
        EndpointConfig(
            **{"name": "e", "description": "", "path": "/x", "retry_config": {"max_retries": 0}} | config
        )
    )
    target = Target("w", "i", "Alerts", "https://api.example", AuthMethod(**auth))
    return await RestCaller(FakeEgress(answer), clock, Settings()).call(target, compiled, {}, secrets)


@pytest.mark.parametrize("name", AUTHS)
async def test_an_echoed_secret_is_in_no_part_of_the_trace(clock, name):
    auth, secrets = AUTHS[name]
    trace = await trace_of(auth, secrets, clock)
    assert trace.error is None
    for secret in (value for key, value in secrets.items() if key != "username"):
        assert traces_of(secret, trace) == []
    if name in {"oauth2_client_credentials", "json_token_exchange", "bearer_token_exchange"}:
        assert traces_of(TOKEN, trace) == traces_of(REFRESH, trace) == []
        assert "read" in trace.exchanges[0].response_body
    assert "[redacted]" in trace.final_result


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain"])
async def test_an_echo_in_an_error_or_in_no_json_is_redacted(clock, status, kind):
    text = f"<p>{CANARY} and {html.escape(CANARY)} and {quote(CANARY)}</p>".encode()
    trace = await trace_of(
        {"type": "bearer_token"}, {"bearer_token": CANARY}, clock, reply(status, text, {"Content-Type": kind})
    )
    assert traces_of(CANARY, trace) == []
    assert "[redacted]" in (trace.error or trace.final_result)


async def test_a_secret_at_the_cut_of_a_message_does_not_show_its_beginning(clock):
    body = b"x" * 290 + PLAIN.encode()
    trace = await trace_of({"type": "bearer_token"}, {"bearer_token": PLAIN}, clock, reply(400, body))
    assert "canary" not in trace.error


async def test_a_no_inside_a_200_is_redacted(clock):
    manifest = Manifest(
        id="m", name="A", base_url="https://api.example", errors=ErrorRule(ok="ok", message="error")
    )
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"), manifest)
    target = Target("w", "i", "A", "https://api.example", AuthMethod(type="bearer_token"))
    caller = RestCaller(FakeEgress(reply(200, {"error": f"bad {PLAIN}"})), clock, Settings())
    trace = await caller.call(target, compiled, {}, {"bearer_token": PLAIN})
    assert trace.error == "A refused the call: bad [redacted]"


async def test_a_network_failure_that_names_the_secret_is_redacted(clock):
    failure = RemoteFailed(f"api.example refused {PLAIN}", kind="connect")
    trace = await trace_of({"type": "bearer_token"}, {"bearer_token": PLAIN}, clock, failure)
    assert trace.error == "api.example refused [redacted]"
    assert traces_of(PLAIN, trace) == []


async def test_a_token_endpoint_that_echoes_the_secret_is_redacted(clock):
    auth, secrets = AUTHS["oauth2_client_credentials"]
    answer = reply(
        401, {"error": "invalid_client", "error_description": f"{CANARY} is wrong", "debug": CANARY}
    )
    trace = await trace_of(auth, secrets, clock, answer)
    assert traces_of(CANARY, trace) == []
    assert "invalid_client: [redacted] is wrong" in trace.error
    assert trace.exchanges[0].purpose == "token"


async def test_a_cached_token_is_redacted_too(clock):
    auth, secrets = AUTHS["oauth2_client_credentials"]
    target = Target("w", "i", "A", "https://api.example", AuthMethod(**auth))
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"))
    caller = RestCaller(FakeEgress(echo), clock, Settings())
    await caller.call(target, compiled, {}, secrets)
    trace = await caller.call(target, compiled, {}, secrets)
    assert traces_of(TOKEN, trace) == []
    assert [exchange.purpose for exchange in trace.exchanges] == ["call"]


async def test_a_user_name_is_no_secret(clock):
    secrets = {"username": "admin", "password": CANARY}
    trace = await trace_of({"type": "basic"}, secrets, clock, reply(200, {"opened_by": "admin"}))
    assert trace.raw_response == {"opened_by": "admin"}


async def test_headers_that_carry_credentials_are_masked_by_name(clock):
    trace = await trace_of({"type": "api_key_header", "header_name": "X-Custom"}, {"api_key": "abc"}, clock)
    shown = trace.exchanges[0]
    assert shown.request_headers["X-Custom"] == "[redacted]"
    assert shown.response_headers["Set-Cookie"] == "[redacted]"


async def test_a_long_body_is_cut_with_a_note(clock):
    body = b"a" * 200_000
    trace = await trace_of({"type": "bearer_token"}, {"bearer_token": PLAIN}, clock, reply(200, body))
    shown = trace.exchanges[0].response_body
    assert len(shown) < MAX_BODY_CHARACTERS + 100
    assert shown.endswith("… (cut here; 200000 bytes in all)")
    assert len(trace.raw_response) == 200_000


async def test_without_detail_there_are_stages_but_no_exchanges(clock):
    target = Target("w", "i", "A", "https://api.example")
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"))
    caller = RestCaller(FakeEgress(reply(200, {"a": 1})), clock, Settings())
    trace = await caller.call(target, compiled, {}, {}, detail=False)
    assert (trace.exchanges, trace.raw_response, trace.final_result) == ([], {"a": 1}, '{"a":1}')


async def test_the_trace_can_be_sent_as_json(clock):
    auth, secrets = AUTHS["oauth2_client_credentials"]
    wire = orjson.loads(orjson.dumps((await trace_of(auth, secrets, clock)).to_wire()))
    assert wire["request"]["method"] == "POST"
    assert wire["request"]["headers"]["Authorization"] == "[redacted]"
    assert [exchange["purpose"] for exchange in wire["exchanges"]] == ["token", "call"]
    assert wire["exchanges"][1]["started_at"] == "2026-01-01T00:00:00Z"
    assert set(wire["stages"]) == {"raw_response", "after_filter", "after_mapping", "value", "final_result"}
    assert wire["bytes"]["sent"] > 0
