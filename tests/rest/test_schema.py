import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import Invalid
from trunkline.rest.schema import InputSchema


def check(schema, params):
    return InputSchema.compile(schema).check(params)


def refusal(schema):
    with pytest.raises(Invalid) as caught:
        InputSchema.compile(schema)
    field = caught.value.fields[0]
    assert field.loc[0] == "input_schema"
    return field


def one(schema):
    return {"properties": {"p": schema}}


def test_an_empty_schema_checks_nothing():
    assert check({}, {"anything": object}) == []


def test_parameters_that_fit_have_no_errors():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert check(schema, {"a": 1}) == []


@pytest.mark.parametrize(
    ("schema", "params", "loc", "msg", "kind"),
    [
        ({"required": ["title"]}, {}, ("title",), "Field required", "missing"),
        (one({"required": ["x"]}), {"p": {}}, ("p", "x"), "Field required", "missing"),
        (one({"type": "string"}), {"p": 1}, ("p",), 'the value is not of type "string"', "type"),
        (
            one({"items": {"type": "string"}}),
            {"p": ["a", 1]},
            ("p", 1),
            'the value is not of type "string"',
            "type",
        ),
        ({"additionalProperties": False}, {"x": 1}, ("x",), "Extra field not permitted", "extra_forbidden"),
        ({"unevaluatedProperties": False}, {"x": 1}, ("x",), "Extra field not permitted", "extra_forbidden"),
        (one({"enum": ["a", "b"]}), {"p": "c"}, ("p",), 'the value is not one of "a" or "b"', "enum"),
        (one({"minimum": 3}), {"p": 2}, ("p",), "the value is less than the minimum of 3", "minimum"),
        (one({"pattern": "^x"}), {"p": "y"}, ("p",), 'the value does not match "^x"', "pattern"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"xy": 1},
            (),
            "has a property name that is not allowed",
            "propertyNames",
        ),
    ],
)
def test_an_error_names_the_field(schema, params, loc, msg, kind):
    (error,) = check(schema, params)
    assert (error.loc, error.msg, error.type) == (("params", *loc), msg, kind)


def test_no_error_holds_a_value():
    schema = {
        "properties": {
            "password": {
                "maxLength": 3,
                "pattern": "^x",
                "enum": ["x"],
                "type": "integer",
                "format": "email",
            },
            "deep": {"anyOf": [{"required": ["a"]}, {"type": "string"}], "not": {}, "const": 1},
        },
        "propertyNames": {"maxLength": 2},
    }
    errors = check(schema, {"password": "hunter2", "deep": {"token": "hunter2"}})
    assert len(errors) >= 6
    assert "hunter2" not in repr(errors)


def test_at_most_twenty_errors_are_listed():
    schema = one({"items": {"type": "string"}})
    assert len(check(schema, {"p": list(range(100))})) == 20
    assert len(check({"additionalProperties": False}, {str(number): 1 for number in range(100)})) == 20


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        (one({"items": {"type": "string"}}), {"p": list(range(100_000))}),
        (one({"items": {"anyOf": [{"const": "a"}, {"const": "b"}]}}), {"p": list(range(100_000))}),
    ],
)
def test_a_large_refusal_is_told_in_little_time(schema, params):
    started = time.thread_time()
    assert len(check(schema, params)) == 1
    assert time.thread_time() - started < 2


@pytest.mark.parametrize(
    ("schema", "params", "fits"),
    [
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", **one({"items": [{"type": "string"}]})},
            {"p": [1]},
            False,
        ),
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                **one({"minimum": 1, "exclusiveMinimum": True}),
            },
            {"p": 1},
            False,
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                **one({"prefixItems": [{"type": "string"}]}),
            },
            {"p": [1]},
            False,
        ),
        (one({"prefixItems": [{"type": "string"}]}), {"p": ["a"]}, True),
    ],
)
def test_the_draft_that_is_named_is_used(schema, params, fits):
    assert (check(schema, params) == []) is fits


TREE = {
    "$defs": {"node": {"properties": {"sub": {"items": {"$ref": "#/$defs/node"}}, "n": {"type": "integer"}}}}
}
FILTER = {"properties": {word: {"items": {"$ref": "#"}} for word in ("and", "or")} | {"not": {"$ref": "#"}}}


def test_references_inside_the_schema_are_followed():
    schema = {"$defs": {"a/b c": {"type": "string"}}, **one({"$ref": "#/$defs/a~1b%20c"})}
    assert check(schema, {"p": "x"}) == []
    assert check(schema, {"p": 1})


