"""Show one call: its result, its four stages, and what was exchanged with the service."""

from collections.abc import Mapping
from typing import Any

import orjson
from rich.panel import Panel
from rich.text import Text

from trunkline.cli import output

STAGES = {
    "raw_response": "raw response",
    "after_filter": "after response_filter",
    "after_mapping": "after response_mapping",
    "final_result": "final result",
}
_PANEL_WIDTH = 100
_EXCHANGE_COLUMNS = ("purpose", "method", "url", "status", "ms", "error")


def show_result(answer: Mapping[str, Any]) -> None:
    """Print what a call returned on stdout, and one line about it on stderr."""
    final = answer.get("final_result")
    value = answer.get("data") if final is None else _parsed(final)
    output.console().print(Text(output.clean(value if isinstance(value, str) else output.dumps(value))))
    output.note(summary(answer), "dim")


def show_stages(answer: Mapping[str, Any], *, lines: int | None = None) -> None:
    """Print the value after each stage, each cut to `lines` lines, and status, time and retries."""
    terminal = output.console()
    for name, title in STAGES.items():
        value = answer.get(name)
        text = value if isinstance(value, str) else output.dumps(value)
        shown = Text(_cut(output.clean(text), lines))
        width = min(terminal.width, _PANEL_WIDTH)
        terminal.print(Panel(shown, title=title, title_align="left", width=width))
    output.say(summary(answer), "red" if answer.get("error") else "green")


def show_exchanges(trace: Mapping[str, Any]) -> None:
    """Print each request that was sent, the token calls too, in order."""
    rows = [_exchange(item) for item in trace.get("exchanges") or []]
    output.show_table(_EXCHANGE_COLUMNS, rows, "Nothing was sent.")


def _exchange(item: Mapping[str, Any]) -> tuple[object, ...]:
    request, response = item.get("request") or {}, item.get("response") or {}
    return (
        item.get("purpose"),
        request.get("method"),
        request.get("url"),
        response.get("status"),
        _milliseconds(item.get("duration_ms")),
        item.get("error"),
    )


def summary(answer: Mapping[str, Any]) -> str:
    """Return `HTTP 200 in 84 ms, 1 retry`, or why there was no answer."""
    retries = answer.get("retries") or 0
    status = answer.get("status_code")
    words = [f"HTTP {status}" if status else "no answer", f"in {_milliseconds(answer.get('duration_ms'))} ms"]
    text = f"{' '.join(words)}, {retries} {'retry' if retries == 1 else 'retries'}"
    return f"{text}: {answer['error']}" if answer.get("error") else text


def _milliseconds(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "-"


def _parsed(text: Any) -> Any:
    """Return JSON objects and lists as such, so that they print indented; everything else as it is."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) else text


def _cut(text: str, lines: int | None) -> str:
    found = text.splitlines()
    if lines is None or len(found) <= lines:
        return text
    return "\n".join([*found[:lines], f"… {len(found) - lines} more lines"])
