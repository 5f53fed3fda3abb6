"""An event as a message: what it says, what it may not smuggle in, how it is cut."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from trunkline.catalog.manifest import ConfigField, Notify
from trunkline.services.events import Event
from trunkline.services.messages import scope, text

NOW = datetime(2026, 5, 3, 10, tzinfo=UTC)
EVENT = Event(
    type="alert.opened",
    time=NOW,
    data={"disk": "db-03"},
    id="e1",
    title="Disk full on db-03",
    project="shop",
    severity="high",
    url="https://alerts.example/i/1?a=1&b=2",
    workspace_id="w",
    sequence=1,
    received_at=NOW,
)
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKDOWN = {"\\": "\\\\", "*": "\\*", "_": "\\_", "@everyone": "@ everyone"}


def notify(escape: dict[str, str], max_length: int = 1000) -> Notify:
    return Notify(
        endpoint="send", params={}, channel=ConfigField(label="C"), max_length=max_length, escape=escape
    )


def written(escape=None, max_length=1000, **changes):
    return text(replace(EVENT, **changes), escape or {}, max_length)


def test_it_says_how_bad_what_where_and_gives_the_link():
    assert written() == ("[high] Disk full on db-03\nalert.opened · shop\nhttps://alerts.example/i/1?a=1&b=2")


def test_what_an_event_does_not_have_is_left_out():
    assert written(severity=None, project=None, url=None) == "Disk full on db-03\nalert.opened"


def test_an_event_without_a_title_is_called_by_its_type():
    assert written(title=None, severity=None, project=None, url=None) == "alert.opened\nalert.opened"


def test_a_title_stays_on_its_line():
    assert written(title="a\n\n  b\r\x0b c").startswith("[high] a b c\n")


def test_markup_is_escaped_once():
    assert "&lt;!channel&gt; &amp;amp;" in written(HTML, title="<!channel> &amp;")
    assert written(HTML).endswith("?a=1&amp;b=2")


def test_the_longest_mark_is_replaced_first():
    assert "@ everyone \\*hi\\*" in written(MARKDOWN, title="@everyone *hi*")


def test_a_link_keeps_leading_where_it_led():
    link = written(MARKDOWN, url="https://a.example/x_y*z?q=a_b&c=1#d").splitlines()[-1]
    assert link == "https://a.example/x%5Fy%2Az?q=a%5Fb&c=1#d"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a b", "https://a\n@everyone", "ftp://x", ""])
def test_what_is_no_address_is_no_link(url):
    assert written(url=url) == "[high] Disk full on db-03\nalert.opened · shop"


@pytest.mark.parametrize("max_length", [100, 150, 333])
@pytest.mark.parametrize("escape", [{}, HTML, MARKDOWN])
def test_a_long_title_is_cut_between_its_signs_and_the_link_is_kept(escape, max_length):
    made = written(escape, max_length, title="<&*" * 500)
    head, _, link = made.splitlines()
    assert len(made) <= max_length
    assert head.endswith("…")
    assert link.startswith("https://alerts.example/i/1")
    assert head.count("&") == head.count(";") or escape != HTML


def test_a_link_longer_than_half_is_dropped_rather_than_cut():
    made = written({}, 100, url="https://a.example/" + "x" * 80)
    assert "https" not in made


def test_lines_are_joined_where_the_service_takes_only_one():
    joined = written({"\n": " · "})
    assert joined.startswith("[high] Disk full on db-03 · alert.opened · shop · https://alerts.example/")


def test_look_ups_find_what_there_is_and_nothing_else():
    found = scope(replace(EVENT, subject=None, title="<b>"), "d1", notify(HTML))
    assert found["title"] == "&lt;b&gt;"
    assert "subject" not in found
    assert (found["delivery_id"], found["time"], found["data"]) == (
        "d1",
        "2026-05-03T10:00:00Z",
        {"disk": "db-03"},
    )


def test_an_endpoint_gets_the_text_as_it_is():
    assert scope(replace(EVENT, title="<b>" * 1000), "d1")["title"] == "<b>" * 1000
