import base64
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import AuthMethod, Endpoint, Manifest
from trunkline.errors import Invalid, RemoteFailed
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

GET = compile_endpoint(EndpointConfig(name="get", description="", method="GET", path="/things"))
TOKEN_URL = "https://login.example/token"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def target(auth, **options):
    return Target("w", "i", "Alerts", "https://api.example", AuthMethod(**auth), **options)


class Service:
    """An API and its token endpoint: hands out numbered tokens and takes only those it still knows."""

    def __init__(self, answer=None):
        self.answer = answer or (lambda n: reply(200, {"access_token": f"token-{n:08}", "expires_in": 3600}))
        self.minted = 0
        self.revoked = set()
        self.egress = FakeEgress(self.serve)

    def serve(self, sent):
        if sent.url.startswith("https://login.example"):
            self.minted += 1
            return self.answer(self.minted)
        return reply(401 if sent.headers.get("Authorization") in self.revoked else 200, {})

    @property
    def token_calls(self):
        return [sent for sent in self.egress.sent if sent.url.startswith("https://login.example")]

    @property
    def calls(self):
        return [sent for sent in self.egress.sent if sent.url.startswith("https://api.example")]


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def caller(service, clock):
    return RestCaller(service.egress, clock, Settings())


async def sent_headers(auth, secrets, clock):
    egress = FakeEgress(reply(200, {}))
    trace = await RestCaller(egress, clock, Settings()).call(target(auth), GET, {}, secrets)
    assert trace.error is None
    return egress.sent[0].headers


CLIENT = {"type": "oauth2_client_credentials", "token_url": TOKEN_URL, "client_id": "me"}
CLIENT_SECRET = {"client_secret": "s3cr3t & more"}


async def test_an_api_key_goes_into_its_header(clock):
    headers = await sent_headers(
        {"type": "api_key_header", "header_name": "X-Key"}, {"api_key": "k123456\n"}, clock
    )
    assert headers["X-Key"] == "k123456"


async def test_an_api_key_without_a_header_name_goes_into_the_usual_one(clock):
    headers = await sent_headers({"type": "api_key_header"}, {"api_key": "k123456"}, clock)
    assert headers["X-API-Key"] == "k123456"


async def test_a_connector_may_format_the_api_key(clock):
    auth = {
        "type": "api_key_header",
        "header_name": "Authorization",
        "header_format": "Token token={secret}",
    }
    assert (await sent_headers(auth, {"api_key": "k1"}, clock))["Authorization"] == "Token token=k1"


async def test_a_bearer_token_is_sent_as_such(clock):
    headers = await sent_headers({"type": "bearer_token"}, {"bearer_token": " t123 "}, clock)
    assert headers["Authorization"] == "Bearer t123"


async def test_basic_is_the_pair_in_base64(clock):
    headers = await sent_headers({"type": "basic"}, {"username": "jörg", "password": "p:ä "}, clock)
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == "jörg:p:ä "


async def test_auth_wins_over_a_static_header_of_the_same_name(caller, service):
    config = EndpointConfig(
        name="get", description="", method="GET", path="/x", headers={"authorization": "mine"}
    )
    await caller.call(
        target({"type": "bearer_token"}), compile_endpoint(config), {}, {"bearer_token": "t123"}
    )
    sent = service.calls[0].headers
    assert {name: value for name, value in sent.items() if name.lower() == "authorization"} == {
        "Authorization": "Bearer t123"
    }


async def test_client_credentials_are_posted_as_a_form(caller, service):
    auth = CLIENT | {"scopes": ["read", "write"]}
    trace = await caller.call(target(auth), GET, {}, CLIENT_SECRET)
    assert service.token_calls[0].form == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s3cr3t & more",
        "scope": "read write",
    }
    assert service.calls[0].headers["Authorization"] == "Bearer token-00000001"
    assert [exchange.purpose for exchange in trace.exchanges] == ["token", "call"]


async def test_a_client_id_among_the_secrets_overrides_the_configured_one(caller, service):
    await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET | {"client_id": "you"})
    assert service.token_calls[0].form["client_id"] == "you"


