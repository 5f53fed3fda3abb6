"""Webhook verification: each vendor's scheme by the book, its published vectors, and everything that must not hold."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trunkline.catalog.manifest import Webhook
from trunkline.errors import Unauthenticated
from trunkline.rest.signatures import (
    REFUSED,
    CompiledWebhook,
    Verified,
    compile_webhook,
    new_signing_secret,
    sign_standard,
)

NOW = datetime(2026, 5, 2, 9, 0, tzinfo=UTC)
BODY = b'{"action":"created","name":"Z\\u00fcrich \\/ 1","text":"caf\xc3\xa9"}'
KEY = "a-secret-of-one-word"
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

Headers = dict[str, str]


def _hmac(key: str, signed: bytes) -> str:
    return hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()


def _epoch(at: datetime) -> str:
    return str(int(at.timestamp()))


@dataclass(frozen=True)
class Scheme:
    """How one service signs, as its manual has it."""

    verify: dict[str, Any]
    sign: Callable[[str, bytes, datetime], tuple[Headers, bytes]]
    secret: str = KEY
    window: int | None = None
    delivery_id: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def webhook(self) -> CompiledWebhook:
        named = {} if self.verify["type"] == "none" else {"secret": "key"}
        values = {"verify": {"way": self.verify | named}, "delivery_id": self.delivery_id, **self.more}
        return compile_webhook(Webhook.model_validate(values), {})

    def check(self, headers: Mapping[str, str], body: bytes, at: datetime = NOW, secret: str | None = None):
        secrets = {} if self.verify["type"] == "none" else {"key": secret or self.secret}
        return self.webhook.verify(headers, body, {}, secrets, at)


def _plain(header: str, prefix: str = "") -> Callable[[str, bytes, datetime], tuple[Headers, bytes]]:
    return lambda key, body, _at: ({header: prefix + _hmac(key, body)}, body)


def _slack(key: str, body: bytes, at: datetime) -> tuple[Headers, bytes]:
    signed = b"v0:" + _epoch(at).encode() + b":" + body
    return {"x-slack-request-timestamp": _epoch(at), "x-slack-signature": "v0=" + _hmac(key, signed)}, body


def _linear(key: str, body: bytes, at: datetime) -> tuple[Headers, bytes]:
    dated = body[:-1] + b',"webhookTimestamp":%d}' % int(at.timestamp() * 1000)
    return {"linear-signature": _hmac(key, dated), "linear-timestamp": _epoch(NOW)}, dated


def _discord(_key: str, body: bytes, at: datetime) -> tuple[Headers, bytes]:
    moment = _epoch(at)
    signature = ED25519.sign(moment.encode() + body).hex()
    return {"x-signature-ed25519": signature, "x-signature-timestamp": moment}, body


def _standard(key: str, body: bytes, at: datetime) -> tuple[Headers, bytes]:
    return sign_standard([key], "msg_1", at, body), body


SCHEMES = {
    "sentry": Scheme({"type": "hmac", "header": "Sentry-Hook-Signature"}, _plain("sentry-hook-signature")),
    "pagerduty": Scheme(
        {"type": "hmac", "header": "x-pagerduty-signature", "prefix": "v1="},
        _plain("x-pagerduty-signature", "v1="),
    ),
    "slack": Scheme(
        {
            "type": "hmac",
            "header": "x-slack-signature",
            "prefix": "v0=",
            "signed": "v0:{timestamp}:{body}",
            "timestamp": "{header.x-slack-request-timestamp}",
        },
        _slack,
        window=300,
    ),
    "github": Scheme(
        {"type": "hmac", "header": "x-hub-signature-256", "prefix": "sha256="},
        _plain("x-hub-signature-256", "sha256="),
    ),
    "linear": Scheme(
        {
            "type": "hmac",
            "header": "linear-signature",
            "timestamp": "{payload.webhookTimestamp}",
            "tolerance_seconds": 60,
        },
        _linear,
        window=60,
    ),
    "discord": Scheme(
        {
            "type": "ed25519",
            "header": "x-signature-ed25519",
            "signed": "{timestamp}{body}",
            "timestamp": "{header.x-signature-timestamp}",
        },
        _discord,
        secret=PUBLIC_KEY,
        window=300,
    ),
    "telegram": Scheme(
        {"type": "token", "header": "x-telegram-bot-api-secret-token"},
        lambda key, body, _at: ({"x-telegram-bot-api-secret-token": key}, body),
        secret="A-secret_token",
    ),
    "whatsapp": Scheme(
        {"type": "hmac", "header": "x-hub-signature-256", "prefix": "sha256="},
        _plain("x-hub-signature-256", "sha256="),
    ),
    "standard webhooks": Scheme(
        {"type": "standard"}, _standard, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", window=300
    ),
}
each = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
dated = pytest.mark.parametrize(
    "scheme", [s for s in SCHEMES.values() if s.window], ids=[n for n, s in SCHEMES.items() if s.window]
)


def _refused(scheme: Scheme, headers: Mapping[str, str], body: bytes, **changes: Any) -> None:
    with pytest.raises(Unauthenticated) as caught:
        scheme.check(headers, body, **changes)
    assert caught.value.message == REFUSED


@each
def test_what_the_service_signed_holds(scheme: Scheme):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    assert isinstance(scheme.check(headers, body), Verified)


@pytest.mark.parametrize("name", sorted(SCHEMES.keys() - {"telegram"}))
def test_a_body_that_was_changed_is_refused(name: str):
    scheme = SCHEMES[name]
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    _refused(scheme, headers, body.replace(b"created", b"deleted"))
    _refused(scheme, headers, body + b" ")
    _refused(scheme, headers, b"")


@each
def test_another_secret_is_refused(scheme: Scheme):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    other = "whsec_" + base64.b64encode(b"x" * 24).decode() if "whsec" in scheme.secret else "0" * 64
    _refused(scheme, headers, body, secret=other)


@each
def test_each_missing_header_is_refused(scheme: Scheme):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    headers.pop("linear-timestamp", None)  # is not signed and counts for nothing
    for name in headers:
        _refused(scheme, {key: text for key, text in headers.items() if key != name}, body)
        _refused(scheme, headers | {name: ""}, body)


@each
def test_without_the_secret_everything_is_refused(scheme: Scheme):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    with pytest.raises(Unauthenticated):
        scheme.webhook.verify(headers, body, {}, {}, NOW)
    with pytest.raises(Unauthenticated):
        scheme.webhook.verify(headers, body, {}, {"key": "   "}, NOW)


NONSENSE = [
    *("é" * 64, "\xff\xfe", "0" * 63, "0" * 65, "0x" + "0" * 62, "g" * 64, "a" * 1_000_000, "," * 5000),
    *("=", "====", "v1=", "v0=", "sha256=", "v1,", "sha1=" + "0" * 40, "\x00" * 64, "٣" * 64, "\ud800"),
    *("v1=" + "0" * 64, "v0=" + "f" * 64, "sha256=" + "0" * 64, "v1," + "A" * 43 + "=", " ", "A" * 86 + "=="),
]


@each
@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_in_any_header_is_refused(scheme: Scheme, nonsense: str):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    headers.pop("linear-timestamp", None)
    for name in headers:
        _refused(scheme, headers | {name: nonsense}, body)


@each
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(max_size=200), min_size=3, max_size=3),
    body=st.binary(max_size=200),
    secret=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)
def test_whatever_comes_the_answer_is_a_refusal(scheme: Scheme, texts: list[str], body: bytes, secret: str):
    headers = dict(zip(scheme.sign(scheme.secret, BODY, NOW)[0], texts, strict=False))
    assume(not any(part in text for part in secret.split() for text in texts))
    _refused(scheme, headers, body, secret=secret or "a-secret")


@dated
def test_too_old_and_too_new_are_refused(scheme: Scheme):
    for seconds, holds in [(0, True), (-1, True), (1, True), (-2, False), (2, False)]:
        shift = timedelta(seconds=seconds * (scheme.window or 0) + (0 if holds else seconds))
        headers, body = scheme.sign(scheme.secret, BODY, NOW + shift)
        if holds:
            scheme.check(headers, body)
        else:
            _refused(scheme, headers, body)


@dated
@pytest.mark.parametrize(
    "moment",
    ["", "now", "-1", "1e400", "9" * 400, "NaN", "inf", "2026", "0001-01-01", "9999-12-31T23:59:59-14:00"],
)
def test_a_time_that_is_none_is_refused(scheme: Scheme, moment: str):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    for name in headers:
        if name.endswith("timestamp") and name != "linear-timestamp":
            _refused(scheme, headers | {name: moment}, body)


def test_a_time_in_the_body_is_the_one_that_counts():
    """Linear's own header is not signed: whoever replays can write what he likes there."""
    scheme = SCHEMES["linear"]
    headers, body = scheme.sign(scheme.secret, BODY, NOW - timedelta(hours=1))
    _refused(scheme, headers | {"linear-timestamp": _epoch(NOW)}, body)
    for value in (b"null", b"true", b'"soon"', b"[1]", b"{}", b"1e999", b"9" * 5000):
        bad = BODY[:-1] + b',"webhookTimestamp":' + value + b"}"
        _refused(scheme, {"linear-signature": _hmac(scheme.secret, bad)}, bad)
    for bad in (b"", b"[]", b"not json", b"\xff\xfe", b"[" * 100_000, b'"text"', b"1"):
        _refused(scheme, {"linear-signature": _hmac(scheme.secret, bad)}, bad)


