import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.manifest import AuthMethod, Endpoint, ErrorRule, Manifest
from trunkline.errors import RemoteFailed
from trunkline.rest.caller import RestCaller, Target
from trunkline.settings import Settings

BEARER = AuthMethod(type="bearer_token")
SECRET = {"bearer_token": "t-secret-123"}
CLIENT = AuthMethod(type="oauth2_client_credentials", token_url="https://login.example/token", client_id="me")
CLIENT_SECRET = {"client_secret": "s-secret-123"}
EXCHANGE = AuthMethod(
    type="bearer_token_exchange",
    exchange_url="https://login.example/exchange",
    exchange_param_headers=[{"header_name": "X-User", "param_name": "user"}],
)


async def probe(clock, *steps, auth=BEARER, secrets=SECRET, base_url="https://api.example/v1", manifest=None):
    egress = FakeEgress(*steps)
    target = Target("w", "i", "Alerts", base_url, auth, manifest=manifest)
    return await RestCaller(egress, clock, Settings()).probe(target, secrets), egress


async def test_a_service_that_answers_head_is_healthy(clock):
    outcome, egress = await probe(clock, reply(204))
    assert (outcome.status, outcome.http_status, outcome.auth_resolved) == ("healthy", 204, True)
    assert outcome.message == "Connection successful (HTTP 204)"
    sent = egress.sent[0]
    assert (sent.method, sent.url, sent.body) == ("HEAD", "https://api.example/v1", None)
    assert sent.headers["Authorization"] == "Bearer t-secret-123"


@pytest.mark.parametrize("status", [302, 404, 405, 429, 501])
async def test_any_answer_to_head_shows_that_the_service_is_there(clock, status):
    outcome, _ = await probe(clock, reply(status))
    assert (outcome.status, outcome.http_status) == ("healthy", status)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_a_failed_auth(clock, status):
    outcome, _ = await probe(clock, reply(status))
    assert (outcome.status, outcome.http_status, outcome.auth_resolved) == ("auth_failed", status, True)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_broken_service_is_unreachable(clock, status):
    outcome, egress = await probe(clock, reply(status))
    assert (outcome.status, outcome.http_status, len(egress.sent)) == ("unreachable", status, 1)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("dns", "unreachable"),
        ("connect", "unreachable"),
        ("closed", "unreachable"),
        ("malformed", "unreachable"),
        ("timeout", "timeout"),
        ("tls", "ssl_error"),
        ("refused_address", "misconfigured"),
        ("insecure_scheme", "misconfigured"),
        ("bad_url", "misconfigured"),
    ],
)
async def test_each_failure_has_its_status(clock, kind, status):
    failure = RemoteFailed(f"api.example: {kind}", kind=kind, retryable=True)
    outcome, _ = await probe(clock, failure)
    assert (outcome.status, outcome.http_status, outcome.auth_resolved) == (status, None, True)
    assert outcome.message == f"api.example: {kind}"
    outcome, _ = await probe(clock, failure, auth=CLIENT, secrets=CLIENT_SECRET)
    assert (outcome.status, outcome.auth_resolved) == (status, False)
    assert "token request" in outcome.message


@pytest.mark.parametrize(
    ("auth", "secrets", "base_url"),
    [
        (BEARER, {}, "https://api.example"),
        (BEARER, SECRET, ""),
        (BEARER, SECRET, "gopher://x"),
        (EXCHANGE, {}, "https://api.example"),
    ],
)
async def test_a_set_up_that_cannot_work_is_misconfigured_and_sends_nothing(clock, auth, secrets, base_url):
    outcome, egress = await probe(clock, reply(200), auth=auth, secrets=secrets, base_url=base_url)
    assert (outcome.status, outcome.auth_resolved, egress.sent) == ("misconfigured", False, [])


async def test_a_token_is_fetched_afresh(clock):
    egress = FakeEgress(
        lambda sent: reply(200, {"access_token": "good-token"} if sent.method == "POST" else None)
    )
    caller = RestCaller(egress, clock, Settings())
    target = Target("w", "i", "Alerts", "https://api.example", CLIENT)
    for _ in range(2):
        assert (await caller.probe(target, CLIENT_SECRET)).status == "healthy"
    assert [sent.method for sent in egress.sent] == ["POST", "HEAD"] * 2


async def test_a_refused_token_request_is_a_failed_auth_without_the_secret(clock):
    answer = reply(401, {"error": "invalid_client", "error_description": "s-secret-123 is wrong"})
    outcome, egress = await probe(clock, answer, auth=CLIENT, secrets=CLIENT_SECRET)
    assert (outcome.status, outcome.auth_resolved, len(egress.sent)) == ("auth_failed", False, 1)
    assert "invalid_client" in outcome.message
    assert "s-secret-123" not in outcome.message


@pytest.mark.parametrize("status", [200, 401])
async def test_an_exchange_that_needs_params_is_not_tried(clock, status):
    outcome, egress = await probe(
        clock, reply(status), auth=EXCHANGE, secrets={"exchange_secret": "x-secret"}
    )
    assert (outcome.status, outcome.auth_resolved, outcome.http_status) == ("healthy", False, status)
    assert "user" in outcome.message
    assert [sent.method for sent in egress.sent] == ["HEAD"]
    assert "Authorization" not in egress.sent[0].headers


def connector(**check):
    endpoint = Endpoint(**{"name": "me", "path": "/me"} | check)
    return Manifest(
        id="m",
        name="Alerts",
        base_url="https://api.example",
        check="me",
        endpoints={"me": endpoint},
        errors=ErrorRule(ok="ok", message="error"),
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (reply(200, {"ok": True}), "healthy"),
        (reply(200, {"ok": False, "error": "invalid_auth"}), "auth_failed"),
        (reply(401, {}), "auth_failed"),
        (reply(404, {}), "misconfigured"),
        (reply(503, {}), "unreachable"),
    ],
)
async def test_a_connectors_check_endpoint_is_called_once_instead_of_head(clock, answer, status):
    outcome, egress = await probe(clock, answer, manifest=connector())
    assert (outcome.status, outcome.auth_resolved) == (status, True)
    assert [(sent.method, sent.path) for sent in egress.sent] == [("GET", "/v1/me")]


async def test_a_check_endpoint_that_needs_params_is_misconfigured(clock):
    outcome, egress = await probe(clock, manifest=connector(path="/users/{id}"))
    assert (outcome.status, egress.sent) == ("misconfigured", [])


async def test_the_time_is_measured(clock):
    def slow(_sent):
        clock.advance(0.25)
        return reply(200)

    outcome, _ = await probe(clock, slow)
    assert outcome.duration_ms == 250
