"""Call an endpoint of somebody's API: check, build, authorise, send, repeat, read, shape. The one way to do it.

Owns the order of these steps and the attempts; each step has a module of its own. What the call is for is the
business of whoever calls.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.clock import Clock
from trunkline.egress import Egress, Limits, Reply
from trunkline.errors import Invalid, RemoteFailed
from trunkline.rest import auth, probe
from trunkline.rest.answer import complaint, content_type, parse, read, shorten
from trunkline.rest.endpoint import CompiledEndpoint, compile_endpoint
from trunkline.rest.paging import MAX_PAGES, Pager, Step, answer_of, refused
from trunkline.rest.probe import Probe
from trunkline.rest.ratelimit import RateGate
from trunkline.rest.recorder import Recorder
from trunkline.rest.request import Request, build
from trunkline.rest.retry import back_off, retry_after
from trunkline.rest.shape import Stages
from trunkline.rest.target import Target
from trunkline.rest.tokens import TokenCache
from trunkline.rest.trace import Exchange, Trace
from trunkline.settings import Settings

__all__ = ["CompiledEndpoint", "Exchange", "Probe", "RestCaller", "Target", "Trace", "compile_endpoint"]


class RestCaller:
    """Calls endpoints. Holds tokens and rate limits in memory, shared by all calls of this process."""

    def __init__(self, egress: Egress, clock: Clock, settings: Settings) -> None:
        self.egress = egress
        self.clock = clock
        self.settings = settings
        self.tokens = TokenCache(clock)
        self.gate = RateGate(clock)

    async def call(
        self,
        target: Target,
        endpoint: CompiledEndpoint,
        params: dict[str, Any],
        secrets: Mapping[str, str],
        *,
        extra_query: Mapping[str, Any] | None = None,
        next_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        detail: bool = True,
        budget_seconds: float | None = None,
        once: bool = False,
        gate: str | None = None,
        plain: bool = False,
    ) -> Trace:
        """Run one endpoint for real and return what happened; a failure upstream is in the trace, never raised.

        All attempts and waits together take about `budget_seconds` (default: TRUNKLINE_RETRY_BUDGET_SECONDS).
        Without `detail` the trace has no exchanges. `next_url` is a following page's address, same origin only. What
        `extra_query` has for a parameter that the body looks up is put there instead. With `once` nothing is waited
        for or repeated, but for a token that was not accepted any more. `gate` says whose rate limit counts, if not the
        integration's. With `plain` an answer of success is only parsed: neither shaped nor redacted.

        Raises:
            Invalid: for parameters that cannot be sent, at ("body", "params", …), before anything is sent.
        """
        params, extra_query = _placed(endpoint, params, extra_query or {})
        _check_params(endpoint, params)
        budget = self.settings.retry_budget_seconds if budget_seconds is None else budget_seconds
        call = _Call(
            self, target, endpoint, secrets, budget, detail=detail, once=once, gate=gate, plain=plain
        )
        try:
            credentials = auth.prepare(target, params, secrets) if endpoint.has_auth else auth.Credentials()
            request = _build(
                target,
                endpoint,
                params,
                secrets,
                used=credentials.used,
                extra_query=extra_query,
                next_url=next_url,
            )
        except RemoteFailed as failure:
            return call.failed(failure)
        if extra_headers:
            request = replace(request, headers=_merged(request.headers, extra_headers))
        return await call.run(request, credentials)

    async def post(
        self,
        target: Target,
        body: bytes,
        headers: Mapping[str, str],
        secrets: Mapping[str, str],
        *,
        gate: str,
        budget_seconds: float,
    ) -> Trace:
        """Send a body that is ready, as it was signed, once; a failure is in the trace, never raised.

        Args:
            target: one without auth; its base_url is the address, query and all.
            secrets: what must not be shown.
        """
        call = _Call(self, target, _READY, secrets, budget_seconds, detail=True, once=True, gate=gate)
        return await call.run(Request("POST", target.base_url, dict(headers), body), auth.Credentials())

    async def pages(
        self,
        target: Target,
        endpoint: CompiledEndpoint,
        params: dict[str, Any],
        secrets: Mapping[str, str],
        *,
        pager: Pager | None = None,
        extra_query: Mapping[str, Any] | None = None,
        detail: bool = False,
        budget_seconds: float | None = None,
    ) -> AsyncIterator[tuple[list[Any], Trace]]:
        """Call the endpoint page after page and yield each page's new records with its trace.

        A page that fails comes last, with no records and its trace's `error` set; a list that cannot go on is an
        error of kind `paging`. `pager` replaces the endpoint's own paging; `extra_query` goes with every page.
        The budget is one page's.

        Raises:
            Invalid: as `call` does; also for an endpoint whose list needs a `pager`.
        """
        pager = pager or endpoint.pager
        if pager is None:
            raise Invalid.field(("paging",), "keyset paging follows a stream's cursor; pull the stream")
        step: Step | None = pager.first()
        while step is not None:
            query = {**(extra_query or {}), **step.request.query}
            trace = await self.call(
                target,
                endpoint,
                params,
                secrets,
                extra_query=query,
                next_url=step.request.url,
                detail=detail,
                budget_seconds=budget_seconds,
            )
            records, step = read_page(pager, step, trace)
            yield records, trace

    async def probe(self, target: Target, secrets: Mapping[str, str]) -> Probe:
        """Test the connection: authenticate end to end and make one harmless call.

        That call is the connector's `check` endpoint if it has one, else HEAD of the base URL.
        """
        return await probe.run(self, target, secrets)

    def forget(self, integration_id: str) -> None:
        """Drop the integration's tokens and limits, as when its settings or secrets changed."""
        self.tokens.forget(integration_id)
        self.gate.forget(integration_id)

    async def close(self) -> None:
        """Stop what runs in the background. Does not close egress."""
        await self.tokens.close()


