import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.rest.paths import EACH, MISSING, Gathering, Path, Selection, select

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=20,
)
STEPS = st.lists(KEYS | st.integers(0, 2) | st.just(EACH), min_size=1, max_size=4)
PATHS = st.builds(lambda steps: Path.compile(written(steps)), STEPS)


def written(steps):
    text = "".join(
        f".{step}" if isinstance(step, str) else str([step] if step is not EACH else "[]") for step in steps
    )
    return text.removeprefix(".")


def compiled(*texts):
    return [Path.compile(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a[].b", ("a", EACH, "b")),
        ("a[0].b", ("a", 0, "b")),
        ("[].b", (EACH, "b")),
        ("[0]", (0,)),
        ("[][2][]", (EACH, 2, EACH)),
        ("a-b._c.$d.@e.x y.ü", ("a-b", "_c", "$d", "@e", "x y", "ü")),
        ('a["x.y"].z', ("a", "x.y", "z")),
        ('["a[0]"]', ("a[0]",)),
        ("0.1", ("0", "1")),
    ],
)
def test_a_path_is_read_into_its_steps(text, steps):
    assert Path.compile(text).steps == steps


@pytest.mark.parametrize(
    "text",
    [
        *("", ".a", "a.", "a..b", "a[", "a]", "a[-1]", "a[].[0]", "a .b", " a", "a ", "a[x]", "[]a", 'a["b]'),
        *("a.[0]", "a[0]b", "a{b", "a}b", "a\nb", "a\x00", 'a"b', "a[1e3]", "a[*]", "a['b']"),
    ],
)
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="path"):
        Path.compile(text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("a" * 513, "512"), (".".join("a" * 33), "32"), ("a[][][][][]", "4"), ("a[9999999999]", "9 digits")],
)
def test_a_path_over_a_limit_is_refused(text, limit):
    with pytest.raises(ValueError, match=limit):
        Path.compile(text)


def test_a_path_at_the_limits_works():
    assert len(Path.compile("a" * 512).steps[0]) == 512
    assert len(Path.compile(".".join("a" * 32)).steps) == 32


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.b", 1),
        ("a.none", None),
        ("a.c", MISSING),
        ("a.b.c", MISSING),
        ("a.none.c", MISSING),
        ("list[1]", {"x": 2, "y": [5]}),
        ("list[9]", MISSING),
        ("list[].x", [1, 2]),
        ("list[].y", [[3, 4], [5]]),
        ("list[].y[]", [3, 4, 5]),
        ("list[].y[0]", [3, 5]),
        ("list[].none", []),
        ("a[].x", MISSING),
        ("a[0]", MISSING),
        ("empty[].x", []),
        ("list.x", MISSING),
    ],
)
def test_a_path_finds_what_it_names(text, found):
    value = {
        "a": {"b": 1, "none": None},
        "list": [{"x": 1, "y": [3, 4]}, {"x": 2, "y": [5]}, "odd"],
        "empty": [],
    }
    result = Path.compile(text).get(value)
    assert result is MISSING if found is MISSING else result == found


def test_a_found_list_can_be_changed_without_touching_the_answer():
    value = [1, 2]
    Path.compile("[]").get(value).append(3)
    assert value == [1, 2]


def test_a_filter_keeps_the_named_paths_in_their_structure():
    value = {"incident": {"id": "9912", "status": "triggered", "url": "u"}, "meta": 1}
    assert select(value, compiled("incident.id", "incident.status")) == {
        "incident": {"id": "9912", "status": "triggered"}
    }


@pytest.mark.parametrize(
    ("value", "paths", "kept"),
    [
        ([{"a": 1, "b": 2}, {}, 3], ["[].a"], [{"a": 1}, {}, None]),
        ({"l": [{"a": 1}, {"a": 2}, {"a": 3}]}, ["l[1].a"], {"l": [None, {"a": 2}]}),
        (
            {"l": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
            ["l[].a", "l[0].b"],
            {"l": [{"a": 1, "b": 2}, {"a": 3}]},
        ),
        ({"a": {"b": 1, "c": 2}}, ["a", "a.b"], {"a": {"b": 1, "c": 2}}),
        ({"a": "text"}, ["a.b"], {}),
        ({"a": {"x": 1}}, ["a.b"], {"a": {}}),
        ({"b": 1, "a": 2}, ["a", "b"], {"b": 1, "a": 2}),
        ("text", ["a"], None),
        ([1, 2], ["a"], None),
        (None, ["a"], None),
    ],
)
def test_a_filter_meets_any_value(value, paths, kept):
    result = select(value, compiled(*paths))
    assert result == kept
    assert list(result or []) == list(kept or [])


@given(VALUES, PATHS)
def test_a_path_finds_the_same_before_and_after_its_own_filter(value, path):
    assert path.get(select(value, [path])) == path.get(value)


@given(VALUES, st.lists(PATHS, max_size=6))
def test_a_filter_with_more_paths_still_keeps_each(value, paths):
    kept = select(value, paths)
    for path in paths:
        found = path.get(value)
        assert found is MISSING or path.get(kept) == found


@given(VALUES, st.lists(PATHS, max_size=5))
def test_looking_up_together_is_looking_up_one_by_one(value, paths):
    named = {str(number): path for number, path in enumerate(paths)}
    assert Gathering(named).of(value) == {name: path.get(value) for name, path in named.items()}


@given(st.text(max_size=40))
def test_any_text_compiles_or_is_refused(text):
    with contextlib.suppress(ValueError):
        assert Path.compile(text).text == text


def deep(levels):
    value = {"a": 1}
    for _ in range(levels):
        value = {"a": value, "l": [value]}
    return value


def test_values_nested_far_deeper_than_the_stack_do_no_harm():
    value = deep(100_000)
    path = Path.compile(".".join("a" * 32))
    assert path.get(value) is not MISSING
    assert select(value, compiled("a.a", "l[].a[].b")).keys() == {"a", "l"}
    assert Gathering({"x": path, "y": Path.compile("l[].a"), "z": Path.compile("l[].b")}).of(value)["z"] == []


def test_many_paths_cost_the_answer_once_and_not_once_each():
    value = {"rows": [{} for _ in range(100_000)]}
    paths = {f"k{number}": Path.compile(f"rows[].x{number}") for number in range(1_000)}
    started = time.thread_time()
    Selection(paths.values()).of(value)
    Gathering(paths).of(value)
    assert time.thread_time() - started < 2


def test_paths_that_entangle_too_much_are_refused_instead_of_multiplied():
    paths = compiled(*(f"[{n}].x" for n in range(300)), *(f"[].k{n}" for n in range(300)))
    with pytest.raises(ValueError, match="same place"):
        Selection(paths)


def test_more_than_eight_names_for_one_part_are_refused():
    with pytest.raises(ValueError, match="8 paths"):
        Gathering({str(number): Path.compile("a.b") for number in range(9)})
    Gathering({str(number): Path.compile(f"a.b[{number}]") for number in range(100)})
