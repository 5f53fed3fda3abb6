"""Running endpoints over the wire: requests, stages, failures upstream, traces."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from http_asgi import Client, Reply

EXAMPLE = {
    "name": "open_incident",
    "description": "Open an incident for a team",
    "method": "POST",
    "path": "/v2/teams/{team_id}/incidents",
    "input_schema": {
        "type": "object",
        "properties": {"team_id": {"type": "string"}, "title": {"type": "string"}},
        "required": ["team_id", "title"],
    },
    "response_filter": ["incident.id", "incident.status"],
    "response_mapping": {"id": "incident.id", "state": "incident.status"},
    "result_template": "Incident {id} is {state}",
    "max_result_length": 400,
    "retry_config": {"max_retries": 1, "retry_on_status": [503]},
    "headers": {"X-Source": "bridge"},
    "request_transform": {"inject": {"origin": "bridge"}, "wrap_params_key": "incident"},
}
KEY = {"type": "api_key_header", "header_name": "X-Api-Key", "api_key_value": {"value": "s3cr3t-key"}}
NO_RETRY = {"retry_config": {"max_retries": 0}}


class Service:
    """A service that keeps its requests and answers from a list, the last answer for good."""

    def __init__(self, *answers: web.Response | dict[str, Any]) -> None:
        self.answers = list(answers) or [{}]
        self.requests: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.requests.append(
            {"method": request.method, "path": request.raw_path, "headers": request.headers, "body": body}
        )
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(found):
            return await found(request)
        return web.Response(**found)  # type: ignore[arg-type]

    @property
    def last(self) -> dict[str, Any]:
        return self.requests[-1]


def ok(value: Any, status: int = 200) -> dict[str, Any]:
    return {"text": json.dumps(value), "status": status, "content_type": "application/json"}


@pytest.fixture
def start(alice: Client, upstream, endpoint):
    """Make an integration of one endpoint at a service; returns the path of the endpoint."""

    async def begin(service: Service, described: dict[str, Any] | None = None, **changes: Any) -> str:
        url = await upstream(service.answer)
        entry = described or endpoint(**NO_RETRY)
        made = await alice.integration(**{"base_url": url, "endpoints": [entry], **changes})
        return f"/v1/{{ws}}/integrations/{made['id']}/endpoints/{entry['name']}"

    return begin


async def _run(client: Client, path: str, action: str = "test", **params: Any) -> Reply:
    return await client.post(f"{path}/{action}", {"params": params})


async def test_the_contracts_example_shows_its_four_stages(alice: Client, start):
    incident = {"id": "9912", "status": "triggered", "url": "https://oncall.internal.example/i/9912"}
    service = Service({"status": 503}, ok({"incident": incident}, 201))
    path = await start(service, EXAMPLE, auth=KEY)
    answer = (await _run(alice, path, team_id="blue", title="Down")).json
    assert answer.pop("duration_ms") >= 0
    assert answer == {
        "status_code": 201,
        "retries": 1,
        "raw_response": {"incident": incident},
        "after_filter": {"incident": {"id": "9912", "status": "triggered"}},
        "after_mapping": {"id": "9912", "state": "triggered"},
        "final_result": "Incident 9912 is triggered",
        "error": None,
    }


async def test_the_contracts_example_sends_what_it_says(alice: Client, start):
    service = Service(ok({}))
    await _run(alice, await start(service, EXAMPLE, auth=KEY), team_id="blue", title="Down")
    assert (service.last["method"], service.last["path"]) == ("POST", "/v2/teams/blue/incidents")
    assert json.loads(service.last["body"]) == {"incident": {"title": "Down"}, "origin": "bridge"}
    assert service.last["headers"]["X-Source"] == "bridge"
    assert service.last["headers"]["X-Api-Key"] == "s3cr3t-key"
    assert service.last["headers"]["Content-Type"] == "application/json"


async def test_a_call_returns_the_final_result_and_the_value(alice: Client, start):
    path = await start(Service(ok({"incident": {"id": "1", "status": "open"}})), EXAMPLE)
    reply = await _run(alice, path, "call", team_id="blue", title="Down")
    assert reply.status == 200
    assert (reply.json["final_result"], reply.json["data"]) == (
        "Incident 1 is open",
        {"id": "1", "state": "open"},
    )
    assert set(reply.json) == {"status_code", "duration_ms", "retries", "final_result", "data", "error"}


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _never(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


FAILURES = {
    "500": ({"status": 500, "text": "boom"}, 500),
    "404": ({"status": 404, "text": "no"}, 404),
    "304": ({"status": 304}, 304),
    "redirect": ({"status": 302, "headers": {"Location": "http://10.0.0.1/"}}, None),
    "reset": (_reset, None),
    "timeout": (_never, None),
    "huge": ({"body": b"x" * (11 * 1024 * 1024)}, None),
    "bomb": ({"body": b"no gzip", "headers": {"Content-Encoding": "gzip"}}, None),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_upstream_that_fails_is_an_error_in_a_200_and_a_502_of_a_call(
    alice: Client, start, failure: str
):
    answer, status = FAILURES[failure]
    path = await start(Service(answer))
    alice.hub.app.settings = replace(alice.hub.app.settings, call_timeout_seconds=0.3)
    tested = await _run(alice, path)
    assert (tested.status, tested.json["status_code"]) == (200, status)
    assert tested.json["error"]
    assert tested.json["final_result"] is None
    called = await _run(alice, path, "call")
    assert (called.status, called.json["error_code"], called.json["status"]) == (502, "remote_failed", status)
    assert (called.json["detail"], called.json["service"]) == (tested.json["error"], "Ops")


async def test_a_service_that_is_not_there_is_an_error(alice: Client, start):
    path = await start(Service(), base_url="http://127.0.0.1:1")
    reply = await _run(alice, path)
    assert (reply.status, reply.json["status_code"]) == (200, None)
    assert reply.json["error"]


@pytest.mark.parametrize(
    ("base_url", "kind"),
    [
        ("http://10.0.0.1", "refused_address"),
        ("https://10.0.0.1", "refused_address"),
        ("https://169.254.169.254", "refused_address"),
        ("https://[::ffff:10.0.0.1]", "refused_address"),
        ("http://93.184.216.34", "insecure_scheme"),
        ("", "misconfigured"),
    ],
)
async def test_an_address_that_is_not_open_is_refused_as_an_error(
    alice: Client, start, base_url: str, kind: str
):
    path = await start(Service(), base_url=base_url)
    assert (await _run(alice, path)).json["error"]
    reply = await _run(alice, path, "call")
    assert reply.status == 502
    assert reply.json["kind"] in {kind, "insecure_scheme"}


@pytest.mark.parametrize(
    ("answer", "raw"),
    [
        ({"text": "plain"}, "plain"),
        ({"text": "<a>b</a>", "content_type": "text/html"}, "<a>b</a>"),
        ({"text": "{broken", "content_type": "application/json"}, "{broken"),
        ({"text": '{"a": NaN}', "content_type": "application/json"}, '{"a": NaN}'),
        ({"text": '"\\ud800"', "content_type": "application/json"}, "\ufffd"),  # no text of any language
        ({"status": 204}, None),
        ({"text": ""}, None),
        ({"text": "9" * 30, "content_type": "application/json"}, 1e30),
        ({"body": b"\xff\x00\xfe", "content_type": "image/png"}, {"content_type": "image/png", "bytes": 3}),
    ],
)
async def test_an_answer_that_is_no_json_is_still_an_answer(alice: Client, start, answer: Any, raw: Any):
    reply = await _run(alice, await start(Service(answer)))
    assert (reply.status, reply.json["error"]) == (200, None)
    assert reply.json["raw_response"] == raw


@pytest.mark.parametrize("depth", [60, 250, 1000, 100_000])
async def test_an_answer_of_any_depth_is_passed_on_or_an_error(alice: Client, start, depth: int):
    text = "[" * depth + "]" * depth
    described = {"text": text, "content_type": "application/json"}
    path = await start(Service(described))
    for action in ("test", "call", "call?trace=true"):
        reply = await _run(alice, path, action)
        assert reply.status in {200, 502}
        assert reply.json


async def test_retries_are_counted_and_end(alice: Client, start, endpoint, clock):
    service = Service({"status": 503, "text": "busy"})
    path = await start(service, endpoint(retry_config={"max_retries": 3, "retry_on_status": [503]}))
    reply = await _run(alice, path)
    assert (reply.json["retries"], reply.json["status_code"]) == (3, 503)
    assert (len(service.requests), len(clock.slept)) == (4, 3)


async def test_retry_after_is_waited_for(alice: Client, start, endpoint, clock):
    service = Service({"status": 429, "headers": {"Retry-After": "7"}}, ok({"id": 1}))
    reply = await _run(alice, await start(service, endpoint()), "call")
    assert (reply.status, reply.json["retries"], clock.slept) == (200, 1, [7.0])


async def test_a_wait_beyond_the_budget_is_not_begun(alice: Client, start, endpoint, clock):
    service = Service({"status": 429, "headers": {"Retry-After": "7200"}})
    reply = await _run(alice, await start(service, endpoint()), "call")
    assert (reply.status, reply.json["retryable"], clock.slept) == (502, True, [])


async def test_a_trace_shows_the_exchange_and_no_secret(alice: Client, start):
    path = await start(Service(ok({"incident": {"id": "1", "status": "s3cr3t-key"}})), EXAMPLE, auth=KEY)
    reply = await _run(alice, path, "call?trace=true", team_id="blue", title="Down")
    (exchange,) = reply.json["trace"]["exchanges"]
    assert (exchange["purpose"], exchange["request"]["method"]) == ("call", "POST")
    assert exchange["request"]["headers"]["X-Api-Key"] == "[redacted]"
    assert json.loads(exchange["request"]["body"])["origin"] == "bridge"
    assert exchange["response"]["status"] == 200
    assert reply.json["final_result"] == "Incident 1 is [redacted]"
    assert "s3cr3t-key" not in reply.text


async def test_a_failed_calls_trace_comes_with_the_502(alice: Client, start):
    path = await start(Service({"status": 500, "text": "boom"}))
    reply = await _run(alice, path, "call?trace=true")
    assert (reply.status, reply.json["trace"]["error_kind"]) == (502, "status")
    assert reply.json["trace"]["stages"]["raw_response"] == "boom"


async def test_an_unknown_endpoint_is_not_found(alice: Client, start):
    path = await start(Service())
    for name in ("other", "THINGS", "things%20", "%E2%80%AE", "%00", "a" * 3000):
        reply = await _run(alice, path.replace("things", name))
        assert (reply.status, reply.json.get("detail")) == (404, "Endpoint not found") or name == "%00"
    assert (await _run(alice, path.replace("things", "%00"))).status == 422


async def test_an_endpoint_of_any_name_can_be_called(alice: Client, start, endpoint):
    for number, name in enumerate(["a b", "größe", "a%2Fb".replace("%2F", "."), "x?y", "100%"]):
        path = await start(Service(ok(1)), endpoint(name=name), name=f"ops-{number}")
        quoted = path.replace("%", "%25").replace("?", "%3F").replace(" ", "%20")
        assert (await _run(alice, quoted)).json["final_result"] == "1", name


@pytest.mark.parametrize("params", ["x", [], 1, True, None, [["a", 1]]])
async def test_params_of_a_wrong_type_are_refused(alice: Client, start, params: Any):
    reply = await alice.post(f"{await start(Service())}/test", {"params": params})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "params"])


async def test_params_may_be_absent(alice: Client, start):
    assert (await alice.post(f"{await start(Service(ok(1)))}/call", {})).status == 200


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "who": {"type": "object", "required": ["id"]}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({}, ["n"]),
        ({"n": "1"}, ["n"]),
        ({"n": 0}, ["n"]),
        ({"n": 1.5}, ["n"]),
        ({"n": True}, ["n"]),
        ({"n": 1, "who": {}}, ["who", "id"]),
        ({"n": 1, "else": 1}, ["else"]),
    ],
)
async def test_params_against_the_schema_are_refused_before_any_call(
    alice: Client, start, endpoint, params: Any, loc: list[str]
):
    service = Service()
    path = await start(service, endpoint(input_schema=SCHEMA))
    for action in ("test", "call"):
        reply = await _run(alice, path, action, **params)
        assert (reply.status, service.requests) == (422, [])
        assert reply.json["detail"][0]["loc"] == ["body", "params", *loc]


async def test_a_missing_path_parameter_is_refused_before_any_call(alice: Client, start, endpoint):
    service = Service()
    reply = await _run(alice, await start(service, endpoint(path="/things/{id}")))
    assert (reply.status, service.requests) == (422, [])
    assert reply.json["detail"][0]["loc"] == ["body", "params", "id"]


@pytest.mark.parametrize(
    "value",
    ["a/b", "..", ".", "", "a\\b", "\x00", "a\nb", [1], {"a": 1}, None, "/", "\x7f"],
)
async def test_a_path_parameter_that_would_address_something_else_is_refused(
    alice: Client, start, endpoint, value: Any
):
    service = Service()
    reply = await _run(alice, await start(service, endpoint(path="/things/{id}/x")), id=value)
    assert (reply.status, service.requests) == (422, [])
    assert reply.json["detail"][0]["loc"] == ["body", "params", "id"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("%2e%2e", "%252e%252e"),
        ("😀", "%F0%9F%98%80"),
        (7, "7"),
        (True, "true"),
        (1.5, "1.5"),
        ("...", "..."),
        ("{id}", "%7Bid%7D"),
    ],
)
async def test_a_path_parameter_is_one_segment(alice: Client, start, endpoint, value: Any, sent: str):
    service = Service()
    reply = await _run(alice, await start(service, endpoint(path="/things/{id}")), id=value)
    assert (reply.json["error"], service.last["path"]) == (None, f"/things/{sent}")


async def test_a_get_sends_the_rest_as_its_query(alice: Client, start, endpoint):
    service = Service()
    path = await start(service, endpoint(path="/things/{id}?v=1"))
    await _run(alice, path, id=1, q="a&b", many=[1, "x"], flag=False, none=None)
    assert service.last["path"] == "/things/1?v=1&q=a%26b&many=1&many=x&flag=false"
    assert service.last["body"] == ""


async def test_a_form_is_sent_as_a_form(alice: Client, start, endpoint):
    service = Service()
    described = endpoint(method="POST", body_format="form", request_transform={"inject": {"a": "ü&"}})
    await _run(alice, await start(service, described), q="x y", a="lost", many=[1, 2])
    assert service.last["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
    assert service.last["body"] == "q=x+y&a=%C3%BC%26&many=1&many=2"


async def test_what_is_injected_wins(alice: Client, start, endpoint):
    service = Service()
    transform = {"inject": {"kind": "fixed", "wrapped": "no"}, "wrap_params_key": "wrapped"}
    await _run(alice, await start(service, endpoint(method="PUT", request_transform=transform)), kind="mine")
    assert json.loads(service.last["body"]) == {"kind": "fixed", "wrapped": "no"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_arrives(alice: Client, start, endpoint, method: str):
    service = Service(ok("done"))
    reply = await _run(alice, await start(service, endpoint(method=method)), "call", a=1)
    assert (reply.json["data"], service.last["method"]) == ("done", method)
    assert (service.last["path"], service.last["body"]) == (
        ("/things?a=1", "") if method in {"GET", "DELETE"} else ("/things", '{"a":1}')
    )


async def test_a_result_is_cut_at_its_length(alice: Client, start, endpoint):
    path = await start(Service(ok("äöü" * 100)), endpoint(max_result_length=5))
    assert (await _run(alice, path)).json["final_result"] == "äöüäö"


async def test_a_result_key_chooses(alice: Client, start, endpoint):
    path = await start(Service(ok({"a": {"b": [1, {"c": 2}]}})), endpoint(result_key="a.b[1]"))
    reply = await _run(alice, path, "call")
    assert (reply.json["data"], reply.json["final_result"]) == ({"c": 2}, '{"c":2}')


async def test_parameters_no_service_could_take_are_refused(alice: Client, start, endpoint):
    path = await start(Service(), endpoint())
    reply = await _run(alice, path, q="x" * 100_000)
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "params"])


async def test_a_viewer_may_call_and_a_stranger_may_not(alice: Client, bob: Client, charlie: Client, start):
    path = await start(Service(ok(1)))
    assert (await _run(bob, path, "call")).status == 200
    assert (await _run(charlie, path, "call")).status == 404
    assert (await _run(replace(charlie, workspace_id=alice.workspace_id), path, "call")).status == 404


async def test_twenty_calls_at_once_all_arrive(alice: Client, start):
    service = Service(ok(1))
    path = await start(service)
    replies = await asyncio.gather(*(_run(alice, path, "call", n=number) for number in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len({request["path"] for request in service.requests}) == 20
