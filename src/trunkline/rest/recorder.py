"""Send through egress and write down what happened, redacted. One recorder serves one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trunkline.clock import Clock
from trunkline.egress import Egress, Limits, Reply
from trunkline.errors import RemoteFailed
from trunkline.redact import Redactor
from trunkline.rest.trace import Exchange, Trace, body_text, shown_headers, token_body_text

Purpose = Literal["token", "call"]


@dataclass(slots=True)
class Recorder:
    """Counts bytes always; keeps exchanges only with `detail`, since redacting bodies costs more than the call."""

    egress: Egress
    clock: Clock
    redactor: Redactor
    trace: Trace
    detail: bool
    masked_headers: set[str] = field(default_factory=set)
    """Lower-case names of the headers that carry this integration's credentials."""

    async def send(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        limits: Limits | None = None,
        follow_redirects: bool = False,
    ) -> Reply:
        """Send one request. Raises RemoteFailed as egress does."""
        trace = self.trace
        trace.bytes_sent += len(body) if body else 0
        started_at, started = self.clock.now(), self.clock.monotonic()
        reply: Reply | None = None
        error: str | None = None
        try:
            reply = await self.egress.request(
                method, url, headers=headers, body=body, limits=limits, follow_redirects=follow_redirects
            )
            trace.bytes_received += len(reply.body)
            return reply
        except RemoteFailed as failure:
            error = self.redactor.text(failure.message)
            raise
        finally:
            if self.detail:
                took_ms = (self.clock.monotonic() - started) * 1000
                exchange = Exchange(purpose, method, self.redactor.text(url), started_at, took_ms, error)
                self._show(exchange, headers, body, reply)
                trace.exchanges.append(exchange)

    def _show(
        self, exchange: Exchange, headers: Mapping[str, str], body: bytes | None, reply: Reply | None
    ) -> None:
        show = token_body_text if exchange.purpose == "token" else body_text
        exchange.request_headers = shown_headers(headers, self.redactor, self.masked_headers)
        exchange.request_body = show(body, self.redactor)
        if reply is not None:
            exchange.status = reply.status
            exchange.response_headers = shown_headers(reply.headers, self.redactor, self.masked_headers)
            exchange.response_body = show(reply.body, self.redactor)
