"""Kept connections: how many, for how long, and which are fit to be used again."""

import ssl

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from trunkline.egress.door import Door

_CONNECTIONS_PER_HOST = 256
# Servers drop idle connections after 5 s and more; being first avoids sending into a closing one.
_IDLE_SECONDS = 4.0


class Pool(aiohttp.TCPConnector):
    """aiohttp's pool behind our door, without connections on which an unasked answer waits.

    Whatever arrives while a connection rests would be taken for the answer to the next request, which
    may be another workspace's (response queue poisoning, CWE-444).
    """

    def __init__(self, door: Door, tls: ssl.SSLContext | bool) -> None:
        super().__init__(
            resolver=door,
            socket_factory=door.open_socket,
            use_dns_cache=False,  # the door must see every new connection
            ssl=tls,
            limit=0,
            limit_per_host=_CONNECTIONS_PER_HOST,
            keepalive_timeout=_IDLE_SECONDS,
        )

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        while connection.protocol is None or connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        return connection
