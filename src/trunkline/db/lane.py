"""Threads that serve database calls in batches, for callers on any event loop.

Owns queueing, batching, handing results back and the orderly end. Knows nothing about SQL:
what a batch means (one shared commit, one snapshot) is the session's business.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from trunkline.db.faults import translate
from trunkline.errors import Broken, Unavailable

T = TypeVar("T")


class Call:
    """One function waiting for its connection, and whoever awaits the outcome."""

    __slots__ = ("error", "fn", "future", "loop", "result")

    def __init__(self, fn: Callable[[sa.Connection], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.fn = fn
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, connection: sa.Connection) -> bool:
        """Run the function, keep what it returned or raised, and tell whether it succeeded."""
        self.error = None
        try:
            self.result = _detached(self.fn(connection))
        except BaseException as error:  # noqa: BLE001 - whoever awaits the call gets it
            self.error = error
        return self.error is None

    def settle(self) -> None:
        """Wake the awaiting task, on its own loop; one that was cancelled is left alone."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(translate(self.error))
            self.error = None  # breaks the cycle future > error > frames > call


class Session(Protocol):
    """A connection used by one thread."""

    def run(self, calls: list[Call]) -> None:
        """Give every call its outcome; whatever they wrote is durable on return."""

    def close(self) -> None: ...


class Lane:
    """A queue of calls served by one thread per session, at most `limit` calls a batch."""

    def __init__(self, name: str, sessions: Sequence[Session], limit: int) -> None:
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._arriving: dict[asyncio.AbstractEventLoop, list[Call]] = {}
        self._sessions = sessions
        self._limit = limit
        self._gate = Lock()  # nothing may enter the queue behind the end marks
        self._closed = False
        self._threads = [
            Thread(target=self._serve, args=(session,), name=f"{name}-{number}", daemon=True)
            for number, session in enumerate(sessions)
        ]
        for thread in self._threads:
            thread.start()

    async def submit(self, fn: Callable[[sa.Connection], T]) -> T:
        """Run `fn` in a batch and return its result.

        A caller cancelled while waiting gets no answer; its `fn` may or may not have run.

        Raises:
            Unavailable: the lane is closed.
        """
        loop = asyncio.get_running_loop()
        call = Call(fn, loop)
        with self._gate:
            if self._closed:
                raise Unavailable("The database is closed.")
            if loop not in self._arriving:
                self._arriving[loop] = []
                loop.call_soon(self._hand_over, loop)
            self._arriving[loop].append(call)
        result: T = await call.future
        return result

    def close(self) -> None:
        """Finish every accepted call, then stop the threads; blocks until they have."""
        with self._gate:
            first = not self._closed
            if first:
                self._closed = True
                for loop in tuple(self._arriving):
                    self._enqueue(loop)
                for _ in self._threads:
                    self._queue.put(None)
        for thread in self._threads:
            thread.join()
        if first:  # and only now: sessions may share a pool
            for session in self._sessions:
                session.close()

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Enqueue what one turn of a loop brought, at its end: a thread woken earlier would only get in its way."""
        with self._gate:
            self._enqueue(loop)

    def _enqueue(self, loop: asyncio.AbstractEventLoop) -> None:
        for call in self._arriving.pop(loop, ()):
            self._queue.put(call)

    def _serve(self, session: Session) -> None:
        going = True
        while going:
            calls, going = self._take()
            if calls:
                try:
                    session.run(calls)
                except BaseException as error:  # noqa: BLE001 - whoever awaits these calls gets it
                    for call in calls:
                        call.error = error
                _deliver(calls)
            del calls  # results must not live until the next call

    def _take(self) -> tuple[list[Call], bool]:
        calls: list[Call] = []
        item = self._queue.get()
        while item is not None:
            if not item.future.cancelled():
                calls.append(item)
            if len(calls) == self._limit:
                return calls, True
            try:
                item = self._queue.get_nowait()
            except Empty:
                return calls, True
        return calls, False


def _detached(result: Any) -> Any:
    if isinstance(result, sa.CursorResult) and result.returns_rows:
        raise Broken("A live result cannot leave its transaction: fetch the rows inside.")
    return result


def _deliver(calls: list[Call]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Call]] = defaultdict(list)
    for call in calls:
        by_loop[call.loop].append(call)
    for loop, waiting in by_loop.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, waiting)


def _settle(calls: list[Call]) -> None:
    for call in calls:
        call.settle()