@pytest.mark.parametrize("schema", [{**TREE, "$ref": "#/$defs/node"}, FILTER])
def test_a_recursive_schema_works_as_long_as_it_does_not_double(schema):
    assert check(schema, {"sub": [{"sub": [{"n": 1}]}], "and": [{"or": [{"not": {}}]}]}) == []


def test_a_recursive_schema_finds_the_fault_below():
    (error,) = check({**TREE, "$ref": "#/$defs/node"}, {"sub": [{"sub": [{"n": "x"}]}]})
    assert error.loc == ("params", "sub", 0, "sub", 0, "n")


def chain(count, branches):
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * branches} for n in range(count)}
    return {"$defs": {**defs, f"d{count}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def nested(levels, word="properties"):
    schema = {}
    for _ in range(levels):
        schema = {word: {"a": schema}} if word == "properties" else {word: schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "loc", "reason"),
    [
        ({"type": "array"}, ("type",), "object"),
        ({"type": ["object", "null"]}, ("type",), "object"),
        ({"$schema": "https://evil.example/schema"}, ("$schema",), "drafts"),
        ({"$schema": 5}, ("$schema",), "drafts"),
        (one({"minimum": "x"}), ("properties", "p", "minimum"), "not of type"),
        (one(3), ("properties", "p"), "not of types"),
        ({"required": "a"}, ("required",), "not of type"),
        (one({"pattern": "(?=a)b"}), ("properties", "p", "pattern"), "regular expression"),
        (one({"pattern": "(a)\\1"}), ("properties", "p", "pattern"), "regular expression"),
        (one({"pattern": "((a{100}){100}){100}"}), ("properties", "p", "pattern"), "regular expression"),
        ({"patternProperties": {"(": {}}}, ("patternProperties", "("), "regular expression"),
        (one({"$ref": "other.json"}), ("properties", "p", "$ref"), "inside the schema"),
        (one({"$ref": "#anchor"}), ("properties", "p", "$ref"), "inside the schema"),
        (one({"$ref": "#/$defs/none"}), ("properties", "p", "$ref"), "leads nowhere"),
        (one({"$ref": "#/properties/p"}), ("properties", "p", "$ref"), "without end"),
        ({"$ref": "#"}, ("$ref",), "without end"),
        ({"allOf": [{"$ref": "#"}]}, ("allOf", 0, "$ref"), "without end"),
        (one({"$ref": 5}), ("properties", "p", "$ref"), "inside the schema"),
        (one({"$dynamicRef": "#a"}), ("properties", "p", "$dynamicRef"), "not supported"),
        ({"$recursiveRef": "#"}, ("$recursiveRef",), "not supported"),
        (one({"$anchor": "a"}), ("properties", "p", "$anchor"), "not supported"),
        (one({"$id": "http://x.example/"}), ("properties", "p", "$id"), "top only"),
        (chain(30, 2), (), "multiply"),
        (chain(100, 1), None, "nested deeper than 64"),
        (one({"items": {"allOf": [{"$ref": "#/properties/p"}] * 2}}), None, "more than one place"),
        (
            one({"anyOf": [{}] * 6_000, "items": {"anyOf": [{}] * 6_000}}),
            (),
            "too costly",
        ),
        (nested(17), (), "32 levels"),
        (nested(33, "not"), (), "32 levels"),
        (nested(50_000), (), "32 levels"),
        ({"description": "x" * 66_000}, (), "65536"),
        ({"allOf": [{"$ref": "#/$defs/a"}] * 201, "$defs": {"a": {}}}, None, "200 references"),
        ({"properties": {str(n): {"pattern": str(n)} for n in range(65)}}, None, "64 patterns"),
        ({"const": "\ud800"}, (), "compiled"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_its_place(schema, loc, reason):
    started = time.thread_time()
    field = refusal(schema)
    assert time.thread_time() - started < 2
    assert reason in field.msg
    assert loc is None or field.loc == ("input_schema", *loc)


@pytest.fixture
def listener():
    """Serve schemas on loopback, and remember who asked."""
    asked = []

    class Schemas(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_args): ...

    with HTTPServer(("127.0.0.1", 0), Schemas) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/schema.json", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("word", ["$ref", "$schema", "$dynamicRef", "$id", "$recursiveRef", "id"])
@pytest.mark.parametrize(
    "draft", ["draft-04/schema", "draft-07/schema", "draft/2019-09/schema", "draft/2020-12/schema"]
)
def test_nothing_is_ever_fetched(word, draft, listener, tmp_path):
    url, asked = listener
    target = tmp_path / "schema.json"
    target.write_text('{"const": 1}')
    named = {"$schema": f"http://json-schema.org/{draft}"}
    for address in (url, target.as_uri(), str(target)):
        for place in (
            {word: address},
            {**named, **one({word: address})},
            {**named, "$defs": {"a": {word: address}}},
            {**named, "definitions": {"a": {"definitions": {word: address}}}},
            {**named, "$id": address, **one({"$ref": "#/x"}), "x": {word: address}},
        ):
            try:
                assert all(error.type != "const" for error in check(place, {"p": 2}))
            except Invalid as refused:
                assert refused.fields[0].loc[0] == "input_schema"  # noqa: PT017 - both ends are right
    assert asked == []


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        (one({"uniqueItems": True}), {"p": list(range(150_000))}),
        (one({"uniqueItems": True}), {"p": [[number] for number in range(100_000)]}),
        (one({"uniqueItems": True}), {"p": [{"x": number} for number in range(80_000)]}),
        (one({"contains": {"const": -1}, "minContains": 1}), {"p": [1] * 200_000}),
        (one({"items": {"anyOf": [{"const": number} for number in range(2_000)]}}), {"p": [1_999] * 200_000}),
        (
            one({"items": {"enum": [{"a": number} for number in range(2_000)]}}),
            {"p": [{"a": 1_999}] * 100_000},
        ),
        (one({"pattern": "(?:[01]{1,60}1){20}x"}), {"p": "01" * 500_000}),
        (one({"pattern": "1[01]{500}x"}), {"p": "01" * 500_000}),
        (one({"pattern": "^(a+)+$"}), {"p": "a" * 1_000_000 + "b"}),
        (
            {"patternProperties": {f"(?:a|{n}|aa)+x": {} for n in range(60)}},
            {f"a{n}" * 9: 1 for n in range(20_000)},
        ),
        (
            {"unevaluatedProperties": False, "anyOf": [{"patternProperties": {"k": {}}}] * 50},
            {f"k{n}": 1 for n in range(50_000)},
        ),
        (one({"multipleOf": 1e-300}), {"p": 10**300}),
    ],
)
def test_large_parameters_are_checked_or_refused_in_bounded_time(schema, params):
    compiled = InputSchema.compile(schema)
    started = time.thread_time()
    compiled.check(params)
    assert time.thread_time() - started < 5


def deep(levels):
    params = {}
    for _ in range(levels):
        params = {"not": params}
    return params


def test_parameters_nested_deeper_than_the_engines_stack_are_refused():
    compiled = InputSchema.compile(FILTER)
    assert compiled.check(deep(190)) == []
    for levels in (300, 100_000):
        (error,) = compiled.check(deep(levels))
        assert (error.loc, error.type) == (("params",), "too_deep")


def test_a_recursive_schema_at_full_depth_fits_the_stack_of_a_thread():
    schema = {
        "$defs": {"n": nested_in_place({"properties": {"not": {"$ref": "#/$defs/n"}}})},
        "$ref": "#/$defs/n",
    }
    errors = []
    thread = threading.Thread(target=lambda: errors.extend(check(schema, deep(190))))
    thread.start()
    thread.join()
    assert errors == []


def nested_in_place(schema):
    for _ in range(12):
        schema = {"allOf": [schema]}
    return schema


@pytest.mark.parametrize("odd", ["\ud800", float("nan"), 10**400, -0.0, "\x00", 1e308])
def test_odd_values_do_no_harm(odd):
    schema = one({"pattern": "^a", "minimum": 5, "enum": [1, "x"]})
    assert all(error.loc[0] == "params" for error in check(schema, {"p": odd}))
    assert check(schema, {"p": odd})


WORDS = st.sampled_from(
    [
        *(
            "type",
            "properties",
            "items",
            "anyOf",
            "not",
            "$ref",
            "$defs",
            "enum",
            "const",
            "required",
            "pattern",
        ),
        *(
            "prefixItems",
            "patternProperties",
            "additionalProperties",
            "dependencies",
            "if",
            "then",
            "$id",
            "a",
        ),
        *(
            "unevaluatedProperties",
            "propertyNames",
            "contains",
            "minimum",
            "$schema",
            "definitions",
            "format",
        ),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(
        [
            "object",
            "string",
            "#",
            "#/$defs/a",
            "#/properties/a",
            "http://json-schema.org/draft-07/schema#",
            "a+",
            "(",
        ]
    )
)
SCHEMAS = st.dictionaries(
    WORDS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)


@given(SCHEMAS, st.dictionaries(WORDS, LEAVES | st.lists(LEAVES, max_size=3), max_size=3))
def test_no_schema_makes_anything_but_invalid(schema, params):
    try:
        compiled = InputSchema.compile(schema)
    except Invalid as refused:
        assert refused.fields[0].loc[0] == "input_schema"  # noqa: PT017 - both ends are right
    else:
        assert all(error.loc[0] == "params" for error in compiled.check(params))
