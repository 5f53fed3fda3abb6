"""Test a connection: can we authenticate, and does the service answer (contract: Platform API, 6.2).

Sends one harmless call: the connector's `check` endpoint, else HEAD of the base URL. Storing the outcome is not
done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.clock import Clock
from trunkline.egress import Egress
from trunkline.errors import Invalid, RemoteFailed
from trunkline.rest import auth
from trunkline.rest.endpoint import CompiledEndpoint, PathPattern, compile_endpoint
from trunkline.rest.recorder import Recorder
from trunkline.rest.retry import NEVER
from trunkline.rest.target import Target, misconfigured
from trunkline.rest.tokens import TokenCache
from trunkline.rest.trace import Trace
from trunkline.settings import Settings

Status = Literal["healthy", "auth_failed", "unreachable", "timeout", "ssl_error", "misconfigured"]

_STATUS_OF_FAILURE: dict[str, Status] = {
    "auth": "auth_failed",
    "timeout": "timeout",
    "tls": "ssl_error",
    "misconfigured": "misconfigured",
    "refused_address": "misconfigured",
    "insecure_scheme": "misconfigured",
    "bad_url": "misconfigured",
    "bad_header": "misconfigured",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome of a connection test. The message never holds a secret."""

    status: Status
    message: str
    http_status: int | None = None
    auth_resolved: bool = False
    duration_ms: float = 0.0


class Calls(Protocol):
    """What a probe needs of the caller."""

    egress: Egress
    clock: Clock
    settings: Settings
    tokens: TokenCache

    async def call(
        self,
        target: Target,
        endpoint: CompiledEndpoint,
        params: dict[str, Any],
        secrets: Mapping[str, str],
        *,
        budget_seconds: float | None = None,
        detail: bool = True,
    ) -> Trace: ...


async def run(calls: Calls, target: Target, secrets: Mapping[str, str]) -> Probe:
    """Test the connection. A token is fetched afresh, whatever is cached."""
    started = calls.clock.monotonic()
    outcome = await _outcome(calls, target, secrets)
    return replace(outcome, duration_ms=(calls.clock.monotonic() - started) * 1000)


async def _outcome(calls: Calls, target: Target, secrets: Mapping[str, str]) -> Probe:
    if target.manifest is not None and not target.manifest.base_url and not target.base_url:
        return Probe(
            "healthy", f"{target.service} is never called; it only sends webhooks", auth_resolved=True
        )
    if wanted := auth.needs_params(target.auth):
        return await _without_auth(calls, target, secrets, wanted)
    try:
        _ = target.root
        await _authenticate(calls, target, secrets)
    except RemoteFailed as failure:
        cause = failure.__cause__ if isinstance(failure.__cause__, RemoteFailed) else failure
        return Probe(_STATUS_OF_FAILURE.get(cause.kind, "unreachable"), failure.message)
    try:
        endpoint = _check_endpoint(target)
        budget = calls.settings.call_timeout_seconds
        trace = await calls.call(target, endpoint, {}, secrets, budget_seconds=budget, detail=False)
    except Invalid as error:
        return Probe("misconfigured", f"The check call cannot be made: {error.message}", auth_resolved=True)
    return replace(_judged(trace, is_check=endpoint.method != "HEAD"), auth_resolved=True)


async def _authenticate(calls: Calls, target: Target, secrets: Mapping[str, str]) -> None:
    credentials = auth.prepare(target, {}, secrets)
    if credentials.key is None:
        return
    calls.tokens.drop(credentials.key)
    recorder = Recorder(calls.egress, calls.clock, auth.redactor_for(secrets), Trace(), detail=False)
    await auth.authorize(calls.tokens, target, secrets, credentials, recorder)


async def _without_auth(calls: Calls, target: Target, secrets: Mapping[str, str], wanted: list[str]) -> Probe:
    """See whether the service answers at all: its token takes parameters that only a call has."""
    auth_method = target.auth
    try:
        _ = target.root
        if auth_method is not None:
            target.url(auth_method.exchange_url, "exchange_url")
        if not secrets.get("exchange_secret"):
            raise misconfigured("The integration's auth has no exchange_secret")
    except RemoteFailed as failure:
        return Probe("misconfigured", failure.message)
    budget = calls.settings.call_timeout_seconds
    bare = replace(target, auth=None)
    trace = await calls.call(bare, _head_endpoint(), {}, secrets, budget_seconds=budget, detail=False)
    outcome = _judged(trace, is_check=False)
    if outcome.http_status is None or outcome.status == "unreachable":
        return outcome
    names = ", ".join(wanted)
    text = f"The service answers (HTTP {outcome.http_status}); its auth was not tried, for it needs {names}"
    return replace(outcome, status="healthy", message=text)


def _judged(trace: Trace, *, is_check: bool) -> Probe:
    status = trace.status_code
    if status is None:
        kind = trace.error_kind or ""
        return Probe(_STATUS_OF_FAILURE.get(kind, "unreachable"), trace.error or "No answer")
    if trace.error is None:
        return Probe("healthy", f"Connection successful (HTTP {status})", status)
    if status in {401, 403}:
        return Probe("auth_failed", f"The service refused the credentials: {trace.error}", status)
    if trace.error_kind == "refused":
        return Probe("auth_failed", trace.error, status)
    if status >= 500 and (is_check or status != 501):
        return Probe("unreachable", trace.error, status)
    if is_check and status != 429:
        return Probe("misconfigured", f"The check call failed: {trace.error}", status)
    return Probe("healthy", f"Connection successful (HTTP {status})", status)


def _check_endpoint(target: Target) -> CompiledEndpoint:
    """Compile the connector's check endpoint, or HEAD of the base URL. Raises Invalid."""
    manifest = target.manifest
    if manifest is None or manifest.check is None:
        return _head_endpoint()
    endpoint = manifest.endpoints.get(manifest.check)
    if endpoint is None:
        raise Invalid.field(("check",), f"names no endpoint: {manifest.check}")
    return replace(compile_endpoint(endpoint, manifest), retry=NEVER)


def _head_endpoint() -> CompiledEndpoint:
    bare = compile_endpoint(EndpointConfig(name="probe", description="", method="GET", path="/"))
    return replace(bare, method="HEAD", path=PathPattern((), frozenset(), has_query=False), retry=NEVER)
