"""Files of records: read whatever wrote them, checked row by row, mapped; every fault named by file, row and field."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import Invalid
from trunkline.services import upload_files
from trunkline.services.upload_files import File, Row, read_all
from trunkline.services.upload_rows import Checked, Fields, check, check_mapping

GOOD = {"incident_id": "I1", "title": "Fire", "description": "It burns."}
HEADER = "incident_id,title,description"


def rows_of(name: str, content: str, encoding: str = "text") -> list[Row]:
    return read_all([File(name, content, encoding)])[0]


def data_of(name: str, content: str, encoding: str = "text") -> list[Any]:
    return [row.data for row in rows_of(name, content, encoding)]


def refused(name: str, content: str, encoding: str = "text") -> str:
    with pytest.raises(Invalid) as caught:
        read_all([File("fine.json", json.dumps([GOOD])), File(name, content, encoding)])
    (fault,) = caught.value.fields
    assert fault.loc[:3] == ("body", "files", 1)
    assert fault.msg.startswith(f"{name}: ")
    return fault.msg.removeprefix(f"{name}: ")


def checked(*records: Any, mapping: dict[str, str] | None = None, wanted: Fields | None = None) -> Checked:
    rows = rows_of("a.json", json.dumps(records))
    return check(rows, mapping or {}, wanted or Fields())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps([GOOD, GOOD])),
        ("a.JSON", json.dumps({"records": [GOOD, GOOD], "more": 1}, indent=2)),
        ("a.json", f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}"),
        ("a.jsonl", f"\ufeff{json.dumps(GOOD)}\r\n\r\n{json.dumps(GOOD)}\n"),
        ("a.ndjson", f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}"),
        ("a.csv", f"{HEADER}\nI1,Fire,It burns.\nI1,Fire,It burns.\n"),
        ("a.csv", f"\ufeff{HEADER}\r\nI1,Fire,It burns.\r\n\r\nI1,Fire,It burns."),
        ("a.csv", 'incident_id;"title";description\nI1;Fire;It burns.\nI1;"Fire";"It burns."\n'),
        ("a.tsv", "incident_id\ttitle\tdescription\nI1\tFire\tIt burns.\nI1\tFire\tIt burns.\n"),
        ("a.csv", " incident_id , title,description\nI1,Fire,It burns.\nI1,Fire,It burns.\n"),
    ],
)
def test_a_file_is_read_however_it_was_written(name: str, content: str):
    assert data_of(name, content) == [GOOD, GOOD]
    for encoding in ("utf-8", "utf-16"):
        assert data_of(name, base64.b64encode(content.encode(encoding)).decode(), "base64") == [GOOD, GOOD]


def test_a_quoted_cell_may_hold_anything():
    (row,) = data_of("a.csv", f'{HEADER}\nI1,"Fire, ""big""","line 1\nline 2; é"\n')
    assert row == {"incident_id": "I1", "title": 'Fire, "big"', "description": "line 1\nline 2; é"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", "x", "must end in .json, .jsonl, .ndjson, .csv or .tsv"),
        ("a.json", "[{]", "is not JSON: "),
        ("a.json", "[NaN]", "is not JSON: "),
        ("a.json", "{}", 'must be a list of objects, or {"records": [...]}'),
        ("a.json", "7", 'must be a list of objects, or {"records": [...]}'),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", "\n \n", "has no rows"),
        ("a.csv", HEADER, "has no rows"),
        ("a.csv", "", "has no header"),
        ("a.csv", "a,,c\n1,2,3", "has no header"),
        ("a.csv", "a,b,a\n1,2,3", "names a column twice: a"),
        ("a.csv", ",".join(map(str, range(501))) + "\n1", "has 501 columns; at most 500"),
        ("a.csv", f'{HEADER}\nI1,"Fire,x\nI2,b,c\n', "is not CSV after row 0: unexpected end of data"),
        ("a.json", "[" * 5000, "is not JSON: "),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: str, said: str):
    assert refused(name, content).startswith(said)


def test_bytes_that_are_no_text_say_where():
    assert refused("a.csv", "%%%", "base64") == "is not base64"
    raw = base64.b64encode(b"abc\xff").decode()
    assert refused("a.csv", raw, "base64") == "is not UTF-8 text at byte 3"


def test_the_rows_of_all_files_are_limited_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upload_files, "MAX_ROWS", 3)
    assert "over 3 rows" in refused("a.json", json.dumps([GOOD] * 3))


