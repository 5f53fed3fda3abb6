"""Following a stream of the hub: a connection that breaks is made again, and goes on where it ended."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from trunkline.client.pages import Hub
from trunkline.client.server_sent import Message, Reader
from trunkline.client.wire import Plain, query_text
from trunkline.errors import TooMany, Unavailable

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
Tell = Callable[[str], None]


async def follow_stream(
    hub: Hub, route: str, query: Mapping[str, Plain], place: str, tell: Tell
) -> AsyncGenerator[Message, None]:
    """Yield what a stream brings after a place, without end; whoever has read enough closes it.

    Raises:
        TrunklineError: the hub refuses. That it cannot be reached is told, and tried again.
    """
    wait = 0.0
    while True:
        reader = Reader(place)
        try:
            async with aclosing(_messages(hub, route, query, reader)) as messages:
                async for message in messages:
                    wait = 0.0
                    yield message
            reason = "The stream ended."
        except (Unavailable, TooMany) as error:
            reason = error.message
        place = reader.last_id
        wait = min(max(wait * 2, _FIRST_WAIT), _LONGEST_WAIT)
        tell(f"{reason.removesuffix('.')}. Connecting again in {wait:g} s.")
        await asyncio.sleep(wait)


async def _messages(
    hub: Hub, route: str, query: Mapping[str, Plain], reader: Reader
) -> AsyncGenerator[Message, None]:
    """Yield what one connection brings; the reader knows where to go on."""
    headers = {"Last-Event-ID": reader.last_id}
    async with hub.stream(route, query=query_text(query), headers=headers) as chunks:
        async for chunk in chunks:
            for message in reader.feed(chunk):
                yield message
