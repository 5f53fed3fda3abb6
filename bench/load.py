"""The load generator: keep-alive connections on a raw protocol, in a process of its own.

A server on two cores competes with whoever measures it, so this side parses no more than it must. It checks
every status. One job is one line of JSON on stdin, its result one line on stdout.

Without a rate each connection sends as soon as it was answered. With one, requests are due at even times whether or
not earlier ones were answered, and how long one took is counted from when it was due.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Job:
    """What to send where, and for how long. `{n}` in the body becomes a number that never repeats."""

    port: int
    method: str
    path: str
    token: str = ""
    body: str = ""
    expect: int = 200
    connections: int = 1
    seconds: float = 1.0
    warm_seconds: float = 0.3
    first_number: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    per_second: float = 0
    """The rate; 0: as fast as answers come."""
    keep_answers: str = ""
    """A file to write every expected answer's body into, a line each."""


@dataclass
class Result:
    """What came of a job. `sent` counts the warm-up too; everything else does not."""

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    sent: int
    errors: dict[str, int] = field(default_factory=dict)
    answer_bytes: int = 0


class _Run:
    """One job under way, shared by its connections."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.expected = b"%d" % job.expect
        self.open = 0
        self.sent = 0
        self.errors: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.answers: list[bytes] = []
        self.answer_bytes = 0
        self.idle: deque[_Connection] = deque()
        self._due = 0
        self.done = asyncio.get_running_loop().create_future()
        before, mark, after = job.body.partition("{n}")
        self._parts = (before.encode(), after.encode()) if mark else None
        self._head = _head(job)
        self._fixed = self._head % len(job.body.encode()) + job.body.encode()
        self.begins_at = time.perf_counter()
        self.counts_from = self.begins_at + job.warm_seconds
        self.ends_at = self.counts_from + job.seconds

    def next(self, connection: "_Connection") -> None:
        """Let a connection that is free send again, end or wait until something is due."""
        now = time.perf_counter()
        if now >= self.ends_at:
            connection.close()
        elif not self.job.per_second:
            connection.send(now)
        else:
            self.idle.append(connection)
            self.send_due()

    def send_due(self) -> None:
        """Send what is due, as far as connections are free."""
        now = time.perf_counter()
        while self.idle and (due := self.begins_at + self._due / self.job.per_second) <= now:
            self._due += 1
            self.idle.popleft().send(due)

    async def pace(self) -> None:
        """Send at even times until the end."""
        while self.job.per_second and time.perf_counter() < self.ends_at:
            self.send_due()
            await asyncio.sleep(0.001)
        while self.idle:
            self.idle.popleft().close()

    def request(self) -> bytes:
        """Return the next request."""
        self.sent += 1
        if self._parts is None:
            return self._fixed
        number = b"%d" % (self.job.first_number + self.sent)
        body = self._parts[0] + number + self._parts[1]
        return self._head % len(body) + body

    def result(self) -> Result:
        """Sum up."""
        if self.job.keep_answers:
            Path(self.job.keep_answers).write_bytes(b"\n".join(self.answers))
        sorted_ms = sorted(value * 1000 for value in self.latencies) or [0.0]
        count = len(self.latencies)
        return Result(
            per_second=count / self.job.seconds,
            p50_ms=sorted_ms[len(sorted_ms) // 2],
            p99_ms=sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * 0.99))],
            requests=count,
            sent=self.sent,
            errors=dict(self.errors),
            answer_bytes=self.answer_bytes,
        )


def _head(job: Job) -> bytes:
    lines = [f"{job.method} {job.path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if job.token:
        lines.append(f"Authorization: Bearer {job.token}")
    if job.body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {text}" for name, text in job.headers.items()]
    return ("\r\n".join(lines).replace("%", "%%") + "\r\nContent-Length: %d\r\n\r\n").encode()


class _Connection(asyncio.Protocol):
    """Sends a request, reads its answer, sends the next."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = b""
        self._started = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._run.open += 1
        self._run.next(self)

    def send(self, due: float) -> None:
        self._started = due
        self._transport.write(self._run.request())

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _content_length(received[:end])
        if len(received) < end + 4 + length:
            return
        now = time.perf_counter()
        self._received = received[end + 4 + length :]
        self._count(received[9:12], received[end + 4 : end + 4 + length], now)
        self._run.next(self)

    def _count(self, status: bytes, body: bytes, now: float) -> None:
        run = self._run
        if run.job.keep_answers and status == run.expected:
            run.answers.append(body)
        if status != run.expected:
            run.errors[f"status {status.decode('latin-1')}"] += 1
        elif run.counts_from <= now < run.ends_at:
            run.latencies.append(now - self._started)
            run.answer_bytes = len(body)

    def connection_lost(self, exc: Exception | None) -> None:
        run = self._run
        if exc is not None or time.perf_counter() < run.ends_at:
            run.errors["connection closed"] += 1
        run.open -= 1
        if run.open == 0 and not run.done.done():
            run.done.set_result(None)


def _content_length(head: bytes) -> int:
    head = head.lower()
    at = head.find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


async def perform(job: Job) -> Result:
    """Do one job."""
    run = _Run(job)
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(
            loop.create_connection(lambda: _Connection(run), "127.0.0.1", job.port)
            for _ in range(job.connections)
        )
    )
    pacing = asyncio.create_task(run.pace())
    try:
        await asyncio.wait_for(run.done, job.warm_seconds + job.seconds + _GRACE_SECONDS)
    except TimeoutError:
        run.errors["no answer"] += run.open
    await pacing
    return run.result()


def main() -> None:
    """Do the jobs on stdin, one a line, until it ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print("{}", flush=True)
        for line in sys.stdin:
            result = runner.run(perform(Job(**json.loads(line))))
            print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
