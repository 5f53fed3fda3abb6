"""Files as texts, read into rows: JSON, JSON Lines, CSV. Pure; what the rows are for is `upload_rows.py`'s."""

import base64
import binascii
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson

from trunkline.errors import FieldError, Invalid
from trunkline.rest.json_text import compact_json, json_size

MAX_FILES = 20
MAX_ROWS = 100_000
MAX_COLUMNS = 500
DELIMITERS = ",;\t"
_READ_AS = {"json": "json", "jsonl": "lines", "ndjson": "lines", "csv": "csv", "tsv": "csv"}
_ENDINGS = "must end in .json, .jsonl, .ndjson, .csv or .tsv"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
csv.field_size_limit(2**31 - 1)  # the limit of the body holds already; a cell too long is told with its row


class Row(NamedTuple):
    """One record of a file; `problem` says why it is none."""

    file: str
    row: int
    data: Any
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file as a client sends it."""

    filename: str
    content: str
    encoding: str = "text"


class UnreadableFile(Exception):  # noqa: N818 - it is what was sent, not our error
    """The file as a whole cannot be read."""


def read_all(files: list[File]) -> tuple[list[Row], list[dict[str, Any]]]:
    """Read files into rows, and describe each file.

    Raises:
        Invalid: naming each file that cannot be read, and why.
    """
    rows: list[Row] = []
    described: list[dict[str, Any]] = []
    faults: list[FieldError] = []
    for index, file in enumerate(files):
        try:
            found, size = _read(file, MAX_ROWS - len(rows))
        except UnreadableFile as fault:
            place = "filename" if str(fault) == _ENDINGS else "content"
            faults.append(FieldError(("body", "files", index, place), f"{file.filename[:200]}: {fault}"))
            continue
        rows += found
        described.append({"filename": file.filename, "size": size, "rows": len(found)})
    if faults:
        raise Invalid(fields=faults)
    return rows, described


def _read(file: File, most: int) -> tuple[list[Row], int]:
    text = _decode(file)
    if "\0" in file.filename:
        raise UnreadableFile("a file's name must not hold the character U+0000")
    found = list(islice(_rows(file, text), most + 1))
    if not found:
        raise UnreadableFile("has no rows")
    if len(found) > most:
        raise UnreadableFile(f"brings the upload over {MAX_ROWS} rows; upload the rest separately")
    return found, len(text.encode())


def _decode(file: File) -> str:
    if file.encoding == "text":
        return file.content.removeprefix("\ufeff")
    try:
        raw = base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableFile("is not base64") from None
    named = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(named).removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        raise UnreadableFile(
            f"is not {named.removesuffix('-sig').upper()} text at byte {fault.start}"
        ) from None


def _rows(file: File, text: str) -> Iterator[Row]:
    reader = _READ_AS.get(file.filename.rpartition(".")[2].lower())
    if reader is None:
        raise UnreadableFile(_ENDINGS)
    if reader == "csv":
        yield from _csv(file.filename, text)
    elif reader == "lines" or _is_lines(text):
        yield from _lines(file.filename, text)
    else:
        yield from _json(file.filename, text)


def _is_lines(text: str) -> bool:
    """Tell whether a file called .json holds JSON Lines: its first line is an object by itself, and there are more."""
    first, _, rest = text.lstrip().partition("\n")
    return first.rstrip().startswith("{") and first.rstrip().endswith("}") and bool(rest.strip())


def _json(name: str, text: str) -> Iterator[Row]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise UnreadableFile(
            f"is not JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}"
        ) from None
    if isinstance(found, dict):
        found = found.get("records")
    if not isinstance(found, list):
        raise UnreadableFile('must be a list of objects, or {"records": [...]}')
    for number, data in enumerate(found, 1):
        yield _row(name, number, data)


def _lines(name: str, text: str) -> Iterator[Row]:
    number = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        number += 1
        try:
            yield _row(name, number, orjson.loads(line))
        except orjson.JSONDecodeError as fault:
            yield Row(name, number, line, f"is not JSON: {fault.msg}")


def _row(name: str, number: int, data: Any) -> Row:
    if json_size(data, 0) is None:  # far deeper than any value may be, and than can be written again
        return Row(name, number, compact_json(data), "is nested too deep")
    if not isinstance(data, dict):
        return Row(name, number, data, "must be an object")
    return Row(name, number, data, _too_many(len(data), "fields"))


def _too_many(count: int, what: str) -> str | None:
    return f"has {count} {what}; at most {MAX_COLUMNS}" if count > MAX_COLUMNS else None


def _csv(name: str, text: str) -> Iterator[Row]:
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    number = 0
    try:
        header = _header(next(cells, []))
        for line in cells:
            if not line or line == [""]:
                continue
            number += 1
            if len(line) == len(header):
                yield Row(name, number, dict(zip(header, line, strict=True)))
            else:
                yield Row(name, number, line, f"has {len(line)} cells; the header has {len(header)}")
    except csv.Error as fault:
        raise UnreadableFile(f"is not CSV after row {number}: {fault}") from None


def _delimiter(text: str) -> str:
    """Choose what parts the header into most cells; a comma when nothing does."""
    first = re.split(r"[\r\n]", text[:65_536], maxsplit=1)[0]
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not names or not all(names):
        raise UnreadableFile("has no header: the first line names the columns, each of them")
    if fault := _too_many(len(names), "columns"):
        raise UnreadableFile(fault)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnreadableFile(f"names a column twice: {', '.join(twice)}"[:300])
    return names
