"""Ask for an access token: the four ways in that need a request before the request.

Owns what is sent and how the answer is read. Keeping tokens is `tokens`; choosing a way in is `auth`.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey

from trunkline.catalog.manifest import AuthMethod
from trunkline.egress import Reply
from trunkline.errors import RemoteFailed
from trunkline.redact import Redactor
from trunkline.rest.answer import content_type, read, shorten
from trunkline.rest.endpoint import header_name_allowed, header_safe
from trunkline.rest.paths import MISSING, Path
from trunkline.rest.recorder import Recorder
from trunkline.rest.target import Target, misconfigured
from trunkline.rest.tokens import Token, lifetime

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FORM = "application/x-www-form-urlencoded"
_MAX_TOKEN = 16 * 1024
_MAX_ASSERTION_SECONDS = 24 * 3600
_MIN_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST that yields a token, and where in its answer the token and its lifetime are."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    token_path: str
    lifetime_path: str | None
    default_lifetime: float


async def mint(
    target: Target,
    auth: AuthMethod,
    secrets: Mapping[str, str],
    param_headers: Mapping[str, str],
    recorder: Recorder,
) -> Token:
    """Fetch a token.

    Raises:
        RemoteFailed: kind "auth" (from the network failure, if it was one), or "misconfigured".
    """
    if auth.type == "oauth2_jwt_bearer":
        request = await _jwt_bearer(target, auth, secrets, recorder)
    else:
        request = _PLAIN[auth.type](target, auth, secrets)
    headers = {"Accept": "application/json", **request.headers, **param_headers}
    token_path = compiled(request.token_path, "the path of the token")
    lifetime_path = (
        compiled(request.lifetime_path, "the path of the lifetime") if request.lifetime_path else None
    )
    host = urlsplit(request.url).hostname
    try:
        reply = await recorder.send("token", "POST", request.url, headers, request.body)
    except RemoteFailed as failure:
        text = f"The token request failed: {recorder.redactor.text(failure.message)}"
        raise RemoteFailed(text, kind="auth", retryable=failure.retryable) from failure
    value = read(reply.body, content_type(reply.headers)).value
    found = token_path.get(value)
    if not 200 <= reply.status < 300 or not _is_token(found):
        raise _refused(host, reply, value, recorder.redactor)
    given = lifetime_path.get(value) if lifetime_path else MISSING
    return Token(found, lifetime(given, max(1.0, float(request.default_lifetime))))


def compiled(text: str, what: str) -> Path:
    """Compile a path of the auth settings. Raises RemoteFailed, kind "misconfigured"."""
    try:
        return Path.compile(text)
    except ValueError as error:
        raise misconfigured(f"{what}: {error}") from None


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _MAX_TOKEN and header_safe(value)


def _refused(host: str | None, reply: Reply, value: Any, redactor: Redactor) -> RemoteFailed:
    """Make the error of a token call from RFC 6749 5.2's `error` and `error_description`."""
    words = []
    if isinstance(value, dict):
        words = [
            value[name] for name in ("error", "error_description", "message") if _is_text(value.get(name))
        ]
    said = shorten(redactor.text(": ".join(words)), 200)
    if 200 <= reply.status < 300 and not said:
        said = "no usable token in the answer"
    text = f"The token request to {host} failed: HTTP {reply.status} {said}".rstrip()
    retryable = reply.status == 429 or reply.status >= 500
    return RemoteFailed(text, kind="auth", status=reply.status, retryable=retryable)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def needed(secrets: Mapping[str, str], name: str) -> str:
    """Return a secret, without the white space that pasting adds. Raises RemoteFailed, kind "misconfigured"."""
    value = secrets.get(name, "").strip()
    if not value:
        raise misconfigured(f"The integration's auth has no {name}")
    return value


def _client_id(auth: AuthMethod, secrets: Mapping[str, str]) -> str | None:
    return secrets.get("client_id", "").strip() or auth.client_id or None


