import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.catalog import strict_yaml
from trunkline.catalog.strict_yaml import read


def flaws(text):
    return [(flaw.line, flaw.text) for flaw in read(text.encode()).flaws]


def test_plain_scalars_mean_what_yaml_1_2_says():
    text = "a: true\nb: null\nc: -3\nd: 1.5\ne: 1e3\nf: text here\ng: ~\nh:\ni: 'yes'\nj: |\n  no\n"
    document = read(text.encode())
    assert document.flaws == []
    assert document.value == {
        "a": True,
        "b": None,
        "c": -3,
        "d": 1.5,
        "e": 1000.0,
        "f": "text here",
        "g": None,
        "h": None,
        "i": "yes",
        "j": "no\n",
    }


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "True", "FALSE", "Null", "Yes"])
def test_words_that_parsers_disagree_about_are_refused(word):
    assert flaws(f"a: 1\nb: {word}\n") == [
        (2, f"'{word}' is ambiguous; write true, false or null, or quote it: \"{word}\"")
    ]


@pytest.mark.parametrize(
    "number",
    [
        "017",
        "0o17",
        "0x1F",
        "0b1",
        "1_000",
        "1:30",
        "2001-12-14",
        "2001-12-14 01:02:03",
        ".5",
        "5.",
        ".inf",
        "+1",
        "-.NaN",
        "1" * 19,
    ],
)
def test_numbers_and_dates_that_parsers_disagree_about_are_refused(number):
    assert [line for line, text in flaws(f"a: {number}") if "quote it" in text] == [1]
    assert flaws(f"a: '{number}'") == []


def test_keys_are_always_text():
    assert read(b"1: a\non: b\n2001-01-01: c").value == {"1": "a", "on": "b", "2001-01-01": "c"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' is here twice; line 1 has it first"),
        ("a: &x 1", 1, "anchors are not used"),
        ("a: 1\nb: *a", 2, "did not find|undefined|aliases are not used"),
        ("a: !!str 1", 1, "tags are not used"),
        ("a: !Ref x", 1, "tags are not used"),
        ("<<: {a: 1}", 1, "merge keys"),
        ("a: 1\n---\nb: 2", 2, "one document"),
        ("? [1]\n: 2", 1, "a key must be plain text"),
        ("body: {title: {title}}", 1, 'a look-up must be quoted: "{title}"'),
        ("a: [1,\n", 2, "flow"),
        ("a: b: c", 1, "mapping values"),
        ("a: \x01", 1, "character that YAML does not allow"),
        ("[" * 50, 1, "nested deeper than 40 levels"),
    ],
)
def test_what_is_not_used_here_is_refused_with_its_line(text, line, said):
    import re

    found = flaws(text)
    assert found[0][0] == line
    assert re.search(said, found[0][1])


def test_every_flaw_is_reported_at_once_by_line():
    assert [line for line, _ in flaws("a: yes\nb: no\nb: 017\nc: &x 1\n")] == [1, 2, 3, 3, 4]


def test_lines_lead_to_every_part():
    document = read(b"a:\n  b:\n    - x\n    - y: 1\nc: 2\n")
    assert document.line(("a", "b", 1, "y")) == 4
    assert document.line(("a", "b", 0)) == 3
    assert document.line(("a", "gone", "x")) == 1
    assert document.line(("c",)) == 5


def test_what_is_no_utf_8_is_refused_with_its_line():
    assert [(f.line, f.text) for f in read(b"a: 1\nb: \xff").flaws] == [(2, "is not UTF-8")]


def test_a_byte_order_mark_is_skipped():
    assert read("\ufeffa: 1".encode()).value == {"a": 1}


def test_size_is_capped():
    assert "larger than 256 KiB" in read(b"a" * (strict_yaml.MAX_BYTES + 1)).flaws[0].text


def test_the_number_of_flaws_is_capped():
    assert len(flaws("\n".join(f"k{n}: yes" for n in range(500)))) == strict_yaml.MAX_PROBLEMS


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 100_000, "- " * 50_000, "a: " * 50_000, "&a " * 50_000]
)
def test_hostile_text_is_refused_quickly(text):
    from time import perf_counter

    started = perf_counter()
    assert flaws(text)
    assert perf_counter() - started < 1


@given(st.text(max_size=60) | st.text(alphabet="ab:{}[]-,'\"&*!|>#?\n \t<1.", max_size=60))
def test_any_text_is_read_or_refused_without_an_exception(text):
    document = read(text.encode("utf-8", "surrogatepass"))
    assert all(flaw.line >= 1 and flaw.text for flaw in document.flaws)
