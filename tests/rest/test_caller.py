"""What a call sends: the path, the query, the body, the headers; and what is refused before anything is sent."""

import pytest

from fake_egress import FakeEgress, reply
from trunkline.catalog.endpoint import EndpointConfig, RequestTransform
from trunkline.catalog.manifest import Endpoint, Manifest
from trunkline.errors import Invalid
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.settings import Settings

TARGET = Target("w", "i", "Alerts", "https://api.example/base/")
MANIFEST = Manifest(
    id="m",
    name="Alerts",
    base_url="https://api.example",
    headers={"X-Api-Version": "2", "X-Tenant": "{config.tenant}"},
    maps={"urgency": {"high": 1, "low": 3}},
)
CONNECTED = Target(
    "w",
    "i",
    "Alerts",
    "https://{config.host}.example",
    config={"host": "api", "tenant": "t1"},
    manifest=MANIFEST,
)


@pytest.fixture
def egress():
    return FakeEgress(reply(200, {}))


@pytest.fixture
def caller(egress, clock):
    return RestCaller(egress, clock, Settings())


@pytest.fixture
def send(caller, egress):
    """Call a native endpoint and return what was sent."""

    async def send(params, *, target=TARGET, extra_query=None, **config):
        compiled = compile_endpoint(EndpointConfig(**{"name": "e", "description": "", "path": "/x"} | config))
        trace = await caller.call(target, compiled, params, {}, extra_query=extra_query)
        assert trace.error is None
        return egress.sent[-1]

    return send


@pytest.fixture
def send_connected(caller, egress):
    """Call a connector's endpoint and return what was sent."""

    async def send(params, secrets=None, **config):
        compiled = compile_endpoint(Endpoint(**{"name": "e", "path": "/x"} | config), MANIFEST)
        trace = await caller.call(CONNECTED, compiled, params, secrets or {})
        assert trace.error is None, trace.error
        return egress.sent[-1]

    return send


async def test_path_params_are_encoded_and_leave_the_params(send):
    sent = await send({"team": "a b&c", "title": "Fire"}, path="/v2/teams/{team}/incidents")
    assert sent.url == "https://api.example/base/v2/teams/a%20b%26c/incidents"
    assert sent.json == {"title": "Fire"}


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (True, "true"), (1.5, "1.5"), ("ü", "%C3%BC")])
async def test_a_path_param_may_be_any_scalar(send, value, text):
    assert (await send({"id": value}, path="/i/{id}")).url.endswith("/i/" + text)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a\nb",
        "\0",
        "\x7f",
        None,
        [1],
        {"a": 1},
        "\ud800",
        float("nan"),
        pytest.param(10**5000, id="huge"),
    ],
)
async def test_an_unsafe_path_param_is_refused_by_name_before_any_call(caller, egress, value):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/i/{id}"))
    with pytest.raises(Invalid) as caught:
        await caller.call(TARGET, compiled, {"id": value}, {})
    assert caught.value.fields[0].loc == ("body", "params", "id")
    assert egress.sent == []


async def test_a_missing_path_param_is_refused_by_name(caller):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/i/{id}"))
    with pytest.raises(Invalid) as caught:
        await caller.call(TARGET, compiled, {}, {})
    assert (caught.value.fields[0].loc, caught.value.fields[0].type) == (("body", "params", "id"), "missing")


async def test_path_params_cannot_make_a_parent_segment_together(caller):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/i/.{id}/{a}{b}"))
    for params in ({"id": ".", "a": "x", "b": "y"}, {"id": "x", "a": ".", "b": "."}):
        with pytest.raises(Invalid, match="must not be empty"):
            await caller.call(TARGET, compiled, params, {})


async def test_get_sends_what_is_left_as_the_query(send):
    params = {"q": "a b+c", "tag": ["x", "y"], "on": True, "none": None, "where": {"a": [1]}, "n": 1.5}
    sent = await send(params, method="GET")
    assert sent.query == [
        ("q", "a b+c"),
        ("tag", "x"),
        ("tag", "y"),
        ("on", "true"),
        ("where", '{"a":[1]}'),
        ("n", "1.5"),
    ]
    assert sent.body is None
    assert "Content-Type" not in sent.headers


async def test_delete_sends_a_query_too(send):
    assert (await send({"force": True}, method="DELETE")).query == [("force", "true")]


async def test_a_path_may_bring_its_own_query(send):
    sent = await send({"id": "a/b", "c": 3}, method="GET", path="/x?fixed=1&id={id}")
    assert sent.query == [("fixed", "1"), ("id", "a/b"), ("c", "3")]


async def test_a_form_repeats_lists_and_encodes_spaces_as_plus(send):
    sent = await send({"a": "x y", "b": [1, 2], "c": None}, body_format="form")
    assert sent.body == b"a=x+y&b=1&b=2"
    assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_a_post_without_params_sends_an_empty_object(send):
    assert (await send({})).body == b"{}"


