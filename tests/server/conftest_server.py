"""A hub as a process of its own, over a real socket."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DEADLINE_SECONDS = 20


@dataclass
class Process:
    """A running hub."""

    popen: subprocess.Popen[bytes]
    url: str
    workspace_id: str
    api_key: str

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request; `{ws}` is the workspace. Returns status and parsed body."""
        data = None if body is None else json.dumps(body).encode()
        target = self.url + path.replace("{ws}", self.workspace_id)
        request = urllib.request.Request(
            target, data, {"authorization": f"Bearer {self.api_key}", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def stream(self, path: str) -> Iterator[str]:
        """Read the lines of an answer that goes on, to its end."""
        target = self.url + path.replace("{ws}", self.workspace_id)
        request = urllib.request.Request(target, headers={"authorization": f"Bearer {self.api_key}"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            for line in reply:
                yield line.decode().rstrip()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(_DEADLINE_SECONDS)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(_DEADLINE_SECONDS)


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start hubs on one data directory; every one is gone at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(ready_file: Path | None = None, **environment: str) -> Process:
        path = ready_file or tmp_path / "ready.json"
        before = path.stat().st_mtime_ns if path.exists() else 0
        popen = subprocess.Popen(up_command(tmp_path / "data", path), env=clean_environment(**environment))
        running.append(popen)
        wait_for_file(path, before, popen)
        return Process(popen, **json.loads(path.read_text()))

    yield start
    for popen in running:
        with contextlib.suppress(ProcessLookupError):
            popen.kill()
        popen.wait()


def up_command(data_dir: Path, ready_file: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "trunkline", "up", "--data-dir", str(data_dir)),
        *("--port", "0", "--ready-file", str(ready_file)),
        *more,
    ]


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TRUNKLINE_")}
    return kept | more


def wait_for_file(path: Path, before: int, popen: subprocess.Popen[bytes]) -> None:
    """Wait until a file is newer than `before`, looking again every 20 ms; the process must live."""
    for _ in range(_DEADLINE_SECONDS * 50):
        if path.exists() and path.stat().st_mtime_ns > before:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(0.02)
        assert popen.returncode is None, f"the hub ended with {popen.returncode}"
    raise AssertionError("the hub did not get ready")
