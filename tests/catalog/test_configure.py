import pytest

from trunkline.catalog.configure import (
    check_config,
    check_credentials,
    effective_auth,
    render_base_url,
    with_defaults,
)
from trunkline.catalog.load import parse_manifest
from trunkline.errors import Invalid

MANIFEST = parse_manifest(
    b"""\
name: Acme
base_url: "{config.url}/v{config.version}{config.suffix?}"
config:
  url: {label: Address, example: "https://a.example", pattern: "^https://[a-z.]+/?$"}
  version: {label: Version, default: "2"}
  suffix: {label: Suffix, optional: true}
auth:
  oauth:
    type: oauth2_client_credentials
    token_url: "{base_url}/token"
    secrets: {signing_key: {label: Signing key, optional: true}}
  basic: {type: basic}
  open: {type: none}
""",
    "acme",
)
OAUTH = MANIFEST.auth["oauth"]


def faults(found):
    return [(".".join(field.loc), field.msg) for field in found]


def test_the_first_way_in_is_taken_when_none_is_named():
    assert effective_auth(MANIFEST, None) is OAUTH
    assert effective_auth(MANIFEST, "basic").type == "basic"


def test_the_config_is_filled_into_the_way_in_but_not_into_its_urls():
    text = b"""\
name: Acme
base_url: "https://a.example"
config: {header: {label: Header, optional: true}, login: {label: Login, default: "https://l.example"}}
auth:
  key: {type: api_key_header, header_name: "{config.header}"}
  oauth: {type: oauth2_client_credentials, token_url: "{config.login}/token"}
"""
    manifest = parse_manifest(text, "acme")
    assert effective_auth(manifest, "key", {"header": "X-Mine"}).header_name == "X-Mine"
    assert effective_auth(manifest, "oauth", {}).token_url == "{config.login}/token"
    with pytest.raises(Invalid) as caught:
        effective_auth(manifest, "key", {})
    assert caught.value.fields[0].loc == ("config", "header")


def test_the_way_without_credentials_is_no_auth():
    assert effective_auth(MANIFEST, "open") is None
    assert effective_auth(MANIFEST.model_copy(update={"auth": {}}), None) is None


def test_an_unknown_way_in_is_refused_with_the_nearest():
    with pytest.raises(Invalid, match="no way in 'basik'; did you mean 'basic'") as caught:
        effective_auth(MANIFEST, "basik")
    assert caught.value.fields[0].loc == ("auth_method",)


def test_the_base_url_is_filled_in_with_defaults():
    assert render_base_url(MANIFEST, {"url": "https://a.example"}) == "https://a.example/v2"
    assert (
        render_base_url(MANIFEST, {"url": "https://a.example", "suffix": "/x/"}) == "https://a.example/v2/x"
    )
    assert with_defaults(MANIFEST, {"url": "u", "version": ""}) == {"url": "u", "version": "2"}


def test_a_base_url_without_its_config_names_the_field():
    with pytest.raises(Invalid) as caught:
        render_base_url(MANIFEST, {})
    assert caught.value.fields[0].loc == ("config", "url")


def test_good_config_and_credentials_have_no_fault():
    assert check_config(MANIFEST, {"url": "https://a.example"}) == []
    assert check_credentials(MANIFEST, OAUTH, {"client_id": "i", "client_secret": "s"}) == []
    assert check_credentials(MANIFEST, None, {}) == []


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, ("config.url", "Field required")),
        ({"url": ""}, ("config.url", "Field required")),
        ({"url": "http://a"}, ("config.url", "must look like https://a.example")),
        ({"url": 7}, ("config.url", "must be a string")),
        ({"url": "https://a", "version": "1\n"}, ("config.version", "must not hold control characters")),
        ({"url": "https://a", "version": "1" * 3000}, ("config.version", "has at most 2048 characters")),
        ({"url": "https://a", "versoin": "1"}, ("config.versoin", "unknown field; did you mean 'version'?")),
    ],
)
def test_each_config_fault_names_its_field(config, fault):
    assert faults(check_config(MANIFEST, config)) == [fault]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"client_id": "i"}, ("credentials.client_secret", "Field required")),
        ({"client_id": "i", "client_secret": ""}, ("credentials.client_secret", "must not be empty")),
        ({"client_id": "i", "client_secret": 7}, ("credentials.client_secret", "must be a string")),
        (
            {"client_id": "i", "client_secret": "s" * 8193},
            ("credentials.client_secret", "has at most 8192 characters"),
        ),
    ],
)
def test_each_credential_fault_names_its_field_and_never_the_value(values, fault):
    found = check_credentials(MANIFEST, OAUTH, values)
    assert faults(found) == [fault]
    assert found[0].input is None


def test_an_integration_with_its_own_base_url_needs_no_config_for_it():
    assert faults(check_config(MANIFEST, {}, base_url="http://127.0.0.1:9")) == []
    text = (
        b'name: A\nbase_url: "{config.url}"\nheaders: {X-At: "{config.url}"}\nconfig: {url: {label: URL}}\n'
    )
    manifest = parse_manifest(text, "acme")
    assert faults(check_config(manifest, {}, base_url="http://x")) == [("config.url", "Field required")]


def test_an_unknown_credential_is_refused():
    (fault,) = check_credentials(
        MANIFEST, OAUTH, {"client_id": "i", "client_secret": "s", "password": "canary"}
    )
    assert fault.loc == ("credentials", "password")
    assert "canary" not in str(fault)


def test_stored_credentials_need_not_be_sent_again():
    assert check_credentials(MANIFEST, OAUTH, {"client_id": "j"}, stored={"client_secret"}) == []


def test_a_credential_of_the_greatest_length_is_accepted():
    assert check_credentials(MANIFEST, OAUTH, {"client_id": "i", "client_secret": "s" * 8192}) == []


HOOKED = parse_manifest(
    b"""\
name: Acme
webhook:
  verify:
    standard: {type: standard, secret: standard}
    key: {type: ed25519, secret: key, header: x}
    hmac: {type: hmac, secret: hmac, header: y}
  secrets: {standard: {label: S}, key: {label: K}, hmac: {label: H}}
""",
    "acme",
)


def test_secrets_of_webhooks_are_optional_and_known_without_a_way_in():
    assert check_credentials(HOOKED, None, {}) == []
    good = {
        "standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "key": f"{'0f' * 32} {'1e' * 32}",
        "hmac": "any thing",
    }
    assert check_credentials(HOOKED, None, good) == []
    assert faults(check_credentials(HOOKED, None, {"hmak": "x"})) == [
        ("credentials.hmak", "Acme does not ask for this; did you mean 'hmac'?")
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [({"standard": "whsec_pass word"}, "whsec_ and base64"), ({"key": "0f" * 31}, "64 hexadecimal digits")],
)
def test_a_key_that_can_verify_nothing_is_refused_when_it_is_entered(values, said):
    (fault,) = check_credentials(HOOKED, None, values)
    assert said in fault.msg
    assert next(iter(values.values())) not in str(fault)