def test_every_fault_names_file_row_and_field():
    found = check(
        [
            *rows_of("a.json", json.dumps([GOOD, {**GOOD, "title": " "}, [1], {**GOOD, "description": {}}])),
            *rows_of("b.csv", f"{HEADER}\nI2,Fire\nI3,Fire,x\n"),
        ],
        {},
        Fields(),
    )
    report = found.report(6)
    assert [
        (item["file"], item["row"], item["field"], item["message"], item["value"])
        for item in report["errors"]
    ] == [
        ("a.json", 2, "title", "must not be empty", " "),
        ("a.json", 3, None, "must be an object", "[1]"),
        ("a.json", 4, "description", "must be a text or a number", "{}"),
        ("b.csv", 1, None, "has 2 cells; the header has 3", '["I2","Fire"]'),
    ]
    assert (report["status"], report["total_records"], report["valid_count"]) == ("has_errors", 6, 2)
    assert (report["error_count"], report["duplicate_count"]) == (4, 0)
    assert [record["incident_id"] for record in report["preview"]] == ["I1", "I3"]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"title": "a\0b"}, "title", "must not hold the character U+0000"),
        ({"more": {"a": ["x\0"]}}, "more", "must not hold the character U+0000"),
        ({"description": "x" * 10_000_000}, "description", "has 10000000 characters; at most 1000000"),
        ({"incident_id": "x" * 513}, "incident_id", "has more than 512 characters"),
        ({"incident_id": True}, "incident_id", "must be a text or a number"),
        ({"incident_id": None}, "incident_id", "must not be empty"),
        ({"a\0": 1}, "a\\0", "a field's name has at most 200 characters, and none of them U+0000"),
        ({"deep": json.loads("[" * 200 + "]" * 200)}, "deep", "is nested more than 32 levels deep"),
    ],
)
def test_a_value_that_cannot_be_kept_is_told_and_cut(change: dict[str, Any], field: str, said: str):
    found = checked(GOOD | change)
    (problem,) = found.problems
    assert (problem.field, problem.message) == (field, said)
    assert "\0" not in str(problem.value)
    assert len(str(problem.value)) < 300


def test_text_that_only_looks_like_an_escaped_nul_is_fine():
    assert checked(GOOD | {"more": ["\\u0000"]}).problems == []


def test_a_record_has_so_many_fields_at_most_and_a_report_names_so_many():
    found = checked(GOOD | {f"f{number}": 1 for number in range(498)}, GOOD)
    assert [problem.message for problem in found.problems] == ["has 501 fields; at most 500"]
    wide = [
        GOOD | {"incident_id": f"I{row}"} | {f"f{row}-{number}": 1 for number in range(400)}
        for row in range(30)
    ]
    found = checked(*wide)
    assert (len(found.report(30)["file_fields"]), len(found.records)) == (10_000, 30)


def test_a_record_has_a_limit_in_all():
    (problem,) = checked(GOOD | {f"f{number}": "x" * 900_000 for number in range(3)}).problems
    assert problem.message == "has more than 2000000 characters in all"


def test_names_that_tell_by_themselves_need_no_mapping():
    found = checked({"Incident ID": 7, "TITLE": "a", "description": "b", "Resolved-At": "c", "Odd One": 1})
    assert found.records == {
        "7": {"incident_id": "7", "title": "a", "description": "b", "resolved_at": "c", "Odd One": 1}
    }


def test_a_wrong_header_is_told_once_and_mended_by_a_mapping():
    record = {"Ticket": "I1", "Subject": "Fire", "description": "It burns."}
    found = checked(record, record | {"Ticket": "I2"})
    assert [(item.row, item.field) for item in found.problems] == [(None, "incident_id"), (None, "title")]
    assert "Ticket, Subject, description" in found.problems[0].message
    assert (len(found.bad), found.records) == (2, {})
    mended = checked(record, mapping={"Ticket": "incident_id", "Subject": "title"})
    assert mended.records == {"I1": GOOD}


def test_of_several_with_one_key_the_first_counts():
    found = checked(GOOD, GOOD | {"title": "Other"}, GOOD | {"incident_id": " I1 "})
    assert (found.records, found.repeated, found.problems) == ({"I1": GOOD}, 2, [])


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"nope": "title"}, "no file has this field; they have a, b"),
        ({"a": "colour"}, "'colour' is no field; there are incident_id, title, "),
        ({"a": "title", "b": "title"}, "'a' is mapped to 'title' too"),
    ],
)
def test_a_wrong_mapping_is_refused_by_name(mapping: dict[str, str], said: str):
    with pytest.raises(Invalid) as caught:
        check_mapping(mapping, ["a", "b"], Fields())
    assert caught.value.fields[0].loc[:2] == ("body", "mapping")
    assert caught.value.fields[0].msg.startswith(said)


def test_a_dataset_may_have_a_key_of_its_own():
    wanted = Fields("email", ("email",), ())
    assert checked({"email": "a@b", "x": None}, wanted=wanted).records == {"a@b": {"email": "a@b", "x": None}}


@given(
    name=st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.tsv", "a"]),
    content=st.text(max_size=300)
    | st.lists(st.lists(st.text(alphabet='ab",;\n\r\t\0', max_size=4), max_size=4)).map(
        lambda lines: "\n".join(",".join(cells) for cells in lines)
    ),
)
def test_no_file_is_too_odd(name: str, content: str):
    try:
        rows = rows_of(name, content)
    except Invalid:
        return
    found = check(rows, {}, Fields())
    assert len(found.records) + len(found.bad) + found.repeated == len(rows)
    assert json.dumps(found.report(len(rows)))
