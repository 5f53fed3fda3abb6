"""Turn host names into addresses: one look-up a name at a time, remembered for seconds. Judges nothing."""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Protocol

from trunkline.egress.addresses import Address
from trunkline.errors import RemoteFailed

_THREADS = 16  # own threads: a tenant's dead name server must not fill the pool everything else uses
_MAX_WAITING = 512
_MAX_REMEMBERED = 1024
REMEMBERED_SECONDS = 3.0


class Resolver(Protocol):
    """Something that knows the addresses of a name; an unknown name is OSError or an empty answer."""

    async def resolve(self, host: str) -> Sequence[str]: ...


class SystemResolver:
    """Ask the machine's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")

    async def resolve(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        # Bytes, because text would go through Python's IDNA codec once more.
        answers = await loop.run_in_executor(self._threads, _getaddrinfo, host.encode("ascii"))
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: bytes) -> list[tuple[int, int, int, str, tuple[str | int | bytes, ...]]]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


class Names:
    """Share one look-up among all who wait for the same name, and its answer for a few seconds."""

    def __init__(self, resolver: Resolver, remembered_seconds: float = REMEMBERED_SECONDS) -> None:
        self._resolver = resolver
        self._remembered_seconds = remembered_seconds
        self._answers: dict[str, tuple[float, tuple[Address, ...]]] = {}
        self._asking: dict[str, asyncio.Task[tuple[Address, ...]]] = {}

    async def find(self, host: str) -> tuple[Address, ...]:
        """Return every address of a name.

        Raises:
            RemoteFailed: kind "dns"; retryable when asking again may help.
        """
        known = self._answers.get(host)
        if known and known[0] > asyncio.get_running_loop().time():
            return known[1]
        task = self._asking.get(host)
        if task is None:
            if len(self._asking) >= _MAX_WAITING:
                raise RemoteFailed(
                    f"Too many names are being resolved to ask for {host}", kind="dns", retryable=True
                )
            task = self._asking[host] = asyncio.create_task(self._ask(host))
            task.add_done_callback(lambda done: self._finish(host, done))
        # One caller that gives up must not end the look-up the others wait for.
        return await asyncio.shield(task)

    async def _ask(self, host: str) -> tuple[Address, ...]:
        try:
            answer = await self._resolver.resolve(host)
            addresses = tuple(ip_address(text) for text in answer)
        except (OSError, ValueError) as error:
            retryable = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            reason = "the name server did not answer" if retryable else "no such name"
            raise RemoteFailed(
                f"{host} cannot be resolved: {reason}", kind="dns", retryable=retryable
            ) from None
        if not addresses:
            raise RemoteFailed(f"{host} cannot be resolved: no such name", kind="dns")
        self._remember(host, addresses)
        return addresses

    def _remember(self, host: str, addresses: tuple[Address, ...]) -> None:
        self._answers.pop(host, None)
        if len(self._answers) >= _MAX_REMEMBERED:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = (asyncio.get_running_loop().time() + self._remembered_seconds, addresses)

    def _finish(self, host: str, task: asyncio.Task[tuple[Address, ...]]) -> None:
        self._asking.pop(host, None)
        if not task.cancelled():
            task.exception()  # seen, even if everybody who waited has gone

    async def close(self) -> None:
        """End every look-up."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if isinstance(self._resolver, SystemResolver):
            self._resolver.close()
