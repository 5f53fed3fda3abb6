"""From the start of the process to its first answer, and the memory it idles with, beside a bare server's."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Process, free_port, seconds_until_answer, wait_for_file
from bench.report import Figure, Report, middle

_IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class _Start:
    first_answer: float
    signed_in: float
    memory: float = 0.0


def _start_hub(folder: Path, idle_seconds: float) -> _Start:
    """Start a hub as a person does, and ask for `/healthz`, then with its key for `/v1/auth/me`."""
    port, ready_file = free_port(), folder.parent / "ready.json"
    ready_file.unlink(missing_ok=True)
    arguments = ["-m", "trunkline", "up", "--data-dir", str(folder), "--port", str(port)]
    started = time.monotonic()
    with Process([*arguments, "--ready-file", str(ready_file)], folder.parent / "hub.log") as process:
        first = seconds_until_answer(process, port, "/healthz", started)
        key = wait_for_file(process, ready_file)["api_key"]
        signed_in = seconds_until_answer(process, port, "/v1/auth/me", started, key)
        time.sleep(idle_seconds)
        return _Start(first, signed_in, process.resident_mb())


def _start_bare(idle_seconds: float) -> _Start:
    """Start the bare proxy: the interpreter, the same server and client libraries, no product."""
    port = free_port()
    started = time.monotonic()
    with Process(["-m", "bench.proxy", "http://127.0.0.1:9", "unused", str(port)]) as process:
        first = seconds_until_answer(process, port, "/healthz", started)
        time.sleep(idle_seconds)
        return _Start(first, first, process.resident_mb())


def run(*, quick: bool) -> Report:
    """Start on a fresh and on an existing data directory."""
    columns = ("", "first answer s", "first answer to a key s", "idle MB")
    report = Report("startup", "process start to first answer; memory after some idle seconds", columns)
    rounds, idle = (1, 0.2) if quick else (3, 0.2)
    kinds: dict[str, list[_Start]] = {"hub, fresh": [], "hub, existing": [], "bare proxy": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "hub"
        if not quick:
            _start_hub(folder, 0.0)  # not counted: the first start ever also writes the bytecode
        for number in range(rounds):
            seconds = idle if quick or number else _IDLE_SECONDS
            shutil.rmtree(folder, ignore_errors=True)
            kinds["hub, fresh"].append(_start_hub(folder, 0.0))
            kinds["hub, existing"].append(_start_hub(folder, seconds))
            kinds["bare proxy"].append(_start_bare(seconds))
        memory = kinds["hub, existing"][0].memory
    for kind, starts in kinds.items():
        first = middle([start.first_answer for start in starts])
        report.rows.append((kind, first, middle([start.signed_in for start in starts]), starts[0].memory))
    worst = max(row[1] for row in report.rows[:2])
    report.figures = [
        Figure("start to first answer, the slower of fresh and existing", float(worst), "s", 2),
        Figure("idle memory", memory, "MB", 150),
    ]
    return report
