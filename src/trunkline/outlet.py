"""Where log lines leave the process: a stream that never makes it wait. What the lines say is `log.py`'s.

Whoever starts the hub with a pipe and never reads it would otherwise stop it with the pipe's last free byte.
"""

import contextlib
import os
import select
import stat
from threading import Lock
from typing import TextIO

_PIECE = select.PIPE_BUF  # what a pipe that says it is writable takes without waiting
_MAX_HELD = 1024 * 1024


class Outlet:
    """Write text to a file descriptor when it takes some, hold at most 1 MiB meanwhile, and drop the rest."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._always_takes = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._held = bytearray()
        self._dropped = 0
        self._lock = Lock()

    def write(self, text: str) -> None:
        """Send text now if the reader keeps up; else hold or drop it."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            if len(self._held) + len(data) > _MAX_HELD:
                self._dropped += data.count(b"\n")
            else:
                self._held += data
            self._send()

    def flush(self) -> None:
        """Do nothing: `write` has sent what could be sent."""

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: the lines go nowhere, the hub goes on
            while self._held and self._takes():
                size = len(self._held) if self._always_takes else _PIECE
                del self._held[: os.write(self._descriptor, self._held[:size])]
            if not self._held and self._dropped:
                told = b'{"event":"log lines dropped","level":"warning","count":%d}\n' % self._dropped
                self._held += told
                self._dropped = 0

    def _takes(self) -> bool:
        return self._always_takes or any(event & select.POLLOUT for _, event in self._poll.poll(0))


def outlet_of(stream: TextIO) -> "TextIO | Outlet":
    """Return an outlet for a stream with a file descriptor; any other, such as a test's, as it is."""
    try:
        return Outlet(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return stream
