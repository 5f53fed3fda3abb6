"""Running endpoints: `…/test`, `…/call`, `test-connection`, `health-check`: sections 5, 6.2, 6.3."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from trunkline.errors import Conflict, RemoteFailed
from trunkline.http.native.errors import to_answer
from trunkline.http.native.models import (
    CallQuery,
    CallResponse,
    TestConnectionResponse,
    TestEndpointRequest,
    TestEndpointResponse,
)
from trunkline.http.native.route import Call, Router
from trunkline.http.wire import Answer, encode
from trunkline.rest.trace import Trace
from trunkline.services import actions

router = Router("Integrations")
_NOT_FOUND = {404: "Integration not found."}


@router.answers(
    "GET /v1/{workspace_id}/integrations/health-check",
    "Integration.view",
    id="health-check-integrations",
    returns=dict[str, Any],
)
async def health_check(call: Call, workspace_id: UUID) -> dict[str, Any]:
    """Knock at the newest enabled integrations (at most 50), a few at a time."""
    checks, total = await actions.health_check(call)
    healthy = sum(check.status == "healthy" for check in checks)
    overall = "healthy" if healthy == len(checks) else "degraded" if healthy else "unhealthy"
    return {
        "overall_status": overall,
        "checks": [
            {"id": item.id, "name": item.name, "status": item.status, "latency_ms": round(item.latency_ms, 3)}
            for item in checks
        ],
        "total": total,
        "truncated": total > len(checks),
    }


@router.answers(
    "POST /v1/{workspace_id}/integrations/{integration_id}/endpoints/{endpoint_name}/call",
    "Integration.view",
    id="call-integration-endpoint",
    returns=CallResponse,
    errors=_NOT_FOUND | {409: "The integration is disabled.", 502: "The remote service failed."},
)
async def call_endpoint(
    call: Call,
    workspace_id: UUID,
    integration_id: UUID,
    endpoint_name: str,
    *,
    query: Annotated[CallQuery, Query()],
    body: TestEndpointRequest,
) -> Answer:
    """Run an endpoint and return its result; the production twin of `test`."""
    trace, service = await actions.run(
        call, str(integration_id), endpoint_name, body.params, detail=query.trace
    )
    if trace.error is not None:
        return _failed(call, trace, service, with_trace=query.trace)
    answer = {
        "status_code": trace.status_code,
        "duration_ms": round(trace.duration_ms, 3),
        "retries": trace.retries,
        "final_result": trace.final_result,
        "data": trace.value,
        "error": None,
    }
    if query.trace:
        answer["trace"] = trace.to_wire()
    return Answer(200, encode(answer))


def _failed(call: Call, trace: Trace, service: str, *, with_trace: bool) -> Answer:
    error = RemoteFailed(trace.error, status=trace.status_code, retryable=trace.retryable)
    extra: dict[str, Any] = {
        "detail": trace.error,
        "error_code": error.code,
        "request_id": call.request_id,
        "service": service,
        "kind": trace.error_kind,
        "status": trace.status_code,
        "retryable": trace.retryable,
        "retries": trace.retries,
        "duration_ms": round(trace.duration_ms, 3),
    }
    if with_trace:
        extra["trace"] = trace.to_wire()
    return Answer(to_answer(error, call.request_id).status, encode(extra))


@router.answers(
    "POST /v1/{workspace_id}/integrations/{integration_id}/endpoints/{endpoint_name}/test",
    "Integration.view",
    id="test-integration-endpoint",
    returns=TestEndpointResponse,
    errors=_NOT_FOUND,
)
async def test_endpoint(
    call: Call, workspace_id: UUID, integration_id: UUID, endpoint_name: str, body: TestEndpointRequest
) -> dict[str, Any]:
    """Run an endpoint for real and show every stage; an upstream that fails is `error` in a 200."""
    try:
        trace, _ = await actions.run(call, str(integration_id), endpoint_name, body.params, detail=False)
    except Conflict as refused:  # the contract knows no 409 of this route
        trace = Trace(error=refused.message)
    return {
        "status_code": trace.status_code,
        "duration_ms": round(trace.duration_ms, 3),
        "retries": trace.retries,
        "raw_response": trace.raw_response,
        "after_filter": trace.after_filter,
        "after_mapping": trace.after_mapping,
        "final_result": trace.final_result,
        "error": trace.error,
    }


@router.answers(
    "POST /v1/{workspace_id}/integrations/{integration_id}/test-connection",
    "Integration.view",
    id="test-integration-connection",
    returns=TestConnectionResponse,
    errors=_NOT_FOUND,
)
async def test_connection(call: Call, workspace_id: UUID, integration_id: UUID) -> dict[str, Any]:
    """Resolve auth end to end and knock at the service; the outcome is remembered."""
    probe = await actions.test_connection(call, str(integration_id))
    return {
        "status": probe.status,
        "tested_at": call.now,
        "auth_resolved": probe.auth_resolved,
        "duration_ms": round(probe.duration_ms, 3),
        "http_status": probe.http_status,
        "message": probe.message,
    }
