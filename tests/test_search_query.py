"""Reading what is searched for, folding, and marking what was found: without a database."""

import pytest

from trunkline.errors import Invalid
from trunkline.services.highlights import LENGTH, Highlighter
from trunkline.services.search_query import Term, parse
from trunkline.services.words import MOST_TEXT, fold, indexed, texts, words


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("printer jam", [Term(("printer",)), Term(("jam",))]),
        ('"paper jam" tray', [Term(("paper", "jam")), Term(("tray",))]),
        ("print*", [Term(("print",), is_prefix=True)]),
        ("10.0.0.7", [Term(("10", "0", "0", "7"))]),
        ("db_prod-01*", [Term(("db", "prod", "01"), is_prefix=True)]),
        ("Ärger ÄRGER arger", [Term(("arger",))]),
        ('"never closed', [Term(("never", "closed"))]),
        (
            "NOT (a OR b) AND col:x NEAR/3 ^y",
            [Term((each,)) for each in ("not", "a", "or", "b", "and")]
            + [Term(("col", "x")), Term(("near", "3")), Term(("y",))],
        ),
        ("' | & ! <-> :* \\ printer", [Term(("printer",))]),
        ("服务器", [Term(("服", "务", "器"))]),
        ("a\0b", [Term(("a", "b"))]),
    ],
)
def test_anything_typed_becomes_words_phrases_and_beginnings(typed: str, terms: list[Term]):
    assert parse(typed) == terms


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "no word"),
        ('"*" --- !!! ()', "no word"),
        ("x" * 100_000, "characters"),
        ("y" * 300, "a word of more than"),
        (" ".join(f"w{number}" for number in range(40)), "words and phrases"),
        ("a*", "after fewer than 2"),
        ("aa* bb* cc*", "beginnings"),
    ],
)
def test_too_little_or_too_much_is_refused_by_name(typed: str, says: str):
    with pytest.raises(Invalid, match=says) as raised:
        parse(typed)
    assert raised.value.fields[0].loc == ("query", "q")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("café", "CAFE\u0301"),
        ("İstanbul", "istanbul"),
        ("\uff46\uff55ll", "full"),
        ("한국", "한국"),
    ],
)
def test_what_differs_only_in_form_folds_the_same(one: str, other: str):
    assert fold(one) == fold(other)


def test_texts_and_numbers_are_indexed_in_order_and_keys_are_not():
    data = '{"b":"Zwei","a":[1,{"secretkey":2.5}],"n":null,"t":true,"deep":{"er":"unten"}}'
    assert indexed(data) == "Zwei 1 2.5 unten"


def test_only_the_beginning_of_a_large_record_is_indexed():
    assert len(indexed('{"a":"' + "x" * 20_000 + '","b":"' + "y" * 20_000 + '","c":"z"}')) <= MOST_TEXT + 1


def test_a_very_deep_record_is_walked_without_recursion():
    deep = "bottom"
    for _ in range(50_000):
        deep = [deep]
    assert [text for _, text in texts(deep)] == ["bottom"]
    while isinstance(deep, list):  # its end would recurse in the interpreter otherwise
        deep = deep.pop()


def marked(typed: str, record: object) -> list[dict[str, str]]:
    return Highlighter(parse(typed)).of(record)


def test_what_was_found_is_marked_and_everything_else_is_safe_in_a_page():
    found = marked("script", {"title": "<script>alert('x')</script> & co"})
    text = "&lt;<mark>script</mark>&gt;alert(&#x27;x&#x27;)&lt;/<mark>script</mark>&gt; &amp; co"
    assert found == [{"field": "title", "text": text}]


def test_a_piece_is_short_and_has_what_was_found():
    (found,) = marked("needle", {"log": ["hay " * 500 + "needle " + "hay " * 500]})
    assert found["field"] == "log[0]"
    assert "<mark>needle</mark>" in found["text"]
    assert len(found["text"]) <= LENGTH + len("<mark></mark>……")


def test_only_the_first_fields_are_shown():
    assert [each["field"] for each in marked("x", dict.fromkeys("abcde", "x"))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("typed", "text", "shown"),
    [
        ("strasse", "In der Straße 5", "In der <mark>Straße</mark> 5"),
        ("cafe", "ein cafe\u0301!", "ein <mark>cafe</mark>\u0301!"),
        ("paper jam", "paper, and a jam", "<mark>paper</mark>, and a <mark>jam</mark>"),
        ('"paper jam"', "a paper-jam; no jam", "a <mark>paper-jam</mark>; no jam"),
        ("pri*", "Printer sprint", "<mark>Printer</mark> sprint"),
        ("服务", "云服务器", "云<mark>服务</mark>器"),
        ("42", "42 420", "<mark>42</mark> 420"),
    ],
)
def test_words_are_marked_as_they_are_written(typed: str, text: str, shown: str):
    assert marked(typed, {"text": text})[0]["text"] == shown


def test_a_key_with_strange_letters_is_written_as_a_path():
    assert [each["field"] for each in marked("x", {"a.b": {"c": "x"}})] == ['["a.b"].c']


def test_words_keep_no_character_that_a_query_could_mean_something_by():
    everything = "".join(map(chr, [*range(0x800), *range(0x2000, 0x2100)]))
    assert all(word.isalnum() for word in words(everything))