async def test_a_cached_token_is_used_until_shortly_before_it_expires(caller, service, clock):
    for _ in range(3):
        await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert service.minted == 1
    clock.advance(3300)
    await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert service.minted == 2


async def test_a_changed_secret_or_setting_uses_another_token(caller, service):
    await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    await caller.call(target(CLIENT), GET, {}, {"client_secret": "another"})
    await caller.call(target(CLIENT | {"scopes": ["read"]}), GET, {}, CLIENT_SECRET)
    assert service.minted == 3


async def test_a_cached_token_that_is_refused_is_replaced_once(caller, service):
    await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    service.revoked.add("Bearer token-00000001")
    trace = await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert (trace.error, trace.retries, service.minted) == (None, 0, 2)


async def test_a_fresh_token_that_is_refused_is_not_replaced(caller, service):
    service.revoked |= {"Bearer token-00000001", "Bearer token-00000002"}
    trace = await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert (trace.status_code, service.minted, len(service.calls)) == (401, 1, 1)


async def test_a_service_that_refuses_every_token_is_asked_twice_at_most(caller, service):
    await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    service.revoked |= {f"Bearer token-{n:08}" for n in range(10)}
    trace = await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert (trace.status_code, service.minted, len(service.calls)) == (401, 2, 3)


async def test_a_json_exchange_names_its_fields_and_finds_its_token(clock):
    service = Service(lambda _n: reply(200, {"data": {"jwt": "the-token"}}))
    auth = {
        "type": "json_token_exchange",
        "token_url": TOKEN_URL,
        "client_id": "me",
        "token_request_client_id_field": "appKey",
        "token_request_client_secret_field": "appSecret",
        "token_response_path": "data.jwt",
    }
    await RestCaller(service.egress, clock, Settings()).call(target(auth), GET, {}, CLIENT_SECRET)
    assert service.token_calls[0].json == {"appKey": "me", "appSecret": "s3cr3t & more"}
    assert service.calls[0].headers["Authorization"] == "Bearer the-token"


JWT = {
    "type": "oauth2_jwt_bearer",
    "token_url": TOKEN_URL,
    "assertion_issuer": "robot",
    "scopes": ["a", "b"],
    "token_lifetime_seconds": 600,
}


async def test_a_jwt_assertion_is_signed_and_traded(caller, service, clock):
    trace = await caller.call(target(JWT), GET, {}, {"private_key": pem(KEY)})
    assert trace.error is None
    form = service.token_calls[0].form
    token = jwt.decode(form["assertion"], RSAKey.import_key(KEY.public_key()), algorithms=["RS256"])
    now = int(clock.now().timestamp())
    assert {name: token.claims[name] for name in ("iss", "sub", "aud", "iat", "exp")} == {
        "iss": "robot",
        "sub": "robot",
        "aud": TOKEN_URL,
        "iat": now,
        "exp": now + 600,
    }
    assert (form["grant_type"], form["scope"]) == ("urn:ietf:params:oauth:grant-type:jwt-bearer", "a b")
    assert "scope" not in token.claims


async def test_scopes_may_be_inside_the_assertion(caller, service):
    auth = JWT | {"assertion_scopes_in_jwt": True, "assertion_subject": "ann", "assertion_audience": "aud"}
    escaped = pem(KEY).strip().replace("\n", "\\n")
    await caller.call(target(auth), GET, {}, {"private_key": escaped})
    form = service.token_calls[0].form
    claims = jwt.decode(form["assertion"], RSAKey.import_key(KEY.public_key())).claims
    assert (claims["scope"], claims["sub"], claims["aud"]) == ("a b", "ann", "aud")
    assert "scope" not in form


@pytest.mark.parametrize(
    "key",
    [
        "no key at all",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ],
    ids=["garbage", "elliptic", "short"],
)
async def test_a_key_that_cannot_sign_is_a_misconfiguration(caller, key):
    trace = await caller.call(target(JWT), GET, {}, {"private_key": key})
    assert trace.error_kind == "misconfigured"
    assert "private_key" in trace.error


EXCHANGE = {
    "type": "bearer_token_exchange",
    "exchange_url": "https://login.example/exchange",
    "exchange_secret_header": "X-Partner",
    "exchange_secret_format": "Token {secret}",
    "exchange_param_headers": [{"header_name": "X-User", "param_name": "user"}],
}
EXCHANGE_SECRET = {"exchange_secret": "partner-secret"}


