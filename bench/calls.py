"""Endpoint calls through the whole native path, beside a bare proxy to the same upstream."""

import json
import tempfile
from pathlib import Path
from typing import Any

from bench.load import Job
from bench.processes import Server, hub, load, program
from bench.report import Figure, Report
from bench.rounds import COLUMNS, Measured, Side, alternate, ratio
from bench.upstream import PATH, TOKEN

_PARAMS = {
    "team_id": "storage-oncall",
    "title": "Disk full on db-03",
    "urgency": "high",
    "service_id": "PSVC001",
    "tags": ["disk", "postgresql"],
    "replicas": 3,
}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_SCHEMA = {
    "type": "object",
    "properties": {
        "team_id": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
        "title": _TEXT,
        "urgency": {"enum": ["low", "high"]},
        "service_id": _TEXT,
        "tags": {"type": "array", "items": _TEXT, "maxItems": 20},
        "replicas": {"type": "integer", "minimum": 0},
    },
    "required": ["team_id", "title", "urgency"],
    "additionalProperties": False,
}
_KEPT = ("id", "number", "title", "status", "urgency", "created_at", "service.name", "alert_counts.all")


def integration(upstream_port: int) -> dict[str, Any]:
    """Describe the integration that is called."""
    endpoint = {
        "name": "open_incident",
        "description": "Open an incident for a team.",
        "path": PATH,
        "input_schema": _SCHEMA,
        "response_filter": [*(f"incident.{path}" for path in _KEPT), "incident.assignments[].assignee.name"],
        "response_mapping": {
            "id": "incident.id",
            "title": "incident.title",
            "state": "incident.status",
            "service": "incident.service.name",
            "assignees": "incident.assignments[].assignee.name",
            "alerts": "incident.alert_counts.all",
        },
    }
    return {
        "name": "oncall",
        "display_name": "On-call service",
        "base_url": f"http://127.0.0.1:{upstream_port}",
        "auth": {"type": "bearer_token", "bearer_token_value": {"value": TOKEN}},
        "endpoints": [endpoint],
    }


def call_job(server: Server, upstream_port: int) -> Job:
    """Create the integration and return the job that calls it."""
    made = server.request("POST", f"/v1/{server.workspace_id}/integrations", integration(upstream_port))
    path = f"/v1/{server.workspace_id}/integrations/{made['id']}/endpoints/open_incident/call"
    answer = server.request("POST", path, {"params": _PARAMS})
    if answer["data"]["state"] != "triggered" or len(answer["data"]["assignees"]) != 6:
        raise RuntimeError(f"The endpoint's pipeline did not run: {answer}")
    return Job(server.port, "POST", path, server.token, json.dumps({"params": _PARAMS}))


def _proxy_job(server: Server) -> Job:
    return Job(server.port, "POST", "/call", body=json.dumps({"params": _PARAMS}))


def run(*, quick: bool) -> Report:
    """Measure at concurrency 50 and 1."""
    report = Report("calls", "an endpoint call, native path against a bare proxy, 2 KB answers", COLUMNS)
    with tempfile.TemporaryDirectory() as folder, program("upstream") as upstream, load() as generator:
        url = f"http://127.0.0.1:{upstream.port}"
        with (
            hub(Path(folder) / "hub", egress_allow=f"127.0.0.1:{upstream.port}") as ours,
            program("proxy", url, TOKEN, "0") as bare,
        ):
            pair = (("hub", call_job(ours, upstream.port), ours), ("bare proxy", _proxy_job(bare), bare))
            found: dict[int, list[Measured]] = {}
            for connections, rounds, seconds in _plan(quick=quick):
                sides = [
                    Side(f"{name}, concurrency {connections}", _at(job, connections, seconds), server.process)
                    for name, job, server in pair
                ]
                found[connections] = alternate(generator, sides, rounds)
                report.rows += [measured.row() for measured in found[connections]]
            memory = ours.process.resident_mb()
    report.figures = _figures(found[50], found[1], memory)
    return report


def _plan(*, quick: bool) -> tuple[tuple[int, int, float], ...]:
    return ((50, 1, 0.7), (1, 1, 0.4)) if quick else ((50, 7, 3.0), (1, 5, 2.0))


def _at(job: Job, connections: int, seconds: float) -> Job:
    return Job(job.port, job.method, job.path, job.token, job.body, 200, connections, seconds)


def _figures(busy: list[Measured], alone: list[Measured], memory: float) -> list[Figure]:
    share = ratio(busy[0], busy[1], lambda result: result.per_second) * 100
    pairs = zip(alone[0].results, alone[1].results, strict=True)
    added = sorted(mine.p50_ms - theirs.p50_ms for mine, theirs in pairs)
    return [
        Figure("calls per second, share of the bare proxy's, concurrency 50", share, "%", 50, at_least=True),
        Figure(
            "server CPU per call, share of what the bare proxy leaves", busy[1].cpu / busy[0].cpu * 100, "%"
        ),
        Figure("added p50 at concurrency 1", added[len(added) // 2], "ms", 1.5),
        Figure("memory of the hub afterwards", memory, "MB"),
    ]
