"""The control API: who may use it, faults, the journal, what runs where."""

import pytest

from trunkline.clock import ManualClock
from trunkline.sandbox.app import FAKES

TABLE = "/api/now/table/incident"


async def fault(control, **order) -> None:
    answer = await control.ask("POST", "/faults", json=order)
    assert answer.status == 201, answer.body


async def test_the_index_says_what_runs_where(control):
    answer = await control.get("")
    assert answer.json["services"] == {name: f"/{name}" for name in FAKES}
    assert {"servicenow", "pagerduty", "linear"} <= set(FAKES)
    assert "Issue" in answer.json["webhooks"]["linear"]
    assert "replay" in answer.json["controls"]["servicenow"]


async def test_a_status_fault_answers_in_the_services_own_shape_and_then_is_over(control, snow, pager):
    await fault(
        control, service="servicenow", kind="status", status=503, times=2, headers={"Retry-After": "1"}
    )
    answers = [await snow.get(TABLE) for _ in range(3)]
    assert [answer.status for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert answers[0].json["error"]["message"] == "Service Unavailable"
    await fault(control, service="pagerduty", kind="status", status=502)
    assert (await pager.get("/services")).json == {"error": {"message": "Bad Gateway"}}


async def test_a_fault_can_bring_its_own_body(control, snow):
    await fault(control, service="servicenow", kind="status", status=200, body="<html>Hibernating</html>")
    answer = await snow.get(TABLE)
    assert (answer.status, answer.body) == (200, b"<html>Hibernating</html>")


async def test_a_fault_strikes_only_its_service_method_and_path(control, snow, pager):
    await fault(control, service="servicenow", kind="status", method="post", path="/api/now/table/inc")
    assert (await snow.get(TABLE)).status == 200
    assert (await pager.get("/services")).status == 200
    assert (await snow.ask("POST", TABLE, json={})).status == 500
    await fault(control, service="servicenow", kind="status", path="*/sys_user*")
    assert (await snow.get(TABLE)).status == 200
    assert (await snow.get("/api/now/table/sys_user_group")).status == 500


async def test_a_rate_limit_fault_looks_like_the_real_one(control, snow, pager):
    for service in ("servicenow", "pagerduty"):
        await fault(control, service=service, kind="rate_limit", seconds=7)
    limited = await snow.get(TABLE)
    assert (limited.status, limited.headers["retry-after"]) == (429, "7")
    assert "x-ratelimit-reset" in limited.headers
    limited = await pager.get("/services")
    assert (limited.status, limited.headers["ratelimit-remaining"]) == (429, "0")
    assert limited.headers["ratelimit-reset"] == "7"
    assert limited.json["error"]["code"] == 2020


async def test_a_delay_comes_before_the_real_answer(control, snow, clock: ManualClock):
    await fault(control, service="servicenow", kind="delay", seconds=30)
    assert (await snow.get(TABLE)).status == 200
    assert clock.slept == [30]


async def test_a_drip_gives_the_whole_answer_bit_by_bit(control, snow, clock: ManualClock):
    await fault(control, service="servicenow", kind="drip", seconds=0.5)
    answer = await snow.get(TABLE, sysparm_limit=1, sysparm_fields="number")
    assert answer.json == {"result": [{"number": "INC0010001"}]}
    assert clock.slept == [0.5] * -(-len(answer.body) // 16)


async def test_an_endless_fault_lasts_until_it_is_deleted(control, snow):
    await fault(control, service="servicenow", kind="status", times=None)
    assert [(await snow.get(TABLE)).status for _ in range(5)] == [500] * 5
    assert (await control.get("/faults")).json["faults"][0]["used"] == 5
    assert (await control.ask("DELETE", "/faults", {"service": "servicenow"})).json == {"deleted": 1}
    assert (await snow.get(TABLE)).status == 200


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ({"kind": "status"}, "service"),
        ({"service": "nothing", "kind": "status"}, "service"),
        ({"service": "servicenow", "kind": "explode"}, "kind"),
        ({"service": "servicenow", "kind": "status", "times": 0}, "times"),
        ({"service": "servicenow", "kind": "status", "status": 42}, "status"),
        ({"service": "servicenow", "kind": "delay", "seconds": -1}, "seconds"),
        ({"service": "servicenow", "kind": "delay", "seconds": True}, "seconds"),
        ({"service": "servicenow", "kind": "status", "headers": {"a": "b\r\nc: d"}}, "headers"),
        ({"service": "servicenow", "kind": "status", "path": 5}, "path"),
        ({"service": "servicenow", "kind": "status", "tymes": 5}, "tymes"),
    ],
)
async def test_a_wrong_order_is_refused_by_the_name_of_its_field(control, order, name):
    answer = await control.ask("POST", "/faults", json=order)
    assert answer.status == 422
    assert answer.json["error"].startswith(f"{name}: ")


