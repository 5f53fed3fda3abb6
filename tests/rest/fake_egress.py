"""An egress that sends nothing: it answers from a script and remembers what it was asked to send."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.egress import Limits, Reply
from trunkline.errors import RemoteFailed


@dataclass(frozen=True)
class Sent:
    """One request as it would have left."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    limits: Limits | None
    follow_redirects: bool

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.url).query, keep_blank_values=True)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl((self.body or b"").decode(), keep_blank_values=True))

    @property
    def json(self) -> Any:
        return orjson.loads(self.body or b"null")


Answer = Reply | RemoteFailed
Step = Answer | Callable[[Sent], Answer | Awaitable[Answer]]


def reply(
    status: int = 200,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    *,
    url: str = "https://a.example",
) -> Reply:
    """Make an answer; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    sent = CIMultiDict(headers or {})
    if not isinstance(body, bytes) and body is not None:
        sent.setdefault("Content-Type", "application/json")
    return Reply(status, CIMultiDictProxy(sent), raw, url, 1.0, 0)


class FakeEgress:
    """Play the steps in order and the last one for ever; a step is an answer, a failure, or a function of what is sent."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps) or [reply(200, {})]
        self.sent: list[Sent] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits | None = None,
        follow_redirects: bool = False,
    ) -> Reply:
        sent = Sent(method, url, dict(headers or {}), body, limits, follow_redirects)
        self.sent.append(sent)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        answer = step(sent) if callable(step) else step
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, RemoteFailed):
            raise answer
        return answer

    async def close(self) -> None:
        pass
