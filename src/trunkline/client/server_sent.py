"""Server-sent events out of bytes, as they come. Pure."""

from dataclasses import dataclass, field

from trunkline.errors import Unavailable

MAX_BYTES = 64 * 1024 * 1024
"""Largest event: more than a hub takes in."""


@dataclass(slots=True)
class Message:
    """One event of a stream; `id` is None where the event has none of its own."""

    id: str | None = None
    type: str = "message"
    lines: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        return "\n".join(self.lines)


class Reader:
    """Takes bytes in whatever pieces they come, and gives back whole events.

    `last_id` is where to go on when the connection breaks: ids count that came without an event, too.
    """

    def __init__(self, last_id: str) -> None:
        self.last_id = last_id
        self._pieces: list[bytes] = []
        self._size = 0
        self._message = Message()

    def feed(self, chunk: bytes) -> list[Message]:
        """Return the events that are complete now.

        Raises:
            Unavailable: one is larger than any hub sends.
        """
        found: list[Message] = []
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            whole = b"".join([*self._pieces, line])
            self._pieces = []
            message = self._take(whole.removesuffix(b"\r").decode("utf-8", "replace"))
            if message is not None:
                found.append(message)
        if rest:
            self._pieces.append(rest)
        self._size = len(rest) if lines else self._size + len(rest)
        if self._size > MAX_BYTES:
            raise Unavailable("The stream does not make sense; is the address right?")
        return found

    def _take(self, line: str) -> Message | None:
        if not line:
            done, self._message = self._message, Message()
            self.last_id = done.id or self.last_id
            return done if done.lines else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._message.lines.append(value)
        elif name == "event":
            self._message.type = value
        elif name == "id":
            self._message.id = value
        return None
