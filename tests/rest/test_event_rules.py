"""From a webhook's bytes to events: which rule, what it fills in, and that something always comes out."""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.catalog.load import parse_manifest
from trunkline.catalog.manifest import Manifest
from trunkline.rest.event_rules import MAX_ENTRIES, Parsed, Rules, compile_rules, parse_payload, read_time

JSON = {"content-type": "application/json"}


def manifest(*events: dict[str, Any], **maps: dict[str, Any]) -> Manifest:
    return Manifest.model_validate(
        {"id": "acme", "name": "Acme", "base_url": "https://acme.example", "events": events, "maps": maps}
    )


def read(rules: list[dict[str, Any]], payload: Any, config: dict[str, str] | None = None, **headers: str):
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Rules(manifest(*rules)).read(payload, named, config or {})


def one(rule: dict[str, Any], payload: Any, **headers: str) -> Parsed:
    (event,) = read([rule], payload, **headers)
    return event


def test_the_first_rule_that_holds_is_used():
    rules = [
        {"when": {"payload.action": "closed"}, "type": "acme.closed"},
        {"when": {"payload.action": "opened"}, "type": "acme.opened"},
        {"type": "acme.other"},
    ]
    types = [read(rules, {"action": action})[0].type for action in ("opened", "closed", "moved")]
    assert types == ["acme.opened", "acme.closed", "acme.other"]


@pytest.mark.parametrize(
    ("wanted", "payload", "holds"),
    [
        ("a", {"x": "a"}, True),
        ("a", {"x": "b"}, False),
        ("a", {}, False),
        ("a", ["x"], False),
        (["a", "b"], {"x": "b"}, True),
        (["a", None], {}, True),
        (None, {"x": None}, True),
        (None, {"x": False}, False),
        ("*", {"x": False}, True),
        ("*", {"x": {}}, True),
        ("*", {"x": None}, False),
        (True, {"x": True}, True),
        (True, {"x": 1}, False),
        (1, {"x": True}, False),
        (1, {"x": 1.0}, True),
        ("1", {"x": 1}, False),
        ("a", {"x": ["a"]}, False),
    ],
)
def test_a_when_asks_for_a_value_one_of_several_nothing_or_anything(wanted, payload, holds):
    assert (one({"when": {"payload.x": wanted}, "type": "acme.x"}, payload).type == "acme.x") == holds


def test_headers_are_looked_up_without_regard_to_their_case():
    rule = {"when": {"header.X-Kind": "issue", "header.x-count": 3}, "type": "acme.{header.X-Kind}"}
    assert one(rule, {}, x_kind="issue", x_count="3").type == "acme.issue"


def test_every_text_is_a_template_over_payload_headers_and_config():
    rule = {
        "type": "acme.issue.{payload.action}",
        "title": "#{payload.number} {payload.title?}",
        "subject": "{payload.number}",
        "project": "{config.project}",
        "severity": "{payload.level}",
        "dedup_key": "acme-{payload.number}",
        "action": "trigger",
        "url": "{payload.url}",
        "time": "{header.x-at}",
    }
    payload = {"action": "made", "number": 7, "title": "Down", "level": "ERROR", "url": "https://a/7"}
    (event,) = read([rule], payload, {"project": "web"}, x_at="1767225600")
    assert event == Parsed(
        type="acme.issue.made",
        data=payload,
        title="#7 Down",
        subject="7",
        project="web",
        severity="high",
        dedup_key="acme-7",
        action="trigger",
        url="https://a/7",
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("fatal", "critical"),
        ("P1", "critical"),
        (" Warning ", "medium"),
        ("sev4", "low"),
        ("purple", None),
        (3, None),
    ],
)
def test_a_severity_is_one_of_five_words_or_none(word: Any, severity: str | None):
    assert one({"type": "acme.x", "severity": "{payload.s}"}, {"s": word}).severity == severity


def test_an_unknown_action_does_nothing():
    assert one({"type": "acme.x", "action": "{payload.a}"}, {"a": "explode"}).action is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600.5", datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("1767225600000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59.999999Z", None),
        ("9" * 400, None),
        ("1" + "0" * 5000, None),
    ],
)
def test_times_are_read_in_the_ways_they_are_written(text: str, time: datetime | None):
    assert read_time(text) == time


def test_each_makes_an_event_of_every_entry():
    rule = {
        "each": "entry[].messages[]",
        "type": "acme.message",
        "subject": "{item.from}",
        "title": "{payload.app}",
    }
    payload = {
        "app": "Chat",
        "entry": [{"messages": [{"from": "ana"}, {"from": "bo"}]}, {"messages": [{"from": "cy"}]}],
    }
    events = read([rule], payload)
    assert [(event.subject, event.title, event.data) for event in events] == [
        (name, "Chat", {"from": name}) for name in ("ana", "bo", "cy")
    ]