@pytest.fixture
def exchange():
    return Service(lambda n: reply(200, {"token": f"token-{n:08}"}))


async def test_an_exchange_sends_its_secret_and_the_mapped_params_as_headers(exchange, clock):
    caller = RestCaller(exchange.egress, clock, Settings())
    trace = await caller.call(target(EXCHANGE), GET, {"user": 42, "q": "x"}, EXCHANGE_SECRET)
    assert trace.error is None
    sent = exchange.token_calls[0]
    assert (sent.method, sent.headers["X-Partner"], sent.headers["X-User"]) == (
        "POST",
        "Token partner-secret",
        "42",
    )
    assert exchange.calls[0].query == [("q", "x")]


async def test_a_param_that_is_not_consumed_stays_in_the_request(exchange, clock):
    mapping = {"header_name": "X-User", "param_name": "user", "consume": False}
    caller = RestCaller(exchange.egress, clock, Settings())
    auth = EXCHANGE | {"exchange_param_headers": [mapping]}
    await caller.call(target(auth), GET, {"user": "ann"}, EXCHANGE_SECRET)
    assert exchange.calls[0].query == [("user", "ann")]


async def test_distinct_users_get_distinct_tokens(exchange, clock):
    caller = RestCaller(exchange.egress, clock, Settings())
    for user in ("ann", "bob", "ann", "bob"):
        await caller.call(target(EXCHANGE), GET, {"user": user}, EXCHANGE_SECRET)
    sent = [call.headers["Authorization"] for call in exchange.calls]
    assert sent == [f"Bearer token-{n:08}" for n in (1, 2, 1, 2)]


@pytest.mark.parametrize(
    "params", [{}, {"user": None}, {"user": ["a"]}, {"user": "a\r\nX: y"}, {"user": " "}]
)
async def test_a_missing_or_unsendable_exchange_param_is_refused_before_any_call(exchange, clock, params):
    caller = RestCaller(exchange.egress, clock, Settings())
    with pytest.raises(Invalid) as caught:
        await caller.call(target(EXCHANGE), GET, params, EXCHANGE_SECRET)
    assert caught.value.fields[0].loc == ("body", "params", "user")
    assert exchange.egress.sent == []


async def test_an_optional_exchange_param_may_be_left_out(exchange, clock):
    mapping = {"header_name": "X-User", "param_name": "user", "required": False}
    caller = RestCaller(exchange.egress, clock, Settings())
    auth = EXCHANGE | {"exchange_param_headers": [mapping]}
    assert (await caller.call(target(auth), GET, {}, EXCHANGE_SECRET)).error is None
    assert "X-User" not in exchange.token_calls[0].headers


async def test_the_exchange_says_how_long_its_token_holds(clock):
    service = Service(lambda n: reply(200, {"auth": {"t": f"token-{n:08}", "ttl": "200"}}))
    auth = EXCHANGE | {
        "exchange_param_headers": [],
        "exchange_token_field": "auth.t",
        "exchange_expires_in_field": "auth.ttl",
    }
    caller = RestCaller(service.egress, clock, Settings())
    for seconds in (0, 169, 1):
        clock.advance(seconds)
        await caller.call(target(auth), GET, {}, EXCHANGE_SECRET)
    assert service.minted == 2


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            reply(401, {"error": "invalid_client", "error_description": "Who are you?"}),
            "HTTP 401 invalid_client: Who are you?",
        ),
        (reply(400, {"error": "invalid_scope"}), "HTTP 400 invalid_scope"),
        (reply(200, {"access_token": ""}), "HTTP 200 no usable token in the answer"),
        (reply(200, {"access_token": {"a": 1}}), "no usable token"),
        (reply(200, {"access_token": "a\r\nb"}), "no usable token"),
        (reply(200, b"<html>"), "no usable token"),
        (reply(200, b"[" * 100_000), "no usable token"),
        (reply(500, b""), "HTTP 500"),
    ],
)
async def test_a_refused_token_is_told_with_the_servers_words(clock, answer, text):
    service = Service(lambda _n: answer)
    trace = await RestCaller(service.egress, clock, Settings()).call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert (trace.error_kind, trace.status_code) == ("auth", None)
    assert text in trace.error
    assert service.calls == []


