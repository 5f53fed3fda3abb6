"""What every process of ours does: say its port on stdout, end when its parent closes stdin."""

import asyncio
import json
import socket
import sys

import uvicorn
from starlette.types import ASGIApp


def announce(port: int) -> None:
    """Tell the parent where we answer."""
    print(json.dumps({"port": port}), flush=True)


async def stop_with_parent() -> None:
    """Return when stdin ends, as it does when the parent is gone, however it went."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)


async def serve(app: ASGIApp, port: int = 0) -> None:
    """Serve with the hub's own server and options, until stdin ends."""
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)
    announce(listener.getsockname()[1])
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await stop_with_parent()
    server.should_exit = True
    await serving
