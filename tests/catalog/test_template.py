from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.catalog.template import ENDPOINT, MissingLookupError, Template, TemplateError

ALL = ENDPOINT | {"cursor", "parent"}
MAPS = {"urgency": {"high": "1", "low": "3"}, "flag": {"true": "yes"}}


def render(value, params=None, **spaces):
    return Template.compile(value, namespaces=ALL, maps=MAPS).render({"params": params or {}, **spaces})


@pytest.mark.parametrize("value", [7, 1.5, True, None, [1, 2], {"a": 1}, "text", ""])
def test_a_value_that_is_one_placeholder_keeps_its_type(value):
    assert render("{x}", {"x": value}) == value
    assert type(render("{x}", {"x": value})) is type(value)


def test_longer_text_is_interpolated_with_json_spelling_of_booleans():
    assert render("a={a}&b={b}&c={c}", {"a": 1, "b": True, "c": 2.5}) == "a=1&b=true&c=2.5"


@pytest.mark.parametrize("value", [[1], {"a": 1}, None])
def test_text_takes_scalars_only(value):
    with pytest.raises(MissingLookupError, match="'x' is"):
        render("say {x}", {"x": value})


def test_a_missing_optional_drops_its_key_and_is_empty_inside_text():
    value = {"a": "{x?}", "b": "<{x?}>", "c": [1, "{x?}"], "d": "kept"}
    assert render(value) == {"b": "<>", "d": "kept"}
    assert render({"c": ["{y}", "{x?}"]}, {"y": 1}) == {"c": [1]}


def test_an_inner_object_that_found_nothing_is_dropped_with_its_constants():
    value = {"policy": {"id": "{policy?}", "type": "reference"}, "fixed": {"type": "incident"}}
    assert render(value) == {"fixed": {"type": "incident"}}
    assert render(value, {"policy": "P1"})["policy"] == {"id": "P1", "type": "reference"}


def test_the_outermost_object_stays_when_nothing_was_found():
    assert render({"limit": "{limit?}", "format": "json"}) == {"format": "json"}


def test_a_missing_required_look_up_is_named():
    with pytest.raises(MissingLookupError, match="'title' is missing") as caught:
        render({"short": "{title}"})
    assert caught.value.name == "title"


def test_an_explicit_null_is_sent_but_a_table_drops_it():
    assert render({"a": "{x?}", "b": "{x?|urgency}"}, {"x": None}) == {"a": None}


def test_tables_translate_and_refuse_what_they_do_not_hold():
    assert render("{s|urgency}", {"s": "high"}) == "1"
    assert render("{s|flag}", {"s": True}) == "yes"
    with pytest.raises(MissingLookupError, match="'s' must be one of: high, low"):
        render("{s|urgency}", {"s": "odd"})


def test_namespaces_are_looked_up_beside_parameters_of_the_same_name():
    scope = {
        "config": {"url": "https://x"},
        "cursor": "t",
        "parent": {"id": 7, "a": {"b": 1}},
        "base_url": "B",
    }
    text = "{config.url} {cursor} {parent.id} {parent.a.b} {base_url} {url}"
    assert render(text, {"url": "U"}, **scope) == "https://x t 7 1 B U"


def test_a_parameter_cannot_shadow_a_namespace():
    with pytest.raises(MissingLookupError, match=r"config\.url"):
        render("{config.url}", {"config": {"url": "evil"}}, config={})


def test_inner_names_of_a_parameter_are_reached():
    assert render("{user.name}", {"user": {"name": "Ada"}}) == "Ada"


def test_doubled_braces_are_braces():
    assert render('{{"q": "{x}"}}', {"x": "v"}) == '{"q": "v"}'
    assert render("{{x}}", {}) == "{x}"


@pytest.mark.parametrize(
    ("value", "loc", "text"),
    [
        ({"a": ["{x"]}, ("a", 0), "stray"),
        ({"a": "x}"}, ("a",), "stray"),
        ("{x+1}", (), "no look-up"),
        ("{}", (), "no look-up"),
        ("{x|upper()}", (), "no look-up"),
        ("{x.__class__()}", (), "no look-up"),
        ("{x|nope}", (), "names no table"),
        ("{payload.x}", (), "cannot be looked up here"),
        ("{config}", (), "write"),
        ("{config.a.b}", (), "no inner names"),
        ("{cursor.a}", (), "write"),
        ({"{x}": 1}, ("{x}",), "not in a key"),
    ],
)
def test_what_is_outside_the_vocabulary_is_refused_where_it_stands(value, loc, text):
    with pytest.raises(TemplateError, match=text) as caught:
        Template.compile(value, namespaces=ALL, maps=MAPS)
    assert caught.value.loc == loc


def test_secrets_are_refused_where_the_namespaces_do_not_say_so():
    with pytest.raises(TemplateError, match="`secret` cannot be looked up here"):
        Template.compile("{secret.token}", namespaces=ALL - {"secret"})
    with pytest.raises(TemplateError, match="call parameters cannot"):
        Template.compile("{x}", namespaces=frozenset({"config"}))


def test_nesting_and_size_are_capped():
    deep = "x"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(TemplateError, match="deeper"):
        Template.compile(deep, namespaces=ALL)
    with pytest.raises(TemplateError, match="larger"):
        Template.compile(["x"] * 10_001, namespaces=ALL)


def test_look_ups_never_reach_python_attributes():
    with pytest.raises(MissingLookupError):
        render("{x.__class__}", {"x": "text"})


def test_the_look_ups_used_are_listed():
    template = Template.compile({"a": "{x?|urgency} {config.url}", "b": ["{y}"]}, namespaces=ALL, maps=MAPS)
    assert template.names() == {"x", "y", "config.url"}


@given(st.text(max_size=50))
def test_text_with_its_braces_doubled_renders_to_itself(text):
    assert render(text.replace("{", "{{").replace("}", "}}")) == text


@given(st.text(alphabet="{}x?|. ", max_size=40))
def test_any_text_compiles_or_is_refused_with_our_error(text):
    with suppress(TemplateError):
        assert all(name in text for name in Template.compile(text, namespaces=ALL, maps=MAPS).names())


def test_rendering_a_typical_request_is_cheap():
    from time import perf_counter

    template = Template.compile({"a": "{x}", "b": "n={y}", "c": "{z?}", "d": 1}, namespaces=ALL)
    scope = {"params": {"x": 1, "y": 2}}
    started = perf_counter()
    for _ in range(10_000):
        template.render(scope)
    assert perf_counter() - started < 0.5
