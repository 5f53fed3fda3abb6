"""Syncing a fake's incidents into a versioned dataset, beside a bare loop; what a run costs that finds little new."""

import contextlib
import json
import tempfile
import time
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.processes import Process, Server, hub, wait_for_file
from bench.report import Figure, Report, middle
from trunkline.sandbox import scenario

_PAGE = 1_000
_CHANGED = 100
_FIELDS = (
    "number,sys_id,short_description,description,close_notes,close_code,state,category,contact_type,priority,"
    "impact,urgency,caller_id,assigned_to,assignment_group,opened_at,resolved_at,closed_at,sys_created_by,"
    "sys_created_on,sys_updated_by,sys_updated_on"
)
"""About 1 KB a record."""
_LARGEST_WAIT = 1_800.0


@dataclass(frozen=True)
class Timed:
    """One run as somebody saw it who watched: seconds until its last row was stored, and until it was live."""

    rows: int
    stored: float
    live: float
    peak_mb: float

    @property
    def per_second(self) -> float:
        return self.rows / self.stored


def run(*, quick: bool) -> Report:
    """Measure whole syncs by turns with the bare loop, then small ones, roll back, memory, supportbot."""
    count, few, many = (5_000, 1_000, 10_000) if quick else (100_000, 10_000, 1_000_000)
    report = Report("sync", f"{count:,} incidents of 1 KB in pages of {_PAGE:,}", ("", "rows/s", "seconds"))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with _sandbox(place, count) as fake:
            _against_the_loop(report, fake, place, rounds=1 if quick else 3)
        with _sandbox(place, few) as fake, _hub(place / "small", fake) as ours:
            _beside_supportbot(report, ours, fake, few)
        _small_and_large(report, place, few, many)
    return report