def _client_credentials(target: Target, auth: AuthMethod, secrets: Mapping[str, str]) -> TokenRequest:
    """RFC 6749 4.4, with the client's credentials in the body (2.3.1 allows it, most servers take it)."""
    client_id = _client_id(auth, secrets)
    if client_id is None:
        raise misconfigured("The integration's auth has no client_id")
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": needed(secrets, "client_secret"),
    }
    if auth.scopes:
        form["scope"] = " ".join(auth.scopes)
    return _form(target.url(auth.token_url, "token_url"), form, auth)


def _form(url: str, form: Mapping[str, str], auth: AuthMethod) -> TokenRequest:
    path = auth.token_response_path or "access_token"
    body = urlencode(form, errors="replace").encode()
    return TokenRequest(url, {"Content-Type": _FORM}, body, path, "expires_in", auth.token_lifetime_seconds)


def _json_exchange(target: Target, auth: AuthMethod, secrets: Mapping[str, str]) -> TokenRequest:
    fields = {auth.token_request_client_secret_field or "client_secret": needed(secrets, "client_secret")}
    client_id = _client_id(auth, secrets)
    if client_id is not None:
        fields[auth.token_request_client_id_field or "client_id"] = client_id
    try:
        body = orjson.dumps(fields)
    except TypeError:
        raise misconfigured("The integration's client_id or client_secret is not valid Unicode") from None
    path = auth.token_response_path or "access_token"
    url = target.url(auth.token_url, "token_url")
    json = {"Content-Type": "application/json"}
    return TokenRequest(url, json, body, path, "expires_in", auth.token_lifetime_seconds)


def _token_exchange(target: Target, auth: AuthMethod, secrets: Mapping[str, str]) -> TokenRequest:
    secret = needed(secrets, "exchange_secret")
    value = auth.exchange_secret_format.replace("{secret}", secret)
    if not header_safe(value) or not header_name_allowed(auth.exchange_secret_header):
        raise misconfigured("exchange_secret, in its format and header, cannot be sent as a header")
    return TokenRequest(
        target.url(auth.exchange_url, "exchange_url"),
        {auth.exchange_secret_header: value},
        None,
        auth.exchange_token_field,
        auth.exchange_expires_in_field,
        auth.exchange_default_ttl_seconds,
    )


_PLAIN = {
    "oauth2_client_credentials": _client_credentials,
    "json_token_exchange": _json_exchange,
    "bearer_token_exchange": _token_exchange,
}
TOKEN_TYPES = frozenset({*_PLAIN, "oauth2_jwt_bearer"})
"""The auth types that fetch a token."""


async def _jwt_bearer(
    target: Target, auth: AuthMethod, secrets: Mapping[str, str], recorder: Recorder
) -> TokenRequest:
    """RFC 7523: sign an assertion (RS256) and trade it for a token."""
    url = target.url(auth.token_url, "token_url")
    issuer = auth.assertion_issuer or _client_id(auth, secrets)
    if issuer is None:
        raise misconfigured("The integration's auth has no assertion_issuer")
    issued_at = int(recorder.clock.now().timestamp())
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": auth.assertion_subject or issuer,
        "aud": auth.assertion_audience or url,
        "iat": issued_at,
        "exp": issued_at + max(60, min(auth.token_lifetime_seconds, _MAX_ASSERTION_SECONDS)),
        "jti": str(uuid.uuid4()),
    }
    form = {"grant_type": JWT_BEARER}
    if auth.scopes and auth.assertion_scopes_in_jwt:
        claims["scope"] = " ".join(auth.scopes)
    elif auth.scopes:
        form["scope"] = " ".join(auth.scopes)
    # Reading and checking an RSA key takes tens of milliseconds: not on the event loop.
    form["assertion"] = await asyncio.to_thread(_sign, claims, needed(secrets, "private_key"))
    recorder.redactor.add(form["assertion"])
    return _form(url, form, auth)


def _sign(claims: dict[str, Any], pem: str) -> str:
    if "\n" not in pem:
        pem = pem.replace("\\n", "\n")  # as copied out of a JSON key file
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise misconfigured("private_key is no unencrypted private key in PEM form") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _MIN_KEY_BITS:
        raise misconfigured(f"private_key must be an RSA key of at least {_MIN_KEY_BITS} bits")
    return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(key))
