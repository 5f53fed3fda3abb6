"""Durable one-row writes through HTTP on SQLite, beside a bare handler with group commit by hand."""

import tempfile
from pathlib import Path

from bench.load import Job
from bench.processes import hub, load, program
from bench.report import Figure, Report
from bench.rounds import COLUMNS, Side, alternate, ratio

_BODY = '{"name":"ops-{n}","display_name":"Ops on-call bridge","base_url":"https://oncall.ops.example"}'


def run(*, quick: bool) -> Report:
    """Create integrations at concurrency 50."""
    report = Report("writes", "durable single-row writes, SQLite, synchronous=FULL, concurrency 50", COLUMNS)
    rounds, seconds = (1, 0.6) if quick else (7, 2.5)
    with tempfile.TemporaryDirectory() as folder, load() as generator:
        place = Path(folder)
        with (
            hub(place / "hub") as ours,
            program("writer", str(place / "bare.db"), "sqlite3") as bare,
            program("writer", str(place / "core.db"), "core") as core,
        ):

            def job(port: int, path: str, token: str = "") -> Job:
                return Job(port, "POST", path, token, _BODY, 201, 50, seconds)

            sides = [
                Side(
                    "hub", job(ours.port, f"/v1/{ours.workspace_id}/integrations", ours.token), ours.process
                ),
                Side("bare handler, sqlite3 by hand", job(bare.port, "/integrations"), bare.process),
                Side("bare handler, SQLAlchemy Core", job(core.port, "/integrations"), core.process),
            ]
            measured = alternate(generator, sides, rounds)
    report.rows = [side.row() for side in measured]
    shares = [ratio(measured[0], other, lambda result: result.per_second) * 100 for other in measured[1:]]
    report.figures = [
        Figure("writes per second, share of the bare handler's", shares[0], "%", 60, at_least=True),
        Figure("share of the bare handler's with SQLAlchemy Core", shares[1], "%"),
    ]
    return report
