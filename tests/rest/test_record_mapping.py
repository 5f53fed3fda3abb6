"""`record_mapping`: what a connector's file makes of each record of a list."""

import pytest

from trunkline.catalog.manifest import Endpoint
from trunkline.errors import Invalid
from trunkline.rest.endpoint import compile_endpoint
from trunkline.rest.paging import Answer
from trunkline.rest.shape import MAX_PATHS, Shape

ISSUES = {"issues": [{"id": 1, "user": {"name": "Ada"}, "labels": [{"n": "a"}, {"n": "b"}]}, {"id": 2}, 7]}
MAPPING = {"key": "id", "who": {"name": "user.name", "more": {"id": "id"}}, "labels": "labels[].n"}
MADE = [
    {"key": 1, "who": {"name": "Ada", "more": {"id": 1}}, "labels": ["a", "b"]},
    {"key": 2, "who": {"name": None, "more": {"id": 2}}, "labels": None},
    {"key": None, "who": {"name": None, "more": {"id": None}}, "labels": None},
]


def endpoint(**words):
    words = {"records": "issues", "record_mapping": MAPPING, **words}
    return Endpoint(name="e", description="", path="/", **words)


def apply(raw, **words):
    return Shape.compile(endpoint(**words)).apply(raw)


def test_each_record_is_mapped_and_what_is_missing_is_null():
    stages = apply(ISSUES)
    assert stages.after_filter is ISSUES
    assert stages.after_mapping == MADE
    assert stages.value == MADE


def test_result_key_template_and_length_see_the_mapped_list():
    stages = apply(ISSUES, result_key="[].key", result_template="{[0]}!", max_result_length=1)
    assert stages.after_mapping == MADE
    assert (stages.value, stages.final_result) == ([1, 2, None], "1")


def test_records_are_looked_for_in_what_the_filter_left():
    stages = apply(ISSUES, response_filter=["issues[].id"])
    assert [made["labels"] for made in stages.value] == [None, None, None]


def test_an_answer_that_is_the_list_itself_needs_no_records():
    assert apply([{"id": 3}], records=None, record_mapping={"key": "id"}).value == [{"key": 3}]


def test_null_is_an_empty_list_but_no_list_is_a_failure():
    assert apply({"issues": None}).value == []
    for raw in ({}, {"issues": {}}, "text", None, 7):
        stages = apply(raw)
        assert stages.error == "record_mapping: the answer has no list at issues"
        assert (stages.value, stages.final_result) == (None, None)


def test_paging_still_reads_whole_records():
    compiled = compile_endpoint(endpoint())
    assert compiled.pager.read(compiled.pager.first(), Answer(ISSUES)).records == ISSUES["issues"]


@pytest.mark.parametrize(
    ("mapping", "loc"),
    [
        ({"a": {"b": "x..y"}}, ("record_mapping", "a", "b")),
        ({"a": 7.5}, ("record_mapping", "a")),
        ({f"k{number}": f"k{number}" for number in range(MAX_PATHS + 1)}, ("record_mapping",)),
        ({f"k{number}": "same" for number in range(9)}, ("record_mapping",)),
    ],
)
def test_a_wrong_mapping_is_told_with_its_place(mapping, loc):
    with pytest.raises(Invalid) as caught:
        Shape.compile(endpoint(record_mapping=mapping))
    assert caught.value.fields[0].loc == loc