async def test_the_transform_wraps_params_and_injects_outside(send):
    transform = RequestTransform(inject={"origin": "bridge"}, wrap_params_key="incident")
    sent = await send({"title": "Fire", "origin": "x"}, request_transform=transform)
    assert sent.json == {"incident": {"title": "Fire", "origin": "x"}, "origin": "bridge"}


async def test_what_is_injected_wins(send):
    transform = RequestTransform(inject={"origin": "bridge"})
    assert (await send({"origin": "x"}, request_transform=transform)).json == {"origin": "bridge"}


async def test_with_get_the_transform_injects_into_the_query_and_wraps_nothing(send):
    transform = RequestTransform(inject={"origin": "bridge"}, wrap_params_key="incident")
    sent = await send({"origin": "x", "a": 1}, method="GET", request_transform=transform)
    assert sent.query == [("origin", "bridge"), ("a", "1")]


async def test_extra_query_is_added_and_wins(send):
    sent = await send({"limit": 1}, method="GET", extra_query={"limit": 100, "offset": 200})
    assert sent.query == [("limit", "100"), ("offset", "200")]


async def test_params_that_no_json_can_hold_are_refused(caller, egress):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"))
    deep: list = []
    for _ in range(1000):
        deep = [deep]
    for value in (2**70, "\ud800", deep):
        with pytest.raises(Invalid) as caught:
            await caller.call(TARGET, compiled, {"a": value}, {})
        assert caught.value.fields[0].loc == ("body", "params")
    assert egress.sent == []


async def test_an_address_that_would_be_too_long_is_refused(caller, egress):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x", method="GET"))
    with pytest.raises(Invalid, match="address of more than"):
        await caller.call(TARGET, compiled, {"a": "x" * 100_000}, {})
    assert egress.sent == []


async def test_params_are_checked_against_the_input_schema_first(caller, egress):
    schema = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x", input_schema=schema))
    with pytest.raises(Invalid) as caught:
        await caller.call(TARGET, compiled, {}, {})
    assert caught.value.fields[0].loc[:2] == ("body", "params")
    assert egress.sent == []


async def test_static_headers_replace_the_defaults(send):
    sent = await send(
        {}, headers={"accept": "text/csv", "Content-Type": "application/vnd.api+json", "X-A": "1"}
    )
    lowered = {name.lower(): value for name, value in sent.headers.items()}
    assert lowered["accept"] == "text/csv"
    assert lowered["content-type"] == "application/vnd.api+json"
    assert len(lowered) == len(sent.headers)


async def test_a_body_template_takes_its_params_and_nothing_else(send_connected):
    body = {
        "short": "{title}",
        "urgency": "{severity|urgency}",
        "note": "{note?}",
        "by": "hub of {config.tenant}",
    }
    sent = await send_connected({"title": "Fire", "severity": "high", "more": 1}, method="POST", body=body)
    assert sent.json == {"short": "Fire", "urgency": 1, "by": "hub of t1"}


async def test_a_query_template_gives_defaults_that_params_replace(send_connected):
    sent = await send_connected({"limit": 5, "name": "x"}, query={"limit": 100, "q": "name={name}"})
    assert sent.query == [("limit", "5"), ("q", "name=x")]


async def test_what_no_template_uses_goes_into_the_body_of_a_post(send_connected):
    sent = await send_connected({"id": 7, "a": 1}, method="POST", query={"id": "{id}"})
    assert (sent.query, sent.json) == ([("id", "7")], {"a": 1})


async def test_connector_headers_are_sent_with_look_ups_filled_in(send_connected):
    sent = await send_connected({"who": "ann"}, headers={"From": "{who}", "x-api-version": "3"})
    assert (sent.headers["From"], sent.headers["X-Tenant"]) == ("ann", "t1")
    assert [value for name, value in sent.headers.items() if name.lower() == "x-api-version"] == ["3"]
    assert sent.query == []


async def test_a_param_cannot_break_out_of_a_header(caller):
    compiled = compile_endpoint(Endpoint(name="e", path="/x", headers={"From": "{who}"}), MANIFEST)
    with pytest.raises(Invalid) as caught:
        await caller.call(CONNECTED, compiled, {"who": "a\r\nX-Evil: 1"}, {})
    assert caught.value.fields[0].loc == ("body", "params", "who")


async def test_a_missing_template_param_is_refused_by_name(caller):
    compiled = compile_endpoint(Endpoint(name="e", path="/x", method="POST", body={"a": "{title}"}), MANIFEST)
    with pytest.raises(Invalid) as caught:
        await caller.call(CONNECTED, compiled, {}, {})
    assert caught.value.fields[0].loc == ("body", "params", "title")


async def test_a_value_outside_a_table_is_refused_with_the_choices(caller):
    compiled = compile_endpoint(Endpoint(name="e", path="/x", query={"u": "{severity|urgency}"}), MANIFEST)
    with pytest.raises(Invalid, match="high, low"):
        await caller.call(CONNECTED, compiled, {"severity": "odd"}, {})


