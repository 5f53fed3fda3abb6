"""Drive a sandbox in process, without a socket: fast, and with a clock that moves only when told."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from trunkline.clock import ManualClock
from trunkline.sandbox import Sandbox, SandboxOptions, build_sandbox

ORIGIN = "http://127.0.0.1:8000"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """Asks a sandbox as a client at 127.0.0.1 would."""

    def __init__(self, sandbox: Sandbox, headers: dict[str, str] | None = None, prefix: str = "") -> None:
        self.sandbox = sandbox
        self.headers = headers or {}
        self.prefix = prefix

    async def ask(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | list[tuple[str, Any]] | None = None,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: dict[str, str | None] | None = None,
        peer: str = "127.0.0.1",
    ) -> Answer:
        sent = {"host": "127.0.0.1:8000", **self.headers}
        if json is not None:
            content, sent["content-type"] = orjson.dumps(json), "application/json"
        sent.update({name.lower(): value for name, value in (headers or {}).items()})
        query = urlencode(params or {}, doseq=True).encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self.prefix + path,
            "raw_path": (self.prefix + path).encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(n.lower().encode(), v.encode()) for n, v in sent.items() if v is not None],
            "client": (peer, 50_000),
            "server": ("127.0.0.1", 8000),
        }
        return await _run(self.sandbox, scope, content or b"")

    async def get(self, path: str, **params: Any) -> Answer:
        return await self.ask("GET", path, params)


async def _run(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    started: dict[str, Any] = {}
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in started["headers"]}
    return Answer(started["status"], headers, b"".join(parts))


def basic(username: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def make_sandbox(clock: ManualClock) -> Callable[..., Sandbox]:
    def make(**options: Any) -> Sandbox:
        options.setdefault("clock", clock)
        if "incidents_csv" not in options:
            options.setdefault("count", 30)
        return build_sandbox(SandboxOptions(**options))

    return make


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox()


@pytest.fixture
def control(sandbox: Sandbox) -> Client:
    return Client(sandbox, prefix="/_sandbox")


def servicenow_client(sandbox: Sandbox) -> Client:
    ready = sandbox.ready(ORIGIN)["servicenow"]
    return Client(sandbox, basic(ready["username"], ready["password"]), "/servicenow")


@pytest.fixture
def snow(sandbox: Sandbox) -> Client:
    return servicenow_client(sandbox)


@pytest.fixture
def pager(sandbox: Sandbox) -> Client:
    ready = sandbox.ready(ORIGIN)["pagerduty"]
    headers = {
        "authorization": f"Token token={ready['token']}",
        "accept": "application/vnd.pagerduty+json;version=2",
        "from": ready["from_email"],
    }
    return Client(sandbox, headers, "/pagerduty")


@pytest.fixture
def sentry(sandbox: Sandbox) -> Client:
    ready = sandbox.ready(ORIGIN)["sentry"]
    return Client(sandbox, {"authorization": f"Bearer {ready['token']}"}, "/sentry/api/0")


@pytest.fixture
def github(sandbox: Sandbox) -> Client:
    ready = sandbox.ready(ORIGIN)["github"]
    headers = {"authorization": f"Bearer {ready['token']}", "user-agent": "tests"}
    return Client(sandbox, headers, "/github")


@pytest.fixture
def receiver(sandbox: Sandbox) -> Client:
    return Client(sandbox, prefix="/receiver")


@pytest.fixture
def linear(sandbox: Sandbox) -> Client:
    ready = sandbox.ready(ORIGIN)["linear"]
    return Client(sandbox, {"authorization": ready["api_key"]}, "/linear")


@pytest.fixture
def anonymous(sandbox: Sandbox) -> Client:
    """Ask any fake, with no credentials but those that the test sends."""
    return Client(sandbox)


LOG_HEADER = (
    "number,incident_state,active,reassignment_count,reopen_count,sys_mod_count,made_sla,caller_id,opened_by,"
    "opened_at,sys_created_by,sys_created_at,sys_updated_by,sys_updated_at,contact_type,location,category,"
    "subcategory,u_symptom,cmdb_ci,impact,urgency,priority,assignment_group,assigned_to,knowledge,"
    "u_priority_confirmation,notify,problem_id,rfc,vendor,caused_by,closed_code,resolved_by,resolved_at,closed_at"
)
LOG_ROW = (
    "{number},{state},{active},0,0,{mods},TRUE,Caller 1,Opened by  8,29-02-2016 01:16,Created by 6,?,"
    "Updated by 21,{updated},Phone,Location 143,Category 55,Subcategory 170,Symptom 72,?,2 - Medium,1 - High,"
    "2 - High,Group 56,?,TRUE,FALSE,Do Not Notify,?,?,?,?,code 5,Resolved by 149,29-02-2016 11:29,05-03-2016 12:00"
)


def log_row(number: str, state: str, updated: str, mods: int = 0) -> str:
    active = "FALSE" if state == "Closed" else "TRUE"
    return LOG_ROW.format(number=number, state=state, active=active, updated=updated, mods=mods)


@pytest.fixture
def log_file(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: str, header: str = LOG_HEADER) -> Path:
        path = tmp_path / "log.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def row() -> Callable[..., str]:
    """Write one row of the log."""
    return log_row


@pytest.fixture
def log_header() -> str:
    return LOG_HEADER


@pytest.fixture
def snow_of() -> Callable[[Sandbox], Client]:
    """Sign in to the ServiceNow of any sandbox."""
    return servicenow_client


@pytest.fixture
def sign_in() -> Callable[[str, str], dict[str, str]]:
    """Make a Basic header."""
    return basic