async def test_control_answers_this_machine_only(control):
    assert (await control.ask("GET", "", peer="192.0.2.1")).status == 403
    assert (await control.ask("GET", "", headers={"host": "evil.example"})).status == 403
    plain = {"content-type": "text/plain"}
    assert (await control.ask("POST", "/faults", content=b"{}", headers=plain)).status == 415
    assert (await control.ask("POST", "/faults", json=[1])).status == 422


async def test_the_journal_tells_what_was_asked_without_any_credential(sandbox, control, snow, pager):
    ready = sandbox.ready("http://x")
    await snow.ask("POST", TABLE, {"sysparm_fields": "number"}, json={"short_description": "Mail lost"})
    wrong = (
        b"grant_type=password&password=hunter2&client_secret=" + ready["servicenow"]["client_secret"].encode()
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    await snow.ask("POST", "/oauth_token.do", content=wrong, headers=form)
    await pager.ask("POST", "/v2/enqueue", json={"routing_key": "another's key", "event_action": "trigger"})
    answer = await control.get("/requests")
    first, second, third = answer.json["requests"]
    assert (first["service"], first["method"], first["path"]) == ("servicenow", "POST", TABLE)
    assert (first["status"], first["query"]) == (201, "sysparm_fields=number")
    assert "Mail lost" in first["body"]
    assert ["authorization", "[redacted]"] in first["headers"]
    assert "hunter2" not in second["body"]
    assert "another" not in third["body"]
    for values in ready.values():
        for name in ("password", "client_secret", "token", "routing_key", "readonly_password"):
            assert values.get(name, "-absent-").encode() not in answer.body
    only = await control.get("/requests", service="pagerduty")
    assert [request["service"] for request in only.json["requests"]] == ["pagerduty"]


async def test_the_journal_keeps_the_latest_500(control, snow):
    for _ in range(510):
        await snow.ask("GET", "/api/now/table/nonsense")
    assert len((await control.get("/requests")).json["requests"]) == 500


async def test_a_path_of_no_fake_is_told_so(control):
    control.prefix = ""
    answer = await control.get("/nothing/api/chat.postMessage")
    assert answer.status == 404
    assert answer.json["services"] == {name: f"/{name}" for name in FAKES}


async def test_one_fake_alone_is_served_at_the_root(make_sandbox, snow_of):
    sandbox = make_sandbox(only="servicenow")
    assert sandbox.ready("http://127.0.0.1:8000")["servicenow"]["url"] == "http://127.0.0.1:8000"
    snow = snow_of(sandbox)
    snow.prefix = ""
    answer = await snow.get(TABLE, sysparm_limit=1)
    link = answer.json["result"][0]["caller_id"]["link"]
    assert link.startswith("http://127.0.0.1:8000/api/now/table/sys_user/")
    assert (await snow.get("/_sandbox")).json["services"] == {"servicenow": "/"}


async def test_given_credentials_are_used(make_sandbox):
    sandbox = make_sandbox(credentials={"pagerduty": {"token": "given"}})
    assert sandbox.ready("http://x")["pagerduty"]["token"] == "given"
    assert "given" not in repr(sandbox.options)
