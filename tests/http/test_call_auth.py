"""Every way in, end to end: from the stored secret through a strict token server to the service."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

from http_asgi import Client, Reply

SECRET = "the-client-secret"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
FORM = "application/x-www-form-urlencoded"


class Service:
    """A token server that takes no nonsense, and an API that takes only the tokens it gave out."""

    def __init__(self) -> None:
        self.minted: list[str] = []
        self.calls: list[Mapping[str, str]] = []
        self.lifetime: Any = 3600
        self.fails = 0
        self.revoked: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.startswith("/token/"):
            return await self._token(request)
        self.calls.append(request.headers)
        given = request.headers.get("Authorization", "")
        known = (
            given.removeprefix("Bearer ") in set(self.minted) - self.revoked or given == "Bearer fixed-token"
        )
        basic = given == "Basic " + base64.b64encode(b"alice:pass-word").decode()
        if known or basic or request.headers.get("X-Key") == "the-api-key":
            return web.json_response({"path": request.path_qs})
        return web.json_response({"message": "who?"}, status=401)

    async def _token(self, request: web.Request) -> web.Response:
        if self.fails:
            self.fails -= 1
            return web.json_response({"error": "temporarily_unavailable"}, status=503)
        problem = await getattr(self, "_" + request.path.rpartition("/")[2])(request)
        if problem:
            return web.json_response({"error": "invalid_client", "error_description": problem}, status=401)
        await asyncio.sleep(0)
        token = f"token-{len(self.minted):06}"
        self.minted.append(token)
        body = {"access_token": token, "token": token, "deep": {"token": token}, "expires_in": self.lifetime}
        return web.json_response(body)

    async def _oauth(self, request: web.Request) -> str | None:
        form = dict(await request.post())
        wanted = {
            "grant_type": "client_credentials",
            "client_id": "me",
            "client_secret": SECRET,
            "scope": "a b",
        }
        fits = request.method == "POST" and request.content_type == FORM
        return None if fits and form == wanted else f"not {sorted(form)}"

    async def _json(self, request: web.Request) -> str | None:
        wanted = {"user": "me", "pass": SECRET}
        fits = request.content_type == "application/json" and json.loads(await request.text()) == wanted
        return None if fits else "not that"

    async def _jwt(self, request: web.Request) -> str | None:
        form = await request.post()
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return "grant_type"
        token = jwt.decode(str(form["assertion"]), RSAKey.import_key(KEY.public_key()), algorithms=["RS256"])
        claims = token.claims
        fits = (claims["iss"], claims["sub"], claims["aud"]) == ("me", "her", "them")
        fits = fits and claims["exp"] - claims["iat"] == 600 and form.get("scope") == "a b"
        return None if fits else "claims"

    async def _exchange(self, request: web.Request) -> str | None:
        fits = request.headers.get("X-Secret") == f"Token {SECRET}" and request.headers.get("X-User")
        return None if fits else "headers"


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def url(upstream, service: Service) -> str:
    return await upstream(service.answer)


def _ways_in(url: str) -> dict[str, dict[str, Any]]:
    client = {"client_id": "me", "client_secret_value": {"value": SECRET}}
    return {
        "api_key_header": {"header_name": "X-Key", "api_key_value": {"value": "the-api-key"}},
        "bearer_token": {"bearer_token_value": {"value": "fixed-token"}},
        "oauth2_client_credentials": {"token_url": f"{url}/token/oauth", "scopes": ["a", "b"], **client},
        "json_token_exchange": {
            "token_url": f"{url}/token/json",
            "token_request_client_id_field": "user",
            "token_request_client_secret_field": "pass",
            "token_response_path": "deep.token",
            **client,
        },
        "oauth2_jwt_bearer": {
            "token_url": f"{url}/token/jwt",
            "assertion_issuer": "me",
            "assertion_subject": "her",
            "assertion_audience": "them",
            "token_lifetime_seconds": 600,
            "scopes": ["a", "b"],
            "private_key_value": {"value": PEM},
        },
        "bearer_token_exchange": {
            "exchange_url": f"{url}/token/exchange",
            "exchange_secret_header": "X-Secret",
            "exchange_secret_format": "Token {secret}",
            "exchange_expires_in_field": "expires_in",
            "exchange_param_headers": [{"header_name": "X-User", "param_name": "user"}],
            "exchange_secret_value": {"value": SECRET},
        },
    }


TOKEN_TYPES = [
    "oauth2_client_credentials",
    "json_token_exchange",
    "oauth2_jwt_bearer",
    "bearer_token_exchange",
]
PARAMS = {"user": "u1"}


@pytest.fixture
def begin(alice: Client, url: str, endpoint):
    """Make an integration with one of the ways in; returns its path."""

    async def make(kind: str, **changes: Any) -> str:
        auth = {"type": kind, **_ways_in(url)[kind], **changes}
        made = await alice.integration(
            base_url=url, auth=auth, endpoints=[endpoint(retry_config={"max_retries": 0})]
        )
        return f"/v1/{{ws}}/integrations/{made['id']}"

    return make


async def _call(client: Client, path: str, action: str = "call", **params: Any) -> Reply:
    return await client.post(f"{path}/endpoints/things/{action}", {"params": params or PARAMS})


@pytest.mark.parametrize("kind", ["api_key_header", "bearer_token", *TOKEN_TYPES])
async def test_every_native_way_in_gets_in(alice: Client, service: Service, begin, kind: str):
    reply = await _call(alice, await begin(kind))
    assert (reply.status, len(service.calls)) == (200, 1), reply.text
    assert len(service.minted) == (kind in TOKEN_TYPES)


async def test_user_name_and_password_get_in(alice: Client, url: str, endpoint):
    credentials = {"method": "basic", "values": {"username": "alice", "password": "pass-word"}}
    made = await alice.integration(
        connector="http", config={"url": url}, base_url="", credentials=credentials, endpoints=[endpoint()]
    )
    assert (await _call(alice, f"/v1/{{ws}}/integrations/{made['id']}")).status == 200


@pytest.mark.parametrize("kind", TOKEN_TYPES)
async def test_a_token_serves_many_calls(alice: Client, service: Service, begin, kind: str):
    path = await begin(kind)
    for _ in range(5):
        assert (await _call(alice, path)).status == 200
    assert (len(service.minted), len(service.calls)) == (1, 5)


@pytest.mark.parametrize("kind", TOKEN_TYPES)
async def test_twenty_calls_at_once_fetch_one_token(alice: Client, service: Service, begin, kind: str):
    path = await begin(kind)
    replies = await asyncio.gather(*(_call(alice, path) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert (len(service.minted), len(service.calls)) == (1, 20)


@pytest.mark.parametrize("kind", TOKEN_TYPES)
async def test_an_expired_token_is_fetched_anew(alice: Client, service: Service, clock, begin, kind: str):
    path = await begin(kind)
    await _call(alice, path)
    clock.advance(3000)
    await _call(alice, path)
    assert len(service.minted) == 1
    clock.advance(700)
    assert (await _call(alice, path)).status == 200
    assert len(service.minted) == 2


async def test_a_token_that_the_service_no_longer_takes_is_replaced_once(
    alice: Client, service: Service, begin
):
    path = await begin("oauth2_client_credentials")
    await _call(alice, path)
    service.revoked.add(service.minted[0])
    reply = await _call(alice, path)
    assert (reply.status, len(service.minted), len(service.calls)) == (200, 2, 3)


async def test_different_users_have_different_tokens(alice: Client, service: Service, begin):
    path = await begin("bearer_token_exchange")
    for user in ("u1", "u2", "u1", "u2"):
        assert (await _call(alice, path, user=user, q="x")).json["data"] == {"path": "/things?q=x"}
    assert len(service.minted) == 2
    assert len({headers["Authorization"] for headers in service.calls}) == 2


async def test_a_parameter_that_auth_does_not_consume_is_sent_on(alice: Client, begin):
    mapping = {"header_name": "X-User", "param_name": "user", "consume": False}
    path = await begin("bearer_token_exchange", exchange_param_headers=[mapping])
    assert (await _call(alice, path, user="u1")).json["data"] == {"path": "/things?user=u1"}


@pytest.mark.parametrize("user", [None, "", "a\nb", ["x"], {}])
async def test_a_parameter_that_auth_cannot_use_is_refused(alice: Client, service: Service, begin, user: Any):
    reply = await _call(alice, await begin("bearer_token_exchange"), user=user)
    assert (reply.status, service.calls) == (422, [])
    assert reply.json["detail"][0]["loc"] == ["body", "params", "user"]


async def test_changed_credentials_fetch_a_new_token(alice: Client, service: Service, begin, url: str):
    path = await begin("oauth2_client_credentials")
    await _call(alice, path)
    wrong = {"type": "oauth2_client_credentials", **_ways_in(url)["oauth2_client_credentials"]}
    await alice.put(path, {"auth": wrong | {"client_secret_value": {"value": "wrong-secret"}}})
    reply = await _call(alice, path)
    assert (reply.status, reply.json["kind"], len(service.minted)) == (502, "auth", 1)


@pytest.mark.parametrize("kind", TOKEN_TYPES[:2])
async def test_a_refused_secret_is_told_without_the_secret(alice: Client, begin, kind: str):
    path = await begin(kind, client_secret_value={"value": "wrong-secret"})
    reply = await _call(alice, path, "test")
    assert (reply.status, reply.json["status_code"]) == (200, None)
    assert "HTTP 401" in reply.json["error"]
    assert "wrong-secret" not in reply.text
    assert (await _call(alice, path)).json["kind"] == "auth"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("api_key_header", {"api_key_value": None}),
        ("api_key_header", {"header_name": "Host"}),
        ("api_key_header", {"header_name": "a b"}),
        ("api_key_header", {"api_key_value": {"value": "a\nX-Evil: 1"}}),
        ("bearer_token", {"bearer_token_value": {"value": " "}}),
        ("oauth2_client_credentials", {"token_url": None}),
        ("oauth2_client_credentials", {"client_id": None}),
        ("oauth2_jwt_bearer", {"private_key_value": {"value": "no key"}}),
        ("oauth2_jwt_bearer", {"assertion_issuer": None}),
        ("json_token_exchange", {"token_response_path": "a..b"}),
        ("bearer_token_exchange", {"exchange_token_field": "["}),
    ],
)
async def test_auth_that_cannot_work_is_refused_or_an_error(
    alice: Client, url: str, endpoint, kind: str, changes: Any
):
    body = {"name": "ops", "display_name": "Ops", "base_url": url, "endpoints": [endpoint()]}
    auth = {"type": kind, **_ways_in(url)[kind], **changes}
    made = await alice.post("/v1/{ws}/integrations", body | {"auth": auth})
    if made.status == 201:
        reply = await _call(alice, f"/v1/{{ws}}/integrations/{made.json['id']}")
        assert (reply.status, reply.json["kind"]) == (502, "misconfigured")
    else:
        assert made.status == 422


async def test_a_token_call_stays_inside_the_egress_guard(alice: Client, begin):
    path = await begin("oauth2_client_credentials", token_url="https://10.0.0.1/token")
    reply = await _call(alice, path)
    assert (reply.status, reply.json["kind"]) == (502, "auth")
    assert "10.0.0.1" in reply.json["detail"]


async def test_the_trace_shows_the_token_call_without_token_or_secret(alice: Client, service: Service, begin):
    path = await begin("oauth2_client_credentials")
    reply = await _call(alice, path, "call?trace=true")
    token, call = reply.json["trace"]["exchanges"]
    assert (token["purpose"], token["response"]["status"]) == ("token", 200)
    assert "grant_type=client_credentials" in token["request"]["body"]
    assert call["request"]["headers"]["Authorization"] == "[redacted]"
    assert SECRET not in reply.text
    assert service.minted[0] not in reply.text


async def test_a_token_server_that_comes_back_is_asked_again(alice: Client, service: Service, clock, begin):
    path = await begin("oauth2_client_credentials")
    service.fails = 1
    assert (await _call(alice, path)).json["retryable"] is True
    clock.advance(120)
    assert (await _call(alice, path)).status == 200


@pytest.mark.parametrize("lifetime", [None, "nonsense", -5, 0, "600", 1e300, [], True])
async def test_an_odd_lifetime_still_makes_a_token(alice: Client, service: Service, begin, lifetime: Any):
    service.lifetime = lifetime
    path = await begin("oauth2_client_credentials")
    for _ in range(2):
        assert (await _call(alice, path)).status == 200
    assert len(service.minted) == 1