@pytest.mark.parametrize(
    "moment",
    [
        "1777712400",
        "1777712400000",
        "1777712400.25",
        "2026-05-02T09:00:00Z",
        "2026-05-02T11:00:00.5+02:00",
        "2026-05-02T09:00:00",
    ],
)
def test_times_are_read_in_every_usual_spelling(moment: str):
    scheme = SCHEMES["slack"]
    signature = "v0=" + _hmac(scheme.secret, f"v0:{moment}:".encode() + BODY)
    assert scheme.check({"x-slack-request-timestamp": moment, "x-slack-signature": signature}, BODY)


# What the services publish.


def test_github_says_hello_world():
    scheme = SCHEMES["github"]
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = "It's a Secret to Everybody"
    assert scheme.check({"x-hub-signature-256": signature}, b"Hello, World!", secret=secret)
    _refused(scheme, {"x-hub-signature-256": signature}, b"Hello, World?", secret=secret)


def test_standard_webhooks_vector():
    scheme = SCHEMES["standard webhooks"]
    at = datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    for start in ("webhook-", "svix-"):
        headers = {
            start + "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            start + "timestamp": "1614265330",
            start + "signature": signature,
        }
        assert scheme.check(headers, body, at).dedup == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert (
        sign_standard([scheme.secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)["webhook-signature"]
        == signature
    )


def test_a_secret_that_is_only_its_prefix_verifies_nothing():
    scheme = SCHEMES["standard webhooks"]
    moment = str(int(NOW.timestamp()))
    signed = b"msg_1." + moment.encode() + b".{}"
    digest = base64.b64encode(hmac.digest(b"", signed, "sha256")).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": moment, "webhook-signature": f"v1,{digest}"}
    _refused(scheme, headers, b"{}", secret="whsec_")


def test_slack_documented_example():
    scheme = SCHEMES["slack"]
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    at = datetime.fromtimestamp(1531420618, UTC)
    assert scheme.check(headers, body, at, secret="8f742231b10e8888abcd99yyyzzz85a5")
    _refused(scheme, headers, body, at=at + timedelta(seconds=301), secret="8f742231b10e8888abcd99yyyzzz85a5")


# Several signatures, several secrets, several spellings.


def test_any_of_several_signatures_may_hold_but_only_of_the_right_version():
    scheme = SCHEMES["pagerduty"]
    right = _hmac(scheme.secret, BODY)
    for text in (f"v1={'0' * 64},v1={right}", f"v1={right}, v1={'0' * 64}", f"v2={'f' * 64},v1={right}"):
        assert scheme.check({"x-pagerduty-signature": text}, BODY)
    for text in (f"v2={right}", f"v0={right},v1={'0' * 64}", right, f"V1={right}", f"v1 ={right}"):
        _refused(scheme, {"x-pagerduty-signature": text}, BODY)


def test_the_older_header_of_github_does_not_suffice():
    scheme = SCHEMES["github"]
    sha1 = "sha1=" + hmac.new(scheme.secret.encode(), BODY, hashlib.sha1).hexdigest()
    _refused(scheme, {"x-hub-signature": sha1}, BODY)
    _refused(scheme, {"x-hub-signature-256": sha1}, BODY)


@each
def test_while_a_secret_is_rotated_both_hold(scheme: Scheme):
    headers, body = scheme.sign(scheme.secret, BODY, NOW)
    assert scheme.check(headers, body, secret=f"other-one {scheme.secret}")
    assert scheme.check(headers, body, secret=f"{scheme.secret}\n other-one\t")
    _refused(scheme, headers, body, secret=" ".join(["other"] * 5 + [scheme.secret]))


def test_a_signature_is_read_in_hex_and_in_base64():
    scheme = Scheme({"type": "hmac", "header": "x-sign"}, _plain("x-sign"), "one-word")
    digest = hmac.new(b"one-word", BODY, hashlib.sha256).digest()
    spellings = [
        digest.hex(),
        digest.hex().upper(),
        base64.b64encode(digest).decode(),
        base64.b64encode(digest).decode().rstrip("="),
        base64.urlsafe_b64encode(digest).decode(),
    ]
    for text in spellings:
        assert scheme.check({"x-sign": text}, BODY), text
    _refused(scheme, {"x-sign": base64.b64encode(digest + b"x").decode()}, BODY)


@pytest.mark.parametrize("prefix", ["HMAC ", "HMAC"])
def test_a_space_may_follow_what_stands_before_the_proof(prefix: str):
    verify = {"header": "authorization", "prefix": prefix}
    signed = Scheme(verify | {"type": "hmac"}, _plain("authorization"))
    assert signed.check({"authorization": "HMAC " + _hmac(KEY, BODY)}, BODY)
    _refused(signed, {"authorization": _hmac(KEY, BODY)}, BODY)
    token = Scheme(verify | {"type": "token"}, _plain("authorization"))
    assert token.check({"authorization": f"HMAC {KEY}"}, BODY)
    _refused(token, {"authorization": KEY}, BODY)


def test_header_and_prefix_may_come_from_the_config():
    verify = {"type": "hmac", "secret": "key", "header": "{config.header}", "prefix": "{config.prefix?}"}
    webhook = Webhook.model_validate({"verify": {"way": verify}})
    headers = {"x-custom": "s=" + _hmac("k3y", BODY)}
    full = compile_webhook(webhook, {"header": "X-Custom", "prefix": "s="})
    assert full.verify(headers, BODY, {}, {"key": "k3y"}, NOW)
    assert full.header_names == {"x-custom", "content-type"}
    for config in ({}, {"header": "X-Custom"}, {"prefix": "s="}):
        with pytest.raises(Unauthenticated):
            compile_webhook(webhook, config).verify(headers, BODY, {}, {"key": "k3y"}, NOW)


# Which way counts, what tells deliveries apart.


def _two_ways(*more: str) -> CompiledWebhook:
    verify = {
        "signed": {"type": "hmac", "secret": "one", "header": "x-sign"},
        "token": {"type": "token", "secret": "two", "header": "x-token"},
    } | {name: {"type": "none"} for name in more}
    return compile_webhook(Webhook.model_validate({"verify": verify}), {})


def test_the_first_way_whose_secret_is_stored_counts():
    webhook = _two_ways()
    assert (webhook.way({"one", "two"}), webhook.way({"two"}), webhook.way(())) == ("signed", "token", None)
    assert (webhook.missing(()), webhook.missing({"two"})) == (["one", "two"], [])
    assert webhook.needed({"one", "two", "other"}) == {"one"}
    with pytest.raises(Unauthenticated):  # a token does not help where a signature is asked for
        webhook.verify({"x-token": "b"}, BODY, {}, {"one": "a", "two": "b"}, NOW)
    assert webhook.verify({"x-token": "b"}, BODY, {}, {"two": "b"}, NOW)


def test_nothing_is_accepted_unverified_unless_the_connector_says_so_aloud():
    with pytest.raises(Unauthenticated):
        _two_ways().verify({}, BODY, {}, {}, NOW)
    assert _two_ways("open").verify({}, BODY, {}, {}, NOW) == Verified()
    with pytest.raises(Unauthenticated):
        _two_ways("open").verify({}, BODY, {}, {"two": "b"}, NOW)


def test_a_replay_has_the_dedup_of_the_first_and_every_other_request_another():
    for name in ("slack", "discord", "standard webhooks"):
        scheme = SCHEMES[name]
        first = scheme.check(*scheme.sign(scheme.secret, BODY, NOW)).dedup
        assert first is not None
        headers, body = scheme.sign(scheme.secret, BODY, NOW)
        shouted = {key: text.upper() if "ed25519" in key else text for key, text in headers.items()}
        assert scheme.check(shouted, body, NOW + timedelta(seconds=9)).dedup == first
        if name != "standard webhooks":  # there the id, which is signed, tells
            later = scheme.sign(scheme.secret, BODY, NOW + timedelta(seconds=1))
            assert scheme.check(*later).dedup not in {None, first}
    for name in ("sentry", "pagerduty", "github", "linear", "telegram", "whatsapp"):
        scheme = SCHEMES[name]
        assert scheme.check(*scheme.sign(scheme.secret, BODY, NOW)).dedup is None


@pytest.mark.parametrize(
    ("lookup", "headers", "body", "dedup"),
    [
        ("{header.x-delivery?}", {"x-delivery": "d-1"}, b"", "d-1"),
        ("{header.x-delivery}", {}, b"", None),
        ("{payload.event.id}", {}, b'{"event":{"id":"e-1"}}', "e-1"),
        ("{payload.event.id?}{payload.id?}", {}, b'{"id":7}', "7"),
        ("{payload.event.id?}", {}, b'{"event":{"id":["e-1"]}}', None),
        ("{payload.event.id?}", {}, b'{"event":', None),
        ("{payload.event.id?}", {}, b"[" * 100_000, None),
        (
            "{payload.trigger_id?}",
            {"content-type": "application/x-www-form-urlencoded"},
            b"payload=%7B%22trigger_id%22%3A%22t-1%22%7D",
            "t-1",
        ),
    ],
)
def test_the_delivery_id_is_what_the_connector_says(
    lookup: str, headers: Headers, body: bytes, dedup: str | None
):
    scheme = Scheme({"type": "none"}, _plain("x"), delivery_id=lookup)
    assert scheme.check(headers, body).dedup == dedup


# Challenges.


def _asking(challenge: dict[str, Any], verify: dict[str, Any] | None = None) -> CompiledWebhook:
    ways = {"way": verify or {"type": "none"}}
    return compile_webhook(Webhook.model_validate({"verify": ways, "challenge": challenge}), {})


def test_a_challenge_is_answered_only_when_the_signature_holds():
    scheme = SCHEMES["slack"]
    challenge = {"when": {"payload.type": "url_verification"}, "answer": "{payload.challenge}"}
    webhook = _asking(challenge, scheme.verify | {"secret": "key"})
    asked = b'{"type":"url_verification","challenge":"3eZb"}'
    headers, _ = scheme.sign("k3y", asked, NOW)
    assert webhook.verify(headers, asked, {}, {"key": "k3y"}, NOW).reply == "3eZb"
    with pytest.raises(Unauthenticated):
        webhook.verify(headers, asked, {}, {"key": "other"}, NOW)
    other = b'{"type":"event_callback","challenge":"3eZb"}'
    assert webhook.verify(scheme.sign("k3y", other, NOW)[0], other, {}, {"key": "k3y"}, NOW).reply is None
    empty = b'{"type":"url_verification"}'
    assert webhook.verify(scheme.sign("k3y", empty, NOW)[0], empty, {}, {"key": "k3y"}, NOW).reply is None


def test_a_ping_is_answered_with_an_object():
    webhook = _asking({"when": {"payload.type": 1}, "answer": {"type": 1}})
    assert webhook.verify({}, b'{"type":1}', {}, {}, NOW).reply == {"type": 1}
    for body in (b'{"type":2}', b'{"type":true}', b'{"type":"1"}', b"{}", b"no json"):
        assert webhook.verify({}, body, {}, {}, NOW).reply is None


def test_a_handshake_is_answered_when_its_token_is_the_secret():
    challenge = {
        "when": {"query.hub.mode": "subscribe"},
        "answer": "{query.hub.challenge}",
        "token": "{query.hub.verify_token}",
        "secret": "verify_token",
    }
    webhook = _asking(challenge, {"type": "hmac", "secret": "app", "header": "x-hub-signature-256"})
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "mé"}
    assert webhook.handshake(query, {"verify_token": "mé"}) == "1158201444"
    for asked, secrets in [
        (query | {"hub.verify_token": "other"}, {"verify_token": "mé"}),
        (query | {"hub.verify_token": "\ud800"}, {"verify_token": "mé"}),
        (query | {"hub.verify_token": ""}, {"verify_token": ""}),
        (query | {"hub.mode": "unsubscribe"}, {"verify_token": "mé"}),
        ({"hub.mode": "subscribe", "hub.verify_token": "mé"}, {"verify_token": "mé"}),
        (query, {}),
        ({}, {"verify_token": "mé"}),
    ]:
        with pytest.raises(Unauthenticated):
            webhook.handshake(asked, secrets)
    assert webhook.missing({"app"}) == ["verify_token"]
    assert webhook.needed({"app", "verify_token"}) == {"app", "verify_token"}
    with pytest.raises(Unauthenticated):
        _two_ways().handshake(query, {"verify_token": "mé"})


# What Trunkline signs itself.


def test_what_trunkline_signs_verifies_by_each_of_its_secrets():
    secrets = [new_signing_secret(), new_signing_secret()]
    assert secrets[0] != secrets[1]
    assert len(base64.b64decode(secrets[0].removeprefix("whsec_"))) == 32
    headers = sign_standard(secrets, "evt-1", NOW, BODY)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in secrets:
        assert SCHEMES["standard webhooks"].check(headers, BODY, secret=secret).dedup == "evt-1"
