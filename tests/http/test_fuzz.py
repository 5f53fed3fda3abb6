"""Whatever fits our OpenAPI document, and what nearly does: answered as the document says, never with a 5xx of ours."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from http_asgi import Client
from trunkline.clock import ManualClock
from trunkline.http import native
from trunkline.http.app import Hub
from trunkline.http.server import open_app
from trunkline.services import api_keys
from trunkline.settings import Settings

DOCUMENT = native.build().openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations()}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
RICH = {"create-integration", "update-integration", "test-integration-endpoint"}
# A remote service that fails is a 502 on purpose: the endpoint here has no address.
REMOTE = {"call-integration-endpoint"}


@dataclass
class Target:
    """A hub that answers from a loop of its own."""

    runner: asyncio.Runner
    client: Client
    number: int = 0

    def ids(self) -> dict[str, str]:
        """Make one thing of each kind anew, for some operations delete them."""
        self.number += 1
        return self.runner.run(_fill(self.client, self.number))

    def send(self, case: Any) -> Response:
        request = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.1")).prepare()
        raw = request.body.encode() if isinstance(request.body, str) else request.body
        path = (request.url or "").removeprefix("http://127.0.0.1")
        reply = self.runner.run(self.client.send(request.method or "", path, raw=raw or b""))
        headers = {name: [value] for name, value in reply.headers.items()}
        return Response(reply.status, headers, reply.body, request, elapsed=0.0, verify=False)


async def _fill(client: Client, number: int) -> dict[str, str]:
    endpoint = {"name": "things", "description": "Things.", "method": "GET", "path": "/things"}
    made = await client.integration(name=f"fuzz-{number}", base_url="", endpoints=[endpoint])
    person = await client.post("/v1/{ws}/people", {"email": f"b{number}@example.com", "name": "Bob"})
    key = await client.post("/v1/{ws}/api-keys", {"duration_days": 9})
    event = (await client.append_events("acme.fuzz"))[0]
    return {
        "event_id": event.id,
        "workspace_id": client.workspace_id,
        "integration_id": made["id"],
        "endpoint_name": "things",
        "person_id": person.json["id"],
        "key_id": key.json["key_id"],
        "connector_id": "http",
    }


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with asyncio.Runner() as runner:
        opened = open_app(Settings(data_dir=tmp_path_factory.mktemp("fuzz")), ManualClock())
        hub = Hub(runner.run(opened.__aenter__()))
        made = runner.run(api_keys.create_workspace(hub.app, "Fuzz"))
        yield Target(runner, Client(hub, made["api_key"], made["id"]))
        runner.run(opened.__aexit__(None, None, None))


def _cases(name: str, mode: GenerationMode, ids: dict[str, str]) -> Any:
    operation = OPERATIONS[name]
    known = {key: value for key, value in ids.items() if f"{{{key}}}" in operation.path}
    return operation.as_strategy(generation_mode=mode, path_parameters=known)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "nearly"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_answers_as_documented(target: Target, name: str, mode: GenerationMode):
    @settings(
        max_examples=30 if name in RICH else 10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(name, mode, target.ids()))
    def check(case: Any) -> None:
        reply = target.send(case)
        checks = CHECKS[1:] if name in REMOTE and reply.status_code == 502 else CHECKS
        case.validate_response(reply, checks=checks)

    check()
