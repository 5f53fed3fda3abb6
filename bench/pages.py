"""Reading a whole table page by page through an endpoint, beside the same pages asked of the service itself."""

import base64
import json
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.processes import Process, hub, wait_for_file
from bench.report import Figure, Report
from trunkline.sandbox import scenario

_PAGE = 500


def run(*, quick: bool) -> Report:
    """Page through the sandbox's incidents."""
    count = 2_000 if quick else 10_000
    report = Report(
        "pages", f"{count:,} records of the sandbox in pages of {_PAGE}", ("", "rows/s", "ms a page")
    )
    with tempfile.TemporaryDirectory() as folder:
        ready_file = Path(folder) / "sandbox.json"
        arguments = ["-m", "trunkline", "sandbox", "--count", str(count), "--ready-file", str(ready_file)]
        with Process(arguments, Path(folder) / "sandbox.log") as process:
            fakes = wait_for_file(process, ready_file)
            place = urlsplit(fakes[scenario.TICKETS]["url"])
            with hub(Path(folder) / "hub", egress_allow=place.netloc) as ours:
                base = f"/v1/{ours.workspace_id}/integrations"
                made = ours.request("POST", base, scenario.integrations(fakes)[0])
                path = f"{base}/{made['id']}/endpoints/list_incidents/call"
                through = _pages(
                    count, _through_hub(HTTPConnection("127.0.0.1", ours.port), path, ours.token)
                )
            direct = _pages(count, _directly(HTTPConnection(place.netloc), fakes[scenario.TICKETS]))
    for name, seconds in (("through the hub", through), ("directly", direct)):
        report.rows.append((name, count / seconds, seconds / (count / _PAGE) * 1000))
    report.figures = [Figure("rows per second, share of asking directly", direct / through * 100, "%")]
    return report


def _pages(count: int, read: Callable[[int], int]) -> float:
    started = time.monotonic()
    found = sum(read(offset) for offset in range(0, count, _PAGE))
    if found != count:
        raise RuntimeError(f"{found} of {count} records were read")
    return time.monotonic() - started


def _through_hub(connection: HTTPConnection, path: str, token: str) -> Callable[[int], int]:
    headers = {"Authorization": f"Bearer {token}"}

    def read(offset: int) -> int:
        params = dict(scenario.page_of_incidents(offset, _PAGE).params)
        connection.request("POST", path, json.dumps({"params": params}), headers)
        return len(scenario.records(json.loads(connection.getresponse().read())["data"]))

    return read


def _directly(connection: HTTPConnection, service: dict[str, str]) -> Callable[[int], int]:
    pair = base64.b64encode(f"{service['username']}:{service['password']}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Accept": "application/json"}
    root = urlsplit(service["url"]).path

    def read(offset: int) -> int:
        query = f"sysparm_limit={_PAGE}&sysparm_offset={offset}&sysparm_query=ORDERBYnumber"
        connection.request("GET", f"{root}/api/now/table/incident?{query}", headers=headers)
        return len(scenario.records(json.loads(connection.getresponse().read())))

    return read
