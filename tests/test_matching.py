"""Which rules an event matches: patterns, conditions, and that the index finds what trying one by one finds."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import Invalid
from trunkline.services.matching import (
    MAX_CONDITIONS,
    OPERATORS,
    Condition,
    Matcher,
    Pattern,
    Rule,
    compile_conditions,
)


def matches(pattern: str, type: str) -> bool:
    return Pattern.compile(pattern).matches(type)


def holds(path: str, operator: str, value: Any, document: Any) -> bool:
    rule = Rule("it", Pattern.compile("*"), None, (Condition.compile(path, operator, value),))
    return Matcher([rule]).match("any", None, lambda: document) == ["it"]


@pytest.mark.parametrize(
    ("pattern", "type"),
    [
        ("*", "sentry.error"),
        ("sentry.*", "sentry.error"),
        ("sentry.*", "sentry.issue.created"),
        ("sentry.*", "sentry."),
        ("*.error", "sentry.issue.error"),
        ("a*c*e", "abcde"),
        ("a**e", "ae"),
        ("sentry.error", "sentry.error"),
        ("*aba", "ababa"),
    ],
)
def test_a_star_is_any_run_of_characters(pattern: str, type: str):
    assert matches(pattern, type)


@pytest.mark.parametrize(
    ("pattern", "type"),
    [
        ("sentry.error", "sentry.errors"),
        ("sentry.*", "Sentry.error"),
        ("sentry.*", "sentry"),
        ("aba*aba", "ababa"),
        ("a*b*c", "a.c.b"),
        ("a.c", "abc"),
        ("a?c", "abc"),
        ("[a]", "a"),
    ],
)
def test_everything_else_stands_for_itself(pattern: str, type: str):
    assert not matches(pattern, type)


def test_what_tells_of_deliveries_must_be_asked_for_by_name():
    assert matches("delivery.*", "delivery.failed")
    assert not matches("*", "delivery.failed")
    assert not matches("*failed", "delivery.failed")
    assert not matches("deliver*", "delivery.failed")
    rules = [Rule(text, Pattern.compile(text)) for text in ("*", "delivery.*", "d*")]
    assert Matcher(rules).match("delivery.failed", None, dict) == ["delivery.*"]


@pytest.mark.parametrize("text", ["", "x" * 257, " a", "a\n", "a\0b"])
def test_what_is_no_pattern_is_refused(text: str):
    with pytest.raises(ValueError, match="must have"):
        Pattern.compile(text)


def test_a_hostile_pattern_takes_no_time():
    started = time.perf_counter()
    for _ in range(1000):
        assert not matches("*a" * 127 + "*b", "a" * 256)
    assert time.perf_counter() - started < 1


EVENT = {
    "type": "alert.raised",
    "severity": "high",
    "data": {
        "count": 17,
        "ratio": 0.5,
        "is_new": True,
        "nothing": None,
        "title": "Disk is full on db-1",
        "tags": ["prod", "db"],
        "items": [{"kind": "a", "size": 1}, {"kind": "b", "size": 9}],
        "odd.key": "x",
    },
}


@pytest.mark.parametrize(
    ("path", "operator", "value"),
    [
        ("severity", "equals", "high"),
        ("data.count", "equals", 17.0),
        ("data.is_new", "equals", True),
        ('data["odd.key"]', "equals", "x"),
        ("data.items[].kind", "equals", "b"),
        ("data.items[1].kind", "equals", "b"),
        ("severity", "one_of", ["critical", "high"]),
        ("severity", "not_equals", "low"),
        ("data.absent", "not_equals", "low"),
        ("data.title", "contains", "full"),
        ("data.tags", "contains", "db"),
        ("data.title", "not_contains", "empty"),
        ("data.title", "starts_with", "Disk"),
        ("data.title", "exists", True),
        ("data.nothing", "exists", False),
        ("data.absent", "exists", False),
        ("data.items[].size", "greater_than", 8),
        ("data.count", "less_than", 17.5),
        ("data.ratio", "less_than", 1),
    ],
)
def test_a_condition_holds(path: str, operator: str, value: Any):
    assert holds(path, operator, value, EVENT)


@pytest.mark.parametrize(
    ("path", "operator", "value"),
    [
        ("severity", "equals", "HIGH"),
        ("data.is_new", "equals", 1),
        ("data.count", "equals", "17"),
        ("data.count", "equals", True),
        ("data.items", "equals", "a"),
        ("data.tags", "contains", "d"),
        ("data.count", "contains", "1"),
        ("data.title", "not_contains", "full"),
        ("data.items[].kind", "not_equals", "a"),
        ("data.count", "starts_with", "1"),
        ("data.nothing", "exists", True),
        ("data.items[].other", "exists", True),
        ("data.title", "greater_than", 1),
        ("data.is_new", "greater_than", 0),
        ("data.absent", "less_than", 1),
        ("data.count.deeper", "exists", True),
    ],
)
def test_a_condition_does_not_hold(path: str, operator: str, value: Any):
    assert not holds(path, operator, value, EVENT)


@pytest.mark.parametrize(
    ("path", "operator", "value", "field"),
    [
        ("data..x", "equals", 1, "path"),
        ("data.x", "matches", "a.*", "operator"),
        ("data.x", "equals", None, "value"),
        ("data.x", "equals", {"a": 1}, "value"),
        ("data.x", "contains", "x" * 1025, "value"),
        ("data.x", "one_of", [], "value"),
        ("data.x", "one_of", ["a", None], "value"),
        ("data.x", "one_of", ["a"] * 101, "value"),
        ("data.x", "exists", "yes", "value"),
        ("data.x", "greater_than", "5", "value"),
        ("data.x", "less_than", True, "value"),
        ("data.x", "starts_with", 5, "value"),
    ],
)
def test_a_condition_that_makes_no_sense_names_its_field(path: str, operator: str, value: Any, field: str):
    with pytest.raises(Invalid) as caught:
        compile_conditions([{"path": path, "operator": operator, "value": value}])
    assert [fault.loc for fault in caught.value.fields] == [(0, field)]


def test_there_are_at_most_twenty_conditions():
    one = {"path": "data.x", "operator": "exists", "value": True}
    assert len(compile_conditions([one] * MAX_CONDITIONS)) == MAX_CONDITIONS
    with pytest.raises(Invalid, match="at most 20"):
        compile_conditions([one] * (MAX_CONDITIONS + 1))


def test_every_condition_must_hold():
    conditions = compile_conditions(
        [
            {"path": "severity", "operator": "equals", "value": "high"},
            {"path": "data.count", "operator": "greater_than", "value": 10},
        ]
    )
    matcher = Matcher([Rule("it", Pattern.compile("*"), None, conditions)])
    assert matcher.match("a", None, lambda: EVENT) == ["it"]
    assert matcher.match("a", None, lambda: EVENT | {"severity": "low"}) == []
    assert matcher.match("a", None, lambda: EVENT | {"data": {"count": 3}}) == []


def test_a_route_with_a_project_takes_only_that_projects_events():
    matcher = Matcher([Rule("p", Pattern.compile("a.*"), "p"), Rule("any", Pattern.compile("a.*"))])
    assert matcher.match("a.b", "p", dict) == ["any", "p"]
    assert matcher.match("a.b", "q", dict) == ["any"]
    assert matcher.match("a.b", None, dict) == ["any"]


def test_the_event_is_asked_for_only_when_a_condition_may_decide():
    def never() -> Any:
        raise AssertionError

    conditions = compile_conditions([{"path": "severity", "operator": "equals", "value": "high"}])
    matcher = Matcher(
        [Rule("plain", Pattern.compile("a.*")), Rule("b", Pattern.compile("b.*"), "p", conditions)]
    )
    assert matcher.match("a.b", None, never) == ["plain"]
    assert matcher.match("b.c", "q", never) == []
    assert [matcher.looks_closer("b.c", project) for project in (None, "p")] == [False, True]


def test_a_rule_with_several_values_is_found_once():
    conditions = compile_conditions([{"path": "data.tags[]", "operator": "one_of", "value": ["prod", "db"]}])
    assert Matcher([Rule("it", Pattern.compile("*"), None, conditions)]).match("a", None, lambda: EVENT) == [
        "it"
    ]


_TYPES = st.text("ab.", min_size=1, max_size=6)
_PATTERNS = st.text("ab.*", min_size=1, max_size=6)
_SCALARS = st.sampled_from(["a", "ab", 1, 2.0, True, False])
_VALUES = {
    "one_of": st.lists(_SCALARS, min_size=1, max_size=3),
    "exists": st.booleans(),
    "greater_than": st.sampled_from([0, 1.5]),
    "less_than": st.sampled_from([0, 1.5]),
    "starts_with": st.sampled_from(["a", "b"]),
}
_CONDITIONS = st.sampled_from(OPERATORS).flatmap(
    lambda operator: st.builds(
        Condition.compile,
        st.sampled_from(["data.x", "data.y[]", "severity"]),
        st.just(operator),
        _VALUES.get(operator, _SCALARS),
    )
)
_RULES = st.lists(
    st.tuples(_PATTERNS, st.sampled_from([None, "p", "q"]), st.lists(_CONDITIONS, max_size=3).map(tuple)),
    max_size=12,
)
_FOUND = st.one_of(st.none(), _SCALARS, st.lists(_SCALARS, max_size=3))


@given(_RULES, _TYPES, st.sampled_from([None, "p"]), _FOUND, _FOUND)
def test_many_rules_at_once_find_what_each_finds_alone(rules, type: str, project, x, y):
    document = {"type": type, "severity": "a", "data": {"x": x, "y": y}}
    compiled = [
        Rule(number, Pattern.compile(pattern), wanted, conditions)
        for number, (pattern, wanted, conditions) in enumerate(rules)
    ]
    alone = [rule.item for rule in compiled if Matcher([rule]).match(type, project, lambda: document)]
    together = Matcher(compiled).match(type, project, lambda: document)
    assert sorted(together) == alone
