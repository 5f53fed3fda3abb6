"""What services call by themselves: `POST /hooks/{token}` and its GET handshake. The token and the signature are the key."""

from starlette.types import Receive, Scope, Send

from trunkline.errors import Unauthenticated
from trunkline.http.native.errors import to_answer
from trunkline.http.wire import send_answer

PREFIX = "/hooks/"


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request under `/hooks/`."""
    del receive
    scope["route_path"] = "/hooks/{token}"
    await send_answer(send, to_answer(Unauthenticated(), scope["request_id"]), scope["request_id"])