async def test_missing_configuration_is_a_failure_of_the_set_up_not_of_the_caller(caller):
    compiled = compile_endpoint(Endpoint(name="e", path="/{config.region}/x"), MANIFEST)
    trace = await caller.call(CONNECTED, compiled, {}, {})
    assert (trace.error_kind, trace.error) == ("misconfigured", "The integration has no config region")


async def test_a_native_endpoint_never_looks_up_secrets_or_configuration(send):
    sent = await send(
        {"secret.token": "mine"},
        path="/x/{secret.token}",
        headers={"X-A": "{secret.token}"},
        target=CONNECTED,
    )
    assert (sent.path, sent.headers["X-A"]) == ("/x/mine", "{secret.token}")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://x.example",
        "https://",
        "https://a.example?x=1",
        "https://a.example#f",
        "https://u:p@a.example",
        "a b",
        "https://{config.x}.example",
        "https://a.example/{",
    ],
)
async def test_a_base_url_that_cannot_be_called_is_a_misconfiguration(caller, egress, base_url):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x"))
    trace = await caller.call(Target("w", "i", "A", base_url), compiled, {}, {})
    assert (trace.error_kind, trace.status_code) == ("misconfigured", None)
    assert "base_url" in trace.error
    assert egress.sent == []


async def test_only_get_follows_redirects(send):
    assert (await send({}, method="GET")).follow_redirects
    assert not (await send({}, method="POST")).follow_redirects


async def test_a_following_page_must_be_at_the_same_origin(caller, egress):
    compiled = compile_endpoint(EndpointConfig(name="e", description="", path="/x", method="GET"))
    await caller.call(TARGET, compiled, {}, {}, next_url="https://api.example:443/base/x?page=2")
    assert egress.sent[0].query == [("page", "2")]
    for url in (
        "https://evil.example/x",
        "http://api.example/x",
        "https://api.example:8443/x",
        "//x",
        "https://[/",
    ):
        trace = await caller.call(TARGET, compiled, {}, {}, next_url=url)
        assert trace.error_kind == "refused_address"
    assert len(egress.sent) == 1


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/x",
        "//evil.example/x",
        "/a/../b",
        "/a/./b",
        "/a/%2e%2E/b",
        "..",
        "/a#b",
        "/a\nb",
        "/a\\b",
        "/a{b",
        "/a}b",
        "/{}",
        "/{a b}",
        "/{a/b}",
        "/" + "a" * 3000,
        "/\ud800",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path):
    with pytest.raises(Invalid) as caught:
        compile_endpoint(EndpointConfig(name="e", description="", path=path))
    assert caught.value.fields[0].loc == ("path",)


@pytest.mark.parametrize(
    ("config", "loc"),
    [
        ({"headers": {"Host": "x"}}, ("headers", "Host")),
        ({"headers": {"content-length": "1"}}, ("headers", "content-length")),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ("headers", "Transfer-Encoding")),
        ({"headers": {"a b": "1"}}, ("headers", "a b")),
        ({"headers": {"X-A": "a\r\nb"}}, ("headers", "X-A")),
        ({"headers": {"X-A": "\ud800"}}, ("headers", "X-A")),
        ({"headers": {f"X-{n}": "1" for n in range(60)}}, ("headers",)),
        ({"name": ""}, ("name",)),
        ({"name": "a/b"}, ("name",)),
        ({"name": "a\0b"}, ("name",)),
        ({"name": "a" * 129}, ("name",)),
        ({"response_mapping": {"id": "a..b"}}, ("response_mapping", "id")),
    ],
)
def test_a_bad_endpoint_is_refused_by_field(config, loc):
    with pytest.raises(Invalid) as caught:
        compile_endpoint(EndpointConfig(**{"name": "e", "description": "", "path": "/x"} | config))
    assert caught.value.fields[0].loc == loc


@pytest.mark.parametrize(
    ("config", "loc"),
    [
        ({"body": {"a": {"b": "{x|nope}"}}}, ("body", "a", "b")),
        ({"query": {"a": "{cursor}"}}, ("query", "a")),
        ({"records": "a..b"}, ("records",)),
        ({"errors": {"ok": "a["}}, ("errors", "ok")),
        ({"path": "/{x|nope}"}, ("path",)),
    ],
)
def test_a_bad_connector_endpoint_is_refused_by_field(config, loc):
    with pytest.raises(Invalid) as caught:
        compile_endpoint(Endpoint(**{"name": "e", "path": "/x"} | config), MANIFEST)
    assert caught.value.fields[0].loc == loc


@pytest.mark.parametrize("name", ["open_incident", "Öffnen!", "a b", "x.y"])
def test_an_endpoint_may_have_almost_any_name(name):
    assert compile_endpoint(EndpointConfig(name=name, description="", path="x")).name == name
