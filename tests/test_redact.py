import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from trunkline.ids import new_api_key
from trunkline.redact import MASK, Redactor, is_secret_name

SECRETS = [
    "plainSecret0123",
    "p/w+th=&? %",
    'quo"te\\back\nline',
    "grün&<tag>'x'",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQ\n-----END PRIVATE KEY-----\n",
]
SPELLINGS = {
    "as it is": lambda s: s,
    "in a URL": lambda s: quote(s, safe=""),
    "in a URL path": quote,
    "in a URL, lower case": lambda s: "".join(
        part if index == 0 else part[:3].lower() + part[3:]
        for index, part in enumerate(_split(quote(s, safe="")))
    ),
    "in a form": quote_plus,
    "in base64": lambda s: base64.b64encode(s.encode()).decode(),
    "in base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "in hex": lambda s: s.encode().hex(),
    "in JSON": lambda s: json.dumps(s, ensure_ascii=False),
    "in ASCII JSON": json.dumps,
    "in JSON with escaped slashes": lambda s: json.dumps(s).replace("/", "\\/"),
    "in HTML": html.escape,
    "in HTML text": lambda s: html.escape(s, quote=False),
}


def _split(text):
    first, *rest = text.split("%")
    return [first, *("%" + part for part in rest)]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("secret", SECRETS, ids=["plain", "symbols", "escapes", "unicode", "pem"])
def test_a_secret_is_blanked_out_in_every_spelling(secret, spelling):
    written = SPELLINGS[spelling](secret)
    redacted = Redactor([secret]).text(f"before {written} after")
    assert written not in redacted
    assert MASK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize("user", ["a", "ab", "abc", "abcd", "jörg"])
def test_a_basic_pair_is_blanked_out(user):
    redactor = Redactor()
    redactor.add_pair(user, "p4ssw0rd")
    pair = base64.b64encode(f"{user}:p4ssw0rd".encode()).decode()
    assert redactor.text(f"Basic {pair}") in {f"Basic {MASK}", f"Basic {MASK}=", f"Basic {MASK}=="}


@pytest.mark.parametrize("prefix", ["", "a", "ab", "key=", "user:name:"])
def test_a_secret_inside_a_longer_base64_text_is_blanked_out(prefix):
    secret = "a-longer-secret-value-0123456789"
    text = base64.b64encode(f"{prefix}{secret};rest".encode()).decode()
    redacted = Redactor([secret]).text(text)
    assert MASK in redacted
    shown = [part for part in redacted.replace(MASK, " ").split() if len(part) > 4]
    assert all(secret[3:-3].encode() not in base64.b64decode(part + "==", validate=False) for part in shown)


def test_one_line_of_a_key_is_blanked_out_too():
    assert Redactor([SECRETS[4]]).text("x MIIEvQIBADANBgkqhkiG9w0BAQEF y") == f"x {MASK} y"


def test_values_and_keys_are_redacted_at_any_depth():
    redactor = Redactor(["s3cr3t"])
    value = {"a": ["x s3cr3t", {"s3cr3t": 1}], "n": 5, "b": True, "z": None}
    assert redactor.value(value) == {"a": [f"x {MASK}", {MASK: 1}], "n": 5, "b": True, "z": None}


def test_found_in_sees_what_orjson_writes():
    redactor = Redactor(['a"b\\c\u00fcd'])
    assert redactor.found_in('{"x":"a\\"b\\\\cüd"}'.encode())
    assert not redactor.found_in(b'{"x":"abc"}')


def test_found_in_tells_our_keys_from_ordinary_words():
    assert Redactor().found_in(f'{{"key":"{new_api_key()}"}}'.encode())
    assert not Redactor().found_in(b'{"html_url":"https://a.example/"}')


def test_a_lone_surrogate_in_a_secret_does_no_harm():
    redactor = Redactor(["abc\ud800def"])
    assert redactor.text("abc\ud800def") == MASK
    assert not redactor.found_in(b"{}")


def test_very_short_values_are_left_alone():
    assert Redactor(["ab"]).text("about") == "about"


def test_our_own_keys_are_always_blanked_out():
    assert Redactor().text(f"key {new_api_key()}.") == f"key {MASK}."


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "X-Api-Key", "client_secret", "X-Auth-Token", "PASSWORD"]
)
def test_names_that_carry_credentials_are_known(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["Accept", "X-Request-Id", "title", "Date"])
def test_other_names_are_not(name):
    assert not is_secret_name(name)
