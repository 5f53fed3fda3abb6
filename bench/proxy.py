"""The bare proxy: the hub's own server and client libraries, and nothing but parsing and re-emitting JSON."""

import asyncio
import sys

import aiohttp
import orjson
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.serving import serve


def build(upstream: str, token: str, session: aiohttp.ClientSession) -> Starlette:
    """Make the application."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def call(request: Request) -> Response:
        value = orjson.loads(await request.body())
        url = f"{upstream}/v2/teams/{value['params']['team_id']}/incidents"
        async with session.post(url, data=orjson.dumps(value["params"]), headers=headers) as answer:
            found = orjson.loads(await answer.read())
            return Response(orjson.dumps(found), answer.status, media_type="application/json")

    async def alive(_request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    return Starlette(routes=[Route("/call", call, methods=["POST"]), Route("/healthz", alive)])


async def main(upstream: str, token: str, port: int) -> None:
    """Serve until stdin ends."""
    async with aiohttp.ClientSession() as session:
        await serve(build(upstream, token, session), port)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
