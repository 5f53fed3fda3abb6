"""Rows of uploads for datasets with a key of their own."""

from trunkline.services.upload_rows import Fields, Row, check


def test_a_key_that_files_have_by_its_name_needs_no_mapping():
    rows = [Row("people.csv", 1, {"ID": "1", "name": "Ana"}), Row("people.csv", 2, {"ID": "", "name": "Bo"})]
    checked = check(rows, {}, Fields("id", ("id",), ()))
    assert checked.records == {"1": {"id": "1", "name": "Ana"}}
    assert [(problem.row, problem.field) for problem in checked.problems] == [(2, "id")]
