"""The processes of a benchmark: started, asked, watched, and ended whatever happens."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.load import Job, Result
from trunkline.settings import environment_for_child

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A child that is gone when the block ends."""

    def __init__(self, arguments: list[str], log: Path | None = None, **settings: str) -> None:
        self._log = log.open("ab") if log else None
        self._child = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=_environment(settings),
            start_new_session=True,  # Ctrl-C is for the parent, who then ends us
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def ask(self, line: str = "") -> dict[str, Any]:
        """Write a line, if there is one, and read the JSON line that answers it."""
        if line:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._child.args[1:3]} ended with {self._child.wait()}")
        return json.loads(answer)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._child.kill()
        self._child.wait()

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def cpu_seconds(self) -> float:
        """Return the processor time it has used, its own and the kernel's for it."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mb(self) -> float:
        """Return the memory it holds, in MB of 1,000,000 bytes."""
        for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("The kernel does not tell the memory in use")


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """Return a child's environment; bytecode is kept, as it is wherever nobody forbids it."""
    return {**environment_for_child(**settings), "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Server:
    """A process that answers on a port; `workspace_id` and `token` are a hub's."""

    process: Process
    port: int
    token: str = ""
    workspace_id: str = ""

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return its JSON; anything but a success ends the benchmark."""
        status, answer = request(self.port, method, path, token=self.token, body=body)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path} answered {status}: {answer[:500]!r}")
        return json.loads(answer) if answer else None


class Load:
    """The load generator's process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._process.ask()

    def run(self, job: Job) -> Result:
        """Do one job; any answer but the expected one ends the benchmark."""
        result = Result(**self._process.ask(json.dumps(asdict(job))))
        if result.errors or not result.requests:
            raise RuntimeError(f"{job.method} {job.path}: {result.requests} good answers, {result.errors}")
        return result


@contextlib.contextmanager
def load() -> Iterator[Load]:
    """Run the load generator."""
    with Process(["-m", "bench.load"]) as process:
        yield Load(process)


@contextlib.contextmanager
def program(name: str, *arguments: str) -> Iterator[Server]:
    """Run one of this package's servers."""
    with Process(["-m", f"bench.{name}", *arguments]) as process:
        yield Server(process, process.ask()["port"])


@contextlib.contextmanager
def hub(folder: Path, **settings: str) -> Iterator[Server]:
    """Run a hub with its defaults on a data directory, its log written to a file as a service's would be."""
    ready_file = folder / "bench-ready.json"
    ready_file.unlink(missing_ok=True)
    arguments = ["-m", "trunkline", "up", "--data-dir", str(folder), "--port", "0"]
    with Process(
        [*arguments, "--ready-file", str(ready_file)], folder.parent / "hub.log", **settings
    ) as process:
        ready = wait_for_file(process, ready_file)
        port = int(ready["url"].rpartition(":")[2])
        yield Server(process, port, ready["api_key"], ready["workspace_id"])


def wait_for_file(process: Process, path: Path, seconds: float = _START_SECONDS) -> dict[str, Any]:
    """Return the JSON of a ready file as soon as it is there."""
    ends_at = time.monotonic() + seconds
    while not path.exists():
        if not process.is_running or time.monotonic() > ends_at:
            raise RuntimeError(f"{path.name} was not written: the process did not start")
        time.sleep(0.005)
    return json.loads(path.read_text())


def request(port: int, method: str, path: str, *, token: str = "", body: Any = None) -> tuple[int, bytes]:
    """Send one request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def seconds_until_answer(process: Process, port: int, path: str, started: float, token: str = "") -> float:
    """Ask again and again until the answer is 200, and return the seconds since `started`."""
    while time.monotonic() - started < _START_SECONDS and process.is_running:
        with contextlib.suppress(OSError, HTTPException):
            if request(port, "GET", path, token=token)[0] == 200:
                return time.monotonic() - started
        time.sleep(0.002)
    raise RuntimeError(f"{path} did not answer in {_START_SECONDS:.0f} s")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