_READY = compile_endpoint(EndpointConfig(name="post", description="", path=""))


def read_page(pager: Pager, step: Step, trace: Trace) -> tuple[list[Any], Step | None]:
    """Read the records of one page and what comes next, or end the list with the trace's error."""
    if trace.error is not None:
        return [], None
    try:
        page = pager.read(step, answer_of(trace))
        if page.next is not None and page.next.number > MAX_PAGES:
            raise refused(f"the list has more than {MAX_PAGES} pages")
    except RemoteFailed as failure:
        trace.error, trace.error_kind = failure.message, failure.kind
        return [], None
    return page.records, page.next


def _placed(
    endpoint: CompiledEndpoint, params: dict[str, Any], extra: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Move into the parameters what the body looks up; the rest stays in the query."""
    if not endpoint.in_body.intersection(extra):
        return params, extra
    inside = {name: value for name, value in extra.items() if name in endpoint.in_body}
    return {**params, **inside}, {name: value for name, value in extra.items() if name not in inside}


def _check_params(endpoint: CompiledEndpoint, params: dict[str, Any]) -> None:
    problems = endpoint.schema.check(params) if endpoint.schema else []
    if problems:
        raise Invalid(fields=[replace(problem, loc=("body", *problem.loc)) for problem in problems])


def _build(
    target: Target,
    endpoint: CompiledEndpoint,
    params: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    used: frozenset[str],
    extra_query: Mapping[str, Any] | None,
    next_url: str | None,
) -> Request:
    root = target.root_for(endpoint.base_url)
    own = root if endpoint.base_url is None else target.root
    scope = {"params": params, "config": target.config, "secret": secrets, "base_url": own}
    return build(root, endpoint, params, scope, used=used, extra_query=extra_query, next_url=next_url)


class _Call:
    """One call under way: its deadline, its trace, its redactor."""

    __slots__ = (
        "caller",
        "clock",
        "deadline",
        "endpoint",
        "gate",
        "once",
        "plain",
        "recorder",
        "redactor",
        "secrets",
        "started",
        "target",
        "trace",
    )

    def __init__(
        self,
        caller: RestCaller,
        target: Target,
        endpoint: CompiledEndpoint,
        secrets: Mapping[str, str],
        budget_seconds: float,
        *,
        detail: bool,
        once: bool,
        gate: str | None,
        plain: bool = False,
    ) -> None:
        self.once = once
        self.plain = plain
        self.gate = gate or target.integration_id
        self.caller = caller
        self.clock = caller.clock
        self.target = target
        self.endpoint = endpoint
        self.secrets = secrets
        self.trace = Trace()
        self.redactor = auth.redactor_for(secrets)
        self.recorder = Recorder(caller.egress, self.clock, self.redactor, self.trace, detail)
        if detail:
            self.recorder.masked_headers = auth.carrying_headers(target.auth)
        self.started = self.clock.monotonic()
        self.deadline = self.started + budget_seconds

    async def run(self, request: Request, credentials: auth.Credentials) -> Trace:
        """Send until there is an answer to keep, and read it."""
        try:
            reply = await self._attempts(request, credentials)
        except RemoteFailed as failure:
            return self.failed(failure)
        self._read(reply)
        return self._done()

    def failed(self, failure: RemoteFailed) -> Trace:
        """Close the trace with a failure that left no answer."""
        self._fail(failure.message, failure.kind, retryable=failure.retryable)
        return self._done()

    def _done(self) -> Trace:
        self.trace.duration_ms = (self.clock.monotonic() - self.started) * 1000
        return self.trace

    async def _attempts(self, request: Request, credentials: auth.Credentials) -> Reply:
        has_renewed = False
        while True:
            wait: float | None
            try:
                await self._wait_for_gate()
                granted = await auth.authorize(
                    self.caller.tokens, self.target, self.secrets, credentials, self.recorder
                )
                reply = await self._send(request, granted)
            except RemoteFailed as failure:
                wait = self._pause_after_failure(failure, credentials)
                if wait is None:
                    raise
            else:
                if reply.status == 401 and granted.was_cached and not has_renewed and credentials.key:
                    self.caller.tokens.drop(credentials.key, granted.token)
                    has_renewed = True
                    continue
                wait = self._pause_after_answer(reply)
                if wait is None:
                    return reply
            await self.clock.sleep(wait)
            self.trace.retries += 1

    async def _wait_for_gate(self) -> None:
        while (wait := self.caller.gate.wait_seconds(self.gate)) > 0:
            if self.once or wait > self.deadline - self.clock.monotonic():
                self.trace.retry_after = wait
                text = f"{self.target.service} allows no more calls for {wait:.0f} s"
                raise RemoteFailed(text, kind="rate_limited", retryable=True)
            await self.clock.sleep(wait)

    async def _send(self, request: Request, granted: auth.Authorization) -> Reply:
        reply = await self.recorder.send(
            "call",
            request.method,
            request.url,
            _merged(request.headers, granted.headers),
            request.body,
            limits=self._limits(),
            follow_redirects=request.method in {"GET", "HEAD"},
        )
        self.caller.gate.learn(self.gate, reply.status, reply.headers, self.endpoint.rate_limit)
        return reply

    def _limits(self) -> Limits | None:
        """Cut the attempt short when the budget leaves less than one attempt may take."""
        settings = self.caller.settings
        left = max(0.001, self.deadline - self.clock.monotonic())
        if left >= settings.call_timeout_seconds:
            return None
        return Limits(
            min(settings.connect_timeout_seconds, left),
            min(settings.read_timeout_seconds, left),
            left,
            settings.max_response_bytes,
        )

    def _pause_after_answer(self, reply: Reply) -> float | None:
        """Return how long to wait before repeating, or None to keep this answer."""
        retry = self.endpoint.retry
        if self.once or reply.status not in retry.statuses or self.trace.retries >= retry.max_retries:
            return None
        wait = retry_after(reply.headers, self.clock.now())
        if wait is None:
            wait = back_off(self.trace.retries)
        # A wait that does not fit is not begun: the service's own answer says more than "rate limited".
        return self._affordable(max(wait, self.caller.gate.wait_seconds(self.gate)))

    def _pause_after_failure(self, failure: RemoteFailed, credentials: auth.Credentials) -> float | None:
        retry = self.endpoint.retry
        if self.once or self.trace.retries >= retry.max_retries:
            return None
        if not retry.repeats(failure, self.endpoint.method):
            return None
        cooling = self.caller.tokens.cooling(credentials.key) if credentials.key else 0.0
        return self._affordable(max(back_off(self.trace.retries), cooling))

    def _affordable(self, wait: float) -> float | None:
        return wait if self.clock.monotonic() + wait < self.deadline else None

    def _read(self, reply: Reply) -> None:
        trace = self.trace
        trace.status_code, trace.headers, trace.url = reply.status, reply.headers, reply.url
        check = self.endpoint.errors
        is_success = 200 <= reply.status < 300
        if self.plain and is_success:
            value = parse(reply.body, content_type(reply.headers))
            if not (check and check.refuses(value)):
                trace.raw_response = value
                return
        answer = read(reply.body, content_type(reply.headers))
        is_leaking = self.redactor.found_in(answer.encoded)
        trace.raw_response = self.redactor.value(answer.value) if is_leaking else answer.value
        if is_success and not (check and check.refuses(answer.value)):
            self._shape(answer.value, is_leaking=is_leaking)
            return
        said = shorten(self.redactor.text(complaint(check, answer.value)))
        if is_success:
            self._fail(f"{self.target.service} refused the call: {said}", "refused", retryable=False)
            return
        text = f"HTTP {reply.status} from {self.target.service}" + (f": {said}" if said else "")
        self._fail(text, "status", retryable=reply.status in {408, 429} or reply.status >= 500)
        trace.retry_after = retry_after(reply.headers, self.clock.now())

    def _shape(self, value: Any, *, is_leaking: bool) -> None:
        trace, redactor = self.trace, self.redactor
        stages = self.endpoint.shape.apply(value)
        trace.after_filter, trace.after_mapping = stages.after_filter, stages.after_mapping
        trace.value = stages.value
        if is_leaking:
            self._hide_stages(stages, value)
        trace.final_result = None if stages.final_result is None else redactor.text(stages.final_result)
        if stages.error is not None:
            self._fail(stages.error, "shape", retryable=False)

    def _hide_stages(self, stages: Stages, raw: Any) -> None:
        """Redact each stage once: without a filter or a mapping several are one and the same value."""
        trace = self.trace
        hidden = {id(raw): trace.raw_response}
        for name in ("after_filter", "after_mapping", "value"):
            stage = getattr(stages, name)
            if id(stage) not in hidden:
                hidden[id(stage)] = self.redactor.value(stage)
            setattr(trace, name, hidden[id(stage)])

    def _fail(self, text: str, kind: str, *, retryable: bool) -> None:
        self.trace.error = self.redactor.text(text)
        self.trace.error_kind = kind
        self.trace.retryable = retryable


def _merged(headers: Mapping[str, str], granted: Mapping[str, str]) -> dict[str, str]:
    """Add the headers of auth, which win over an endpoint's own of the same name."""
    if not granted:
        return dict(headers)
    names = {name.lower() for name in granted}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    return {**kept, **granted}