@contextlib.contextmanager
def _sandbox(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """Run the fake ticket system alone, with so many incidents."""
    ready = folder / f"sandbox-{count}.json"
    ready.unlink(missing_ok=True)
    arguments = ["-m", "trunkline", "sandbox", "--only", scenario.TICKETS, "--count", str(count)]
    with Process([*arguments, "--ready-file", str(ready)], folder / "sandbox.log") as process:
        yield wait_for_file(process, ready, seconds=120.0)[scenario.TICKETS]


@contextlib.contextmanager
def _hub(folder: Path, *fakes: dict[str, Any]) -> Iterator[Server]:
    folder.mkdir()
    allowed = ",".join(urlsplit(fake["url"]).netloc for fake in fakes)
    with hub(folder, egress_allow=allowed) as running:
        yield running


def _dataset(ours: Server, fake: dict[str, Any], name: str, stream: str = "incidents") -> str:
    """Make an integration and a dataset of its own; return the dataset's path."""
    values = {key: fake[key] for key in ("username", "password")}
    body = {"name": name, "display_name": name, "connector": scenario.TICKETS, "config": {"url": fake["url"]}}
    body["credentials"] = {"method": "password", "values": values}
    root = f"/v1/{ours.workspace_id}"
    made = ours.request("POST", f"{root}/integrations", body)
    wanted = {"name": name, "integration_id": made["id"], "stream": stream}
    wanted |= {"params": {"sysparm_fields": _FIELDS}} if stream == "incidents" else {}
    return f"{root}/datasets/{ours.request('POST', f'{root}/datasets', wanted)['id']}"


def _sync(ours: Server, path: str) -> Timed:
    """Sync, watching from the start."""
    started = time.monotonic()
    run_id = ours.request("POST", f"{path}/runs", {})["id"]
    rows, stored, peak = 0, 0.0, 0.0
    for kind, told in _stream(ours, "GET", f"{path}/runs/{run_id}/stream"):
        if kind == "error":
            raise RuntimeError(f"the run failed: {told}")
        if kind == "progress" and told["fetched"] != rows:
            rows, stored = told["fetched"], time.monotonic() - started
        peak = max(peak, ours.process.resident_mb())
    return Timed(rows, stored or time.monotonic() - started, time.monotonic() - started, peak)


def _stream(ours: Server, method: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream until it ends."""
    connection = HTTPConnection("127.0.0.1", ours.port, timeout=_LARGEST_WAIT)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {ours.token}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {answer.read()[:500]!r}")
        kind = ""
        for line in answer:
            name, _, value = line.decode().strip().partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)
    finally:
        connection.close()


def _against_the_loop(report: Report, fake: dict[str, Any], place: Path, *, rounds: int) -> None:
    """Sync everything by turns with the loop, each time into a new hub; then again, with little changed."""
    shares, speeds, loops, waits, again, backs = [], [], [], [], [], []
    with Process(["-m", "bench.loop"]) as loop:
        for number in range(rounds):
            job = {**fake, "file": str(place / f"loop-{number}.db"), "page": _PAGE, "fields": _FIELDS}
            bare = loop.ask(json.dumps(job))
            with _hub(place / f"whole-{number}", fake) as ours:
                path = _dataset(ours, fake, "whole")
                timed = _sync(ours, path)
                _change(fake, _CHANGED)
                again.append(_sync(ours, path).live)
                backs.append(_roll_back(ours, path))
            if timed.rows != bare["rows"]:
                raise RuntimeError(f"{timed.rows} rows were synced, {bare['rows']} are there")
            loops.append(bare["rows"] / bare["seconds"])
            speeds.append(timed.per_second)
            shares.append(timed.per_second / loops[-1] * 100)
            waits.append((timed.live - timed.stored) / timed.stored)
    report.rows.append(("bare loop", middle(loops), timed.rows / middle(loops)))
    report.rows.append(("into a dataset", middle(speeds), timed.rows / middle(speeds)))
    share, wait = middle(shares), middle(waits)
    report.figures += [
        Figure("rows per second, share of the bare loop", share, "%", 60, at_least=True),
        Figure("from the last row to live with its index, times the sync", wait, "x", 1),
        Figure(f"a run that finds {_CHANGED} changed rows", middle(again), "s", 0.3),
        Figure("roll back, and a first read", middle(backs), "s", 1),
    ]


def _roll_back(ours: Server, path: str) -> float:
    started = time.monotonic()
    ours.request("POST", f"{path}/versions/1/rollback", {})
    ours.request("GET", f"{path}/records?limit=1")
    return time.monotonic() - started


def _change(fake: dict[str, Any], count: int) -> None:
    """Change so many incidents at the source."""
    place = urlsplit(fake["url"])
    pair = b64encode(f"{fake['username']}:{fake['password']}".encode()).decode()
    headers = {
        "Authorization": f"Basic {pair}",
        "Accept": "application/json",
        "Content-Type": "application/json",
    }
    connection = HTTPConnection(place.netloc)
    table = f"{place.path}/api/now/table/incident"
    connection.request("GET", f"{table}?sysparm_limit={count}&sysparm_fields=sys_id", headers=headers)
    for record in scenario.records(json.loads(connection.getresponse().read())):
        body = json.dumps({"short_description": f"Changed at {time.time()}"})
        connection.request("PATCH", f"{table}/{record['sys_id']}", body, headers)
        answer = connection.getresponse()
        if answer.read() and answer.status != 200:
            raise RuntimeError(f"an incident could not be changed: {answer.status}")
    connection.close()


def _small_and_large(report: Report, place: Path, few: int, many: int) -> None:
    """Compare a run that finds little new, and the memory, at few and at many rows."""
    again, peaks = [], []
    with contextlib.ExitStack() as stack:
        fakes = [stack.enter_context(_sandbox(place, count)) for count in (few, many)]
        ours = stack.enter_context(_hub(place / "sizes", *fakes))
        for fake, count in zip(fakes, (few, many), strict=True):
            path = _dataset(ours, fake, f"of-{count}")
            whole = _sync(ours, path)
            peaks.append(whole.peak_mb)
            rounds = []
            for _ in range(3):
                _change(fake, _CHANGED)
                rounds.append(_sync(ours, path).live)
            again.append(middle(rounds))
            report.rows.append((f"{count:,} rows", whole.per_second, whole.stored))
            report.rows.append((f"{count:,} rows again, {_CHANGED} changed", 0, again[-1]))
    name = f"{_CHANGED} changed of {many:,}, times that of {few:,}"
    report.figures.append(Figure(name, again[1] / again[0], "x", 2))
    report.figures.append(
        Figure(f"memory at {many:,} rows, more than at {few:,}", peaks[1] - peaks[0], "MB", 50)
    )


def _beside_supportbot(report: Report, ours: Server, fake: dict[str, Any], count: int) -> None:
    """Compare the stream of another wire format, five records a frame, with the native one."""
    for name in ("warm", "native"):
        native = _sync(ours, _dataset(ours, fake, name, "incident_records"))
    config = {key: fake[key] for key in ("url", "username", "password")}
    body = {"service_name": "ServiceNow", "auth_type": "basic_auth", "config": config, "is_active": True}
    made = ours.request("POST", "/as/supportbot/integrations/create", body)["integration"]
    started = time.monotonic()
    path = f"/as/supportbot/integrations/sync/{made['id']}"
    kind, told = deque(_stream(ours, "POST", path), maxlen=1)[0]
    seconds = time.monotonic() - started
    if kind != "complete" or told["stats"]["total"] != count:
        raise RuntimeError(f"supportbot's sync ended with {kind}: {told}")
    report.rows.append(("native stream, live", count / native.live, native.live))
    report.rows.append(("supportbot, 5 a frame", count / seconds, seconds))
    share = native.live / seconds * 100
    report.figures.append(
        Figure("supportbot's rows per second, share of native", share, "%", 50, at_least=True)
    )