def test_a_rule_whose_each_finds_nothing_does_not_hold():
    rules = [{"each": "messages", "type": "acme.message"}, {"each": "statuses", "type": "acme.status"}]
    assert [
        read(rules, {"messages": [], "statuses": [{}]})[0].type,
        read(rules, {"messages": "x"})[0].type,
    ] == [
        "acme.status",
        "acme.received",
    ]


def test_one_bad_entry_leaves_the_others_alone():
    rule = {"each": "list", "type": "acme.{item.kind}"}
    events = read([rule], {"list": [{"kind": "a"}, {"no": 1}, None, {"kind": "b"}]})
    assert [event.type for event in events] == ["acme.a", "acme.unreadable", "acme.unreadable", "acme.b"]
    assert (events[1].error, events[1].data) == (
        "rule 1 (acme.{item.kind}): 'item.kind' is missing",
        {"no": 1},
    )
    assert events[2].data == {}


def test_more_entries_than_anybody_sends_are_cut_and_said():
    events = read([{"each": "list", "type": "acme.x"}], {"list": [{}] * 10_000})
    assert len(events) == MAX_ENTRIES + 1
    assert events[-1].type == "acme.unreadable"
    assert events[-1].data == {"entries": 10_000, "read": MAX_ENTRIES}


def test_entries_cannot_multiply_a_large_part_of_the_payload():
    rule = {"each": "list", "type": "acme.x", "title": "{item.n} {payload.large}"}
    events = read([rule], {"large": "x" * 2_000_000, "list": [{"n": n} for n in range(900)]})
    assert len(events) < 10
    assert events[-1].data["entries"] == 900


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"type": "acme.x", "title": "{payload.none}"}, "'payload.none' is missing"),
        ({"type": "acme.x", "subject": "{payload.o}"}, "'subject' is a list or an object; it must be a text"),
        ({"type": "acme.x", "severity": "{payload.s|level}"}, "'payload.s' must be one of: high"),
        ({"type": "{payload.empty}"}, "'type' must have 1 to 256 characters"),
        ({"type": "acme.{payload.long}"}, "'type' must have 1 to 256 characters"),
    ],
)
def test_a_rule_that_fails_keeps_what_came_and_says_why(rule: dict[str, Any], error: str):
    payload = {"o": {}, "s": "?", "empty": "", "long": "x" * 300}
    (event,) = Rules(manifest(rule, level={"high": "high"})).read(payload, {}, {})
    assert (event.type, event.data, event.error) == (
        "acme.unreadable",
        payload,
        f"rule 1 ({rule['type']}): {error}",
    )


def test_without_a_rule_that_holds_the_request_is_an_event_all_the_same():
    assert one({"when": {"payload.x": 1}, "type": "acme.x"}, {"y": 2}) == Parsed(
        type="acme.received", data={"y": 2}
    )


def test_texts_fit_their_columns_and_every_database():
    rule = {
        "type": "acme.{payload.t}",
        "title": "{payload.title}",
        "subject": "{payload.odd}",
        "project": "{payload.long}",
        "dedup_key": "{payload.long}",
        "url": "{payload.long}",
    }
    payload = {
        "t": "a\nb\0",
        "title": "a\n\n  b\0\ud800" + "x" * 2000,
        "odd": "\0\ud800\r\nid: 1",
        "long": "é" * 3000,
    }
    event = one(rule, payload)
    assert event.type == "acme.a\ufffdb\ufffd"
    assert event.title is not None
    assert event.title.startswith("a b\ufffd\ufffdx")
    assert (len(event.title), event.title[-1]) == (1024, "…")
    assert event.subject == "\ufffd\ufffd\ufffd\ufffdid: 1"
    assert event.project == "é" * 256
    assert event.url is None
    assert event.dedup_key is not None
    assert len(event.dedup_key) == 512


def test_long_dedup_keys_that_differ_stay_different():
    rule = {"type": "acme.x", "dedup_key": "{payload.k}"}
    assert one(rule, {"k": "x" * 600 + "1"}).dedup_key != one(rule, {"k": "x" * 600 + "2"}).dedup_key


