"""The real thing: `demo`, `up` and `sandbox` as processes, as a person or a script starts them."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from cli_fake_hub import Run

from trunkline.client import Trunkline

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]
TRUNKLINE = [sys.executable, "-P", "-m", "trunkline"]
REAL_LOG = Path(__file__).resolve().parents[2] / "../shared/data/servicenow_incident_log.csv"
SECONDS = 60
STAGE_TITLES = ("raw response", "after response_filter", "after response_mapping", "final result")


def _run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRUNKLINE, *words], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@contextlib.contextmanager
def _started(*words: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*TRUNKLINE, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _await_file(path: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    give_up_at = time.monotonic() + SECONDS
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return json.loads(path.read_text())


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_the_demo_does_its_job_and_ends(tmp_path: Path) -> None:
    done = _run("demo", "--exit", "--count", "300", "--port", "0", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "read all 300 distinct incidents" in done.stdout
    assert re.search(r"from INC\d+: Opened #\d+", done.stdout)
    assert [title for title in STAGE_TITLES if f"─ {title} ─" in done.stdout] == list(STAGE_TITLES)
    assert re.search(r"HTTP 200 in [\d.]+ ms, 1 retry\n", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_reads_a_whole_incident_log(tmp_path: Path) -> None:
    if not REAL_LOG.exists():
        pytest.skip("the real incident log is not beside this checkout")
    done = _run("demo", "--exit", "--incidents", str(REAL_LOG), "--port", "0", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "read all 890 distinct incidents" in done.stdout


def test_the_demo_stays_until_ctrl_c_and_starts_again_on_its_data(tmp_path: Path) -> None:
    words = ("demo", "--count", "20", "--port", "0", "--data-dir", "kept")
    first = _run(*words, "--exit", folder=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    with _started(*words, folder=tmp_path) as demo:
        lines = []
        for line in demo.stdout or ():
            lines.append(line)
            if "Ctrl-C" in line:
                break
        ready = json.loads((tmp_path / "kept" / "ready.json").read_text())
        assert any(ready["api_key"] in line for line in lines), "".join(lines)
        with urlopen(f"{ready['url']}/healthz") as answer:
            assert answer.status == 200
        demo.send_signal(signal.SIGINT)
        assert demo.wait(SECONDS) == 0
    assert not _answers(ready["url"])


def test_a_demo_whose_hub_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run("demo", "--exit", "--count", "1", "--port", port, folder=tmp_path)
    assert done.returncode != 0
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--count", "0"), "at least one"),
        (("--incidents", "absent.csv"), "does not exist"),
        (("--incidents", "bad.csv"), "no incidents"),
        (("--incidents", "bad.csv", "--count", "3"), "not both"),
    ],
)
def test_a_demo_of_nothing_is_bad_input(
    trunkline: Run, tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    result = trunkline("demo", "--exit", *words)
    assert (result.exit_code, text in result.stderr) == (2, True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A sandbox and a hub that may reach it: the hub's data directory, and what the sandbox says of itself."""
    folder = tmp_path_factory.mktemp("running")
    sandbox_words = ("sandbox", "--port", "0", "--count", "30", "--ready-file", "sandbox.json")
    with _started(*sandbox_words, folder=folder) as sandbox:
        services = _await_file(folder / "sandbox.json", sandbox)
        allow = urlsplit(services["control_url"]).netloc
        hub_words = ("up", "--data-dir", "data", "--port", "0", "--ready-file", "hub.json")
        with _started(*hub_words, folder=folder, TRUNKLINE_EGRESS_ALLOW=allow) as hub:
            _await_file(folder / "hub.json", hub)
            yield folder / "data", services


@pytest.fixture
def real(running: tuple[Path, dict[str, Any]], trunkline: Run) -> Run:
    """The command line, talking to the running hub."""
    return lambda *words, **options: trunkline(*words, "--data-dir", str(running[0]), **options)


def _connect(real: Run, services: dict[str, Any], name: str, password: str = "-") -> Any:
    fake = services["servicenow"]
    words = [
        "--connector",
        "servicenow",
        "--name",
        name,
        "--config",
        f"url={fake['url']}",
        "--method",
        "password",
    ]
    secrets = ["--credential", f"username={fake['username']}", "--credential", f"password={password}"]
    return real("integration", "create", *words, *secrets, input=f"{fake['password']}\n")


