"""What a call makes of an answer: reading it, telling errors, shaping it. Nothing an upstream sends may raise."""

import codecs

import orjson
import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import Endpoint, ErrorRule, Manifest
from trunkline.rest.answer import read
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

TARGET = Target("w", "i", "Alerts", "https://api.example")


async def answered(clock, answer, *, errors=None, **config):
    manifest = Manifest(id="m", name="Alerts", base_url="https://api.example", errors=errors)
    compiled = compile_endpoint(
        Endpoint(**{"name": "e", "path": "/x", "retry_config": {"max_retries": 0}} | config), manifest
    )
    return await RestCaller(FakeEgress(answer), clock, Settings()).call(TARGET, compiled, {}, {})


async def test_all_stages_are_in_the_trace(clock):
    body = {"incident": {"id": "9912", "status": "triggered", "url": "https://x"}}
    trace = await answered(
        clock,
        reply(201, body),
        response_filter=["incident.id", "incident.status"],
        response_mapping={"id": "incident.id", "state": "incident.status"},
        result_template="Incident {id} is {state}",
    )
    assert trace.raw_response == body
    assert trace.after_filter == {"incident": {"id": "9912", "status": "triggered"}}
    assert trace.after_mapping == {"id": "9912", "state": "triggered"}
    assert trace.final_result == "Incident 9912 is triggered"
    assert (trace.status_code, trace.error, trace.retries) == (201, None, 0)


async def test_bytes_and_time_are_counted(clock):
    trace = await answered(clock, reply(200, b'{"a":1}'), method="POST")
    assert (trace.bytes_sent, trace.bytes_received) == (2, 7)


async def test_an_error_status_keeps_the_answer_and_quotes_its_message(clock):
    body = {"errors": {"message": "no such\n team"}}
    trace = await answered(clock, reply(404, body), errors=ErrorRule(message="errors.message"))
    assert trace.error == "HTTP 404 from Alerts: no such team"
    assert (trace.raw_response, trace.final_result, trace.retryable) == (body, None, False)


async def test_without_a_rule_the_beginning_of_the_body_is_quoted(clock):
    trace = await answered(clock, reply(400, b"<h1>Bad " + b"x" * 5000))
    assert trace.error.startswith("HTTP 400 from Alerts: <h1>Bad xxx")
    assert len(trace.error) < 350


async def test_several_messages_are_joined(clock):
    trace = await answered(clock, reply(422, {"errors": ["a", "b"]}), errors=ErrorRule(message="errors"))
    assert trace.error == "HTTP 422 from Alerts: a; b"


@pytest.mark.parametrize("status", [301, 302, 304])
async def test_a_redirect_that_was_not_followed_is_an_error(clock, status):
    assert (await answered(clock, reply(status), method="POST")).error == f"HTTP {status} from Alerts"


@pytest.mark.parametrize(
    ("rule", "body", "error"),
    [
        (
            ErrorRule(ok="ok", message="error"),
            {"ok": False, "error": "channel_not_found"},
            "channel_not_found",
        ),
        (ErrorRule(ok="ok", message="error"), {"error": "nothing"}, "nothing"),
        (ErrorRule(present="errors", message="errors[].message"), {"errors": [{"message": "bad"}]}, "bad"),
        (ErrorRule(present="error"), {"error": {"a": 1}}, '{"error":{"a":1}}'),
        (ErrorRule(ok="ok"), [1], "[1]"),
    ],
)
async def test_a_no_inside_a_200_is_an_error(clock, rule, body, error):
    trace = await answered(clock, reply(200, body), errors=rule)
    assert trace.error == f"Alerts refused the call: {error}"
    assert (trace.error_kind, trace.status_code, trace.raw_response) == ("refused", 200, body)


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (ErrorRule(ok="ok"), {"ok": True}),
        (ErrorRule(present="errors"), {"errors": []}),
        (ErrorRule(present="errors"), {"errors": None}),
        (ErrorRule(present="errors"), {}),
    ],
)
async def test_a_yes_is_no_error(clock, rule, body):
    assert (await answered(clock, reply(200, body), errors=rule)).error is None


