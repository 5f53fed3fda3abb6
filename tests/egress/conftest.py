"""Raw TCP servers on loopback that misbehave on purpose, and a resolver that says what a test wants."""

import asyncio
from collections import defaultdict
from contextlib import suppress

import pytest

from trunkline.egress import Egress, Limits
from trunkline.settings import Settings

QUICK = Limits(connect_seconds=5, read_seconds=5, total_seconds=10, max_bytes=1_000_000)


class FakeResolver:
    """Answers from a table; a list of lists is answered one after the other, the last one for ever."""

    def __init__(self, **names):
        self.names = {name.replace("_", "-"): answers for name, answers in names.items()}
        self.asked = []

    def __setitem__(self, name, answers):
        self.names[name] = answers

    async def resolve(self, host):
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError("no such name")
        if isinstance(answers, Exception):
            raise answers
        if answers and isinstance(answers[0], list):
            return answers.pop(0) if len(answers) > 1 else answers[0]
        return answers


class Server:
    """One raw server: keeps every request head and body it read, and counts connections."""

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.bodies = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.port = 0
        self.reads_bodies = True
        self.is_eager = False
        self.called = asyncio.Event()
        self._is_stopping = False
        self._tasks = set()

    async def handle(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            # Cancelled only by `stop`; asyncio's own callback complains about a cancelled handler.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    await self._one(reader, writer)
        finally:
            self.gone.set()
            writer.transport.abort() if self._is_stopping else writer.close()

    async def _one(self, reader, writer):
        if self.is_eager:  # answers whatever comes, a TLS greeting for instance
            await reader.read(1)
            await self.answer(writer)
            raise ConnectionError
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        self.called.set()
        if self.reads_bodies:
            self.bodies.append(await reader.readexactly(int(self.headers()["content-length"] or 0)))
        if callable(self.answer):
            await self.answer(writer)
        else:
            writer.write(self.answer)
            await writer.drain()
        if not self.keeps_open():
            raise ConnectionError

    def keeps_open(self):
        return isinstance(self.answer, bytes) and b"keep-alive" in self.answer

    def headers(self, number=-1):
        lines = self.heads[number].split("\r\n")[1:]
        found = defaultdict(str)
        found.update((line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in lines)
        return found

    async def stop(self):
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def serve():
    running = []

    async def start(answer, *, is_eager=False, **options):
        server = Server(answer)
        server.is_eager = is_eager
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, **options)
        server.port = listener.sockets[0].getsockname()[1]
        running.append((server, listener))
        return server

    yield start
    for server, listener in running:
        listener.close()
        await server.stop()


@pytest.fixture
def resolver():
    return FakeResolver()


@pytest.fixture
async def make_egress(resolver):
    made = []

    def make(allow="127.0.0.1", **settings):
        made.append(Egress(Settings(egress_allow=allow, **settings), resolver))
        return made[-1]

    yield make
    for egress in made:
        await egress.close()


@pytest.fixture
def egress(make_egress):
    return make_egress()


@pytest.fixture
def quick():
    return QUICK


def answer(body=b"", *, status="200 OK", **headers):
    fields = {
        "content-length": str(len(body)),
        **{key.replace("_", "-"): text for key, text in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


@pytest.fixture(name="answer")
def _answer():
    return answer