def test_an_integration_is_made_tested_called_and_deleted(
    real: Run, running: tuple[Path, dict[str, Any]]
) -> None:
    services = running[1]
    assert _connect(real, services, "now").exit_code == 0
    assert real("integration", "test", "now").exit_code == 0
    result = real("call", "now", "list_incidents", "sysparm_limit=3", "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, len(answer["data"]["result"])) == (0, 3)
    assert real("connector", "try", "now", "list_users").exit_code == 0
    assert real("integration", "delete", "now", "--yes").exit_code == 0
    assert real("call", "now", "list_incidents").exit_code == 5


def test_a_wrong_password_fails_and_is_not_shown(real: Run, running: tuple[Path, dict[str, Any]]) -> None:
    _connect(real, running[1], "wrong", password="hunter2-hunter2")
    tested = real("integration", "test", "wrong")
    called = real("call", "wrong", "list_incidents", "--trace")
    assert (tested.exit_code, called.exit_code) == (1, 1)
    assert "auth_failed" in tested.stdout
    assert "hunter2" not in tested.output + called.output


def test_a_parameter_that_the_schema_refuses_is_bad_input(
    real: Run, running: tuple[Path, dict[str, Any]]
) -> None:
    _connect(real, running[1], "strict")
    result = real("call", "strict", "list_incidents", "sysparm_limit=0")
    assert (result.exit_code, "sysparm_limit" in result.stderr) == (2, True)


def test_the_master_key_rotates_while_calls_go_on(real: Run, running: tuple[Path, dict[str, Any]]) -> None:
    data, services = running
    assert _connect(real, services, "steady").exit_code == 0
    before = (data / "master.key").read_text()
    stop, calls = threading.Event(), []
    caller = threading.Thread(target=lambda: calls.extend(asyncio.run(_call_until(data, stop))))
    caller.start()
    rotated = real("key", "rotate", "--json")
    stop.set()
    caller.join()
    report = json.loads(rotated.stdout)
    assert (rotated.exit_code, report["new_master_key"], report["secrets_unreadable"]) == (0, True, 0)
    assert report["secrets_resealed"] >= 2
    assert (data / "master.key").read_text() != before
    assert len(calls) > 10
    assert set(calls) == {200}


async def _call_until(data: Path, stop: threading.Event) -> list[int]:
    ready = json.loads((data / "ready.json").read_text())
    async with Trunkline(ready["url"], ready["api_key"]) as hub:
        return [
            (await hub.call("steady", "list_users", {"sysparm_limit": 1}))["status_code"]
            async for _ in _until(stop)
        ]


async def _until(stop: threading.Event) -> Any:
    while not stop.is_set():
        yield


def test_a_key_made_by_the_command_line_opens_the_hub(
    real: Run, running: tuple[Path, dict[str, Any]]
) -> None:
    key = real("key", "create", "--role", "viewer", "--days", "1").stdout.strip()
    assert real("integration", "list", "--api-key", key).exit_code == 0
    words = ("integration", "create", "--name", "mine", "--connector", "http")
    assert real(*words, "--config", "url=https://x.example", "--api-key", key).exit_code == 4


def test_the_doctor_finds_the_running_hub_well(real: Run) -> None:
    result = real("doctor", "--json")
    levels = {item["check"]: item["level"] for item in json.loads(result.stdout)["findings"]}
    assert (levels["hub"], levels["version"], levels["database"], levels["API key"]) == ("ok",) * 4


def test_init_makes_a_workspace_once(trunkline: Run, tmp_path: Path) -> None:
    first = json.loads(trunkline("init", "--data-dir", "data", "--json").stdout)
    second = json.loads(trunkline("init", "--data-dir", "data", "--json").stdout)
    assert (first["new"], second["new"]) == (True, False)
    assert first["workspace_id"] == second["workspace_id"]
    assert stat.S_IMODE((tmp_path / "data" / "ready.json").stat().st_mode) == 0o600


def test_up_refuses_to_listen_beyond_loopback_without_a_master_key(tmp_path: Path) -> None:
    done = _run("up", "--host", "0.0.0.0", "--port", "0", folder=tmp_path)
    assert done.returncode != 0
    assert "TRUNKLINE_MASTER_KEY" in done.stderr


@pytest.mark.parametrize("words", [("--only", "nope"), ("--count", "3000000")])
def test_a_sandbox_of_something_unknown_is_bad_input(trunkline: Run, words: tuple[str, ...]) -> None:
    assert trunkline("sandbox", *words).exit_code == 2


def test_a_sandbox_over_tls_names_its_authority(tmp_path: Path) -> None:
    words = (
        "sandbox",
        "--port",
        "0",
        "--count",
        "1",
        "--tls",
        "--only",
        "pagerduty",
        "--ready-file",
        "r.json",
    )
    with _started(*words, folder=tmp_path) as sandbox:
        ready = _await_file(tmp_path / "r.json", sandbox)
        assert ready["pagerduty"]["url"].startswith("https://")
        assert Path(ready["ca_file"]).exists()
        sandbox.send_signal(signal.SIGTERM)
        assert sandbox.wait(SECONDS) == 0