async def test_a_refused_token_is_asked_for_once_a_few_seconds(clock):
    service = Service(lambda _n: reply(401, {"error": "invalid_client"}))
    caller = RestCaller(service.egress, clock, Settings())
    for _ in range(20):
        await caller.call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert service.minted == 1


async def test_an_outage_of_the_token_endpoint_is_retried(clock):
    answers = [RemoteFailed("login.example is silent", kind="timeout", retryable=True), reply(503)]
    service = Service(lambda _n: answers.pop(0) if answers else reply(200, {"access_token": "late-but-good"}))
    trace = await RestCaller(service.egress, clock, Settings()).call(target(CLIENT), GET, {}, CLIENT_SECRET)
    assert (trace.error, trace.retries, service.minted) == (None, 2, 3)


@pytest.mark.parametrize(
    ("auth", "secrets", "names"),
    [
        ({"type": "api_key_header"}, {}, "api_key"),
        ({"type": "api_key_header", "header_name": "Host"}, {"api_key": "k"}, "header_name"),
        ({"type": "api_key_header", "header_name": "a b"}, {"api_key": "k"}, "header_name"),
        ({"type": "bearer_token"}, {"bearer_token": "a\nb"}, "bearer_token"),
        ({"type": "basic"}, {"password": "x"}, "username"),
        ({"type": "basic"}, {"username": "a:b", "password": "x"}, "colon"),
        (CLIENT, {}, "client_secret"),
        (CLIENT | {"client_id": None}, CLIENT_SECRET, "client_id"),
        (CLIENT | {"token_url": None}, CLIENT_SECRET, "token_url"),
        (CLIENT | {"token_url": "ftp://x"}, CLIENT_SECRET, "token_url"),
        (CLIENT | {"token_url": "{config.nope}"}, CLIENT_SECRET, "token_url"),
        (CLIENT | {"token_response_path": "a..b"}, CLIENT_SECRET, "path of the token"),
        (JWT | {"assertion_issuer": None}, {"private_key": "x"}, "assertion_issuer"),
        (EXCHANGE | {"exchange_param_headers": []}, {}, "exchange_secret"),
    ],
)
async def test_a_set_up_that_cannot_work_says_what_is_missing(caller, auth, secrets, names):
    trace = await caller.call(target(auth), GET, {}, secrets)
    assert trace.error_kind == "misconfigured"
    assert names in trace.error
    assert not trace.retryable


async def test_a_connectors_token_url_is_filled_in_from_its_configuration(caller, service):
    auth = CLIENT | {"token_url": "https://login.example/{config.tenant}/token"}
    await caller.call(target(auth, config={"tenant": "t1"}), GET, {}, CLIENT_SECRET)
    assert service.token_calls[0].path == "/t1/token"


async def test_an_endpoint_may_go_without_auth_to_another_host(caller, service):
    manifest = Manifest(id="m", name="M", base_url="https://api.example")
    bare = compile_endpoint(
        Endpoint(name="e", path="/enqueue", base_url="https://api.example/events/", auth=False), manifest
    )
    await caller.call(target({"type": "bearer_token"}), bare, {}, {"bearer_token": "t123"})
    assert (service.calls[0].path, "Authorization" in service.calls[0].headers) == ("/events/enqueue", False)


async def test_a_path_may_carry_a_connectors_secret_which_the_trace_hides(caller, service):
    manifest = Manifest(id="m", name="M", base_url="https://api.example")
    bare = compile_endpoint(Endpoint(name="e", path="/bot{secret.bot_token}/send"), manifest)
    place = Target("w", "i", "M", "https://api.example", manifest=manifest)
    secret = "123456:AAbbCCddEE/ff"
    trace = await caller.call(place, bare, {}, {"bot_token": secret.replace("/", "_")})
    assert service.calls[0].path == "/bot" + quote(secret.replace("/", "_"), safe="") + "/send"
    assert trace.exchanges[0].url == "https://api.example/bot[redacted]/send"
