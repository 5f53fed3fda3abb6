"""A webhook's receiver: takes every POST and notes how old its event is, or never answers at all.

A line on stdin is answered by a line that tells what came since the line before.
"""

import asyncio
import json
import sys
import time

import uvloop

from bench.serving import announce

_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_AT = b'"at":'


class _Receiver(asyncio.Protocol):
    """Reads whole requests; looks for the time in the body and at nothing else."""

    ages: list[float] = []  # noqa: RUF012 - of all connections
    times: list[float] = []  # noqa: RUF012
    answers = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        if not self.answers:
            return
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        at = head.find(b"content-length:")
        length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(received) < end + 4 + length:
            return
        body, self._received = received[end + 4 : end + 4 + length], received[end + 4 + length :]
        now = time.time()
        found = body.find(_AT)
        if found >= 0:
            start = found + len(_AT)
            self.ages.append(now - float(body[start : body.find(b"}", start)].split(b",")[0]))
        self.times.append(now)
        self._transport.write(_TAKEN)


async def main(mode: str) -> None:
    """Serve until stdin ends."""
    _Receiver.answers = mode == "take"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Receiver, "127.0.0.1", 0, backlog=1024)
    announce(server.sockets[0].getsockname()[1])
    while await loop.run_in_executor(None, sys.stdin.readline):
        ages, times = sorted(_Receiver.ages), _Receiver.times
        _Receiver.ages, _Receiver.times = [], []
        print(
            json.dumps(
                {
                    "ages": ages,
                    "first": min(times, default=0),
                    "last": max(times, default=0),
                    "count": len(times),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(uvloop.run(main(sys.argv[1])))
