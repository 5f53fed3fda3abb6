"""Listing 100 integrations of 100,000, beside listing 100 of 100."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.load import Job
from bench.processes import Server, hub, load
from bench.report import Figure, Report
from bench.rounds import COLUMNS, Side, alternate, ratio
from trunkline.catalog.endpoint import AuthConfigWithSecrets, EndpointConfig
from trunkline.http import server
from trunkline.ids import new_id
from trunkline.services import drafts
from trunkline.settings import Settings
from trunkline.tables import integrations

_CHUNK = 5_000
_SYSTEMS = ("orders", "billing", "search", "identity", "shipping", "catalogue", "ledger", "notify")


def _draft() -> drafts.Draft:
    schema = {
        "type": "object",
        "properties": {"incident_id": {"type": "string"}, "note": {"type": "string", "maxLength": 2000}},
        "required": ["incident_id"],
    }
    endpoints = [
        EndpointConfig(
            name=name,
            description=f"{name.replace('_', ' ').capitalize()} in the on-call service.",
            method=method,
            path="/v2/incidents/{incident_id}" + suffix,
            input_schema=schema,
            response_filter=["incident.id", "incident.status"],
            response_mapping={"id": "incident.id", "state": "incident.status"},
        )
        for name, method, suffix in (("get_incident", "GET", ""), ("add_note", "POST", "/notes"))
    ]
    return drafts.Draft(
        name="sample",
        display_name="Sample",
        base_url="https://oncall.ops.example",
        auth=AuthConfigWithSecrets(type="bearer_token"),
        endpoints=endpoints,
    )


def _rows(workspace_id: str, first: int, last: int, now: datetime) -> Iterator[dict[str, Any]]:
    checked = drafts.check(_draft(), None)
    for number in range(first, last):
        system = _SYSTEMS[number % len(_SYSTEMS)]
        name, display_name = f"{system}-bridge-{number:06d}", f"{system.capitalize()} bridge {number}"
        made = now + timedelta(milliseconds=number)
        yield {
            "id": new_id(),
            "workspace_id": workspace_id,
            "name": name,
            "display_name": display_name,
            "protocol": "rest",
            "base_url": f"https://{system}.ops.example",
            "config": {},
            "auth": checked.auth,
            "endpoints": checked.endpoints,
            "enabled": number % 10 != 0,
            "builtin": False,
            "search_text": f"{name}\n{display_name}".casefold(),
            "created_at": made,
            "updated_at": made,
        }


async def _seed(folder: Path, count: int) -> None:
    """Fill a data directory's first workspace, in bulk: a million requests would say nothing more."""
    settings = Settings(data_dir=folder)
    ready, _ = await server.initialise(settings)
    insert = sa.insert(integrations)
    async with server.open_app(settings) as app:
        now = app.clock.now() - timedelta(days=1)
        for first in range(0, count, _CHUNK):
            rows = list(_rows(ready.workspace_id, first, min(first + _CHUNK, count), now))
            await app.db.write(lambda conn, rows=rows: conn.execute(insert, rows))


@contextlib.contextmanager
def _filled_hub(folder: Path, count: int) -> Iterator[Server]:
    asyncio.run(_seed(folder, count))
    with hub(folder) as running:
        total = running.request("GET", f"/v1/{running.workspace_id}/integrations?limit=1")["total"]
        if total != count:
            raise RuntimeError(f"{count} integrations were stored, {total} are listed")
        yield running


def _others(side: Callable[[str, Server, str], Side], large: Server, many: int) -> list[Side]:
    return [
        side("search, 1 in 8 matches", large, "&search=billing"),
        side("search, 1 match", large, f"&search={many - 7:06d}"),
        side("from the middle", large, f"&continuation_token={many // 2}"),
        side("the last 100", large, f"&continuation_token={many - 100}"),
        side("sorted by name", large, "&sort_by=name"),
    ]


def run(*, quick: bool) -> Report:
    """Measure the newest page at concurrency 1 and 8; searches and the deep end for information."""
    many = 5_000 if quick else 100_000
    report = Report("listing", f"GET …/integrations?limit=100 of {many:,} and of 100", COLUMNS)
    rounds, seconds = (1, 0.5) if quick else (5, 2.0)
    with tempfile.TemporaryDirectory() as folder, load() as generator:
        place = Path(folder)
        with _filled_hub(place / "large", many) as large, _filled_hub(place / "small", 100) as small:

            def side(name: str, on: Server, query: str, connections: int = 1) -> Side:
                path = f"/v1/{on.workspace_id}/integrations?limit=100{query}"
                job = Job(on.port, "GET", path, on.token, connections=connections, seconds=seconds)
                return Side(f"{name}, concurrency {connections}", job, on.process)

            for connections in (1,) if quick else (1, 8):
                pair = [
                    side(f"100 of {many:,}", large, "", connections),
                    side("100 of 100", small, "", connections),
                ]
                measured = alternate(generator, pair, rounds)
                report.rows += [each.row() for each in measured]
                slower = ratio(*measured, lambda result: result.p99_ms)
                report.figures.append(
                    Figure(f"p99, times that of 100 of 100, concurrency {connections}", slower, "x", 3)
                )
            if not quick:
                others = _others(side, large, many)
                report.rows += [each.row() for each in alternate(generator, others, 1)]
    return report