@pytest.mark.parametrize(
    ("body", "kind", "payload"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "", {"a": 1}),
        (b"[1]", "application/json", [1]),
        (b"null", "application/json", {}),
        (b"", "application/json", {}),
        (b" \n", "", {}),
        (b"Disk full", "text/plain", {"text": "Disk full"}),
        (b"\xff\xfe\x00", "application/octet-stream", {"text": "\ufffd\ufffd\0"}),
        (b"a=1&b=x+y&a=2&c=", "application/x-www-form-urlencoded", {"a": "2", "b": "x y", "c": ""}),
        (b"payload=%7B%22a%22%3A1%7D", "application/x-www-form-urlencoded; charset=utf-8", {"a": 1}),
        (b'{"a": 1, "b": "x=y&z"}', "application/x-www-form-urlencoded", {"a": 1, "b": "x=y&z"}),
        (b"{a=1", "application/x-www-form-urlencoded", {"{a": "1"}),
        (b"payload=%7B", "application/x-www-form-urlencoded", {"payload": "{"}),
        (b'\xef\xbb\xbf{"a": "\\ud800", "b": NaN}', "application/json", {"a": "\ufffd", "b": None}),
        ('{"a": "é"}'.encode("utf-16"), "application/json", {"a": "é"}),
        (b'{"a": 1e999}', "text/plain", {"text": '{"a": 1e999}'}),
    ],
)
def test_a_body_is_json_a_form_or_text(body: bytes, kind: str, payload: Any):
    assert parse_payload(body, kind) == payload


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"{oops", "application/json", "the body is no JSON"),
        (b"{oops", "application/vnd.acme+json; charset=utf-8", "the body is no JSON"),
        (b"[" * 100_000, "application/json", "the body is no JSON"),
        (b"[" * 200 + b"]" * 200, "application/json", "the body is nested more than 64 levels deep"),
        (
            b'{"a":' * 900 + b"1" + b"}" * 900,
            "application/json",
            "the body is nested more than 64 levels deep",
        ),
        (b"1" * 100_000, "application/json", "the body is no JSON"),
        (b"a=1&" * 20_000, "application/x-www-form-urlencoded", "the form has more than 10000 fields"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_kept_as_text_and_marked(body: bytes, kind: str, error: str):
    (event,) = compile_rules(manifest({"type": "acme.x"})).read_request(body, {"content-type": kind}, {})
    assert event.type == "acme.unreadable"
    assert event.data == {"text": body.decode()}
    assert event.error is not None
    assert event.error.startswith(error)


RULES = compile_rules(
    manifest(
        {"when": {"payload.0": "*"}, "each": "[].a[]", "type": "acme.{item.t?}x", "title": "{item.t?|m}"},
        {"when": {"payload.a": "*"}, "type": "{payload.a}", "title": "{payload.b}", "time": "{payload.c?}"},
        m={"a": "b"},
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abct"), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary() | VALUES.map(lambda value: json.dumps(value).encode())
KINDS = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "text/plain"])


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(body=BODIES, kind=KINDS)
def test_whatever_comes_something_storable_comes_out(body: bytes, kind: str):
    events = RULES.read_request(body, {"content-type": kind}, {})
    assert events
    for event in events:
        orjson.dumps(event)
        assert event.data is not None
        assert 1 <= len(event.type) <= 256
        texts = [event.type, event.title, event.subject, event.error]
        assert not any("\0" in text for text in texts if text)


def test_a_manifest_is_compiled_once_and_its_next_version_anew():
    first, second = manifest({"type": "acme.one"}), manifest({"type": "acme.two"})
    assert compile_rules(first) is compile_rules(first)
    assert compile_rules(second).read({}, {}, {})[0].type == "acme.two"


def test_a_rule_that_cannot_be_compiled_is_named():
    with pytest.raises(ValueError, match=r"rule 1 \(acme.x\): .*secret"):
        compile_rules(manifest({"type": "acme.x", "title": "{secret.key}"}))


def test_of_several_values_the_first_that_finds_something_it_can_use_counts():
    text = b"""\
name: Acme
webhook: {verify: {open: {type: none}}}
events:
  - type: acme.alert
    title: ["{payload.title}", "{payload.summary}", "no title"]
    severity: ["{payload.severity}", "{payload.priority}"]
    time: ["{payload.at}", "{payload.when}"]
    url: ["{payload.url}", "{payload.link}"]
"""
    rules = Rules(parse_manifest(text, "acme"))
    (made,) = rules.read(
        {"title": {"no": "text"}, "summary": "Full", "severity": "odd", "priority": "P1", "at": "soon"},
        {},
        {},
    )
    assert (made.title, made.severity, made.time, made.url) == ("Full", "critical", None, None)
    assert rules.read({}, {}, {})[0].title == "no title"
    assert made.error is None