async def test_an_endpoints_own_rule_replaces_the_connectors(clock):
    trace = await answered(clock, reply(200, {"ok": False}), errors=ErrorRule(ok="ok"))
    assert trace.error_kind == "refused"
    compiled = compile_endpoint(
        Endpoint(name="e", path="/x", errors=ErrorRule(present="fault")),
        Manifest(id="m", name="A", base_url="https://api.example", errors=ErrorRule(ok="ok")),
    )
    caller = RestCaller(FakeEgress(reply(200, {"ok": False})), clock, Settings())
    assert (await caller.call(TARGET, compiled, {}, {})).error is None


NESTED = b"[" * 100_000 + b"]" * 100_000
BARELY = b"[" * 300 + b"]" * 300


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b"", "application/json", None),
        (b" \r\n", "text/plain", None),
        (b'{"a": 1}', "", {"a": 1}),
        (b'{"a": 1}', "text/html", {"a": 1}),
        (b"5", "application/json", 5),
        (b"5", "text/plain", "5"),
        (b"{broken", "application/json", "{broken"),
        (b'{"a": NaN}', "application/json", '{"a": NaN}'),
        (b'{"a": "\\ud800"}', "application/json", {"a": "\ufffd"}),
        (b'{"a": "\\ud800"', "application/json", '{"a": "\\ud800"'),
        (b"18446744073709551616", "application/json", 18446744073709551616.0),
        (b"1" * 5000, "application/json", "1" * 5000),
        (NESTED, "application/json", NESTED.decode()),
        (BARELY, "application/json", BARELY.decode()),
        (codecs.BOM_UTF8 + b'{"a":1}', "application/json", {"a": 1}),
        ('{"ä":1}'.encode("utf-16"), "application/json", {"ä": 1}),
        (codecs.BOM_UTF16_BE + '{"ä":1}'.encode("utf-16-be"), "text/plain", {"ä": 1}),
        ('{"a":"ä"}'.encode("latin-1"), "application/json; charset=iso-8859-1", {"a": "ä"}),
        ("grün".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grün"),
        ("grün".encode(), "text/plain", "grün"),
        (b"gr\xfcn", "text/plain", "gr\ufffdn"),
        (b"gr\xfcn", "text/plain; charset=nonsense", "gr\ufffdn"),
        (b"x", "text/plain; charset=zlib", "x"),
        (b"x", "text/plain; charset=\0", "x"),
        (b"a,b\n", "text/csv", "a,b\n"),
        (b"\x89PNG\r\n\x1a\n\0", "image/png", {"content_type": "image/png", "bytes": 9}),
        (b"abc\0", "application/octet-stream", {"content_type": "application/octet-stream", "bytes": 4}),
        (b"\xff\xfe\x00", "application/json", "\ufffd"),
    ],
)
def test_any_body_becomes_a_json_value(body, kind, value):
    answer = read(body, kind)
    assert answer.value == value
    assert orjson.loads(answer.encoded) == orjson.loads(orjson.dumps(value))


async def test_a_template_that_fails_is_told_and_keeps_the_stages(clock):
    body = {"list": list(range(5000))}
    trace = await answered(
        clock,
        reply(200, body),
        result_template="{% for a in list %}{% for b in list %}{{ b }}{% endfor %}{% endfor %}",
    )
    if trace.error is not None:
        assert trace.error_kind == "shape"
    assert trace.raw_response == body


async def test_an_answer_that_never_comes_has_no_status(clock):
    from trunkline.errors import RemoteFailed

    trace = await answered(clock, RemoteFailed("api.example fell silent", kind="timeout", retryable=True))
    assert (trace.status_code, trace.error, trace.error_kind) == (None, "api.example fell silent", "timeout")
    assert trace.exchanges[0].error == "api.example fell silent"


async def test_a_plain_native_endpoint_needs_no_connector(clock):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"))
    trace = await RestCaller(FakeEgress(reply(200, "yes")), clock, Settings()).call(TARGET, compiled, {}, {})
    assert (trace.final_result, trace.value) == ("yes", "yes")
