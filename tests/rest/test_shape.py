import json
import timeit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.errors import Invalid
from trunkline.rest.json_text import compact_json
from trunkline.rest.shape import Shape

INCIDENT = {"incident": {"id": "9912", "status": "triggered", "url": "https://oncall.example/i/9912"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


def shape(**config):
    return Shape.compile(EndpointConfig(name="e", description="", path="/", **config))


def result(raw, **config):
    return shape(**config).apply(raw).final_result


def test_the_contracts_example_comes_out_stage_by_stage():
    stages = shape(
        response_filter=["incident.id", "incident.status"],
        response_mapping={"id": "incident.id", "state": "incident.status"},
        result_template="Incident {id} is {state}",
        max_result_length=400,
    ).apply(INCIDENT)
    assert stages.after_filter == {"incident": {"id": "9912", "status": "triggered"}}
    assert stages.after_mapping == {"id": "9912", "state": "triggered"}
    assert stages.final_result == "Incident 9912 is triggered"
    assert stages.error is None


@pytest.mark.parametrize("nothing", [None, "empty"])
def test_an_endpoint_without_shape_passes_the_answer_through(nothing):
    unset = {"response_filter": [], "response_mapping": {}, "result_key": "", "result_template": ""}
    stages = shape(**(unset if nothing else {})).apply(INCIDENT)
    assert stages.after_filter is stages.after_mapping is stages.value is INCIDENT
    assert stages.final_result == json.dumps(INCIDENT, separators=(",", ":"))


def test_a_mapped_source_that_is_missing_is_null():
    stages = shape(response_mapping={"a": "x.y", "b": "x.none"}).apply({"x": {"none": None}})
    assert stages.after_mapping == {"a": None, "b": None}


def test_a_result_key_looks_into_the_mapped_value():
    stages = shape(response_mapping={"first": "items[0]"}, result_key="first.name").apply(
        {"items": [{"name": "n"}]}
    )
    assert (stages.value, stages.final_result) == ("n", "n")


@pytest.mark.parametrize(("template", "text"), [(None, "null"), ("{name}!", ""), ("{{ name }}!", "")])
def test_a_result_key_that_leads_nowhere_gives_null_or_no_text(template, text):
    stages = shape(result_key="nope", result_template=template).apply({})
    assert (stages.value, stages.final_result) == (None, text)


@pytest.mark.parametrize(
    ("raw", "text"),
    [("plain", "plain"), (5, "5"), (None, "null"), (True, "true"), ([1, "a"], '[1,"a"]'), ("", "")],
)
def test_a_result_is_the_string_itself_or_compact_json(raw, text):
    assert result(raw) == text


@pytest.mark.parametrize(("length", "text"), [(0, "äöüß"), (3, "äöü"), (4, "äöüß"), (9, "äöüß")])
def test_a_result_is_cut_by_characters(length, text):
    assert result("äöüß", max_result_length=length) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"n": 2**70}, '{"n":1180591620717411303424}'),
        ([float("nan"), float("inf")], "[null,null]"),
        ({"n": 2**70, "f": float("-inf")}, '{"n":1180591620717411303424,"f":null}'),
        (["a\ud800b", "é"], '["a\ufffdb","é"]'),
        ("a\udfffb", "a\ufffdb"),
        ({"\ud800": 1}, '{"\ufffd":1}'),
        ([10**5000], "[null]"),
    ],
)
def test_what_json_cannot_hold_is_replaced(raw, text):
    assert result(raw) == text
    assert result(raw).encode()


def test_an_answer_nested_far_deeper_than_the_stack_is_still_written():
    raw = 1
    for _ in range(50_000):
        raw = {"a": [raw]}
    assert result(raw) == '{"a":[' * 50_000 + "1" + "]}" * 50_000
    stages = shape(
        response_filter=["a[].a"], response_mapping={"x": "a[0].a[]"}, result_template="{x}"
    ).apply(raw)
    assert stages.final_result.startswith('[{"a":[')
    assert (
        shape(result_template="{{ a }}").apply(raw).error
        == "result_template: the value nests deeper than 200 levels"
    )


@given(JSON)
def test_compact_json_agrees_with_the_fast_writer_and_always_encodes(value):
    text = compact_json([value, 2**80])
    assert orjson.loads(text)[0] == orjson.loads(compact_json(value))
    assert compact_json(value).encode()


@given(
    JSON,
    st.lists(st.sampled_from(["a", "a.b", "[]", "a[].b", "[0]"]), max_size=3),
    st.sampled_from(["", "{a}", "x{value}", "{{ a }}{% for i in b %}{{ i }}{% endfor %}"]),
)
def test_no_answer_makes_a_shape_raise(value, paths, template):
    config = {"response_filter": paths, "response_mapping": {path: path for path in paths}}
    stages = shape(**config, result_template=template, max_result_length=50).apply(value)
    assert stages.error or len(stages.final_result) <= 50


@pytest.mark.parametrize(
    ("config", "loc"),
    [
        ({"response_mapping": {"ok": "a", "id": "a..b"}}, ("response_mapping", "id")),
        ({"response_filter": ["a", "b", "c", "d["]}, ("response_filter", 3)),
        ({"result_key": "."}, ("result_key",)),
        ({"result_template": "{{ x"}, ("result_template",)),
        ({"result_template": "x" * 16_385}, ("result_template",)),
        ({"max_result_length": -1}, ("max_result_length",)),
        ({"response_mapping": {str(number): "a" for number in range(9)}}, ("response_mapping",)),
        ({"response_mapping": {str(number): "a" for number in range(1_001)}}, ("response_mapping",)),
        ({"response_filter": ["a"] * 1_001}, ("response_filter",)),
    ],
)
def test_a_fault_is_refused_with_its_place(config, loc):
    with pytest.raises(Invalid) as caught:
        shape(**config)
    assert caught.value.fields[0].loc == loc


def test_a_template_that_fails_is_told_and_leaves_the_other_stages():
    stages = shape(result_key="a", result_template="{{ 1 / 0 }}").apply({"a": {"b": 1}})
    assert stages.value == {"b": 1}
    assert stages.final_result is None
    assert stages.error == "result_template: line 1: unable to calculate 1 / 0"


def test_shaping_costs_microseconds():
    raw = INCIDENT | {"log": [{"at": number, "text": "something happened here"} for number in range(45)]}
    full = shape(
        response_filter=["incident.id", "incident.status"],
        response_mapping={"id": "incident.id", "state": "incident.status"},
        result_template="Incident {id} is {state}",
    )
    assert min(timeit.repeat(lambda: full.apply(raw), number=500, repeat=5)) / 500 < 100e-6
