"""What people type as values: parameters by schema, files, and secrets that are not echoed."""

import io
from pathlib import Path

import pytest

from trunkline.cli.params import parse_params, read_object, read_secrets
from trunkline.errors import Invalid

SCHEMA = {
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "live": {"type": "boolean"},
        "tags": {"type": "array"},
        "body": {"type": "object"},
        "maybe": {"type": ["integer", "null"]},
        "choice": {"enum": ["1", "2"]},
    }
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("text=a:=b", "a:=b"),
        ("count=5", 5),
        ("count=-5", -5),
        ("share=0.5", 0.5),
        ("share=2", 2),
        ("live=true", True),
        ("live=False", False),
        ('tags=["a"]', ["a"]),
        ('body={"a": 1}', {"a": 1}),
        ("maybe=null", None),
        ("maybe=3", 3),
        ("choice=1", "1"),
        ("unknown=1", "1"),
        ("unknown:=1", 1),
        ("text:=5", 5),
        ('count:="5"', "5"),
    ],
)
def test_a_word_becomes_what_the_schema_says(word: str, value: object) -> None:
    assert list(parse_params([word], SCHEMA).values()) == [value]


@pytest.mark.parametrize(
    "word",
    [
        "count=five",
        "count=5.5",
        "count=true",
        "count=99999999999999999999999x",
        "live=yes",
        "tags=a,b",
        "body=[]",
        "unknown:=nope",
        "no-equals",
        "=value",
        ":=1",
        "text=\udcff",
    ],
)
def test_a_word_that_does_not_fit_is_named(word: str) -> None:
    with pytest.raises(Invalid, match=word.partition("=")[0].strip(":") or "NAME"):
        parse_params([word], SCHEMA)


@pytest.mark.parametrize(
    "schema", [{}, {"properties": None}, {"properties": {"a": True}}, {"properties": []}]
)
def test_without_a_schema_everything_is_text(schema: dict[str, object]) -> None:
    assert parse_params(["a=1"], schema) == {"a": "1"}


def test_a_file_may_be_json_or_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "x"}')
    (tmp_path / "a.yaml").write_text("name: x")
    assert read_object(tmp_path / "a.json") == read_object(tmp_path / "a.yaml") == {"name": "x"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "{"), ("a.json", "[1]"), ("a.yaml", "a: [b"), ("a.yaml", "- 1"), ("b.json", "[" * 100_000)],
)
def test_a_file_with_something_else_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=name):
        read_object(tmp_path / name)


def test_a_file_that_is_absent_or_too_large_is_named(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (1024 * 1024 + 1))
    for path in (tmp_path / "absent.json", tmp_path, large):
        with pytest.raises(Invalid, match=path.name):
            read_object(path)


def test_a_secret_comes_from_the_word_a_file_or_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.pem").write_text("line 1\nline 2\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("first\nsecond\n"))
    words = ["plain=a=b", f"pem=@{tmp_path / 'key.pem'}", "one=-", "two=-"]
    assert read_secrets(words) == {"plain": "a=b", "pem": "line 1\nline 2", "one": "first", "two": "second"}


@pytest.mark.parametrize("word", ["s3cr3t", "=s3cr3t", "k=s3cr3t\udcff"])
def test_a_bad_secret_is_not_echoed(word: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_secrets([word])
    assert "s3cr3t" not in str(caught.value)


def test_a_secret_that_stdin_does_not_give_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(Invalid, match="'token'"):
        read_secrets(["token=-"])
