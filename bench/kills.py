"""Kill the hub at full load, again and again, and look for every webhook it had accepted."""

import json
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from bench.hooks import body, hooked_hub, signed
from bench.load import Job
from bench.processes import Process
from bench.report import Figure, Report

_LOAD_SECONDS = 60.0
_CATCH_UP_SECONDS = 120.0


def run(*, quick: bool) -> Report:
    """Kill at moments that differ, then start once more, let everything be read, and compare."""
    rounds = 2 if quick else 20
    report = Report("kills", f"kill -9 at full load, {rounds} times", ("", "webhooks"))
    with tempfile.TemporaryDirectory() as folder, Process(["-m", "bench.load"]) as generator:
        place = Path(folder)
        generator.ask()
        accepted: list[str] = []
        for number in range(rounds):
            accepted += _accepted_until_killed(place, generator, 0.3 + 0.07 * (number % 10))
        with hooked_hub(place) as (_, _path):
            inbox, events = _stored(place / "hub" / "trunkline.db")
    report.rows = [("accepted", len(accepted)), ("stored", len(inbox)), ("read into events", len(events))]
    report.figures = [
        Figure("accepted webhooks that are not stored", len(set(accepted) - set(inbox)), "", 0),
        Figure("accepted webhooks without an event", len(set(accepted) - set(events)), "", 0),
        Figure("events that are there twice", len(events) - len(set(events)), "", 0),
    ]
    return report


def _accepted_until_killed(place: Path, generator: Process, seconds: float) -> list[str]:
    answers = place / "answers"
    content = body()
    with hooked_hub(place) as (server, path), ThreadPoolExecutor(1) as pool:
        job = Job(server.port, "POST", path, "", content, 202, 50, _LOAD_SECONDS, headers=signed(content))
        job = replace(job, keep_answers=str(answers))
        under_way = pool.submit(generator.ask, json.dumps(asdict(job)))
        time.sleep(seconds)
        server.process.kill()
        under_way.result(_LOAD_SECONDS)
    return [json.loads(line)["id"] for line in answers.read_bytes().splitlines()]


def _stored(path: Path) -> tuple[list[str], list[str]]:
    """Wait until everything was read, and return the ids of requests and, for each event, its request's."""
    ends_at = time.monotonic() + _CATCH_UP_SECONDS
    with closing(sqlite3.connect(path)) as database:
        while database.execute("SELECT count(*) FROM inbox WHERE read_at IS NULL").fetchone()[0]:
            if time.monotonic() > ends_at:
                raise RuntimeError("The hub does not catch up")
            time.sleep(0.1)
        inbox = [row[0] for row in database.execute("SELECT id FROM inbox")]
        events = [
            row[0] for row in database.execute("SELECT inbox_id FROM events WHERE inbox_id IS NOT NULL")
        ]
    return inbox, events
