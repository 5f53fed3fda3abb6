"""What a person or a script sees: tables, JSON, progress, errors, exit codes. Decides nothing else.

Results go to stdout, everything else to stderr, so that `--json` can always be piped.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from trunkline import errors
from trunkline.redact import redact_keys

_PIPE_WIDTH = 240  # nobody folds a pipe at 80 columns
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


Column = str | Callable[[Any], object]
"""What a column of a table shows of an item: a field, or what is made of the item."""


class ExitCode(IntEnum):
    """What a script may rely on; documented in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5


_EXIT_CODES: tuple[tuple[type[errors.TrunklineError], ExitCode], ...] = (
    (errors.Invalid, ExitCode.USAGE),
    (errors.Unavailable, ExitCode.UNREACHABLE),
    (errors.Unauthenticated, ExitCode.REFUSED),
    (errors.Forbidden, ExitCode.REFUSED),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.Gone, ExitCode.NOT_FOUND),
)

_WAYS_OUT: tuple[tuple[type[errors.TrunklineError], str], ...] = (
    (
        errors.Unauthenticated,
        "Give a valid key with --api-key or TRUNKLINE_API_KEY; the first one is in DATA_DIR/ready.json.",
    ),
    (
        errors.Forbidden,
        "Ask an admin of the workspace for a key with this permission; `trunkline key list` shows them.",
    ),
    (
        errors.Unavailable,
        "Is the hub running? Start it with `trunkline up`, point to it with --url, or run `trunkline doctor`.",
    ),
    (
        errors.NotFound,
        "See what there is with `list`: `trunkline integration list`, `route list`, `event list`, `connector list` …",
    ),
)


def console(*, error: bool = False) -> Console:
    """Return a console on today's stdout or stderr, wide when it is a pipe."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def clean(value: object) -> str:
    """Return text without control characters: what a remote service says must not drive the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def say(text: str, style: str | None = None) -> None:
    """Print a line for people on stdout."""
    console().print(Text(clean(text), style=style or ""))


def note(text: str, style: str | None = None) -> None:
    """Print a remark on stderr, where it cannot mix with results."""
    console(error=True).print(Text(clean(text), style=style or ""))


def done(text: str) -> None:
    """Print one finished step."""
    console().print(Text.assemble(("✓ ", "green"), clean(text)))


def dumps(value: Any, *, indent: bool = True) -> str:
    """Return JSON text."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()


def show_json(value: Any) -> None:
    """Print one JSON value on stdout, exactly, without any colour or folding."""
    sys.stdout.write(dumps(value) + "\n")
    sys.stdout.flush()


def show_line(value: Any) -> None:
    """Print one JSON value on a line of its own."""
    sys.stdout.write(dumps(value, indent=False) + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows as a table, or `empty` when there are none."""
    lines = [[Text(_cell(value)) for value in row] for row in rows]
    if not lines:
        note(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console().print(table)


def show_items(
    items: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
    empty: str,
    *,
    as_json: bool,
) -> None:
    """Print a list as JSON, or as a table whose columns are fields of the items or made of them."""
    if as_json:
        show_json({"items": items})
        return
    rows = [
        [item.get(cell) if isinstance(cell, str) else cell(item) for cell in columns.values()]
        for item in items
    ]
    show_table(tuple(columns), rows, empty)


def show_fields(values: Mapping[str, object]) -> None:
    """Print one object as `name  value` lines."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        say(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and _TIME.match(value):
        return f"{value[:10]} {value[11:19]} UTC"
    if isinstance(value, list | tuple):
        return ", ".join(clean(item) for item in value) or "-"
    return clean(value)


def progress() -> Progress:
    """Return a progress display on stderr; it draws nothing when stderr is no terminal."""
    terminal = console(error=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
        transient=True,
    )


def report(error: errors.TrunklineError) -> ExitCode:
    """Print an error on stderr, and return the exit code it stands for."""
    terminal = console(error=True)
    terminal.print(Text.assemble(("error: ", "bold red"), redact_keys(clean(_summary(error)))))
    if isinstance(error, errors.Invalid):
        for field in error.fields:
            terminal.print(Text("  " + redact_keys(clean(field))))
    return exit_code(error)


def report_from_hub(error: errors.TrunklineError) -> ExitCode:
    """Print an error of a hub on stderr with the way out, and return the exit code it stands for."""
    code = report(error)
    for kind, way_out in _WAYS_OUT:
        if isinstance(error, kind):
            note(way_out, "dim")
    return code


def exit_code(error: errors.TrunklineError) -> ExitCode:
    """Return the exit code an error stands for."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), ExitCode.FAILED)


def _summary(error: errors.TrunklineError) -> str:
    if isinstance(error, errors.Invalid) and error.fields:
        return "The input is not valid:"
    if isinstance(error, errors.TooMany):
        return f"{error.message} Try again in {error.retry_after:g} s."
    return error.message
