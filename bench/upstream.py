"""A service to call that costs next to nothing: one fixed answer of 2 KB to whoever shows the right token."""

import asyncio
import sys

import orjson
import uvloop

from bench.serving import announce, stop_with_parent

TOKEN = "bench-upstream-token-1f9c"
PATH = "/v2/teams/{team_id}/incidents"


def document() -> dict[str, object]:
    """Make an answer of about 2 KB, such as an incident service gives."""
    people = [
        {"id": f"PX{number:04d}", "name": f"Person Number {number}", "email": f"person{number}@ops.example"}
        for number in range(6)
    ]
    return {
        "incident": {
            "id": "Q2KU8FBL4TS8JD",
            "number": 48151,
            "title": "Disk full on db-03: /var/lib/postgresql at 97 %",
            "status": "triggered",
            "urgency": "high",
            "created_at": "2026-11-22T09:12:44Z",
            "service": {"id": "PSVC001", "name": "Orders database", "escalation_policy": "PESC001"},
            "assignments": [{"at": "2026-11-22T09:12:45Z", "assignee": person} for person in people],
            "labels": {"env": "production", "region": "eu-central-1", "team": "storage", "tier": "1"},
            "notes": [
                {"id": n, "content": "Paged by the disk monitor; " + "free space falls. " * 5}
                for n in range(6)
            ],
            "resolved": False,
            "alert_counts": {"all": 12, "triggered": 11, "resolved": 1},
        },
        "links": {"self": "https://oncall.ops.example/incidents/Q2KU8FBL4TS8JD"},
    }


_BODY = orjson.dumps(document())
_JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_ANSWER = _JSON % (b"200 OK", len(_BODY), _BODY)
_REFUSAL = _JSON % (b"401 Unauthorized", 2, b"{}")
_CREDENTIAL = f"bearer {TOKEN}".encode()


class _Upstream(asyncio.Protocol):
    """Answers every whole request; looks at the credential and at nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        at = head.find(b"content-length:")
        length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(received) < end + 4 + length:
            return
        self._received = received[end + 4 + length :]
        self._transport.write(_ANSWER if _CREDENTIAL in head else _REFUSAL)


async def main() -> None:
    """Serve until stdin ends."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await stop_with_parent()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
