"""Webhooks taken in: 2 KB, HMAC verified, one row durable before the answer, beside a bare handler of the same.

The hub does everything it always does: it logs, and reads what came in into events meanwhile.
"""

import contextlib
import hashlib
import hmac
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.load import Job
from bench.processes import Server, hub, load, program
from bench.report import Figure, Report
from bench.rounds import COLUMNS, Side, alternate, ratio

SECRET = "bench-signing-secret"
_BODY_BYTES = 2048
_CONNECTOR = """\
name: Bench
base_url: "https://bench.example"
auth: {none: {type: none}}
endpoints:
  ping: {description: Ping., path: /ping}
webhook:
  description: Nowhere.
  secrets: {signing_key: {label: Signing key, optional: true}}
  verify:
    signature: {type: hmac, secret: signing_key, header: x-bench-signature, prefix: "sha256="}
events:
  - when: {payload.action: "*"}
    type: "bench.{payload.action}"
    title: "{payload.data.title}"
    subject: "{payload.data.id}"
    severity: high
"""


def body() -> str:
    """Return a webhook's body of 2 KB."""
    value = {"action": "created", "data": {"id": "INC-1", "title": "Disk full on db-03", "details": ""}}
    value["data"]["details"] = "x" * (_BODY_BYTES - len(json.dumps(value)))
    return json.dumps(value)


def signed(content: str) -> dict[str, str]:
    """Return the headers that sign it."""
    return {
        "X-Bench-Signature": "sha256="
        + hmac.new(SECRET.encode(), content.encode(), hashlib.sha256).hexdigest()
    }


@contextlib.contextmanager
def hooked_hub(folder: Path) -> Iterator[tuple[Server, str]]:
    """Run a hub with an integration that takes these webhooks; give its address, the same at every start."""
    connectors = folder / "connectors"
    connectors.mkdir(exist_ok=True)
    (connectors / "bench.yaml").write_text(_CONNECTOR)
    with hub(folder / "hub", connectors_dir=str(connectors)) as server:
        place = f"/v1/{server.workspace_id}/integrations"
        found = server.request("GET", f"{place}?connector=bench")["items"]
        credentials = {"method": "none", "values": {"signing_key": SECRET}}
        wanted = {"name": "bench", "display_name": "Bench", "connector": "bench", "credentials": credentials}
        made = found[0] if found else server.request("POST", place, wanted)
        yield server, server.request("GET", f"{place}/{made['id']}/hook")["path"]


def run(*, quick: bool) -> Report:
    """Measure at full speed, then at an even half of that."""
    report = Report("hooks", "durable webhooks of 2 KB, HMAC verified, SQLite, synchronous=FULL", COLUMNS)
    rounds, seconds = (1, 1.0) if quick else (7, 3.0)
    content = body()
    headers = signed(content)
    with tempfile.TemporaryDirectory() as folder, load() as generator:
        place = Path(folder)
        with (
            hooked_hub(place) as (ours, path),
            program("writer", str(place / "bare.db"), "sqlite3", SECRET) as bare,
        ):

            def job(port: int, rate: float = 0) -> Job:
                return Job(
                    port, "POST", path, "", content, 202, 50, seconds, headers=headers, per_second=rate
                )

            sides = [
                Side("hub, concurrency 50", job(ours.port), ours.process),
                Side("bare handler, concurrency 50", job(bare.port), bare.process),
            ]
            measured = alternate(generator, sides, rounds)
            half = measured[0].per_second / 2
            evenly = [
                Side("hub, at an even half of that", job(ours.port, half), ours.process),
                Side("bare handler, at the same rate", job(bare.port, half), bare.process),
            ]
            paced = alternate(generator, evenly, rounds)
    report.rows = [side.row() for side in (*measured, *paced)]
    share = ratio(measured[0], measured[1], lambda result: result.per_second) * 100
    report.figures = [
        Figure("webhooks per second, share of the bare handler's", share, "%", 60, at_least=True),
        Figure("p99 at half the rate", paced[0].p99_ms, "ms", 100),
    ]
    return report
