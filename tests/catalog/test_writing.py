import jsonschema_rs
import pytest
import yaml

from trunkline.catalog.authoring import AUTH_CHOICES, json_schema, new_manifest_text
from trunkline.catalog.depth import depth
from trunkline.catalog.load import parse_manifest
from trunkline.catalog.propose import propose
from trunkline.catalog.registry import BUILT_IN, Registry


@pytest.mark.parametrize("auth", AUTH_CHOICES)
@pytest.mark.parametrize("name", ["Acme", 'A "quoted": {name}', "yes"])
def test_a_new_file_is_valid_as_it_is(auth, name):
    manifest = parse_manifest(new_manifest_text(name, "https://acme.example/v1", auth).encode(), "acme")
    assert manifest.name == name
    assert manifest.config["url"].default == "https://acme.example/v1"


def test_the_json_schema_accepts_the_connectors_and_refuses_unknown_words():
    validator = jsonschema_rs.validator_for(json_schema())
    for path in BUILT_IN.glob("*.yaml"):
        value = yaml.safe_load(path.read_text())
        assert list(validator.iter_errors(value)) == []
        value["chek"] = "x"
        assert not validator.is_valid(value)


def test_an_empty_connector_scores_nothing_and_learns_what_to_add():
    bare = depth(parse_manifest(b'name: A\nbase_url: "https://a"\n', "acme"))
    assert bare.score == 0
    assert len(bare.missing) == len(bare.marks)


def test_each_missing_thing_costs_points_and_is_named():
    manifest = Registry().get("servicenow")
    full = depth(manifest)
    less = depth(manifest.model_copy(update={"rate_limit": None, "check": None}))
    assert full.score - less.score == 20
    assert [text for text in less.missing if "check" in text or "rate limits" in text] == less.missing


def proposed(answer, headers=None, status=200):
    return [line.line for line in propose(answer, headers, status)]


def test_a_table_answer_is_read():
    rows = [{"sys_id": str(n), "sys_updated_on": "2026-01-01 00:00:00", "state": "1"} for n in range(3)]
    assert proposed({"result": rows}) == [
        "records: result",
        "key: sys_id",
        'cursor: {field: sys_updated_on, start: "1970-01-01 00:00:00", query: {since: "{cursor}"}}',
    ]


def test_paging_is_read_from_header_cursor_offset_or_page():
    assert proposed([{"id": 1}], {"Link": '<https://a?page=2>; rel="next"'})[0] == "paging: {type: link}"
    assert (
        "cursor_path: meta.next_cursor" in proposed({"items": [{"id": 1}], "meta": {"next_cursor": "x"}})[1]
    )
    assert "more_path: more" in proposed({"items": [{"id": 1}], "offset": 0, "more": True})[1]
    assert "total_path: total" in proposed({"items": [{"id": 1}], "page": 1, "total": 9})[1]


def test_rate_limit_headers_are_read_in_both_formats():
    assert proposed({}, {"RateLimit-Remaining": "1", "RateLimit-Reset": "30"}) == [
        "rate_limit: {remaining: ratelimit-remaining, reset: ratelimit-reset, reset_format: delta_seconds}"
    ]
    assert "epoch_seconds" in proposed({}, {"X-RateLimit-Reset": "1790000000"})[0]
    assert proposed({}, {"X-RateLimit-Reset": "soon"}) == []


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"error": {"message": "no"}}, "errors: {message: error.message}"),
        ({"errors": ["no"]}, 'errors: {message: "errors[0]"}'),
        ({"errors": [{"message": "no"}]}, 'errors: {message: "errors[0].message"}'),
        ({"message": "no"}, "errors: {message: message}"),
    ],
)
def test_the_text_of_a_refusal_is_found(answer, line):
    assert proposed(answer, status=403) == [line]


@pytest.mark.parametrize("answer", [None, 1, "text", [], {}, [1], {"a": [[]]}, {"a": [None, {}]}, [{}]])
def test_any_answer_is_read_without_an_exception(answer):
    assert isinstance(proposed(answer), list)
    assert isinstance(proposed(answer, status=500), list)


def test_a_huge_answer_costs_a_bounded_time():
    from time import perf_counter

    started = perf_counter()
    proposed({f"k{n}": {f"j{m}": m for m in range(300)} for n in range(1_000)})
    assert perf_counter() - started < 0.5
