"""Deliveries: how many a second, what waiting ones cost, and whether a storm to a dead target delays others."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import Process, Server, free_port, program
from bench.report import Figure, Report

_HOOKS_PER_SECOND = 5_000
"""How fast a storm comes in: about what durable hooks take on two cores."""
_AT_ONCE = 8


class _Courier:
    """Asks the courier, and waits for its answer."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def do(self, what: str, **more: Any) -> dict[str, Any]:
        return self.process.ask(json.dumps({"do": what, **more}))

    def wait_for(self, state: str, count: int, seconds: float = 300.0) -> None:
        ends_at = time.monotonic() + seconds
        while self.do("states").get(state, 0) < count:
            if time.monotonic() > ends_at:
                raise RuntimeError(f"{count} deliveries were never {state}: {self.do('states')}")
            time.sleep(0.2)


@contextmanager
def _courier() -> Iterator[_Courier]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Process(["-m", "bench.courier", str(Path(folder) / "data")]) as process,
    ):
        process.ask()
        yield _Courier(process)


def _url(server: Server, number: int = 0) -> str:
    return f"http://127.0.0.1:{server.port}/{number}"


def run(*, quick: bool) -> Report:
    """Measure speed, memory, and a storm to a target that refuses and to one that hangs."""
    report = Report(
        "deliveries",
        "signed webhooks from the log to their receiver",
        ("", "per second", "p50 s", "p99 s", "MB added"),
    )
    _speed(report, quick=quick)
    _memory(report, quick=quick)
    for kind in ("refuses", "hangs"):
        _storm(report, kind, quick=quick)
    return report


def _speed(report: Report, *, quick: bool) -> None:
    count = 500 if quick else 10_000
    with program("receiver", "take") as taking:
        with Process(["-m", "bench.poster", _url(taking), str(count), str(_AT_ONCE)]) as poster:
            bare = poster.ask()["per_second"]
        report.rows.append((f"bare client, {_AT_ONCE} at once", bare, "", "", ""))
        for targets in (1, 16):
            taking.process.ask("from now")
            with _courier() as courier:
                for number in range(targets):
                    courier.do("route", event_type="calm.*", url=_url(taking, number))
                courier.do("append", event_type="calm.one", count=count // targets, per_second=1e9)
                courier.wait_for("delivered", count // targets * targets)
            came = taking.process.ask("tell")
            ours = came["count"] / max(came["last"] - came["first"], 0.001)
            report.rows.append((f"hub, {targets} targets", ours, *_ages(came), ""))
            if targets == 1:
                report.figures.append(Figure("deliveries a second to one target", ours, "/s"))


def _memory(report: Report, *, quick: bool) -> None:
    count = 1_000 if quick else 10_000
    with program("receiver", "take") as taking, program("receiver", "hang") as hanging, _courier() as courier:
        courier.do("route", event_type="calm.*", url=_url(taking))
        courier.do("route", event_type="storm.*", url=_url(hanging))
        courier.do("append", event_type="calm.one", count=count, per_second=1e9)
        courier.wait_for("delivered", count)
        courier.do("append", event_type="storm.one", count=64, per_second=1e9)
        time.sleep(1)
        before = courier.process.resident_mb()
        courier.do("append", event_type="storm.one", count=count, per_second=_HOOKS_PER_SECOND)
        courier.wait_for("pending", count)
        time.sleep(1 if quick else 5)
        added = courier.process.resident_mb() - before
    report.rows.append((f"{count:,} pending", "", "", "", added))
    report.figures.append(Figure(f"memory that {count:,} pending deliveries add", added, "MB", 20))


def _storm(report: Report, kind: str, *, quick: bool) -> None:
    count = 2_000 if quick else 50_000
    with program("receiver", "take") as taking, program("receiver", "hang") as hanging, _courier() as courier:
        dead = _url(hanging) if kind == "hangs" else f"http://127.0.0.1:{free_port()}/0"
        courier.do("route", event_type="calm.*", url=_url(taking))
        courier.do("route", event_type="storm.*", url=dead)
        done = courier.do(
            "storm", count=count, per_second=_HOOKS_PER_SECOND, after_seconds=1 if quick else 40
        )
        courier.wait_for("delivered", done["calm"])
        came = taking.process.ask("tell")
    rate = count / done["seconds"]
    report.rows.append((f"beside a storm to a target that {kind}", rate, *_ages(came), ""))
    p99 = came["ages"][int(len(came["ages"]) * 0.99)]
    report.figures.append(Figure(f"p99 beside {count:,} events to a target that {kind}", p99, "s", 2))


def _ages(came: dict[str, Any]) -> tuple[float, float]:
    ages = came["ages"]
    return ages[len(ages) // 2], ages[int(len(ages) * 0.99)]
