"""Log lines leave without ever making the hub wait."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.outlet import Outlet, outlet_of


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def _drain(reader: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(reader, 1 << 20)
        except BlockingIOError:
            return found


def test_what_the_reader_takes_arrives_at_once(pipe: tuple[int, int]):
    reader, writer = pipe
    Outlet(writer).write("one\ntwo\n")
    assert _drain(reader) == b"one\ntwo\n"


def test_a_reader_that_never_reads_stops_nobody(pipe: tuple[int, int]):
    reader, writer = pipe
    outlet = Outlet(writer)
    for _ in range(40_000):
        outlet.write("x" * 99 + "\n")
    first = _drain(reader)
    outlet.write("back\n")
    for _ in range(200):
        first += _drain(reader)
        outlet.write("")
    assert set(first.split(b"\n")[:1000]) == {b"x" * 99}
    assert b"back" in first or b"log lines dropped" in first
    assert b'"count":' in first


def test_a_reader_that_is_gone_is_no_fault():
    reader, writer = os.pipe()
    os.close(reader)
    Outlet(writer).write("to nobody\n")
    os.close(writer)


def test_a_file_gets_everything(tmp_path: Path):
    with (tmp_path / "log").open("w") as file:
        outlet_of(file).write("line\n" * 10_000)
    assert (tmp_path / "log").read_text().count("\n") == 10_000


def test_a_stream_without_descriptor_stays_as_it_is():
    stream = io.StringIO()
    assert outlet_of(stream) is stream
